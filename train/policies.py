"""What can be compared from the command line: the folder of a training run, or a policy saved by Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gridmarl.errors import ConfigError
from gridmarl.train.contest import Contender, agent_for
from gridmarl.train.markets import MarketEntry, market_entry
from gridmarl.train.options import MarketOptions, parse_settings, read_config
from gridmarl.train.runs import Kept, Run, changed, in_market, load_run, same_environment, same_market
from gridmarl.train.train_options import Train, evaluation_seed

_SOURCE = ("scenario_name", "prices", "homes", "region", "start", "days")


@dataclass(frozen=True)
class Policies:
    """Policies of one market, ready to play it.

    Attributes:
        options: market and scenario they play, with what the user has asked for.
        params, scenario: of the market's own kind.
        eval_seed, eval_lanes: of the episodes, unless the user names others.
        runs: those that are training runs.
    """

    options: MarketOptions
    params: Any
    scenario: Any
    contenders: tuple[Contender, ...]
    eval_seed: int
    eval_lanes: int
    runs: tuple[Run, ...]


def is_policy(path: Path) -> bool:
    """Whether a path looks like something to compare, rather than the name of an environment."""
    return path.is_dir() or path.suffix == ".zip"


def market_of(given: MarketOptions, paths: Sequence[Path]) -> MarketEntry:
    """Whose policies these are: the runs' environment; of policies saved by Stable-Baselines3 alone, that of `given`.

    Raises:
        ConfigError: runs of different environments.
        DataError: what cannot be read.
    """
    return same_environment(_runs(paths)) or market_entry(given.env)


def _runs(paths: Sequence[Path]) -> list[Run]:
    return [load_run(path) for path in paths if path.suffix != ".zip"]


def load_policies(given: MarketOptions, paths: Sequence[Path], kept: Kept = "last") -> Policies:
    """Read runs and saved policies, and put them into one market: that of the first run, changed as `given` says.

    Raises:
        ConfigError: runs of different markets, one path twice, or an option that is another environment's.
        DataError: what cannot be read.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"{' '.join(map(str, paths))}: one of them twice; allowed is each only once")
    runs = _runs(paths)
    entry = same_environment(runs) or market_entry(given.env)
    if runs:
        source = {name: getattr(given, name) for name in _SOURCE}
        options = runs[0].options(**source, device=given.device, threads=given.threads, progress=given.progress)
        changes = entry.load("changes")(given) | read_config(given.config) | parse_settings(given.set)
        params = changed(same_market(runs), changes, entry)
    else:
        options, params = given, entry.load("parameters")(given)
    options.check()
    scenario = entry.load("scenario")(options, params)
    by_folder = {run.folder: run for run in runs}
    contenders = []
    for path in paths:
        if path in by_folder:
            contenders.append(in_market(by_folder[path].contender(options, scenario, kept), params, entry))
        else:
            contenders.append(_saved_by_sb3(path, options, params, scenario))
    seed = runs[0].config.seed if runs else given.seed
    lanes = int(runs[0].config.options.get("eval_lanes", Train.eval_lanes)) if runs else Train.eval_lanes
    named = tuple(_named_apart(contenders, entry.references))
    return Policies(options, params, scenario, named, evaluation_seed(seed), lanes, tuple(runs))


def _saved_by_sb3(path: Path, options: MarketOptions, params: Any, scenario: Any) -> Contender:
    from gridmarl.agents.sb3_zip import read_sb3_zip

    saved = read_sb3_zip(path)
    own = replace(params, action_space="continuous" if saved.continuous else "discrete")
    return Contender(
        path.stem, own, {0: lambda lanes: agent_for(options, own, scenario, saved.algorithm, lanes, load=str(path))}
    )


def _named_apart(contenders: Sequence[Contender], references: Sequence[str]) -> list[Contender]:
    """Names as they are, numbered where two folders have the same, or that of a row that is always there."""
    taken = set(references)
    named = []
    for contender in contenders:
        name, number = contender.name, 1
        while name in taken:
            number += 1
            name = f"{contender.name} {number}"
        taken.add(name)
        named.append(replace(contender, name=name))
    return named
