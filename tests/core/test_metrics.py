"""Measures of an outcome, each against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridmarl import metrics
from gridmarl.metrics import GainsFromTrade, gains_from_trade, gini, mean_and_interval, peak_to_average, price_gap


def array(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize(
    ("welfare", "no_market", "first_best", "bill", "expected"),
    [
        (130, 100, 150, 1_000, GainsFromTrade(30, 50, 0.6)),
        (90, 100, 150, 1_000, GainsFromTrade(-10, 50, -0.2)),
        (100, 100, 105, 1_000, GainsFromTrade(0, 5, None)),  # 0.5 % of the bill: too little to divide by
        (100, 100, 105.1, 1_000, GainsFromTrade(0, 105.1 - 100, 0.0)),
        (-20, -40, 0, -500, GainsFromTrade(20, 40, 0.5)),  # a community that earns more than it pays
        (5, 5, 5, 0, GainsFromTrade(0, 0, None)),
    ],
)
def test_gains_from_trade(
    welfare: float, no_market: float, first_best: float, bill: float, expected: GainsFromTrade
) -> None:
    assert gains_from_trade(welfare, no_market, first_best, bill) == expected


def test_price_gap_by_hand() -> None:
    """Distances 10, -20, 0, 30 over a mean reference of 100."""
    gap = price_gap(array(110, 60, 100, 150), array(100, 80, 100, 120))
    assert (gap.mean_absolute, gap.mean_signed, gap.largest) == pytest.approx((0.15, 0.05, 0.3), rel=1e-14)
    below = price_gap(array(-110, -90), array(-100, -100))
    assert (below.mean_absolute, below.mean_signed, below.largest) == (0.1, 0.0, 0.1)


def test_price_gap_without_a_reference() -> None:
    gap = price_gap(array(1, 2), array(-5, 5))
    assert all(math.isnan(value) for value in (gap.mean_absolute, gap.mean_signed, gap.largest))


def test_peak_to_average_by_hand() -> None:
    assert peak_to_average(array(1, 2, 3, 6)) == 2.0
    assert peak_to_average(array(5, 5)) == 1.0
    assert peak_to_average(np.array([[1.0, 5.0], [3.0, 5.0]])) == 1.25  # mean of 3/2 and 1
    assert math.isnan(peak_to_average(np.array([[1.0, 0.0], [3.0, 0.0]])))


def test_load_variance_by_hand() -> None:
    """1, 3 kWh: mean 2, variance 1; a steady load has none."""
    assert metrics.load_variance(array(1_000, 3_000)) == 1.0
    assert metrics.load_variance(np.array([[1_000.0, 700.0], [3_000.0, 700.0]])) == 0.5


@pytest.mark.parametrize(
    ("values", "expected"),
    [((5, 5, 5), 0.0), ((0, 0, 9), 2 / 3), ((1, 3), 0.25), ((3, 1), 0.25), ((7,), 0.0), ((1, 2, 3, 4), 0.25)],
)
def test_gini_by_hand(values: tuple[float, ...], expected: float) -> None:
    assert gini(array(*values)) == pytest.approx(expected, abs=1e-15)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20).filter(any))
def test_gini_is_the_mean_difference(values: list[int]) -> None:
    """By definition: the mean absolute difference of all pairs over twice the mean; doubling all changes nothing."""
    n = len(values)
    expected = sum(abs(x - y) for x in values for y in values) / (2 * n * sum(values))
    assert gini(array(*values)) == pytest.approx(expected, abs=1e-12)
    assert gini(2 * array(*values)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("values", [(0, 0), (-1, 5), (-3, -2)])
def test_gini_where_it_means_nothing(values: tuple[float, ...]) -> None:
    assert math.isnan(gini(array(*values)))


def test_self_sufficiency_by_hand() -> None:
    assert metrics.self_sufficiency(array(300, 100), array(1_000, 600)) == 0.75
    assert metrics.self_sufficiency(array(0), array(5)) == 1.0
    assert math.isnan(metrics.self_sufficiency(array(0), array(0)))


def test_mean_and_interval_by_hand() -> None:
    """2, 4, 4, 6: mean 4, deviation sqrt(8/3), half-width t * sqrt(8/3) / 2; t = 3.182446 with 3 degrees of freedom."""
    mean, half = mean_and_interval(array(2, 4, 4, 6))
    assert mean == 4.0
    assert half == pytest.approx(3.182446305284263 * math.sqrt(8 / 3) / 2, rel=1e-12)
    assert mean_and_interval(array(3)) == (3.0, 0.0)
