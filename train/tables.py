"""The comparison as tables in the terminal and as metrics.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gridmarl.train.comparison import Row
from gridmarl.train.rollout import FLOW_NAMES

Cell = Callable[[Row], str]


def _number(value: float | None, digits: int = 1) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


WELFARE: tuple[tuple[str, Cell], ...] = (
    ("welfare\ntoken", lambda row: _number(row.welfare_tok)),
    ("efficiency", lambda row: _percent(row.efficiency)),
    ("gains from\ntrade, share", lambda row: _percent(row.gains_share)),
    ("gains\ntoken", lambda row: _number(row.gains_tok)),
    ("price gap\nmean", lambda row: _percent(row.price_gap_mean)),
    ("price gap\nlargest hour", lambda row: _percent(row.price_gap_max)),
    ("bill per\nprosumer", lambda row: _number(row.bill_per_prosumer_tok)),
    ("cost\ntoken/kWh", lambda row: _number(row.billing_cost_tok_per_kwh, 2)),
    ("operator\ntoken", lambda row: _number(row.operator_tok)),
)
ENERGY: tuple[tuple[str, Cell], ...] = (
    ("peak/average\nbefore", lambda row: _number(row.peak_to_average_before, 2)),
    ("peak/average\nafter", lambda row: _number(row.peak_to_average_after, 2)),
    ("variance\nbefore", lambda row: _number(row.load_variance_before, 2)),
    ("variance\nafter", lambda row: _number(row.load_variance_after, 2)),
    ("import\nkWh", lambda row: _number(row.import_kwh)),
    ("export\nkWh", lambda row: _number(row.export_kwh)),
    ("reduced\nkWh", lambda row: _number(row.reduced_kwh)),
    ("penalties\ntoken", lambda row: _number(row.penalties_tok)),
    ("phantom\nkWh", lambda row: _number(row.phantom_kwh)),
    ("phantom\ntoken", lambda row: _number(row.phantom_tok)),
    ("hours\nshort", lambda row: _number(row.dr_hours)),
    ("hours\npi_DR > pi", lambda row: _number(row.dr_price_differs_hours)),
)


def table_of(title: str, columns: Sequence[tuple[str, Cell]], rows: Sequence[Row]) -> Table:
    """One rich table, a line per row."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("row", no_wrap=True)
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.name, *(cell(row) for _, cell in columns))
    return table


def operator_table(title: str, rows: Sequence[Row]) -> Table:
    """The operator's account flow by flow, in tokens; a plus is an income."""
    income = {"import", "shortfall", "penalty", "upstream_export"}
    shown = [name for name in FLOW_NAMES if name not in ("local_buy", "local_sell")]
    table = Table(title=title, title_justify="left")
    table.add_column("row", no_wrap=True)
    for name in shown:
        table.add_column(name.replace("_", "\n"), justify="right")
    table.add_column("balance", justify="right")
    for row in rows:
        if row.operator_flows_tok:
            signed = [row.operator_flows_tok[name] * (1 if name in income else -1) for name in shown]
            table.add_row(row.name, *(_number(value) for value in signed), _number(row.operator_tok))
    return table


def print_comparison(console: Console, results: Mapping[str, Sequence[Row]]) -> None:
    """All tables of all readings of the demand-response incentive."""
    for reading, rows in results.items():
        console.print(table_of(f"Welfare and prices, dr_settlement = {reading}", WELFARE, rows))
        console.print(table_of(f"Load and energy, dr_settlement = {reading}", ENERGY, rows))
        console.print(operator_table(f"Operator's account in tokens, dr_settlement = {reading}", rows))


def write_metrics(path: Path, results: Mapping[str, Sequence[Row]]) -> None:
    """metrics.csv: every number of every row, one line per reading and row."""
    names = [item.name for item in fields(Row) if item.name not in ("operator_flows_tok", "welfare_by_lane_tok")]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dr_settlement", *names, *(f"operator_{name}_tok" for name in FLOW_NAMES)])
        for reading, rows in results.items():
            for row in rows:
                values = asdict(row)
                flows = [row.operator_flows_tok.get(name, "") for name in FLOW_NAMES]
                writer.writerow([reading, *(values[name] for name in names), *flows])


def without_nan(value: Any) -> Any:
    """JSON has no NaN: None instead."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
