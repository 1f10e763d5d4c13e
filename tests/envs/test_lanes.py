"""Lane i of a batch is the single run of lane i, bit for bit, over whole episodes; resume continues bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gridmarl.envs.two_stage_dr.env import parallel_env
from gridmarl.envs.two_stage_dr.state import state_to_dict
from tests.envs.configs import CONFIGS
from tests.envs.helpers import batched, random_actions

LANES = 7


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_lane_equals_single_run(name: str) -> None:
    batch = batched(name, LANES)
    singles = {lane: batched(name, 1, first_lane=lane) for lane in (0, 3, LANES - 1)}
    together = batch.reset(42)
    for lane, single in singles.items():
        assert torch.equal(single.reset(42)[0], together[lane])
    rng = np.random.default_rng(0)
    for _ in range(2 * batch.params.horizon_hours * batch.params.steps_per_hour):
        actions = random_actions(batch, rng, extreme=0.2)
        result = batch.step(actions)
        for lane, single in singles.items():
            alone = single.step(actions[lane : lane + 1])
            assert torch.equal(alone.observation[0], result.observation[lane])
            assert torch.equal(alone.final_observation[0], result.final_observation[lane])
            assert torch.equal(alone.reward[0], result.reward[lane])
            assert torch.equal(single.state.balances[:, 0], batch.state.balances[:, lane])
            assert torch.equal(single.state.soc_wh[:, 0], batch.state.soc_wh[:, lane])
            if batch.settled is not None and single.settled is not None:
                assert torch.equal(single.settled.flows.wh[..., 0], batch.settled.flows.wh[..., lane])


def test_large_batch_takes_the_other_clearing_route_to_the_same_bits() -> None:
    """Few lanes clear by comparing candidates, many by bisection."""
    batch, single = batched("default", 3000), batched("default", 1, first_lane=2999)
    batch.reset(1)
    single.reset(1)
    rng = np.random.default_rng(0)
    for _ in range(24):
        actions = random_actions(batch, rng, extreme=0.5)
        result, alone = batch.step(actions), single.step(actions[-1:])
        assert torch.equal(alone.observation[0], result.observation[-1])
        assert torch.equal(single.state.balances[:, 0], batch.state.balances[:, -1])


def test_pettingzoo_lane_option() -> None:
    market, batch = parallel_env(**CONFIGS["default"]), batched("default", 5)
    together = batch.reset(8)
    alone, _ = market.reset(seed=8, options={"lane": 4})
    for index, agent in enumerate(market.possible_agents):
        assert (alone[agent] == together[4, index].numpy()).all()


@pytest.mark.parametrize("name", ["default", "learned", "everything"])
def test_resume_continues_bit_for_bit(name: str) -> None:
    first = batched(name, 3)
    first.reset(5)
    rng = np.random.default_rng(0)
    for _ in range(first.params.horizon_hours + 3):
        first.step(random_actions(first, rng))
    second = batched(name, 3)
    second.load_state_dict(first.state_dict())
    for _ in range(first.params.horizon_hours):
        actions = random_actions(first, rng)
        one, two = first.step(actions), second.step(actions)
        assert torch.equal(one.observation, two.observation)
        assert torch.equal(one.reward, two.reward)
    assert str(state_to_dict(first.state)) == str(state_to_dict(second.state))


def test_neighbouring_seeds_share_nothing() -> None:
    one, two = batched("default", 4), batched("default", 4)
    assert not torch.equal(one.reset(1)[1:], two.reset(2)[:-1])
