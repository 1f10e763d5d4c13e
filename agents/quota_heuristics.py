"""Charging stations that do not learn: truthful, patient, no trade, over-declaring, uncoordinated. EVQuota.

They read observation fields only, by name. All charge as much as their final quota allows, but for `Uncoordinated`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gridmarl.agents.heuristics_actions import FULL_LEVEL, FieldReader, entry_of, level_for
from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext, Transition

_ENERGIES = ("urgent_wh", "elastic_wh", "declaration_limit_wh", "quota_wh")
_PRICES = (
    "floor_utok_per_wh",
    "cap_utok_per_wh",
    "tariff_utok_per_wh",
    "later_tariff_utok_per_wh",
    "short_value_utok_per_wh",
    "unserved_cost_utok_per_wh",
)
_ENTRIES = (("declare", "trade", "price", "charge"), ("declare", "trade", "price", "charge_overuse"))
HALF_LEVEL = FULL_LEVEL // 2


@dataclass(frozen=True)
class Seen:
    """What a station reads, `[E, N]` int64 each: energy in Wh, prices in µtok/Wh."""

    urgent: Tensor
    elastic: Tensor
    declaration_limit: Tensor
    quota: Tensor
    floor: Tensor
    cap: Tensor
    tariff: Tensor
    later_tariff: Tensor
    short_value: Tensor
    unserved_cost: Tensor

    @property
    def possible(self) -> Tensor:
        """What its vehicles could take now."""
        return self.urgent + self.elastic


@dataclass(frozen=True)
class Order:
    """What a station bids for, `[E, N]` int64 each; at most one of the two energies above 0."""

    price: Tensor
    buy_wh: Tensor
    sell_wh: Tensor


class QuotaHeuristic(ABC):
    """Base of the stations: reads the fields, asks for a demand and an order, writes the action. Few have options.

    Raises:
        ConfigError: an option was given, or the environment lacks a field or entry that the heuristic needs.
    """

    name = ""
    learns = False

    def __init__(self, context: AgentContext) -> None:
        self.configure(context.options)
        spec = context.action_spec
        if spec.names not in _ENTRIES:
            raise ConfigError(f"{self.name}: cannot fill the action entries {spec.names}; known are {_ENTRIES[0]}")
        if spec.kind == "discrete" and spec.grid is None:
            raise ConfigError(f"{self.name}: a discrete action space needs ActionSpec.grid, which says what it means")
        self._reader = FieldReader(context, self.name, ("stage", *_ENERGIES, *_PRICES))
        self._grid = None if spec.grid is None else spec.grid.to(context.device)
        self.can_overuse = spec.names[3] == "charge_overuse"
        self._is_declaration = torch.tensor([name == "declare" for name in spec.names], device=context.device)

    def configure(self, options: dict[str, Any]) -> None:
        """Take the options in; by default there are none."""
        if options:
            raise ConfigError(f"{self.name}: unknown option {next(iter(options))!r}; it has no options")

    @abstractmethod
    def demand(self, seen: Seen) -> Tensor:
        """What it declares, `[E, N]` int64 Wh."""

    @abstractmethod
    def order(self, seen: Seen) -> Order:
        """What it bids for quota."""

    def beyond_quota(self, seen: Seen) -> Tensor:
        """Share, in levels 0 .. 32768, of what the vehicles could take beyond the final quota; read with over-use."""
        return torch.zeros_like(seen.quota)

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Actions for `[E, N, F]` observations; `explore` changes nothing."""
        seen = self.seen(observation)
        least = torch.minimum(seen.urgent, seen.declaration_limit)
        declare = level_for(self.demand(seen) - least, seen.declaration_limit - least)
        order = self.order(seen)
        bought = half_level_for(order.buy_wh, (seen.possible - seen.quota).clamp(min=0))
        trade = HALF_LEVEL + bought - half_level_for(order.sell_wh, seen.quota)
        price = level_for(order.price - seen.floor, seen.cap - seen.floor)
        full = torch.full_like(price, FULL_LEVEL)
        charge = HALF_LEVEL + self.beyond_quota(seen) if self.can_overuse else full
        action = entry_of(torch.stack((declare, trade, price, charge), dim=-1))
        return action if self._grid is None else self._nearest(action, self.is_trading(observation))

    def seen(self, observation: Tensor) -> Seen:
        """The fields of `[E, N, F]` observations that it reads."""
        return Seen(*(self._reader.integer(observation, name) for name in _ENERGIES + _PRICES))

    def is_trading(self, observation: Tensor) -> Tensor:
        """`[E, N]` bool: the second of the two steps."""
        return self._reader.integer(observation, "stage") > 0

    def _nearest(self, action: Tensor, trading: Tensor) -> Tensor:
        """Row of the grid at the least squared distance over the entries that are read in this step."""
        assert self._grid is not None
        read = trading.logical_not().unsqueeze(-1).unsqueeze(-1) == self._is_declaration
        return ((action.unsqueeze(-2) - self._grid).square() * read).sum(dim=-1).argmin(dim=-1)

    def learn(self, transition: Transition) -> dict[str, float]:
        """Nothing to learn."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Empty: there is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (a default, not a gap)
        """Nothing to restore."""


class NoTrade(QuotaHeuristic):
    """Declares what its vehicles could take and keeps to the quota it gets: allocation without an auction."""

    name = "quota_no_trade"

    def demand(self, seen: Seen) -> Tensor:
        """Urgent and elastic energy."""
        return seen.possible

    def order(self, seen: Seen) -> Order:
        """None."""
        nothing = torch.zeros_like(seen.quota)
        return Order(seen.floor, nothing, nothing)


class TruthfulStation(NoTrade):
    """Declares what its vehicles could take, and trades at what quota is worth to it.

    Short of urgent energy it buys that, at the lowest value of it plus the cost of not serving it, less the tariff: no
    Wh of it is worth less. Else it sells what is not urgent, at what charging that later would cost more than now.
    """

    name = "quota_truthful"

    def order(self, seen: Seen) -> Order:
        """Buys or sells around the urgent energy."""
        short = (seen.urgent - seen.quota).clamp(min=0)
        spare = (seen.quota - seen.urgent).clamp(min=0)
        worth = seen.short_value + seen.unserved_cost - seen.tariff
        price = torch.where(short > 0, worth, seen.later_tariff - seen.tariff)
        return Order(torch.minimum(torch.maximum(price, seen.floor), seen.cap), short, spare)


class Patient(TruthfulStation):
    """Truthful, but wants elastic energy only where no later tariff before its first vehicle leaves is lower."""

    name = "quota_patient"

    def demand(self, seen: Seen) -> Tensor:
        """Urgent energy; elastic energy, too, unless it gets cheaper."""
        return torch.where(seen.later_tariff < seen.tariff, seen.urgent, seen.possible)


class OverDeclare(TruthfulStation):
    """Declares as much as it may, and trades like the truthful station: what the phantom demand brings, it sells."""

    name = "quota_over_declare"

    def demand(self, seen: Seen) -> Tensor:
        """The most that can be declared."""
        return seen.declaration_limit


class Uncoordinated(NoTrade):
    """Charges every vehicle at once, whatever the quota; where over-use is not allowed, as much as the quota allows."""

    name = "quota_uncoordinated"

    def beyond_quota(self, seen: Seen) -> Tensor:
        """All."""
        return torch.full_like(seen.quota, HALF_LEVEL)


def half_level_for(offset: Tensor, span: Tensor) -> Tensor:
    """Level 0 .. 32768 that the environment maps to `offset`, `(span * level) >> 15`; exact for spans up to 32768."""
    offset = torch.minimum(offset, span)
    level = (offset * HALF_LEVEL + span - 1) // span.clamp(min=1)
    level = level.clamp(min=0, max=HALF_LEVEL)
    return level - ((span * level) >> 15 > offset).to(torch.int64)
