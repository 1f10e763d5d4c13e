"""Money and energy over random, extreme and adversarial play."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.scenarios.scenario import default_scenario, toy_scenario
from tests.envs.configs import CONFIGS
from tests.envs.helpers import assert_hour_balances, batched, random_actions


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_money_and_energy_in_every_configuration(name: str) -> None:
    env = batched(name, 40)
    rng = np.random.default_rng(1)
    env.reset(5)
    for _ in range(2 * env.params.horizon_hours * env.params.steps_per_hour):
        before = env.state.balances
        env.step(random_actions(env, rng, extreme=0.3))
        if env.settled is not None:
            assert_hour_balances(env.settled, before)
    assert not bool(env.state.balances.sum(0).any())
    assert bool(env.state.balances.any()), "accounts live on from episode to episode"


def test_ten_thousand_episode_steps_with_every_kind_of_actions() -> None:
    """220 lanes x 48 hours = 10,560 episode steps: random, at the corners, NaN, infinite and far out of range."""
    env = BatchedTwoStageDR(TwoStageDRParams(battery_capacity_wh=4_000, battery_power_w=2_000), num_envs=220)
    rng = np.random.default_rng(2)
    env.reset(9)
    steps = 0
    for _ in range(env.params.horizon_hours):
        actions = random_actions(env, rng, extreme=0.5)
        wild = torch.from_numpy(rng.choice([np.nan, np.inf, -np.inf, 1e30, -7.0], actions.shape)).float()
        actions = torch.where(torch.from_numpy(rng.random(actions.shape) < 0.1), wild, actions)
        before, clamped = env.state.balances, env.state.clamped_actions
        env.auto_reset = False
        env.step(actions)
        assert env.settled is not None
        assert_hour_balances(env.settled, before)
        expected = (~(actions.abs() <= 1)).sum((1, 2))
        assert torch.equal(env.state.clamped_actions - clamped, expected)
        steps += env.num_envs
    assert steps >= 10_000
    assert not bool(env.state.balances.sum(0).any())
    assert not bool(env.state.backlog.any()), "all shifted energy has returned by the horizon"
    assert bool((env.state.soc_wh == env.params.battery_initial_wh).all()), "batteries are restored"


def test_shifted_energy_returns_exactly_once() -> None:
    env = batched("comfort", 30, auto_reset=False)
    rng = np.random.default_rng(3)
    env.reset(1)
    shifted = returned = 0
    for _ in range(env.params.horizon_hours):
        env.step(random_actions(env, rng))
        assert env.settled is not None
        shifted += int(env.settled.shifted_wh.sum())
        returned += int(env.settled.orders.returned_wh.sum())
    assert shifted > 0
    assert shifted == returned


@pytest.mark.parametrize("wholesale", [-100_000, 0, 2_000_000])
def test_negative_and_cap_prices(wholesale: int) -> None:
    """The NEM's floor and cap: 24 hours at one price, both settlements, all money conserved."""
    scenario = toy_scenario([wholesale] * 24, [[900, 1500]] * 24, [[0, 2000]] * 24)
    for settlement in ("two_settlement", "additive"):
        params = TwoStageDRParams(
            num_prosumers=4, horizon_hours=24, dr_settlement=settlement, reference_price_utok_per_wh=12_000
        )
        env = BatchedTwoStageDR(params, scenario, num_envs=8, auto_reset=False)
        rng = np.random.default_rng(4)
        env.reset(0)
        for _ in range(24):
            before = env.state.balances
            env.step(random_actions(env, rng, extreme=0.2))
            assert env.settled is not None
            assert_hour_balances(env.settled, before)


def test_a_broken_settlement_is_seen() -> None:
    """The check itself: one micro-token or one Wh astray fails it."""
    env = batched("default", 2)
    env.reset(0)
    before = env.state.balances
    env.step(random_actions(env, np.random.default_rng(0)))
    settled = env.settled
    assert settled is not None
    assert_hour_balances(settled, before)
    wrong = settled.balances.clone()
    wrong[0, 0] += 1
    with pytest.raises(AssertionError):
        assert_hour_balances(settled._replace(balances=wrong), before)
    with pytest.raises(AssertionError):
        assert_hour_balances(settled._replace(orders=settled.orders._replace(buy_wh=settled.orders.buy_wh + 1)), before)


def test_default_scenario_has_shortage_and_surplus() -> None:
    """Else half of the rules would go untested above."""
    env = BatchedTwoStageDR(TwoStageDRParams(), default_scenario(), num_envs=50, auto_reset=False)
    env.reset(0)
    short = long = 0
    for _ in range(48):
        env.step(random_actions(env, np.random.default_rng(0)))
        assert env.settled is not None
        short += int((env.settled.market.shortage_wh > 0).sum())
        long += int((env.settled.flows.upstream_wh[1] > 0).sum())
    assert short > 200
    assert long > 200
