"""docs/agents.md, made anew by `python -m tests.packaging.agents_page > docs/agents.md`."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from importlib import import_module
from typing import Any

from gridmarl.agents.registry import agent_names, agent_summary, required_actions

OPTIONS = {
    "dqn": "gridmarl.agents.dqn_config:DQNConfig",
    "ppo": "gridmarl.agents.ppo_config:PPOConfig",
    "mappo": "gridmarl.agents.ppo_config:PPOConfig",
    "quota_over_use": "gridmarl.agents.quota_over_use:OverUseOptions",
    "tabular_q": "gridmarl.agents.tabular:TabularConfig",
    "sb3-ppo": "gridmarl.agents.sb3_options:PPOOptions",
    "sb3-a2c": "gridmarl.agents.sb3_options:A2COptions",
    "sb3-dqn": "gridmarl.agents.sb3_options:DQNOptions",
    "sb3-sac": "gridmarl.agents.sb3_options:SACOptions",
}
INTRODUCTION = """# Agents

Every agent of the registry trains, is evaluated and is compared by name (`gridmarl train --agent NAME`). Learners act
in every environment; heuristics read the fields of one: those named `quota_...` of `ev-quota`, the others of
`two-stage-dr`. *Actions* says what it needs: rows of the action grid (discrete), numbers (continuous), or either.
Options are set with `--agent-set NAME=VALUE`; below are all of them with their defaults. Agents of other packages join
through the entry-point group `gridmarl.agents` ([tutorial](tutorial.md)).

This page is made by `python -m tests.packaging.agents_page`.
"""


def page() -> str:
    """The page, as Markdown."""
    lines = [INTRODUCTION, "| agent | actions | what it is |", "|---|---|---|"]
    names = [name for name in agent_names() if name in _own()]
    lines += [f"| `{name}` | {required_actions(name) or 'either'} | {agent_summary(name)} |" for name in names]
    shown: dict[str, list[str]] = {}
    for name in names:
        if name in OPTIONS:
            shown.setdefault(OPTIONS[name], []).append(name)
    for target, users in shown.items():
        lines += ["", f"## Options of {' and '.join(f'`{user}`' for user in users)}", "", *_options(target)]
    return "\n".join(lines) + "\n"


def _own() -> frozenset[str]:
    from gridmarl.agents import registry

    return frozenset(registry._BUILTIN)


def _options(target: str) -> list[str]:
    module, _, attribute = target.partition(":")
    kind = getattr(import_module(module), attribute)
    meanings = {}
    for parent in reversed(kind.__mro__):
        meanings |= _attributes(inspect.getdoc(parent) or "")
    rows = [(item.name, _shown(item), meanings.get(item.name, "as in Stable-Baselines3")) for item in fields(kind)]
    lines = [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in rows]
    return ["| option | default | meaning |", "|---|---|---|", *lines]


def _shown(item: Any) -> str:
    """As it is written on the command line."""
    value = list(item.default) if isinstance(item.default, tuple) else item.default
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _attributes(text: str) -> dict[str, str]:
    """What the section "Attributes" of a docstring says of each name."""
    found: dict[str, str] = {}
    section = text.partition("Attributes:\n")[2]
    for entry in re.split(r"\n(?=    \w)", "\n" + section.split("\n\n")[0]):
        names, colon, meaning = " ".join(entry.split()).partition(": ")
        if colon:
            found |= dict.fromkeys(names.split(", "), meaning.replace("|", "\\|"))
    return found


if __name__ == "__main__":
    print(page(), end="")
