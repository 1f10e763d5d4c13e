"""The optimum that everything is measured against: the central planner and its closed forms.

`planner.plan` solves a horizon with shifting and batteries; `waterfill` solves hours without them, many lanes at once.
"""

from gridmarl.optimum.outcome import MAX_RELATIVE_GAP, PeriodCost, Plan
from gridmarl.optimum.planner import plan
from gridmarl.optimum.problem import PlanProblem
from gridmarl.optimum.quadratic import SolverError

__all__ = ["MAX_RELATIVE_GAP", "PeriodCost", "Plan", "PlanProblem", "SolverError", "plan"]
