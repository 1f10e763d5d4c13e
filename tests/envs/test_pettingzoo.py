"""PettingZoo conformance over whole episodes, in every configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pettingzoo
import pytest
from pettingzoo.test import api_test, parallel_api_test

import gridmarl.envs  # noqa: F401  (registers the environments)
from gridmarl.envs.base.parallel import ParallelMarket
from gridmarl.envs.two_stage_dr.env import env, parallel_env
from gridmarl.errors import ActionError
from tests.envs.configs import CONFIGS

CONFIG_NAMES = sorted(CONFIGS)


@pytest.mark.parametrize("name", CONFIG_NAMES)
def test_parallel_api(name: str) -> None:
    parallel_api_test(parallel_env(**CONFIGS[name]), num_cycles=120)


@pytest.mark.parametrize("name", ["default", "learned", "battery"])  # `operator` has no number, which api_test warns of
def test_aec_api(name: str) -> None:
    api_test(env(**CONFIGS[name]), num_cycles=60)


def test_registered() -> None:
    made = pettingzoo.make("parallel", "gridmarl/TwoStageDR-v0", num_prosumers=3)
    assert made.possible_agents == ["prosumer_0", "prosumer_1", "prosumer_2"]
    assert pettingzoo.make("aec", "gridmarl/TwoStageDR-v0", num_prosumers=2).possible_agents == [
        "prosumer_0",
        "prosumer_1",
    ]


def sampled_actions(market: ParallelMarket[Any], rng: np.random.Generator) -> dict[str, Any]:
    actions: dict[str, Any] = {}
    for agent in market.agents:
        space = market.action_space(agent)
        size = getattr(space, "n", None)
        actions[agent] = (
            int(rng.integers(size)) if size else rng.uniform(-1, 1, space.shape).astype(np.float32)  # type: ignore[arg-type]
        )
    return actions


@pytest.mark.parametrize("name", CONFIG_NAMES)
def test_whole_episode(name: str) -> None:
    """Spaces, finite rewards, truncation and never termination, agents gone at the end: at every step."""
    market = parallel_env(**CONFIGS[name])
    rng = np.random.default_rng(7)
    observations, _ = market.reset(seed=3)
    steps = market.params.horizon_hours * market.params.steps_per_hour
    for index in range(steps):
        assert set(observations) == set(market.possible_agents)
        for agent, seen in observations.items():
            assert market.observation_space(agent).contains(seen), (agent, seen)
        observations, rewards, terminations, truncations, _ = market.step(sampled_actions(market, rng))
        assert all(np.isfinite(value) and type(value) is float for value in rewards.values())
        assert not any(terminations.values())
        assert all(value == (index == steps - 1) for value in truncations.values())
    assert market.agents == []
    for agent, seen in observations.items():
        assert market.observation_space(agent).contains(seen)
    with pytest.raises(ActionError, match="reset"):
        market.step({})


PLAY = """
import json, zlib
import numpy as np
from tests.envs.test_pettingzoo import sampled_actions
from tests.envs.configs import CONFIGS
from gridmarl.envs.two_stage_dr.env import parallel_env
for name in json.loads({names!r}):
    market = parallel_env(**CONFIGS[name])
    observations, _ = market.reset(seed=11)
    rng = np.random.default_rng(5)
    crc = 0
    while market.agents:
        for agent in sorted(observations):
            crc = zlib.crc32(observations[agent].tobytes(), crc)
        observations, rewards, *_ = market.step(sampled_actions(market, rng))
        crc = zlib.crc32(json.dumps(rewards).encode(), crc)
        crc = zlib.crc32(market.lanes.state.balances.numpy().tobytes(), crc)
        print(name, crc)
"""


def test_seed_fixes_everything_in_two_processes() -> None:
    """Every observation, reward and balance of every step, in every configuration, in two separate processes."""
    script = PLAY.format(names=json.dumps(CONFIG_NAMES))
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(hash_seed), "PATH": "", "PYTHONPATH": str(Path(__file__).parents[2])},
        ).stdout
        for hash_seed in (1, 2)
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == sum(
        parallel_env(**CONFIGS[name]).params.horizon_hours * parallel_env(**CONFIGS[name]).params.steps_per_hour
        for name in CONFIG_NAMES
    )


def test_other_seed_other_episode() -> None:
    market = parallel_env(horizon_hours=2)
    first, _ = market.reset(seed=1)
    again, _ = market.reset(seed=1)
    other, _ = market.reset(seed=2)
    following, _ = market.reset()
    assert all((first[agent] == again[agent]).all() for agent in first)
    assert any((first[agent] != other[agent]).any() for agent in first)
    assert any((following[agent] != other[agent]).any() for agent in first)


@pytest.mark.parametrize(
    ("config", "bad", "message"),
    [
        ("default", [np.nan, 0.0, 0.0], "prosumer_1.*3 numbers"),
        ("default", [2.0, 0.0, 0.0], "prosumer_1.*3 numbers"),
        ("default", [0.0], "prosumer_1.*3 numbers"),
        ("discrete", 10_000, "prosumer_1.*integers 0"),
        ("discrete", -1, "prosumer_1.*integers 0"),
        ("discrete", 0.5, "prosumer_1.*integers 0"),
    ],
)
def test_bad_actions_are_refused(config: str, bad: Any, message: str) -> None:
    market = parallel_env(**CONFIGS[config])
    market.reset(seed=0)
    actions = sampled_actions(market, np.random.default_rng(0))
    actions["prosumer_1"] = np.array(bad, dtype=np.float32) if isinstance(bad, list) else bad
    before = market.lanes.state
    with pytest.raises(ActionError, match=message):
        market.step(actions)
    assert market.lanes.state is before


def test_missing_and_unknown_agents_are_refused() -> None:
    market = parallel_env(num_prosumers=2, horizon_hours=2)
    market.reset(seed=0)
    with pytest.raises(ActionError, match="missing \\['prosumer_1'\\]"):
        market.step({"prosumer_0": np.zeros(3, np.float32)})
