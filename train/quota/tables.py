"""Tables of a comparison in EVQuota, on the terminal and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.table import Table

from gridmarl.train.quota.over_use import OverUseRow, OverUseTable
from gridmarl.train.quota.rows import Deviation, QuotaRow

Row = TypeVar("Row")
Columns = tuple[tuple[str, Callable[[Row], str]], ...]


def print_rows(console: Console, rows: Sequence[QuotaRow]) -> None:
    """The tables, and what their columns mean."""
    for title, columns in _TABLES:
        console.print(_table(title, columns, [(row.name, row) for row in rows]))
    for note in _NOTES:
        console.print(f"  {note}", highlight=False)


def write_rows(path: Path, rows: Sequence[QuotaRow] | Sequence[OverUseRow]) -> None:
    """Every number of every row, of which there is one at least."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(rows[0])], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def _number(value: float | None, digits: int = 1) -> str:
    return "n/a" if value is None else f"{value:,.{digits}f}"


def _gain(mean: float | None, width: float | None) -> str:
    return "n/a" if mean is None else f"{mean:,.1f} ± {width:,.1f}"


def _share(row: QuotaRow) -> str:
    if row.gains_share is None:
        return "n/a"
    text = f"{100 * row.gains_share:,.1f}"
    return f"{text} ± {100 * row.gains_share_interval:,.1f} %" if row.gains_share_interval else f"{text} %"


_ENERGY: Columns[QuotaRow] = (
    ("delivered\nkWh", lambda row: _number(row.delivered_kwh)),
    ("unserved\nkWh", lambda row: _number(row.unserved_kwh)),
    ("overload\nhalf hours", lambda row: _number(row.overload_half_hours)),
    ("overload\nkWh", lambda row: _number(row.overload_kwh)),
)
_QUOTAS: Columns[QuotaRow] = (
    ("scarce\nhalf hours", lambda row: _number(row.scarce_half_hours)),
    ("traded\nkWh", lambda row: _number(row.traded_kwh)),
    ("over-declared\nkWh", lambda row: _number(row.over_declared_kwh)),
    ("over-used\nkWh", lambda row: _number(row.over_used_kwh)),
)
_MONEY: Columns[QuotaRow] = (
    ("welfare\ntoken", lambda row: _number(row.welfare_tok, 0)),
    ("gains\nshare, 95 % int.", _share),
    ("stations\ntoken", lambda row: _number(row.reward_tok, 0)),
)
_BILLS: Columns[QuotaRow] = (
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


def _table(title: str, columns: Columns[Row], rows: Sequence[tuple[str, Row]]) -> Table:
    """Each row with its name."""
    table = Table("", title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for name, row in rows:
        table.add_row(name, *(cell(row) for _, cell in columns))
    return table


def print_over_use(console: Console, found: OverUseTable) -> None:
    """Both tables of over-use against the penalty rate, and from which rate on complying pays."""
    rows = [(row.policy, row) for row in found.rows]
    for title, columns in _OVER_USE:
        console.print(_table(title, (_RATE, *columns), rows))
    alone, together = (_number(rate, 0) for rate in (found.alone_from, found.all_from))
    for note in (
        "complying: patient stations; over-use: beyond the quota, too, where a Wh is worth more than that",
        f"no Wh can be worth more than {found.bound:,.1f} token/kWh; in these days none is worth more than",
        f"{found.ends:,.1f}; of the rates above, over-using brings nothing to one station alone from {alone} on,",
        f"and nothing to all of them together from {together} on",
    ):
        console.print(f"  {note}", highlight=False)


_RATE = ("penalty rate\ntoken/kWh", lambda row: _number(row.rate_tok_per_kwh, 0))
_OVER_USE: tuple[tuple[str, Columns[OverUseRow]], ...] = (
    (
        "Over-use against the penalty rate",
        (
            ("over-used\nkWh", lambda row: _number(row.over_used_kwh, 2)),
            ("overload\nhalf hours", lambda row: _number(row.overload_half_hours, 2)),
            ("overload\nkWh", lambda row: _number(row.overload_kwh, 2)),
            ("unserved\nkWh", lambda row: _number(row.unserved_kwh, 2)),
        ),
    ),
    (
        "Its money, token per day",
        (
            ("penalties", lambda row: _number(row.penalty_tok, 0)),
            ("welfare", lambda row: _number(row.welfare_tok, 0)),
            ("stations", lambda row: _number(row.stations_tok, 0)),
            ("DSO's\nincome", lambda row: _number(row.dso_income_tok, 0)),
            ("one alone\ngains", lambda row: _gain(row.alone_gain_tok, row.alone_interval_tok)),
        ),
    ),
)


def deviations_table(found: list[Deviation]) -> Table:
    title = "One station declares the most it may, the others truthfully"
    heads = ("terms", "it gains, token/day", "over-declared kWh/day")
    table = Table(*heads, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in found:
        table.add_row(row.terms, _gain(row.gain_tok, row.interval_tok), _number(row.over_declared_kwh))
    return table
