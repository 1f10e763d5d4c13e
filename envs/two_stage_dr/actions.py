"""Actions: normalised numbers or grid indices, turned into integers at the border.

Continuous: `[E, P, size]` float32 in [-1, 1]. An entry `a` becomes a level `floor((a + 1) * 32768 + 1/2)` in 0 ..
65536, and the
level picks a point of an integer range: `low + ((high - low) * level) >> 16`. Every integer of a range up to 65,536
wide can be hit exactly: by `level = ceil(offset * 65536 / range)`.

| entry | range |
|---|---|
| buy_price, sell_price (or one `price`) | export price .. import price, µtok/Wh |
| quantity | d_min .. d_max, Wh (ignored with stage1="comfort") |
| battery (with a battery) | -power .. power, W, symmetric: `power * abs(level - 32768) >> 15`; within charge and room |
| reduction (stage2="learned", second step) | 0 .. d - d_min, Wh, offered if the prosumer takes part and pi_DR > 0 |

Discrete: `[E, P]` int64, a row of `ActionSpec.grid`, which spells out the continuous action it stands for. With
stage2="learned"
the same index is read as a row of bids in the first step and, modulo `reduction_levels`, as a reduction in the second.

NaN and out-of-range entries are clamped (NaN to -1, indices to the grid) and counted in `State.clamped_actions`; the
PettingZoo interface refuses them instead.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.protocols import ActionSpec

LEVEL_BITS = 16
HALF_LEVELS = 1 << (LEVEL_BITS - 1)


class Levels(NamedTuple):
    """Quantised action entries, int64 `[P, E]` in 0 .. 65536; None where the configuration has no such entry."""

    buy_price: Tensor
    quantity: Tensor
    sell_price: Tensor
    battery: Tensor | None
    reduction: Tensor | None


def action_names(params: TwoStageDRParams) -> tuple[str, ...]:
    """Names of the continuous entries, in order."""
    names = ["price", "quantity"] if params.single_price else ["buy_price", "quantity", "sell_price"]
    if params.has_battery:
        names.append("battery")
    if params.stage2 == "learned":
        names.append("reduction")
    return tuple(names)


def action_spec(params: TwoStageDRParams, device: torch.device | str = "cpu") -> ActionSpec:
    """The action space of every prosumer."""
    names = action_names(params)
    if params.action_space == "continuous":
        return ActionSpec("continuous", 0, len(names), names)
    bids = list(product(*(_grid_points(params, name) for name in names if name != "reduction")))
    if params.stage2 == "learned":
        reductions = _spread(params.reduction_levels)
        rows = max(len(bids), len(reductions))
        bids = [(*bids[row % len(bids)], reductions[row % len(reductions)]) for row in range(rows)]
    grid = torch.tensor(bids, dtype=torch.float32, device=device)
    return ActionSpec("discrete", len(bids), 0, names, grid)


def _grid_points(params: TwoStageDRParams, name: str) -> list[float]:
    if name == "quantity":
        return [0.0] if params.stage1 == "comfort" else _spread(params.quantity_levels)
    return _spread(params.battery_levels if name == "battery" else params.price_levels)


def _spread(count: int) -> list[float]:
    """`count` points from -1 to 1; the middle for one."""
    return [0.0] if count == 1 else [2.0 * index / (count - 1) - 1.0 for index in range(count)]


def quantise(params: TwoStageDRParams, spec: ActionSpec, actions: Tensor) -> tuple[Levels, Tensor]:
    """Levels of an action tensor, and how many entries of each lane had to be clamped (`[E]`)."""
    if spec.grid is not None:
        inside = actions.clamp(0, spec.num_actions - 1)
        clamped = (inside != actions).sum(1)
        entries = spec.grid.index_select(0, inside.flatten()).unflatten(0, inside.shape)
    else:
        entries = actions
        clamped = (entries.abs() <= 1.0).logical_not().sum((1, 2))  # NaN counts too
    safe = torch.nan_to_num(entries, nan=-1.0).clamp(-1.0, 1.0)
    levels = torch.floor((safe + 1.0) * HALF_LEVELS + 0.5).to(torch.int64).permute(2, 1, 0)
    named = dict(zip(spec.names, levels.unbind(0), strict=True))
    price = named.get("price")
    return (
        Levels(
            buy_price=named["buy_price"] if price is None else price,
            quantity=named["quantity"],
            sell_price=named["sell_price"] if price is None else price,
            battery=named.get("battery"),
            reduction=named.get("reduction"),
        ),
        clamped,
    )


def pick(level: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The integer at `level` of the range `low .. high`."""
    return low + (((high - low) * level) >> LEVEL_BITS)
