"""How to repeat a run: its settings against the defaults, and the commands that make it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gridmarl.agents.registry import required_actions
from gridmarl.errors import ConfigError
from gridmarl.train.report.blocks import Cells
from gridmarl.train.report.source import Comparison
from gridmarl.train.runs import Run
from gridmarl.train.train_options import Train

# Where a run goes, how it is shown, what its other options have been taken from: all that changes no number.
_NOT_SETTINGS = ("run_dir", "progress", "options", "config", "set", "agent_set", "resume", "workers", "threads")


def train_command(run: Run) -> str:
    """The command that trains a run again, with every setting that differs from the defaults.

    Parameters of the market that came from a file are named one by one, so that the command needs no such file.
    """
    given, defaults = run.config.options, _plain(asdict(Train()))
    words = ["gridmarl", "train", str(given.get("env", defaults["env"]))]
    for name, value in given.items():
        if name in _NOT_SETTINGS or name == "env" or value == defaults.get(name):
            continue
        words += [_flag(name), *_words(value)]
    for flag, settings in (("--set", market_changes(run)), ("--agent-set", dict(run.config.agent_options))):
        if settings:
            words += [flag, *(f"{name}={_text(value)}" for name, value in settings.items())]
    return shlex.join([*words, "--run-dir", run.name])


def market_changes(run: Run) -> dict[str, Any]:
    """Parameters of the market beyond what the run's other options and its agent bring about."""
    usual = run.market.load("parameters")(run.options()).to_dict()
    changes = {name: value for name, value in run.params.to_dict().items() if value != usual[name]}
    if changes.get("action_space") == _required_actions(run.config.agent):
        changes.pop("action_space", None)
    return changes


def _required_actions(agent: str) -> str | None:
    try:
        return required_actions(agent)
    except ConfigError:  # a plug-in that is not installed here: say what was played
        return None


def _flag(name: str) -> str:
    return "--scenario" if name == "scenario_name" else f"--{name.replace('_', '-')}"


def _words(value: Any) -> Sequence[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _text(value: Any) -> str:
    """As `--set` reads it back: JSON, and text as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As config.json holds them."""
    content: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return content


def settings_tables(runs: Mapping[str, Run]) -> tuple[Cells, Cells]:
    """Settings of each run beside the defaults: those that differ somewhere, and all others."""
    usual_market = _plain(type(next(iter(runs.values())).params)().to_dict())
    defaults = _plain(asdict(Train())) | {f"market: {key}": value for key, value in usual_market.items()}
    columns = {name: _settings(run) for name, run in runs.items()}
    names = list(dict.fromkeys([*defaults, *(key for column in columns.values() for key in column)]))
    changed: list[tuple[str, ...]] = []
    same: list[tuple[str, ...]] = []
    for name in names:
        if name in _NOT_SETTINGS:
            continue  # or shown by what they came to
        usual = defaults.get(name, "")
        found = [column.get(name, usual) for column in columns.values()]
        line = (name, _shown(usual), *map(_shown, found))
        (same if all(value == usual for value in found) else changed).append(line)
    head = ("setting", "default", *columns)
    return Cells("Changed from the defaults", head, changed), Cells("As the defaults", head, same)


def _settings(run: Run) -> dict[str, Any]:
    market = {f"market: {key}": value for key, value in run.params.to_dict().items()}
    agent = {f"{run.config.agent}: {key}": value for key, value in run.config.agent_options.items()}
    return {**run.config.options, **market, **agent}


def _shown(value: Any) -> str:
    if value is None or value in ("", [], ()):
        return "none" if value is None else "–"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def compare_command(item: Comparison) -> tuple[str, list[tuple[str, str]]]:
    """The command that makes a comparison again, and what ran on which data."""
    from gridmarl.train.compare import Compare

    given, defaults = dict(item.config.get("options", {})), _plain(asdict(Compare()))
    paths = [str(path) for path in item.config.get("policies", ())]
    words = ["gridmarl", "compare", *(paths or [str(given.get("env", defaults["env"]))])]
    skipped = {"env", "runs", "run_dir", "progress", "options", "threads"}
    for name, value in given.items():
        if name not in skipped and value != defaults.get(name):
            words += [_flag(name), *_words(value)]
    return shlex.join([*words, "--run-dir", item.name]), provenance(item.config)


def provenance(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What ran, and on which data, by a run's config.json."""
    versions = ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())
    scenario = config.get("scenario", {})
    if not isinstance(scenario, Mapping):  # its name alone
        scenario = {"name": scenario}
    options = config.get("options", {})
    facts = {
        "gridmarl": config.get("gridmarl_version"),
        "other versions": versions,
        "device": config.get("device", options.get("device")),
        "environment": config.get("env_id"),
        "scenario": scenario.get("name"),
        "fingerprint of the data (BLAKE3)": scenario.get("fingerprint"),
        "data": config.get("attribution"),
    }
    return [(name, str(value)) for name, value in facts.items() if value]
