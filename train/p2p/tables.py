"""Tables of the comparison of forms of local trade, on the terminal and as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Column, Table

from gridmarl.train.p2p.rows import P2PRow
from gridmarl.train.run_folder import without_nan

Columns = tuple[tuple[str, Callable[[P2PRow], str]], ...]


def print_rows(console: Console, rows: Sequence[P2PRow], sharing_rows: Sequence[P2PRow], notes: Sequence[str]) -> None:
    """The tables, what their columns mean, and notes on this comparison."""
    for title, columns, shown in (
        ("Cost and energy", _ENERGY, rows),
        ("Bills of the homes", _BILLS, rows),
        ("The community's bills by sharing rule", _BILLS, sharing_rows),
        ("Disclosed", _DISCLOSED, rows),
    ):
        table = Table(
            Column(no_wrap=True), title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1)
        )
        for heading, _ in columns:
            table.add_column(heading, justify="right")
        for row in shown:
            table.add_row(row.name, *(cell(row) for _, cell in columns))
        console.print(table)
    for note in (*_NOTES, *notes):
        console.print(f"  {note}", highlight=False, soft_wrap=True)


def write_rows(path: Path, rows: Sequence[P2PRow]) -> None:
    """Every number of every row; what is not defined is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(P2PRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(without_nan(asdict(row)) for row in rows)


def _number(value: float | None, digits: int = 1) -> str:
    if value is None or math.isnan(value):
        return "n/a"
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def _with_interval(value: float, width: float) -> str:
    return f"{_number(value)} ± {_number(width)}" if width else _number(value)


def _share(row: P2PRow) -> str:
    if row.gains_share is None:
        return "n/a"
    return _with_interval(100 * row.gains_share, 100 * (row.gains_share_interval or 0.0))


_ENERGY: Columns = (
    ("cost\ntoken", lambda row: _number(row.cost_tok)),
    ("saved\ntoken", lambda row: _with_interval(row.saved_tok, row.saved_interval_tok)),
    ("gains\nshare, %", _share),
    ("import\nkWh", lambda row: _number(row.import_kwh)),
    ("export\nkWh", lambda row: _number(row.export_kwh)),
    ("local\nkWh", lambda row: _number(row.local_kwh)),
    ("self-\nsuff., %", lambda row: _number(100 * row.self_sufficiency)),
    ("peak/\naverage", lambda row: _number(row.peak_to_average, 2)),
)
_BILLS: Columns = (
    ("price\ntok/kWh", lambda row: _number(row.local_price_tok_per_kwh, 2)),
    ("mean\ntoken", lambda row: _number(row.bill_tok)),
    ("least\nhome", lambda row: _number(row.least_bill_tok)),
    ("most\nhome", lambda row: _number(row.most_bill_tok)),
    ("mean\ndiff.", lambda row: _number(row.bill_difference_tok)),
    ("Gini", lambda row: _number(row.bill_gini, 3)),
    ("least gaining\nhome, token", lambda row: _with_interval(-row.worst_tok, row.worst_interval_tok)),
    ("homes\nworse off", lambda row: _number(row.worse_off_homes, 2)),
)
_DISCLOSED: Columns = (
    ("messages\nper hour", lambda row: _number(row.messages_per_hour)),
    ("numbers per\nhome and day", lambda row: _number(row.numbers_per_home_day)),
    ("hours\nahead", lambda row: str(row.hours_ahead)),
    ("known to", lambda row: row.known_to),
)
_NOTES = (
    "means per day; ±: half-widths of 95 % intervals over episodes",
    "saved: cost below 'no trade'; gains share: of the most that any form can save (a bound of the central planner)",
    "peak/average: of what the homes together draw from the grid",
    "price: of energy exchanged between homes; mean diff.: between two homes; Gini: n/a where a home earns",
    "least gaining home: what it saves against 'no trade'; homes worse off: those that pay more, per episode",
)
