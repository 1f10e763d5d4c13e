"""Charging quotas: what the capacity margin of a transformer leaves to each station, and trading it at one price.

Source: chapter 9 of the book named in the README, eqs. (1) and (2); exact rules: docs/quota-rules.md. Quotas are the
energy (Wh) that may be charged within a period. `allocate` divides watts as well, so long as demand and margin have
the same unit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.clearing.apportion import apportion
from gridmarl.clearing.book import Clearing, check_range
from gridmarl.clearing.pairwise import Trades
from gridmarl.errors import DataError
from gridmarl.preferences import floor_div
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH

MINUTES_PER_HOUR = 60


class Allocation(NamedTuple):
    """Initial quotas of one period; int64, in the unit of the demands. `P` stations, `E` lanes.

    The satisfaction rate of eq. (1) is `granted / demanded`, or 1 where nothing is demanded; it is kept as two
    integers, so that nothing is rounded but the quotas.
    """

    quota: Tensor  # [P, E]
    granted: Tensor  # [E] sum of the quotas, never above the margin
    demanded: Tensor  # [E] sum of the demands
    scarce: Tensor  # [E] bool: rate below 1; else there is nothing to trade, and the auction is skipped


def energy_in_period(power_w: Tensor, period_minutes: int) -> Tensor:
    """Energy in Wh of a constant power over a period, rounded down, so that a limit stays a limit.

    Args:
        power_w: int64, any shape.
        period_minutes: length of the period, 1 or more.
    """
    return floor_div(power_w * period_minutes, MINUTES_PER_HOUR)


def allocate(demand: Tensor, margin: Tensor, start: int | Tensor) -> Allocation:
    """Proportional pre-allocation: `quota_i = demand_i * min(1, margin / sum of demands)`, eqs. (1) and (2).

    Rounded by cumulative floors (docs/market-rules.md, "Pro-rata by cumulative floors"): the quotas add up to
    `min(margin, sum of demands)` exactly, each differs from the exact share by less than one unit, and none exceeds
    its demand.

    Args:
        demand: `[P, E]` int64, each 0 .. `MAX_ORDER_WH`, sums `<= MAX_BOOK_WH`; P >= 1.
        margin: `[E]` int64, same unit. A negative margin (conventional load above capacity) counts as 0.
        start: station at which the cumulative sums start, mod P: an int >= 0, or int64 `[]` or `[E]`. It rotates by
            period, so that no station is favoured.

    Returns:
        `Allocation`. Nothing is read back from the device and no value is checked: see `validate_demand`.
    """
    demanded = demand.sum(0)
    granted = torch.minimum(demanded, margin.clamp(min=0))
    return Allocation(apportion(granted, demand, start), granted, demanded, granted < demanded)


def validate_demand(demand: Tensor, margin: Tensor) -> None:
    """Check what goes into `allocate`. Reads values back from the device: not for hot loops.

    Raises:
        DataError: names the argument, position and value: not int64, a shape that does not fit, a demand outside
            0 .. `MAX_ORDER_WH`, demands that add up to more than `MAX_BOOK_WH`, a margin beyond that either way.
    """
    for name, tensor in (("demand", demand), ("margin", margin)):
        if tensor.dtype != torch.int64:
            raise DataError(f"{name}: dtype {tensor.dtype}; allowed is torch.int64")
    if margin.dim() != 1:
        raise DataError(f"margin: shape {list(margin.shape)}; allowed is [lanes]")
    if demand.dim() != 2 or demand.size(0) == 0 or demand.size(1) != margin.size(0):
        allowed = f"[stations, lanes] with a station or more and {margin.size(0)} lanes"
        raise DataError(f"demand: shape {list(demand.shape)}; allowed is {allowed}")
    check_range("demand", demand, 0, MAX_ORDER_WH)
    check_range("sum of demand", demand.sum(0), 0, MAX_BOOK_WH)
    check_range("margin", margin, -MAX_BOOK_WH, MAX_BOOK_WH)


def trades_at_one_price(clearing: Clearing) -> Trades:
    """What everyone pays and gets where all trade at `clearing.price`, in the form of a pairwise auction's outcome."""
    payment, income = clearing.buy_fill_wh * clearing.price, clearing.sell_fill_wh * clearing.price
    return Trades(clearing.buy_fill_wh, clearing.sell_fill_wh, payment, income, clearing.volume_wh)
