"""What can be compared from the command line: the folder of a training run, or a policy saved by Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.errors import ConfigError
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.contest import Contender, agent_for
from gridmarl.train.options import MarketOptions, parse_settings, read_config
from gridmarl.train.runs import Kept, Run, changed, in_market, load_run, same_market
from gridmarl.train.train_options import Train, evaluation_seed

_SOURCE = ("scenario_name", "prices", "homes", "region", "start", "days")


@dataclass(frozen=True)
class Policies:
    """Policies of one market, ready to play it.

    Attributes:
        options: market and scenario they play, with what the user has asked for.
        eval_seed, eval_lanes: of the episodes, unless the user names others.
        runs: those that are training runs.
    """

    options: MarketOptions
    params: TwoStageDRParams
    scenario: Scenario
    contenders: tuple[Contender, ...]
    eval_seed: int
    eval_lanes: int
    runs: tuple[Run, ...]


def is_policy(path: Path) -> bool:
    """Whether a path looks like something to compare, rather than the name of an environment."""
    return path.is_dir() or path.suffix == ".zip"


def load_policies(given: MarketOptions, paths: Sequence[Path], kept: Kept = "last") -> Policies:
    """Read runs and saved policies, and put them into one market: that of the first run, changed as `given` says.

    Raises:
        ConfigError: runs of different markets, or one path twice.
        DataError: what cannot be read.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"{' '.join(map(str, paths))}: one of them twice; allowed is each only once")
    runs = [load_run(path) for path in paths if path.suffix != ".zip"]
    changes: dict[str, Any] = read_config(given.config) | parse_settings(given.set)
    if runs:
        source = {name: getattr(given, name) for name in _SOURCE}
        options = runs[0].options(**source, device=given.device, threads=given.threads, progress=given.progress)
        if given.days is not None:
            changes = {"horizon_hours": 24 * given.days} | changes
        params = changed(same_market(runs), changes)
    else:
        options, params = given, given.parameters()
    options.check()
    scenario = options.scenario()
    by_folder = {run.folder: run for run in runs}
    contenders = []
    for path in paths:
        if path in by_folder:
            contenders.append(in_market(by_folder[path].contender(options, scenario, kept), params))
        else:
            contenders.append(_saved_by_sb3(path, options, params, scenario))
    seed = runs[0].config.seed if runs else given.seed
    lanes = int(runs[0].config.options.get("eval_lanes", Train.eval_lanes)) if runs else Train.eval_lanes
    named = tuple(_named_apart(contenders))
    return Policies(options, params, scenario, named, evaluation_seed(seed), lanes, tuple(runs))


def _saved_by_sb3(path: Path, options: MarketOptions, params: TwoStageDRParams, scenario: Scenario) -> Contender:
    from gridmarl.agents.sb3_zip import read_sb3_zip

    saved = read_sb3_zip(path)
    own = replace(params, action_space="continuous" if saved.continuous else "discrete")
    return Contender(
        path.stem, own, {0: lambda lanes: agent_for(options, own, scenario, saved.algorithm, lanes, load=str(path))}
    )


def _named_apart(contenders: Sequence[Contender]) -> list[Contender]:
    """Names as they are, numbered where two folders have the same, or that of a row that is always there."""
    taken = {"no market", "truthful", "zero-intelligence", "inflate", "aggregator"}
    named = []
    for contender in contenders:
        name, number = contender.name, 1
        while name in taken:
            number += 1
            name = f"{contender.name} {number}"
        taken.add(name)
        named.append(replace(contender, name=name))
    return named
