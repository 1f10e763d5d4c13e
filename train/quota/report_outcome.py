"""What a report says of policies that played the same days of EVQuota: verdict, tables, accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from gridmarl.envs.ev_quota.scenario import default_ev_scenario
from gridmarl.errors import DataError
from gridmarl.train.markets import market_entry
from gridmarl.train.quota.contest import QuotaContest
from gridmarl.train.quota.market import ENV
from gridmarl.train.quota.report_play import PlayedDays
from gridmarl.train.quota.rows import QuotaRow
from gridmarl.train.quota.tables import print_rows
from gridmarl.train.report.blocks import Block, Bullets, Cells, Folded, Table, from_rich, named
from gridmarl.train.report.source import SUMMARY_FILE, Comparison
from gridmarl.train.report.verdict import Judged, Words
from gridmarl.train.tables import SEEDS_NOTE
from gridmarl.units import UTOK_PER_TOKEN

WORDS = Words("truthful stations", "share of the gains", "day")
VERDICT_REMARK = (
    "Gains: welfare beyond allocation without trade; the share is of what the coordinator gains. ± is the half-width "
    "of a 95 % interval: over days, or over seeds where a policy has several. Beyond truthful: the difference within "
    "the same days, and its interval over them."
)


@dataclass(frozen=True)
class QuotaOutcome:
    """Policies that played the same days.

    Attributes:
        name: tells several outcomes of a page apart.
        rows: of several seeds their mean, and after it a row of each.
        means: rows of the verdict, by the name that curves and loads have.
        welfare_tok: of each day, by that name; empty where it was not kept.
        lanes: days; 0: not known.
    """

    name: str
    rows: Sequence[QuotaRow]
    means: Mapping[str, QuotaRow]
    load_kwh: Mapping[str, Sequence[float]]
    margin_kwh: Sequence[float]
    welfare_tok: Mapping[str, Sequence[float]]
    lanes: int
    start_slot: int

    @property
    def trained(self) -> list[str]:
        """Names that are no reference's."""
        return [name for name in self.means if name not in market_entry(ENV).references]


def played_outcome(contest: QuotaContest, name: str) -> QuotaOutcome:
    """Of runs that were played for the page."""
    seeds = {key: len(found) for key, found in contest.by_seed.items()}
    return QuotaOutcome(
        name=name,
        rows=contest.all_rows,
        means=_means(contest.rows, seeds),
        load_kwh=contest.load_kwh,
        margin_kwh=contest.margin_kwh,
        welfare_tok=contest.welfare_tok,
        lanes=contest.held_out.lanes,
        start_slot=contest.held_out.market.scenario.start_slot,
    )


def compared_outcome(item: Comparison, name: str) -> QuotaOutcome:
    """Of the folder of a comparison.

    Raises:
        DataError: summary.json does not hold what a comparison writes; names the field.
    """
    summary = item.summary
    where = item.folder / SUMMARY_FILE
    rows = [_row(where, "rows", values) for values in summary.get("rows", ())]
    by_seed = {
        key: [_row(where, "rows_by_seed", values) for values in found.values()]
        for key, found in _object(where, "rows_by_seed", summary.get("rows_by_seed", {})).items()
    }
    means = _means(rows, {key: len(found) for key, found in by_seed.items()})
    shown = [one for key, row in means.items() for one in (row, *_apart(by_seed.get(key, ())))]
    welfare = _object(where, "welfare_by_day_tok", summary.get("welfare_by_day_tok", {}))
    return QuotaOutcome(
        name=name,
        rows=shown,
        means=means,
        load_kwh=_object(where, "load_kwh", summary.get("load_kwh", {})),
        margin_kwh=summary.get("margin_kwh", []),
        welfare_tok=welfare,
        lanes=max((len(days) for days in welfare.values()), default=0),
        start_slot=default_ev_scenario(int(item.config.get("params", {}).get("num_stations", 1))).start_slot,
    )


def _means(rows: Sequence[QuotaRow], seeds: Mapping[str, int]) -> dict[str, QuotaRow]:
    shown = {f"{name} ({count} seeds)": name for name, count in seeds.items() if count > 1}
    return {shown.get(row.name, row.name): row for row in rows}


def _apart(seeds: Sequence[QuotaRow]) -> Sequence[QuotaRow]:
    return seeds if len(seeds) > 1 else ()


def _row(where: Any, field: str, values: Any) -> QuotaRow:
    try:
        return QuotaRow(**values)
    except TypeError as error:
        raise DataError(f"{where}: {field}: {error}; allowed is a row as this version writes them") from error


def _object(where: Any, field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: {field}: {type(value).__name__}; allowed is an object")
    return value


def judged(outcome: QuotaOutcome) -> list[Judged]:
    """The rows, as the verdict needs them."""
    return [
        Judged(row.name, _share(row), row.welfare_tok, outcome.welfare_tok.get(name, ()), name in outcome.trained)
        for name, row in outcome.means.items()
    ]


def _share(row: QuotaRow) -> str:
    if row.gains_share is None:
        return "n/a"
    width = f" ± {100 * row.gains_share_interval:,.1f}" if row.gains_share_interval else ""
    return f"{100 * row.gains_share:,.1f}{width} %"


class _Gathered(Console):
    """Keeps the tables and notes that would be printed."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[RichTable] = []
        self.notes: list[str] = []

    def print(self, *items: Any, **_: Any) -> None:
        self.tables += [item for item in items if isinstance(item, RichTable)]
        self.notes += [item.strip() for item in items if isinstance(item, str)]


def result_blocks(outcomes: Sequence[QuotaOutcome]) -> list[Block]:
    """All columns of all rows, and what they mean."""
    blocks: list[Block] = []
    notes: list[str] = []
    for outcome in outcomes:
        gathered = _Gathered()
        print_rows(gathered, outcome.rows)
        blocks += named([Table(from_rich(table)) for table in gathered.tables], outcome.name)
        notes = gathered.notes
        if len(outcome.rows) > len(outcome.means):
            notes.append(SEEDS_NOTE)
    return [*blocks, Folded("What the columns mean", [Bullets(notes)])]


def balance_cells(views: Sequence[PlayedDays]) -> Cells:
    """Where the money is at the end of a day, by kind of account, and that it adds up."""
    lines = []
    for view in views:
        mean = view.change_utok.mean(1) / UTOK_PER_TOKEN
        shown = (mean[:-1].sum(), mean[:-1].min(), mean[:-1].max(), mean[-1])
        lines.append((view.label, *(f"{value:,.1f}" for value in shown), f"{view.residual_utok} µtok"))
    columns = ("policy", "stations, sum", "least", "most", "DSO", "residual")
    return Cells("Change of all accounts over a day, token", columns, lines)
