"""Every registered agent trains in every registered environment, from the same command."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridmarl.agents.registry import agent_names, supports
from gridmarl.envs.registry import environments
from tests.train.command_line import gridmarl, strict_json

SMALL = {
    "dqn": ["learning_starts=32", "batch_size=16", "hidden=[8]"],
    "ppo": ["rollout_steps=12", "hidden=[8]"],
    "mappo": ["rollout_steps=12", "hidden=[8]"],
}


PAIRS = [(agent, env) for agent in agent_names() for env in sorted(environments()) if supports(agent, env)]
ROWS = {
    "two-stage-dr": ("no market", "truthful", "aggregator"),
    "ev-quota": ("no trade", "truthful", "coordinator"),
}


@pytest.mark.parametrize(("agent", "env"), PAIRS)
def test_trains_and_is_listed(agent: str, env: str, tmp_path: Path) -> None:
    options = ["--agent-set", *SMALL[agent]] if agent in SMALL else []
    days = ["--days", "1"] if env == "two-stage-dr" else []
    folder = tmp_path / "run"
    outcome = gridmarl(
        "train", env, "--agent", agent, "--steps", "192", "--lanes", "4", "--eval-lanes", "2", *days,
        "--eval-every", "96", "--checkpoint-every", "96", "--run-dir", folder, *options,
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    rows = strict_json(folder / "summary.json")["rows"]
    assert [row["name"] for row in rows] == [*ROWS[env][:2], agent, ROWS[env][2]]
    assert (folder / "checkpoint.pt").stat().st_size > 0
    if env == "two-stage-dr":
        assert gridmarl("ledger", "verify", folder).out.splitlines()[-1] == "residual 0 utok"
    listed = gridmarl("list").out
    assert agent in listed
    assert env in listed


def test_every_pair_but_heuristics_of_another_environment() -> None:
    assert {env for _, env in PAIRS} == set(environments())
    alone = {agent for agent, _ in PAIRS if len([pair for pair in PAIRS if pair[0] == agent]) == 1}
    assert {agent for agent in agent_names() if not agent.startswith("quota_")} - alone == {
        "dqn", "mappo", "ppo", "sb3-a2c", "sb3-dqn", "sb3-ppo", "sb3-sac", "tabular_q"
    }  # fmt: skip
