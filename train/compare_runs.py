"""Trained policies in the same held-out episodes: `gridmarl compare RUN RUN ...` and `gridmarl evaluate RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from gridmarl.train.contest import (
    HEURISTICS,
    Contender,
    Contest,
    Exploit,
    heuristic,
    hold,
    measure_exploitability,
    reference,
)
from gridmarl.train.deviations.table import print_exploitability
from gridmarl.train.evaluation import levels_of
from gridmarl.train.figures import comparison_figures, learning_curve
from gridmarl.train.options import MAX_LANES, MarketOptions, check_range
from gridmarl.train.policies import Policies, load_policies, market_of
from gridmarl.train.run_folder import describe_run, describe_scenario, write_json
from gridmarl.train.runs import Kept, Run
from gridmarl.train.tables import print_notes, print_rows, results_console, seeds_table, write_metrics


@dataclass(kw_only=True)
class Evaluate(MarketOptions):
    """Play a trained policy on held-out episodes, beside truthful bidding, no market and the central optimum.

    Prices, homes and parameters are those of the run, unless others are named: so a policy can be judged on days it
    was not trained for."""

    env: Annotated[str, tyro.conf.Suppress] = "two-stage-dr"
    policy: tyro.conf.Positional[Path]
    """Folder of a training run, or a policy saved by Stable-Baselines3 (.zip)."""
    checkpoint: Kept = "last"
    """last: the policy at the end of training; best: that of the best evaluation."""
    lanes: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Episodes; default: as many as in the run's own comparison."""
    eval_seed: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Seed of the episodes; default: those of the run's own comparison."""
    exploitability: Exploit = "off"
    """Also measure what each prosumer would gain by deviating alone: by search, by fresh learners, or both."""

    def run(self) -> int:
        """Print the tables, and write evaluation.json into the run's folder; exit code 0."""
        if self.lanes is not None:
            check_range("lanes", self.lanes, 1, MAX_LANES)
        code: int = market_of(self, [self.policy]).load("evaluate")(self)
        return code

    def keep(self, console: Console, content: dict[str, Any]) -> None:
        """Write evaluation.json into the run's folder, or --run-dir; of a saved policy, which has none, nothing."""
        if self.policy.is_dir():
            path = (self.run_dir or self.policy) / "evaluation.json"
            write_json(path, {**content, "checkpoint": self.checkpoint, **describe_run(self)})
            console.print(f"results in {path}", highlight=False, soft_wrap=True)


def evaluate_policy(options: Evaluate) -> int:
    """See `Evaluate`; exit code 0."""
    console = results_console()
    torch.set_num_threads(options.threads)
    policies = load_policies(options, [options.policy], options.checkpoint)
    contest = play_policies(policies, options.lanes, options.eval_seed, ("truthful",), options.exploitability)
    print_contest(console, contest, policies, "held-out episodes")
    options.keep(console, summary_of(policies, contest))
    return 0


EXPLOIT_LANES = 8
"""Episodes that exploitability is measured on at most: its cost grows with them, prosumers and rows of the grid."""


def play_policies(
    policies: Policies, lanes: int | None, eval_seed: int | None, heuristics: Sequence[str], exploit: Exploit = "off"
) -> Contest:
    """Heuristics and policies in the same episodes; exploitability of truthful bidding and of the policies.

    Args:
        lanes, eval_seed: None: those of the first run's own comparison.
    """
    lanes = policies.eval_lanes if lanes is None else lanes
    options, params, scenario = policies.options, policies.params, policies.scenario
    seed = policies.eval_seed if eval_seed is None else eval_seed
    known = [heuristic(options, params, scenario, name, shown) for shown, name in HEURISTICS if name in heuristics]
    contenders: list[Contender] = [*known, *policies.contenders]
    given = reference(options, params, scenario, lanes, seed)
    contest = hold(options, scenario, contenders, given, lanes, seed)
    if exploit != "off":
        for contender in contenders:
            if contender.name == "truthful" or contender in policies.contenders:
                found = measure_exploitability(options, scenario, contender, min(lanes, EXPLOIT_LANES), seed, exploit)
                contest.exploitability[contender.name] = found
    return contest


def print_contest(console: Console, contest: Contest, policies: Policies, of: str) -> None:
    """All tables of a contest, and what their columns mean."""
    print_rows(console, contest.rows, of)
    print_exploitability(console, contest.exploitability, of)
    most = 0
    for contender in policies.contenders:
        most = max(most, len(contender.policies))
        if len(contender.policies) > 1:
            console.print(seeds_table(f"{contender.name} by seed", contest.by_seed[contender.name]))
    print_notes(console, seeds=most)
    console.print(f"scenario {policies.scenario.name}: {policies.scenario.attribution}", highlight=False)


def summary_of(policies: Policies, contest: Contest) -> dict[str, Any]:
    """What summary.json of a comparison of runs says, and evaluation.json."""
    levels = levels_of(contest.reference.truthful, contest.reference.benchmarks)
    return {
        "scenario": policies.scenario.name,
        "attribution": policies.scenario.attribution,
        "params": policies.params.to_dict(),
        "rows": [asdict(row) for row in contest.rows],
        "rows_by_seed": {
            name: {seed: asdict(row) for seed, row in rows.items()} for name, rows in contest.by_seed.items()
        },
        "levels": levels.to_dict(),
        "hourly": {name: profile.to_dict() for name, profile in contest.profiles.items()},
        "exploitability": {name: found.to_dict() for name, found in contest.exploitability.items()},
    }


def compare_policies(
    given: MarketOptions, paths: Sequence[Path], lanes: int | None, kept: Kept, eval_seed: int | None, exploit: Exploit
) -> int:
    """See `Compare`; writes config.json, metrics.csv, summary.json and figures/."""
    console = results_console()
    torch.set_num_threads(given.threads)
    policies = load_policies(given, paths, kept)
    contest = play_policies(policies, lanes, eval_seed, [name for _, name in HEURISTICS], exploit)
    folder = given.folder("compare")
    config = {
        "command": "compare",
        **describe_run(given),
        "policies": [str(path) for path in paths],
        "params": policies.params.to_dict(),
        "scenario": describe_scenario(policies.options, policies.scenario),
        "attribution": policies.scenario.attribution,
    }
    write_json(folder / "config.json", config)
    write_json(folder / "summary.json", summary_of(policies, contest))
    reading = policies.params.dr_settlement
    write_metrics(folder / "metrics.csv", {reading: contest.rows})
    _figures(folder / "figures", policies, contest)
    print_contest(console, contest, policies, f"dr_settlement = {reading}")
    console.print(f"results in {folder}", highlight=False, soft_wrap=True)
    return 0


def _figures(folder: Path, policies: Policies, contest: Contest) -> None:
    reading = policies.params.dr_settlement
    truthful = contest.reference.truthful
    trained = [contender.name for contender in policies.contenders]
    comparison_figures(
        folder,
        policies.scenario.name,
        {reading: contest.rows},
        {reading: contest.profiles},
        truthful.import_price.mean(1),
        truthful.export_price.mean(1),
        trained,
    )
    curves = {run.name: [seed.metrics for seed in run.seeds] for run in policies.runs}
    if curves:
        learning_curve(curves, shared_levels(policies.runs), folder / "learning.png")


def shared_levels(runs: Sequence[Run], unit: str = "reward_tok_per_prosumer") -> dict[str, float]:
    """Levels of the references in the evaluations during training; none unless all runs had the same episodes."""
    found = [run.summary.get("levels", {}).get(unit, {}) for run in runs]
    return dict(found[0]) if found and all(levels == found[0] for levels in found) else {}
