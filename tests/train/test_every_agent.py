"""Every registered agent trains in every registered environment, from the same command."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridmarl.agents.registry import agent_names
from gridmarl.envs.registry import environments
from tests.train.command_line import gridmarl, strict_json

SMALL = {
    "dqn": ["learning_starts=32", "batch_size=16", "hidden=[8]"],
    "ppo": ["rollout_steps=12", "hidden=[8]"],
    "mappo": ["rollout_steps=12", "hidden=[8]"],
}


@pytest.mark.parametrize("env", sorted(environments()))
@pytest.mark.parametrize("agent", agent_names())
def test_trains_and_is_listed(agent: str, env: str, tmp_path: Path) -> None:
    options = ["--agent-set", *SMALL[agent]] if agent in SMALL else []
    folder = tmp_path / "run"
    outcome = gridmarl(
        "train", env, "--agent", agent, "--steps", "192", "--lanes", "4", "--eval-lanes", "2", "--days", "1",
        "--eval-every", "96", "--checkpoint-every", "96", "--run-dir", folder, *options,
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    rows = strict_json(folder / "summary.json")["rows"]
    assert [row["name"] for row in rows] == ["no market", "truthful", agent, "aggregator"]
    assert gridmarl("ledger", "verify", folder).out.splitlines()[-1] == "residual 0 utok"
    listed = gridmarl("list").out
    assert agent in listed
    assert env in listed
