"""What flexible assets draw from the grid, hour by hour, and how much of it comes back of earlier calls."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.envs.aggregator_auction.assets import Fixed
from gridmarl.envs.aggregator_auction.state import Stores
from gridmarl.envs.aggregator_auction.step import Settled


class Profile(NamedTuple):
    """All flexible assets together, int64 `[T, E]` Wh; generation counts negative."""

    before_wh: Tensor  # if nothing were called in the whole episode
    drawn_wh: Tensor
    rebound_wh: Tensor  # deferred load that runs in this hour, and charging of batteries towards half; >= 0


def profile_of(fixed: Fixed, hours: list[Settled], last: Stores) -> Profile:
    """Profile of an episode.

    Args:
        hours: all hours of the episode.
        last: stores after the last.
    """
    stores = [hour.stores for hour in hours] + [last]
    found = [_hour(fixed, hour, stores[index + 1]) for index, hour in enumerate(hours)]
    before, drawn, rebound = (torch.stack([part[which] for part in found]) for which in range(3))
    return Profile(before, drawn, rebound)


def _hour(fixed: Fixed, settled: Settled, following: Stores) -> tuple[Tensor, Tensor, Tensor]:
    held, base = settled.stores, settled.situation.base_wh
    called = settled.down.sell_fill_wh - settled.up.sell_fill_wh  # more drawn
    before = base * fixed.is_load - base * fixed.is_photovoltaic
    due = held.rebound_wh.select(0, 0)
    of_loads = (due - torch.minimum(held.ahead_wh, base)) * fixed.is_load
    of_batteries = (following.charge_wh - held.charge_wh - called) * fixed.is_battery
    rebound = due * fixed.is_load + of_batteries.clamp(min=0)
    return before.sum(0), (before + of_loads + of_batteries + called).sum(0), rebound.sum(0)
