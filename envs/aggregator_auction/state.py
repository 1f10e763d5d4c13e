"""What changes from step to step: frozen tensors, lanes last (`K` aggregators, `P` prosumers, `E` lanes, `T` hours)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from gridmarl.envs.base.state import LaneState
from gridmarl.scenarios.lanes import LaneDraws


class Stores(NamedTuple):
    """What the prosumers' assets carry from hour to hour; int64 Wh."""

    charge_wh: Tensor  # [P, E] of batteries
    ahead_wh: Tensor  # [P, E] load that has been brought forward and need not run any more
    rebound_wh: Tensor  # [return_hours, P, E] deferred load that comes back, by hours from now


class Situation(NamedTuple):
    """The hour before anything is decided; int64, all 0 after the horizon."""

    deviation_wh: Tensor  # [K, E] known when the hour is settled, + = short
    forecast_wh: Tensor  # [K, E] of it
    request_wh: Tensor  # [K, E] share of the request, + = up
    base_wh: Tensor  # [P, E] flexible load of a load, generation of photovoltaics, 0 of a battery
    up_capacity_wh: Tensor  # [P, E]
    down_capacity_wh: Tensor  # [P, E]
    up_cost: Tensor  # [P, E] µtok/Wh
    down_cost: Tensor  # [P, E] µtok/Wh

    @property
    def need_wh(self) -> Tensor:
        """What aggregators expect to need, `[K, E]`, + = up."""
        return self.forecast_wh + self.request_wh


class Published(NamedTuple):
    """What is known to all of the auctions of the hour before; int64 `[E]`, 0 at first."""

    up_price: Tensor  # mean price paid, of the last auction that traded
    up_wh: Tensor
    down_price: Tensor
    down_wh: Tensor


@dataclass(frozen=True)
class State(LaneState):
    """State between two steps; `balances` of aggregators, prosumers, the system operator, `[K+P+1, E]`."""

    hour: int
    draws: LaneDraws
    short_price: Tensor  # [T, E] imbalance price of who is short
    long_price: Tensor  # [T, E]
    trend_permille: Tensor  # [K, E] deviation in permille of the portfolio
    stores: Stores
    situation: Situation
    last_deviation_wh: Tensor  # [K, E] of the hour before
    published: Published
