"""What changes from step to step: frozen tensors, lanes last (`M` sessions, `N` stations, `E` lanes, `T` times)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridmarl.contracts.quota import QuotaPhase


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
class State:
    """State between two steps. Built by `reset`, replaced by `step`; never changed in place."""

    half_hour: int
    phase: QuotaPhase  # DECLARING or TRADING; SETTLED after the horizon
    keys: Tensor  # [2, E] lane keys of the random numbers
    sessions: Sessions
    remaining_wh: Tensor  # [M, N, E]
    margin_wh: Tensor  # [T, E] published before the half hour
    actual_margin_wh: Tensor  # [T, E] as it turns out
    tariff: Tensor  # [T] µtok/Wh
    situation: Situation
    balances: Tensor  # [N+1, E] µtok
    last_price: Tensor  # [E] mean price of the last auction that traded, 0 before
    clamped_actions: Tensor  # [E] entries of actions that were NaN or out of range so far
    declared: Declared | None = None

    @property
    def num_envs(self) -> int:
        """Number of lanes."""
        return self.keys.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.keys.device

    def with_changes(self, **changes: Any) -> State:
        """A copy with some fields replaced."""
        return replace(self, **changes)


def state_to_dict(state: State) -> dict[str, Any]:
    """Plain containers and tensors only (for a checkpoint that loads with `weights_only=True`)."""
    out: dict[str, Any] = {}
    for item in fields(State):
        value = getattr(state, item.name)
        if isinstance(value, QuotaPhase):
            value = value.value
        out[item.name] = tuple(value) if isinstance(value, tuple) else value
    return out


def state_from_dict(values: dict[str, Any]) -> State:
    """Inverse of `state_to_dict`."""
    values = dict(values)
    values["phase"] = QuotaPhase(values["phase"])
    for name, kind in (("sessions", Sessions), ("situation", Situation), ("declared", Declared)):
        if values[name] is not None:
            values[name] = kind(*values[name])
    return State(**values)
