"""Parts of the report on small inputs: choice of hours, conservation, tables, learning curves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.table import Table

from gridmarl.envs.rendering.curves import MarketHour
from gridmarl.train.comparison import Row
from gridmarl.train.report.blocks import from_rich
from gridmarl.train.report.learning import diagnostic_columns, learning_picture
from gridmarl.train.report.play import ASKED_FOR, ChosenHour, View, choose_hours
from gridmarl.train.report.source import Outcome
from gridmarl.train.report.tables import WORDS, balance_cells, exploitability_cells, judged
from gridmarl.train.report.verdict import verdict_cells, verdict_lines

EMPTY = np.zeros(0, dtype=np.int64)


def hour(number: int, buy_wh: int, sell_wh: int, price_utok_per_wh: int) -> MarketHour:
    return MarketHour(
        hour=number,
        buy_price_utok_per_wh=np.array([10_000]),
        buy_wh=np.array([buy_wh]),
        sell_price_utok_per_wh=np.array([5_000]),
        sell_wh=np.array([sell_wh]),
        import_price_utok_per_wh=12_000,
        export_price_utok_per_wh=4_000,
        price_utok_per_wh=price_utok_per_wh,
        volume_wh=min(buy_wh, sell_wh),
        shortage_wh=max(0, buy_wh - sell_wh),
    )


MARKETS = [hour(0, 100, 50, 9_000), hour(1, 400, 50, 9_000), hour(2, 100, 900, 9_000), hour(3, 100, 60, 5_000)]
BREAK_EVEN = np.array([9_000.0, 9_500.0, 9_000.0, 9_250.0])


def test_hours_of_the_greatest_shortage_surplus_and_gap() -> None:
    assert choose_hours(MARKETS, BREAK_EVEN) == [
        ChosenHour(1, ("it has the greatest shortage of the episode, 0.35 kWh",)),
        ChosenHour(2, ("it has the greatest surplus, 0.80 kWh more offered than demanded",)),
        ChosenHour(3, ("it has the widest gap to the aggregator's break-even price, 4.25 token/kWh",)),
    ]


def test_one_hour_for_two_reasons_and_none_for_what_there_is_not() -> None:
    (found,) = choose_hours(MARKETS[1:2], BREAK_EVEN[1:2])
    assert found.hour == 0
    assert [reason.split(",")[0] for reason in found.reasons] == [
        "it has the greatest shortage of the episode",
        "it has the widest gap to the aggregator's break-even price",
    ]
    assert choose_hours(MARKETS, BREAK_EVEN, (2, 0, 2)) == [
        ChosenHour(0, (ASKED_FOR,)),
        ChosenHour(2, (ASKED_FOR,)),
    ]
    assert ChosenHour(47, ()).name == "Day 2, 23:00 to 24:00"


def test_money_that_was_made_shows_as_a_residual() -> None:
    kept = np.array([[-5, 2], [1, -3], [0, 0], [1, 0], [3, 1]])
    view = View("x", None, (), kept * 1_000_000)
    assert view.residual_utok == 0
    made = replace(view, change_utok=view.change_utok + np.array([[0, 7], *[[0, 0]] * 4]), seed=3)
    assert made.residual_utok == 7
    assert balance_cells([view, made]).lines == [
        ("x", "-2.5", "0.0", "0.5", "2.0", "0 µtok"),
        ("x, seed 3", "-2.5", "0.0", "0.5", "2.0", "7 µtok"),
    ]


def row(name: str, *welfare_tok: float) -> Row:
    values: dict[str, Any] = dict.fromkeys(Row.__dataclass_fields__, 1.0)
    values |= {"name": name, "welfare_tok": float(np.mean(welfare_tok)), "welfare_by_lane_tok": list(welfare_tok)}
    return Row(**values | {"gains_share": 0.5, "gains_share_interval": None, "operator_flows_tok": {}})


def test_the_verdict_in_words() -> None:
    rows = [row("truthful", 10.0, 20.0, 30.0), row("good", 11.0, 21.5, 31.0), row("bad", 9.0, 19.0, 28.9),
            row("unclear", 11.0, 19.0, 30.0), row("elsewhere", 11.0)]  # fmt: skip
    outcome = Outcome("", rows, {}, {}, 3)
    assert list(verdict_lines(judged(outcome), WORDS)) == [
        "good reaches more welfare than truthful bidding (+1.2 ± 0.7 token per episode; better in 3 of 3 episodes).",
        "bad reaches less welfare than truthful bidding (-1.0 ± 0.1 token per episode; better in 0 of 3 episodes).",
        "unclear cannot be told apart from truthful bidding (0.0 ± 2.5 token per episode; better in 1 of 3 episodes).",
    ]
    table = verdict_cells(judged(outcome), WORDS)
    assert [line[3:] for line in table.lines] == [("", ""), ("+1.2 ± 0.7", "3 of 3"), ("-1.0 ± 0.1", "0 of 3"),
                                                 ("0.0 ± 2.5", "1 of 3"), ("", "")]  # fmt: skip
    assert table.strong == {1, 2, 3, 4}


def test_a_table_of_the_terminal_keeps_its_cells() -> None:
    table = Table(title="Title")
    table.add_column("")
    table.add_column("effi-\nciency", justify="right")
    table.add_column("peak/avg\nafter", justify="right")
    table.add_row("[red]x", "1", "2")
    table.add_row("y", "3", "4")
    cells = from_rich(table)
    assert (cells.title, cells.columns) == ("Title", ["", "efficiency", "peak/avg after"])
    assert cells.lines == [("[red]x", "1", "2"), ("y", "3", "4")]
    assert cells.left == {0}


def test_exploitability_below_any_names() -> None:
    totals = {"nash_conv_tok": -1.0, "interval_tok": 0.0, "mean_tok": 0.0, "max_tok": 1.0, "share_of_profit": None}
    cells = exploitability_cells({"additive": {"ppo": {"totals": {"learned": totals}, "prosumers": []}}}, "x")
    assert cells is not None
    assert cells.lines == [("additive, ppo", "learned", "-1.0", "0.0", "1.0", "n/a")]
    assert exploitability_cells({}, "x") is None


def metrics(*shares: float) -> list[dict[str, str]]:
    return [
        {"env_steps": str(10 * (index + 1)), "eval_gains_share": str(share), "loss": "0.5", "seconds": "1", "empty": ""}
        for index, share in enumerate(shares)
    ]


def test_learning_curves_in_words() -> None:
    levels = {"gains_share": {"optimum": 1.0, "truthful": 0.3}}
    found = learning_picture({"ppo": [metrics(-5.0, 0.4), metrics(0.0, 0.5, 0.6)]}, levels, "Which episodes.")
    assert found is not None
    assert found.alt == (
        "Learning curves. share of the gains from trade: ppo 0.45 ± 0.64 after 20 steps, optimum 1, truthful 0.3."
    )
    assert found.caption.startswith("Policies as they were at each step, without exploration. Which episodes.")
    assert found.caption.endswith("Shares below -1 are cut off; the least is -5.")


def test_the_last_value_of_a_learning_curve_stays_in_sight() -> None:
    found = learning_picture({"ppo": [metrics(-8.0, -3.0)]}, {}, "")
    assert found is not None
    assert found.caption.endswith("Shares below -3.1 are cut off; the least is -8.")


def test_without_evaluations_the_return_while_exploring() -> None:
    rows = [{"env_steps": "10", "return": "1.5", "loss": ""}]
    found = learning_picture({"dqn": [rows]}, {}, "")
    assert found is not None
    assert found.caption == "Return while exploring; there were no evaluations."
    assert learning_picture({"dqn": [[]]}, {}, "") is None


@pytest.mark.parametrize(("curves", "columns"), [({"x": [metrics(0.1)]}, ["loss"]), ({"x": [[]]}, [])])
def test_diagnostics_are_all_other_columns_with_numbers(curves: Any, columns: list[str]) -> None:
    assert diagnostic_columns(curves) == columns
