"""The central aggregator with full knowledge: first-best welfare, prices and bills of the two-stage market.

`plan(problem)` schedules all prosumers over the horizon as one non-profit aggregator would that knows everything;
`plan(problem, pooled=False)` lets each prosumer do so alone against the grid, behind its own meter (*no market*).
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from gridmarl.optimum.battery import battery_owners, repair_batteries
from gridmarl.optimum.model import Model
from gridmarl.optimum.outcome import Plan, Schedule, account
from gridmarl.optimum.problem import PlanProblem
from gridmarl.optimum.quadratic import solve_box_qp
from gridmarl.optimum.rows import FloatArray
from gridmarl.optimum.shifting import repair_shifting


def plan(problem: PlanProblem, *, pooled: bool = True) -> Plan:
    """The welfare-optimal schedule, certified.

    Args:
        problem: preferences, generation, prices and equipment.
        pooled: one meter towards the grid for all; False: one for each prosumer, no exchange between them.

    Raises:
        MissingExtraError: cvxpy is not installed.
        SolverError: no solution, or its relative gap exceeds `MAX_RELATIVE_GAP`.
    """
    started = perf_counter()
    model = Model(problem, pooled=pooled)
    program = model.program()
    solution = solve_box_qp(program)
    schedule = _repair(problem, model.energy_wh(solution.values))
    bound = program.bound(solution.equal_dual, solution.most_dual) * model.unit_utok + model.constant_utok
    prices = model.prices_utok_per_wh(solution.most_dual)
    return account(model, schedule, prices, bound, solution.solver, perf_counter() - started)


def _repair(problem: PlanProblem, energy_wh: dict[str, FloatArray]) -> Schedule:
    """The solver's point moved into the feasible set, which it misses by its tolerance."""
    nothing = np.zeros(problem.shape)
    consumption, shifted, returned = repair_shifting(
        problem, energy_wh["comfort"], energy_wh.get("shifted", nothing), energy_wh.get("returned_total", nothing)
    )
    charge, discharge, soc = np.zeros((3, *problem.shape))
    soc += problem.array("battery_initial_wh")[:, None]
    if "charge" in energy_wh:
        owners = battery_owners(problem)
        repaired = repair_batteries(problem, energy_wh["charge"], energy_wh["discharge"])
        charge[owners], discharge[owners], soc[owners] = repaired
    return Schedule(consumption, shifted, returned, charge, discharge, soc)
