"""Shifted energy: at most a share of the reduction, and back before its deadline, first in, first out.

With `o` shifted out and `r` returned, and `O`, `R` their running totals: `R_t <= O_(t-1)` (only what was shifted before
can return), `R_t >= O_(t-deadline)` (what is due has returned), `R = O` at the end. The market's rule, which returns
each hour's energy in the cheapest of the hours allowed, satisfies these rows.
"""

from __future__ import annotations

import numpy as np

from gridmarl.optimum.problem import Int64Array, PlanProblem
from gridmarl.optimum.rows import Builder, FloatArray
from gridmarl.units import PERMILLE


def _limit_mwh(problem: PlanProblem) -> Int64Array:
    """Most that can be shifted, `[P, T]`, in 1/1000 Wh: exact, so that rounding never decides what is possible."""
    limit = problem.shift_share_permille * (np.asarray(problem.d_max_wh) - np.asarray(problem.d_min_wh))
    limit[:, -1] = 0  # nothing is shifted in the last hour
    return limit if problem.shift_deadline_hours > 0 else np.zeros_like(limit)


def _before(totals: Int64Array | FloatArray, hours: int) -> FloatArray:
    """`[P, T]` running totals as they stood `hours` earlier."""
    earlier = np.zeros(totals.shape, dtype=np.float64)
    if hours < totals.shape[1]:
        earlier[:, hours:] = totals[:, : totals.shape[1] - hours]
    return earlier


def add_shifting(builder: Builder) -> None:
    """Adds the blocks `shifted`, `shifted_total` and `returned_total`, `[P, T]`, where anything can be shifted."""
    problem = builder.problem
    deadline, (prosumers, hours) = problem.shift_deadline_hours, problem.shape
    limit = _limit_mwh(problem)
    if not limit.any():
        return
    out_limit = np.cumsum(limit, axis=1)
    back_limit = _before(out_limit, 1)
    shifted = builder.new("shifted", 0.0, limit / PERMILLE)
    out = builder.new("shifted_total", 0.0, out_limit / PERMILLE)
    back = builder.new("returned_total", 0.0, back_limit / PERMILLE)
    _limit_rows(builder, limit > 0)

    zero = np.zeros((prosumers, hours))
    builder.equal.add(zero[:, 0], (out[:, 0], 1.0), (shifted[:, 0], -1.0))
    builder.equal.add(zero[:, 1:], (out[:, 1:], 1.0), (out[:, :-1], -1.0), (shifted[:, 1:], -1.0))
    # Where nothing can be shifted between `t - deadline` and `t`, both bounds on R_t meet. An interior-point method
    # needs an interior: rows that hold with equality everywhere are written as equalities, or left out.
    due = _before(out_limit, deadline)
    settled = back_limit == due
    settled[:, -1] = True
    for rows, where in ((builder.equal, settled), (builder.most, ~settled)):
        at = where[:, 1:] & (back_limit[:, 1:] > 0)
        rows.add(zero[:, 1:][at], (back[:, 1:][at], 1.0), (out[:, :-1][at], -1.0))
    if deadline < hours:
        at = ~settled[:, deadline:] & (due[:, deadline:] > 0)
        builder.most.add(zero[:, deadline:][at], (out[:, : hours - deadline][at], 1.0), (back[:, deadline:][at], -1.0))
    at = (back_limit[:, :-1] > 0) & ~(settled[:, 1:] & settled[:, :-1])
    builder.most.add(zero[:, 1:][at], (back[:, :-1][at], 1.0), (back[:, 1:][at], -1.0))


def _limit_rows(builder: Builder, at: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> None:
    """`n >= d_min` and `o <= share * (d_max - n)`, with `n = comfort - o`, where something can be shifted."""
    shifted, comfort = builder.blocks["shifted"].columns[at], builder.blocks["comfort"].columns[at]
    builder.most.add(-builder.problem.array("d_min_wh")[at], (shifted, 1.0), (comfort, -1.0))
    share = builder.problem.shift_share_permille / PERMILLE
    if share < 1:  # else it is the upper bound of comfort
        limit = share * builder.problem.array("d_max_wh")[at]
        builder.most.add(limit, (shifted, 1.0 - share), (comfort, share))


def repair_shifting(
    problem: PlanProblem, comfort_wh: FloatArray, shifted_wh: FloatArray, returned_total_wh: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Moves a nearly feasible point to a feasible one: consumption `n`, shifted `o`, returned energy `r`, `[P, T]`."""
    d_min, d_max = problem.array("d_min_wh"), problem.array("d_max_wh")
    limit = _limit_mwh(problem) / PERMILLE
    shifted = np.clip(shifted_wh, 0.0, limit)
    consumption = np.clip(comfort_wh - shifted, d_min, d_max)
    shifted = np.minimum(shifted, problem.shift_share_permille / PERMILLE * (d_max - consumption))
    out = np.cumsum(shifted, axis=1)
    # Between two bounds that never fall, a total that never falls stays one.
    back = np.clip(np.maximum.accumulate(returned_total_wh, axis=1), _before(out, problem.shift_deadline_hours),
                   _before(out, 1))  # fmt: skip
    back[:, -1] = out[:, -1]
    return consumption, shifted, np.diff(back, axis=1, prepend=0.0)
