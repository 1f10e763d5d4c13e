"""Urgent and elastic energy against a search over all ways to charge."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from gridmarl.random import lane_keys
from gridmarl.scenarios.ev_days import draw_ev_day, make_ev_stations
from gridmarl.scenarios.ev_demand import lost_wh, station_demand, urgent_and_elastic


def most(remaining: int, step: int, half_hours: int) -> int:
    """Energy that can be charged, half hour by half hour."""
    charged = 0
    for _ in range(half_hours):
        charged += min(step, remaining - charged)
    return charged


def oracle(remaining: int, departure: int, power: int, period: int, arrival: int) -> tuple[int, int, int]:
    """Urgent: the least energy now that loses nothing; elastic: how much more is possible; what is lost anyway."""
    if not arrival <= period < departure:
        return 0, 0, remaining if period >= departure else -1
    step = power // 2
    best = most(remaining, step, departure - period)
    possible = list(range(min(step, remaining) + 1))
    urgent = next(n for n in possible if n + most(remaining - n, step, departure - period - 1) == best)
    return urgent, possible[-1] - urgent, remaining - best


def test_against_the_oracle() -> None:
    cases = list(itertools.product(range(14), range(6), (0, 1, 2, 5, 6, 40), range(6), range(5)))
    remaining, departure, power, period, arrival = torch.tensor(cases).unbind(1)
    urgent, elastic = urgent_and_elastic(remaining, departure, power, period, arrival=arrival)
    lost = lost_wh(remaining, departure, power, period)
    seen = torch.stack((urgent, elastic), dim=1).tolist()
    due = [oracle(*case) for case in cases]
    assert seen == [[u, e] for u, e, _ in due]
    assert [now for now, (_, _, gone) in zip(lost.tolist(), due, strict=True) if gone >= 0] == [
        gone for _, _, gone in due if gone >= 0
    ]
    assert urgent.dtype == elastic.dtype == lost.dtype == torch.int64


def test_one_car_by_hand() -> None:
    """7 kW, 10 kWh, half hours 2 to 5: 3.5 kWh each; if none was charged in half hour 2, 3 kWh must be in 3."""
    left, leaves, power = torch.tensor([10_000]), torch.tensor([6]), torch.tensor([7000])
    seen = [
        tuple(int(x) for x in urgent_and_elastic(left, leaves, power, t, arrival=torch.tensor([2]))) for t in range(7)
    ]
    assert seen == [(0, 0), (0, 0), (0, 3500), (3000, 500), (3500, 0), (3500, 0), (0, 0)]
    assert [int(lost_wh(left, leaves, power, t)) for t in (2, 3, 4, 5, 6, 7)] == [0, 0, 3000, 6500, 10_000, 10_000]


def charge(share_of_elastic: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Energy of drawn sessions left at the end of the day, and the most a session took beyond its power."""
    sessions = draw_ev_day(make_ev_stations(("public", "residential"), 15_000), lane_keys(5, 20))
    left, over = sessions.energy_wh, torch.zeros(1, dtype=torch.int64)
    for t in range(48):
        urgent, elastic = urgent_and_elastic(
            left, sessions.departure, sessions.max_power_w, t, arrival=sessions.arrival
        )
        total = station_demand(left, sessions.arrival, sessions.departure, sessions.max_power_w, t)
        assert torch.equal(total[0], urgent.sum(dim=0))
        assert torch.equal(total[1], elastic.sum(dim=0))
        assert not (urgent + elastic)[~sessions.valid].any()
        now = urgent + elastic * share_of_elastic[0] // share_of_elastic[1]
        over = torch.maximum(over, (now - (sessions.max_power_w >> 1)).max())
        left = left - now
    return left, over


def test_charging_what_is_urgent_serves_every_session() -> None:
    """As late as possible, as early as possible, or between: nothing is left, and no car exceeds its power."""
    for share in ((0, 1), (1, 3), (1, 1)):
        left, over = charge(share)
        assert not left.any()
        assert int(over) <= 0
