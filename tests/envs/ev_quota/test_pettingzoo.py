"""PettingZoo and Stable-Baselines3: whole episodes in every configuration, bad actions, spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pettingzoo
import pytest
import torch
from pettingzoo.test import api_test, parallel_api_test

import gridmarl.envs  # noqa: F401  (registers the environments)
from gridmarl.envs.adapters.sb3 import SB3VecEnv
from gridmarl.envs.ev_quota.env import EVQuota, env, parallel_env
from gridmarl.errors import ActionError, ConfigError
from tests.envs.ev_quota.configs import CONFIGS, batched, evening


def market(name: str) -> EVQuota:
    return parallel_env(scenario=evening(CONFIGS[name]["num_stations"]), **CONFIGS[name])


def sampled(one: EVQuota, rng: np.random.Generator) -> dict[str, Any]:
    actions: dict[str, Any] = {}
    for agent in one.agents:
        space = one.action_space(agent)
        size = getattr(space, "n", None)
        actions[agent] = int(rng.integers(size)) if size else rng.uniform(-1, 1, 4).astype(np.float32)
    return actions


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_parallel_api(name: str) -> None:
    parallel_api_test(market(name), num_cycles=50)


def test_aec_api() -> None:
    api_test(env(**CONFIGS["default"]), num_cycles=30)


def test_registered() -> None:
    made = pettingzoo.make("parallel", "gridmarl/EVQuota-v0", num_stations=2)
    assert made.possible_agents == ["station_0", "station_1"]
    assert pettingzoo.make("aec", "gridmarl/EVQuota-v0", num_stations=1).possible_agents == ["station_0"]


@pytest.mark.parametrize("name", ["default", "discrete"])
def test_whole_episode(name: str) -> None:
    """Spaces, floats, truncation and never termination, agents gone at the end; lane 4 is lane 4 of a batch."""
    one, batch, rng = market(name), batched(name, 5, auto_reset=False), np.random.default_rng(7)
    observations, _ = one.reset(seed=3, options={"lane": 4})
    together = batch.reset(3)
    for index in range(20):
        for position, agent in enumerate(one.possible_agents):
            assert one.observation_space(agent).contains(observations[agent])
            assert (observations[agent] == together[4, position].numpy()).all()
        actions = sampled(one, rng)
        rows = torch.from_numpy(np.array([actions[agent] for agent in one.possible_agents]))
        observations, rewards, terminations, truncations, infos = one.step(actions)
        result = batch.step(rows.expand(5, *rows.shape))
        together = result.observation
        assert list(rewards.values()) == result.reward[4].tolist()
        assert all(type(value) is float for value in rewards.values())
        assert not any(terminations.values())
        assert all(value == (index == 19) for value in truncations.values())
        assert infos == {agent: {} for agent in one.possible_agents}
    assert one.agents == []
    with pytest.raises(ActionError, match="reset"):
        one.step({})


def test_seeds() -> None:
    one = market("default")
    first, _ = one.reset(seed=1)
    again, _ = one.reset(seed=1)
    following, _ = one.reset()
    assert all((first[agent] == again[agent]).all() for agent in first)
    assert any((first[agent] != following[agent]).any() for agent in first)


@pytest.mark.parametrize(
    ("config", "bad", "message"),
    [
        ("default", [np.nan, 0.0, 0.0, 0.0], "station_1.*4 numbers"),
        ("default", [1.01, 0.0, 0.0, 0.0], "station_1.*4 numbers"),
        ("default", [0.0], "station_1.*4 numbers"),
        ("default", "left", "station_1.*4 numbers"),
        ("discrete", 10_000, "station_1.*integers 0"),
        ("discrete", -1, "station_1.*integers 0"),
        ("discrete", 0.5, "station_1.*integers 0"),
        ("discrete", True, "station_1.*integers 0"),
    ],
)
def test_bad_actions_are_refused(config: str, bad: Any, message: str) -> None:
    one = market(config)
    one.reset(seed=0)
    actions = sampled(one, np.random.default_rng(0)) | {"station_1": bad}
    before = one.lanes.state
    with pytest.raises(ActionError, match=message):
        one.step(actions)
    assert one.lanes.state is before
    with pytest.raises(ActionError, match=r"missing \['station_3'\], unknown \['station_9'\]"):
        one.step({f"station_{index}": bad for index in (0, 1, 2, 9)})


def test_the_batched_core_clamps_and_counts() -> None:
    lanes = batched("default", 2)
    lanes.reset(0)
    actions = torch.zeros(2, 4, 4)
    actions[1, 2] = torch.tensor([float("nan"), 2.0, -3.0, 1.0])
    lanes.step(actions)
    assert lanes.state.clamped_actions.tolist() == [0, 3]


def test_unknown_parameter() -> None:
    with pytest.raises(ConfigError, match="horizon_hours: unknown key"):
        parallel_env(horizon_hours=3)


def test_sb3_rows_are_stations_of_lanes() -> None:
    vector, batch = SB3VecEnv(batched("default", 3), seed=7), batched("default", 3)
    assert np.array_equal(vector.reset(), batch.reset(7).reshape(12, -1).numpy())
    rng = np.random.default_rng(0)
    for index in range(20):
        actions = rng.uniform(-1, 1, (12, 4)).astype(np.float32)
        observation, rewards, dones, infos = vector.step(actions)
        result = batch.step(torch.from_numpy(actions.reshape(3, 4, 4)))
        assert np.array_equal(observation, result.observation.reshape(12, -1).numpy())
        assert np.array_equal(rewards, result.reward.reshape(-1).numpy())
        assert dones.tolist() == [index == 19] * 12
    assert np.array_equal(infos[5]["terminal_observation"], result.final_observation[1, 1].numpy())
