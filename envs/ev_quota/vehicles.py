"""Inside the stations: what their vehicles need in a half hour, and which of them get a station's energy.

Least laxity first: urgent energy, then the rest, each in the order of departure (ties by index). The sessions lie in
that order (see `Sessions`), so that sharing is a running total and no step sorts. Exact integers, int64, lanes last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.envs.ev_quota.state import Sessions, Situation
from gridmarl.preferences import floor_div
from gridmarl.scenarios.ev_demand import lost_wh, urgent_and_elastic
from gridmarl.units import MAX_PRICE_UTOK_PER_WH

_FAR = 1 << 20


def situation_at(sessions: Sessions, remaining_wh: Tensor, half_hour: int) -> Situation:
    """What each station sees of its own vehicles, `[N, E]`."""
    urgent, elastic = _split(sessions, remaining_wh, half_hour)
    here = (sessions.arrival <= half_hour) & (sessions.departure > half_hour) & (remaining_wh > 0)
    leaves = torch.where(here, sessions.departure - half_hour, _FAR)
    plugged = here.sum(0)
    total_urgent, total_elastic = urgent.sum(0), elastic.sum(0)
    return Situation(
        urgent_wh=total_urgent,
        elastic_wh=total_elastic,
        remaining_wh=(remaining_wh * here).sum(0),
        plugged=plugged,
        soonest=leaves.amin(0) * (plugged > 0),
        urgent_value=floor_div((urgent * sessions.value).sum(0), total_urgent.clamp(min=1)),
        elastic_value=floor_div((elastic * sessions.value).sum(0), total_elastic.clamp(min=1)),
    )


def share_out(sessions: Sessions, remaining_wh: Tensor, half_hour: int, energy_wh: Tensor) -> Tensor:
    """Energy of each session, `[M, N, E]`, of what a station charges, `[N, E]`, at most what its vehicles can take."""
    urgent, elastic = _split(sessions, remaining_wh, half_hour)
    first = torch.minimum(energy_wh, urgent.sum(0))
    return _in_order(urgent, first) + _in_order(elastic, energy_wh - first)


def short_value(sessions: Sessions, remaining_wh: Tensor, half_hour: int, quota_wh: Tensor) -> Tensor:
    """Lowest value, `[N, E]` µtok/Wh, of the urgent energy that a quota `[N, E]` does not cover; 0 if it covers all."""
    urgent, _ = _split(sessions, remaining_wh, half_hour)
    short = urgent > _in_order(urgent, quota_wh)
    lowest = torch.where(short, sessions.value, MAX_PRICE_UTOK_PER_WH).amin(0)
    return lowest * short.any(0)


def unserved_wh(sessions: Sessions, remaining_wh: Tensor, half_hour: int, last: bool) -> Tensor:
    """Energy `[M, N, E]` that vehicles leave without at the end of a half hour.

    At the horizon also what vehicles that are still there can no longer get, even at maximum power from then on.
    """
    end = half_hour + 1
    leaves = remaining_wh * (sessions.departure == end)
    if not last:
        return leaves
    here = (sessions.arrival < end) & (sessions.departure > end)
    return leaves + here * lost_wh(remaining_wh, sessions.departure, sessions.max_power_w, end)


def _split(sessions: Sessions, remaining_wh: Tensor, half_hour: int) -> tuple[Tensor, Tensor]:
    return urgent_and_elastic(
        remaining_wh, sessions.departure, sessions.max_power_w, half_hour, arrival=sessions.arrival
    )


def _in_order(wanted: Tensor, energy: Tensor) -> Tensor:
    """First come, first served along the first dimension."""
    before = wanted.cumsum(0) - wanted
    return torch.minimum((energy - before).clamp(min=0), wanted)
