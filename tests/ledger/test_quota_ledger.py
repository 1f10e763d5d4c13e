"""Ledgers of charging quotas: verified by replay against rounds of the slow oracle, forgeries found and located."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
from blake3 import blake3

from benchmarks import fuzz_quota_ledger
from gridmarl.consensus import candidates_of
from gridmarl.ledger import LaneChains, LedgerReader, QuotaRules, Verdict, prove, verify, verify_bytes, write_ledger
from gridmarl.ledger.chain_proof import check_proof, prove_in_chain
from gridmarl.ledger.export import TransactionRow, export_ledger
from gridmarl.ledger.records import decode_record
from gridmarl.ledger.stats import ledger_stats
from gridmarl.ledger.store import LedgerStore
from tests.ledger.builders import (
    FOUR_QUOTA,
    SEALINGS,
    SMALL_QUOTA,
    complete,
    file_bytes,
    honest_blocks,
    honest_file,
    honest_trailer,
    keys_of,
    read_blocks,
    records_of,
    rehashed,
    resealed,
    save,
    with_record,
)
from tests.oracles.quota_play import QuotaPlay, quota_records

PLAY = QuotaPlay(N=4, T=12)
FILE_BLOCK = 256 + 64 * 13 + 64 * 20
GOLDEN = (3374, "c949f1e7976bff7709cfabfb95d7bbda50457649de131e1031b7f39f45f57f5a")
AUCTIONS = ("pairwise", "uniform", "marginal_pair")
VARIANTS = {
    "overuse": {},
    "within": {"overuse": False},
    "budget": {"budget": 90},
    "one station": {"N": 1},
    "seven": {"N": 7, "T": 11},
}


@pytest.mark.parametrize("auction", AUCTIONS)
@pytest.mark.parametrize("name", VARIANTS)
def test_rounds_of_the_oracle_verify(auction, name):
    """Two episodes in one chain: residual 0, and energies that add up to the oracle's."""
    play = replace(PLAY, **VARIANTS[name]).variant(auction=auction)
    for seed in (1, 2):
        verdict = verify_bytes(honest_file(play, seed, episodes=2))
        assert verdict.ok, str(verdict)
        assert (verdict.blocks, verdict.transactions, verdict.residual_utok) == (2 * play.T, 10 * play.T * play.N, 0)
        records = quota_records(play, [seed], episodes=2)
        assert verdict.energy_totals == {
            "declared_wh": sum(int(each.declared_wh.sum()) for each in records),
            "granted_wh": sum(int(each.first_quota_wh.sum()) for each in records),
            "traded_wh": sum(int(each.flow_wh[0].sum()) for each in records),
            "used_wh": sum(int(each.used_wh.sum()) for each in records),
            "overused_wh": sum(int(each.flow_wh[3].sum()) for each in records),
            "unused_wh": sum(int(each.flow_wh[4].sum()) for each in records),
            "overload_wh": sum(
                max(0, int(each.used_wh.sum()) - max(0, int(each.actual_margin_wh))) for each in records
            ),
        }


def test_the_plays_have_everything():
    totals = Counter()
    for auction in AUCTIONS:
        for seed in (1, 2):
            totals.update(verify_bytes(honest_file(PLAY.variant(auction=auction), seed, episodes=2)).energy_totals)
    assert min(totals.values()) > 0


def test_the_bytes_of_a_file_do_not_change():
    """Files written today must verify tomorrow: a change of this hash is a new version of the format."""
    data = honest_file(SMALL_QUOTA, gridmarl_version="0", scenario="golden")
    assert (len(data), blake3(data).hexdigest()) == GOLDEN


def test_lanes_are_sealed_as_each_by_itself():
    rules = QuotaRules(**PLAY.rules())
    batch = LaneChains(rules, [5, 1, 8], keep=[1, 8])
    for record in quota_records(PLAY, [50, 10, 80], episodes=2):
        batch.append(record)
    for lane in (1, 8):
        alone = LaneChains(rules, [lane], keep=[lane])
        for record in quota_records(PLAY, [10 * lane], episodes=2):
            alone.append(record)
        assert alone.blocks[lane] == batch.blocks[lane]
    assert (batch.height, batch.transactions_per_lane) == (24, 24 * 20)


CHANGES = [
    ("margin_wh", 0, "inputs"), ("actual_margin_wh", 0, None), ("tariff", 0, "inputs"), ("granted_wh", 0, "inputs"),
    ("scarce", 0, "inputs"), ("volume_wh", 0, "inputs"), ("price", 0, "inputs"), ("declared_wh", 1, "inputs"),
    ("deposit_utok", 1, "inputs"), ("quota_wh", 1, "inputs"), ("station", 2, "inputs"), ("lane", 3, "inputs"),
    ("period", 4, "inputs"), ("reserved_4", 1, "inputs"), ("reserved_7", 6, "inputs"), ("flags", 6, "inputs"),
    ("used_wh", 9, "transactions"), ("quota_wh", 9, "inputs"), ("reserved_3", 9, "inputs"),
    *((name, record, "transactions") for record in (0, 5, 9, 13, 18) for name in (
        "energy_wh", "price_utok_per_wh", "amount_utok", "payer", "payee", "lane", "sequence", "period", "flags",
        "reserved",
    )),
]  # fmt: skip


@pytest.mark.parametrize("auction", ["pairwise", "uniform"])
def test_a_forged_field_is_found_and_named_though_every_hash_is_right(auction):
    """Every field of every kind of record in turn; only the margin as it came is nobody's but the DSO's to know."""
    play = PLAY.variant(auction=auction)
    rules, sealed = honest_blocks(play, 3)
    blocks = [each.block for each in sealed]
    height = next(at for at, each in enumerate(quota_records(play, [3])) if each.flow_wh[0].any())
    for name, record, section in CHANGES:
        part = "transactions" if section == "transactions" and name != "used_wh" else "inputs"
        values = decode_record(records_of(getattr(blocks[height], part))[record])
        value = 1 - values[name] if name == "scarce" else values[name] + 1
        forged = list(blocks)
        forged[height] = with_record(blocks[height], part, record, **{name: value})
        verdict = verify_bytes(rehashed(rules, forged))
        if section is None:
            assert verdict.ok
            assert verdict.head != verify_bytes(honest_file(play, 3)).head
            continue
        assert not verdict.ok
        error = verdict.error
        assert (error.block, error.section) == (height, section), (name, str(error))
        assert error.field is not None
        if section == "inputs" and name != "margin_wh":  # of the margin, the first quota that it makes is named
            assert (error.record, error.field) == (record, "deposit_utok" if name == "declared_wh" else name)
        if part == "transactions":
            assert (error.record, error.field) == (record, name)
            assert (error.expected, error.seen) == (str(values[name]), str(value))


ORDERS = [
    ({"buy_wh": 5, "sell_wh": 1}, "buy_wh"), ({"buy_wh": -1, "sell_wh": 0}, "buy_wh"), ({"price": 61}, "price"),
    ({"price": -1}, "price"), ({"buy_wh": 0, "sell_wh": 1_000}, "sell_wh"), ({"buy_wh": 0, "sell_wh": -1}, "sell_wh"),
    ({"buy_wh": 10**8 + 1, "sell_wh": 0}, "buy_wh"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "field"), ORDERS)
def test_orders_that_cannot_be_are_named(values, field):
    rules, sealed = honest_blocks(PLAY, 3)
    blocks, records = [each.block for each in sealed], quota_records(PLAY, [3])
    height = next(at for at, each in enumerate(records) if each.scarce.all() and each.first_quota_wh[2] > 0)
    blocks[height] = with_record(blocks[height], "inputs", 1 + PLAY.N + 2, **values)
    error = verify_bytes(rehashed(rules, blocks)).error
    assert (error.block, error.section, error.field) == (height, "inputs", field)
    assert error.record_name == "QUOTA_ORDER of station 2"


BOUNDS = [
    *((0, {name: sign * (3 * 10**9 + 1)}, name) for name in ("margin_wh", "actual_margin_wh") for sign in (-1, 1)),
    (1, {"declared_wh": 10**8 + 1, "deposit_utok": 7 * (10**8 + 1)}, "declared_wh"),
    (1, {"declared_wh": -1, "deposit_utok": -7}, "declared_wh"),
    (1 + 2 * PLAY.N, {"used_wh": 10**8 + 1}, "used_wh"),
    (1 + 2 * PLAY.N, {"used_wh": -1}, "used_wh"),
]


@pytest.mark.parametrize(("record", "values", "field"), BOUNDS)
def test_numbers_out_of_the_contracts_bounds_are_named(record, values, field):
    rules, sealed = honest_blocks(PLAY, 4)
    for height, each in enumerate(sealed[:3]):
        blocks = [one.block for one in sealed]
        blocks[height] = with_record(each.block, "inputs", record, **values)
        error = verify_bytes(rehashed(rules, blocks)).error
        assert (error.block, error.record, error.field, error.reason) == (height, record, field, "out of bounds")


def test_declarations_beyond_the_bound_of_all_together_are_named():
    rules, sealed = honest_blocks(QuotaPlay(N=31, T=1), 4)
    block = sealed[0].block
    for i in range(31):
        block = with_record(block, "inputs", 1 + i, declared_wh=10**8, deposit_utok=7 * 10**8)
    error = verify_bytes(rehashed(rules, [block])).error
    assert (error.section, error.record, error.field, error.seen) == ("inputs", 31, "declared_wh", str(31 * 10**8))


def test_an_order_where_nothing_is_scarce_and_use_beyond_the_quota_are_named():
    play = replace(PLAY, overuse=False)
    rules, sealed = honest_blocks(play, 3)
    records = quota_records(play, [3])
    plenty = next(at for at, each in enumerate(records) if not each.scarce.any())
    for record, change, field in ((1 + PLAY.N, {"buy_wh": 3}, "buy_wh"), (1 + 2 * PLAY.N, {"used_wh": 99}, "used_wh")):
        blocks = [each.block for each in sealed]
        blocks[plenty] = with_record(blocks[plenty], "inputs", record, **change)
        error = verify_bytes(rehashed(rules, blocks)).error
        assert (error.block, error.record, error.field) == (plenty, record, field)


def test_other_rules_make_another_history():
    """The blocks of one set of rules do not verify under others that matter in them."""
    base = QuotaRules(**PLAY.rules())
    _, sealed = honest_blocks(PLAY, 4)
    changes = {
        "auction": "uniform", "deposit_rate_utok_per_wh": 8, "penalty_rate_utok_per_wh": 501, "forfeit_permille": 131,
        "cap_utok_per_wh": 59, "floor_utok_per_wh": 1, "overuse": False, "deposit_budget_utok": 1,
        "tariff_utok_per_wh": (1,) * 12, "horizon_half_hours": 5,
    }  # fmt: skip
    for name, value in changes.items():
        told = {name: value} | ({"tariff_utok_per_wh": (0,) * 5} if name == "horizon_half_hours" else {})
        verdict = verify_bytes(rehashed(replace(base, **told), [each.block for each in sealed], heights=False))
        assert not verdict.ok, name


@pytest.mark.parametrize("name", SEALINGS)
def test_every_consensus_seals_and_signs(name):
    rules, sealed = honest_blocks(FOUR_QUOTA, 2, 2, signed=True, **SEALINGS[name])
    blocks = [each.block for each in sealed]
    data = complete(rules, blocks)
    verdict = verify_bytes(data)
    assert (verdict.ok, verdict.blocks, verdict.sealers) == (True, 6, rules.validators)
    assert {each.parsed_header().sealer for each in blocks} <= set(rules.sealer_accounts)
    if rules.validators == 1:
        assert rules.sealer_accounts == (4,)  # the DSO
    forged = with_record(blocks[2], "inputs", 0, actual_margin_wh=5)
    again = resealed(rules, [*blocks[:2], forged, *blocks[3:]])
    assert verify_bytes(complete(rules, again)).ok  # who holds the keys can write another history
    loose = [block._replace(signatures=sealed[at].block.signatures) for at, block in enumerate(again)]
    assert not verify_bytes(complete(rules, loose)).ok
    assert len(keys_of(rules).participants) == 5


def test_stake_is_what_selling_quota_has_earned():
    rules, sealed = honest_blocks(FOUR_QUOTA, 2, 4, consensus="proof_of_stake", validators=4)
    blocks, stakes = [each.block for each in sealed], [0] * 4
    candidates = candidates_of(blocks, 4, 4, rules.stake_kind)
    for record, candidate in zip(quota_records(FOUR_QUOTA, [2], 4), candidates, strict=True):
        assert list(candidate.stakes_utok) == stakes
        stakes = [stake + int(income) for stake, income in zip(stakes, record.flow_utok[1, :, 0], strict=True)]
    assert sum(stakes) > 0


def test_rows_and_totals_of_a_ledger(tmp_path):
    path = save(tmp_path / "ledger.bin", honest_file(PLAY, 1, episodes=2, lane=7))
    verdict = export_ledger(path, tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [TransactionRow(**json.loads(line)) for line in lines]
    _, blocks = read_blocks(path.read_bytes())
    assert b"".join(row.to_record() for row in rows) == b"".join(block.transactions for block in blocks)
    assert len(rows) == verdict.transactions == 480
    assert {row.payer: row.payer_role for row in rows} == dict.fromkeys(range(4), "station") | {4: "dso"}
    stats = ledger_stats(path)
    assert [kind.name for kind in stats.kinds] == sorted({row.kind for row in rows}, key=[r.kind for r in rows].index)
    for kind, each in stats.kinds.items():
        of_kind = [row for row in rows if row.kind == kind.name]
        assert each.amount_utok == sum(row.amount_utok for row in of_kind)
        assert each.energy_wh == sum(row.energy_wh for row in of_kind)
    assert stats.kinds[next(iter(stats.kinds))].amount_utok > 0
    assert set(stats.prices) == {"tariff", "price"}
    records = quota_records(PLAY, [1], 2)
    assert stats.balances_utok == records[-1].balances[:, 0].tolist()
    assert stats.roles == ["station"] * 4 + ["dso"]
    assert stats.block_bytes == 256 + 64 * 13 + 64 * 20


def test_store_proofs_and_file_agree(tmp_path):
    rules, sealed = honest_blocks(PLAY, 1)
    write_ledger(tmp_path / "ledger.bin", rules, sealed)
    with LedgerStore(tmp_path / "ledger.sqlite", rules) as store:
        for each in sealed:
            store.append(each)
    stored, filed = verify(tmp_path / "ledger.sqlite"), verify(tmp_path / "ledger.bin")
    assert stored.ok
    assert replace(stored, may_grow=False) == filed
    export_ledger(tmp_path / "ledger.sqlite", tmp_path / "out.bin")
    assert (tmp_path / "out.bin").read_bytes() == (tmp_path / "ledger.bin").read_bytes()
    with LedgerReader.open(tmp_path / "ledger.bin") as reader:
        block = reader.block(2)
    shown = prove(tmp_path / "ledger.bin", 2, 17)
    assert shown.verify(block.parsed_header().hash()) == block.transactions[17 * 64 : 18 * 64]
    proven = check_proof(prove_in_chain(tmp_path / "ledger.bin", 2, 17).to_json().encode(), sealed[-1].hash)
    assert proven.record == block.transactions[17 * 64 : 18 * 64]


def test_a_file_cut_short_verifies_up_to_its_last_whole_block():
    data = honest_file(SMALL_QUOTA)
    block = 256 + 64 * 7 + 64 * 10
    verdict = verify_bytes(data[: -112 - block // 2])
    assert (verdict.ok, verdict.blocks, verdict.error.block) == (False, 1, 1)


def test_any_words_verify_where_the_oracle_finds_them_lawful_and_nowhere_else(capsys, monkeypatch):
    """A seeded share of what benchmarks/fuzz_quota_ledger.py does; and that a false ok would be seen."""
    options = fuzz_quota_ledger.Options(files=600, seed=1)
    assert fuzz_quota_ledger.main(options) == 0
    told = capsys.readouterr().out
    assert "600 files" in told
    for verdict in ("accepted", "inputs", "transactions"):
        assert f"{verdict}: " in told
    monkeypatch.setattr(fuzz_quota_ledger, "verify_bytes", lambda data: Verdict(ok=True))
    assert fuzz_quota_ledger.main(replace(options, files=40)) == 1
    assert "false ok" in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{"num_stations": 100_000}, {"num_stations": 2, "lane": 5}])
def test_a_genesis_that_claims_more_makes_no_work(changes):
    rules = QuotaRules(**PLAY.rules(**{"initial_balances": (0,) * (changes["num_stations"] + 1)} | changes))
    _, sealed = honest_blocks(PLAY, 4)
    verdict = verify_bytes(file_bytes(rules, [each.block for each in sealed], honest_trailer(sealed)))
    assert not verdict.ok
    assert verdict.error.block == 0 or verdict.error.section == "trailer"


def test_any_bytes_end_in_a_located_verdict():
    """Bits flipped, bytes put in, taken out, cut off, put behind; blocks and records swapped or doubled."""
    rng, data = random.Random(11), honest_file(PLAY, 4)
    start = len(data) - 112 - 12 * FILE_BLOCK
    for _ in range(400):
        at, count, some = rng.randrange(len(data)), rng.randint(1, 80), rng.randbytes(rng.randint(1, 80))
        size = rng.choice((64, FILE_BLOCK))
        one, other = (start + size * rng.randrange(12 * FILE_BLOCK // size) for _ in range(2))
        changed = rng.choice(
            (
                data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
                data[:at] + some + data[at:],
                data[:at] + data[at + count :],
                data[:at],
                data + some,
                data[:one] + data[other : other + size] + data[one + size :],
            )
        )
        verdict = verify_bytes(changed)
        assert verdict.ok == (changed == data)
        if not verdict.ok:
            pairs = enumerate(zip(data, changed, strict=False))
            first = next((offset for offset, (old, new) in pairs if old != new), min(len(data), len(changed)))
            assert verdict.blocks <= max(0, first - start) // FILE_BLOCK  # no changed block counts as verified
