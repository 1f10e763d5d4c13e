"""Bad input is refused with the field, the value seen and what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gridmarl.errors import ConfigError
from gridmarl.optimum import PlanProblem
from tests.optimum.instances import home, random_problem


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gamma_ntok_per_wh2": 0}, r"gamma_ntok_per_wh2: 0 at \[0, 0\], allowed are whole numbers 1 \.\. "),
        ({"d_min_wh": [[0, 5_001]]}, r"d_min_wh: 5001 at \[0, 1\], allowed is at most d_max_wh = 5000"),
        ({"d_max_wh": 100_000_001}, r"d_max_wh: 100000001 at \[0, 0\], allowed are whole numbers 0 \.\. 100000000"),
        ({"generation_wh": -1}, r"generation_wh: -1 at \[0, 0\]"),
        ({"generation_wh": np.nan}, r"generation_wh: nan at \[0, 0\], allowed are whole numbers"),
        ({"generation_wh": 0.5}, r"generation_wh: 0.5 at \[0, 0\], allowed are whole numbers"),
        ({"beta_utok_per_wh": np.inf}, r"beta_utok_per_wh: inf at \[0, 0\]"),
        ({"beta_utok_per_wh": "high"}, r"beta_utok_per_wh: .*high.* is not an array of numbers"),
        ({"export_price_utok_per_wh": [4_000, 10_001]},
         r"export_price_utok_per_wh: 10001 at \[1\], allowed is at most import_price_utok_per_wh = 10000"),
        ({"import_price_utok_per_wh": [10_000] * 3}, r"import_price_utok_per_wh: shape \(3,\), allowed is \(2,\)"),
        ({"import_price_utok_per_wh": [10_000, 10_000_001]}, r"import_price_utok_per_wh: 10000001 at \[1\]"),
        ({"shift_share_permille": 1_001}, r"shift_share_permille: 1001, allowed are whole numbers 0 \.\. 1000"),
        ({"shift_deadline_hours": -1}, "shift_deadline_hours: -1, allowed"),
        ({"shift_deadline_hours": [1, 2]}, r"shift_deadline_hours: shape \(2,\), allowed is \(\)"),
        ({"discomfort_utok_per_wh": 0.5}, "discomfort_utok_per_wh: 0.5, allowed"),
        ({"battery_efficiency_permille": 0}, r"battery_efficiency_permille: 0, allowed are whole numbers 1 \.\. 1000"),
        ({"battery_capacity_wh": [1, 2]}, r"battery_capacity_wh: shape \(2,\), allowed is \(1,\)"),
        ({"battery_initial_wh": 5}, r"battery_initial_wh: 5 at \[0\], allowed is at most battery_capacity_wh = 0"),
    ],
)  # fmt: skip
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        home(2, **fields)


@pytest.mark.parametrize("beta", [1, [1, 2], np.zeros((0, 3)), np.zeros((2, 0))])
def test_needs_prosumers_and_hours(beta: Any) -> None:
    with pytest.raises(ConfigError, match=r"beta_utok_per_wh: shape .*allowed is \[P, T\]"):
        PlanProblem(beta, 1, 0, 1, 0, 1, 1)


def test_keeps_a_read_only_copy() -> None:
    load = np.full((1, 2), 700)
    problem = home(2, d_max_wh=load)
    load[:] = 0
    assert problem.array("d_max_wh").tolist() == [[700, 700]]
    assert problem.shape == (1, 2)
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(problem.d_max_wh)[0, 0] = 1


def test_one_battery_value_stands_for_all() -> None:
    problem = random_problem(0, 3, 4, battery_capacity_wh=5, battery_initial_wh=[1, 2, 3])
    assert problem.array("battery_capacity_wh").tolist() == [5, 5, 5]
    assert problem.array("battery_initial_wh").tolist() == [1, 2, 3]
