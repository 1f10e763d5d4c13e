"""Direct control of flexible assets: worth, envelope, plans that can be worked out by hand, bad input."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridmarl.errors import ConfigError
from gridmarl.optimum.concave import envelope, worth_utok
from gridmarl.optimum.flexibility import BATTERY, LOAD, PHOTOVOLTAIC, FlexibilityProblem, plan_flexibility

PRICES = (20, 5, 9, 4)  # short, long, service, penalty


def problem(kind: int, hours: int, **changes: Any) -> FlexibilityProblem:
    """One aggregator, one asset; nothing is asked, everything is allowed."""
    zero = np.zeros((1, hours), dtype=np.int64)
    one = np.zeros(1, dtype=np.int64)
    made = FlexibilityProblem(
        deviation_wh=zero,
        request_wh=zero,
        up_limit_wh=zero + 1_000_000,
        down_limit_wh=zero,
        short_price=zero[0] + 20,
        long_price=zero[0],
        service_price=9,
        missing_penalty=4,
        kind=one + kind,
        base_wh=zero,
        up_cost=zero + 3,
        down_cost=zero + 3,
        up_capacity_wh=one + 1_000,
        down_capacity_wh=one,
        charge_wh=one + 1_000,
        ahead_wh=one,
        due_wh=zero,
        battery_capacity_wh=2_000,
        battery_power_w=1_000,
        battery_return_w=0,
        load_power_w=500,
        return_hours=2,
        calls_down=False,
    )
    return replace(made, **changes)


def row(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([values], dtype=np.int64)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-50, 50)), min_size=1, max_size=7))
def test_the_envelope_is_concave_above_all_points_and_no_larger(points: list[tuple[int, int]]) -> None:
    corners = envelope(points)
    assert set(corners) <= set(points)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(corners)]
    assert slopes == sorted(slopes, reverse=True)
    places, values = zip(*corners, strict=True)
    assert (places[0], places[-1]) == (min(x for x, _ in points), max(x for x, _ in points))
    assert all(value <= np.interp(where, places, values) + 1e-9 for where, value in points)


@pytest.mark.parametrize(
    ("surplus", "request_wh", "worth"),
    [
        (-7, 0, -140),
        (7, 0, 35),
        (-3, 10, -100),
        (4, 10, 12),
        (13, 10, 105),
        (-4, -10, 12),
        (-13, -10, 30),
        (3, -10, -25),
    ],
)
def test_worth_by_hand(surplus: int, request_wh: int, worth: int) -> None:
    """Service 9, penalty 4, short 20, long 5: for example 10 asked up, 4 delivered, 36 - 24."""
    assert worth_utok(surplus, request_wh, *PRICES) == worth


def test_a_battery_is_kept_for_the_hour_in_which_energy_is_short_and_dear() -> None:
    """1000 Wh are charged and nothing comes back: the second hour has them, at 30 - 3 µtok/Wh."""
    found = plan_flexibility(
        problem(BATTERY, 2, deviation_wh=row(900, 800), short_price=np.array([20, 30], dtype=np.int64))
    )
    np.testing.assert_allclose(found.up_wh, [[200, 800]], atol=1e-5)
    assert found.welfare_utok == pytest.approx(-700 * 20 - 1_000 * 3)
    assert found.bound_utok == pytest.approx(found.welfare_utok, rel=1e-9)


def test_a_battery_returns_to_half_while_it_rests() -> None:
    """Empty after the first hour; 500 Wh come back in the second, which does not call it."""
    found = plan_flexibility(problem(BATTERY, 3, deviation_wh=row(1_000, 0, 5_000), battery_return_w=500))
    np.testing.assert_allclose(found.up_wh, [[1_000, 0, 500]], atol=1e-5)


def test_deferred_load_comes_back() -> None:
    """What is deferred in the first hour is due in the second and third, and cannot be deferred again there."""
    base = row(600, 600, 600)
    found = plan_flexibility(
        problem(LOAD, 3, base_wh=base, deviation_wh=row(600, 600, 600), up_capacity_wh=row(600)[0], return_hours=1)
    )
    most = 600 + 0 + 600  # deferring in the first and the last hour, or 600 in all three less what comes back
    assert most - 1e-6 <= found.up_wh.sum() <= most + 2 + 1e-6  # a Wh of rounding an hour
    assert found.bound_utok >= -600 * 20 - most * 3


def test_curtailment_serves_a_request_down() -> None:
    """Down 400 of 1000 asked, at 9 + 4 - 3 µtok/Wh beyond the penalty of all."""
    found = plan_flexibility(
        problem(
            PHOTOVOLTAIC,
            1,
            base_wh=row(400),
            request_wh=row(-1_000),
            down_limit_wh=row(2_000),
            up_capacity_wh=row(0)[0],
            down_capacity_wh=row(400)[0],
            calls_down=True,
        )
    )
    assert found.down_wh.item() == pytest.approx(400)
    assert found.bought_down_wh.item() == pytest.approx(400)
    assert found.welfare_utok == pytest.approx(-4 * 1_000 + 10 * 400)


def test_load_that_ran_ahead_makes_room_when_it_would_have_run() -> None:
    """500 Wh ahead, the most: an hour takes up what its own load uses of that, 400 and 300 Wh."""
    found = plan_flexibility(
        problem(
            LOAD,
            2,
            base_wh=row(400, 300),
            ahead_wh=row(500)[0],
            request_wh=row(-9_000, -9_000),
            down_limit_wh=row(9_000, 9_000),
            up_capacity_wh=row(0)[0],
            down_capacity_wh=row(400)[0],
            calls_down=True,
        )
    )
    np.testing.assert_allclose(found.down_wh, [[400, 300]], atol=1e-5)


def test_rebound_beyond_the_load_of_its_hour_is_not_forbidden() -> None:
    """600 Wh deferred come back in an hour whose own load is 100; nothing can be deferred there."""
    found = plan_flexibility(
        problem(LOAD, 2, base_wh=row(600, 100), deviation_wh=row(600, 0), up_capacity_wh=row(600)[0], return_hours=1)
    )
    np.testing.assert_allclose(found.up_wh, [[600, 0]], atol=1e-5)


def test_bid_limits_are_kept() -> None:
    found = plan_flexibility(problem(BATTERY, 1, deviation_wh=row(900), up_limit_wh=row(250)))
    assert found.up_wh.item() == pytest.approx(250)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("up_cost", row(1, 2, 3), r"up_cost: shape \(1, 3\), allowed is \(1, 2\)"),
        ("base_wh", row(1, -2), "base_wh: -2, allowed is 0 or more"),
        ("deviation_wh", row(1, 2)[0], "deviation_wh, base_wh: 1 and 2 dimensions"),
        ("long_price", row(50, 50)[0], "long_price: above short_price"),
    ],
)
def test_bad_input_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        problem(BATTERY, 2, **{name: value})
