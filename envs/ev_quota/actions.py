"""Actions: normalised numbers or grid indices, turned into integers at the border.

Continuous: `[E, N, 4]` float32 in [-1, 1]. An entry `a` becomes a level `floor((a + 1) * 32768 + 1/2)` in 0 .. 65536.

| entry | read in step | meaning |
|---|---|---|
| declare | declare | demand from the urgent energy up to `declare_factor` times what the vehicles could take, Wh |
| trade | trade and charge | below 0: sell that share of the quota; above 0: buy, of what could be used beyond it |
| price | trade and charge | limit price, floor .. cap |
| charge | trade and charge | share of what may be used: the final quota, at most what the vehicles can take |
| charge_overuse | trade and charge | in its place with `overuse`: -1 .. 0 as `charge`, 0 .. 1 on to all they take |

A level of 0 .. 65536 picks `low + ((high - low) * level >> 16)`; `trade` uses `abs(level - 32768)`, shifted by 15,
`charge_overuse` 15 bits for either half.

Discrete: `[E, N]` int64, a row of `ActionSpec.grid`, which spells out the continuous action it stands for. The same
index is read as a declaration in the first step (modulo `declare_levels`) and as an order with a share to charge in the
second.

NaN and out-of-range entries are clamped (NaN to -1, indices to the grid) and counted in `State.clamped_actions`; the
PettingZoo interface refuses them instead.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.protocols import ActionSpec

LEVEL_BITS = 16
HALF_BITS = LEVEL_BITS - 1
HALF_LEVELS = 1 << HALF_BITS


class Levels(NamedTuple):
    """Quantised action entries, int64 `[N, E]` in 0 .. 65536."""

    declare: Tensor
    trade: Tensor
    price: Tensor
    charge: Tensor


def action_spec(params: EVQuotaParams, device: torch.device | str = "cpu") -> ActionSpec:
    """The action space of every station."""
    names = ("declare", "trade", "price", "charge_overuse" if params.overuse else "charge")
    if params.action_space == "continuous":
        return ActionSpec("continuous", 0, len(names), names)
    declared = _spread(params.declare_levels)
    orders = list(product(_spread(params.trade_levels), _spread(params.price_levels), _spread(params.charge_levels)))
    rows = max(len(declared), len(orders))
    entries = [(declared[row % len(declared)], *orders[row % len(orders)]) for row in range(rows)]
    return ActionSpec("discrete", rows, 0, names, torch.tensor(entries, dtype=torch.float32, device=device))


def _spread(count: int) -> list[float]:
    """`count` points from -1 to 1; the middle for one."""
    return [0.0] if count == 1 else [2.0 * index / (count - 1) - 1.0 for index in range(count)]


def quantise(spec: ActionSpec, actions: Tensor) -> tuple[Levels, Tensor]:
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
    return Levels(*levels.unbind(0)), clamped


def pick(level: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
    """The integer at `level` of the range `low .. high`."""
    return low + (((high - low) * level) >> LEVEL_BITS)
