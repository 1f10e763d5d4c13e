"""Heuristics of AggregatorAuction: what they bid and offer, and that every kind of learner acts there, too."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gridmarl.agents.aggregator_heuristics import AggregatorTruthful, AggregatorZeroIntelligence, AuctionHeuristic
from gridmarl.agents.registry import make_agent
from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.registry import make_batched
from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext, Transition
from gridmarl.testing import check_agent
from tests.envs.aggregator_auction.configs import batched

HEURISTICS = (AggregatorTruthful, AggregatorZeroIntelligence)


def context_of(env: Any, **options: Any) -> AgentContext:
    return AgentContext(env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, 3, options)


def played(kind: type[AuctionHeuristic], name: str, lanes: int = 40) -> BatchedAggregatorAuction:
    """An environment in the last hour of an episode of a heuristic."""
    env = batched(name, lanes, auto_reset=False)
    agent, observation = kind(context_of(env)), env.reset(5)
    for _ in range(env.params.horizon_hours):
        observation = env.step(agent.act(observation, explore=False)).observation
    assert not bool(env.state.clamped_actions.any())
    return env


@pytest.mark.parametrize("name", ["default", "flexibility", "discrete", "discrete_flexibility"])
@pytest.mark.parametrize("kind", HEURISTICS)
def test_conformance(kind: type[AuctionHeuristic], name: str) -> None:
    check_agent(kind, batched(name, 3), steps=12)


@pytest.mark.parametrize("name", ["default", "flexibility", "wild", "loads"])
def test_truthful_orders(name: str) -> None:
    """Offers are capacity at cost, to the Wh and µtok/Wh; bids are need at its value."""
    env = batched(name, 50, auto_reset=False)
    agent, observation = AggregatorTruthful(context_of(env)), env.reset(5)
    params, bids = env.params, 0
    for _ in range(params.horizon_hours):
        observation = env.step(agent.act(observation, explore=False)).observation
        settled = env.settled
        assert settled is not None
        now, up, down = settled.situation, settled.up_orders, settled.down_orders
        assert torch.equal(up.ask_wh, now.up_capacity_wh)
        assert torch.equal(up.ask_price, now.up_cost)
        assert torch.equal(down.ask_wh, now.down_capacity_wh)
        if params.has_requests:
            assert torch.equal(down.ask_price, now.down_cost)
        service = params.service_price_utok_per_wh + params.missing_penalty_utok_per_wh
        for k in range(params.num_aggregators):
            for lane in range(50):
                forecast, request = int(now.forecast_wh[k, lane]), int(now.request_wh[k, lane])
                short, long = int(settled.short_price[lane]), int(settled.long_price[lane])
                value = mean_value(forecast, request, short, long, service)
                need, price = abs(forecast + request), min(value, params.cap_utok_per_wh)
                bid = up if forecast + request > 0 else down
                told = (int(bid.bid_wh[k, lane]), int(bid.bid_price[k, lane]))
                if value > 0 and (forecast + request > 0 or params.has_requests):
                    assert told[1] == price
                    assert abs(told[0] - need) <= 2 * need / 65536 + 1
                    bids += 1
                elif need:
                    assert told[0] == 0
    assert bids > 300


def mean_value(forecast: int, request: int, short: int, long: int, service: int) -> int:
    """Wh by Wh from no trade to the need: what the next one changes in the settlement of the hour."""
    need = forecast + request
    step = 1 if need > 0 else -1
    own = max(0, min(abs(need), forecast * step))
    total = own * (short if need > 0 else -long) + (abs(need) - own) * service
    return max(0, total // abs(need)) if need else 0


def test_the_value_is_what_the_settlement_pays() -> None:
    """The reward of a filled order, less that of no order, is the value of the need, where the forecast is right."""
    compared = 0
    for name in ("flexibility", "wild"):
        with_orders = played(AggregatorTruthful, name)
        settled = with_orders.settled
        assert settled is not None
        now, params = settled.situation, with_orders.params
        service = params.service_price_utok_per_wh + params.missing_penalty_utok_per_wh
        for k in range(params.num_aggregators):
            for lane in range(with_orders.num_envs):
                deviation, request = int(now.deviation_wh[k, lane]), int(now.request_wh[k, lane])
                short, long = int(settled.short_price[lane]), int(settled.long_price[lane])
                outcome = [
                    worth(energy, deviation, request, short, long, params) for energy in (0, deviation + request)
                ]
                value = mean_value(deviation, request, short, long, service)
                gain = outcome[1] - outcome[0]
                if gain > 0:
                    assert value == gain // abs(deviation + request)
                    compared += 1
    assert compared > 50


def worth(energy: int, deviation: int, request: int, short: int, long: int, params: Any) -> int:
    """Money of an aggregator that gets `energy` for nothing, as the page settles it."""
    surplus, sign = energy - deviation, (request > 0) - (request < 0)
    delivered = min(max(surplus * sign, 0), abs(request))
    rest = surplus - sign * delivered
    service = delivered * params.service_price_utok_per_wh
    penalty = (abs(request) - delivered) * params.missing_penalty_utok_per_wh
    return service - penalty + (rest * long if rest > 0 else rest * short)


@pytest.mark.parametrize("name", ["default", "flexibility"])
def test_zero_intelligence_stays_within_its_limits(name: str) -> None:
    env = batched(name, 200, auto_reset=False)
    agent, observation = AggregatorZeroIntelligence(context_of(env)), env.reset(5)
    for _ in range(env.params.horizon_hours):
        observation = env.step(agent.act(observation, explore=False)).observation
        settled = env.settled
        assert settled is not None
        now, up = settled.situation, settled.up_orders
        assert bool((up.ask_price >= now.up_cost).all())
        assert bool((settled.up.income_utok >= settled.up.sell_fill_wh * now.up_cost).all())
        assert bool((up.bid_wh <= now.need_wh.clamp(min=0)).all())
        if env.params.has_requests:
            assert bool((settled.down_orders.ask_price >= now.down_cost).all())
        else:
            assert bool((up.bid_price <= settled.short_price).all())
    spread = (up.ask_price - now.up_cost).double() / (30_000 - now.up_cost)
    assert float(spread.mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("kind", HEURISTICS)
def test_nobody_sells_below_its_cost(kind: type[AuctionHeuristic]) -> None:
    """A cap of 3,002: batteries cost 3,000 to 3,002, all loads more, photovoltaics less and more."""
    params = AggregatorAuctionParams(
        variant="flexibility",
        cap_utok_per_wh=3_002,
        battery_cost_low_utok_per_wh=3_000,
        battery_cost_high_utok_per_wh=3_002,
    )
    env = BatchedAggregatorAuction(params, num_envs=100, auto_reset=False)
    agent, observation, sold = kind(context_of(env)), env.reset(5), 0
    for _ in range(params.horizon_hours):
        observation = env.step(agent.act(observation, explore=False)).observation
        settled = env.settled
        assert settled is not None
        now, up, down = settled.situation, settled.up, settled.down
        assert bool((up.income_utok >= up.sell_fill_wh * now.up_cost).all())
        assert bool((down.income_utok >= down.sell_fill_wh * now.down_cost).all())
        assert not bool((settled.up_orders.ask_wh * (now.up_cost > 3_002)).any())
        assert not bool((settled.down_orders.ask_wh * (now.down_cost > 3_002)).any())
        sold += int(up.volume_wh.sum()) + int(down.volume_wh.sum())
    assert sold > 0


def test_truthful_play_is_worth_more() -> None:
    """Together, private costs included: the operator's money is nobody's gain, so it is left in."""
    total = {}
    for kind in HEURISTICS:
        env = batched("default", 300, auto_reset=False)
        agent, observation, welfare = kind(context_of(env)), env.reset(5), 0.0
        for _ in range(env.params.horizon_hours):
            result = env.step(agent.act(observation, explore=False))
            observation, welfare = result.observation, welfare + float(result.reward.sum())
        total[kind] = welfare
    assert total[AggregatorTruthful] > total[AggregatorZeroIntelligence]


@pytest.mark.parametrize("kind", HEURISTICS)
def test_what_they_refuse(kind: type[AuctionHeuristic]) -> None:
    with pytest.raises(ConfigError, match=f"{kind.name}: unknown option 'shade'"):
        kind(context_of(batched("default", 1), shade=1))
    with pytest.raises(ConfigError, match=f"{kind.name}: cannot fill the action entries"):
        kind(context_of(make_batched("two-stage-dr", {}, num_envs=1)))


@pytest.mark.parametrize(
    ("agent", "name", "options"),
    [
        ("dqn", "discrete_flexibility", {"learning_starts": 32, "batch_size": 16, "hidden": [8]}),
        ("tabular_q", "discrete", {}),
        ("ppo", "flexibility", {"rollout_steps": 4, "hidden": [8]}),
        ("mappo", "discrete", {"rollout_steps": 4, "hidden": [8]}),
        ("sb3-ppo", "flexibility", {"n_steps": 4, "batch_size": 16}),
        ("sb3-dqn", "discrete_flexibility", {"learning_starts": 32, "batch_size": 16}),
    ],
)
def test_learners_know_nothing_of_roles_and_learn(agent: str, name: str, options: dict[str, Any]) -> None:
    env = batched(name, 8)
    learner, observation = make_agent(agent, context_of(env), **options), env.reset(1)
    logged: dict[str, float] = {}
    for _ in range(20):
        actions = learner.act(observation, explore=True)
        result = env.step(actions)
        logged |= learner.learn(
            Transition(
                observation, actions, result.reward, result.final_observation, result.terminated, result.truncated
            )
        )
        observation = result.observation
    assert learner.act(observation, explore=False).shape[:2] == (8, 8)
    assert all(torch.tensor(value).isfinite() for value in logged.values())
    assert not bool(env.state.clamped_actions.any())
