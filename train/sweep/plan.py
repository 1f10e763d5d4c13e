"""The trials of a sweep: which settings, the run of `gridmarl train` that each is, and sweep.json, which keeps them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gridmarl.errors import ConfigError, DataError
from gridmarl.train.options import parse_settings
from gridmarl.train.run_folder import write_json
from gridmarl.train.sweep.options import PLAN_FILE, Sweep
from gridmarl.train.sweep.space import combinations, parse_grid
from gridmarl.train.train_options import Train, seed_folder

MAX_TRIALS = 100_000
# What may differ when a sweep goes on: none of it changes a number.
_FREE_ON_RESUME = ("workers", "progress", "resume", "run_dir", "options", "checkpoint_every")
_OF_THE_SWEEP = ("run_dir", "progress", "resume", "options", "workers")


@dataclass(frozen=True)
class Configuration:
    """One combination of settings: options of the agent and parameters of the market that differ between trials."""

    index: int
    agent: dict[str, Any]
    market: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of its folder, which holds one `seed-N` per seed, as a run of `gridmarl train` does."""
        return f"config-{self.index:03d}"

    @property
    def label(self) -> str:
        """Its settings as text; empty where a sweep varies seeds only."""
        return " ".join((*settings_of(self.agent), *settings_of(self.market)))


@dataclass(frozen=True)
class Trial:
    """One configuration with one seed."""

    configuration: Configuration
    seed: int

    def folder(self, run_dir: Path) -> Path:
        """Its run folder."""
        return run_dir / self.configuration.name / seed_folder(self.seed)


def settings_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """`name=value` texts from which `parse_settings` makes the same values."""
    return tuple(f"{name}={_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, str) and parse_settings([f"name={value}"])["name"] == value:
        return value
    return json.dumps(value, separators=(",", ":"))


def configurations(sweep: Sweep, drawn: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> list[Configuration]:
    """Every random draw (agent options, market parameters) with every combination of the grids, in this order."""
    agents, markets = combinations(parse_grid(sweep.grid)), combinations(parse_grid(sweep.grid_set))
    pairs = [
        ({**agent, **drawn_agent}, {**market, **drawn_market})
        for drawn_agent, drawn_market in drawn
        for agent in agents
        for market in markets
    ]
    if len(pairs) * len(sweep.all_seeds) > MAX_TRIALS:
        raise ConfigError(f"sweep: {len(pairs)} x {len(sweep.all_seeds)} seeds; allowed are {MAX_TRIALS} trials")
    return [Configuration(index, *pair) for index, pair in enumerate(pairs)]


def trials_of(sweep: Sweep, found: Iterable[Configuration]) -> list[Trial]:
    """All trials, seed by seed: after the first seed every configuration has been tried once."""
    each = list(found)
    return [Trial(configuration, seed) for seed in sweep.all_seeds for configuration in each]


def train_options(sweep: Sweep, configuration: Configuration) -> Train:
    """The options of `gridmarl train` that train one configuration with all seeds."""
    values = {item.name: getattr(sweep, item.name) for item in fields(Train) if item.name not in _OF_THE_SWEEP}
    values["agent_set"] = (*sweep.agent_set, *settings_of(configuration.agent))
    values["set"] = (*sweep.set, *settings_of(configuration.market))
    values["eval_every"] = sweep.eval_interval
    values["seed"], values["seeds"] = 0, sweep.all_seeds
    return Train(**values, progress="off")


def command_of(options: Train) -> str:
    """The command line that stands for these options; what is at its default is left out."""
    words = ["gridmarl", "train", options.env]
    for item in fields(Train):
        value = getattr(options, item.name)
        if item.name in ("env", *_OF_THE_SWEEP) or value == item.default:
            continue
        name = "scenario" if item.name == "scenario_name" else item.name.replace("_", "-")
        words += [f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)


def save_plan(sweep: Sweep, folder: Path, found: Iterable[Configuration]) -> None:
    """Write sweep.json."""
    write_json(folder / PLAN_FILE, {"options": _options(sweep), "configurations": [asdict(item) for item in found]})


def saved_plan(sweep: Sweep, folder: Path) -> list[Configuration]:
    """The configurations of the sweep in a folder.

    Raises:
        ConfigError: it was begun with other options; names each with both values.
        DataError: sweep.json cannot be read.
    """
    path = folder / PLAN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        saved, found = content["options"], [Configuration(**item) for item in content["configurations"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the plan of a sweep: {error}") from error
    now = _options(sweep)
    differing = [f"{name}={now[name]!r} (saved: {saved.get(name)!r})" for name in now if now[name] != saved.get(name)]
    if differing:
        raise ConfigError(f"resume: options differ from those the sweep began with: {'; '.join(differing)}")
    return found


def _options(sweep: Sweep) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(json.dumps(asdict(sweep), default=str))
    return {name: value for name, value in options.items() if name not in _FREE_ON_RESUME}
