"""One hour of AggregatorAuction as named stages: orders, two auctions, settlement, assets. Pure.

Rules: docs/aggregator-auction.md. All tensors int64, lanes last; no host synchronisation.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.clearing.pairwise import Trades
from gridmarl.clearing.registry import Auction, get_procurement
from gridmarl.contracts.errors import IllegalTransitionError
from gridmarl.envs.aggregator_auction.actions import Orders, collect_orders, quantise
from gridmarl.envs.aggregator_auction.assets import Fixed, after
from gridmarl.envs.aggregator_auction.generator import next_trend, situation_at
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.settlement import (
    Balance,
    Flows,
    energy_balance,
    operator_flows,
    settled_balances,
)
from gridmarl.envs.aggregator_auction.state import Published, Situation, State, Stores
from gridmarl.envs.base.state import StepResult
from gridmarl.preferences import floor_div
from gridmarl.protocols import ActionSpec
from gridmarl.scenarios.lanes import Scenario


class Settled(NamedTuple):
    """Everything that happened in an hour; int64."""

    hour: int
    short_price: Tensor  # [E]
    long_price: Tensor  # [E]
    situation: Situation
    stores: Stores  # before the hour
    up_orders: Orders
    down_orders: Orders
    up: Trades
    down: Trades
    balance: Balance
    flows: Flows
    cost_utok: Tensor  # [P, E] private, of what was called
    balances: Tensor  # [K+P+1, E] after the hour

    @property
    def reward_utok(self) -> Tensor:
        """`[K+P, E]`: change of the account, less a prosumer's private cost."""
        bought = self.up.payment_utok + self.down.payment_utok
        sold = self.up.income_utok + self.down.income_utok
        return torch.cat((self.flows.received_utok - bought, sold - self.cost_utok))

    @property
    def surplus_utok(self) -> Tensor:
        """What the mechanism leaves to the operator, `[E]`; 0 but for `mcafee`."""
        paid, earned = self.up.payment_utok + self.down.payment_utok, self.up.income_utok + self.down.income_utok
        return paid.sum(0) - earned.sum(0)


def step(
    params: AggregatorAuctionParams, spec: ActionSpec, fixed: Fixed, scenario: Scenario, state: State, actions: Tensor
) -> tuple[State, StepResult[Settled]]:
    """Advance all lanes by one hour.

    Args:
        scenario: as `generator.housed` arranges it, on the device of the state.
        actions: `[E, K+P]` int64 or `[E, K+P, size]` float32, see `actions.py`.

    Raises:
        IllegalTransitionError: the episode has ended.
    """
    if state.hour >= params.horizon_hours:
        raise IllegalTransitionError(f"step after hour {state.hour}; allowed is after reset")
    levels, clamped = quantise(spec, actions)
    state = state.with_changes(clamped_actions=state.clamped_actions + clamped)
    settled = settle(params, state, *collect_orders(params, state.situation, levels))
    last = state.hour == params.horizon_hours - 1
    return advance(params, fixed, scenario, state, settled, last), StepResult(settled.reward_utok, last, settled)


def settle(params: AggregatorAuctionParams, state: State, up_orders: Orders, down_orders: Orders) -> Settled:
    """Both auctions, then all payments of the hour."""
    up = clear(params, up_orders, state.hour)
    down = clear(params, down_orders, state.hour) if params.has_requests else Trades(*map(torch.zeros_like, up))
    return settle_trades(params, state, up_orders, down_orders, up, down)


def settle_trades(
    params: AggregatorAuctionParams, state: State, up_orders: Orders, down_orders: Orders, up: Trades, down: Trades
) -> Settled:
    """All payments of an hour, given what was traded in either direction."""
    now, hour = state.situation, state.hour
    short_price, long_price = state.short_price.select(0, hour), state.long_price.select(0, hour)
    balance = energy_balance(now, up.buy_fill_wh, down.buy_fill_wh)
    flows = operator_flows(params, balance, short_price, long_price)
    return Settled(
        hour=hour,
        short_price=short_price,
        long_price=long_price,
        situation=now,
        stores=state.stores,
        up_orders=up_orders,
        down_orders=down_orders,
        up=up,
        down=down,
        balance=balance,
        flows=flows,
        cost_utok=up.sell_fill_wh * now.up_cost + down.sell_fill_wh * now.down_cost,
        balances=settled_balances(state.balances, up, down, flows),
    )


def clear(params: AggregatorAuctionParams, orders: Orders, hour: int) -> Trades:
    """The book of one direction, by the payment rule; prices between 0 and the cap, ties start at the hour."""
    cap = torch.full_like(orders.bid_price.select(0, 0), params.cap_utok_per_wh)
    return _auction(params.payment_rule)(*orders, torch.zeros_like(cap), cap, hour)


@lru_cache
def _auction(payment_rule: str) -> Auction:
    """By its name, which always means the same; the registry reads what packages offer at every look-up."""
    return get_procurement(payment_rule)


def advance(
    params: AggregatorAuctionParams, fixed: Fixed, scenario: Scenario, state: State, settled: Settled, last: bool
) -> State:
    """Assets take what was called; the next hour is drawn, or the episode ends."""
    now, up, down, hour = state.situation, settled.up, settled.down, state.hour + 1
    stores = after(params, fixed, state.stores, now.base_wh, up.sell_fill_wh, down.sell_fill_wh)
    if last:
        trend, following = state.trend_permille, Situation(*map(torch.zeros_like, now))
    else:
        trend = next_trend(params, state.keys, hour, state.trend_permille)
        following = situation_at(params, fixed, scenario, state.draws, state.keys, hour, trend, stores)
    return state.with_changes(
        hour=hour,
        trend_permille=trend,
        stores=stores,
        situation=following,
        last_deviation_wh=now.deviation_wh,
        published=Published(*_published(up, state.published.up_price), *_published(down, state.published.down_price)),
        balances=settled.balances,
    )


def _published(trades: Trades, before: Tensor) -> tuple[Tensor, Tensor]:
    """Mean price, that of before where nothing was traded, and energy."""
    mean = floor_div(trades.payment_utok.sum(0), trades.volume_wh.clamp(min=1))
    return torch.where(trades.volume_wh > 0, mean, before), trades.volume_wh
