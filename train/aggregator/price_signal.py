"""Indirect control: the price that an aggregator publishes, and what prosumers make of it.

The price is chosen from forecasts: of the needs, and of the answer of assets whose state is metered but whose costs are
known by their range only. Of 101 prices from 0 to where everybody answers (at most the cap) the one with the greatest
expected result is published, the lowest of equals; up and down are chosen apart, since no aggregator needs both.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.clearing.apportion import apportion
from gridmarl.envs.aggregator_auction.assets import Fixed
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.settlement import energy_balance, operator_flows
from gridmarl.envs.aggregator_auction.state import Situation, State
from gridmarl.preferences import floor_div

PRICE_STEPS = 100


class Prices(NamedTuple):
    """Published for an hour, int64 `[E]` µtok/Wh; 0: nobody is asked."""

    up: Tensor
    down: Tensor


def response(now: Situation, prices: Prices, asked: Tensor) -> tuple[Tensor, Tensor]:
    """What prosumers deliver up and down, `[P, E]` Wh: all that they can, where the price beats their cost.

    Args:
        asked: `[P]` bool, who gets the price.
    """
    here = asked.unsqueeze(1)
    up = now.up_capacity_wh * (here & (prices.up > now.up_cost))
    return up, now.down_capacity_wh * (here & (prices.down > now.down_cost))


def choose_prices(
    params: AggregatorAuctionParams,
    fixed: Fixed,
    state: State,
    asked: Tensor,
    dispatched_up: Tensor,
    dispatched_down: Tensor,
) -> Prices:
    """The prices of an hour.

    Args:
        asked: `[P]` bool, who gets the price.
        dispatched_up, dispatched_down: `[K, E]` what aggregators are about to have from other assets.
    """
    now = state.situation
    expected = now._replace(deviation_wh=now.forecast_wh - dispatched_up + dispatched_down)
    up = _choose(params, fixed, state, expected, now.need_wh, now.up_capacity_wh * asked.unsqueeze(1), 1)
    if not params.has_requests:
        return Prices(up, torch.zeros_like(up))
    down_capacity = now.down_capacity_wh * asked.unsqueeze(1)
    return Prices(up, _choose(params, fixed, state, expected, now.need_wh, down_capacity, -1))


def _choose(
    params: AggregatorAuctionParams,
    fixed: Fixed,
    state: State,
    expected: Situation,
    need_wh: Tensor,
    capacity_wh: Tensor,
    sign: int,
) -> Tensor:
    """The price of one direction (`sign`: 1 up, -1 down), `[E]`."""
    steps = torch.arange(PRICE_STEPS + 1, device=need_wh.device)
    everybody = max(params.cost_range(kind)[1] for kind in params.kinds) + 1
    price = floor_div(steps * min(params.cap_utok_per_wh, everybody), PRICE_STEPS)
    answer = _expected_answer(fixed, capacity_wh, price)  # [prices, E]
    lanes = answer.shape[1]

    def repeated(values: Tensor) -> Tensor:
        return values.repeat(*(1,) * (values.dim() - 1), price.numel())

    weight = repeated((need_wh * sign).clamp(min=0))
    bought = shared_by_need(answer.flatten(), weight, state.hour)
    nothing = torch.zeros_like(bought)
    wide = Situation(*(repeated(part) for part in expected))
    balance = energy_balance(wide, *((bought, nothing) if sign > 0 else (nothing, bought)))
    shorts, longs = (repeated(part.select(0, state.hour)) for part in (state.short_price, state.long_price))
    received = operator_flows(params, balance, shorts, longs).received_utok.sum(0).view(-1, lanes)
    result = received - answer * price.unsqueeze(1)
    result = torch.where((need_wh * sign > 0).any(0), result, -price.unsqueeze(1))  # nobody in need: no price
    return price[result.argmax(0)]


def _expected_answer(fixed: Fixed, capacity_wh: Tensor, price: Tensor) -> Tensor:
    """Energy that prosumers deliver on average at each price, `[prices, E]` Wh, costs being even in their range."""
    cheaper = (price.view(-1, 1, 1) - fixed.cost_low).clamp(min=0)
    cheaper = torch.minimum(cheaper, fixed.cost_count)
    return floor_div(capacity_wh * cheaper, fixed.cost_count).sum(1)


def shared_by_need(total_wh: Tensor, need_wh: Tensor, start: int) -> Tensor:
    """Shares `[K, E]` of a total in proportion to needs, by cumulative floors; whole multiples of the needs first.

    In a lane without need the first aggregator has all (which is nothing, as nobody is asked there).
    """
    weights = torch.where(need_wh.sum(0) > 0, need_wh, (torch.arange(need_wh.shape[0]) == 0).to(need_wh).unsqueeze(1))
    whole = weights.sum(0)
    times = floor_div(total_wh, whole)
    return weights * times + apportion(total_wh - times * whole, weights, start)
