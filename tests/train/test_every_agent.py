"""Every registered agent trains in every registered environment: from the same command, or by the same loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gridmarl.agents.registry import agent_names, needs_discrete_actions, supports
from gridmarl.envs import make_batched
from gridmarl.envs.registry import environments
from gridmarl.train.config import TrainConfig
from gridmarl.train.loop import build_agent, train
from tests.train.command_line import gridmarl, strict_json

SMALL = {
    "dqn": ["learning_starts=32", "batch_size=16", "hidden=[8]"],
    "ppo": ["rollout_steps=12", "hidden=[8]"],
    "mappo": ["rollout_steps=12", "hidden=[8]"],
}


PAIRS = [(agent, env) for agent in agent_names() for env in sorted(environments()) if supports(agent, env)]
COMMANDS = {name for name, entry in environments().items() if entry.commands}


@pytest.mark.parametrize(("agent", "env"), [pair for pair in PAIRS if pair[1] in COMMANDS])
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


@pytest.mark.parametrize(("agent", "env"), [pair for pair in PAIRS if pair[1] not in COMMANDS])
def test_trains_by_the_loop(agent: str, env: str, tmp_path: Path) -> None:
    """The whole of `total_steps`, with metrics; the command says where to train instead."""
    steps, lanes = 192, 4
    kind = "discrete" if needs_discrete_actions(agent) else "continuous"
    market = make_batched(env, {"action_space": kind}, num_envs=lanes)
    options = {key: json.loads(value) for key, _, value in (item.partition("=") for item in SMALL.get(agent, []))}
    config = TrainConfig(
        env_id=market.env_id, agent=agent, total_steps=steps, num_envs=lanes, seed=3, log_interval=96,
        checkpoint_interval=96, agent_options=options, tensorboard=False, progress="off",
    )  # fmt: skip
    built = build_agent(market, config)
    result = train(market, built, config, tmp_path / "run")
    assert result.env_steps == steps
    assert (tmp_path / "run" / "metrics.csv").stat().st_size > 0
    told = gridmarl("train", env, "--agent", agent, "--steps", "96", "--run-dir", tmp_path / "refused")
    assert told.code == 2
    assert f"env: '{env}' is not for this command" in told.err


def test_every_pair_but_heuristics_of_another_environment() -> None:
    assert {env for _, env in PAIRS} == set(environments())
    alone = {agent for agent, _ in PAIRS if len([pair for pair in PAIRS if pair[0] == agent]) == 1}
    assert {agent for agent in agent_names() if not agent.startswith("quota_")} - alone == {
        "dqn", "mappo", "ppo", "sb3-a2c", "sb3-dqn", "sb3-ppo", "sb3-sac", "tabular_q"
    }  # fmt: skip
