"""What chance holds for the rest of an episode: the knowledge that direct control plans with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction
from gridmarl.envs.aggregator_auction.generator import next_trend, situation_at
from gridmarl.envs.aggregator_auction.params import KINDS
from gridmarl.envs.aggregator_auction.state import State
from gridmarl.optimum.flexibility import BATTERY, LOAD, PHOTOVOLTAIC, FlexibilityProblem, Integers
from gridmarl.units import MAX_BOOK_WH

_NUMBER = dict(zip(KINDS, (BATTERY, LOAD, PHOTOVOLTAIC), strict=True))


class Foresight(NamedTuple):
    """All hours of an episode, int64; `T` hours, `K` aggregators, `P` prosumers, `E` lanes."""

    deviation_wh: Integers  # [T, K, E]
    request_wh: Integers  # [T, K, E]
    need_wh: Integers  # [T, K, E] what aggregators expect, which limits their bids
    base_wh: Integers  # [T, P, E]
    up_cost: Integers  # [T, P, E]
    down_cost: Integers  # [T, P, E]
    short_price: Integers  # [T, E]
    long_price: Integers  # [T, E]


def foresee(env: BatchedAggregatorAuction, start: State) -> Foresight:
    """All draws of the episode that begins with `start`; nothing in them depends on what anybody does."""
    params, trend, hours = env.params, start.trend_permille, [start.situation]
    for hour in range(1, params.horizon_hours):
        trend = next_trend(params, start.keys, hour, trend)
        hours.append(situation_at(params, env.fixed, env.scenario, start.draws, start.keys, hour, trend, start.stores))

    def drawn(name: str) -> Integers:
        found: Integers = torch.stack([getattr(now, name) for now in hours]).cpu().numpy()
        return found

    return Foresight(
        drawn("deviation_wh"),
        drawn("request_wh"),
        drawn("need_wh"),
        drawn("base_wh"),
        drawn("up_cost"),
        drawn("down_cost"),
        start.short_price.cpu().numpy(),
        start.long_price.cpu().numpy(),
    )


def problem_of(
    env: BatchedAggregatorAuction,
    known: Foresight,
    state: State,
    lane: int,
    assets: Integers,
    used: tuple[Integers, Integers] | None = None,
    *,
    bid_limits: bool = True,
) -> FlexibilityProblem:
    """The hours that are left of one lane, for some of the assets.

    Args:
        known: of this episode.
        state: at the beginning of an hour.
        assets: numbers of the prosumers whose assets are controlled.
        used: `[K]` up and down of this hour that aggregators have from other assets already.
        bid_limits: no aggregator uses more, or other energy, than it could bid for in the auctions.
    """
    params, left = env.params, slice(state.hour, None)

    def aggregators(values: Integers) -> Integers:
        return np.ascontiguousarray(values[left, :, lane].T)

    def prosumers(values: Integers) -> Integers:
        return np.ascontiguousarray(values[left, :, lane].T[assets])

    def now(values: Tensor) -> Integers:
        found: Integers = values[:, lane].cpu().numpy()[assets]
        return found

    deviation, need = aggregators(known.deviation_wh), aggregators(known.need_wh)
    up_limit, down_limit = (
        2 * np.maximum(sign * need, 0) if bid_limits else np.full_like(need, MAX_BOOK_WH) for sign in (1, -1)
    )
    down_limit = down_limit * params.has_requests
    if used is not None:
        deviation[:, 0] += used[1] - used[0]
        up_limit[:, 0] = np.maximum(up_limit[:, 0] - used[0], 0)
        down_limit[:, 0] = np.maximum(down_limit[:, 0] - used[1], 0)
    owed = state.stores.rebound_wh[:, :, lane].cpu().numpy()[:, assets]  # [return_hours, assets]
    due = np.zeros((assets.size, deviation.shape[1]), dtype=np.int64)
    span = min(due.shape[1], owed.shape[0])
    due[:, :span] = owed[:span].T
    kinds = np.array([_NUMBER[kind] for kind in params.kinds], dtype=np.int64)
    return FlexibilityProblem(
        deviation_wh=deviation,
        request_wh=aggregators(known.request_wh),
        up_limit_wh=up_limit,
        down_limit_wh=down_limit,
        short_price=known.short_price[left, lane],
        long_price=known.long_price[left, lane],
        service_price=params.service_price_utok_per_wh,
        missing_penalty=params.missing_penalty_utok_per_wh,
        kind=kinds[assets],
        base_wh=prosumers(known.base_wh),
        up_cost=prosumers(known.up_cost),
        down_cost=prosumers(known.down_cost),
        up_capacity_wh=now(state.situation.up_capacity_wh),
        down_capacity_wh=now(state.situation.down_capacity_wh),
        charge_wh=now(state.stores.charge_wh),
        ahead_wh=now(state.stores.ahead_wh),
        due_wh=due,
        battery_capacity_wh=params.battery_capacity_wh,
        battery_power_w=params.battery_power_w,
        battery_return_w=params.battery_return_w,
        load_power_w=params.load_power_w,
        return_hours=params.return_hours,
        calls_down=params.has_requests,
    )
