"""Preferences against brute force: eq. (1) is the exact optimum in whole Wh, and so is the outside option."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from gridmarl.optimum import waterfill
from gridmarl.preferences import (
    calibrated_beta,
    calibrated_gamma,
    demand_at,
    floor_div,
    outside_option,
    utility_utok,
)
from tests.oracles import two_stage as oracle

prices = st.integers(-400, 400)
betas = st.integers(-300, 600)
gammas = st.integers(1, 60_000) | st.sampled_from([1, 2, 500, 1000, 2000, 4000])
bounds = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted)


def one(*values: int) -> list[Tensor]:
    return [torch.tensor([[value]]) for value in values]


def real_utility(d: int, beta: int, gamma: int) -> Fraction:
    """`u(d)` before its quadratic term is rounded."""
    return beta * d - Fraction(gamma * d * d, 2000)


@given(st.integers(-(10**12), 10**12), st.integers(-(10**6), 10**6).filter(bool))
def test_floor_division_is_pythons(numerator: int, denominator: int) -> None:
    assert floor_div(torch.tensor(numerator), denominator).item() == numerator // denominator
    assert floor_div(torch.tensor(numerator), torch.tensor(denominator)).item() == numerator // denominator


@given(prices, betas, gammas, bounds)
@example(0, 1, 2000, [0, 60])  # 1/2 Wh: a tie between 0 and 1
@example(-3, 0, 2000, [0, 60])
def test_demand_is_the_best_whole_quantity(price: int, beta: int, gamma: int, limits: list[int]) -> None:
    """The greatest of the maximisers of the unrounded surplus, and a maximiser of the rounded one as well."""
    low, high = limits
    d = int(demand_at(price, beta, *one(gamma, low, high)))
    exact = {x: real_utility(x, beta, gamma) - price * x for x in range(low, high + 1)}
    assert d == max(exact, key=lambda x: (exact[x], x))
    rounded = {x: oracle.utility(x, beta, gamma) - price * x for x in exact}
    assert rounded[d] == max(rounded.values())
    assert d == oracle.demand(price, beta, gamma, low, high)


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**6), st.integers(0, 1_000_000))
def test_utility_is_exact(beta: int, gamma: int, d: int) -> None:
    assert utility_utok(*one(d, beta, gamma)).item() == beta * d - gamma * d * d // 2000
    assert utility_utok(torch.tensor(d), beta, torch.tensor(gamma)).item() == oracle.utility(d, beta, gamma)


def test_utility_by_hand() -> None:
    """40,030 µtok/Wh * 853 Wh - 30,030 ntok/Wh² * 853² Wh² / 2000 = 34,145,590 - 10,925,049.135, rounded down."""
    assert utility_utok(torch.tensor(853), 40_030, torch.tensor(30_030)).item() == 34_145_590 - 10_925_049


@given(st.integers(0, 100_000_000), st.integers(1, 10_000_000), st.integers(1, 10_000))
def test_calibration(load: int, p0: int, e: int) -> None:
    beta, gamma = calibrated_beta(p0, e), int(calibrated_gamma(torch.tensor(load), p0, e))
    assert (beta, gamma) == oracle.calibrate(load, p0, e)
    assert beta == p0 * (1000 + e) // e
    if load:
        assert gamma >= 1
        assert abs(gamma - Fraction(10**6 * p0, e * load)) <= Fraction(1, 2) or gamma == 1
    else:
        assert gamma == 1


@pytest.mark.parametrize(("load", "p0", "e"), [(1_000, 10_000, 300), (350, 13_000, 100), (2_700, 9_137, 1_000)])
def test_reference_demand_at_the_reference_price(load: int, p0: int, e: int) -> None:
    """`d(p0) = L`, and its elasticity there is `-e`: a price 1 % higher takes e/10 % off."""
    beta, gamma = calibrated_beta(p0, e), calibrated_gamma(torch.tensor(load), p0, e)
    wide = torch.tensor(0), torch.tensor(10 * load)
    assert demand_at(p0, beta, gamma, *wide).item() == pytest.approx(load, abs=1)
    dearer = demand_at(p0 + p0 // 100, beta, gamma, *wide).item()
    assert load - dearer == pytest.approx(load * e / 100_000, abs=1.1)


@given(prices, st.integers(0, 200), betas, gammas, bounds, st.integers(0, 90))
@example(0, 0, 10, 2000, [0, 60], 7)
def test_outside_option_is_optimal(
    export: int, spread: int, beta: int, gamma: int, limits: list[int], generation: int
) -> None:
    """The best of all whole quantities, one by one; the same as the closed form of the planner."""
    low, high = limits
    imp = export + spread
    slope, least, most, sun = one(gamma, low, high, generation)
    at_import, at_export = (demand_at(price, beta, slope, least, most) for price in (imp, export))
    prices_ = torch.tensor([imp]), torch.tensor([export])
    d, surplus = outside_option(at_import, at_export, sun, beta, slope, *prices_)

    def gained(x: int) -> int:
        bought, sold = max(x - generation, 0), max(generation - x, 0)
        return oracle.utility(x, beta, gamma) - imp * bought + export * sold

    assert int(surplus) == gained(int(d)) == max(gained(x) for x in range(low, high + 1))
    again = waterfill.outside_option(torch.full_like(slope, beta), slope, least, most, sun, *prices_)
    assert (int(again[0]), int(again[1])) == (int(d), int(surplus))


def test_lanes_broadcast() -> None:
    """Prices `[E]` against preferences `[P, E]`."""
    gamma = torch.tensor([[1000, 2000], [500, 4000]])
    low, high = torch.zeros_like(gamma), torch.full_like(gamma, 10_000)
    seen = demand_at(torch.tensor([100, -100]), 600, gamma, low, high)
    assert seen.tolist() == [[500, 350], [1000, 175]]
