"""Agents by name: our own, those registered at run time, and those that other packages provide as entry points.

A package provides an agent through the entry-point group `gridmarl.agents`: the entry's name is the agent's, its object
a factory `AgentContext -> Agent` (a class will do). The options are in `context.options`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent, AgentContext

ENTRY_POINT_GROUP = "gridmarl.agents"
AgentFactory = Callable[[AgentContext], Agent]

# Imported when asked for, so that listing the names costs nothing.
_BUILTIN: dict[str, str] = {
    "dqn": "gridmarl.agents.dqn:DQN",
    "mappo": "gridmarl.agents.ppo:MAPPO",
    "ppo": "gridmarl.agents.ppo:PPO",
    "tabular_q": "gridmarl.agents.tabular:TabularQ",
    "sb3-a2c": "gridmarl.agents.sb3_on_policy:SB3A2C",
    "sb3-dqn": "gridmarl.agents.sb3_off_policy:SB3DQN",
    "sb3-ppo": "gridmarl.agents.sb3_on_policy:SB3PPO",
    "sb3-sac": "gridmarl.agents.sb3_off_policy:SB3SAC",
    "truthful": "gridmarl.agents.heuristics:Truthful",
    "zero_intelligence": "gridmarl.agents.heuristics:ZeroIntelligence",
    "always_cap": "gridmarl.agents.heuristics:AlwaysCap",
    "inflate": "gridmarl.agents.heuristics:Inflate",
    "comfort": "gridmarl.agents.heuristics:Comfort",
    "quota_truthful": "gridmarl.agents.quota_heuristics:TruthfulStation",
    "quota_patient": "gridmarl.agents.quota_heuristics:Patient",
    "quota_no_trade": "gridmarl.agents.quota_heuristics:NoTrade",
    "quota_over_declare": "gridmarl.agents.quota_heuristics:OverDeclare",
    "quota_uncoordinated": "gridmarl.agents.quota_heuristics:Uncoordinated",
    "quota_over_use": "gridmarl.agents.quota_over_use:OverUse",
}
_registered: dict[str, AgentFactory] = {}
_REQUIRED = {"dqn": "discrete", "tabular_q": "discrete", "sb3-dqn": "discrete", "sb3-sac": "continuous"}
# Heuristics read named fields of one environment; learners take any.
_ENVIRONMENT = {
    **dict.fromkeys(("truthful", "zero_intelligence", "always_cap", "inflate", "comfort"), "two-stage-dr"),
    **dict.fromkeys(
        (
            "quota_truthful",
            "quota_patient",
            "quota_no_trade",
            "quota_over_declare",
            "quota_uncoordinated",
            "quota_over_use",
        ),
        "ev-quota",
    ),
}


def register_agent(name: str, factory: AgentFactory) -> None:
    """Add an agent at run time.

    Raises:
        ConfigError: the name is taken.
    """
    if name in agent_names():
        raise ConfigError(f"agent {name!r} exists already; allowed is a name other than {', '.join(agent_names())}")
    _registered[name] = factory


def _provided() -> dict[str, EntryPoint]:
    """Entry points of other packages. None can replace an agent of ours: one that bears its name is left out."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name not in _BUILTIN}


def agent_names() -> list[str]:
    """Every name that `make_agent` knows, sorted."""
    return sorted({*_BUILTIN, *_registered, *_provided()})


def _load_builtin(target: str) -> AgentFactory:
    module, _, attribute = target.partition(":")
    return cast(AgentFactory, getattr(import_module(module), attribute))


def agent_factory(name: str) -> AgentFactory:
    """The factory behind a name.

    Raises:
        ConfigError: no such agent (lists those there are), or its entry point does not load or is not callable.
    """
    if name in _BUILTIN:
        return _load_builtin(_BUILTIN[name])
    if name in _registered:
        return _registered[name]
    point = _provided().get(name)
    if point is None:
        raise ConfigError(f"no agent {name!r}; there are {', '.join(agent_names())}")
    try:
        factory = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"agent {name!r}: entry point {point.value!r} does not load: {error}") from error
    if not callable(factory):
        raise ConfigError(
            f"agent {name!r}: entry point {point.value!r} is not callable; allowed is AgentContext -> Agent"
        )
    return cast(AgentFactory, factory)


def registered_here(name: str) -> bool:
    """Whether an agent is known to this process only, by `register_agent`."""
    return name in _registered


def required_actions(name: str) -> str | None:
    """The only kind of action an agent takes, "discrete" or "continuous"; None where it takes both.

    A plug-in says so by an attribute `action_space = "discrete"` (or "continuous") of its factory.

    Raises:
        ConfigError: see `agent_factory`.
    """
    return _REQUIRED.get(name) or getattr(agent_factory(name), "action_space", None)


def supports(name: str, environment: str) -> bool:
    """Whether an agent can act in an environment, both by name, as far as it says so; learners can in any.

    A plug-in that cannot says so by an attribute `environments = ("two-stage-dr", ...)` of its factory.

    Raises:
        ConfigError: see `agent_factory`.
    """
    if name in _BUILTIN:
        return _ENVIRONMENT.get(name, environment) == environment
    return environment in getattr(agent_factory(name), "environments", (environment,))


def needs_discrete_actions(name: str) -> bool:
    """Whether an agent chooses rows of an action grid only; see `required_actions`."""
    return required_actions(name) == "discrete"


def agent_summary(name: str) -> str:
    """First sentence of the docstring of an agent's factory; empty if it has none.

    Raises:
        ConfigError: see `agent_factory`.
    """
    text = " ".join((agent_factory(name).__doc__ or "").split("\n\n")[0].split())
    sentence, _, rest = text.partition("; an `Agent`")
    return (sentence if rest else text.split(". ")[0].split("; options")[0]).rstrip(".")


def make_agent(name: str, context: AgentContext, **options: Any) -> Agent:
    """Build an agent; `options` are added to `context.options`.

    Raises:
        ConfigError: no such agent, a refused option, spaces it cannot act in, or a product that is no `Agent`.
    """
    agent = agent_factory(name)(replace(context, options={**context.options, **options}))
    if not isinstance(agent, Agent):
        raise ConfigError(f"agent {name!r}: its factory returned {type(agent).__name__}, which is not an Agent")
    return agent
