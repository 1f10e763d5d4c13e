"""Concave quadratic programs with a box around every variable: solver call and a certificate that trusts no solver."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gridmarl.errors import MissingExtraError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FloatArray = NDArray[np.float64]


class SolverError(RuntimeError):
    """The solver gave no answer, or one whose optimality could not be certified."""


@dataclass(frozen=True)
class BoxQP:
    """Maximise `linear @ v - curvature @ v**2 / 2` over `equal @ v == equal_rhs`, `most @ v <= most_rhs` and a box.

    Attributes:
        linear, curvature, lower, upper: `[N]`; `curvature >= 0`, `lower <= upper`, all finite.
        equal, most: sparse `[K, N]` and `[L, N]`.
        equal_rhs, most_rhs: `[K]` and `[L]`.
    """

    linear: FloatArray
    curvature: FloatArray
    lower: FloatArray
    upper: FloatArray
    equal: csr_array
    equal_rhs: FloatArray
    most: csr_array
    most_rhs: FloatArray

    def bound(self, equal_dual: FloatArray, most_dual: FloatArray) -> float:
        """Value that no feasible point exceeds, from any multipliers `[K]` and `[L]` (Lagrangian relaxation).

        With `y >= 0` on the `<=` rows, `max f(v) <= max over the box of f(v) + y @ (rhs - rows @ v)`, and over a box
        the maximum of a separable concave function is known in closed form. Negative entries of `most_dual` count as 0.
        """
        most_dual = np.maximum(most_dual, 0.0)
        slope = self.linear - self.equal.T @ equal_dual - self.most.T @ most_dual
        curved = self.curvature > 0
        peak = np.where(slope > 0, self.upper, self.lower)
        peak[curved] = np.clip(slope[curved] / self.curvature[curved], self.lower[curved], self.upper[curved])
        value = slope * peak - self.curvature * peak**2 / 2
        return float(value.sum() + equal_dual @ self.equal_rhs + most_dual @ self.most_rhs)

    def free_part(self) -> tuple[BoxQP, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """The program without variables that their box fixes: they would leave an interior-point method no interior.

        Returns it with the masks of the variables `[N]`, equalities `[K]` and inequalities `[L]` that are left.
        """
        free = self.upper > self.lower
        fixed = np.where(free, 0.0, self.lower)
        equal, most = self.equal[:, free], self.most[:, free]
        equal_kept, most_kept = np.diff(equal.indptr) > 0, np.diff(most.indptr) > 0
        reduced = BoxQP(
            linear=self.linear[free],
            curvature=self.curvature[free],
            lower=self.lower[free],
            upper=self.upper[free],
            equal=equal[equal_kept],
            equal_rhs=(self.equal_rhs - self.equal @ fixed)[equal_kept],
            most=most[most_kept],
            most_rhs=(self.most_rhs - self.most @ fixed)[most_kept],
        )
        return reduced, free, equal_kept, most_kept


@dataclass(frozen=True)
class Solution:
    """Point `values` `[N]` and multipliers of a BoxQP, as precise as the solver made them, and the solver's name."""

    values: FloatArray
    equal_dual: FloatArray
    most_dual: FloatArray
    solver: str


def solve_box_qp(program: BoxQP) -> Solution:
    """Solves by the interior-point method Clarabel, through cvxpy; fixed variables are taken out first.

    Raises:
        MissingExtraError: cvxpy is not installed.
        SolverError: the solver found no solution (these programs always have one).
    """
    reduced, free, equal_kept, most_kept = program.free_part()
    values, equal_dual, most_dual = program.lower.copy(), np.zeros(equal_kept.size), np.zeros(most_kept.size)
    cvxpy = _import_cvxpy()
    if free.any():
        values[free], equal_dual[equal_kept], most_dual[most_kept] = _call_clarabel(cvxpy, reduced)
    return Solution(values, equal_dual, most_dual, "CLARABEL")


def _import_cvxpy() -> Any:
    try:
        import cvxpy
    except ImportError as error:
        raise MissingExtraError("the central planner needs cvxpy: pip install 'gridmarl[opt]'") from error
    return cvxpy


def _call_clarabel(cvxpy: Any, program: BoxQP) -> tuple[FloatArray, FloatArray, FloatArray]:
    from scipy.sparse import diags_array

    point = cvxpy.Variable(program.linear.size)
    curvature = cvxpy.psd_wrap(diags_array(program.curvature, format="csc"))
    constraints = [point >= program.lower, point <= program.upper]
    equal = program.equal @ point == program.equal_rhs if program.equal_rhs.size else None
    most = program.most @ point <= program.most_rhs if program.most_rhs.size else None
    constraints += [rows for rows in (equal, most) if rows is not None]
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.quad_form(point, curvature) / 2 - program.linear @ point), constraints)
    with warnings.catch_warnings():
        # An answer short of the tolerance asked for is judged by its certificate, not by the solver's remark.
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        try:
            problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11, max_iter=300)
        except cvxpy.SolverError as error:
            raise SolverError(f"CLARABEL: {error}") from error
    if point.value is None:
        raise SolverError(f"CLARABEL: status {problem.status!r}")
    nothing = np.zeros(0)
    return (
        np.asarray(point.value),
        nothing if equal is None else np.asarray(equal.dual_value),
        nothing if most is None else np.asarray(most.dual_value),
    )
