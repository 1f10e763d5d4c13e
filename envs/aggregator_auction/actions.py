"""Actions: normalised numbers or grid indices, turned into integers at the border.

Continuous: `[E, K+P, size]` float32 in [-1, 1]. An entry `a` becomes a level `floor((a + 1) * 32768 + 1/2)` in
0 .. 65536, and a level picks `(high * level) >> 16` of a range `0 .. high`.

| entry | of an aggregator | of a prosumer |
|---|---|---|
| price | limit price, 0 .. cap, of its bid up or down, as it needs | ask for energy up, 0 .. cap |
| quantity | of that bid, 0 .. twice the need that it expects | of that offer, 0 .. what it can deliver up |
| down_price | not read | with `flexibility`: ask for energy down, 0 .. cap |
| down_quantity | not read | with `flexibility`: of that offer, 0 .. what it can deliver down |

Discrete: `[E, K+P]` int64, a row of `ActionSpec.grid`, which spells out the continuous action that it stands for. An
aggregator's own grid has the first two entries only: its row `i` is the row `i * (rows of the grid // own rows)`.

NaN and out-of-range entries are clamped (NaN to -1, indices to the grid) and counted in `State.clamped_actions`,
entries that are not read included; the PettingZoo interface refuses them instead.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.state import Situation
from gridmarl.protocols import ActionSpec

LEVEL_BITS = 16
HALF_LEVELS = 1 << (LEVEL_BITS - 1)
ORDER_ENTRIES = ("price", "quantity")


class Orders(NamedTuple):
    """Bids and offers of one auction; int64, µtok/Wh and Wh."""

    bid_price: Tensor  # [K, E]
    bid_wh: Tensor  # [K, E]
    ask_price: Tensor  # [P, E]
    ask_wh: Tensor  # [P, E], never above the capacity


def aggregator_spec(params: AggregatorAuctionParams, device: torch.device | str = "cpu") -> ActionSpec:
    """The action space of an aggregator: one order."""
    return _spec(params, ORDER_ENTRIES, device)


def action_spec(params: AggregatorAuctionParams, device: torch.device | str = "cpu") -> ActionSpec:
    """The action space of a prosumer, and of everybody in the batched environment: an order up, and one down."""
    down = tuple(f"down_{name}" for name in ORDER_ENTRIES) if params.has_requests else ()
    return _spec(params, ORDER_ENTRIES + down, device)


def _spec(params: AggregatorAuctionParams, names: tuple[str, ...], device: torch.device | str) -> ActionSpec:
    if params.action_space == "continuous":
        return ActionSpec("continuous", 0, len(names), names)
    orders = list(product(_spread(params.price_levels), _spread(params.quantity_levels)))
    rows = [sum(row, ()) for row in product(orders, repeat=len(names) // len(ORDER_ENTRIES))]
    return ActionSpec("discrete", len(rows), 0, names, torch.tensor(rows, dtype=torch.float32, device=device))


def _spread(count: int) -> list[float]:
    """`count` points from -1 to 1; the middle for one."""
    return [0.0] if count == 1 else [2.0 * index / (count - 1) - 1.0 for index in range(count)]


def quantise(spec: ActionSpec, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Levels `[size, K+P, E]` of an action tensor, and how many entries of each lane had to be clamped (`[E]`)."""
    if spec.grid is not None:
        inside = actions.clamp(0, spec.num_actions - 1)
        clamped = (inside != actions).sum(1)
        entries = spec.grid.index_select(0, inside.flatten()).unflatten(0, inside.shape)
    else:
        entries = actions
        clamped = (entries.abs() <= 1.0).logical_not().sum((1, 2))  # NaN counts too
    safe = torch.nan_to_num(entries, nan=-1.0).clamp(-1.0, 1.0)
    return torch.floor((safe + 1.0) * HALF_LEVELS + 0.5).to(torch.int64).permute(2, 1, 0), clamped


def pick(level: Tensor, high: Tensor | int) -> Tensor:
    """The integer at `level` of the range `0 .. high`."""
    return (level * high) >> LEVEL_BITS


def collect_orders(params: AggregatorAuctionParams, now: Situation, levels: Tensor) -> tuple[Orders, Orders]:
    """Orders of the auction up and of that down; an aggregator bids in one of them, by the sign of its need."""
    sides = (params.num_aggregators, params.num_prosumers)
    (price, bid_price), (quantity, bid_quantity) = (
        (part.narrow(0, sides[0], sides[1]), part.narrow(0, 0, sides[0])) for part in levels.narrow(0, 0, 2).unbind(0)
    )
    cap, need = params.cap_utok_per_wh, now.need_wh
    limit, wanted = pick(bid_price, cap), pick(bid_quantity, 2 * need.abs())
    up = Orders(limit, wanted * (need > 0), pick(price, cap), pick(quantity, now.up_capacity_wh))
    if not params.has_requests:
        nothing = torch.zeros_like(now.down_capacity_wh)
        return up, Orders(limit, torch.zeros_like(wanted), nothing, nothing)
    price, quantity = (part.narrow(0, *sides) for part in levels.narrow(0, 2, 2).unbind(0))
    return up, Orders(limit, wanted * (need < 0), pick(price, cap), pick(quantity, now.down_capacity_wh))
