"""The exhaustive best response against hand calculation, against play, and where it must refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.errors import ConfigError
from gridmarl.protocols import Transition
from gridmarl.scenarios.scenario import toy_scenario
from gridmarl.train.contest import agent_for
from gridmarl.train.deviations.best_response import OneLearner, action_grid, best_response, one_learner
from gridmarl.train.options import MarketOptions
from gridmarl.train.rollout import play
from tests.train.power_market import power_market, separable

LANES = 3
SEED = 5


def test_hand_calculation() -> None:
    """One seller of 1,000 Wh, one buyer of exactly 400 Wh, import 5,000, export 1,000 µtok/Wh.

    At any offer below import the seller is the marginal one, and the price is its own; at import the buyer still buys.
    So it earns 400 * offer + 600 * 1,000, and the best offer is the highest: 2.6 tokens against 1.0 at the export
    price, which is what it gets without a market, too.
    """
    scenario = toy_scenario([2_000], [[0, 400]], [[1_000, 0]])
    params = separable(
        num_prosumers=2,
        horizon_hours=1,
        import_adder_utok_per_wh=3_000,
        export_margin_utok_per_wh=1_000,
        demand_min_permille=1_000,
        demand_max_permille=1_000,
        quantity_levels=1,
    )
    found = best_response(params, scenario, 0)
    offers = [1_000, 2_000, 3_000, 4_000, 5_000]
    assert found.reward_utok[0, :, 0].tolist() == [400 * offer + 600_000 for offer in offers]
    assert found.truthful_utok.tolist() == found.no_trade_utok.tolist() == [[1_000_000]]
    assert found.row.tolist() == [[4]]
    assert found.best_utok.tolist() == [[2_600_000]]
    assert found.exploitability_utok(found.truthful_utok.sum(0)).tolist() == [1_600_000]
    assert found.surplus_share(torch.tensor([1_800_000])) == 0.5


class Constant:
    """Plays one row for one prosumer and an inner policy for the rest."""

    name = "constant"
    learns = False

    def __init__(self, inner: Any, prosumer: int, action: Tensor) -> None:
        self.inner, self.prosumer, self.action = inner, prosumer, action

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        action: Tensor = self.inner.act(observation, explore=explore).clone()
        action[:, self.prosumer] = self.action
        return action

    def learn(self, transition: Transition) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize("prosumer", [0, 2])
def test_rewards_are_those_of_playing_each_row(prosumer: int) -> None:
    """A whole episode of one row, in the ordinary environment, earns hour by hour what the search says of that row."""
    params, scenario = separable(price_levels=3, quantity_levels=2), power_market()
    found = best_response(params, scenario, SEED, prosumer=prosumer, num_envs=LANES)
    env = BatchedTwoStageDR(params, scenario, num_envs=LANES, auto_reset=False)
    truthful = agent_for(MarketOptions(), params, scenario, "truthful", LANES)

    def earned(agent: Any) -> list[Any]:
        episode = play(env, agent, SEED)
        rewards: list[Any] = (episode.comfort_utok + episode.received_utok)[:, prosumer].tolist()
        return rewards

    assert earned(truthful) == found.truthful_utok.tolist()
    grid = action_grid(params)
    assert found.reward_utok.shape == (8, 6, LANES)
    for row in range(6):
        assert earned(Constant(truthful, prosumer, grid[row])) == found.reward_utok[:, row].tolist()
    assert torch.equal(found.best_utok, found.reward_utok.max(dim=1).values)
    assert torch.equal(found.reward_utok.gather(1, found.row.unsqueeze(1)).squeeze(1), found.best_utok)


def test_no_trade_is_what_the_prosumer_earns_alone() -> None:
    """Alone there is nobody to trade with, so the best row of a fine grid comes close to it and never above it."""
    params = separable(num_prosumers=1, quantity_levels=101, price_levels=1, participation_permille=0)
    found = best_response(params, power_market(), SEED, num_envs=LANES)
    short = found.no_trade_utok - found.best_utok
    assert bool((short >= 0).all())
    assert float(short.sum() / found.no_trade_utok.sum()) < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"battery_capacity_wh": 1_000, "battery_power_w": 500}, "battery_capacity_wh: 1000, allowed is 0: a battery"),
        ({"shift_share_permille": 1}, "shift_share_permille: 1 with shift_deadline_hours 6, allowed is 0 for one"),
        ({"forecast_error_permille": 10}, "forecast_error_permille: 10, allowed is 0: with forecast errors"),
        ({"stage2": "learned"}, "stage2: 'learned', allowed is 'rule'"),
    ],
)
def test_what_is_not_separable_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        best_response(separable(**changes), power_market(), SEED)


def test_only_a_prosumer_that_is_there() -> None:
    with pytest.raises(ConfigError, match=r"prosumer: 3, allowed are 0 \.\. 2"):
        best_response(separable(), power_market(), SEED, prosumer=3)
    with pytest.raises(ConfigError, match=r"prosumer: -1, allowed are 0 \.\. 2"):
        one_learner(BatchedTwoStageDR(separable(), power_market()), SEED, prosumer=-1)


class Spy(Constant):
    """A learner that keeps what it is shown, and answers with the lane's number."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.told: list[Transition] = []

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        self.seen.append(observation)
        return torch.arange(observation.shape[0]).unsqueeze(1) + 7

    def learn(self, transition: Transition) -> dict[str, float]:
        self.told.append(transition)
        return {"loss": 1.0}


@pytest.mark.parametrize("prosumer", [0, 2])
def test_a_learner_sees_and_moves_its_own_prosumer_only(prosumer: int) -> None:
    params, scenario = separable(), power_market()
    env = BatchedTwoStageDR(params, scenario, num_envs=LANES)
    truthful = agent_for(MarketOptions(), params, scenario, "truthful", LANES)
    spy, grid = Spy(), action_grid(params)
    agent = OneLearner(spy, truthful, grid, prosumer)
    observation = env.reset(SEED)
    action = agent.act(observation, explore=True)
    step = env.step(action)
    transition = Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
    assert agent.learn(transition) == {"loss": 1.0}
    own = [prosumer]
    others = [index for index in range(3) if index != prosumer]
    assert torch.equal(action[:, prosumer], grid[7 : 7 + LANES])
    assert torch.equal(action[:, others], truthful.act(observation, explore=False)[:, others])
    assert torch.equal(spy.seen[0], observation[:, own])
    told = spy.told[0]
    assert told.action.tolist() == [[7], [8], [9]]
    assert torch.equal(told.observation, observation[:, own])
    assert torch.equal(told.reward, step.reward[:, own])
    assert torch.equal(told.next_observation, step.final_observation[:, own])


def test_a_learner_among_trained_others_in_a_discrete_environment() -> None:
    """All choose rows of the grid; the others' policy is fixed, so they never explore."""
    params, scenario = separable(action_space="discrete"), power_market()
    env = BatchedTwoStageDR(params, scenario, num_envs=LANES)
    others = agent_for(MarketOptions(), params, scenario, "dqn", LANES, hidden=(8,))
    agent = one_learner(env, SEED, prosumer=1, others=others, algorithm="ppo", hidden=(8,), minibatches=1)
    observation = env.reset(SEED)
    spy = agent.learner = Spy()
    action = agent.act(observation, explore=True)
    assert action.dtype == torch.int64
    assert torch.equal(action[:, [0, 2]], others.act(observation, explore=False)[:, [0, 2]])
    assert action[:, 1].tolist() == [7, 8, 9]
    step = env.step(action)
    agent.learn(Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated))
    assert spy.told[0].action.tolist() == [[7], [8], [9]]


def test_a_learner_among_others_can_be_saved_and_restored() -> None:
    env = BatchedTwoStageDR(separable(), power_market(), num_envs=LANES)
    first, second = (one_learner(env, seed, hidden=(8,), exploration_steps=10) for seed in (1, 2))
    observation = env.reset(SEED)
    assert not torch.equal(first.act(observation, explore=False), second.act(observation, explore=False))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.act(observation, explore=False), second.act(observation, explore=False))
