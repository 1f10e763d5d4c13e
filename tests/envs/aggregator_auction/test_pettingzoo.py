"""PettingZoo: whole episodes in every configuration, spaces by role, bad actions, pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo.test import api_test, parallel_api_test

from gridmarl.envs.adapters.sb3 import SB3VecEnv
from gridmarl.envs.aggregator_auction.env import AggregatorAuction, env, parallel_env
from gridmarl.envs.aggregator_auction.observe import (
    AGGREGATOR_FIELDS,
    KIND_FIELDS,
    PROSUMER_FIELDS,
    PUBLIC_FIELDS,
)
from gridmarl.errors import ActionError, ConfigError
from tests.envs.aggregator_auction.configs import CONFIGS, batched, scenario


def market(name: str, **kwargs: Any) -> AggregatorAuction:
    return parallel_env(scenario=scenario(), **CONFIGS[name], **kwargs)


def sampled(one: AggregatorAuction, rng: np.random.Generator) -> dict[str, Any]:
    actions: dict[str, Any] = {}
    for agent in one.agents:
        space = one.action_space(agent)
        if isinstance(space, spaces.Discrete):
            actions[agent] = int(rng.integers(space.n))
        else:
            actions[agent] = rng.uniform(-1, 1, space.shape).astype(np.float32)
    return actions


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_parallel_api(name: str) -> None:
    parallel_api_test(market(name), num_cycles=20)


@pytest.mark.filterwarnings("ignore:Agents have different:UserWarning")  # spaces differ by role, on purpose
@pytest.mark.filterwarnings("ignore:Observations are different shapes:UserWarning")
def test_aec_api() -> None:
    api_test(env(scenario=scenario(), **CONFIGS["flexibility"]), num_cycles=20)


def test_spaces_differ_by_role() -> None:
    one = market("flexibility")
    assert one.possible_agents == [*(f"aggregator_{k}" for k in range(2)), *(f"prosumer_{i}" for i in range(6))]
    assert one.action_space("aggregator_1") == spaces.Box(-1.0, 1.0, (2,), np.float32)
    assert one.action_space("prosumer_5") == spaces.Box(-1.0, 1.0, (4,), np.float32)
    assert one.observation_space("aggregator_0").shape == (len(PUBLIC_FIELDS + AGGREGATOR_FIELDS),)
    assert one.observation_space("prosumer_0").shape == (len(PUBLIC_FIELDS + KIND_FIELDS + PROSUMER_FIELDS),)
    assert market("default").action_space("prosumer_0") == spaces.Box(-1.0, 1.0, (2,), np.float32)
    grid = market("discrete_flexibility")
    assert grid.action_space("aggregator_0") == spaces.Discrete(9)
    assert grid.action_space("prosumer_0") == spaces.Discrete(81)


def test_roles_say_what_of_the_batch_is_whose() -> None:
    roles = batched("discrete_flexibility", 1).roles
    assert list(roles) == ["aggregator", "prosumer"]
    assert [roles[name].rows for name in roles] == [(0, 1), (2, 3, 4, 5, 6, 7)]
    own, everyone = roles["aggregator"].spec, roles["prosumer"].spec
    assert own.grid is not None
    assert everyone.grid is not None
    assert (own.names, everyone.names[:2]) == (("price", "quantity"), ("price", "quantity"))
    for row in range(own.num_actions):
        assert torch.equal(own.grid[row], everyone.grid[row * 9, :2])


@pytest.mark.parametrize("name", ["default", "flexibility_vcg", "discrete_flexibility"])
def test_whole_episode(name: str) -> None:
    """Truncation and never termination, agents gone at the end; lane 4 is lane 4 of a batch, field by field."""
    one, batch, rng = market(name), batched(name, 5, auto_reset=False), np.random.default_rng(7)
    observations, _ = one.reset(seed=3, options={"lane": 4})
    together = batch.reset(3)
    columns = {
        role: [batch.observation_fields.index(item) for item in kind.fields] for role, kind in batch.roles.items()
    }
    for index in range(8):
        for position, agent in enumerate(one.possible_agents):
            assert one.observation_space(agent).contains(observations[agent])
            mine = together[4, position, columns[agent.split("_")[0]]]
            assert (observations[agent] == mine.numpy()).all()
        actions = sampled(one, rng)
        parts = [np.array([actions[agent] for agent in kind.names]) for kind in batch.roles.values()]
        joined = batch.joined(*(torch.from_numpy(part).expand(5, *part.shape) for part in parts))
        observations, rewards, terminations, truncations, infos = one.step(actions)
        result = batch.step(joined)
        together = result.observation
        assert list(rewards.values()) == result.reward[4].tolist()
        assert all(type(value) is float for value in rewards.values())
        assert not any(terminations.values())
        assert all(value == (index == 7) for value in truncations.values())
        assert infos == {agent: {} for agent in one.possible_agents}
    assert one.agents == []
    with pytest.raises(ActionError, match="reset"):
        one.step({})


def test_an_aggregator_bids_what_its_index_says() -> None:
    one = market("discrete_flexibility")
    one.reset(seed=0)
    spec = one.lanes.roles["aggregator"].spec
    assert spec.grid is not None
    for index in (0, 4, 5, 7, 8, 2, 3):
        one.step({agent: index if agent == "aggregator_0" else 0 for agent in one.agents})
        settled = one.lanes.settled
        assert settled is not None
        price, quantity = ((entry + 1) / 2 for entry in spec.grid[index].tolist())
        need = int(settled.situation.need_wh[0, 0])
        orders = settled.up_orders if need > 0 else settled.down_orders
        assert int(orders.bid_price[0, 0]) == price * 30_000
        assert int(orders.bid_wh[0, 0]) == quantity * 2 * abs(need)


@pytest.mark.parametrize(
    ("config", "agent", "bad", "message"),
    [
        ("flexibility", "aggregator_1", [np.nan, 0.0], "aggregator_1.*2 numbers"),
        ("flexibility", "aggregator_1", [0.0, 0.0, 0.0, 0.0], "aggregator_1.*2 numbers"),
        ("flexibility", "prosumer_1", [0.0, 0.0], "prosumer_1.*4 numbers"),
        ("flexibility", "prosumer_1", [np.inf, 0.0, 0.0, 0.0], "prosumer_1.*4 numbers"),
        ("discrete_flexibility", "aggregator_1", 9, "aggregator_1.*integers 0 .. 8"),
        ("discrete_flexibility", "prosumer_1", 81, "prosumer_1.*integers 0 .. 80"),
        ("discrete_flexibility", "prosumer_1", True, "prosumer_1.*integers 0 .. 80"),
    ],
)
def test_bad_actions_are_refused(config: str, agent: str, bad: Any, message: str) -> None:
    one = market(config)
    one.reset(seed=0)
    actions = sampled(one, np.random.default_rng(0)) | {agent: bad}
    before = one.lanes.state
    with pytest.raises(ActionError, match=message):
        one.step(actions)
    assert one.lanes.state is before


def test_the_batched_core_clamps_and_counts() -> None:
    lanes = batched("default", 2)
    lanes.reset(0)
    actions = torch.zeros(2, 8, 2)
    actions[1, 2], actions[1, 0, 0] = torch.tensor([float("nan"), 2.0]), float("-inf")
    lanes.step(actions)
    assert lanes.state.clamped_actions.tolist() == [0, 3]


def test_sb3_rows_are_agents_of_lanes() -> None:
    vector, batch = SB3VecEnv(batched("flexibility", 3), seed=7), batched("flexibility", 3)
    assert np.array_equal(vector.reset(), batch.reset(7).reshape(24, -1).numpy())
    actions = np.random.default_rng(0).uniform(-1, 1, (24, 4)).astype(np.float32)
    observation, rewards, _, _ = vector.step(actions)
    result = batch.step(torch.from_numpy(actions.reshape(3, 8, 4)))
    assert np.array_equal(observation, result.observation.reshape(24, -1).numpy())
    assert np.array_equal(rewards, result.reward.reshape(-1).numpy())


def test_unknown_parameter() -> None:
    with pytest.raises(ConfigError, match="num_stations: unknown key"):
        parallel_env(num_stations=3)


@pytest.mark.parametrize("name", ["default", "flexibility"])
def test_frames_show_what_was_settled(name: str) -> None:
    one = market(name, render_mode="ansi")
    with pytest.raises(ConfigError, match="call reset"):
        one.render()
    one.reset(seed=1)
    assert "Before the first of 8 hours" in str(one.render())
    one.step({agent: one.action_space(agent).high for agent in one.agents})
    text, settled = str(one.render()), one.lanes.settled
    assert settled is not None
    assert f"offers {int(settled.up_orders.ask_wh.sum()) / 1000:.3f}" in text
    assert ("\ndown" in text) == (name == "flexibility")
    assert all(len(line) <= 100 for line in text.splitlines())


def test_pixels() -> None:
    one = market("flexibility", render_mode="rgb_array")
    one.reset(seed=1)
    before = one.render()
    one.step(sampled(one, np.random.default_rng(1)))
    after = one.render()
    assert isinstance(before, np.ndarray)
    assert isinstance(after, np.ndarray)
    assert before.shape == after.shape == (520, 800, 3)
    assert before.dtype == np.uint8
    assert (before != after).mean() > 0.01
    one.close()
