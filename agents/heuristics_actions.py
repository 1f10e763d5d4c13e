"""From what a bidder means (integer prices and energies) to the normalised action that stands for it.

The environment's map of an action entry `a` in [-1, 1] is `level = floor((a + 1) * 32768 + 0.5)`, clamped to 0..65536,
and `value = low + ((high - low) * level >> 16)`. `level_for` is its inverse. Discrete spaces: the nearest row of the
grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gridmarl.errors import ConfigError
from gridmarl.protocols import ActionSpec, AgentContext

FULL_LEVEL = 65536
_SHIFT = 16
_HALF_LEVEL = 32768
PRICE_ENTRIES = ("buy_price", "sell_price", "price")


def offset_of(level: Tensor, span: Tensor) -> Tensor:
    """What the environment makes of a level: `(span * level) >> 16`, int64."""
    return (span * level) >> _SHIFT


def level_for(offset: Tensor, span: Tensor) -> Tensor:
    """Level 0..65536 (int64) that the environment maps to `offset` (clamped to `0..span`).

    Exact for every `span <= 65536`. A wider range has values that no level reaches; the level is then that of the
    greatest reachable value below, so that a limit is never exceeded. A range of zero gets level 0.
    """
    offset = torch.minimum(offset, span).clamp(min=0)
    level = (offset * FULL_LEVEL + span - 1) // span.clamp(min=1)
    level = level.clamp(min=0, max=FULL_LEVEL)
    return level - (offset_of(level, span) > offset).to(torch.int64)


def entry_of(level: Tensor) -> Tensor:
    """Normalised action in [-1, 1], float32, exact: a multiple of 2**-15."""
    return level.to(torch.float32) / _HALF_LEVEL - 1.0


class FieldReader:
    """Reads observation fields by name as the exact integers that they were made from.

    Raises:
        ConfigError: a needed field that this environment does not show.
    """

    def __init__(self, context: AgentContext, who: str, needed: tuple[str, ...]) -> None:
        self._fields = {item.name: (index, item.scale) for index, item in enumerate(context.observation_fields)}
        missing = [name for name in needed if name not in self._fields]
        if missing:
            raise ConfigError(f"{who}: needs observation fields {missing}; this environment has {list(self._fields)}")

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def integer(self, observation: Tensor, name: str) -> Tensor:
        """`[E, P]` int64: `round(value / scale)` in float64."""
        index, scale = self._fields[name]
        return (observation.select(-1, index).to(torch.float64) / scale).round().to(torch.int64)


@dataclass(frozen=True)
class Bid:
    """What a heuristic wants to bid, `[E, P]` int64 each: prices in µtok/Wh within the outside prices, energy in Wh."""

    buy_price: Tensor
    sell_price: Tensor
    quantity: Tensor
    single_price: Tensor  # where one price serves both sides


@dataclass(frozen=True)
class Ranges:
    """The ranges that the environment maps actions onto, `[E, P]` int64 each."""

    export_price: Tensor
    import_price: Tensor
    demand_min: Tensor
    demand_max: Tensor


class ActionWriter:
    """Writes bids and reductions as actions of one `ActionSpec`.

    Raises:
        ConfigError: an entry that is none of buy_price, sell_price, price, quantity, battery and reduction.
    """

    def __init__(self, spec: ActionSpec, who: str, device: torch.device) -> None:
        known = (*PRICE_ENTRIES, "quantity", "battery", "reduction")
        for name in spec.names:
            if name not in known:
                raise ConfigError(f"{who}: cannot fill the action entry {name!r}; known are {', '.join(known)}")
        if spec.kind == "discrete" and spec.grid is None:
            raise ConfigError(f"{who}: a discrete action space needs ActionSpec.grid, which says what its choices mean")
        self.names = spec.names
        self._grid = None if spec.kind != "discrete" or spec.grid is None else spec.grid.to(device)
        self._is_reduction = torch.tensor([name == "reduction" for name in spec.names], device=device)

    def write(self, bid: Bid, ranges: Ranges, reduction: Tensor | None, second_stage: Tensor | None) -> Tensor:
        """Actions: `[E, P, size]` float32, or `[E, P]` int64, the nearest row of the grid (the first on a tie).

        Args:
            reduction: level `[E, P]` of the stage-2 reduction; None where the environment has none.
            second_stage: `[E, P]` bool: only the reduction counts there, elsewhere only the bid does.
        """
        price_span = ranges.import_price - ranges.export_price
        prices = {"buy_price": bid.buy_price, "sell_price": bid.sell_price, "price": bid.single_price}
        levels = {name: level_for(price - ranges.export_price, price_span) for name, price in prices.items()}
        levels["quantity"] = level_for(bid.quantity - ranges.demand_min, ranges.demand_max - ranges.demand_min)
        levels["battery"] = torch.full_like(bid.quantity, _HALF_LEVEL)  # idle
        levels["reduction"] = torch.zeros_like(bid.quantity) if reduction is None else reduction
        action = entry_of(torch.stack([levels[name] for name in self.names], dim=-1))
        return action if self._grid is None else self._nearest(action, second_stage)

    def _nearest(self, action: Tensor, second_stage: Tensor | None) -> Tensor:
        """Row of the grid at the least squared distance over the entries that count in this stage."""
        assert self._grid is not None
        square = (action.unsqueeze(-2) - self._grid).square()
        if second_stage is not None:
            square = square * (second_stage.unsqueeze(-1).unsqueeze(-1) == self._is_reduction)
        return square.sum(dim=-1).argmin(dim=-1)
