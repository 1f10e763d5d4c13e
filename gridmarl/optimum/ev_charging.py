"""Central coordinator of the charging stations: what a planner with perfect knowledge of the day would charge, a linear
programme over all vehicles and half hours, and a certificate that trusts no solver.

Maximises `sum of (value - tariff) * energy - unserved cost`, subject to the margin of every half hour, every vehicle's
power and energy. Payments between stations and deposits cancel out and are not in it. No policy that keeps to the
quotas has more welfare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, hstack, vstack

from gridmarl.errors import ConfigError
from gridmarl.optimum.quadratic import SolverError

Integers = NDArray[np.int64]
FloatArray = NDArray[np.float64]
MAX_RELATIVE_GAP = 1e-6


@dataclass(frozen=True, eq=False)
class ChargingProblem:
    """One day of one transformer, `V` vehicles and `T` half hours; int64, Wh and µtok/Wh.

    Attributes:
        arrival, departure: `[V]` half hours; a vehicle charges in `arrival <= t < departure`.
        max_power_w, energy_wh, value: `[V]`; energy 0 or more.
        margin_wh, tariff: `[T]`.
        unserved_cost: of energy that a vehicle leaves without, or that it could not get after the horizon any more.
    """

    arrival: Integers
    departure: Integers
    max_power_w: Integers
    energy_wh: Integers
    value: Integers
    margin_wh: Integers
    tariff: Integers
    unserved_cost: int

    def __post_init__(self) -> None:
        names = ("arrival", "departure", "max_power_w", "energy_wh", "value")
        sizes = {name: getattr(self, name).shape for name in names}
        if len(set(sizes.values())) != 1 or self.arrival.ndim != 1:
            raise ConfigError(f"vehicles: shapes {sizes}, allowed is [V] for all")
        if self.margin_wh.shape != self.tariff.shape or self.margin_wh.ndim != 1:
            raise ConfigError(f"margin_wh, tariff: shapes {self.margin_wh.shape}, {self.tariff.shape}; allowed is [T]")
        for name in ("energy_wh", "max_power_w", "margin_wh"):
            if (getattr(self, name) < 0).any():
                raise ConfigError(f"{name}: {int(getattr(self, name).min())}, allowed is 0 or more")


@dataclass(frozen=True, eq=False)
class ChargingPlan:
    """An optimal schedule; float64.

    Attributes:
        energy_wh: `[V, T]`.
        unserved_wh: `[V]`.
        welfare_utok: of the schedule.
        bound_utok: no schedule has more, by weak duality from the solver's multipliers, however imprecise they are.
    """

    energy_wh: FloatArray
    unserved_wh: FloatArray
    welfare_utok: float
    bound_utok: float


def plan_charging(problem: ChargingProblem) -> ChargingPlan:
    """Solve one day by HiGHS.

    Raises:
        SolverError: no solution, or one whose bound is further than a millionth of the turnover away.
    """
    horizon, vehicles = problem.margin_wh.size, problem.energy_wh.size
    if vehicles == 0:
        return ChargingPlan(np.zeros((0, horizon)), np.zeros(0), 0.0, 0.0)
    step = (problem.max_power_w // 2).astype(np.float64)
    periods = np.arange(horizon)
    here = (problem.arrival[:, None] <= periods) & (periods < problem.departure[:, None])
    here &= (problem.energy_wh > 0)[:, None]
    vehicle, period = np.nonzero(here)
    count = vehicle.size
    present = here.any(1)
    after = np.maximum(problem.departure - horizon, 0) * step  # what could still be charged beyond the horizon
    linear = np.concatenate((
        (problem.value[vehicle] - problem.tariff[period]).astype(np.float64),
        np.full(vehicles, -float(problem.unserved_cost)),
    ))  # fmt: skip
    energy = problem.energy_wh * present
    upper = np.concatenate((step[vehicle], energy.astype(np.float64)))
    ones, index = np.ones(count), np.arange(count)
    by_period = coo_array((ones, (period, index)), shape=(horizon, count))
    by_vehicle = coo_array((ones, (vehicle, index)), shape=(vehicles, count))
    unit = coo_array((np.ones(vehicles), (np.arange(vehicles), np.arange(vehicles))), shape=(vehicles, vehicles))
    zeros = [csr_array((rows, vehicles)) for rows in (horizon, vehicles)]
    rows: Any = csr_array(
        vstack((hstack((by_period, zeros[0])), hstack((by_vehicle, zeros[1])), hstack((-by_vehicle, -unit))))
    )
    limits = np.concatenate((problem.margin_wh, energy, after - energy)).astype(np.float64)
    box: Any = np.stack((np.zeros(upper.size), upper), 1)  # scipy's stubs know neither sparse rows nor arrays of bounds
    found = linprog(-linear, A_ub=rows, b_ub=limits, bounds=box, method="highs")
    if found.status != 0:
        raise SolverError(f"HiGHS: {found.message}")
    values = np.asarray(found.x, dtype=np.float64)
    dual = np.maximum(-found.ineqlin.marginals, 0.0)
    slope = linear - rows.T @ dual
    bound = float(dual @ limits + np.maximum(slope, 0.0) @ upper)
    welfare = float(linear @ values)
    turnover = float(np.abs(linear) @ values) + 1.0
    if bound - welfare > MAX_RELATIVE_GAP * turnover:
        raise SolverError(f"HiGHS: welfare {welfare} µtok is not certified, the bound is {bound} µtok")
    schedule = np.zeros((vehicles, horizon))
    schedule[vehicle, period] = values[:count]
    return ChargingPlan(schedule, values[count:], welfare, bound)
