"""Stable-Baselines3 adapter: the same rows as the batched environment, and SB3's own algorithms run unmodified."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC

from gridmarl.envs import make_batched
from gridmarl.envs.adapters.sb3 import SB3VecEnv
from gridmarl.errors import ActionError, ConfigError

PROSUMERS, LANES, HOURS = 3, 4, 5


def market(**params: Any) -> Any:
    return make_batched("two-stage-dr", {"num_prosumers": PROSUMERS, "horizon_hours": HOURS, **params}, num_envs=LANES)


def test_rows_are_agents_of_lanes_and_ends_keep_their_observation() -> None:
    vector, batched = SB3VecEnv(market(), seed=7), market()
    first = vector.reset()
    assert np.array_equal(first, batched.reset(7).reshape(LANES * PROSUMERS, -1).numpy())
    rng = np.random.default_rng(0)
    for step in range(2 * HOURS):
        actions = rng.uniform(-1, 1, (LANES * PROSUMERS, 3)).astype(np.float32)
        observation, rewards, dones, infos = vector.step(actions)
        result = batched.step(torch.from_numpy(actions.reshape(LANES, PROSUMERS, 3)))
        assert np.array_equal(observation, result.observation.reshape(LANES * PROSUMERS, -1).numpy())
        assert np.array_equal(rewards, result.reward.reshape(-1).numpy())
        ended = (step + 1) % HOURS == 0
        assert dones.tolist() == [ended] * (LANES * PROSUMERS)
        assert len(infos) == LANES * PROSUMERS
        for row, info in enumerate(infos):
            assert set(info) == ({"terminal_observation", "TimeLimit.truncated"} if ended else set())
            if ended:
                last = result.final_observation[row // PROSUMERS, row % PROSUMERS].numpy()
                assert np.array_equal(info["terminal_observation"], last)
                assert not np.array_equal(last, observation[row])
                assert info["TimeLimit.truncated"] is True


def test_seed_fixes_the_episodes() -> None:
    one, two = SB3VecEnv(market(), seed=3), SB3VecEnv(market(), seed=9)
    two.seed(3)
    assert np.array_equal(one.reset(), two.reset())
    assert not np.array_equal(one.reset(), SB3VecEnv(market(), seed=3).reset()), "a second reset is another episode"


@pytest.mark.parametrize(
    ("algorithm", "space", "options"),
    [
        (PPO, "continuous", {"n_steps": HOURS, "batch_size": 30}),
        (PPO, "discrete", {"n_steps": HOURS, "batch_size": 30}),
        (A2C, "continuous", {}),
        (SAC, "continuous", {"learning_starts": 24, "batch_size": 32}),
        (DQN, "discrete", {"learning_starts": 24, "batch_size": 32}),
    ],
)
def test_algorithms_run_unmodified(algorithm: Any, space: str, options: dict[str, Any]) -> None:
    model = algorithm("MlpPolicy", SB3VecEnv(market(action_space=space)), seed=0, device="cpu", **options)
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(HOURS * LANES * PROSUMERS * 2)
    assert any(not torch.equal(old, new) for old, new in zip(before, model.policy.parameters(), strict=True))


def test_errors() -> None:
    vector = SB3VecEnv(market())
    with pytest.raises(ActionError, match="step_async"):
        vector.step_wait()
    with pytest.raises(ConfigError, match="set_attr 'x'"):
        vector.set_attr("x", 1)
    with pytest.raises(ConfigError, match="env_method 'x'"):
        vector.env_method("x")
