"""Options of a command from a file: JSON, TOML, or the config.json of an earlier run. The command line wins over it.

A file holds the options by their names, as config.json's `options` does: {"agent": "ppo", "steps": 100000,
"set": ["num_prosumers=6"], "agent_set": {"hidden": [64, 64]}}. Settings (`set`, `agent_set`) are a list of
"name=value" or an object, and are merged with those of the command line one by one.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from gridmarl.errors import ConfigError
from gridmarl.json_depth import require_shallow

Command = TypeVar("Command", bound=Any)
_SETTINGS = ("set", "agent_set")
_OF_THE_COMMAND_LINE = ("options", "resume", "run_dir")
"""Where a run goes and whether it goes on is said anew each time."""


def with_options_file(
    command: Command, path: Path, arguments: Sequence[str], parse: Callable[[type, list[str], Any], Any]
) -> Command:
    """The command that the file's options and then the arguments make.

    Args:
        command: what the arguments alone make.
        arguments: of the command line, without the name of the command.
        parse: `(type, arguments, default) -> command`, the parser of the command line.

    Raises:
        ConfigError: the file cannot be read, or holds an option that the command does not have or refuses.
    """
    options = read_options(path)
    try:
        base = parse(type(command), _as_flags(command, options), command)
        made: Command = parse(type(command), list(arguments), base)
    except ConfigError as error:
        raise ConfigError(f"options: {path}: {error}") from error
    merged = {}
    for name in _SETTINGS:
        own, file = getattr(command, name, ()), getattr(base, name, ())
        given = {item.partition("=")[0] for item in own}
        merged[name] = (*(item for item in file if item.partition("=")[0] not in given), *own)
    known = {item.name for item in fields(made)}
    return replace(made, **{name: value for name, value in merged.items() if name in known})


def read_options(path: Path) -> dict[str, Any]:
    """The options in a file; ConfigError names it and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        require_shallow(text)
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(f"options: {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise ConfigError(f"options: {path}: not {kind} ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"options: {path}: holds {type(content).__name__}, allowed is an object of options")
    inner = content.get("options")
    if isinstance(inner, dict) and "command" in content:  # config.json of a run
        return {name: value for name, value in inner.items() if name not in _OF_THE_COMMAND_LINE}
    return content


def _as_flags(command: Any, options: Mapping[str, Any]) -> list[str]:
    """The options as they would stand on the command line; those that are empty or null are left out."""
    names = [item.name for item in fields(command) if item.name not in _OF_THE_COMMAND_LINE]
    flags: list[str] = []
    for name, value in options.items():
        if name not in names:
            raise ConfigError(f"unknown option {name!r}; allowed are {', '.join(names)}")
        if name in _SETTINGS and isinstance(value, Mapping):
            value = [f"{key}={json.dumps(item)}" for key, item in value.items()]
        if value is None or value in ([], ""):
            continue
        if name == "env":
            flags.insert(0, str(value))
            continue
        shown = "scenario" if name == "scenario_name" else name
        words = value if isinstance(value, list) else [value]
        flags += [f"--{shown.replace('_', '-')}", *(_word(name, word) for word in words)]
    return flags


def _word(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"{name}: {value!r}, allowed are numbers, text, and lists of them")
    return str(value)
