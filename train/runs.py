"""Reading run folders back: settings, metrics, the trained policy, and the market it was trained for.

A run with one seed is one folder; a run with several has a folder `seed-N` for each, which is a run of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from gridmarl.envs.registry import environment
from gridmarl.errors import ConfigError, DataError
from gridmarl.json_depth import require_shallow
from gridmarl.protocols import Agent
from gridmarl.train.checkpoint import BEST_FILE, CHECKPOINT_FILE, load_checkpoint
from gridmarl.train.config import CONFIG_FILE
from gridmarl.train.contest import Contender, agent_for
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.loop import build_agent
from gridmarl.train.markets import MarketEntry, market_entry
from gridmarl.train.options import MarketOptions
from gridmarl.train.train_run import RunConfig

Kept = Literal["last", "best"]
_FILES: dict[str, str] = {"last": CHECKPOINT_FILE, "best": BEST_FILE}
_PATHS = ("prices", "homes")
_A_RUN = "a run of `gridmarl train`"
Params = TypeVar("Params", bound=Any)


@dataclass(frozen=True)
class SeedFolder:
    """What one seed left behind."""

    folder: Path
    config: RunConfig

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.config.seed

    @property
    def metrics(self) -> list[dict[str, str]]:
        """Rows of metrics.csv."""
        return read_metrics(self.folder)

    def agent(self, options: MarketOptions, scenario: Any, lanes: int, kept: Kept = "last") -> Agent:
        """The policy as it was last, or as it was in the best evaluation.

        Args:
            scenario: of its market's kind.
            lanes: what it will play; a policy that does not learn is built for these.

        Raises:
            DataError: no such checkpoint, or one that does not fit.
        """
        config = self.config
        params = run_params(config)
        env = options.make_env(params, scenario, config.num_envs)
        agent = build_agent(env, config)
        if not agent.learns:
            return agent_for(options, params, scenario, config.agent, lanes, **config.agent_options)
        path = self.folder / _FILES[kept]
        if not path.is_file():
            told = "a run with evaluations keeps one" if kept == "best" else "the run has not got that far"
            raise DataError(f"{path}: there is no such checkpoint ({told})")
        load: Callable[[dict[str, Any]], None] = getattr(agent, "load_policy", agent.load_state_dict)
        load(load_checkpoint(path, env.device)["agent"])
        return agent


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run of `gridmarl train`."""

    folder: Path
    seeds: tuple[SeedFolder, ...]

    @property
    def config(self) -> RunConfig:
        """Settings; those that differ between seeds are the first seed's."""
        return self.seeds[0].config

    @property
    def name(self) -> str:
        """What tables and figures call it: the folder's name."""
        return self.folder.resolve().name

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Content of summary.json; empty before the end of the run."""
        path = self.folder / "summary.json"
        return read_object(path) if path.is_file() else {}

    @property
    def params(self) -> Any:
        """Parameters of its market, of the market's own kind."""
        return run_params(self.config)

    @property
    def market(self) -> MarketEntry:
        """What its environment brings to the commands; ConfigError where that environment is not installed."""
        return market_entry(self.config.env_id)

    def options(self, **changes: Any) -> MarketOptions:
        """The options of its market; `changes` that are None or empty leave them as they were."""
        given: Mapping[str, Any] = self.config.options
        names = {item.name for item in fields(MarketOptions)} - {"run_dir", "config", "set", "progress"}
        values = {name: given[name] for name in names if name in given}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        for name in _PATHS:
            values[name] = tuple(Path(item) for item in values.get(name, ()))
        values |= {name: value for name, value in changes.items() if value not in (None, ())}
        return MarketOptions(**values)

    def contender(self, options: MarketOptions, scenario: Any, kept: Kept = "last") -> Contender:
        """Its policies, one for each seed."""

        def builder(seed: SeedFolder) -> Callable[[int], Agent]:
            return lambda lanes: seed.agent(options, scenario, lanes, kept)

        return Contender(self.name, self.params, {seed.seed: builder(seed) for seed in self.seeds})


def run_params(config: RunConfig) -> Any:
    """Parameters of the environment that a run was made for; ConfigError where they are refused."""
    return environment(config.env_id).load("params").from_dict(dict(config.env_options))


def load_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        DataError: no folder, or none of a training run; names what is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; allowed is that of {_A_RUN}")
    several = sorted(path.parent for path in folder.glob(f"seed-*/{CONFIG_FILE}"))
    return Run(folder, tuple(sorted(map(_seed_folder, several or [folder]), key=lambda found: found.seed)))


def _seed_folder(folder: Path) -> SeedFolder:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise DataError(f"{folder}: holds no {CONFIG_FILE}; allowed is the folder of {_A_RUN}")
    content = read_object(path)
    if content.get("command") != "train":
        raise DataError(f"{path}: command {content.get('command')!r}; allowed is the folder of {_A_RUN}")
    try:
        config = RunConfig.from_mapping(content)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error
    assert isinstance(config, RunConfig)
    return SeedFolder(folder, config)


def read_object(path: Path) -> dict[str, Any]:
    """An object from a JSON file; DataError names the file and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        require_shallow(text)
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {type(content).__name__}; allowed is an object")
    return content


def same_environment(runs: Sequence[Run]) -> MarketEntry | None:
    """The environment of runs; None without any.

    Raises:
        ConfigError: they are of different environments; names two runs.
    """
    for other in runs[1:]:
        if other.market.env != runs[0].market.env:
            raise ConfigError(
                f"{runs[0].folder} is a run of {runs[0].market.env}, {other.folder} one of {other.market.env}; "
                "allowed are runs of one environment"
            )
    return runs[0].market if runs else None


def same_market(runs: Sequence[Run]) -> Any:
    """The market of several runs; what policies may choose from (the action space) is each run's own matter.

    Raises:
        ConfigError: they were trained for different markets; names each difference with both values.
    """
    same_environment(runs)
    first = runs[0]
    for other in runs[1:]:
        ours, theirs = first.params.to_dict(), other.params.to_dict()
        differing = [
            f"{key}={ours[key]!r} against {theirs.get(key)!r}"
            for key in ours
            if key not in first.market.own and ours[key] != theirs.get(key)
        ]
        if first.config.env_id != other.config.env_id:
            differing.insert(0, f"env_id={first.config.env_id!r} against {other.config.env_id!r}")
        if differing:
            raise ConfigError(
                f"{first.folder} and {other.folder} were trained for different markets ({'; '.join(differing)}); "
                "allowed are runs for one market, or --set to put all into one"
            )
    return first.params


def changed(params: Params, changes: Mapping[str, Any], entry: MarketEntry) -> Params:
    """Parameters with some replaced by what a user has set; ConfigError for what they refuse."""
    if not changes:
        return params
    replaced: Params = type(params).from_dict({**params.to_dict(), **changes})
    before, after = getattr(params, entry.count), getattr(replaced, entry.count)
    if before != after:
        raise ConfigError(f"{entry.count}: {after}; allowed is {before}, what the policy was made for")
    return replaced


def in_market(contender: Contender, market: Any, entry: MarketEntry) -> Contender:
    """The same policies with their own action space in another market."""
    own = {name: getattr(contender.params, name) for name in entry.own}
    return replace(contender, params=replace(market, **own))
