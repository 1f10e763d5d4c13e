"""Tables of the two-stage market in a report: those of the terminal as plain cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gridmarl.errors import DataError
from gridmarl.train.report.blocks import Cells, from_rich
from gridmarl.train.report.play import View
from gridmarl.train.report.source import REFERENCES, Outcome
from gridmarl.train.report.verdict import Judged, Words
from gridmarl.train.tables import ENERGY, PRICES, WELFARE, operator_table, seeds_table, table_of
from gridmarl.units import UTOK_PER_TOKEN

NOT_DEFINED = "n/a"
WORDS = Words("truthful bidding", "share of the gains from trade", "episode")


def judged(outcome: Outcome) -> list[Judged]:
    """The rows, as the verdict needs them."""
    share = next(cell for heading, cell in WELFARE if heading.startswith("gains from trade"))
    return [
        Judged(row.name, share(row), row.welfare_tok, row.welfare_by_lane_tok, row.name not in REFERENCES)
        for row in outcome.rows
    ]


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
