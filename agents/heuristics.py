"""Bidders that do not learn: truthful, zero-intelligence, always-cap, inflate, comfort.

They read observation fields only, by name.

All keep a battery idle. In a learned stage 2 all offer the reduction nearest to `rule_reduction_wh`, what eq. (1) would
offer. Where one price serves both sides (`single_price`), a net buyer (demand and returns above its forecast) bids its
buy price and a net seller its sell price.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from typing import Any

import torch
from torch import Tensor

from gridmarl.agents.heuristics_actions import ActionWriter, Bid, FieldReader, Ranges, level_for, offset_of
from gridmarl.errors import ConfigError
from gridmarl.preferences import demand_at
from gridmarl.protocols import AgentContext, Transition
from gridmarl.random import Purpose, below, draw, lane_keys

_RANGES = ("export_price_utok_per_wh", "import_price_utok_per_wh", "demand_min_wh", "demand_max_wh")
_SECOND_STAGE = ("stage", "stage1_demand_wh", "rule_reduction_wh")


class Heuristic(ABC):
    """Base of the heuristics: reads the fields, asks `prices` and `quantity`, writes the action. Has no options.

    Raises:
        ConfigError: an option was given, or the environment lacks a field or entry that the heuristic needs.
    """

    name = ""
    learns = False
    fields: tuple[str, ...] = ()

    def __init__(self, context: AgentContext) -> None:
        if context.options:
            raise ConfigError(f"{self.name}: unknown option {next(iter(context.options))!r}; it has no options")
        self._writer = ActionWriter(context.action_spec, self.name, context.device)
        names = context.action_spec.names
        self._has_second_stage = "reduction" in names
        needed = _RANGES + self.fields
        if "price" in names:
            needed += ("forecast_wh", "returned_wh")
        if self._has_second_stage:
            needed += _SECOND_STAGE
        self._reader = FieldReader(context, self.name, needed)
        self._one_price = "price" in names

    @abstractmethod
    def bid(self, observation: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor, Tensor]:
        """Buy price, sell price (µtok/Wh) and quantity (Wh), `[E, P]` int64 each."""

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Actions for `[E, P, F]` observations; `explore` changes nothing."""
        ranges = Ranges(*(self._reader.integer(observation, name) for name in _RANGES))
        buy_price, sell_price, quantity = self.bid(observation, ranges)
        single_price = buy_price
        if self._one_price:
            forecast = self._reader.integer(observation, "forecast_wh")
            returned = self._reader.integer(observation, "returned_wh")
            single_price = torch.where(quantity + returned >= forecast, buy_price, sell_price)
        reduction = second_stage = None
        if self._has_second_stage:
            second_stage = self._reader.integer(observation, "stage") == 1
            reduction = self._reduction_level(observation, ranges)
        return self._writer.write(Bid(buy_price, sell_price, quantity, single_price), ranges, reduction, second_stage)

    def _reduction_level(self, observation: Tensor, ranges: Ranges) -> Tensor:
        """Level of the rule's reduction within the environment's range `0 .. d - d_min`."""
        demand = self._reader.integer(observation, "stage1_demand_wh")
        return level_for(
            self._reader.integer(observation, "rule_reduction_wh"), (demand - ranges.demand_min).clamp(min=0)
        )

    def learn(self, transition: Transition) -> dict[str, float]:
        """Nothing to learn."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Empty: there is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (a default, not a gap)
        """Nothing to restore."""


class Truthful(Heuristic):
    """The benchmark "truthful": one block of `d(import)` at the import price, supply at the export price."""

    name = "truthful"
    fields = ("demand_at_import_wh",)

    def bid(self, observation: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor, Tensor]:
        """Buys at the import price, sells at the export price."""
        return ranges.import_price, ranges.export_price, self._reader.integer(observation, "demand_at_import_wh")


class AlwaysCap(Truthful):
    """Asks the price cap (the import price) for what it sells and bids the cap for `d(import)`."""

    name = "always_cap"

    def bid(self, observation: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor, Tensor]:
        """Both prices are the import price."""
        return ranges.import_price, ranges.import_price, self._reader.integer(observation, "demand_at_import_wh")


class Inflate(Heuristic):
    """Baseline gaming: bids `d_max` at the import price, so that stage 2 pays for reducing phantom demand."""

    name = "inflate"

    def bid(self, observation: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor, Tensor]:
        """Buys `d_max` at the import price, sells at the export price."""
        return ranges.import_price, ranges.export_price, ranges.demand_max


class Comfort(Heuristic):
    """The demand of greatest comfort at the import price: chapter 7's stage 1 without price signals (section 6.2)."""

    name = "comfort"
    fields = ("comfort_demand_wh",)

    def bid(self, observation: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor, Tensor]:
        """Buys the demand of greatest comfort at the import price, sells at the export price."""
        return ranges.import_price, ranges.export_price, self._reader.integer(observation, "comfort_demand_wh")


class ZeroIntelligence(Heuristic):
    """Zero intelligence with a budget constraint (ZI-C; Gode and Sunder, 1993): random within its own limit.

    Buy and sell price uniform in [export, import]; quantity uniform between `d_min` and the demand at that buy price,
    eq. (1). Random even with `explore=False`: randomness is its policy. The draws are a function of (seed, step, lane,
    agent).
    """

    name = "zero_intelligence"
    fields = ("beta_utok_per_wh", "gamma_ntok_per_wh2")

    def __init__(self, context: AgentContext) -> None:
        super().__init__(context)
        self._keys = lane_keys(context.seed, context.num_envs, device=context.device)
        self._num_agents = context.num_agents
        self._steps = 0

    def in_copies(self, copies: int) -> ZeroIntelligence:
        """The same bidders in `copies` times as many lanes: those of a copy draw as in the original."""
        twin = copy(self)
        twin._keys = self._keys.repeat(1, copies)
        return twin

    def bid(self, observation: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor, Tensor]:
        """Random prices and quantity within the bidder's limit."""
        words = draw(self._keys, self._steps, Purpose.ZERO_INTELLIGENCE, num_agents=self._num_agents)
        for_buy, for_sell, for_quantity, _ = words.transpose(1, 2).unbind(0)
        self._steps += 1
        span = ranges.import_price - ranges.export_price
        buy_offset = below(for_buy, span + 1)
        # The price that the environment will see: on a range above 65536 not every price can be expressed.
        buy_offset = offset_of(level_for(buy_offset, span), span)
        buy_price = ranges.export_price + buy_offset
        sell_price = ranges.export_price + below(for_sell, span + 1)
        beta = self._reader.integer(observation, "beta_utok_per_wh")
        gamma = self._reader.integer(observation, "gamma_ntok_per_wh2")
        limit = demand_at(buy_price, beta, gamma, ranges.demand_min, ranges.demand_max)
        quantity = ranges.demand_min + below(for_quantity, limit - ranges.demand_min + 1)
        return buy_price, sell_price, quantity

    def state_dict(self) -> dict[str, Any]:
        """The step counter."""
        return {"steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._steps = state["steps"]
