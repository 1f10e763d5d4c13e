"""No policy in the environment beats the central planner, and the planner alone never beats the planner together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridmarl.agents.registry import make_agent
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.optimum.outcome import Plan
from gridmarl.optimum.planner import plan
from gridmarl.optimum.waterfill import first_best_hour
from gridmarl.protocols import AgentContext
from gridmarl.scenarios.scenario import Scenario, default_scenario, toy_scenario
from gridmarl.train.planning import plan_problem
from gridmarl.train.rollout import Episode, play
from tests.envs.configs import CONFIGS
from tests.envs.drawn import Scripted, drawn_params, drawn_scenarios
from tests.envs.helpers import batched

HEURISTICS = ("truthful", "zero_intelligence", "always_cap", "inflate", "comfort")


def play_heuristic(env: BatchedTwoStageDR, name: str, seed: int) -> Episode:
    context = AgentContext(
        env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, seed, options={}
    )
    return play(env, make_agent(name, context), seed)


def assert_bounded(params: TwoStageDRParams, episode: Episode, lane: int) -> Plan:
    """Every outcome lies below the first best's bound, and so does the best without a market."""
    problem = plan_problem(params, episode, lane)
    best, alone = plan(problem), plan(problem, pooled=False)
    ceiling = best.bound_utok + best.rounding_utok
    assert int(episode.welfare_utok[lane]) <= ceiling
    assert alone.welfare_utok <= ceiling
    return best


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_random_play_in_every_configuration(name: str) -> None:
    env = batched(name, 1, first_lane=3)
    assert_bounded(env.params, play(env, Scripted(env, np.random.default_rng(4)), 21), 0)


@pytest.mark.parametrize("settlement", ["two_settlement", "additive"])
def test_every_heuristic(settlement: str) -> None:
    """All play the same episode, so one plan bounds them all; the honest one comes closest to it."""
    params = TwoStageDRParams(horizon_hours=24, dr_settlement=settlement, participation_permille=1000)  # type: ignore[arg-type]
    welfare, best = {}, None
    for name in HEURISTICS:
        episode = play_heuristic(BatchedTwoStageDR(params, num_envs=1), name, 2)
        best = best or assert_bounded(params, episode, 0)
        welfare[name] = int(episode.welfare_utok[0])
        assert welfare[name] <= best.bound_utok + best.rounding_utok
    assert best is not None
    assert max(welfare.values()) > 0.8 * best.welfare_utok, "the bound is of the same size as what is reached"
    if settlement == "two_settlement":
        assert welfare["truthful"] > max(welfare["zero_intelligence"], welfare["inflate"])


@settings(max_examples=60)
@given(drawn_params(3), drawn_scenarios(), st.integers(0, 2**32), st.sampled_from([0.0, 0.9]))
def test_drawn_markets(params: TwoStageDRParams, scenario: Scenario, seed: int, extreme: float) -> None:
    """Battery, shifting, learned, additive, forecast errors and negative prices, in any combination."""
    env = BatchedTwoStageDR(params, scenario, num_envs=1)
    assert_bounded(params, play(env, Scripted(env, np.random.default_rng(seed), extreme), seed), 0)


@pytest.mark.parametrize("name", ["truthful", "inflate"])
def test_battery_and_shifting_at_negative_prices(name: str) -> None:
    prices = [-30_000, 6_000, -2_000, 9_000, -100_000, 15_000, 4_000, -500]
    scenario = toy_scenario(prices, [[1500, 700, 0]] * 8, [[0, 2500, 100]] * 8)
    for efficiency in (500, 1000):
        params = TwoStageDRParams(
            num_prosumers=3, horizon_hours=8, reference_price_utok_per_wh=12_000, shift_share_permille=1000,
            discomfort_utok_per_wh=0, battery_capacity_wh=2_001, battery_power_w=700,
            battery_efficiency_permille=efficiency, dr_settlement="additive", participation_permille=1000,
        )  # fmt: skip
        assert_bounded(params, play_heuristic(BatchedTwoStageDR(params, scenario, num_envs=1), name, 1), 0)


def test_truthful_equals_the_closed_form_where_hours_are_separate() -> None:
    """Without shifting, battery and forecast errors, in hours that import, truthful bidding is the first best.

    All are served `d(imp)`, the demand at the marginal price, and `rho <= imp` asks for no reduction. The market's
    whole Wh cost at most `gamma/8` (in utility) each, and whole µtok give at most 1 back.
    """
    params = TwoStageDRParams(
        horizon_hours=24, shift_share_permille=0, forecast_error_permille=0, participation_permille=1000
    )
    env = BatchedTwoStageDR(params, default_scenario(), num_envs=6, auto_reset=False)
    episode = play_heuristic(env, "truthful", 5)
    assert not episode.accepted_wh.any()
    shape = episode.gamma.shape
    hours = importing = 0
    for hour in range(24):
        homes = [getattr(episode, name)[hour] for name in ("gamma", "d_min_wh", "d_max_wh", "generation_wh")]
        gamma, *rest = (torch.from_numpy(array) for array in homes)
        prices = (torch.from_numpy(array[hour]) for array in (episode.import_price, episode.export_price))
        best = first_best_hour(torch.full_like(gamma, episode.beta), gamma, *rest, *prices)
        upstream = episode.upstream_utok[hour]
        welfare = episode.comfort_utok[hour].sum(0) - upstream
        rounding = gamma.sum(0).numpy() / 8000
        lost = best.welfare_utok.numpy() - welfare
        assert (lost >= -shape[1]).all(), "no hour beats the closed form"
        imports = best.import_wh.numpy() > 0
        assert (lost[imports] <= rounding[imports] + 1e-3).all()
        hours, importing = hours + imports.size, importing + int(imports.sum())
    assert hours > importing > hours // 3, "both kinds of hours are among those compared"
