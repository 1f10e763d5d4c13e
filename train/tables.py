"""The comparison as tables in the terminal and as metrics.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from gridmarl.metrics import mean_and_interval
from gridmarl.train.comparison import Row
from gridmarl.train.rollout import FLOW_NAMES
from gridmarl.train.run_folder import without_nan

Cell = Callable[[Row], str]


TEXT_WIDTH = 100
"""Columns that every table fits into; what is not a terminal (a log, a file) is taken to be this wide."""


class ResultsConsole(Console):
    """Standard output of the commands; rich would exit with 1 when the reader goes away, which is a verdict here."""

    def on_broken_pipe(self) -> None:
        """Leave it to the command line."""
        raise BrokenPipeError


def results_console() -> Console:
    """Standard output, never narrower than the tables where nobody sees it wrap."""
    console = ResultsConsole()
    return console if console.is_terminal or console.width >= TEXT_WIDTH else ResultsConsole(width=TEXT_WIDTH)


def _undefined(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _number(value: float | None, digits: int = 1) -> str:
    if value is None or math.isnan(value):
        return "n/a"
    if abs(value) >= 10_000:  # six figures and more: the decimals would only take room
        digits = 0
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def _percent(value: float | None) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{_number(100 * value)} %"


def _share(row: Row) -> str:
    share = _percent(row.gains_share)
    if _undefined(row.gains_share) or not row.gains_share_interval:
        return share
    return f"{share.removesuffix(' %')} ± {_number(100 * row.gains_share_interval)} %"


WELFARE: tuple[tuple[str, Cell], ...] = (
    ("welfare\ntoken", lambda row: _number(row.welfare_tok)),
    ("effi-\nciency", lambda row: _percent(row.efficiency)),
    ("gains from trade\nshare, 95 % int.", _share),
    ("gains\ntoken", lambda row: _number(row.gains_tok)),
    ("bill per\nprosumer", lambda row: _number(row.bill_per_prosumer_tok)),
    ("operator\ntoken", lambda row: _number(row.operator_tok)),
)
PRICES: tuple[tuple[str, Cell], ...] = (
    ("price gap\nmean", lambda row: _percent(row.price_gap_mean)),
    ("price gap\nlargest", lambda row: _percent(row.price_gap_max)),
    ("cost\ntoken/kWh", lambda row: _number(row.billing_cost_tok_per_kwh, 2)),
    ("penalty\ntoken", lambda row: _number(row.penalties_tok)),
    ("phantom\nkWh", lambda row: _number(row.phantom_kwh)),
    ("phantom\ntoken", lambda row: _number(row.phantom_tok)),
    ("short\nhours", lambda row: _number(row.dr_hours)),
    ("DR > pi\nhours", lambda row: _number(row.dr_price_differs_hours)),
)
ENERGY: tuple[tuple[str, Cell], ...] = (
    ("peak/avg\nbefore", lambda row: _number(row.peak_to_average_before, 2)),
    ("peak/avg\nafter", lambda row: _number(row.peak_to_average_after, 2)),
    ("variance\nbefore", lambda row: _number(row.load_variance_before, 2)),
    ("variance\nafter", lambda row: _number(row.load_variance_after, 2)),
    ("import\nkWh", lambda row: _number(row.import_kwh)),
    ("export\nkWh", lambda row: _number(row.export_kwh)),
    ("reduced\nkWh", lambda row: _number(row.reduced_kwh)),
    ("self-suf-\nficiency", lambda row: _percent(row.self_sufficiency)),
)
SECTIONS = (("Welfare", WELFARE), ("Prices and incentive", PRICES), ("Load and energy", ENERGY))
NOTES = (
    "gains from trade: welfare beyond 'no market'; the share is of what the aggregator gains",
    "price gap: |market price - aggregator's break-even price|, over the mean of the latter",
    "cost: what the community pays upstream per kWh of load",
    "phantom: paid reductions of demand unwanted at the market price, and what they earned",
    "short: hours with a shortage; DR > pi: those in which the DR price exceeds the market price",
    "before and after: stage 2; variance: of the total load over the hours, in kWh²",
    "self-sufficiency: share of the load that was not imported",
    "beyond truthful bidding: the difference within the same episodes, mean and its 95 % interval",
    "all but 'largest' are means per episode; ± is the 95 % interval over episodes; n/a: not defined",
)
SEEDS_NOTE = "of a policy with several seeds: mean over its seeds, ± is the 95 % interval over them (Student's t)"
# What the operator's account gains or loses, in the words of the market; the sign is the operator's.
_OPERATOR_FLOWS = (
    ("import", 1, "sold at the import price"),
    ("export", -1, "bought at the export price"),
    ("reduction", -1, "reductions paid"),
    ("shortfall", 1, "shortfall of generation sold"),
    ("surplus", -1, "surplus of generation bought"),
    ("penalty", 1, "penalties"),
    ("interest", 1, "interest of the credit bank"),
    ("upstream_import", -1, "upstream import"),
    ("upstream_export", 1, "upstream export"),
)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def _number_column(table: Table, heading: str) -> None:
    # a digit that does not fit goes to the next line; an ellipsis would lose it
    table.add_column(heading, justify="right", overflow="fold")


def table_of(title: str, columns: Sequence[tuple[str, Cell]], rows: Sequence[Row]) -> Table:
    """One rich table, a line per row."""
    table = _table(title)
    table.add_column("", no_wrap=True)
    for heading, _ in columns:
        _number_column(table, heading)
    for row in rows:
        table.add_row(row.name, *(cell(row) for _, cell in columns))
    return table


def operator_table(title: str, rows: Sequence[Row]) -> Table:
    """The operator's account flow by flow, in tokens, a column per policy; a plus is an income."""
    shown = [row for row in rows if row.operator_flows_tok]
    table = _table(title)
    table.add_column("", no_wrap=True)
    for row in shown:
        _number_column(table, row.name)
    for name, sign, words in _OPERATOR_FLOWS:
        amounts = [row.operator_flows_tok.get(name, 0.0) for row in shown]
        if any(amounts) or name != "interest":
            table.add_row(words, *(_number(sign * amount) for amount in amounts))
    table.add_section()
    table.add_row("balance", *(_number(row.operator_tok) for row in shown))
    return table


def print_rows(console: Console, rows: Sequence[Row], of: str) -> None:
    """All tables of some rows; `of` ends their titles."""
    for title, columns in SECTIONS:
        console.print(table_of(f"{title}, {of}", columns, rows))
        if columns is WELFARE and any(row.name == "truthful" for row in rows):
            console.print(paired_table("Welfare beyond truthful bidding", rows))
    if any(row.operator_flows_tok for row in rows):
        console.print(operator_table(f"Operator's account in tokens, {of}", rows))


def seeds_table(title: str, rows: Mapping[int, Row]) -> Table:
    """One line per training seed: what its policy reached in the same episodes."""
    table = _table(title)
    table.add_column("seed", justify="right")
    for heading, _ in WELFARE:
        _number_column(table, heading)
    for seed, row in rows.items():
        table.add_row(str(seed), *(cell(row) for _, cell in WELFARE))
    return table


def paired_table(title: str, rows: Sequence[Row], beside: str = "truthful") -> Table:
    """Welfare beyond that of one row, with the 95 % interval of the difference within the episodes they share.

    Prices and weather differ between episodes more than policies do, so this tells apart what the intervals of the
    shares cannot.
    """
    base = next(row for row in rows if row.name == beside)
    table = _table(title)
    table.add_column("", no_wrap=True)
    for heading in ("difference\ntoken", "95 % interval\n±", "episodes\nbetter"):
        _number_column(table, heading)
    for row in rows:
        if row is base or len(row.welfare_by_lane_tok) != len(base.welfare_by_lane_tok):
            continue
        gain = np.array(row.welfare_by_lane_tok) - np.array(base.welfare_by_lane_tok)
        mean, width = mean_and_interval(gain)
        half = _number(width) if gain.size > 1 else "n/a"
        table.add_row(row.name, _number(mean), half, f"{int((gain > 0).sum())} of {gain.size}")
    return table


def print_notes(console: Console, seeds: int = 0) -> None:
    """What the columns mean; `seeds`: of the policy with most of them."""
    for note in (*NOTES, *((SEEDS_NOTE,) if seeds > 1 else ())):
        console.print(note, style="dim", highlight=False, markup=False)


def print_comparison(console: Console, results: Mapping[str, Sequence[Row]]) -> None:
    """All tables of all readings of the demand-response incentive, and what their columns mean."""
    for reading, rows in results.items():
        print_rows(console, rows, f"dr_settlement = {reading}")
    if results:
        print_notes(console)


def write_metrics(path: Path, results: Mapping[str, Sequence[Row]]) -> None:
    """metrics.csv: every number of every row, one line per reading and row; empty where not defined."""
    names = [item.name for item in fields(Row) if item.name not in ("operator_flows_tok", "welfare_by_lane_tok")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        kinds = (*FLOW_NAMES, "interest")
        writer.writerow(["dr_settlement", *names, *(f"operator_{name}_tok" for name in kinds)])
        for reading, rows in results.items():
            for row in rows:
                values = without_nan(asdict(row))
                flows = [row.operator_flows_tok.get(name, "") for name in kinds]
                writer.writerow([reading, *(values[name] for name in names), *flows])
