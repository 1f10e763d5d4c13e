"""The report of EVQuota: gathered from run folders and from playing their policies once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gridmarl.train.figures import curve_colour
from gridmarl.train.options import check_range
from gridmarl.train.policies import Policies, load_policies
from gridmarl.train.quota.contest import QuotaContest, hold_quota
from gridmarl.train.quota.market import HeldOut, QuotaMarket, quota_scenario
from gridmarl.train.quota.report_figures import auction_picture, balances_picture, load_picture
from gridmarl.train.quota.report_outcome import (
    VERDICT_REMARK,
    WORDS,
    QuotaOutcome,
    balance_cells,
    compared_outcome,
    judged,
    played_outcome,
    result_blocks,
)
from gridmarl.train.quota.report_play import ChosenHalfHour, PlayedDays, choose_half_hours, watch, watch_truthful
from gridmarl.train.report.blocks import Block, Content, Figure, Paragraph, Section, Table, named
from gridmarl.train.report.learning import Learned, LearningAxes, diagnostics_picture, gather_curves, learning_picture
from gridmarl.train.report.ledgers import check_ledger, ledger_files, ledger_section, warnings_of, without_ledger
from gridmarl.train.report.play import with_policies
from gridmarl.train.report.sections import (
    diagnostics_section,
    evaluated_on,
    learning_section,
    notes_on,
    reproduce_section,
    settings_section,
)
from gridmarl.train.report.source import Comparison, Levels, Sources, Wanted, run_levels, seeds_with_policy
from gridmarl.train.report.verdict import counted, verdict_section
from gridmarl.train.runs import Run
from gridmarl.train.stage_bar import stage_bar
from gridmarl.train.train_options import Train

PLAYED = "Played for this page"
AXES = LearningAxes(
    panels=(
        ("eval_gains_share", "gains_share", "share of the gains"),
        ("eval_return", "reward_tok_per_station", "reward, token per station and day"),
    ),
    zero="no trade",
    one="coordinator",
)
_OTHER_DAYS = "whose vehicles leave other shares to gain"


@dataclass(frozen=True)
class _Played:
    """Runs that could play, and what they did."""

    contest: QuotaContest
    views: Sequence[PlayedDays]
    chosen: Sequence[ChosenHalfHour]


def gather(sources: Sources, wanted: Wanted) -> Content:
    """Play, verify, draw.

    Raises:
        ConfigError: runs of different markets, or a half hour that there is not.
        DataError: a file that cannot be read; names it and the field.
    """
    runs, comparisons = sources.runs, sources.comparisons
    notes = notes_on(runs, comparisons)
    policies = load_policies(wanted.market, [run.folder for run in runs], wanted.kept) if runs else None
    by_name = dict(zip((item.name for item in policies.contenders), runs, strict=True)) if policies else {}
    played = _play(policies, by_name, wanted) if policies else None
    outcomes = [played_outcome(played.contest, PLAYED if comparisons else "")] if played else []
    outcomes += [compared_outcome(item, item.name if len(runs) + len(comparisons) > 1 else "") for item in comparisons]
    common: Levels = {"gains_share": {"coordinator": 1.0, "no trade": 0.0}}
    learned = gather_curves(by_name, comparisons, lambda run: _levels(run, wanted), common, notes)
    params = policies.params.to_dict() if policies else dict(comparisons[0].config.get("params", {}))
    first, sections, warnings = _draw(by_name, comparisons, played, outcomes, learned, wanted)
    return Content(
        title=", ".join([*by_name, *(item.name for item in comparisons)]),
        sentence=_sentence(params, outcomes),
        notes=notes,
        first=first,
        sections=sections,
        warnings=warnings,
    )


def _play(policies: Policies, by_name: Mapping[str, Run], wanted: Wanted) -> _Played | None:
    """The comparison of `gridmarl evaluate` with the policies that there are, and a look at their first day."""
    contenders = [
        kept
        for contender in policies.contenders
        if (kept := with_policies(contender, seeds_with_policy(by_name[contender.name]))) is not None
    ]
    if not contenders:
        return None
    for hour in wanted.hours:
        check_range("hours", hour, 0, policies.params.horizon_half_hours - 1)
    policies = replace(policies, contenders=tuple(contenders))
    contest = hold_quota(policies, wanted.lanes or policies.eval_lanes, policies.eval_seed)
    views = [watch_truthful(contest.held_out), *(watch(contest.held_out, contender) for contender in contenders)]
    return _Played(contest, views, choose_half_hours(views, policies.scenario.start_slot, wanted.hours))


def _levels(run: Run, wanted: Wanted) -> Levels:
    """With the name that the page uses for the optimum."""

    def work_out() -> Mapping[str, Any]:
        options = run.options()
        market = QuotaMarket(run.params, quota_scenario(options, run.params), wanted.market.device)
        lanes = int(run.config.options.get("eval_lanes", Train.eval_lanes))
        seed = run.config.eval_seed
        return HeldOut.prepare(market, lanes, seed, wanted.market.progress, "validation days").levels()

    found = run_levels(run, [unit for _, unit, _ in AXES.panels], work_out)
    order = {"optimum": AXES.one, "truthful": "truthful", AXES.zero: AXES.zero}
    return {unit: {order[name]: levels[name] for name in order if name in levels} for unit, levels in found.items()}


def _draw(
    by_name: Mapping[str, Run],
    comparisons: Sequence[Comparison],
    played: _Played | None,
    outcomes: Sequence[QuotaOutcome],
    learned: Learned,
    wanted: Wanted,
) -> tuple[list[Section], list[Section], list[str]]:
    """Sections of the first screen, all others, and a line for each ledger that does not verify."""
    files = ledger_files(by_name)
    chosen = played.chosen if played else ()
    with stage_bar("figures", len(outcomes) + len(chosen) + len(files) + 3, "parts", wanted.market.progress) as advance:

        def done(made: Any) -> Any:
            advance()
            return made

        judged_seed = played.contest.held_out.seed if played else None
        episodes = evaluated_on(list(by_name.values()), judged_seed, _OTHER_DAYS)
        learning = done(learning_picture(learned.curves, learned.levels, episodes, AXES))
        loads = [done(_loads(outcome, list(learned.curves))) for outcome in outcomes]
        auctions = [done(_auction(played, item)) for item in chosen if played]
        checks = [done(check_ledger(name, path)) for name, path in files.items()]
        balances = done(_balances(played)) if played else None
        diagnostics = done(diagnostics_picture(learned.curves))
    shown = [(outcome.name, judged(outcome)) for outcome in outcomes]
    first = [verdict_section(shown, WORDS, VERDICT_REMARK), learning_section(learning)]
    sections = [
        Section("loads", "Loads", [part for load in loads for part in load], "Transformer load") if outcomes else None,
        _auctions_section(auctions, played.views[1].label) if played and auctions else None,
        balances,
        Section("results", "All results", result_blocks(outcomes)) if outcomes else None,
        ledger_section(checks, without_ledger(by_name), "half hour") if by_name else None,
        diagnostics_section(diagnostics) if diagnostics else None,
        reproduce_section(by_name, comparisons, wanted.command),
        settings_section(by_name) if by_name else None,
    ]
    return first, [section for section in sections if section is not None], warnings_of(checks)


def _loads(outcome: QuotaOutcome, curves: Sequence[str]) -> list[Block]:
    """Coloured as the learning curves, where these have the same names."""
    names = list(curves) if set(outcome.trained) <= set(curves) else outcome.trained
    colours = {name: curve_colour(index) for index, name in enumerate(names) if name in outcome.trained}
    if not outcome.margin_kwh:
        return []
    made = load_picture(outcome.load_kwh, outcome.margin_kwh, colours, outcome.start_slot, outcome.lanes)
    return named([Figure(made)], outcome.name)


def _auction(played: _Played, chosen: ChosenHalfHour) -> list[Block]:
    params = played.contest.held_out.market.params
    made = auction_picture(chosen, played.views, (params.floor_utok_per_wh, params.cap_utok_per_wh))
    return named([Figure(made)], chosen.name)


def _auctions_section(auctions: Sequence[list[Block]], label: str) -> Section:
    told = (
        "All of the first held-out day. Stations bid for quota, or offer theirs, where more is declared than the "
        "transformer leaves; the best bid meets the best offer. The half hours are chosen by what truthful stations "
        f"and {label} do."
    )
    blocks: list[Block] = [Paragraph(told), *(block for part in auctions for block in part)]
    return Section("auctions", "Quota auctions", blocks, "Quota auctions of chosen half hours")


def _balances(played: _Played) -> Section:
    residual = (
        "The residual is the greatest sum over all accounts of any of the days, to the last µtok: 0, or money was made "
        "or lost."
    )
    blocks: list[Block] = [
        Figure(balances_picture(played.views)),
        Table(balance_cells(played.views)),
        Paragraph(residual, small=True),
    ]
    return Section("balances", "Balances", blocks)


def _sentence(params: Mapping[str, Any], outcomes: Sequence[QuotaOutcome]) -> str:
    market = (
        f"Learned declaring, trading and charging under one transformer: {params.get('num_stations', '?')} charging "
        f"stations, days of {params.get('horizon_half_hours', '?')} half hours"
    )
    if not outcomes or not outcomes[0].lanes:
        return f"{market}."
    return (
        f"{market}; judged on {counted(outcomes[0].lanes, 'held-out day')} beside heuristics, allocation without "
        "trade, and the coordinator: a central plan with perfect knowledge of the day, the optimum."
    )
