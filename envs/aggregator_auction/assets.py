"""Flexible assets: what a battery, a shiftable load or photovoltaics can do in an hour, and what that leaves behind.

Rules: docs/aggregator-auction.md, "Assets". All assets are held in the same tensors `[P, E]`, told apart by masks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.envs.aggregator_auction.params import KINDS, AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.state import Stores
from gridmarl.preferences import floor_div


class Fixed(NamedTuple):
    """What never changes, as tensors on the device; int64 unless said otherwise."""

    portfolio_wh: Tensor  # [K, 1]
    is_battery: Tensor  # [P, 1] bool
    is_load: Tensor  # [P, 1] bool
    is_photovoltaic: Tensor  # [P, 1] bool
    cost_low: Tensor  # [P, 1] µtok/Wh
    cost_count: Tensor  # [P, 1] how many costs are possible


class Capacities(NamedTuple):
    """Most that can be called in an hour; int64 `[P, E]` Wh."""

    up_wh: Tensor
    down_wh: Tensor


def constants(params: AggregatorAuctionParams, device: torch.device | str = "cpu") -> Fixed:
    """Constants of the parameters on a device."""
    ranges = [params.cost_range(kind) for kind in params.kinds]

    def column(values: list[int] | list[bool]) -> Tensor:
        return torch.tensor(values, device=device).view(-1, 1)

    is_battery, is_load, is_photovoltaic = (column([kind == which for kind in params.kinds]) for which in KINDS)
    return Fixed(
        column(list(params.portfolios_wh)),
        is_battery,
        is_load,
        is_photovoltaic,
        column([low for low, _ in ranges]),
        column([high - low + 1 for low, high in ranges]),
    )


def at_first(params: AggregatorAuctionParams, fixed: Fixed, lanes: int) -> Stores:
    """Batteries half full, nothing deferred or brought forward."""
    none = torch.zeros_like(fixed.cost_low).expand(-1, lanes)
    charge = none + fixed.is_battery * (params.battery_capacity_wh // 2)
    return Stores(charge, none, none.expand(params.return_hours, -1, -1))


def capacities(params: AggregatorAuctionParams, fixed: Fixed, stores: Stores, base_wh: Tensor) -> Capacities:
    """What can be called in the hour.

    Args:
        base_wh: `[P, E]`, the flexible load of a load, the generation of photovoltaics, 0 of a battery.
    """
    discharge = stores.charge_wh.clamp(max=params.battery_power_w)
    charge = (params.battery_capacity_wh - stores.charge_wh).clamp(max=params.battery_power_w)
    used = torch.minimum(stores.ahead_wh, base_wh)
    own, still_ahead, due = base_wh - used, stores.ahead_wh - used, stores.rebound_wh.select(0, 0)
    defer = (own - due).clamp(min=0)
    advance = torch.minimum(params.load_power_w - own - due, params.load_power_w - still_ahead).clamp(min=0)
    down = charge * fixed.is_battery + advance * fixed.is_load + base_wh * fixed.is_photovoltaic
    return Capacities(discharge * fixed.is_battery + defer * fixed.is_load, down * params.has_requests)


def after(
    params: AggregatorAuctionParams, fixed: Fixed, stores: Stores, base_wh: Tensor, up_wh: Tensor, down_wh: Tensor
) -> Stores:
    """What the next hour begins with, given what was called, `[P, E]` each."""
    half = params.battery_capacity_wh // 2
    back = (half - stores.charge_wh).clamp(min=-params.battery_return_w, max=params.battery_return_w)
    charge = stores.charge_wh - up_wh + down_wh + back * (up_wh + down_wh == 0)
    ahead = stores.ahead_wh - torch.minimum(stores.ahead_wh, base_wh) + down_wh
    due, later = stores.rebound_wh.narrow(0, 0, 1), stores.rebound_wh.narrow(0, 1, params.return_hours - 1)
    following = torch.cat((later, torch.zeros_like(due)))
    return Stores(
        charge * fixed.is_battery,
        ahead * fixed.is_load,
        following + spread(up_wh * fixed.is_load, params.return_hours),
    )


def spread(energy_wh: Tensor, hours: int) -> Tensor:
    """`[hours, ...]` nearly equal whole parts of an energy >= 0, by cumulative floors."""
    steps = torch.arange(hours + 1, device=energy_wh.device).view(-1, *(1,) * energy_wh.dim())
    bounds = floor_div(energy_wh * steps, hours)
    return bounds.narrow(0, 1, hours) - bounds.narrow(0, 0, hours)
