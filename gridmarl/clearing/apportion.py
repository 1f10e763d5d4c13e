"""Dividing a total pro rata into integers that add up to it exactly: cumulative floors with a rotating start.

Source: docs/market-rules.md, "Pro-rata by cumulative floors". With the parts in rotated order and `C` the running total
of the weights, part `i` is `(R*C_i)//M - (R*C_(i-1))//M`. Going once around adds `M` to `C` and exactly `R` to the
quotient, so the rotation needs no roll: with prefix sums `S` in index order and `base` the one just before the start,
the parts are the differences of `(R*(S - base)) // M`, floor division, negative dividends included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.preferences import floor_div


def apportion(total: Tensor, weights: Tensor, start: int | Tensor) -> Tensor:
    """Parts of `total` in proportion to `weights`; they add up to it, and none exceeds its weight.

    Args:
        total: `[E]` int64, R with `0 <= R <= M`, M the sum of the weights.
        weights: `[P, E]` int64, each >= 0, sums `<= MAX_BOOK_WH` so that `R * M` fits in int64. P >= 1.
        start: where the rotation starts, mod P: an int >= 0, or an int64 tensor of shape `[]` or `[E]`.

    Returns:
        `[P, E]` int64; zeros in a lane whose weights are all zero.
    """
    parts, _ = weights.shape
    # Lanes first for the running sum alone: a CPU scans a contiguous last dimension several times faster than another.
    rows = torch.cat((torch.zeros_like(total).unsqueeze(0), weights))
    running = rows.t().clone(memory_format=torch.contiguous_format).cumsum(1)
    prefix = running.t().clone(memory_format=torch.contiguous_format)
    if isinstance(start, Tensor):
        base = prefix.gather(0, (start % parts).expand_as(total).unsqueeze(0))
    else:
        base = prefix.narrow(0, start % parts, 1)
    whole = prefix.select(0, parts).clamp(min=1)
    bounds = floor_div((prefix - base) * total, whole)
    return bounds.narrow(0, 1, parts) - bounds.narrow(0, 0, parts)
