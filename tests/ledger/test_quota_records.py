"""Records and rules of charging quotas: packing against a plain loop, canonical genesis, bad values."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.errors import ConfigError, LedgerError
from gridmarl.ledger import LaneChains, QuotaRules, Rules
from gridmarl.ledger.markets import read_rules
from gridmarl.ledger.quota_packing import pack_half_hour
from gridmarl.ledger.quota_records import quota_input_name, quota_transaction_name
from gridmarl.ledger.records import decode_record
from tests.ledger.builders import SMALL
from tests.oracles.ledger_play import play_records, rules_of
from tests.oracles.quota_play import QuotaPlay, quota_records

PLAY = QuotaPlay(N=3, T=8)
RULES = QuotaRules(**PLAY.rules(lane=3, seed=9, scenario="Zürich"))
LANES = [4, 0, 9]
KINDS = ("QUOTA_PAYMENT", "QUOTA_INCOME", "CHARGING_FEE", "OVERUSE_PENALTY", "FORFEITURE")


def rows(play: QuotaPlay, period: int) -> tuple[object, list[list[int]]]:
    record = quota_records(play, [1, 2, 3])[period]
    return record, pack_half_hour(record, LANES).tolist()


def decoded(words: list[int]) -> dict[str, int]:
    return decode_record(torch.tensor(words, dtype=torch.int64).numpy().astype("<i8").tobytes())


@pytest.mark.parametrize("stations", [1, 2, 3])
@pytest.mark.parametrize("auction", ["pairwise", "uniform"])
def test_inputs_are_those_of_a_plain_loop(stations, auction):
    play = replace(PLAY, N=stations).variant(auction=auction)
    for period in range(play.T):
        record, packed = rows(play, period)
        for position, lane in enumerate(LANES):
            paid, volume = sum(record.flow_utok[0, :, position]), sum(record.flow_wh[0, :, position])
            expected = [
                {
                    "kind": 121, "margin_wh": record.margin_wh[position],
                    "actual_margin_wh": record.actual_margin_wh[position], "tariff": play.tariffs[period],
                    "granted_wh": sum(record.first_quota_wh[:, position]), "scarce": record.scarce[position],
                    "volume_wh": volume, "price": paid // volume if volume else 0,
                }
            ]  # fmt: skip
            columns = {
                122: {"declared_wh": "declared_wh", "deposit_utok": "deposit_utok", "quota_wh": "first_quota_wh"},
                123: {"price": "order_price", "buy_wh": "buy_wh", "sell_wh": "sell_wh"},
                124: {"used_wh": "used_wh", "quota_wh": "final_quota_wh"},
            }
            for kind, names in columns.items():
                for i in range(stations):
                    values = {name: getattr(record, source)[i, position] for name, source in names.items()}
                    expected.append({"kind": kind, "station": i, "lane": lane} | values)
            for index, values in enumerate(expected):
                seen = decoded(packed[position][8 * index :][:8])
                nothing = {name: 0 for name in seen if name.startswith("reserved") or name == "flags"}
                assert seen == nothing | {name: int(value) for name, value in values.items()} | {"period": period}


@pytest.mark.parametrize("stations", [1, 2, 3])
@pytest.mark.parametrize("auction", ["pairwise", "uniform"])
def test_transactions_are_those_of_a_plain_loop(stations, auction):
    play, priced, unpriced = replace(PLAY, N=stations).variant(auction=auction), 0, 0
    for period in range(play.T):
        record, packed = rows(play, period)
        for position, lane in enumerate(LANES):
            for index in range(5 * stations):
                kind, i = divmod(index, stations)
                energy, amount = int(record.flow_wh[kind, i, position]), int(record.flow_utok[kind, i, position])
                seen = decoded(packed[position][8 * (1 + 3 * stations + index) :][:8])
                payer, payee = (stations, i) if kind == 1 else (i, stations)
                price = seen.pop("price_utok_per_wh")
                assert seen == {
                    "kind": 21 + kind, "flags": 0, "period": period, "payer": payer, "payee": payee,
                    "energy_wh": energy, "amount_utok": amount, "lane": lane, "sequence": index, "reserved": 0,
                }  # fmt: skip
                whole = energy > 0 and amount % energy == 0
                assert price == (amount // energy if whole else 0)
                priced += price != 0
                unpriced += price == 0 and amount > 0
            assert packed[position][8 * (1 + 8 * stations) :] == record.balances[:, position].tolist()
    assert priced > 0
    if stations == 3:
        assert unpriced > 0  # forfeitures are a share of the rate, rounded down


def test_names_of_records():
    assert [quota_input_name(i, 2) for i in range(7)] == [
        "QUOTA_SIGNAL", "DECLARATION of station 0", "DECLARATION of station 1", "QUOTA_ORDER of station 0",
        "QUOTA_ORDER of station 1", "QUOTA_METER of station 0", "QUOTA_METER of station 1",
    ]  # fmt: skip
    names = [quota_transaction_name(i, 2) for i in range(10)]
    assert names == [f"{kind} of station {i}" for kind in KINDS for i in (0, 1)]


def test_packing_stays_on_a_cuda_device():
    record = quota_records(PLAY, [1, 2, 3])[0]
    with FakeTensorMode(allow_non_fake_inputs=False):
        fake = type(record)(0, *(torch.empty(t.shape, dtype=t.dtype, device="cuda") for t in record[1:]))
        row = pack_half_hour(fake, LANES)
        assert row.device.type == "cuda"
        assert row.shape == (3, 8 * (1 + 8 * PLAY.N) + PLAY.N + 1)


def test_canonical_round_trip_and_the_markets_are_told_apart():
    data = RULES.to_bytes()
    content = json.loads(data)
    assert (content["market"], content["version"], content["overuse"]) == ("ev-quota", 2, True)
    assert QuotaRules.from_bytes(data) == read_rules(data) == RULES
    other = Rules(**rules_of(SMALL))
    assert read_rules(other.to_bytes()) == other
    with pytest.raises(LedgerError, match="genesis: unknown keys"):
        Rules.from_bytes(data)
    for market in (b'"ev-quotas"', b'"two-stage-dr"', b'["ev-quota"]', b"null", b"7"):
        with pytest.raises(LedgerError, match="genesis: "):
            read_rules(data.replace(b'"ev-quota"', market))


@pytest.mark.parametrize(
    "change",
    [
        {"num_stations": 0}, {"num_stations": True}, {"horizon_half_hours": 49}, {"auction": "other"},
        {"tariff_utok_per_wh": (1, 2)}, {"tariff_utok_per_wh": (1,) * 7 + (-1,)}, {"tariff_utok_per_wh": [1] * 8},
        {"deposit_rate_utok_per_wh": 10_000_001}, {"penalty_rate_utok_per_wh": -1}, {"forfeit_permille": 1001},
        {"floor_utok_per_wh": 61}, {"cap_utok_per_wh": 1.5}, {"overuse": 1}, {"deposit_budget_utok": -1},
        {"initial_balances": (0,) * 6}, {"validators": 4}, {"sealers": ("ab" * 32,) * 2}, {"lane": -1},
        {"consensus": "pbft"}, {"difficulty_bits": 1}, {"scenario": None}, {"addresses": ("ab" * 32,)},
    ],
)  # fmt: skip
def test_bad_values_are_rejected_by_name(change):
    name = next(iter(change)) if change != {"consensus": "pbft"} else "validators"
    with pytest.raises(ConfigError, match=name):
        QuotaRules(**PLAY.rules(**change))


def test_a_chain_takes_the_records_of_its_market_only():
    quotas, hours = quota_records(PLAY, [1]), play_records(SMALL, [1])
    with pytest.raises(LedgerError, match=r"record: of the market two-stage-dr; one of ev-quota is allowed"):
        LaneChains(RULES, [3]).append(hours[0])
    with pytest.raises(LedgerError, match=r"record: of the market ev-quota; one of two-stage-dr is allowed"):
        LaneChains(Rules(**rules_of(SMALL)), [0]).append(quotas[0])
    with pytest.raises(LedgerError, match=r"period: 1; 0 is next"):
        LaneChains(RULES, [3]).append(quotas[1])
    with pytest.raises(LedgerError, match=r"half hour: \[N, E\] = \(3, 1\); \(3, 2\) is allowed"):
        LaneChains(RULES, [3, 4]).append(quotas[0])
