"""Rows and tables of the comparison: arithmetic by hand on a tiny episode, identities on played ones, widths."""

from __future__ import annotations

import io
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from gridmarl.agents.registry import make_agent
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.protocols import AgentContext
from gridmarl.train.comparison import Row, market_profile, market_row, plan_profile, plan_row, share_interval
from gridmarl.train.planning import Benchmarks, plan_benchmarks
from gridmarl.train.rollout import FLOW_NAMES, Episode, play
from gridmarl.train.tables import NOTES, TEXT_WIDTH, paired_table, print_comparison, print_notes, results_console

TOKEN = 1_000_000


class HandPlan:
    """As much of a plan as a row reads; two hours, two prosumers."""

    def __init__(self, welfare_tok: float, price_tok_per_kwh: list[float]) -> None:
        self.welfare_utok = welfare_tok * TOKEN
        self.break_even_price_utok_per_wh = np.array(price_tok_per_kwh) * 1000.0
        self.bill_utok = np.array([30.0, 10.0]) * TOKEN
        self.load_wh = np.array([[1000.0, 3000.0], [1000.0, 0.0]])
        self.import_wh, self.export_wh = np.array([1000.0, 1500.0]), np.array([0.0, 500.0])
        self.import_cost_utok, self.export_revenue_utok = 45.0 * TOKEN, 5.0 * TOKEN
        self.shifted_wh = np.array([[0.0, 200.0], [0.0, 0.0]])


def hand_episode() -> Episode:
    """Two hours, two prosumers, one lane. Hour 0: prosumer 0 buys 2 kWh at 10, reduces 0.5 kWh; hour 1: it sells 1 kWh.

    Prices in token/kWh, energy in kWh: import 20, export 5; DR price 12 in hour 0, shortage 1.
    """

    def hours(*rows: Any, unit: int = 1000) -> np.ndarray[Any, np.dtype[np.int64]]:
        return (np.array(rows, dtype=np.float64) * unit).round().astype(np.int64)[..., None]

    zero = np.zeros((2, 2, 1), dtype=np.int64)
    flow = np.zeros((2, len(FLOW_NAMES), 1), dtype=np.int64)
    amounts = {
        "local_buy": (10, 0), "local_sell": (10, 0), "import": (20, 0), "export": (0, 5), "reduction": (6, 0),
        "shortfall": (4, 0), "surplus": (0, 1), "penalty": (0.5, 0), "upstream_import": (14, 0),
        "upstream_export": (0, 6),
    }  # fmt: skip
    for name, values in amounts.items():
        flow[:, FLOW_NAMES.index(name), 0] = np.array(values) * TOKEN
    return Episode(
        import_price=hours(20, 20),
        export_price=hours(5, 5),
        price=hours(10, 5),
        dr_price=hours(12, 0),
        shortage_wh=hours(1, 0),
        volume_wh=hours(1, 0),
        comfort_utok=hours([60, 20], [40, 0], unit=TOKEN),
        received_utok=hours([-30, 10], [5, -1], unit=TOKEN),
        demand_wh=hours([2, 0], [1, 1]),
        load_wh=hours([1.5, 0], [1, 1]),
        accepted_wh=hours([0.5, 0], [0, 0]),
        shifted_wh=hours([0.25, 0], [0, 0]),
        phantom_wh=hours([0.125, 0], [0, 0]),
        phantom_utok=hours([0.25, 0], [0, 0], unit=TOKEN),
        flow_utok=flow,
        upstream_wh=hours([0.7, 0], [0, 1.2]),
        gamma=zero + 1,
        d_min_wh=zero,
        d_max_wh=zero,
        generation_wh=zero,
        beta=0,
    )


def hand_benchmarks() -> Benchmarks:
    plans: Any = ([HandPlan(100.0, [math.nan, math.nan])], [HandPlan(116.0, [8.0, 8.0])])
    return Benchmarks(*plans)


def test_a_market_row_by_hand() -> None:
    row = market_row("by hand", hand_episode(), hand_benchmarks())
    # utility 120, upstream 14 - 6
    assert row.welfare_tok == 112.0
    assert row.welfare_by_lane_tok == [112.0]
    assert row.efficiency == pytest.approx(112 / 116)
    assert (row.gains_tok, row.gains_possible_tok, row.gains_share) == (12.0, 16.0, 0.75)
    assert row.gains_share_interval is None, "one lane has no spread"
    # gaps |10 - 8| and |5 - 8| over a mean of 8
    assert row.price_gap_mean == pytest.approx(2.5 / 8)
    assert row.price_gap_max == pytest.approx(3 / 8)
    # bills 25 and -9
    assert row.bill_per_prosumer_tok == 8.0
    assert math.isnan(row.bill_gini), "not defined with a negative bill"
    assert row.billing_cost_tok_per_kwh == pytest.approx(8 / 3.5)
    # load 2, 2 before and 1.5, 2 after: mean 1.75, peak 2
    assert (row.peak_to_average_before, row.load_variance_before) == (1.0, 0.0)
    assert row.peak_to_average_after == pytest.approx(2 / 1.75)
    assert row.load_variance_after == pytest.approx(0.0625)
    assert (row.import_kwh, row.export_kwh, row.local_kwh) == (0.7, 1.2, 1.0)
    assert row.self_sufficiency == pytest.approx(1 - 0.7 / 3.5)
    assert (row.reduced_kwh, row.shifted_kwh) == (0.5, 0.25)
    assert (row.phantom_kwh, row.phantom_tok, row.penalties_tok) == (0.125, 0.25, 0.5)
    assert (row.dr_hours, row.dr_price_differs_hours) == (1.0, 1.0)
    # 20 + 4 + 0.5 in, 5 + 6 + 1 out, 14 - 6 upstream
    assert row.operator_tok == 24.5 - 12 - 8
    assert row.operator_flows_tok["reduction"] == 6.0


def test_a_plan_row_by_hand() -> None:
    benchmarks = hand_benchmarks()
    alone = plan_row("no market", benchmarks.no_market, benchmarks, central=False)
    best = plan_row("aggregator", benchmarks.first_best, benchmarks, central=True)
    assert (alone.gains_share, alone.gains_tok, alone.efficiency) == (0.0, 0.0, pytest.approx(100 / 116))
    assert (best.gains_share, best.gains_tok, best.efficiency) == (1.0, 16.0, 1.0)
    assert (best.price_gap_mean, best.price_gap_max) == (0.0, 0.0)
    assert best.bill_per_prosumer_tok == 20.0
    assert best.bill_gini == pytest.approx(0.25)
    # 40 token for 5 kWh; hourly loads 2 and 3; 2.5 kWh imported
    assert best.billing_cost_tok_per_kwh == 8.0
    assert best.peak_to_average_after == pytest.approx(3 / 2.5)
    assert best.load_variance_after == 0.25
    assert best.self_sufficiency == 0.5
    assert (best.import_kwh, best.export_kwh, best.shifted_kwh) == (2.5, 0.5, 0.2)
    undefined = {"peak_to_average_before", "load_variance_before", "local_kwh", "reduced_kwh", "dr_hours",
                 "dr_price_differs_hours"}  # fmt: skip
    for row, more in ((alone, {"price_gap_mean", "price_gap_max"}), (best, set())):
        seen = {item.name for item in fields(Row) if isinstance(value := getattr(row, item.name), float) and
                math.isnan(value)}  # fmt: skip
        assert seen == undefined | more


def test_no_share_of_gains_that_are_too_small_to_divide_by() -> None:
    plans: Any = ([HandPlan(100.0, [0.0, 0.0])], [HandPlan(100.05, [8.0, 8.0])])
    row = market_row("by hand", hand_episode(), Benchmarks(*plans))
    assert row.gains_share is row.gains_share_interval is None
    assert row.gains_possible_tok == pytest.approx(0.05)


def test_interval_of_a_ratio() -> None:
    possible = np.array([1.0, 2.0, 3.0, 4.0])
    assert share_interval(0.5 * possible, possible) == 0.0
    captured = np.array([1.0, 1.0, 1.0, 2.0])
    # ratio 1/2; errors 0.5, 0, -0.5, 0 over a mean of 2.5
    assert share_interval(captured, possible) == pytest.approx(3.1824463 * math.sqrt(0.5 / 3 / 4) / 2.5)
    assert share_interval(captured[:1], possible[:1]) is None
    # a lane without gains does no harm
    assert share_interval(np.array([0.0, 1.0]), np.array([0.0, 2.0])) == 0.0


def test_interval_covers_the_true_ratio() -> None:
    """Against a simulation: it does so in about 95 % of samples (200 lanes, where the approximation is good)."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        possible = generator.gamma(2.0, 1.0, 200)
        captured = 0.7 * possible + generator.normal(0.0, 0.5, 200)
        width = share_interval(captured, possible)
        assert width is not None
        hits += abs(captured.sum() / possible.sum() - 0.7) <= width
    assert 930 <= hits <= 970


MARKETS = {
    "two_settlement": {},
    "additive learned battery": {"dr_settlement": "additive", "stage2": "learned", "battery_capacity_wh": 4000,
                                 "battery_power_w": 2000},
    "comfort": {"stage1": "comfort", "alpha_permille": 1500},
}  # fmt: skip


class Recorded:
    """An agent whose rewards and accounts are added up beside the episode."""

    name, learns = "recorded", False

    def __init__(self, env: BatchedTwoStageDR, name: str) -> None:
        context = AgentContext(env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, 3)
        self._agent = make_agent(name, context)

    def act(self, observation: torch.Tensor, *, explore: bool) -> torch.Tensor:
        return self._agent.act(observation, explore=explore)


@pytest.mark.parametrize("policy", ["inflate", "zero_intelligence"])
@pytest.mark.parametrize("market", MARKETS)
def test_welfare_is_rewards_plus_the_operator(market: str, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params = replace(TwoStageDRParams(num_prosumers=4, horizon_hours=30), **MARKETS[market])
    env = BatchedTwoStageDR(params, num_envs=3, auto_reset=False)
    rewards, step = torch.zeros(3, dtype=torch.float64), env.step

    def counted(actions: torch.Tensor) -> Any:
        result = step(actions)
        rewards.add_(result.reward.to(torch.float64).sum(1))
        return result

    monkeypatch.setattr(env, "step", counted)
    episode = play(env, Recorded(env, policy), 11)
    balances = env.state.balances.numpy()  # prosumers, market, operator, upstream grid
    prosumers, operator = balances[:4].sum(0), episode.operator_utok.sum(0)
    assert (episode.received_utok.sum((0, 1)) == prosumers).all()
    assert (balances[4] == 0).all()
    assert (balances[5] == operator).all()
    assert (balances[6] == episode.upstream_utok.sum(0)).all()
    assert (balances.sum(0) == 0).all()
    welfare = episode.welfare_utok
    assert (welfare == episode.comfort_utok.sum((0, 1)) + prosumers + operator).all()
    assert rewards.numpy() * TOKEN + operator == pytest.approx(welfare, rel=1e-6)

    row = market_row(policy, episode, plan_benchmarks(params, episode))
    flows = row.operator_flows_tok
    gained = sum(flows[name] for name in ("import", "shortfall", "penalty", "upstream_export"))
    lost = sum(flows[name] for name in ("export", "reduction", "surplus", "upstream_import"))
    assert gained - lost == pytest.approx(row.operator_tok, abs=1e-9)
    assert row.operator_tok == pytest.approx(float(operator.mean()) / TOKEN)
    assert flows["local_buy"] == flows["local_sell"]
    assert row.bill_per_prosumer_tok == pytest.approx(-float(prosumers.mean()) / 4 / TOKEN)
    assert row.efficiency <= 1.0 + 1e-9
    assert row.phantom_kwh <= row.reduced_kwh
    if policy == "inflate":
        assert row.phantom_kwh > 0
    profile = market_profile(episode)
    assert profile.load_after_kwh.shape == (30,)
    assert profile.load_after_kwh.sum() == pytest.approx(episode.load_wh.sum() / 3 / 1000)


def test_planned_profile_is_the_mean_over_lanes() -> None:
    plans: Any = [HandPlan(1.0, [8.0, 8.0]), HandPlan(1.0, [10.0, 4.0])]
    profile = plan_profile(plans)
    assert profile.price.tolist() == [9000.0, 6000.0]
    assert profile.load_after_kwh.tolist() == [2.0, 3.0]
    assert profile.to_dict()["price_tok_per_kwh"] == [9.0, 6.0]


def large(row: Row, factor: float) -> Row:
    """The same row with numbers that need room."""
    values = {item.name: getattr(row, item.name) for item in fields(Row)}
    scaled = {name: value * factor if isinstance(value, float) else value for name, value in values.items()}
    scaled["operator_flows_tok"] = {name: -value * factor for name, value in row.operator_flows_tok.items()}
    return Row(**{**scaled, "gains_share_interval": 1.2})


@pytest.mark.parametrize("factor", [1.0, -1e3, 1e5])
def test_tables_fit_and_lose_nothing(factor: float) -> None:
    hand, benchmarks = market_row("by hand", hand_episode(), hand_benchmarks()), hand_benchmarks()
    rows = [plan_row("no market", benchmarks.no_market, benchmarks, central=False)]
    rows += [replace(large(hand, factor), name=name) for name in ("zero-intelligence", "truthful", "inflate", "deep Q")]
    rows += [plan_row("aggregator", benchmarks.first_best, benchmarks, central=True)]
    output = io.StringIO()
    print_comparison(Console(file=output, width=TEXT_WIDTH), {"two_settlement": rows, "additive": rows})
    text = output.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= TEXT_WIDTH
    assert text.count("Welfare, dr_settlement = ") == 2
    # a row that wraps would put a part of itself into a line that does not begin with its name
    for name in ("no market", "zero-intelligence", "aggregator", "deep Q"):
        assert sum(line.startswith(f" {name} ") for line in text.splitlines()) == 8, name
    assert text.count(" balance ") == 2
    if factor == 1.0:
        for cell in ("75.0 ± 120.0 %", "112.0", "n/a", "31.2 %", "80.0 %", "4.5"):
            assert cell in text, cell


def test_notes_take_a_line_each_and_explain_the_words() -> None:
    output = io.StringIO()
    print_notes(Console(file=output, width=TEXT_WIDTH))
    assert output.getvalue().splitlines() == list(NOTES)
    for word in ("gains from trade", "price gap", "phantom", "self-sufficiency", "n/a"):
        assert word in output.getvalue()


def test_output_that_is_no_terminal_is_as_wide_as_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert results_console().width == TEXT_WIDTH
    monkeypatch.setenv("COLUMNS", "140")
    assert results_console().width == 140


def test_differences_within_the_same_episodes() -> None:
    """Differences 0, 1, 2: mean 1, deviation 1, and t with 2 degrees of freedom is 4.302653."""
    base = market_row("truthful", hand_episode(), hand_benchmarks())
    truthful = replace(base, welfare_by_lane_tok=[1.0, 1.0, 1.0])
    better = replace(base, name="better", welfare_by_lane_tok=[1.0, 2.0, 3.0])
    table = paired_table("difference", [truthful, better])
    cells = [list(column.cells) for column in table.columns]
    assert cells == [["better"], ["1.0"], [f"{4.302653 / math.sqrt(3):.1f}"], ["2 of 3"]]
