"""Mutated and forged ledgers: a located verdict each time; a seeded share of what benchmarks/fuzz_ledger.py does."""

from __future__ import annotations

import contextlib
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz_ledger
from benchmarks.fuzz_ledger import FAILED, Options, attack, futures, fuzz, lawful, main
from benchmarks.ledger_mutations import FORGERIES, RAW, Honest, bases, fields_of, records_of, resealed, with_field
from gridmarl.errors import LedgerError
from gridmarl.ledger import LedgerWriter, Rules, Verdict, chain_rules, verify, verify_bytes
from gridmarl.ledger.file import FILE_VERSION, MAGIC, PREFIX
from gridmarl.ledger.genesis import MAX_GENESIS_BYTES
from gridmarl.ledger.records import decode_record
from tests.ledger.builders import SMALL, honest_blocks, rehashed, with_record
from tests.oracles.ledger_play import Play, rules_of

BASES = bases()
SECONDS = 5.0


def test_every_kind_of_mutation_ends_in_a_located_verdict():
    tally = fuzz(Options(files=2000, seed=1))
    assert tally.files == 2000
    assert not tally.failures
    for mutate in (*RAW, *FORGERIES):
        verdicts = {verdict for kind, verdict in tally.outcomes if kind == mutate.__name__}
        assert verdicts - {"same bytes"}, mutate.__name__
    sections = {verdict for _, verdict in tally.outcomes}
    assert {"file", "genesis", "header", "signatures", "inputs", "transactions", "trailer"} <= sections
    assert any(verdict.startswith("accepted") for verdict in sections)
    accepted = {(kind, verdict) for kind, verdict in tally.outcomes if verdict.startswith("accepted")}
    assert all(kind.startswith("forged") or verdict == "accepted: votes left out" for kind, verdict in accepted)


edits = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(0, 300), st.one_of(st.binary(max_size=300), st.integers(0, 20_000))),
    min_size=1,
    max_size=6,
)


@settings(max_examples=300)
@given(which=st.integers(0, len(BASES) - 1), edits=edits)
def test_any_edits_of_the_bytes(which, edits):
    """Each edit replaces so many bytes from an offset by others, or by the bytes from another offset."""
    base, donor = BASES[which]
    data = base.data
    for at, removed, new in edits:
        at %= len(data) + 1
        inserted = new if isinstance(new, bytes) else data[new % (len(data) + 1) :][:removed]
        data = data[:at] + inserted + data[at + removed :]
    outcome = attack(base, donor, data, forged=False, seconds=SECONDS)
    assert not outcome.verdict.startswith(FAILED), outcome


@settings(max_examples=300)
@given(data=st.data())
def test_any_values_in_records_whose_hashes_were_computed_again(data):
    base, donor = data.draw(st.sampled_from(BASES))
    height = data.draw(st.integers(0, len(base.blocks) - 1))
    block = base.blocks[height]
    for _ in range(data.draw(st.integers(1, 4))):
        section = data.draw(st.sampled_from(("inputs", "transactions")))
        records = records_of(getattr(block, section))
        index = data.draw(st.integers(0, len(records) - 1))
        layout = fields_of(records_of(getattr(base.blocks[height], section))[index])
        field = data.draw(st.sampled_from(layout))
        value = data.draw(st.integers(-100, 100) | st.integers(-(1 << 63), (1 << 63) - 1))
        records[index] = with_field(records[index], field, value)
        block = block._replace(**{section: b"".join(records)})
    blocks = [*base.blocks[:height], block, *base.blocks[height + 1 :]]
    changed = resealed(base, blocks, restate=data.draw(st.booleans()), renumber=True)
    outcome = attack(base, donor, changed, forged=True, seconds=SECONDS)
    assert not outcome.verdict.startswith(FAILED), outcome


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(changes=st.dictionaries(st.sampled_from(sorted(json.loads(Rules(**rules_of(SMALL)).to_bytes()))), values))
@example(changes={"scenario": "\ud800"})
@example(changes={"horizon_hours": (1 << 31) - 1, "shift_deadline_hours": (1 << 31) - 1})
@example(changes={"battery_efficiency_permille": True})
def test_any_values_in_the_genesis(changes):
    base, donor = BASES[0]
    content = json.loads(base.rules.to_bytes()) | changes
    for escape in (False, True):
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=escape)
        forged = resealed(base, base.blocks, restate=False, renumber=False, genesis=text.encode(errors="surrogatepass"))
        outcome = attack(base, donor, forged, forged=True, seconds=SECONDS)
        assert not outcome.verdict.startswith(FAILED), outcome


@pytest.mark.parametrize("depth", [5, 900, 950, 975, 990, 1000, 100_000])
@pytest.mark.parametrize("field", ["seed", "scenario", "price_rule", "initial_balances", "unknown"])
def test_deep_or_long_values_neither_crash_nor_fill_the_message(field, depth):
    base, _ = BASES[0]
    content = json.loads(base.rules.to_bytes())
    for value in ("[" * depth + "]" * depth, "9" * (depth % 4000), json.dumps("x" * depth)):
        content[field] = "HERE"
        text = json.dumps(content, sort_keys=True, separators=(",", ":")).replace('"HERE"', value)
        verdict = verify_bytes(resealed(base, base.blocks, restate=False, renumber=False, genesis=text.encode()))
        if verdict.error is not None:
            assert verdict.error.section in ("genesis", "inputs")
            assert len(str(verdict.error)) < 1500


def test_a_genesis_alone_makes_no_work():
    """Memory of a claim of many prosumers is in proportion to the file."""
    count = 100_000
    rules = Rules(num_prosumers=count, horizon_hours=2, initial_balances=(0,) * (count + 3))
    text = rules.to_bytes()
    data = PREFIX.pack(MAGIC, FILE_VERSION, len(text)) + text + rules.hash() + bytes(300)
    tracemalloc.start()
    verdict = verify_bytes(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (verdict.error.section, verdict.error.block) == ("inputs", 0)
    assert peak < 60 * len(data)  # tables for all transactions of a block would take 400 times as much


def test_a_long_genesis_is_not_read(tmp_path: Path, monkeypatch):
    path = tmp_path / "holes"
    with path.open("wb") as file:
        file.write(PREFIX.pack(MAGIC, FILE_VERSION, (1 << 32) - 1))
        os.truncate(path, 1 << 33)
    verdict = verify(path)
    assert (verdict.error.section, verdict.error.field, verdict.error.seen) == ("genesis", "length", str((1 << 32) - 1))
    assert verdict.error.expected == f"<= {MAX_GENESIS_BYTES}"
    monkeypatch.setattr("gridmarl.ledger.file.MAX_GENESIS_BYTES", 100)
    with pytest.raises(LedgerError, match="100 are allowed"):
        LedgerWriter(tmp_path / "x", Rules(**rules_of(SMALL)))
    assert not (tmp_path / "x").exists()
    monkeypatch.setattr(chain_rules, "MAX_GENESIS_BYTES", 100)
    with pytest.raises(LedgerError, match="100 are allowed"):
        Rules.from_bytes(Rules(**rules_of(SMALL)).to_bytes())


def test_the_judge_knows_a_history_that_cannot_have_been():
    """Honest files are lawful to the oracle, and no forgery is that the replay refuses."""
    for base, donor in BASES[::2]:  # one of each set of rules
        assert all(lawful(each.data, futures(base)[0]) for each in (base, donor))
        meter = 1 + base.rules.num_prosumers
        for name, record in (("demand_wh", meter), ("generation_wh", meter), ("sell_wh", 1), ("import_price", 0)):
            values = decode_record(records_of(base.blocks[0].inputs)[record])
            block = with_record(base.blocks[0], "inputs", record, **{name: values[name] + 1})
            forged = rehashed(base.rules, [block, *base.blocks[1:]])
            assert not verify_bytes(forged).ok
            assert not any(lawful(forged, each) for each in futures(base))
        for at in (-1, -40, -80, -112, 9, 12):  # what is not in a block
            changed = bytearray(base.data)
            changed[at] ^= 1
            with contextlib.suppress(LedgerError):
                assert not lawful(bytes(changed), futures(base)[0])


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda data: Verdict(ok=True), "FAILED: ok"),
        (lambda data: Verdict(), "FAILED: not located"),
        (lambda data: [][0], "FAILED: crash"),
        (lambda data: [None for _ in iter(int, 1)], "FAILED: hang"),
    ],
    ids=["ok", "not located", "crash", "hang"],
)
def test_a_broken_verification_is_a_failure(broken, told, monkeypatch):
    monkeypatch.setattr(fuzz_ledger, "verify_bytes", broken)
    base, donor = BASES[0]
    for forged in (False, True):
        outcome = attack(base, donor, base.data[:-1] + b"x", forged=forged, seconds=0.02)
        assert outcome.verdict == told


def test_the_command_counts_and_keeps_what_fails(monkeypatch, capsys, tmp_path):
    assert main(Options(files=46)) == 0
    out = capsys.readouterr().out
    assert "46 files in " in out
    assert "0 failures" in out
    honest = {each.data for pair in BASES for each in pair}
    monkeypatch.setattr(fuzz_ledger, "verify_bytes", lambda data: Verdict(ok=data in honest))
    assert main(Options(files=23, keep=tmp_path / "kept")) == 1
    assert len(list((tmp_path / "kept").iterdir())) > 15


def test_every_beginning_of_an_honest_history_verifies():
    """Whatever the prices to come, the energy returned so far is possible."""
    for seed in range(30):
        for deadline, limits in ((1, (0, 3)), (2, (-5, 5)), (3, (0, 2)), (5, (0, 40)), (9, (0, 9))):
            play = Play(P=2, H=6, deadline=deadline, price_range=limits)
            rules, sealed = honest_blocks(play, seed)
            for length in range(1, 6):
                verdict = verify_bytes(rehashed(rules, [each.block for each in sealed[:length]]))
                assert verdict.ok, (seed, deadline, length, str(verdict))


def test_energy_shifted_in_one_hour_returns_together():
    """Less of it in an hour known: verifies exactly if the oracle knows a future in which the rest returns later."""
    refused = accepted = 0
    for seed in range(40):
        rules, sealed = honest_blocks(Play(P=1 + seed % 2, H=6, deadline=3, price_range=(0, 40)), seed)
        whole = Honest(b"", rules, [each.block for each in sealed])
        blocks, meter = whole.blocks[:4], 1 + rules.num_prosumers
        values = decode_record(records_of(blocks[-1].inputs)[meter])
        for part in range(1, min(values["returned_wh"], 9) + 1):  # consumed instead: B and load stay the same
            moved = {"demand_wh": values["demand_wh"] + part, "returned_wh": values["returned_wh"] - part}
            forged = rehashed(rules, [*blocks[:-1], with_record(blocks[-1], "inputs", meter, **moved)])
            verdict = verify_bytes(forged)
            assert verdict.ok == any(lawful(forged, each) for each in futures(whole)), (seed, part)
            if verdict.error is not None:
                where = (verdict.error.block, verdict.error.section, verdict.error.field)
                assert where == (3, "inputs", "returned_wh")
            refused, accepted = refused + (not verdict.ok), accepted + verdict.ok
    assert refused > 20
    assert accepted
