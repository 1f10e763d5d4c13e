"""What EV sessions must and could charge in a half hour, in exact integers.

A session with `r` Wh left to charge, that leaves at the start of half hour `departure` and takes at most
`c = max_power_w // 2` Wh per half hour, has in half hour `t` (`arrival <= t < departure`)

* later half hours `k = departure - 1 - t`;
* `possible = min(r, c)`, what it could charge now;
* `urgent = min(possible, max(0, r - c * k))`, what it must charge now so that the rest still fits, at maximum power,
  into the later half hours;
* `elastic = possible - urgent`, what it could charge now or later;
* `lost = max(0, r - c * (k + 1))`, what cannot be charged any more, whatever happens.

Before its arrival, after its departure, and where `r = 0`, urgent and elastic are 0. Each half hour, `r` falls by what
was charged. A station's demand is the sum over its sessions; as mean power in W it is twice the energy in Wh.
"""

from __future__ import annotations

import torch
from torch import Tensor


def urgent_and_elastic(
    remaining_wh: Tensor,
    departure: Tensor,
    max_power_w: Tensor,
    period: int | Tensor,
    *,
    arrival: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Urgent and elastic energy of each session in one half hour; int64 Wh, the broadcast shape.

    Args:
        remaining_wh: what is left to charge, 0 or more.
        departure: half hour at whose start the car leaves.
        max_power_w: 0 or more.
        period: half hour `t`; an int, or an int64 tensor that broadcasts.
        arrival: first half hour in which the car is there; None = it is there already.
    """
    step = max_power_w >> 1
    later = departure - 1 - period
    here = later >= 0 if arrival is None else (later >= 0) & (arrival <= period)
    possible = torch.minimum(remaining_wh, step) * here
    urgent = torch.minimum(possible, (remaining_wh - step * later).clamp(min=0))
    return urgent, possible - urgent


def lost_wh(remaining_wh: Tensor, departure: Tensor, max_power_w: Tensor, period: int | Tensor) -> Tensor:
    """Energy that cannot be charged any more from the start of half hour `period` on, even at maximum power; int64 Wh.

    Arguments as of `urgent_and_elastic`; the car is there already.
    """
    half_hours = (departure - period).clamp(min=0)
    return (remaining_wh - (max_power_w >> 1) * half_hours).clamp(min=0)


def station_demand(
    remaining_wh: Tensor, arrival: Tensor, departure: Tensor, max_power_w: Tensor, period: int | Tensor
) -> tuple[Tensor, Tensor]:
    """Urgent and elastic energy `[N, E]` of each station in one half hour, of sessions `[M, N, E]`; int64 Wh."""
    urgent, elastic = urgent_and_elastic(remaining_wh, departure, max_power_w, period, arrival=arrival)
    return urgent.sum(dim=0), elastic.sum(dim=0)
