"""`gridmarl evaluate` and `gridmarl compare RUN ...` for policies trained in EVQuota."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from gridmarl.errors import ConfigError
from gridmarl.train.compare_runs import shared_levels
from gridmarl.train.figures import learning_curve
from gridmarl.train.options import MarketOptions
from gridmarl.train.policies import Policies, load_policies
from gridmarl.train.quota.contest import QuotaContest, hold_quota
from gridmarl.train.quota.figure import load_figure
from gridmarl.train.quota.market import ENV
from gridmarl.train.quota.tables import print_rows, write_rows
from gridmarl.train.run_folder import describe_run, write_json
from gridmarl.train.runs import Kept
from gridmarl.train.tables import SEEDS_NOTE, results_console

if TYPE_CHECKING:
    from gridmarl.train.compare_runs import Evaluate

REWARD_UNIT = "reward_tok_per_station"


def evaluate_policy(options: Evaluate) -> int:
    """See `Evaluate`; exit code 0.

    Raises:
        ConfigError: --exploitability, which is not measured here, or an option of another environment.
    """
    if options.exploitability != "off":
        raise ConfigError(
            f"exploitability: {options.exploitability!r} with {ENV}; allowed is off (what over-declaring alone brings "
            f"is a table of `gridmarl compare {ENV}`)"
        )
    console = results_console()
    torch.set_num_threads(options.threads)
    policies = load_policies(options, [options.policy], options.checkpoint)
    contest = play_policies(policies, options.lanes, options.eval_seed)
    _print(console, contest, policies)
    replace(options, env=ENV).keep(console, summary_of(policies, contest))
    return 0


def play_policies(policies: Policies, lanes: int | None, eval_seed: int | None) -> QuotaContest:
    """All in the same days.

    Args:
        lanes, eval_seed: None: those of the first run's own comparison.
    """
    lanes = policies.eval_lanes if lanes is None else lanes
    return hold_quota(policies, lanes, policies.eval_seed if eval_seed is None else eval_seed)


def summary_of(policies: Policies, contest: QuotaContest) -> dict[str, Any]:
    """What summary.json of a comparison of runs says, and evaluation.json."""
    return {
        "scenario": policies.scenario.name,
        "attribution": policies.scenario.attribution,
        "params": policies.params.to_dict(),
        **contest.to_dict(),
    }


def compare_policies(
    given: MarketOptions, paths: Sequence[Path], lanes: int | None, kept: Kept, eval_seed: int | None, exploit: str
) -> int:
    """See `Compare`; writes config.json, metrics.csv, summary.json and figures/. Exit code 0.

    Args:
        exploit: "off" and the default, "search", make no difference: a policy's gains of deviating are not measured.

    Raises:
        ConfigError: another `exploit`, runs of different markets, or an option of another environment.
    """
    if exploit not in ("off", "search"):
        raise ConfigError(
            f"exploitability: {exploit!r} with runs of {ENV}; allowed is off: it is not measured for them"
        )
    console = results_console()
    torch.set_num_threads(given.threads)
    policies = load_policies(given, paths, kept)
    contest = play_policies(policies, lanes, eval_seed)
    folder = given.folder("compare")
    config = {
        "command": "compare",
        **describe_run(given),
        "policies": [str(path) for path in paths],
        "params": policies.params.to_dict(),
        "scenario": {"name": policies.scenario.name},
        "attribution": policies.scenario.attribution,
    }
    write_json(folder / "config.json", config)
    write_json(folder / "summary.json", summary_of(policies, contest))
    write_rows(folder / "metrics.csv", contest.all_rows)
    load_figure(folder / "figures" / "load.png", contest.load_kwh, contest.margin_kwh)
    curves = {run.name: [seed.metrics for seed in run.seeds] for run in policies.runs}
    if curves:
        levels = shared_levels(policies.runs, REWARD_UNIT)
        learning_curve(curves, levels, folder / "figures" / "learning.png", whose="station")
    _print(console, contest, policies)
    console.print(f"results in {folder}", highlight=False, soft_wrap=True)
    return 0


def _print(console: Console, contest: QuotaContest, policies: Policies) -> None:
    print_rows(console, contest.all_rows)
    if any(len(seeds) > 1 for seeds in contest.by_seed.values()):
        console.print(f"  {SEEDS_NOTE}", highlight=False)
    console.print(f"{policies.scenario.name}: {policies.scenario.attribution}", highlight=False)
