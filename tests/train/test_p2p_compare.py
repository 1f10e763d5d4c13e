"""`gridmarl compare p2p`: the same homes and prices in every row, what none undercuts, who loses, bad input."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gridmarl.clearing import registry
from gridmarl.clearing.book import Clearing
from gridmarl.clearing.registry import get_auction, register_mechanism
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.errors import ConfigError, GridmarlError
from gridmarl.scenarios.scenario import default_scenario, toy_scenario
from gridmarl.train.p2p.batteries import by_aggregator, by_groups
from gridmarl.train.p2p.forms import AGGREGATOR, BILATERAL, COMMUNITY, HYBRID, NO_TRADE, POOL, Played, play_forms
from gridmarl.train.p2p.homes import Homes, draw_homes
from gridmarl.train.p2p.params import P2PParams
from gridmarl.train.p2p.rows import P2PRow, form_rows
from tests.oracles import peer_to_peer as oracle
from tests.train.command_line import gridmarl, strict_json

NAMES = [NO_TRADE, POOL, BILATERAL, COMMUNITY, HYBRID, AGGREGATOR]
LANES, SEED = 3, 11


def played(**settings: object) -> tuple[Homes, dict[str, Played], dict[str, P2PRow], float]:
    """Homes, forms and rows of a day of the packaged scenario, and the least possible cost per day in tokens."""
    params = P2PParams.from_dict({"num_prosumers": 6, "communities": 2, **settings}, 24)
    homes = draw_homes(params, default_scenario(), LANES, SEED, windows=False)
    forms = play_forms(homes, params)
    rows = form_rows(homes, forms, forms.played)
    return homes, {form.name: form for form in forms.played}, {row.name: row for row in rows}, forms.least_cost_utok


def rows_of(homes: Homes, params: P2PParams) -> dict[str, P2PRow]:
    forms = play_forms(homes, params)
    return {row.name: row for row in form_rows(homes, forms, forms.played)}


def test_homes_and_prices_are_those_of_the_market_environment() -> None:
    params = P2PParams.from_dict({"num_prosumers": 5}, 24)
    homes = draw_homes(params, default_scenario(), LANES, SEED, windows=False)
    market = TwoStageDRParams(num_prosumers=5, horizon_hours=24)
    env = BatchedTwoStageDR(market, default_scenario(), num_envs=LANES, auto_reset=False)
    env.reset(SEED)
    state = env.state
    assert np.array_equal(homes.import_price, state.import_price.numpy())
    assert np.array_equal(homes.export_price, state.export_price.numpy())
    assert np.array_equal(homes.generation_wh[0], state.home.generation_wh.numpy())
    assert np.array_equal(homes.load_wh[0] * 600 // 1000, state.home.d_min_wh.numpy())


@pytest.mark.parametrize("dispatch", ["plan", "rule"])
@pytest.mark.parametrize("sharing", ["mid_market", "supply_demand_ratio", "savings"])
def test_costs_are_in_the_order_of_what_can_be_coordinated(dispatch: str, sharing: str) -> None:
    """In every episode, but for the rounding of batteries to whole Wh: a Wh of each in each hour, at the spread."""
    homes, forms, rows, least = played(dispatch=dispatch, sharing=sharing)
    cost = {name: form.bill_utok.sum(0) for name, form in forms.items()}
    spread = (homes.import_price - homes.export_price).sum(0) * homes.owners.sum()
    assert (cost[AGGREGATOR] - least <= spread).all()
    assert all((own >= least).all() for own in cost.values())
    assert np.array_equal(cost[POOL], cost[BILATERAL])
    assert (cost[POOL] <= cost[NO_TRADE]).all()
    if dispatch == "plan":
        assert (abs(cost[COMMUNITY] - cost[AGGREGATOR]) <= spread).all()
        assert (cost[COMMUNITY] <= cost[HYBRID] + spread).all()
        assert (cost[HYBRID] <= cost[NO_TRADE] + spread).all()
    for name, form in forms.items():
        net = form.net_wh.sum(1)
        assert np.array_equal(net, form.import_wh - form.export_wh), name
        upstream = homes.import_price * form.import_wh - homes.export_price * form.export_wh
        assert np.array_equal(upstream.sum(0), cost[name]), name
        assert rows[name].cost_tok == pytest.approx(cost[name].mean() / 1e6)
    assert (rows[COMMUNITY].local_price_tok_per_kwh is None) == (sharing == "savings")


def test_who_is_worse_off() -> None:
    """In a market nobody; in a community some owner of a battery that serves all; with shared savings nobody again."""
    _, forms, rows, _ = played()
    assert [rows[name].worse_off_count for name in (NO_TRADE, POOL, BILATERAL)] == [0, 0, 0]
    more = forms[COMMUNITY].bill_utok - forms[NO_TRADE].bill_utok
    assert rows[COMMUNITY].worse_off_count == (more > 0).sum() > 0
    assert rows[COMMUNITY].worse_off_homes == pytest.approx((more > 0).sum() / LANES)
    assert rows[COMMUNITY].worst_tok == pytest.approx(more.max(0).mean() / 1e6)
    assert rows[COMMUNITY].worst_tok > 0
    _, forms, rows, _ = played(sharing="savings")
    assert rows[COMMUNITY].worse_off_count == rows[HYBRID].worse_off_count == 0
    saved = forms[NO_TRADE].bill_utok - forms[COMMUNITY].bill_utok
    assert (np.ptp(saved, axis=0) <= 1).all()
    saved = forms[NO_TRADE].bill_utok - forms[HYBRID].bill_utok
    assert all((np.ptp(part, axis=0) <= 1).all() for part in (saved[:3], saved[3:]))


def test_the_community_under_every_sharing_rule() -> None:
    """The rule that is asked for is the community's row; all cost the same and divide it in their own way."""
    params = P2PParams.from_dict({"num_prosumers": 6, "sharing": "supply_demand_ratio"}, 24)
    homes = draw_homes(params, default_scenario(), LANES, SEED, windows=False)
    forms = play_forms(homes, params)
    by_rule = {form.name: form.bill_utok for form in forms.by_sharing}
    assert list(by_rule) == ["mid_market", "supply_demand_ratio", "savings"]
    assert np.array_equal(by_rule["supply_demand_ratio"], forms.played[3].bill_utok)
    assert len({tuple(bills.sum(0)) for bills in by_rule.values()}) == 1
    assert len({bills.tobytes() for bills in by_rule.values()}) == 3
    other = play_forms(homes, replace(params, sharing="savings"))
    assert np.array_equal(other.played[3].bill_utok, by_rule["savings"])


def test_without_batteries_every_form_of_trade_costs_the_same() -> None:
    """And each hour of each home is the oracle's."""
    homes, forms, rows, least = played(battery_capacity_wh=0)
    costs = {name: form.bill_utok.sum(0).tolist() for name, form in forms.items()}
    assert len({tuple(costs[name]) for name in NAMES[1:]}) == 1
    assert costs[AGGREGATOR] == pytest.approx(least, rel=1e-6)
    assert all(row.worse_off_count == 0 for row in rows.values())
    for lane in range(LANES):
        bills: dict[str, list[oracle.Hour]] = {name: [] for name in NAMES[:-1]}
        for hour in range(24):
            nets = homes.net_wh[hour, :, lane].tolist()
            prices = int(homes.import_price[hour, lane]), int(homes.export_price[hour, lane])
            bills[NO_TRADE].append(oracle.alone(nets, *prices))
            bills[POOL].append(oracle.pool(nets, *prices, hour))
            bills[BILATERAL].append(oracle.bilateral(nets, *prices, hour))
            bills[COMMUNITY].append(oracle.community(nets, *prices, hour, "mid_market"))
            bills[HYBRID].append(oracle.hybrid(nets, *prices, hour, [3, 3], "mid_market", oracle.pool))
        for name, hours in bills.items():
            assert np.sum([item.bills for item in hours], axis=0).tolist() == forms[name].bill_utok[:, lane].tolist()
            assert [item.inside for item in hours] == forms[name].local_wh[:, lane].tolist()


def test_batteries_of_each_decision_maker() -> None:
    """Homes without photovoltaics have none; a group's batteries do the same; each schedule keeps its limits."""
    params = P2PParams.from_dict({"num_prosumers": 10, "communities": 2}, 24)
    homes = draw_homes(params, default_scenario(), 2, SEED, windows=False)
    without = [1, 4, 7]  # of the packaged homes
    assert np.flatnonzero(~homes.owners).tolist() == without
    assert not homes.generation_wh[:, without].any()
    energies = {kind: by_groups(homes, sizes, "plan") for kind, sizes in (("each", [1] * 10), ("all", [10]))}
    energies["rule"] = by_groups(homes, [5, 5], "rule")
    energies["central"], value, least = by_aggregator(homes)
    assert (least == np.floor(least)).all()
    assert ((homes.export_price <= value) & (value <= homes.import_price)).all()
    for energy in energies.values():
        assert not energy[:, ~homes.owners].any()
        held = np.full(energy.shape[1:], 2_500)
        for hour in range(24):
            held = held + np.maximum(energy[hour], 0) * 900 // 1000 + np.minimum(energy[hour], 0)
            assert ((held >= 0) & (held <= 5_000)).all()
        assert (held == 2_500).all()
        assert (np.abs(energy[:-1]) <= 2_500).all()
    assert (np.ptp(energies["all"][:, homes.owners], axis=1) == 0).all()
    everybody = replace(params, battery_homes="all")
    assert draw_homes(everybody, default_scenario(), 2, SEED, windows=False).owners.all()


def test_what_has_to_be_known_is_counted() -> None:
    """Three homes: in the first hour a surplus of 400 Wh and shortages of 300 and 200, in the second nothing."""
    scenario = toy_scenario([20_000, 20_000], [[0, 300, 200], [300, 0, 0]], [[400, 0, 0], [300, 0, 0]])
    settings = {"num_prosumers": 3, "communities": 2, "battery_capacity_wh": 0, "pv_scale_permille": 1000}
    params = P2PParams.from_dict(settings, 2)
    homes = draw_homes(params, scenario, 1, SEED, windows=False)
    rows = rows_of(homes, params)
    messages = {name: row.messages_per_hour for name, row in rows.items()}
    # 3 orders, 3 answers; 3 orders, 4 of 2 trades; reports and bills of 3 homes in 2 hours; orders of 2 managers
    assert messages == {NO_TRADE: 0, POOL: 3, BILATERAL: 3.5, COMMUNITY: 6, HYBRID: 8, AGGREGATOR: 6}
    numbers = {name: row.numbers_per_home_day for name, row in rows.items()}
    assert numbers == {NO_TRADE: 0, POOL: 24, BILATERAL: 24, COMMUNITY: 24, HYBRID: 24, AGGREGATOR: 24}
    assert [rows[name].hours_ahead for name in NAMES] == [0, 1, 1, 1, 1, 1]
    assert rows[POOL].local_kwh == pytest.approx(0.4 * 12)
    assert rows[POOL].local_price_tok_per_kwh == pytest.approx(28.0), "the short side earns the import price"
    assert rows[BILATERAL].local_price_tok_per_kwh == pytest.approx(23.5)
    assert rows[POOL].bill_tok == pytest.approx(0.1 * 28 * 12 / 3)
    planned = P2PParams.from_dict({**settings, "battery_capacity_wh": 1_000, "battery_power_w": 500}, 2)
    homes = draw_homes(planned, scenario, 1, SEED, windows=False)
    rows = rows_of(homes, planned)
    assert [rows[name].hours_ahead for name in NAMES] == [0, 1, 1, 2, 2, 2]
    assert rows[COMMUNITY].numbers_per_home_day == pytest.approx(24 + 4 / 3 / 2 * 24), "one battery, three homes"


def test_an_auction_that_loses_money_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(*book: object) -> Clearing:
        cleared = get_auction("uniform")(*book)  # type: ignore[arg-type]
        price = book[4] + 0 * cleared.volume_wh  # type: ignore[operator]
        return Clearing(price, cleared.buy_fill_wh // 2, cleared.sell_fill_wh, cleared.volume_wh, price, price)

    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    register_mechanism("leaking-test", leaking)
    with pytest.raises(GridmarlError, match=r"full: pool: -?\d+ (µtok|Wh) are missing in an hour; allowed is 0"):
        played(pool="leaking-test")


def test_command(tmp_path: Path) -> None:
    arguments = ("compare", "p2p", "--days", "1", "--lanes", "3", "--set", "num_prosumers=4", "communities=2")
    folder = tmp_path / "run"
    outcome = gridmarl(*arguments, "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert all(name in outcome.out for name in NAMES)
    assert "0 µtok and 0 Wh missing in each of 72 hours of every form" in outcome.out
    tables = outcome.out.split("  means per day")[0]
    assert max(len(line) for line in tables.splitlines()) <= 100
    assert "…" not in tables
    summary = strict_json(folder / "summary.json")
    assert [row["name"] for row in summary["rows"]] == NAMES
    assert len(summary["bills_tok_per_day"][POOL]) == len(summary["battery_homes"]) == 4
    assert len(summary["net_load_kwh"][HYBRID]) == 24
    assert [row["name"] for row in summary["sharing_rows"]] == ["mid_market", "supply_demand_ratio", "savings"]
    assert summary["sharing_rows"][0] == {**summary["rows"][3], "name": "mid_market"}
    for row in summary["rows"]:
        assert sum(summary["bills_tok_per_day"][row["name"]]) == pytest.approx(row["cost_tok"])
        assert row["bill_tok"] == pytest.approx(row["cost_tok"] / 4)
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == NAMES
    for figure in ("bills", "load"):
        assert (folder / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    config = strict_json(folder / "config.json")
    assert (config["params"]["num_prosumers"], config["params"]["communities"]) == (4, 2)
    again = gridmarl("compare", "--options", folder / "config.json", "--run-dir", tmp_path / "again")
    assert again.code == 0
    for name in ("metrics.csv", "summary.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gridmarl.train.p2p.command.play_forms", cut_off)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "summary.json").write_text("of an earlier run")
    outcome = gridmarl("compare", "p2p", "--days", "1", "--lanes", "1", "--run-dir", folder)
    assert (outcome.code, outcome.err) == (130, "")
    assert [path.name for path in folder.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "alpha_permille=1200"), "alpha_permille: unknown key, allowed are num_prosumers"),
        (("--set", "communities=11"), "communities: 11, allowed are 1 .. 10"),
        (("--set", "communities=1.5"), "communities: 1.5, allowed are 1 .. 10"),
        (("--set", "sharing=fair"), "sharing: 'fair', allowed are mid_market, supply_demand_ratio, savings"),
        (("--set", "dispatch=1"), "dispatch: 1, allowed are plan, rule"),
        (("--set", "pool=bazaar"), "pool: 'bazaar', allowed are"),
        (("--set", "battery_homes=none"), "battery_homes: 'none', allowed are photovoltaics, all"),
        (("--set", "battery_power_w=0"), "battery_power_w: 0 with battery_capacity_wh 5000"),
        (("--train-steps", "5"), "train_steps with p2p: nothing is trained"),
        (("--consensus", "pbft"), "consensus with p2p: nothing is trained"),
        (("some-run",), "runs with p2p: nothing is trained"),
        (("--lanes", "0"), "lanes: 0, allowed are 1"),
        (("--days", "0"), "days: 0, allowed are 1"),
        (("--scenario", "nowhere"), "no scenario 'nowhere'"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    outcome = gridmarl("compare", "p2p", *arguments, "--run-dir", tmp_path / "run")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


def test_parameters_without_a_command() -> None:
    assert P2PParams.from_dict({"num_prosumers": 2}, 24).communities == 2
    assert P2PParams.from_dict({}, 24).community_sizes == [3, 3, 4]
    assert P2PParams.from_dict({"battery_capacity_wh": 0}, 24).storage is None
    with pytest.raises(ConfigError, match="horizon_hours: unknown key"):
        P2PParams.from_dict({"horizon_hours": 3}, 24)


def test_episodes_of_a_series_follow_each_other() -> None:
    """Three of two hours each."""
    loads, suns = [[10 * hour, 10 * hour + 1] for hour in range(1, 7)], [[0, 4 + hour] for hour in range(1, 7)]
    scenario = toy_scenario(range(1, 7), loads, suns)
    params = P2PParams.from_dict({"num_prosumers": 2, "communities": 1, "pv_scale_permille": 1000}, 2)
    homes = draw_homes(params, scenario, 3, SEED, windows=True)
    assert homes.load_wh[:, :, 0].tolist() == [[10, 11], [20, 21]]
    assert homes.load_wh[:, :, 2].tolist() == [[50, 51], [60, 61]]
    assert homes.generation_wh[:, 1].tolist() == [[5, 7, 9], [6, 8, 10]]
    assert (homes.import_price - 8_000).tolist() == [[1, 3, 5], [2, 4, 6]]
    again = draw_homes(params, scenario, 3, SEED, windows=False)
    assert np.array_equal(again.load_wh[:, :, 0], again.load_wh[:, :, 1])


def test_windows_of_recorded_days(real_data: Path, tmp_path: Path) -> None:
    """With --start each episode is the next window, not the same again."""
    folder = tmp_path / "run"
    homes = real_data / "households" / "ausgrid_8homes_hourly_201207_201306_wh.csv.gz"
    prices = real_data / "aemo" / "nem_30min_201207_201312.csv.gz"
    files = ("--prices", prices, "--homes", homes)
    arguments = ("compare", "p2p", *files, "--lanes", "2", "--days", "1")
    outcome = gridmarl(*arguments, "--start", "2013-02-04", "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert "2 episodes of 24 hours, recorded days one after the other" in outcome.out
    config, summary = strict_json(folder / "config.json"), strict_json(folder / "summary.json")
    assert (config["params"]["num_prosumers"], config["params"]["pv_scale_permille"]) == (8, 1000)
    assert config["scenario"]["name"] == "NSW1-2013-02-04-2d"
    rows = {row["name"]: row for row in summary["rows"]}
    costs = []
    for start in ("2013-02-04", "2013-02-05"):
        alone = gridmarl(*arguments, "--lanes", "1", "--start", start, "--run-dir", tmp_path / start)
        assert alone.code == 0
        costs.append({row["name"]: row["cost_tok"] for row in strict_json(tmp_path / start / "summary.json")["rows"]})
    assert costs[0][POOL] != costs[1][POOL]
    for name in NAMES:
        assert rows[name]["cost_tok"] == pytest.approx((costs[0][name] + costs[1][name]) / 2)
    missing = gridmarl(*arguments, "--start", "2013-06-30", "--run-dir", tmp_path / "late")
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "the homes cover" in missing.err
