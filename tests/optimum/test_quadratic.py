"""The certificate holds for any multipliers; fixed variables never reach the solver."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from gridmarl.optimum import quadratic
from gridmarl.optimum.quadratic import BoxQP, SolverError, solve_box_qp
from gridmarl.optimum.rows import Rows


def program() -> BoxQP:
    """Maximise `4a - a²/2 + b + 2c` with `a + b == 3`, `a + c <= 2.5`, `c <= 10`, `c` fixed at 1: `a = b = 1.5`."""
    return BoxQP(
        linear=np.array([4.0, 1.0, 2.0]),
        curvature=np.array([1.0, 0.0, 0.0]),
        lower=np.array([0.0, 0.0, 1.0]),
        upper=np.array([3.0, 3.0, 1.0]),
        equal=csr_array([[1.0, 1.0, 0.0]]),
        equal_rhs=np.array([3.0]),
        most=csr_array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
        most_rhs=np.array([2.5, 10.0]),
    )


OPTIMUM = 4 * 1.5 - 1.5**2 / 2 + 1.5 + 2


def test_optimum_by_hand() -> None:
    solution = solve_box_qp(program())
    assert solution.values == pytest.approx([1.5, 1.5, 1.0])
    assert solution.values[2] == 1.0
    assert program().bound(solution.equal_dual, solution.most_dual) == pytest.approx(OPTIMUM)


def test_bound_holds_for_any_multipliers() -> None:
    rng = np.random.default_rng(0)
    bounds = [program().bound(rng.normal(0, 3, 1), rng.normal(0, 3, 2)) for _ in range(500)]
    assert min(bounds) >= OPTIMUM - 1e-12
    assert min(bounds) < OPTIMUM + 0.5


def test_fixed_variables_and_empty_rows_are_taken_out() -> None:
    reduced, free, equal_kept, most_kept = program().free_part()
    assert (free.tolist(), equal_kept.tolist(), most_kept.tolist()) == ([True, True, False], [True], [True, False])
    assert reduced.most.toarray().tolist() == [[1.0, 0.0]]
    assert reduced.most_rhs.tolist() == [1.5]


def test_no_solution_is_an_error() -> None:
    wrong = program()
    object.__setattr__(wrong, "equal_rhs", np.array([9.0]))
    with pytest.raises(SolverError, match="CLARABEL"):
        solve_box_qp(wrong)


def test_solver_failure_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import cvxpy

    def fail(*_: object, **__: object) -> None:
        raise cvxpy.SolverError("numbers too large")

    monkeypatch.setattr(cvxpy.Problem, "solve", fail)
    with pytest.raises(quadratic.SolverError, match="CLARABEL: numbers too large"):
        solve_box_qp(program())


def test_rows_add_up_repeated_places() -> None:
    rows = Rows()
    at = rows.open(np.array([1.0, 2.0]))
    rows.put(at[0], np.array([0, 0, 2]), 1.5)
    rows.add(np.array([5.0]), (np.array([1]), -1.0), (np.array([2]), np.array([4.0])))
    assert rows.matrix(3).toarray().tolist() == [[3.0, 0.0, 1.5], [0.0, 0.0, 0.0], [0.0, -1.0, 4.0]]
    assert rows.rhs().tolist() == [1.0, 2.0, 5.0]
    assert Rows().matrix(2).shape == (0, 2)
    assert Rows().rhs().shape == (0,)
