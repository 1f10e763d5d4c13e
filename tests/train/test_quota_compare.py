"""`gridmarl compare ev-quota`: rows, what no policy exceeds, overloads, and what over-declaring alone brings."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import ev_scenario
from gridmarl.train.quota import alone
from gridmarl.train.quota.episode import coordinate, play_day
from gridmarl.train.quota.market import HeldOut, QuotaMarket
from gridmarl.train.quota.over_use import highest_worth, learned_rates, over_use_row, over_use_table, rate_grid
from gridmarl.train.quota.rows import deviations, played_row, policy_of
from tests.train.command_line import gridmarl, strict_json

SCENARIO = ev_scenario(4, sessions_per_day_permille=9_000, conventional_peak_w=60_000)
LANES = 12
SMALL = (
    "--set", "num_stations=2", "transformer_capacity_w=40000", "horizon_half_hours=24",
    "--lanes", "3", "--train-lanes", "2", "--train-steps", "192", "--agent-set", "hidden=[8]",
)  # fmt: skip


def market(**params: object) -> BatchedEVQuota:
    values = {"num_stations": 4, "transformer_capacity_w": 60_000, **params}
    return BatchedEVQuota(EVQuotaParams.from_dict(values), SCENARIO, num_envs=LANES, auto_reset=False)


@pytest.mark.parametrize("horizon", [48, 29])
def test_no_policy_within_its_quotas_exceeds_the_coordinator(horizon: int) -> None:
    """In every lane; and with all the capacity that there could be, charging at once serves as much as it does."""
    best = np.array([plan.bound_utok for plan in coordinate(market(horizon_half_hours=horizon), 3)])
    for name in ("quota_truthful", "quota_patient", "quota_no_trade", "quota_over_declare"):
        env = market(horizon_half_hours=horizon)
        episode = play_day(env, policy_of(env, name), 3)
        assert (episode.welfare_utok <= best + 1).all()
        assert not episode.overload_wh.any()
        assert np.array_equal(episode.reward_utok.sum((0, 1)), episode.welfare_utok)
    plenty = {"transformer_capacity_w": 10**7, "horizon_half_hours": horizon}
    plans = coordinate(market(**plenty), 3)
    env = market(**plenty)
    episode = play_day(env, policy_of(env, "quota_uncoordinated"), 3)
    assert not episode.unserved_wh.any()
    assert max(plan.unserved_wh.sum() for plan in plans) < 1e-6
    assert all(plan.welfare_utok >= own for plan, own in zip(plans, episode.welfare_utok, strict=True))


def test_overload_is_counted_and_paid_for() -> None:
    env = market(overuse=True)
    episode = play_day(env, policy_of(env, "quota_uncoordinated"), 3)
    none, best = np.zeros(LANES), np.full(LANES, 1e12)
    row = played_row("uncoordinated", episode, none, best)
    beyond = np.maximum(episode.used_wh.sum(1) - episode.margin_wh, 0)
    assert row.overload_kwh == pytest.approx(beyond.sum() / 1000 / LANES)
    assert row.overload_half_hours == pytest.approx((beyond > 0).sum() / LANES)
    assert row.overload_kwh > 0
    assert row.over_used_kwh == pytest.approx(row.overload_kwh)  # a margin that is scarce is handed out in full
    assert row.penalty_per_station_tok == pytest.approx(beyond.sum() * 1_000_000 / 1e6 / LANES / 4)
    assert row.reward_tok == pytest.approx(row.welfare_tok - 4 * row.penalty_per_station_tok)
    assert row.gains_share == pytest.approx(row.welfare_tok / 1e6)


def test_a_plan_beyond_the_margin_counts_as_overload() -> None:
    """The coordinator's row is measured against the margin like the others."""
    held_out = HeldOut.prepare(QuotaMarket(market().params, SCENARIO, "cpu"), LANES, 3, "off", "")
    row = held_out.coordinator_row()
    assert row.overload_half_hours == 0
    assert row.overload_kwh == pytest.approx(0, abs=1e-6)
    plan = held_out.plans[0]
    half_hour = int((market_margin(3)[:, 0] - plan.energy_wh.sum(0)).argmin())  # a limit that binds
    energy = plan.energy_wh.copy()
    energy[energy[:, half_hour].argmax(), half_hour] += 2_400.0
    held_out.plans[0] = replace(plan, energy_wh=energy)
    more = held_out.coordinator_row()
    assert more.overload_half_hours == pytest.approx(1 / LANES)
    assert more.overload_kwh == pytest.approx(2.4 / LANES, abs=1e-6)


def market_margin(seed: int) -> NDArray[np.int64]:
    env = market()
    env.reset(seed)
    margin: NDArray[np.int64] = env.state.margin_wh.numpy()
    return margin


def test_bills_are_what_leaves_the_accounts() -> None:
    """Fees, penalties and payments for quota, station by station; over all stations, what the DSO has got."""
    env = market(overuse=True, forfeit_permille=300)
    episode = play_day(env, policy_of(env, "quota_truthful"), 3)
    balances = env.state.balances.numpy()
    assert np.array_equal(-balances[:-1], episode.bill_utok)
    row = played_row("truthful", episode, np.zeros(LANES), np.ones(LANES))
    assert row.bill_per_station_tok == pytest.approx(balances[-1].mean() / 4e6)
    assert row.most_bill_tok == pytest.approx(-balances[:-1].mean(1).min() / 1e6)
    assert row.least_bill_tok < row.bill_per_station_tok < row.most_bill_tok
    assert row.over_used_kwh == 0


@pytest.mark.parametrize("at_once", [4096, 2 * LANES])
def test_stations_deviate_in_copies_as_they_would_one_by_one(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "_MAX_LANES", at_once)
    env = market()
    truthful, most = policy_of(env, "quota_truthful"), policy_of(env, "quota_over_declare")
    counted: list[int] = []
    found = alone.play_alone(env, truthful, most, 3, lambda: counted.append(1))
    assert len(counted) == 4
    for station in range(4):

        def act(observation: Tensor, station: int = station) -> Tensor:
            actions = truthful(observation)
            actions[:, station] = most(observation)[:, station]
            return actions

        episode = play_day(market(), act, 3)
        assert np.array_equal(found.reward_utok[station], episode.reward_utok[:, station].sum(0))
        assert np.array_equal(found.over_declared_wh[station], episode.over_declared_wh[:, station].sum(0))
    some = alone.play_alone(env, truthful, most, 3, stations=[3, 1])
    assert np.array_equal(some.reward_utok, found.reward_utok[[3, 1]])


def test_over_declaring_alone_pays_unless_unused_quota_costs() -> None:
    found = {item.terms: item for item in deviations(market().params, SCENARIO, LANES, 5)}
    free, lost = found["as configured"], found["forfeiting 1000 / 1000"]
    assert free.gain_tok > 0
    assert lost.gain_tok < 0
    assert free.over_declared_kwh == lost.over_declared_kwh > found["budget for 7500 Wh"].over_declared_kwh


def test_command(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    outcome = gridmarl("compare", "ev-quota", *SMALL, "--over-use", "learn", "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    summary = strict_json(folder / "summary.json")
    names = ["uncoordinated", "no trade", "truthful", "patient", "all over-declare", "deep Q", "coordinator"]
    assert [row["name"] for row in summary["rows"]] == names
    assert all(name in outcome.out for name in names)
    assert "One station declares the most it may" in outcome.out
    assert max(len(line) for line in outcome.out.splitlines()[:-1]) <= 100
    for row in summary["rows"][1:]:
        assert row["over_used_kwh"] == row["overload_half_hours"] == 0
        assert row["overload_kwh"] == pytest.approx(0, abs=1e-6)
    for row in summary["rows"]:
        assert row["bill_per_station_tok"] == pytest.approx(row["fee_per_station_tok"] + row["penalty_per_station_tok"])
        assert row["least_bill_tok"] <= row["bill_per_station_tok"] <= row["most_bill_tok"]
    assert len(summary["load_kwh"]["deep Q"]) == len(summary["margin_kwh"]) == 24
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == names
    for picture in ("load.png", "overuse.png"):
        assert (folder / "figures" / picture).read_bytes().startswith(b"\x89PNG")
    with (folder / "overuse.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["policy"] for row in rows] == ["complying"] + 12 * ["over-use"] + 3 * ["deep Q"]
    assert [row["rate_tok_per_kwh"] for row in rows[-3:]] == ["100.0", "250.0", "500.0"]
    assert [float(row["overload_kwh"]) for row in rows[11:13]] == [0, 0]
    assert len(summary["over_use"]["rows"]) == len(rows)
    assert "no Wh can be worth more than 481.0 token/kWh" in outcome.out
    assert strict_json(folder / "config.json")["params"]["num_stations"] == 2


def test_over_use_can_be_left_out_and_an_earlier_comparison_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for left in ("overuse.csv", "figures/overuse.png", "deep-q/checkpoint.pt", "deep-q-penalty-1/checkpoint.pt"):
        (folder / left).parent.mkdir(parents=True, exist_ok=True)
        (folder / left).write_bytes(b"earlier")
    options = ("--over-use", "off", "--exploitability", "off", "--run-dir", folder)
    outcome = gridmarl("compare", "ev-quota", *SMALL, *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert "penalty rate" not in outcome.out
    assert strict_json(folder / "summary.json")["over_use"] is None
    assert not (folder / "overuse.csv").exists()
    assert not (folder / "figures" / "overuse.png").exists()
    assert not (folder / "deep-q-penalty-1").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("ev-quota", "--dr-settlement", "additive"), "--dr-settlement"),
        (("two-stage-dr", "--over-use", "off"), "--over-use"),
        (("p2p", "--over-use", "learn"), "--over-use"),
    ],
)
def test_options_of_another_comparison_are_refused(arguments: tuple[str, ...], named: str, tmp_path: Path) -> None:
    outcome = gridmarl("compare", *arguments, "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert named in outcome.err
    assert not (tmp_path / "run").exists()


def test_over_use_against_the_penalty_rate() -> None:
    """Over-use falls with the rate and ends where no Wh is worth more; sums of money fit."""
    rules = replace(market().params, horizon_half_hours=30)
    held = QuotaMarket(rules, SCENARIO, "cpu")
    table = over_use_table(held, LANES, 3)
    complying, *rows = table.rows
    assert complying.over_used_kwh == complying.overload_half_hours == complying.penalty_tok == 0
    assert [row.rate_tok_per_kwh for row in rows] == [*range(0, 501, 50), 1_000]
    overloads = [row.overload_kwh for row in rows]
    assert overloads == sorted(overloads, reverse=True)
    assert overloads[0] > 0
    for row in rows:
        assert row.rate_tok_per_kwh is not None
        assert row.penalty_tok == pytest.approx(row.over_used_kwh * row.rate_tok_per_kwh)
        assert row.stations_tok == pytest.approx(row.welfare_tok - row.penalty_tok)
        if row.rate_tok_per_kwh >= table.ends:
            assert replace(row, rate_tok_per_kwh=None, policy="complying", alone_gain_tok=None,
                           alone_interval_tok=None) == complying  # fmt: skip
            assert row.alone_gain_tok == 0
    assert rows[0].alone_gain_tok is not None
    assert rows[0].alone_gain_tok > 0
    assert table.ends <= table.bound == 450 + 100 - 69
    assert table.alone_from is not None
    assert table.alone_from <= 500
    ends = round(table.ends * 1_000)
    for rate, over_used in ((ends, False), (ends - 1, True)):
        env = held.batched(LANES, overuse=True, penalty_rate_utok_per_wh=rate)
        episode = play_day(env, policy_of(env, "quota_over_use", penalty_rate_utok_per_wh=rate), 3)
        assert bool(episode.over_used_wh.any()) == over_used
        row = over_use_row("over-use", rate, episode)
        assert row.dso_income_tok == pytest.approx(float(env.state.balances[-1].sum()) / 1e6 / LANES)


def test_rates_that_are_tried() -> None:
    params = EVQuotaParams(value_high_utok_per_wh=200_000, value_low_utok_per_wh=0, unserved_utok_per_wh=5_000)
    assert highest_worth(params, [40_000, 30_000, 60_000]) == 175_000
    assert highest_worth(replace(params, value_high_utok_per_wh=20_000), [40_000, 30_000, 60_000, 0]) == 30_000
    assert highest_worth(replace(params, value_high_utok_per_wh=20_000), [60_000, 60_000]) == 0
    assert rate_grid(175_000, 60_000) == [*range(0, 180_001, 20_000)]
    assert rate_grid(175_000, 61_000)[3:6] == [60_000, 61_000, 80_000]
    assert rate_grid(0, 7) == [0, 7]
    assert learned_rates(518_000, rate_grid(518_000, 1_000_000)) == [120_000, 300_000, 540_000]
    assert learned_rates(0, [0, 7]) == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--days", "3"), "--days with ev-quota"),
        (("--scenario", "toy"), "--scenario with ev-quota"),
        (("--set", "num_prosumers=3"), "num_prosumers: unknown key, allowed are num_stations"),
        (("--lanes", "0"), "lanes: 0, allowed are 1"),
        (("--agent-set", "greed=1"), "greed"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    outcome = gridmarl("compare", "gridmarl/EVQuota-v0", *arguments, "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "run").exists()
