"""Batteries of equal make behind one meter: a day's plan by linear programming, a rule without foresight, whole Wh.

Homes have fixed loads here; only batteries can move energy. Equal batteries that serve one purpose do best by doing
the same: by concavity the mean of any schedules is no worse than they are. So a group is planned as one large battery,
and each of its batteries does its equal share.

Battery rules are those of docs/market-rules.md: efficiency applied once, on charging, rounded down; in the last hour
the charge of the start is restored, regardless of power.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from gridmarl.errors import ConfigError
from gridmarl.optimum.model import Model
from gridmarl.optimum.problem import Int64Array, PlanProblem
from gridmarl.optimum.quadratic import BoxQP, Solution, SolverError
from gridmarl.units import MAX_ORDER_WH, PERMILLE

FloatArray = NDArray[np.float64]
MAX_RELATIVE_GAP = 1e-6
_LEAST_TURNOVER_UTOK = 1000.0


@dataclass(frozen=True)
class Storage:
    """One battery; each battery of a group is like it.

    Raises:
        ConfigError: a value outside its range, or a charge above the capacity.
    """

    capacity_wh: int
    power_w: int
    efficiency_permille: int
    initial_wh: int

    def __post_init__(self) -> None:
        for item in fields(self):
            low, high = (1, PERMILLE) if item.name == "efficiency_permille" else (0, MAX_ORDER_WH)
            value = getattr(self, item.name)
            if not low <= value <= high:
                raise ConfigError(f"{item.name}: {value}, allowed are {low} .. {high}")
        if self.initial_wh > self.capacity_wh:
            raise ConfigError(f"initial_wh: {self.initial_wh}, allowed is at most capacity_wh ({self.capacity_wh})")

    def room_wh(self, held_wh: Int64Array) -> Int64Array:
        """Greatest energy that charging may take where so much is held."""
        room: Int64Array = (self.capacity_wh - held_wh) * PERMILLE // self.efficiency_permille
        return room

    def restore_wh(self, held_wh: Int64Array) -> Int64Array:
        """Energy charged (negative: discharged) that brings what is held back to the initial charge."""
        missing = self.initial_wh - held_wh
        return np.where(missing > 0, -(-missing * PERMILLE // self.efficiency_permille), missing)

    def after_wh(self, held_wh: Int64Array, energy_wh: Int64Array) -> Int64Array:
        """What is held after charging (negative: discharging) so much."""
        charged: Int64Array = np.maximum(energy_wh, 0) * self.efficiency_permille // PERMILLE
        return held_wh + charged + np.minimum(energy_wh, 0)


@dataclass(frozen=True, eq=False)
class ChargePlan:
    """What each battery of a group should hold.

    Attributes:
        held_wh: `[T]` float64, by each battery at the end of each hour.
        least_cost_utok: no schedule of the group costs less, by weak duality from the solver's multipliers.
    """

    held_wh: FloatArray
    least_cost_utok: float


def plan_charge(
    net_wh: Int64Array, import_price: Int64Array, export_price: Int64Array, storage: Storage, batteries: int
) -> ChargePlan:
    """Cheapest use of a group's batteries with perfect knowledge of the horizon, by HiGHS.

    Args:
        net_wh: `[T]` int64, load less generation of the group before batteries.
        import_price, export_price: `[T]` int64, µtok/Wh.
        storage: one battery.
        batteries: how many the group has, 1 or more.

    Raises:
        ConfigError: a group beyond the bounds of `PlanProblem`.
        SolverError: no solution, or one that is not certified to a millionth of the turnover.
    """
    load = np.maximum(net_wh, 0)[None]
    problem = PlanProblem(
        beta_utok_per_wh=np.zeros_like(load),
        gamma_ntok_per_wh2=np.ones_like(load),
        d_min_wh=load,
        d_max_wh=load,
        generation_wh=np.maximum(-net_wh, 0)[None],
        import_price_utok_per_wh=import_price,
        export_price_utok_per_wh=export_price,
        battery_capacity_wh=storage.capacity_wh * batteries,
        battery_power_w=storage.power_w * batteries,
        battery_efficiency_permille=storage.efficiency_permille,
        battery_initial_wh=storage.initial_wh * batteries,
    )
    model = Model(problem, pooled=True)
    program = model.program()
    solution = solve_box_lp(program)
    energy = model.energy_wh(solution.values)
    initial = np.full(net_wh.size, float(storage.initial_wh))
    held = energy["soc"][0] / batteries if "soc" in energy else initial
    reached = _objective(program, solution.values)
    bound = program.bound(solution.equal_dual, solution.most_dual)
    turnover = float(np.abs(net_wh * import_price).sum()) + storage.capacity_wh * batteries
    if not abs(bound - reached) * model.unit_utok <= MAX_RELATIVE_GAP * max(turnover, _LEAST_TURNOVER_UTOK):
        raise SolverError(f"HiGHS: bound and value differ by {(bound - reached) * model.unit_utok:.6g} µtok")
    utility = -float((load.astype(np.float64) ** 2).sum()) / (2 * PERMILLE)  # of the fixed loads, by their gamma of 1
    return ChargePlan(held, utility - bound * model.unit_utok - model.constant_utok)


def solve_box_lp(program: BoxQP) -> Solution:
    """Solves a `BoxQP` whose free variables have no curvature, by HiGHS; fixed variables are taken out first.

    Raises:
        ConfigError: a free variable has curvature.
        SolverError: HiGHS found no solution.
    """
    reduced, free, equal_kept, most_kept = program.free_part()
    if reduced.curvature.any():
        raise ConfigError(
            f"curvature: {reduced.curvature.max()} of a free variable, allowed is 0 in a linear programme"
        )
    values, equal_dual, most_dual = program.lower.copy(), np.zeros(equal_kept.size), np.zeros(most_kept.size)
    if free.any():
        rows: dict[str, Any] = {"bounds": np.stack((reduced.lower, reduced.upper), axis=1)}
        if reduced.most_rhs.size:
            rows |= {"A_ub": reduced.most, "b_ub": reduced.most_rhs}
        if reduced.equal_rhs.size:
            rows |= {"A_eq": reduced.equal, "b_eq": reduced.equal_rhs}
        found: Any = linprog(-reduced.linear, method="highs-ds", **rows)
        if not found.success:
            raise SolverError(f"HiGHS: {found.message}")
        values[free] = found.x
        equal_dual[equal_kept], most_dual[most_kept] = -found.eqlin.marginals, -found.ineqlin.marginals
    return Solution(values, equal_dual, most_dual, "HiGHS")


def _objective(program: BoxQP, values: FloatArray) -> float:
    return float((program.linear * values - program.curvature * values**2 / 2).sum())


def follow(held_wh: FloatArray, storage: Storage) -> Int64Array:
    """Whole Wh that a battery charges (negative: discharges) in each hour to hold what a plan says, as near as it can.

    Args:
        held_wh: `[T]` float64, planned charge at the end of each hour; that of the last hour is the initial charge.
        storage: the battery.

    Returns:
        `[T]` int64, within power and room in all hours but the last, which restores the initial charge.
    """
    energy = np.zeros(held_wh.size, dtype=np.int64)
    held = np.array(storage.initial_wh, dtype=np.int64)
    for hour in range(held_wh.size - 1):
        gap = float(held_wh[hour]) - float(held)
        wanted = round(gap * PERMILLE / storage.efficiency_permille if gap > 0 else gap)
        most = np.minimum(storage.room_wh(held), storage.power_w)
        least = -np.minimum(held, storage.power_w)
        energy[hour] = np.clip(wanted, least, most)
        held = storage.after_wh(held, energy[hour])
    energy[-1] = storage.restore_wh(held)
    return energy


def self_consume(net_wh: Int64Array, storage: Storage, batteries: int) -> Int64Array:
    """A rule without foresight: a group's surplus is charged, its shortage discharged, equal parts from each battery.

    Args:
        net_wh: `[T, ...]` int64, load less generation of the group before batteries; lanes last.
        storage: one battery.
        batteries: how many the group has, 1 or more.

    Returns:
        `[T, ...]` int64: what each battery charges (negative: discharges). Parts are rounded down; the last hour
        restores the initial charge.
    """
    energy = np.zeros_like(net_wh)
    held = np.full(net_wh.shape[1:], storage.initial_wh, dtype=np.int64)
    for hour in range(net_wh.shape[0] - 1):
        surplus, shortage = np.maximum(-net_wh[hour], 0) // batteries, np.maximum(net_wh[hour], 0) // batteries
        charge = np.minimum(np.minimum(surplus, storage.power_w), storage.room_wh(held))
        discharge = np.minimum(np.minimum(shortage, storage.power_w), held)
        energy[hour] = charge - discharge
        held = storage.after_wh(held, energy[hour])
    energy[-1] = storage.restore_wh(held)
    return energy
