"""Tables of a report: those of the terminal as plain cells, and the verdict in a table and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from gridmarl.errors import DataError, LedgerError
from gridmarl.ledger import verify
from gridmarl.metrics import mean_and_interval
from gridmarl.train.comparison import Row
from gridmarl.train.report.play import View
from gridmarl.train.report.source import REFERENCES, Outcome
from gridmarl.train.tables import ENERGY, PRICES, WELFARE, operator_table, seeds_table, table_of
from gridmarl.units import UTOK_PER_TOKEN

NOT_DEFINED = "n/a"


def counted(number: int, what: str) -> str:
    """A number and what it counts."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@dataclass(frozen=True)
class Cells:
    """A table of text; the first cell of a line is its heading.

    Attributes:
        left: columns that hold words, so are not aligned to the right.
        strong: lines to point out, by number.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    left: frozenset[int] = frozenset({0})
    strong: frozenset[int] = frozenset()


def from_rich(table: Table) -> Cells:
    """The same cells; headings that were broken to be narrow in a terminal are whole again."""
    headings = [str(column.header).replace("-\n", "").replace("\n", " ") for column in table.columns]
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    left = frozenset(index for index, column in enumerate(table.columns) if column.justify == "left")
    return Cells(str(table.title or ""), headings, list(zip(*columns, strict=True)), left | {0})


def verdict_table(outcome: Outcome) -> Cells:
    """One line per policy: share of the gains from trade, welfare, and what it is beyond truthful bidding."""
    share = next(cell for heading, cell in WELFARE if heading.startswith("gains from trade"))
    lines = []
    for row in outcome.rows:
        beyond = beyond_truthful(outcome.rows, row)
        difference = (str(beyond), f"{beyond.better} of {beyond.episodes}") if beyond else ("", "")
        lines.append((row.name, share(row), f"{row.welfare_tok:,.1f}", *difference))
    columns = ("policy", "share of the gains from trade", "welfare, token", "beyond truthful, token", "episodes better")
    strong = frozenset(index for index, row in enumerate(outcome.rows) if _is_trained(row))
    return Cells("", columns, lines, strong=strong)


@dataclass(frozen=True)
class Beyond:
    """Welfare beyond truthful bidding within the same episodes: mean, half-width of its 95 % interval, how often."""

    mean_tok: float
    width_tok: float
    better: int
    episodes: int

    def __str__(self) -> str:
        mean = f"{self.mean_tok:+,.1f}"
        mean = "0.0" if mean in ("+0.0", "-0.0") else mean
        return f"{mean} ± {self.width_tok:,.1f}" if self.episodes > 1 else mean


def beyond_truthful(rows: Sequence[Row], row: Row) -> Beyond | None:
    """None for truthful bidding itself, and where the episodes are not the same."""
    base = next((item for item in rows if item.name == "truthful"), None)
    if base is None or row is base or len(row.welfare_by_lane_tok) != len(base.welfare_by_lane_tok):
        return None
    gain = np.array(row.welfare_by_lane_tok) - np.array(base.welfare_by_lane_tok)
    if not gain.size:
        return None
    return Beyond(*mean_and_interval(gain), int((gain > 0).sum()), gain.size)


def verdict_sentences(outcome: Outcome) -> Iterator[str]:
    """For each trained policy, whether its welfare can be told apart from that of truthful bidding, and by how much."""
    for row in filter(_is_trained, outcome.rows):
        beyond = beyond_truthful(outcome.rows, row)
        if beyond is None:
            continue
        told = f"({beyond} token per episode; better in {beyond.better} of {counted(beyond.episodes, 'episode')})"
        if beyond.episodes < 2 or abs(beyond.mean_tok) <= beyond.width_tok:
            yield f"{row.name} cannot be told apart from truthful bidding {told}."
        else:
            more = "more" if beyond.mean_tok > 0 else "less"
            yield f"{row.name} reaches {more} welfare than truthful bidding {told}."


def _is_trained(row: Row) -> bool:
    return row.name not in REFERENCES


def result_tables(outcome: Outcome) -> Iterator[Cells]:
    """All columns of all rows, and the seeds of each trained policy."""
    for title, columns in (("Welfare", WELFARE), ("Prices and incentive", PRICES), ("Load and energy", ENERGY)):
        yield from_rich(table_of(title, columns, outcome.rows))
    for name, rows in outcome.by_seed.items():
        if len(rows) > 1:
            yield from_rich(seeds_table(f"{name} by seed", rows))


def operator_cells(outcome: Outcome) -> Cells | None:
    """The operator's account flow by flow; None where nobody traded."""
    if not any(row.operator_flows_tok for row in outcome.rows):
        return None
    return from_rich(operator_table("Operator's account, token per episode; a plus is an income", outcome.rows))


def balance_cells(views: Sequence[View]) -> Cells:
    """Where the money is at the end of an episode, by kind of account, and that it adds up."""
    lines = []
    for view in views:
        mean = view.change_utok.mean(1) / UTOK_PER_TOKEN
        kinds = (mean[:-3].sum(), *mean[-3:])
        lines.append((view.label, *(f"{value:,.1f}" for value in kinds), f"{view.residual_utok} µtok"))
    columns = ("policy", "prosumers, sum", "market", "operator", "upstream grid", "residual")
    return Cells("Change of all accounts over an episode, token", columns, lines)


@dataclass(frozen=True)
class LedgerCheck:
    """What `gridmarl ledger verify` says of a file now."""

    line: tuple[str, ...]
    ok: bool
    energy_wh: Mapping[str, int]

    COLUMNS = ("ledger", "verification", "blocks", "transactions", "residual", "head hash (BLAKE3)")


def check_ledger(name: str, path: Any) -> LedgerCheck:
    """Re-hash and replay one ledger file."""
    try:
        verdict = verify(path)
    except LedgerError as error:
        return LedgerCheck((name, f"NOT VERIFIED: {error}", *[NOT_DEFINED] * 4), False, {})
    state = "verified" if verdict.ok else f"NOT VERIFIED: {verdict.error or 'money was made or lost'}"
    counts = (f"{verdict.blocks:,}", f"{verdict.transactions:,}", f"{verdict.residual_utok} µtok")
    return LedgerCheck((name, state, *counts, verdict.head), verdict.ok, verdict.energy_totals)


def ledger_table(checks: Sequence[LedgerCheck]) -> Cells:
    """A line for each file."""
    return Cells("", LedgerCheck.COLUMNS, [item.line for item in checks], left=frozenset({0, 1, 5}))


def energy_table(checks: Sequence[LedgerCheck]) -> Cells | None:
    """What the replay of each file added up; None where there is nothing."""
    names = list(dict.fromkeys(name for item in checks for name in item.energy_wh))
    lines = [(item.line[0], *(f"{item.energy_wh.get(name, 0):,}" for name in names)) for item in checks]
    return Cells("", ("ledger", *names), lines) if names else None


def exploitability_cells(found: Mapping[str, Any], where: str) -> Cells | None:
    """A line per policy and method from what a summary.json holds under "exploitability"; None where it holds none.

    Args:
        found: results, each an object with "totals" by method; below any number of names.
        where: names the field in errors.

    Raises:
        DataError: totals without the numbers that belong to them.
    """
    lines: list[tuple[str, ...]] = []
    for name, totals in _totals(found, ()):
        for method, total in totals.items():
            try:
                lines.append((name, method, *_total_cells(total)))
            except (KeyError, TypeError, ValueError) as error:
                allowed = "allowed are totals as this version writes them"
                raise DataError(f"{where}: {name} {method}: {error!r}; {allowed}") from error
    columns = ("policy", "found by", "sum of gains, token", "mean, token", "greatest, token", "sum, share of profit")
    return Cells("", columns, lines, left=frozenset({0, 1})) if lines else None


def _totals(value: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(value, dict):
        return
    if isinstance(value.get("totals"), dict):
        yield ", ".join(names), value["totals"]
        return
    for name, inner in value.items():
        yield from _totals(inner, (*names, str(name)))


def _total_cells(total: Any) -> tuple[str, ...]:
    share = total["share_of_profit"]
    width = total["interval_tok"]
    summed = f"{total['nash_conv_tok']:,.1f}" + (f" ± {width:,.1f}" if width else "")
    percent = NOT_DEFINED if share is None else f"{100 * share:.2f} %"
    return summed, f"{total['mean_tok']:,.1f}", f"{total['max_tok']:,.1f}", percent
