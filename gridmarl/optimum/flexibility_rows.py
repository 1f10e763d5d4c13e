"""The linear programme of `flexibility`: what each asset can do, hour by hour, and what it is worth.

Every row is implied by the rules for whole Wh, so the programme allows all that is lawful and a little more:

* `[g]+` of a `g` between `low < 0` and `high` is at most `(g - low) * high / (high - low)`.
* A battery is either called or returns to half: `called / power + returned / return <= 1`.
* `u` Wh deferred come back in whole parts, each less than 1 Wh below `u / H`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gridmarl.optimum.concave import envelope, worth_utok
from gridmarl.optimum.flexibility import BATTERY, LOAD, FlexibilityProblem, FloatArray, Integers
from gridmarl.optimum.quadratic import BoxQP
from gridmarl.optimum.rows import Rows

_MOST_PIECES = 3  # of an hour's worth: four points at most


@dataclass(frozen=True, eq=False)
class FlexibilityProgram:
    """The programme, and which of its variables are what: columns `[P, T]` and `[K, T]`."""

    program: BoxQP
    constant_utok: float
    up: Integers
    down: Integers
    bought_up: Integers
    bought_down: Integers


class _Variables:
    """Variables while they are added: box and worth of each."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[tuple[FloatArray, FloatArray, FloatArray]] = []

    def new(self, lower: FloatArray | float, upper: FloatArray, worth: FloatArray | float = 0.0) -> Integers:
        columns = np.arange(self.size, self.size + upper.size, dtype=np.int64).reshape(upper.shape)
        self.size += upper.size
        box = (np.broadcast_to(part, upper.shape).ravel() for part in (lower, upper, worth))
        self._parts.append(tuple(np.asarray(part, dtype=np.float64) for part in box))  # type: ignore[arg-type]
        return columns

    def joined(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        lower, upper, worth = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return lower, upper, worth


def build(problem: FlexibilityProblem) -> FlexibilityProgram:
    """The programme of a problem."""
    variables, equal, most = _Variables(), Rows(), Rows()
    up_most, down_most = _most_calls(problem)
    up = variables.new(0.0, up_most, -problem.up_cost.astype(np.float64))
    down = variables.new(0.0, down_most, -problem.down_cost.astype(np.float64))
    _batteries(problem, variables, equal, most, up, down)
    _loads(problem, variables, equal, most, up, down, up_most)
    up_limit = np.minimum(problem.up_limit_wh, up_most.sum(0))
    down_limit = np.minimum(problem.down_limit_wh, down_most.sum(0))
    bought_up, bought_down = variables.new(0.0, up_limit), variables.new(0.0, down_limit)
    for called, bought in ((up, bought_up), (down, bought_down)):
        rows = equal.open(np.zeros(called.shape[1]))
        equal.put(rows, called, 1.0)
        equal.put(rows, bought, -1.0)
    constant = _worth(problem, variables, equal, bought_up, bought_down, up_limit, down_limit)
    lower, upper, linear = variables.joined()
    count = variables.size
    program = BoxQP(
        linear, np.zeros(count), lower, upper, equal.matrix(count), equal.rhs(), most.matrix(count), most.rhs()
    )
    return FlexibilityProgram(program, constant, up, down, bought_up, bought_down)


def _most_calls(problem: FlexibilityProblem) -> tuple[FloatArray, FloatArray]:
    """Most that can be called, `[P, T]`: exact in the first hour, whatever happened before in the others."""
    kind = problem.kind[:, None]
    power = float(min(problem.battery_power_w, problem.battery_capacity_wh))
    base = problem.base_wh.astype(np.float64)
    ahead = np.minimum(_most_ahead(problem)[:, None], base)
    advance = np.clip(problem.load_power_w - base + ahead, 0.0, problem.load_power_w)
    up = np.where(kind == BATTERY, power, np.where(kind == LOAD, base, 0.0))
    down = np.where(kind == BATTERY, power, np.where(kind == LOAD, advance, base)) * problem.calls_down
    up[:, 0], down[:, 0] = problem.up_capacity_wh, problem.down_capacity_wh
    return up, down


def _most_ahead(problem: FlexibilityProblem) -> FloatArray:
    """Most load that can have run ahead, `[P]`."""
    return np.maximum(problem.ahead_wh, problem.load_power_w * problem.calls_down).astype(np.float64)


def _batteries(
    problem: FlexibilityProblem, variables: _Variables, equal: Rows, most: Rows, up: Integers, down: Integers
) -> None:
    mine = problem.kind == BATTERY
    up, down, start = up[mine], down[mine], problem.charge_wh[mine].astype(np.float64)
    half, back = float(problem.battery_capacity_wh // 2), float(problem.battery_return_w)
    full = np.maximum(start, float(problem.battery_capacity_wh) if problem.calls_down else half)[:, None]
    wide = np.broadcast_to(full, up.shape)
    initial = variables.new(start[:, None], start[:, None])
    later = variables.new(0.0, wide)
    charge = np.concatenate((initial, later), axis=1)
    before, zero = charge[:, :-1], np.zeros(up.shape)
    into, out = variables.new(0.0, zero + back), variables.new(0.0, zero + back)
    equal.add(zero, (later, 1.0), (before, -1.0), (up, 1.0), (down, -1.0), (into, -1.0), (out, 1.0))
    most.add(zero, (up, 1.0), (before, -1.0))
    most.add(zero + problem.battery_capacity_wh, (down, 1.0), (before, 1.0))
    for called in (up, down):
        for returned in (into, out):
            most.add(zero + back, (called, back / max(1, problem.battery_power_w)), (returned, 1.0))
    share = half / np.maximum(wide, 1.0)
    most.add(zero + half, (into, 1.0), (before, share))
    most.add(zero, (out, 1.0), (before, share - 1.0))


def _loads(
    problem: FlexibilityProblem,
    variables: _Variables,
    equal: Rows,
    most: Rows,
    up: Integers,
    down: Integers,
    up_most: FloatArray,
) -> None:
    mine = problem.kind == LOAD
    up, down, base = up[mine], down[mine], problem.base_wh[mine].astype(np.float64)
    fixed, limit, power = problem.due_wh[mine].astype(np.float64), up_most[mine], float(problem.load_power_w)
    zero, most_ahead = np.zeros(up.shape), _most_ahead(problem)[mine][:, None]
    start = problem.ahead_wh[mine].astype(np.float64)[:, None]
    used_most = np.minimum(most_ahead, base)
    initial, later = variables.new(start, start), variables.new(0.0, zero + most_ahead)
    ahead = np.concatenate((initial, later), axis=1)[:, :-1]
    used = variables.new(0.0, used_most)
    equal.add(zero, (later, 1.0), (ahead, -1.0), (used, 1.0), (down, -1.0))
    most.add(zero, (used, 1.0), (ahead, -1.0))

    hours = problem.return_hours
    rounding = np.minimum(np.arange(up.shape[1]), hours).astype(np.float64)  # parts of earlier hours' calls
    due_most = fixed + _returned(limit, hours)
    for called, level, sign in ((up, base, -1.0), (down, power - base, 1.0)):
        # called <= [level + sign * used - due]+
        lowest = level - used_most * (sign < 0) - due_most + rounding
        highest = level + used_most * (sign > 0) - fixed + rounding
        slope, floor = _chord(lowest, highest)
        rows = most.open(slope * (level - fixed + rounding - floor))
        most.put(rows, called, 1.0)
        most.put(rows, used, -sign * slope)
        for later_by in range(1, min(hours, up.shape[1] - 1) + 1):
            most.put(rows[:, later_by:], up[:, :-later_by], slope[:, later_by:] / hours)
    slope, floor = _chord(power - most_ahead + zero, power + zero)  # called down <= [power - (ahead - used)]+
    most.add(slope * (power - floor), (down, 1.0), (ahead, slope), (used, -slope))


def _returned(deferred: FloatArray, hours: int) -> FloatArray:
    """What comes back in each hour of what was deferred before, in equal parts over `hours`; `[L, T]`."""
    total = np.concatenate((np.zeros((deferred.shape[0], 1)), np.cumsum(deferred, axis=1)), axis=1)[:, :-1]
    first = np.maximum(np.arange(deferred.shape[1]) - hours, 0)
    found: FloatArray = (total - total[:, first]) / hours
    return found


def _chord(lowest: FloatArray, highest: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slope and foot of the line above `[g]+` for `g` between the two: `slope * (g - foot)`."""
    foot, top = np.minimum(lowest, 0.0), np.maximum(highest, 0.0)
    span = top - foot
    return np.where(span > 0, top / np.where(span > 0, span, 1.0), 1.0), foot


def _worth(
    problem: FlexibilityProblem,
    variables: _Variables,
    equal: Rows,
    bought_up: Integers,
    bought_down: Integers,
    up_limit: FloatArray,
    down_limit: FloatArray,
) -> float:
    """Pieces of every aggregator's and hour's worth, from the least surplus upwards; returns the worth there."""
    length, price = (np.zeros((*bought_up.shape, _MOST_PIECES)) for _ in range(2))
    constant = 0
    for place in np.ndindex(bought_up.shape):
        hour, asked = place[1], int(problem.request_wh[place])
        prices = (int(problem.short_price[hour]), int(problem.long_price[hour]))
        lowest = -int(problem.deviation_wh[place]) - int(down_limit[place])
        highest = -int(problem.deviation_wh[place]) + int(up_limit[place])
        inside = {lowest, highest, *(min(max(level, lowest), highest) for level in (0, asked))}
        corners = envelope([
            (level, worth_utok(level, asked, *prices, problem.service_price, problem.missing_penalty))
            for level in inside
        ])  # fmt: skip
        constant += corners[0][1]
        for piece, (left, right) in enumerate(pairwise(corners)):
            length[(*place, piece)] = right[0] - left[0]
            price[(*place, piece)] = (right[1] - left[1]) / (right[0] - left[0])
    pieces = variables.new(0.0, length, price)
    rows = equal.open(-down_limit)
    equal.put(rows, bought_up, 1.0)
    equal.put(rows, bought_down, -1.0)
    equal.put(rows[..., None], pieces, -1.0)
    return float(constant)
