"""The public conformance suite passes what is right, and names what is deliberately broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gridmarl.agents.registry import agent_factory, agent_names, supports
from gridmarl.clearing.book import Clearing
from gridmarl.clearing.registry import get_mechanism, mechanism_names
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.registry import environments
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.protocols import AgentContext, BatchedEnv, BatchStep, Transition
from gridmarl.testing import ConformanceError, check_agent, check_environment, check_mechanism
from tests.envs.configs import CONFIGS

PARAMS = TwoStageDRParams(num_prosumers=3, horizon_hours=6)
DISCRETE_ONLY = {"dqn", "tabular_q", "sb3-dqn"}
CONTINUOUS_ONLY = {"sb3-sac"}
QUICK = {"dqn": {"learning_starts": 20, "batch_size": 8}, "ppo": {"rollout_steps": 12}, "mappo": {"rollout_steps": 12}}


@pytest.mark.parametrize("name", mechanism_names())
def test_every_registered_mechanism(name: str) -> None:
    check_mechanism(get_mechanism(name))


@pytest.mark.parametrize("config", sorted(CONFIGS))
def test_every_configuration_of_the_market(config: str) -> None:
    params = TwoStageDRParams.from_dict(CONFIGS[config])
    check_environment(
        lambda num_envs, lane: BatchedTwoStageDR(params, num_envs=num_envs, first_lane=lane),
        balances=lambda env: env.state.balances,  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("name", sorted(environments()))
def test_every_registered_environment(name: str) -> None:
    entry = environments()[name]
    batched, params = entry.load("batched"), entry.load("params")()
    check_environment(lambda num_envs, lane: batched(params, num_envs=num_envs, first_lane=lane), episodes=1)


@pytest.mark.parametrize("space", ["continuous", "discrete"])
@pytest.mark.parametrize("name", agent_names())
def test_every_registered_agent(name: str, space: str) -> None:
    if space == "continuous" and name in DISCRETE_ONLY:
        pytest.skip(f"{name} acts in discrete spaces only")
    if space == "discrete" and name in CONTINUOUS_ONLY:
        pytest.skip(f"{name} acts in continuous spaces only")
    env: BatchedEnv = market(space) if supports(name, "two-stage-dr") else quota_market(space)
    check_agent(agent_factory(name), env, options=QUICK.get(name))


def market(space: str = "continuous") -> BatchedTwoStageDR:
    return BatchedTwoStageDR(replace(PARAMS, action_space=space), num_envs=3)  # type: ignore[arg-type]


def quota_market(space: str) -> BatchedEVQuota:
    params = {"num_stations": 3, "horizon_half_hours": 6, "transformer_capacity_w": 50_000, "action_space": space}
    return BatchedEVQuota(EVQuotaParams.from_dict(params), num_envs=3)


# --- mechanisms, deliberately broken


def loses_a_wh(*book: Any) -> Clearing:
    right = clear_uniform(*book)
    return right._replace(sell_fill_wh=(right.sell_fill_wh - 1).clamp(min=0))


def overfills(*book: Any) -> Clearing:
    right = clear_uniform(*book)
    extra = (right.volume_wh > 0).to(torch.int64)
    bought, sold = right.buy_fill_wh.clone(), right.sell_fill_wh.clone()
    bought[0] += 7 * extra
    sold[0] += 7 * extra
    return right._replace(buy_fill_wh=bought, sell_fill_wh=sold, volume_wh=right.volume_wh + 7 * extra)


def charges_above_the_limit(*book: Any) -> Clearing:
    right = clear_uniform(*book)
    return right._replace(price=torch.where(right.volume_wh > 0, book[5], right.price))


def mixes_lanes(*book: Any) -> Clearing:
    right = clear_uniform(*book)
    return right._replace(low=right.low + right.volume_wh.sum())


def rewards_the_caller_with_new_bids(*book: Any) -> Clearing:
    right = clear_uniform(*book)
    book[1].zero_()
    return right


def in_floats(*book: Any) -> Clearing:
    right = clear_uniform(*book)
    return right._replace(price=right.price.to(torch.float64))


def never_the_same(*book: Any) -> Clearing:
    right = clear_uniform(*book)
    generator = np.random.default_rng()
    return right._replace(low=right.low - int(generator.integers(1 << 40)))


@pytest.mark.parametrize(
    ("mechanism", "check"),
    [
        (loses_a_wh, "energy"),
        (overfills, "quantity"),
        (charges_above_the_limit, "limit price"),
        (mixes_lanes, "lanes"),
        (rewards_the_caller_with_new_bids, "pure function"),
        (in_floats, "dtype"),
        (never_the_same, "determinism"),
    ],
)
def test_broken_mechanism_is_named(mechanism: Any, check: str) -> None:
    with pytest.raises(ConformanceError, match=f"^{check}: "):
        check_mechanism(mechanism)


# --- environments, deliberately broken


class Broken(BatchedTwoStageDR):
    """The market, with its steps passed through `spoil`."""

    def __init__(self, num_envs: int, lane: int, spoil: Callable[[Broken, BatchStep], BatchStep]) -> None:
        super().__init__(PARAMS, num_envs=num_envs, first_lane=lane)
        self.spoil = spoil
        self.entropy = np.random.default_rng()

    def step(self, actions: Tensor, alpha_permille: Tensor | None = None) -> BatchStep:
        return self.spoil(self, super().step(actions, alpha_permille))


def nan_reward(env: Broken, result: BatchStep) -> BatchStep:
    return result._replace(reward=result.reward * float("nan"))


def leaks_randomness(env: Broken, result: BatchStep) -> BatchStep:
    return result._replace(reward=result.reward + float(env.entropy.random()))


def loses_money(env: Broken, result: BatchStep) -> BatchStep:
    balances = env.state.balances.clone()
    balances[0] -= 1
    env._state = env.state.with_changes(balances=balances)
    return result


def changes_spaces(env: Broken, result: BatchStep) -> BatchStep:
    env.observation_fields = env.observation_fields[::-1]
    return result


def leaves_its_space(env: Broken, result: BatchStep) -> BatchStep:
    beyond = result.observation.clone()
    beyond[:, :, 0] = 99.0
    return result._replace(observation=beyond)


def nan_observation(env: Broken, result: BatchStep) -> BatchStep:
    return result._replace(final_observation=result.final_observation * float("nan"))


def shares_between_lanes(env: Broken, result: BatchStep) -> BatchStep:
    return result._replace(reward=result.reward.mean(0, keepdim=True).expand_as(result.reward).contiguous())


def forgets_the_final_observation(env: Broken, result: BatchStep) -> BatchStep:
    return result._replace(final_observation=torch.zeros_like(result.observation))


def never_ends(env: Broken, result: BatchStep) -> BatchStep:
    return result._replace(truncated=torch.zeros_like(result.truncated), final_observation=result.observation)


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (nan_reward, "reward"),
        (leaks_randomness, "determinism"),
        (loses_money, "conservation"),
        (changes_spaces, "spaces"),
        (leaves_its_space, "observation"),
        (nan_observation, "observation"),
        (shares_between_lanes, "lanes"),
        (forgets_the_final_observation, "final observation"),
        (never_ends, "end of episode"),
    ],
)
def test_broken_environment_is_named(spoil: Any, check: str) -> None:
    with pytest.raises(ConformanceError, match=f"^{check}: "):
        check_environment(
            lambda num_envs, lane: Broken(num_envs, lane, spoil),
            balances=lambda env: env.state.balances,  # type: ignore[attr-defined]
            max_steps=40,
        )


class Forgetful(Broken):
    """Does not save its state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return


def test_environment_that_cannot_resume_is_named() -> None:
    with pytest.raises(ConformanceError, match=r"^resume: "):
        check_environment(lambda num_envs, lane: Forgetful(num_envs, lane, lambda env, result: result))


# --- agents, deliberately broken


class Constant:
    """A right agent, learning in name only; the broken ones change one thing of it."""

    name, learns = "constant", True

    def __init__(self, context: AgentContext) -> None:
        self.context, self.calls = context, 0

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        return torch.full((*observation.shape[:2], self.context.action_spec.size), 0.25)

    def learn(self, transition: Transition) -> dict[str, float]:
        self.calls += 1
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls = state["calls"]


class OutOfSpace(Constant):
    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        return super().act(observation, explore=explore) + 1


class Peeks(Constant):
    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        return super().act(observation, explore=explore) + 0.5 * observation.mean((1, 2), keepdim=True).tanh()


class Moody(Constant):
    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        noise = np.random.default_rng().random() / 2
        return super().act(observation, explore=explore) + (noise if explore else 0.0)


class CountsGreedyCalls(Constant):
    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        self.calls += not explore
        return super().act(observation, explore=explore)


class CannotResume(Constant):
    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        return super().act(observation, explore=explore) * (0.5 + 0.5 / (1 + self.calls * explore))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return


def test_the_right_constant_agent_passes() -> None:
    check_agent(Constant, market())


@pytest.mark.parametrize(
    ("agent", "check"),
    [
        (OutOfSpace, "actions"),
        (Peeks, "privacy"),
        (Moody, "determinism"),
        (CountsGreedyCalls, "greedy"),
        (CannotResume, "resume"),
    ],
)
def test_broken_agent_is_named(agent: Any, check: str) -> None:
    with pytest.raises(ConformanceError, match=f"^{check}: "):
        check_agent(agent, market())
