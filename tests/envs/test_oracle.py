"""Whole episodes of the batched environment against the slow oracle: every integer of state and settled hour."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import State
from gridmarl.envs.two_stage_dr.step import Settled
from gridmarl.scenarios.scenario import Scenario, conditions, toy_scenario
from gridmarl.train.rollout import play
from tests.envs.configs import CONFIGS
from tests.envs.drawn import Scripted, drawn_params, drawn_scenarios
from tests.envs.helpers import batched, random_actions
from tests.oracles.two_stage import Nature, Player

LANES = 3


def natures(env: BatchedTwoStageDR) -> list[Nature]:
    """What nature drew for each lane of a started episode."""
    params, state, scenario = env.params, env.state, env.scenario
    hours = [
        conditions(
            scenario, state.draws, state.keys, hour, params.num_prosumers,
            pv_scale_permille=params.pv_scale_permille, forecast_error_permille=params.forecast_error_permille,
        )
        for hour in range(params.horizon_hours)
    ]  # fmt: skip
    mean = scenario.reference_price_utok_per_wh
    return [
        Nature(
            wholesale=state.draws.wholesale_utok_per_wh[:, lane].tolist(),
            load=[hour.load_wh[:, lane].tolist() for hour in hours],
            forecast=[hour.forecast_wh[:, lane].tolist() for hour in hours],
            generation=[hour.generation_wh[:, lane].tolist() for hour in hours],
            participates=state.participates[:, lane].tolist(),
            mean_wholesale=mean,
        )
        for lane in range(env.num_envs)
    ]


def numbers(value: Any, lane: int) -> Any:
    """Of one lane: tensors as lists, named parts flattened to `part.field`; the random numbers' own state left out."""
    if isinstance(value, Tensor):
        return value.select(-1, lane).tolist()
    if not isinstance(value, State) and not hasattr(value, "_fields"):
        return value
    names = [item.name for item in fields(value)] if isinstance(value, State) else list(value._fields)
    if isinstance(value, Settled):
        names += ["reward_utok", "load_wh"]
    result: dict[str, Any] = {}
    for name in names:
        part = numbers(getattr(value, name), lane)
        if isinstance(part, dict):
            result |= {f"{name}.{key}": item for key, item in part.items()}
        elif name != "keys":
            result[name] = part
    return {name: part for name, part in result.items() if not name.startswith("draws.")}


def assert_same_episode(env: BatchedTwoStageDR, rng: np.random.Generator, seed: int, wild: float = 0.05) -> None:
    """Play one episode at random, with a share of impossible actions, and compare after every step."""
    env.auto_reset = False
    env.reset(seed)
    players = [Player(env.params.to_dict(), nature) for nature in natures(env)]
    assert [numbers(env.state, lane) for lane in range(env.num_envs)] == [player.numbers() for player in players]
    for _ in range(env.params.horizon_hours * env.params.steps_per_hour):
        actions = random_actions(env, rng, extreme=0.3)
        impossible = torch.from_numpy(rng.random(actions.shape) < wild)
        if env.action_spec.num_actions:
            actions = torch.where(impossible, torch.from_numpy(rng.choice([-3, 10**6], actions.shape)), actions)
        else:
            strange = rng.choice([np.nan, np.inf, -np.inf, 1.0001], actions.shape).astype(np.float32)
            actions = torch.where(impossible, torch.from_numpy(strange), actions)
        alpha = None
        if env.params.operator:
            alpha = torch.from_numpy(rng.integers(1000, env.params.alpha_max_permille + 1, env.num_envs))
        env.step(actions, alpha)
        for lane, player in enumerate(players):
            hour = player.step(actions[lane].tolist(), None if alpha is None else int(alpha[lane]))
            assert numbers(env.settled, lane) == hour
            assert numbers(env.state, lane) == player.numbers()


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_configuration(name: str) -> None:
    assert_same_episode(batched(name, LANES), np.random.default_rng(6), 31)


@settings(max_examples=25)
@given(params=drawn_params(), scenario=drawn_scenarios(), seed=st.integers(0, 2**32))
def test_drawn_markets(params: TwoStageDRParams, scenario: Scenario, seed: int) -> None:
    """Small markets of every kind: negative prices, no load, no sun, ties, wild forecasts."""
    env = BatchedTwoStageDR(params, scenario, num_envs=2)
    assert_same_episode(env, np.random.default_rng(seed), seed)


def test_negative_prices_below_the_spread() -> None:
    scenario = toy_scenario([-20_000, 5_000, -9_000, -8_000, 300], [[900, 1500, 0]] * 5, [[0, 2000, 400]] * 5)
    for settlement in ("two_settlement", "additive"):
        params = TwoStageDRParams(
            num_prosumers=7, horizon_hours=15, dr_settlement=settlement, reference_price_utok_per_wh=12_000,
            battery_capacity_wh=3_001, battery_power_w=999, shift_deadline_hours=3,
        )  # fmt: skip
        assert_same_episode(BatchedTwoStageDR(params, scenario, num_envs=2), np.random.default_rng(8), 2)


@pytest.mark.parametrize("name", ["default", "everything", "battery"])
def test_welfare_of_a_rollout(name: str) -> None:
    """What the comparison tables call welfare is the rules' welfare."""
    env = batched(name, LANES, auto_reset=False)
    env.reset(12)
    players = [Player(env.params.to_dict(), nature) for nature in natures(env)]
    agent = Scripted(env, np.random.default_rng(3))
    episode = play(env, agent, 12)
    for lane, player in enumerate(players):
        for actions in agent.played:
            player.step(actions[lane].tolist())
        assert player.phase == 2
        assert int(episode.welfare_utok[lane]) == player.welfare
        assert int(episode.operator_utok[:, lane].sum()) == player.balances[-2]
        assert int(episode.upstream_utok[:, lane].sum()) == player.balances[-1]


def test_the_comparison_sees_one_unit() -> None:
    """The check itself: a state with one integer changed differs."""
    env = batched("battery", 1)
    env.reset(0)
    player = Player(env.params.to_dict(), natures(env)[0])
    assert numbers(env.state, 0) == player.numbers()
    for name in ("soc_wh", "balances", "last_price", "backlog"):
        changed = replace(env.state, **{name: getattr(env.state, name) + 1})
        assert numbers(changed, 0) != player.numbers()
