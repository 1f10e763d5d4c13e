"""Direct control of flexible assets: what a virtual power plant with perfect knowledge would call of every asset, and a
bound that no other use of them exceeds, certified from the multipliers of a linear programme.

The rules are those of docs/aggregator-auction.md. Some of them are not linear: a battery returns to half only in hours
in which it was not called, capacities end at 0, a request that contradicts a deviation makes the value of energy
non-concave. The programme holds the smallest linear relaxation of each (`flexibility_rows`, `concave`), so its value is
at least that of any lawful use; rounding of deferred energy to whole Wh is allowed for. What can be reached is found by
carrying the plan out hour by hour and planning again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gridmarl.errors import ConfigError
from gridmarl.optimum.quadratic import SolverError
from gridmarl.optimum.storage import solve_box_lp

if TYPE_CHECKING:
    from gridmarl.optimum.flexibility_rows import FlexibilityProgram

Integers = NDArray[np.int64]
FloatArray = NDArray[np.float64]
MAX_RELATIVE_GAP = 1e-6
BATTERY, LOAD, PHOTOVOLTAIC = range(3)


@dataclass(frozen=True, eq=False)
class FlexibilityProblem:
    """The hours that are left of one episode of one lane; `K` aggregators, `P` assets, `T` hours; int64.

    Attributes:
        deviation_wh: `[K, T]` + = short of energy, - = long.
        request_wh: `[K, T]` share of the system operator's request, + = up.
        up_limit_wh, down_limit_wh: `[K, T]` most that an aggregator may use of either direction.
        short_price, long_price: `[T]` µtok/Wh, `0 <= long <= short`.
        service_price, missing_penalty: µtok/Wh of the request.
        kind: `[P]` BATTERY, LOAD or PHOTOVOLTAIC.
        base_wh: `[P, T]` flexible load of a load, generation of photovoltaics.
        up_cost, down_cost: `[P, T]` µtok/Wh, 0 or more.
        up_capacity_wh, down_capacity_wh: `[P]` of the first hour, exact.
        charge_wh, ahead_wh: `[P]` at the start.
        due_wh: `[P, T]` load deferred before the start that comes back in these hours.
        battery_capacity_wh, battery_power_w, battery_return_w, load_power_w, return_hours: as the environment's.
        calls_down: whether assets can be called down.

    Raises:
        ConfigError: shapes that do not fit, or a negative limit, capacity or cost.
    """

    deviation_wh: Integers
    request_wh: Integers
    up_limit_wh: Integers
    down_limit_wh: Integers
    short_price: Integers
    long_price: Integers
    service_price: int
    missing_penalty: int
    kind: Integers
    base_wh: Integers
    up_cost: Integers
    down_cost: Integers
    up_capacity_wh: Integers
    down_capacity_wh: Integers
    charge_wh: Integers
    ahead_wh: Integers
    due_wh: Integers
    battery_capacity_wh: int
    battery_power_w: int
    battery_return_w: int
    load_power_w: int
    return_hours: int
    calls_down: bool

    def __post_init__(self) -> None:
        if self.deviation_wh.ndim != 2 or self.base_wh.ndim != 2:
            raise ConfigError(
                f"deviation_wh, base_wh: {self.deviation_wh.ndim} and {self.base_wh.ndim} dimensions, allowed are 2"
            )
        (aggregators, hours), assets = self.deviation_wh.shape, self.base_wh.shape[0]
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(("request_wh", "up_limit_wh", "down_limit_wh"), (aggregators, hours)),
            **dict.fromkeys(("short_price", "long_price"), (hours,)),
            **dict.fromkeys(("base_wh", "up_cost", "down_cost", "due_wh"), (assets, hours)),
            **dict.fromkeys(("kind", "up_capacity_wh", "down_capacity_wh", "charge_wh", "ahead_wh"), (assets,)),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ConfigError(f"{name}: shape {getattr(self, name).shape}, allowed is {shape}")
        for name in shapes:
            if name not in ("request_wh", "deviation_wh") and (getattr(self, name) < 0).any():
                raise ConfigError(f"{name}: {int(getattr(self, name).min())}, allowed is 0 or more")
        if (self.long_price > self.short_price).any():
            raise ConfigError("long_price: above short_price, allowed is at most short_price")


@dataclass(frozen=True, eq=False)
class FlexibilityPlan:
    """A use of all assets that is optimal for the relaxed rules; float64, Wh.

    Attributes:
        up_wh, down_wh: `[P, T]` called.
        bought_up_wh, bought_down_wh: `[K, T]` used by each aggregator.
        welfare_utok: what aggregators get from the operator, less private costs, of the plan.
        bound_utok: no lawful use has more, by weak duality from the solver's multipliers, however imprecise they are.
    """

    up_wh: FloatArray
    down_wh: FloatArray
    bought_up_wh: FloatArray
    bought_down_wh: FloatArray
    welfare_utok: float
    bound_utok: float


def plan_flexibility(problem: FlexibilityProblem) -> FlexibilityPlan:
    """Solve by HiGHS.

    Raises:
        SolverError: no solution, or one whose bound is further than a millionth of the turnover away.
    """
    from gridmarl.optimum.flexibility_rows import build

    built: FlexibilityProgram = build(problem)
    program = built.program
    found = solve_box_lp(program)
    values = found.values
    welfare = float(program.linear @ values) + built.constant_utok
    bound = program.bound(found.equal_dual, found.most_dual) + built.constant_utok
    turnover = float(np.abs(program.linear) @ values) + abs(built.constant_utok) + 1.0
    if not abs(bound - welfare) <= MAX_RELATIVE_GAP * turnover:
        raise SolverError(f"HiGHS: welfare {welfare} µtok is not certified, the bound is {bound} µtok")
    return FlexibilityPlan(
        values[built.up], values[built.down], values[built.bought_up], values[built.bought_down], welfare, bound
    )
