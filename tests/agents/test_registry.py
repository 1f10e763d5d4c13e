"""Agents by name, from here, from run time and from entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from gridmarl.agents import registry
from gridmarl.agents.dqn import DQN
from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent, AgentContext
from tests.oracles.toy_env import IdentityEnv

CONTEXT = IdentityEnv().context()


class Doubled(DQN):
    name = "doubled"


def broken(context: AgentContext) -> Any:
    return context


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch) -> Any:
    def provide(name: str, value: str) -> None:
        point = EntryPoint(name, value, registry.ENTRY_POINT_GROUP)

        def found(group: str) -> list[EntryPoint]:
            return [point] if group == "gridmarl.agents" else []

        monkeypatch.setattr(registry, "entry_points", found)

    return provide


def test_options_reach_the_agent_on_top_of_the_context_s() -> None:
    context = IdentityEnv().context(discount=0.5, batch_size=7)
    agent = registry.make_agent("dqn", context, batch_size=8)
    assert isinstance(agent, DQN)
    assert (agent.config.discount, agent.config.batch_size) == (0.5, 8)


def test_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(
        ConfigError,
        match="no agent 'sarsa'; there are always_cap, comfort, dqn, inflate, mappo, ppo, quota_no_trade, "
        "quota_over_declare, quota_over_use, quota_patient, quota_truthful, quota_uncoordinated, sb3-a2c, sb3-dqn, "
        "sb3-ppo, sb3-sac, "
        "tabular_q, truthful, zero_intelligence",
    ):
        registry.make_agent("sarsa", CONTEXT)


def test_registered_at_run_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    registry.register_agent("doubled", Doubled)
    assert "doubled" in registry.agent_names()
    assert isinstance(registry.make_agent("doubled", CONTEXT), Doubled)
    for taken in ("doubled", "dqn"):
        with pytest.raises(ConfigError, match=f"agent '{taken}' exists already"):
            registry.register_agent(taken, Doubled)


def test_entry_point_of_another_package(entry_point: Any) -> None:
    entry_point("theirs", "gridmarl.agents.dqn:DQN")
    assert "theirs" in registry.agent_names()
    assert isinstance(registry.make_agent("theirs", CONTEXT), Agent)


def test_entry_point_cannot_replace_one_of_ours(entry_point: Any) -> None:
    entry_point("dqn", "gridmarl.agents.heuristics:Truthful")
    assert isinstance(registry.make_agent("dqn", CONTEXT), DQN)
    assert registry.agent_names().count("dqn") == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("gridmarl.no_such_module:Agent", "does not load: No module named"),
        ("gridmarl.agents.dqn:NoSuchAgent", "does not load"),
        ("gridmarl.agents.outside_option:OUTSIDE_OPTION", "is not callable"),
    ],
)
def test_entry_point_that_does_not_work(entry_point: Any, value: str, message: str) -> None:
    entry_point("theirs", value)
    with pytest.raises(ConfigError, match=message):
        registry.make_agent("theirs", CONTEXT)


def test_factory_must_give_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {"broken": broken})
    with pytest.raises(ConfigError, match="'broken': its factory returned AgentContext, which is not an Agent"):
        registry.make_agent("broken", CONTEXT)
