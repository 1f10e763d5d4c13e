"""What changes from step to step: frozen tensors, lanes last (`M` sessions, `N` stations, `E` lanes, `T` times)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from gridmarl.contracts.quota import QuotaPhase
from gridmarl.envs.base.state import LaneState


class Sessions(NamedTuple):
    """The day's vehicles, in order of departure; int64 `[M, N, E]`, all 0 where there is none."""

    arrival: Tensor
    departure: Tensor
    max_power_w: Tensor
    value: Tensor  # µtok/Wh of delivered energy


class Situation(NamedTuple):
    """The stations' private situation in the current half hour; int64 `[N, E]`."""

    urgent_wh: Tensor  # what must be charged now, or is lost
    elastic_wh: Tensor  # what could be charged now or later
    remaining_wh: Tensor  # what vehicles that are plugged in still want
    plugged: Tensor  # number of vehicles that still want energy
    soonest: Tensor  # half hours until the first of them leaves, 0 without any
    urgent_value: Tensor  # µtok/Wh, mean over the urgent energy, 0 without any
    elastic_value: Tensor  # µtok/Wh, mean over the elastic energy, 0 without any

    @property
    def possible_wh(self) -> Tensor:
        """What the vehicles could take in this half hour."""
        return self.urgent_wh + self.elastic_wh


class Declared(NamedTuple):
    """Between the two steps of a half hour."""

    declared_wh: Tensor  # [N, E]
    quota_wh: Tensor  # [N, E] of the allocation
    scarce: Tensor  # [E] bool
    short_value: Tensor  # [N, E] µtok/Wh, lowest value of urgent energy that the quota does not cover, 0 without any


@dataclass(frozen=True)
class State(LaneState):
    """State between two steps; `balances` of the stations, then of the DSO, `[N+1, E]`."""

    half_hour: int
    phase: QuotaPhase  # DECLARING or TRADING; SETTLED after the horizon
    sessions: Sessions
    remaining_wh: Tensor  # [M, N, E]
    margin_wh: Tensor  # [T, E] published before the half hour
    actual_margin_wh: Tensor  # [T, E] as it turns out
    tariff: Tensor  # [T] µtok/Wh
    situation: Situation
    last_price: Tensor  # [E] mean price of the last auction that traded, 0 before
    declared: Declared | None = None
