"""All that a report shows, gathered from run folders and from playing their policies once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gridmarl.train.compare_runs import play_policies
from gridmarl.train.deviations.table import NOTES as EXPLOITABILITY_NOTES
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.options import MarketOptions, check_range
from gridmarl.train.policies import Policies, load_policies
from gridmarl.train.report.figures import Curves
from gridmarl.train.report.parts import HourPart, OutcomePart, Parts, Played
from gridmarl.train.report.play import choose_hours, watch, with_policies
from gridmarl.train.report.reproduce import compare_command, provenance, settings_tables, train_command
from gridmarl.train.report.source import (
    SUMMARY_FILE,
    Comparison,
    Levels,
    Outcome,
    Sources,
    run_levels,
    seeds_with_policy,
    state_of,
)
from gridmarl.train.report.svg import Picture
from gridmarl.train.report.tables import (
    Cells,
    LedgerCheck,
    balance_cells,
    counted,
    energy_table,
    exploitability_cells,
    ledger_table,
)
from gridmarl.train.runs import Kept, Run, load_run
from gridmarl.train.stage_bar import stage_bar
from gridmarl.train.tables import NOTES, SEEDS_NOTE
from gridmarl.train.train_options import Train

LEDGER_FILE = "ledger.bin"
PLAYED = "Played for this page"
"""Name of the runs' outcome, where there are others beside it."""


@dataclass(frozen=True)
class Origin:
    """How one folder came to be: a command, and what ran on which data."""

    name: str
    command: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Content:
    """What the page's template is filled with."""

    title: str
    sentence: str
    notes: Sequence[str]
    outcomes: Sequence[OutcomePart]
    learning: Picture | None
    hours: Sequence[HourPart]
    hours_of: str
    balances: Picture | None
    balance_table: Cells | None
    exploitability: Cells | None
    ledgers: Sequence[LedgerCheck]
    ledger_table: Cells | None
    ledger_energy: Cells | None
    ledger_note: str
    diagnostics: Picture | None
    settings: tuple[Cells, Cells] | None
    origins: Sequence[Origin]
    column_notes: Sequence[str]


@dataclass
class Wanted:
    """What the command line asks for beyond the folders."""

    market: MarketOptions
    lanes: int | None = None
    hours: Sequence[int] = ()
    kept: Kept = "last"


def gather(sources: Sources, wanted: Wanted) -> Content:
    """Play, verify, draw.

    Raises:
        ConfigError: runs of different markets, or an hour that there is not.
        DataError: a file that cannot be read; names it and the field.
    """
    runs, comparisons = sources.runs, sources.comparisons
    notes = [note for run in runs for note in state_of(run)]
    notes += [f"{item.name} was interrupted." for item in comparisons if item.summary.get("interrupted")]
    policies = load_policies(wanted.market, [run.folder for run in runs], wanted.kept) if runs else None
    named = dict(zip((item.name for item in policies.contenders), runs, strict=True)) if policies else {}
    played = play_runs(policies, named, wanted) if policies else None
    outcomes = [replace(played.outcome, name=PLAYED if comparisons else "")] if played else []
    outcomes += [_named(outcome, item, len(sources.runs)) for item in comparisons for outcome in item.outcomes()]
    curves, levels = _curves(named, comparisons, wanted, notes)
    exploitability = _exploitability(named, comparisons)
    episodes = _evaluated(named, policies if played else None)
    parts = Parts(outcomes, played, curves, levels, episodes, _ledger_files(named, comparisons))
    with stage_bar("figures and ledgers", parts.count, "parts", wanted.market.progress) as advance:
        return Content(
            title=", ".join([*named, *(item.name for item in comparisons)]),
            sentence=_sentence(policies, comparisons, outcomes),
            notes=notes,
            outcomes=parts.outcomes(advance),
            learning=parts.learning(advance),
            hours=parts.hours(advance),
            hours_of=played.views[1].label if played else "",
            balances=parts.balances(advance),
            balance_table=balance_cells(played.views) if played else None,
            exploitability=exploitability,
            ledgers=(checks := parts.ledgers(advance)),
            ledger_table=ledger_table(checks) if checks else None,
            ledger_energy=energy_table(checks),
            ledger_note=_ledger_note(named),
            diagnostics=parts.diagnostics(advance),
            settings=settings_tables(named) if named else None,
            origins=_origins(named, comparisons),
            column_notes=_column_notes(outcomes, exploitability is not None),
        )


def _origins(named: Mapping[str, Run], comparisons: Sequence[Comparison]) -> list[Origin]:
    made = [Origin(name, train_command(run), provenance(asdict(run.config))) for name, run in named.items()]
    return made + [Origin(item.name, *compare_command(item)) for item in comparisons]


def _column_notes(outcomes: Sequence[Outcome], exploitability: bool) -> list[str]:
    several = any(len(seeds) > 1 for outcome in outcomes for seeds in outcome.by_seed.values())
    return [*NOTES, *((SEEDS_NOTE,) if several else ()), *(EXPLOITABILITY_NOTES if exploitability else ())]


def play_runs(policies: Policies, named: Mapping[str, Run], wanted: Wanted) -> Played | None:
    """The comparison of `gridmarl evaluate` with the policies that there are, and a look at their first episode."""
    contenders = [
        kept
        for contender in policies.contenders
        if (kept := with_policies(contender, seeds_with_policy(named[contender.name]))) is not None
    ]
    if not contenders:
        return None
    for hour in wanted.hours:
        check_range("hours", hour, 0, policies.params.horizon_hours - 1)
    first = next(iter(named.values()))
    lanes = wanted.lanes or int(first.config.options.get("eval_lanes", Train.eval_lanes))
    policies = replace(policies, contenders=tuple(contenders))
    contest = play_policies(policies, lanes, None, heuristics=("truthful",))
    truthful = contest.reference.truthful
    outcome = Outcome(
        name="",
        rows=contest.rows,
        profiles=contest.profiles,
        by_seed=contest.by_seed,
        lanes=lanes,
        upstream=(truthful.import_price.mean(1), truthful.export_price.mean(1)),
    )
    views = [watch(policies, contender, lanes) for contender in contenders]
    break_even = contest.reference.benchmarks.first_best[0].break_even_price_utok_per_wh
    hours = choose_hours(views[0].markets, break_even, wanted.hours)
    return Played(outcome, [watch(policies, None, lanes), *views], hours)


def _named(outcome: Outcome, comparison: Comparison, others: int) -> Outcome:
    """With the comparison's name, where there is more than one thing to see."""
    name = f"{comparison.name}: {outcome.name}" if outcome.name else comparison.name
    return replace(outcome, name=name if others or outcome.name else "")


def _curves(
    named: Mapping[str, Run], comparisons: Sequence[Comparison], wanted: Wanted, notes: list[str]
) -> tuple[Curves, Levels]:
    """Metrics of every run, and the levels of the references where all had the same evaluations."""
    runs = dict(named)
    for item in comparisons:
        for path in map(Path, item.config.get("policies", ())):
            if path.is_dir():
                runs.setdefault(path.resolve().name, load_run(path))
            elif path.suffix != ".zip":
                notes.append(f"{item.name}: {path} is not there any more, so its learning curve is not shown.")
    curves = {name: [seed.metrics for seed in run.seeds] for name, run in runs.items()}
    curves |= {name: [read_metrics(path)] for item in comparisons for name, path in item.training_folders().items()}
    found = [run_levels(run, wanted.market) for run in runs.values()]
    if any(levels != found[0] for levels in found):
        notes.append("The runs were evaluated on different episodes while training: their curves have no common lines.")
        return curves, {"gains_share": {"optimum": 1.0, "no market": 0.0}}
    return curves, found[0] if found else {}


def _evaluated(named: Mapping[str, Run], policies: Policies | None) -> str:
    """Which episodes the learning curves are of, and that the table's are others."""
    seeds = {run.config.eval_seed for run in named.values() if run.config.eval_interval}
    lanes = {run.config.options.get("eval_lanes", Train.eval_lanes) for run in named.values()}
    if len(seeds) != 1 or len(lanes) != 1:
        return ""
    told = f"Evaluated on {counted(int(lanes.pop()), 'validation episode')} (seed {seeds.pop()}), the same every time"
    if policies is None:
        return f"{told}."
    return (
        f"{told}; the verdict is on other episodes (seed {policies.eval_seed}), whose prices and weather leave other "
        "shares to gain, so the two differ."
    )


def _exploitability(named: Mapping[str, Run], comparisons: Sequence[Comparison]) -> Cells | None:
    tables = []
    for name, folder, summary in (
        *((name, run.folder, run.summary) for name, run in named.items()),
        *((item.name, item.folder, item.summary) for item in comparisons),
    ):
        found = summary.get("exploitability") or {}
        direct = isinstance(found, dict) and "totals" in found
        where = f"{folder / SUMMARY_FILE}: exploitability"
        tables.append(exploitability_cells({name: found} if direct else found, where))
    kept = [table for table in tables if table is not None]
    return replace(kept[0], lines=[line for table in kept for line in table.lines]) if kept else None


def _seed_folders(named: Mapping[str, Run]) -> dict[str, Path]:
    """The folder of each seed, by what a table calls it."""
    return {
        f"{name}, seed {seed.seed}" if len(run.seeds) > 1 else name: seed.folder
        for name, run in named.items()
        for seed in run.seeds
    }


def _ledger_files(named: Mapping[str, Run], comparisons: Sequence[Comparison]) -> dict[str, Path]:
    files = {name: folder / LEDGER_FILE for name, folder in _seed_folders(named).items()}
    files |= {f"{item.name}, {path.name}": path for item in comparisons for path in item.ledgers()}
    return {name: path for name, path in files.items() if path.is_file()}


def _ledger_note(named: Mapping[str, Run]) -> str:
    without = [name for name, folder in _seed_folders(named).items() if not (folder / LEDGER_FILE).is_file()]
    return f"No ledger: {'; '.join(without)}." if without else ""


def _sentence(policies: Policies | None, comparisons: Sequence[Comparison], outcomes: Sequence[Outcome]) -> str:
    params = policies.params.to_dict() if policies else dict(comparisons[0].config.get("params", {}))
    scenario = policies.scenario.name if policies else str(comparisons[0].summary.get("scenario", "not known"))
    market = (
        f"Learned bidding in a local electricity market with two-stage demand response: "
        f"{params.get('num_prosumers', '?')} prosumers, episodes of {params.get('horizon_hours', '?')} hours, "
        f"scenario {scenario}"
    )
    if not outcomes or not outcomes[0].lanes:
        return f"{market}."
    return (
        f"{market}; judged on {counted(outcomes[0].lanes, 'held-out episode')} beside truthful bidding, no market, "
        "and the aggregator: a central planner with full knowledge, the optimum."
    )
