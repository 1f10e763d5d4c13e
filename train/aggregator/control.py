"""Virtual power plants: the same hours, assets and accounts as the auction, called by a control form instead.

* direct: everything is dispatched with perfect knowledge; every hour the rest of the episode is planned again.
* indirect: one price per hour and direction; prosumers whose cost it beats deliver all that they can, and decide alone.
* mixed: a share of the assets is dispatched, the others follow the price.

Rules: docs/aggregator-auction.md, "Virtual power plants".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gridmarl.clearing.pairwise import Trades
from gridmarl.clearing.registry import get_procurement
from gridmarl.envs.aggregator_auction.actions import Orders
from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction
from gridmarl.envs.aggregator_auction.generator import reset
from gridmarl.envs.aggregator_auction.state import State, Stores
from gridmarl.envs.aggregator_auction.step import Settled, advance, settle_trades
from gridmarl.errors import ConfigError
from gridmarl.optimum.flexibility import FloatArray, Integers, plan_flexibility
from gridmarl.protocols import Agent
from gridmarl.train.aggregator.foresight import foresee, problem_of
from gridmarl.train.aggregator.price_signal import Prices, choose_prices, response, shared_by_need
from gridmarl.units import PERMILLE


class Calls(NamedTuple):
    """What is called in an hour, one direction; int64."""

    energy_wh: Tensor  # [P, E]
    price: Tensor  # [P, E] µtok/Wh that the prosumer gets
    bought_wh: Tensor  # [K, E], the same sum


Part = tuple[Tensor, Tensor]
"""Energy of prosumers `[P, E]`, and of aggregators `[K, E]`, with the same sums; one direction of an hour."""


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode in all lanes: what happened in each hour, and the stores after the last."""

    hours: list[Settled]
    last: Stores


def directed(kinds: tuple[str, ...], share_permille: int) -> Tensor:
    """Which prosumers are under direct control, `[P]` bool: of every kind the share, spread evenly over its numbers.

    Raises:
        ConfigError: a share outside 0 .. 1000.
    """
    if not 0 <= share_permille <= PERMILLE:
        raise ConfigError(f"share_permille: {share_permille}, allowed are 0 .. {PERMILLE}")
    found = []
    for index, kind in enumerate(kinds):
        before = kinds[:index].count(kind)
        found.append((before + 1) * share_permille // PERMILLE > before * share_permille // PERMILLE)
    return torch.tensor(found)


def play_control(env: BatchedAggregatorAuction, share_permille: int, seed: int, *, episode: int = 0) -> Episode:
    """One episode under control. The environment's own state stays as it is.

    Args:
        env: whose parameters, scenario and lanes are used.
        share_permille: of the assets that are dispatched: 1000 direct, 0 indirect, between mixed.
        seed, episode: of the draws, as the environment's.

    Raises:
        ConfigError: a share outside 0 .. 1000.
        SolverError: a plan without certificate.
    """
    plant = _Plant(env, share_permille, begin(env, seed, episode))
    hours = [plant.hour() for _ in range(env.params.horizon_hours)]
    return Episode(hours, plant.state.stores)


def play_idle(env: BatchedAggregatorAuction, seed: int, *, episode: int = 0) -> Episode:
    """One episode in which nothing is called: every deviation settles at the imbalance price."""
    state, hours = begin(env, seed, episode), []
    now = state.situation
    nothing = Calls(torch.zeros_like(now.up_cost), torch.zeros_like(now.up_cost), torch.zeros_like(now.deviation_wh))
    for _ in range(env.params.horizon_hours):
        settled = settle_calls(env, state, nothing, nothing)
        state = _following(env, state, settled)
        hours.append(settled)
    return Episode(hours, state.stores)


def play_policy(env: BatchedAggregatorAuction, agent: Agent, seed: int) -> Episode:
    """One episode of the auctions, played by an agent for everybody, in the environment itself.

    Raises:
        ConfigError: the environment resets by itself, so that the end of an episode would be lost.
    """
    if env.auto_reset:
        raise ConfigError("auto_reset: True, allowed is False")
    observation, hours = env.reset(seed), []
    for _ in range(env.params.horizon_hours):
        observation = env.step(agent.act(observation, explore=False)).observation
        assert env.settled is not None
        hours.append(env.settled)
    return Episode(hours, env.state.stores)


def begin(env: BatchedAggregatorAuction, seed: int, episode: int = 0) -> State:
    """The start of an episode, as the environment's `reset` draws it."""
    lanes, first = env.num_envs, env.first_lane
    return reset(env.params, env.fixed, env.scenario, seed, lanes, first_lane=first, episode=episode)


def welfare_bound(env: BatchedAggregatorAuction, seed: int, *, episode: int = 0, bid_limits: bool = True) -> FloatArray:
    """What aggregators get from the operator less private costs, at most, `[E]` µtok.

    Args:
        bid_limits: of any outcome of the auctions, and of direct control within their limits; else of any use of the
            assets at all. Prosumers that follow a price may deliver more than aggregators could bid for.

    Raises:
        SolverError: a plan without certificate.
    """
    state = begin(env, seed, episode)
    known, everybody = foresee(env, state), np.arange(env.params.num_prosumers)
    problems = (problem_of(env, known, state, lane, everybody, bid_limits=bid_limits) for lane in range(env.num_envs))
    return np.array([plan_flexibility(problem).bound_utok for problem in problems])


class _Plant:
    """An episode under control, hour by hour."""

    def __init__(self, env: BatchedAggregatorAuction, share_permille: int, start: State) -> None:
        self.env, self.state = env, start
        self.direct = directed(env.params.kinds, share_permille).to(env.device)
        self.asks = not bool(self.direct.all())
        self.known = foresee(env, start) if bool(self.direct.any()) else None

    def hour(self) -> Settled:
        """Call, settle, go on."""
        settled = settle_calls(self.env, self.state, *self._calls())
        self.state = _following(self.env, self.state, settled)
        return settled

    def _calls(self) -> tuple[Calls, Calls]:
        """Up and down: prices are set for what dispatch would leave, then dispatch covers what the answers leave."""
        now, hour = self.state.situation, self.state.hour
        none = torch.zeros_like(now.up_cost), torch.zeros_like(now.deviation_wh)
        prices, answers = Prices(none[1][0], none[1][0]), (none, none)
        if self.asks:
            params, asked = self.env.params, ~self.direct
            planned = self._dispatch(answers) if self.known else answers
            prices = choose_prices(params, self.env.fixed, self.state, asked, planned[0][1], planned[1][1])
            up, down = response(now, prices, asked)
            answers = (
                (up, shared_by_need(up.sum(0), now.need_wh.clamp(min=0), hour)),
                (down, shared_by_need(down.sum(0), (-now.need_wh).clamp(min=0), hour)),
            )
        called = self._dispatch(answers) if self.known else (none, none)
        return (
            self._paid(called[0], answers[0], now.up_cost, prices.up),
            self._paid(called[1], answers[1], now.down_cost, prices.down),
        )

    def _paid(self, called: Part, answer: Part, cost: Tensor, price: Tensor) -> Calls:
        """Who is dispatched gets its cost, the others the price."""
        paid = torch.where(self.direct.unsqueeze(1), cost, price)
        return Calls(called[0] + answer[0], paid, called[1] + answer[1])

    def _dispatch(self, answers: tuple[Part, Part]) -> tuple[Part, Part]:
        """The first hour of a plan for the rest of the episode, in every lane; up and down."""
        assert self.known is not None
        env, assets = self.env, self.direct.nonzero().flatten().cpu().numpy()
        used = [bought.cpu().numpy() for _, bought in answers]
        found = [[np.zeros(tuple(part.shape), dtype=np.int64) for part in answer] for answer in answers]
        for lane in range(env.num_envs):
            others = (used[0][:, lane], used[1][:, lane])
            problem = problem_of(env, self.known, self.state, lane, assets, others)
            plan = plan_flexibility(problem)
            for (called, bought), energy, use, most in (
                (found[0], plan.up_wh, plan.bought_up_wh, problem.up_limit_wh),
                (found[1], plan.down_wh, plan.bought_down_wh, problem.down_limit_wh),
            ):
                whole = _floor(energy[:, 0])
                called[assets, lane] = whole
                bought[:, lane] = _add_up(_floor(use[:, 0]), most[:, 0], int(whole.sum()))
        up, down = ((_tensor(called, env), _tensor(bought, env)) for called, bought in found)
        return up, down


def _following(env: BatchedAggregatorAuction, state: State, settled: Settled) -> State:
    last = state.hour == env.params.horizon_hours - 1
    return advance(env.params, env.fixed, env.scenario, state, settled, last)


def _tensor(values: Integers, env: BatchedAggregatorAuction) -> Tensor:
    return torch.from_numpy(values).to(env.device)


def _floor(energy_wh: FloatArray) -> Integers:
    """Whole Wh; a solver's noise below a whole number is none."""
    found: Integers = np.floor(energy_wh + 1e-4).astype(np.int64)
    return found


def _add_up(parts: Integers, most: Integers, total: int) -> Integers:
    """Parts moved by a few Wh, within `0 .. most`, so that they add up."""
    made = parts.copy()
    for index in range(made.size):
        rest = total - int(made.sum())
        made[index] = min(max(int(made[index]) + rest, 0), int(most[index]))
    return made


def settle_calls(env: BatchedAggregatorAuction, state: State, up: Calls, down: Calls) -> Settled:
    """All payments of an hour in which assets were called: by contract, at their prices."""
    up_orders, up_trades = _contracts(up, state.hour)
    down_orders, down_trades = _contracts(down, state.hour)
    return settle_trades(env.params, state, up_orders, down_orders, up_trades, down_trades)


def _contracts(calls: Calls, hour: int) -> tuple[Orders, Trades]:
    """Every Wh at its own price: a pay-as-bid book in which bids and offers are equally large and all are accepted."""
    highest = calls.price.amax(0)
    orders = Orders(highest.expand_as(calls.bought_wh).clone(), calls.bought_wh, calls.price, calls.energy_wh)
    trades = get_procurement("pay_as_bid")(*orders, torch.zeros_like(highest), highest, hour)
    return orders, trades
