"""The report of the two-stage market: gathered from run folders and from playing their policies once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gridmarl.train.compare_runs import play_policies
from gridmarl.train.contest import reference
from gridmarl.train.deviations.table import NOTES as EXPLOITABILITY_NOTES
from gridmarl.train.evaluation import levels_of
from gridmarl.train.options import check_range
from gridmarl.train.policies import Policies, load_policies
from gridmarl.train.report.blocks import Cells, Content
from gridmarl.train.report.learning import MARKET_AXES, gather_curves
from gridmarl.train.report.ledgers import ledger_files, ledger_section, warnings_of, without_ledger
from gridmarl.train.report.market_sections import (
    VERDICT_REMARK,
    balances_section,
    exploitability_section,
    loads_section,
    markets_section,
    prices_section,
    results_section,
)
from gridmarl.train.report.parts import Parts, Played
from gridmarl.train.report.play import choose_hours, watch, with_policies
from gridmarl.train.report.sections import (
    diagnostics_section,
    evaluated_on,
    learning_section,
    notes_on,
    reproduce_section,
    settings_section,
)
from gridmarl.train.report.source import (
    SUMMARY_FILE,
    Comparison,
    Levels,
    Outcome,
    Sources,
    Wanted,
    run_levels,
    seeds_with_policy,
)
from gridmarl.train.report.tables import WORDS, exploitability_cells, judged
from gridmarl.train.report.verdict import counted, verdict_section
from gridmarl.train.runs import Run
from gridmarl.train.stage_bar import stage_bar
from gridmarl.train.tables import NOTES, SEEDS_NOTE
from gridmarl.train.train_options import Train

PLAYED = "Played for this page"
"""Name of the runs' outcome, where there are others beside it."""
_OTHER_EPISODES = "whose prices and weather leave other shares to gain"


def gather(sources: Sources, wanted: Wanted) -> Content:
    """Play, verify, draw.

    Raises:
        ConfigError: runs of different markets, or an hour that there is not.
        DataError: a file that cannot be read; names it and the field.
    """
    runs, comparisons = sources.runs, sources.comparisons
    notes = notes_on(runs, comparisons)
    policies = load_policies(wanted.market, [run.folder for run in runs], wanted.kept) if runs else None
    named = dict(zip((item.name for item in policies.contenders), runs, strict=True)) if policies else {}
    played = play_runs(policies, named, wanted) if policies else None
    outcomes = [replace(played.outcome, name=PLAYED if comparisons else "")] if played else []
    outcomes += [_named(outcome, item, len(sources.runs)) for item in comparisons for outcome in item.outcomes()]
    common: Levels = {"gains_share": {"optimum": 1.0, "no market": 0.0}}
    learned = gather_curves(named, comparisons, lambda run: _levels(run, wanted), common, notes)
    exploitability = _exploitability(named, comparisons)
    episodes = evaluated_on(list(named.values()), policies.eval_seed if policies and played else None, _OTHER_EPISODES)
    parts = Parts(outcomes, played, learned.curves, learned.levels, episodes, _ledger_files(named, comparisons))
    with stage_bar("figures and ledgers", parts.count, "parts", wanted.market.progress) as advance:
        shown, learning, hours = parts.outcomes(advance), parts.learning(advance), parts.hours(advance)
        balances, checks, diagnostics = parts.balances(advance), parts.ledgers(advance), parts.diagnostics(advance)
    sections = [
        prices_section(shown) if shown else None,
        loads_section(shown) if shown else None,
        markets_section(hours, played.views[1].label) if played and hours else None,
        balances_section(balances, played.views if played else (), shown) if shown else None,
        results_section(shown, _column_notes(outcomes, exploitability is not None)) if shown else None,
        exploitability_section(exploitability) if exploitability else None,
        ledger_section(checks, without_ledger(named)),
        diagnostics_section(diagnostics) if diagnostics else None,
        reproduce_section(named, comparisons, wanted.command),
        settings_section(named) if named else None,
    ]
    return Content(
        title=", ".join([*named, *(item.name for item in comparisons)]),
        sentence=_sentence(policies, comparisons, outcomes),
        notes=notes,
        first=[
            verdict_section([(outcome.name, judged(outcome)) for outcome in outcomes], WORDS, VERDICT_REMARK),
            learning_section(learning),
        ],
        sections=[section for section in sections if section is not None],
        warnings=warnings_of(checks),
    )


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


def _levels(run: Run, wanted: Wanted) -> Levels:
    def work_out() -> dict[str, Any]:
        given = wanted.market
        options = run.options(device=given.device, threads=given.threads, progress=given.progress)
        lanes = int(run.config.options.get("eval_lanes", Train.eval_lanes))
        found = reference(options, run.params, options.training_scenario(), lanes, run.config.eval_seed)
        return levels_of(found.truthful, found.benchmarks).to_dict()

    return run_levels(run, [unit for _, unit, _ in MARKET_AXES.panels], work_out)


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


def _ledger_files(named: Mapping[str, Run], comparisons: Sequence[Comparison]) -> dict[str, Path]:
    files = {f"{item.name}, {path.name}": path for item in comparisons for path in item.ledgers()}
    return ledger_files(named) | {name: path for name, path in files.items() if path.is_file()}


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
