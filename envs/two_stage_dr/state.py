"""What changes from step to step: frozen tensors, lanes last inside (`P` prosumers, `E` lanes, `T` hours)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridmarl.contracts.two_stage import Phase
from gridmarl.scenarios.scenario import LaneDraws


class Home(NamedTuple):
    """The prosumers' private situation in the current hour; int64 `[P, E]`."""

    gamma: Tensor  # ntok/Wh²
    d_min_wh: Tensor
    d_max_wh: Tensor
    forecast_wh: Tensor
    generation_wh: Tensor
    at_import_wh: Tensor  # demand at the import price
    at_export_wh: Tensor  # demand at the export price
    comfort_wh: Tensor  # demand at price zero
    outside_utok: Tensor  # surplus without a market: the best against import and export prices


class Orders(NamedTuple):
    """Stage-1 decisions, quantised; int64 `[P, E]`."""

    buy_price: Tensor
    buy_wh: Tensor  # demand + returned + charge
    sell_price: Tensor
    sell_wh: Tensor  # forecast + discharge
    demand_wh: Tensor
    returned_wh: Tensor
    charge_wh: Tensor
    discharge_wh: Tensor


class Market(NamedTuple):
    """Outcome of the clearing and the demand-response price; int64."""

    price: Tensor  # [E]
    buy_fill_wh: Tensor  # [P, E]
    sell_fill_wh: Tensor  # [P, E]
    volume_wh: Tensor  # [E]
    shortage_wh: Tensor  # [E]
    dr_price: Tensor  # [E]
    reduction_price: Tensor  # [E]
    alpha_permille: Tensor  # [E]
    refused: Tensor | None = None  # [P, E] bool: a buy order that did not enter the local book; None: all entered


@dataclass(frozen=True)
class State:
    """State between two steps. Built by `reset`, replaced by `step`; never changed in place."""

    hour: int
    phase: Phase
    beta: int  # µtok/Wh, from the reference price and the elasticity
    keys: Tensor  # [2, E] lane keys of the random numbers
    draws: LaneDraws
    import_price: Tensor  # [T, E]
    export_price: Tensor  # [T, E]
    participates: Tensor  # [P, E] bool
    home: Home
    backlog: Tensor  # [D, P, E] Wh that return in hour h, at index h mod D; D = 0 without shifting
    soc_wh: Tensor  # [P, E]
    balances: Tensor  # [P+3, E] µtok
    last_price: Tensor  # [E]
    last_dr_price: Tensor  # [E]
    clamped_actions: Tensor  # [E] entries of actions that were NaN or out of range so far
    overdrawn: Tensor  # [E] bool: an account has passed its credit limit
    orders: Orders | None = None  # between the stages of an hour only
    market: Market | None = None
    # last, so that states of before load
    receipts: Tensor | None = None  # [L, P, E] µtok received in the last L blocks, latest last; None: instant finality

    @property
    def num_envs(self) -> int:
        """Number of lanes."""
        return self.keys.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.keys.device

    @property
    def spendable_utok(self) -> Tensor:
        """Money of each prosumer that is final, `[P, E]`: its balance less what it received in the last blocks."""
        prosumers = self.soc_wh.shape[0]
        own = self.balances.narrow(0, 0, prosumers)
        return own if self.receipts is None else own - self.receipts.sum(0)

    def with_changes(self, **changes: Any) -> State:
        """A copy with some fields replaced."""
        return replace(self, **changes)


def state_to_dict(state: State) -> dict[str, Any]:
    """Plain containers and tensors only (for a checkpoint that loads with `weights_only=True`)."""
    out: dict[str, Any] = {}
    for item in fields(State):
        value = getattr(state, item.name)
        out[item.name] = int(value) if isinstance(value, Phase) else tuple(value) if isinstance(value, tuple) else value
    return out


def state_from_dict(values: dict[str, Any]) -> State:
    """Inverse of `state_to_dict`."""
    values = dict(values)
    values["phase"] = Phase(values["phase"])
    for name, kind in (("draws", LaneDraws), ("home", Home), ("orders", Orders), ("market", Market)):
        if values[name] is not None:
            values[name] = kind(*values[name])
    return State(**values)
