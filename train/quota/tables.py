"""Tables of a comparison in EVQuota, on the terminal and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from gridmarl.train.quota.rows import Deviation, QuotaRow

Columns = tuple[tuple[str, Callable[[QuotaRow], str]], ...]


def print_rows(console: Console, rows: Sequence[QuotaRow]) -> None:
    """The tables, and what their columns mean."""
    for title, columns in _TABLES:
        console.print(_rows_table(title, columns, rows))
    for note in _NOTES:
        console.print(f"  {note}", highlight=False)


def write_rows(path: Path, rows: Sequence[QuotaRow]) -> None:
    """Every number of every row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(QuotaRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def _number(value: float | None, digits: int = 1) -> str:
    return "n/a" if value is None else f"{value:,.{digits}f}"


def _share(row: QuotaRow) -> str:
    if row.gains_share is None:
        return "n/a"
    text = f"{100 * row.gains_share:,.1f}"
    return f"{text} ± {100 * row.gains_share_interval:,.1f} %" if row.gains_share_interval else f"{text} %"


_ENERGY: Columns = (
    ("delivered\nkWh", lambda row: _number(row.delivered_kwh)),
    ("unserved\nkWh", lambda row: _number(row.unserved_kwh)),
    ("overload\nhalf hours", lambda row: _number(row.overload_half_hours)),
    ("overload\nkWh", lambda row: _number(row.overload_kwh)),
)
_QUOTAS: Columns = (
    ("scarce\nhalf hours", lambda row: _number(row.scarce_half_hours)),
    ("traded\nkWh", lambda row: _number(row.traded_kwh)),
    ("over-declared\nkWh", lambda row: _number(row.over_declared_kwh)),
    ("over-used\nkWh", lambda row: _number(row.over_used_kwh)),
)
_MONEY: Columns = (
    ("welfare\ntoken", lambda row: _number(row.welfare_tok, 0)),
    ("gains\nshare, 95 % int.", _share),
    ("stations\ntoken", lambda row: _number(row.reward_tok, 0)),
)
_BILLS: Columns = (
    ("fee", lambda row: _number(row.fee_per_station_tok, 0)),
    ("penalty", lambda row: _number(row.penalty_per_station_tok, 0)),
    ("bill", lambda row: _number(row.bill_per_station_tok, 0)),
    ("lowest bill", lambda row: _number(row.least_bill_tok, 0)),
    ("highest bill", lambda row: _number(row.most_bill_tok, 0)),
)
_TABLES = (
    ("Energy and load", _ENERGY),
    ("Quotas", _QUOTAS),
    ("Money", _MONEY),
    ("Bills per station, token", _BILLS),
)
_NOTES = (
    "all figures are means per day; uncoordinated stations may charge beyond their quotas",
    "welfare: value of delivered energy less fees and the cost of unserved energy",
    "gains: welfare beyond 'no trade'; the share is of what the coordinator gains",
    "stations: welfare less penalties; penalty: forfeited deposits included",
    "bill: fee, penalty, and payments for quota less income from it (which cancel out in the mean)",
)


def _rows_table(title: str, columns: Columns, rows: Sequence[QuotaRow]) -> Table:
    table = Table("", title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.name, *(cell(row) for _, cell in columns))
    return table


def deviations_table(found: list[Deviation]) -> Table:
    title = "One station declares the most it may, the others truthfully"
    heads = ("terms", "it gains, token/day", "over-declared kWh/day")
    table = Table(*heads, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in found:
        table.add_row(row.terms, f"{row.gain_tok:,.1f} ± {row.interval_tok:,.1f}", _number(row.over_declared_kwh))
    return table
