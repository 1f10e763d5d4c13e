"""The coordinator's plan against enumeration, against what is obvious, and against every policy that plays."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import numpy as np
import pytest

from gridmarl.errors import ConfigError
from gridmarl.optimum.ev_charging import ChargingProblem, plan_charging


def problem(vehicles: list[tuple[int, int, int, int, int]], margin: list[int], tariff: list[int], cost: int) -> Any:
    """Vehicles as (arrival, departure, power, energy, value)."""
    columns = np.array(vehicles, dtype=np.int64).reshape(-1, 5).T
    return ChargingProblem(*columns, np.array(margin), np.array(tariff), cost)


def best(given: ChargingProblem) -> int:
    """Every schedule of whole Wh, tried."""
    found: list[int] = []
    slots = [
        (v, t)
        for v, t in product(range(given.arrival.size), range(given.tariff.size))
        if given.arrival[v] <= t < given.departure[v]
    ]
    for amounts in product(*(range(int(given.max_power_w[v]) // 2 + 1) for v, _ in slots)):
        left, room, welfare = given.energy_wh.tolist(), given.margin_wh.tolist(), 0
        for (v, t), wh in zip(slots, amounts, strict=True):
            left[v] -= wh
            room[t] -= wh
            welfare += wh * int(given.value[v] - given.tariff[t])
        if min(left) < 0 or min(room) < 0:
            continue
        for v, rest in enumerate(left):
            beyond = max(0, int(given.departure[v]) - given.tariff.size) * (int(given.max_power_w[v]) // 2)
            if given.arrival[v] < given.tariff.size:
                welfare -= given.unserved_cost * max(0, rest - beyond)
        found.append(welfare)
    return max(found)


def test_equals_enumeration() -> None:
    """Vertices of this programme are whole numbers, so that the best whole schedule is the best schedule."""
    dice = random.Random("charging")
    for _ in range(40):
        vehicles = []
        for _ in range(dice.randint(1, 3)):
            arrival = dice.randint(0, 2)
            stay, power = dice.randint(1, 3), dice.choice([2, 4, 5])
            vehicles.append((arrival, arrival + stay, power, dice.randint(0, 5), dice.randint(0, 9)))
        given = problem(vehicles, [dice.randint(0, 3) for _ in range(3)], [dice.randint(0, 6) for _ in range(3)], 4)
        plan = plan_charging(given)
        assert plan.welfare_utok == pytest.approx(best(given), abs=1e-6)
        assert plan.bound_utok == pytest.approx(plan.welfare_utok, abs=1e-6)


def test_what_is_obvious() -> None:
    """The dearer vehicle first, each in its cheapest half hour; what does not fit is unserved."""
    given = problem([(0, 2, 20, 10, 100), (0, 1, 20, 10, 300)], [10, 4], [50, 40], 7)
    plan = plan_charging(given)
    assert plan.energy_wh.round(6).tolist() == [[0, 4], [10, 0]]
    assert plan.unserved_wh.round(6).tolist() == [6, 0]
    assert plan.welfare_utok == pytest.approx(10 * 250 + 4 * 60 - 6 * 7)
    nobody = plan_charging(problem([], [5, 5], [1, 1], 3))
    assert (nobody.welfare_utok, nobody.energy_wh.shape) == (0.0, (0, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arrival": np.zeros(2, dtype=np.int64)}, r"vehicles: shapes .*, allowed is \[V\] for all"),
        ({"tariff": np.zeros(3, dtype=np.int64)}, r"margin_wh, tariff: shapes \(2,\), \(3,\)"),
        ({"margin_wh": np.array([1, -2])}, "margin_wh: -2, allowed is 0 or more"),
    ],
)
def test_what_is_no_problem(changes: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = vars(problem([(0, 2, 20, 10, 100)], [10, 4], [50, 40], 7))
    with pytest.raises(ConfigError, match=message):
        ChargingProblem(**(fields | changes))
