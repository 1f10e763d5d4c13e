"""Aggregators and prosumers that do not learn: truthful, zero intelligence. AggregatorAuction.

They read observation fields only, by name, and play both roles: the field `is_aggregator` says which. Sources and exact
rules: docs/aggregator-auction.md, "Heuristics".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gridmarl.agents.heuristics_actions import FieldReader, entry_of, level_for
from gridmarl.errors import ConfigError
from gridmarl.preferences import floor_div
from gridmarl.protocols import AgentContext, Transition
from gridmarl.random import Purpose, below, draw, lane_keys

_FIELDS = (
    "is_aggregator",
    "cap_utok_per_wh",
    "short_price_utok_per_wh",
    "long_price_utok_per_wh",
    "service_price_utok_per_wh",
    "missing_penalty_utok_per_wh",
    "forecast_deviation_wh",
    "own_request_wh",
    "forecast_need_wh",
    "up_capacity_wh",
    "up_cost_utok_per_wh",
    "down_capacity_wh",
    "down_cost_utok_per_wh",
)
_UP, _DOWN = ("price", "quantity"), ("down_price", "down_quantity")


@dataclass(frozen=True)
class Seen:
    """What is read, `[E, K+P]` int64 each: energy in Wh, prices in µtok/Wh; 0 in rows of the other role."""

    is_aggregator: Tensor
    cap: Tensor
    short_price: Tensor
    long_price: Tensor
    service_price: Tensor
    missing_penalty: Tensor
    deviation: Tensor
    request: Tensor
    need: Tensor
    up_capacity: Tensor
    up_cost: Tensor
    down_capacity: Tensor
    down_cost: Tensor

    @property
    def up_offer(self) -> Tensor:
        """What can be delivered up at a cost that an order may ask, Wh."""
        return self.up_capacity * (self.up_cost <= self.cap)

    @property
    def down_offer(self) -> Tensor:
        """What can be delivered down at a cost that an order may ask, Wh."""
        return self.down_capacity * (self.down_cost <= self.cap)


@dataclass(frozen=True)
class Order:
    """Limit price and quantity, `[E, K+P]` int64; rows of aggregators are bids, the others offers."""

    price: Tensor
    energy_wh: Tensor


class AuctionHeuristic(ABC):
    """Base: reads the fields, asks for orders, writes the action. There are no options.

    Raises:
        ConfigError: an option was given, or the environment lacks a field or entry that the heuristic needs.
    """

    name = ""
    learns = False

    def __init__(self, context: AgentContext) -> None:
        if context.options:
            raise ConfigError(f"{self.name}: unknown option {next(iter(context.options))!r}; it has no options")
        spec = context.action_spec
        if spec.names not in (_UP, _UP + _DOWN):
            raise ConfigError(f"{self.name}: cannot fill the action entries {spec.names}; known are {_UP + _DOWN}")
        if spec.kind == "discrete" and spec.grid is None:
            raise ConfigError(f"{self.name}: a discrete action space needs ActionSpec.grid, which says what it means")
        self._reader = FieldReader(context, self.name, _FIELDS)
        self._grid = None if spec.grid is None else spec.grid.to(context.device)
        self._both = spec.names != _UP

    @abstractmethod
    def orders(self, seen: Seen) -> tuple[Order, Order]:
        """Its order up (an aggregator's only one, whichever way it needs), and its offer down."""

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Actions for `[E, K+P, F]` observations; `explore` changes nothing."""
        seen = Seen(*(self._reader.integer(observation, name) for name in _FIELDS))
        most = seen.up_capacity + 2 * seen.need.abs()  # one of the two is 0
        entries = []
        for order, span in zip(self.orders(seen)[: 1 + self._both], (most, seen.down_capacity), strict=False):
            entries += [entry_of(level_for(order.price, seen.cap)), entry_of(level_for(order.energy_wh, span))]
        action = torch.stack(entries, dim=-1)
        if self._grid is None:
            return action
        return (action.unsqueeze(-2) - self._grid).square().sum(dim=-1).argmin(dim=-1)

    def learn(self, transition: Transition) -> dict[str, float]:
        """Nothing to learn."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Empty: there is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (a default, not a gap)
        """Nothing to restore."""


def value_of_need(seen: Seen) -> Tensor:
    """What the whole need that an aggregator expects is worth per Wh, at least 0, rounded down; 0 for prosumers.

    Going from no trade to the need, energy first covers its own shortage, at the short price (or, going down, takes
    away its own surplus, which would earn the long price); what is left serves the request, at the service price and
    the penalty saved.
    """
    need, asked = seen.need.abs(), seen.need.sign()
    own = torch.minimum((seen.deviation * asked).clamp(min=0), need)
    own_price = torch.where(asked > 0, seen.short_price, -seen.long_price)
    worth = own * own_price + (need - own) * (seen.service_price + seen.missing_penalty)
    return floor_div(worth, need.clamp(min=1)).clamp(min=0)


class AggregatorTruthful(AuctionHeuristic):
    """Prosumers offer all they can at their cost; aggregators bid for the need they expect at what it is worth."""

    name = "aggregator_truthful"

    def orders(self, seen: Seen) -> tuple[Order, Order]:
        """No shading, nothing withheld."""
        value = value_of_need(seen)
        up = Order(seen.up_cost + value, seen.up_offer + seen.need.abs() * (value > 0))
        return up, Order(seen.down_cost, seen.down_offer)


class AggregatorZeroIntelligence(AuctionHeuristic):
    """Random within their limits (ZI-C; Gode and Sunder, 1993): nobody offers below its cost or bids above its value.

    Ask uniform between cost and cap, bid between 0 and the value; quantity uniform between 0 and what the truthful one
    has; on a grid, the nearest row, which can be beyond a limit. Random even with `explore=False`. The draws are a
    function of (seed, step, lane, agent).
    """

    name = "aggregator_zero_intelligence"

    def __init__(self, context: AgentContext) -> None:
        super().__init__(context)
        self._keys = lane_keys(context.seed, context.num_envs, device=context.device)
        self._num_agents = context.num_agents
        self._steps = 0

    def in_copies(self, copies: int) -> AggregatorZeroIntelligence:
        """The same traders in `copies` times as many lanes: those of a copy draw as in the original."""
        twin = copy(self)
        twin._keys = self._keys.repeat(1, copies)
        return twin

    def orders(self, seen: Seen) -> tuple[Order, Order]:
        """Random prices and quantities."""
        words = draw(self._keys, self._steps, Purpose.ZERO_INTELLIGENCE, num_agents=self._num_agents)
        price_up, energy_up, price_down, energy_down = words.transpose(1, 2).unbind(0)
        self._steps += 1
        value = value_of_need(seen)
        most = seen.up_offer + seen.need.abs() * (value > 0)
        lowest, highest = seen.up_cost, torch.where(seen.is_aggregator > 0, value, seen.cap)
        ask = lowest + below(price_up, (highest - lowest).clamp(min=0) + 1)
        down_ask = seen.down_cost + below(price_down, (seen.cap - seen.down_cost).clamp(min=0) + 1)
        up = Order(ask, below(energy_up, most + 1))
        return up, Order(down_ask, below(energy_down, seen.down_offer + 1))

    def state_dict(self) -> dict[str, Any]:
        """The step counter."""
        return {"steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._steps = state["steps"]
