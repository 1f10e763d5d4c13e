"""Stable-Baselines3 agents reach known optima."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gridmarl.agents.registry import make_agent
from tests.agents.ppo_cases import AimEnv
from tests.agents.sb3_cases import advance
from tests.oracles.toy_env import IdentityEnv

# One policy that is not told which agent it acts for: one agent.
PPO = {"n_steps": 16, "batch_size": 64, "n_epochs": 4}


@pytest.mark.parametrize(
    ("name", "steps", "options"),
    [
        ("sb3-ppo", 320, PPO),
        ("sb3-a2c", 480, {}),
        ("sb3-dqn", 400, {"total_steps": 6400, "train_freq": 1, "target_update_interval": 100}),
    ],
)
def test_learns_what_to_do_with_each_symbol(name: str, steps: int, options: dict[str, Any]) -> None:
    env = IdentityEnv(num_agents=1)
    agent = make_agent(name, env.context(3, gamma=0.0, net_arch=[32], learning_rate=5e-3, **options))
    advance(agent, env, env.reset(3), steps)
    observation = env.reset(99)
    for _ in range(env.horizon):
        step = env.step(agent.act(observation, explore=False))
        assert float(step.reward.mean()) == 1.0
        observation = step.observation


@pytest.mark.parametrize(
    ("name", "steps", "options"), [("sb3-ppo", 480, PPO), ("sb3-a2c", 1200, {}), ("sb3-sac", 500, {"batch_size": 64})]
)
def test_learns_where_to_aim(name: str, steps: int, options: dict[str, Any]) -> None:
    env = AimEnv(num_agents=1)
    agent = make_agent(name, env.context(3, gamma=0.0, net_arch=[32], learning_rate=5e-3, **options))
    advance(agent, env, env.reset(3), steps)
    observation = env.reset(99)
    torch.testing.assert_close(agent.act(observation, explore=False), env.aim(), atol=0.15, rtol=0.0)
