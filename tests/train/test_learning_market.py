"""Learning is real: deep Q-learning reaches a best response, and a market of learners beats zero intelligence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from numpy.typing import NDArray

from gridmarl.agents.registry import make_agent
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.protocols import Agent, AgentContext, Transition
from gridmarl.scenarios.scenario import Scenario, default_scenario
from gridmarl.train.deviations.best_response import BestResponse, best_response, one_learner
from gridmarl.train.rollout import Episode, play
from gridmarl.units import UTOK_PER_TOKEN
from tests.train.power_market import power_market, separable

SEEDS = range(5)
EVALUATION_SEED = 1_000_003  # no training seed
TRAIN_LANES = 16
EVALUATION_LANES = 32
ONE_HOUR = slice(5, 6)

LEARNER: dict[str, Any] = {
    "hidden": (32,),
    "batch_size": 64,
    "learning_rate": 5e-3,
    "learning_starts": 256,
    "exploration_steps": 3_000,
    "target_interval": 50,
}


def teach(env: BatchedTwoStageDR, agent: Agent, seed: int, steps: int) -> None:
    """`steps` steps of all lanes."""
    observation = env.reset(seed)
    for _ in range(steps):
        action = agent.act(observation, explore=True)
        step = env.step(action)
        agent.learn(
            Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
        )
        observation = step.observation


def rewards_utok(episode: Episode) -> NDArray[Any]:
    """`[T, P, E]`."""
    return episode.comfort_utok + episode.received_utok


def learned_share(
    params: TwoStageDRParams, scenario: Scenario, best: BestResponse, seed: int, steps: int, **options: Any
) -> float:
    """Share of the best response's surplus that a newly trained learner gets, greedily, on the evaluation episodes."""
    training = BatchedTwoStageDR(params, scenario, num_envs=TRAIN_LANES)
    agent = one_learner(training, seed, **{**LEARNER, **options})
    teach(training, agent, seed, steps)
    env = BatchedTwoStageDR(params, scenario, num_envs=best.no_trade_utok.shape[1], auto_reset=False)
    return best.surplus_share(torch.from_numpy(rewards_utok(play(env, agent, EVALUATION_SEED))[:, 0]))


def total(values: torch.Tensor) -> float:
    return float(values.sum()) / UTOK_PER_TOKEN


@pytest.fixture(scope="module")
def best() -> BestResponse:
    return best_response(separable(), power_market(), EVALUATION_SEED, num_envs=EVALUATION_LANES)


def test_the_learner_has_market_power_and_must_look_at_its_state(best: BestResponse) -> None:
    no_trade = total(best.no_trade_utok)
    truthful, possible = total(best.truthful_utok) - no_trade, total(best.best_utok) - no_trade
    one_row = best.surplus_share(best.reward_utok.sum((0, 2)).max())
    print(f"surplus of truthful bids {truthful:.1f}, of the best response {possible:.1f} tokens; one row {one_row:.3f}")
    assert truthful > 0
    assert possible >= 1.1 * truthful
    assert one_row < 0.9  # always the same row, even the best one, is not enough
    assert (best.best_utok > best.truthful_utok).any(dim=1).sum() >= 5  # power in most hours, not in one of them


@pytest.mark.parametrize("seed", SEEDS)
def test_one_learner_among_truthful_others_finds_its_best_response(seed: int, best: BestResponse) -> None:
    share = learned_share(separable(), power_market(), best, seed, steps=300)
    print(f"seed {seed}: {share:.3f} of the best response's surplus")
    assert share >= 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_action_values_independent_of_the_state_suffice_for_one_hour(seed: int) -> None:
    """Chapter 7's simplification, on the one hour for which it is none."""
    params, scenario = separable(horizon_hours=1), power_market(ONE_HOUR, load_ratios=(1_000,))
    best = best_response(params, scenario, EVALUATION_SEED)
    possible = total(best.best_utok - best.no_trade_utok)
    assert possible >= 1.1 * total(best.truthful_utok - best.no_trade_utok)
    assert possible > 0
    share = learned_share(params, scenario, best, seed, steps=250, stateless=True, learning_rate=0.05)
    print(f"seed {seed}: {share:.3f} of the best response's surplus")
    assert share >= 0.9


# All agents learn -----------------------------------------------------------------------------------------------------

STREET = TwoStageDRParams(horizon_hours=24, action_space="discrete")
STREET_LANES = 32


def welfare_tok(params: TwoStageDRParams, agent: Agent) -> NDArray[Any]:
    """Social welfare of each evaluation episode, tokens, `[E]`."""
    env = BatchedTwoStageDR(params, default_scenario(), num_envs=EVALUATION_LANES, auto_reset=False)
    return play(env, agent, EVALUATION_SEED).welfare_utok / UTOK_PER_TOKEN


def street_agent(params: TwoStageDRParams, name: str, lanes: int, seed: int, **options: Any) -> Agent:
    env = BatchedTwoStageDR(params, default_scenario(), num_envs=lanes)
    context = AgentContext(lanes, env.num_agents, env.observation_fields, env.action_spec, env.device, seed)
    return make_agent(name, context, **options)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_market_of_learners_beats_zero_intelligence(seed: int) -> None:
    assert STREET.dr_settlement == "two_settlement"
    continuous = replace(STREET, action_space="continuous")
    chance = welfare_tok(continuous, street_agent(continuous, "zero_intelligence", EVALUATION_LANES, seed))
    options = {"exploration_steps": 12_000, "learning_starts": 500}
    agent = street_agent(STREET, "dqn", STREET_LANES, seed, **options)
    untrained = welfare_tok(STREET, agent)
    teach(BatchedTwoStageDR(STREET, default_scenario(), num_envs=STREET_LANES), agent, seed, steps=600)
    learned = welfare_tok(STREET, agent)
    print(
        f"seed {seed}: welfare per episode {learned.mean():.2f} tokens, zero intelligence {chance.mean():.2f}, "
        f"untrained {untrained.mean():.2f}; better on {int((learned > chance).sum())} of {EVALUATION_LANES} episodes"
    )
    assert learned.mean() > chance.mean()
    assert untrained.mean() < learned.mean()
