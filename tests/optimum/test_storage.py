"""Batteries of a group: the plan is the planner's, whole Wh stay lawful, and the rule needs no foresight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gridmarl.errors import ConfigError
from gridmarl.optimum.planner import plan
from gridmarl.optimum.problem import PlanProblem
from gridmarl.optimum.quadratic import BoxQP
from gridmarl.optimum.storage import Storage, follow, plan_charge, self_consume, solve_box_lp

Ints = NDArray[np.int64]


def cost(net: Ints, imp: Ints, exp: Ints) -> int:
    return int((imp * np.maximum(net, 0) - exp * np.maximum(-net, 0)).sum())


def case(seed: int, hours: int, low: int = 500) -> tuple[Ints, Ints, Ints]:
    """Net load, import and export price."""
    random = np.random.default_rng(seed)
    net = random.integers(-3_000, 3_000, hours)
    wholesale = random.integers(low, 15_000, hours)
    return net, wholesale + 8_000, wholesale - 400


def held_by_hand(energy: list[int], storage: Storage) -> list[int]:
    """What the battery holds after each hour, by the rules of the market's page."""
    held, found = storage.initial_wh, []
    for amount in energy:
        held += amount * storage.efficiency_permille // 1000 if amount > 0 else amount
        found.append(held)
    return found


def assert_lawful(energy: Ints, storage: Storage) -> None:
    held = held_by_hand(energy.tolist(), storage)
    assert all(0 <= level <= storage.capacity_wh for level in held)
    assert held[-1] == storage.initial_wh
    assert (np.abs(energy[:-1]) <= storage.power_w).all()


storages = st.builds(
    lambda capacity, power, efficiency, initial: Storage(capacity, power, efficiency, capacity * initial // 1000),
    st.integers(0, 9_000),
    st.integers(0, 5_000),
    st.integers(1, 1_000),
    st.integers(0, 1_000),
)


@settings(max_examples=80, deadline=None)
@given(storages, st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 3), st.sampled_from([-3_000, 500]))
def test_whole_wh_are_lawful_and_no_better_than_the_bound(
    storage: Storage, seed: int, hours: int, batteries: int, low: int
) -> None:
    """Whatever the battery and the sign of prices; hours as few as one."""
    net, imp, exp = case(seed, hours, low)
    found = plan_charge(net, imp, exp, storage, batteries)
    least = found.least_cost_utok - 1e-3 - 1e-6 * float(np.abs(net * imp).sum())
    for energy in (follow(found.held_wh, storage), self_consume(net, storage, batteries)):
        assert_lawful(energy, storage)
        # Charging loses less than 1 Wh of an hour to rounding, which pays at negative prices only.
        dumped = batteries * float(np.maximum(0, -exp).sum()) * 1000 / storage.efficiency_permille
        assert cost(net + batteries * energy, imp, exp) >= least - dumped


@pytest.mark.parametrize("seed", range(4))
def test_the_plan_is_that_of_the_central_planner(seed: int) -> None:
    """One linear programme by HiGHS, the other by Clarabel; three batteries planned as one, or one by one."""
    storage, hours = Storage(5_000, 2_500, 900, 2_500), 24
    net, imp, exp = case(seed, hours)
    found = plan_charge(net, imp, exp, storage, 3)
    load = np.zeros((3, hours), dtype=np.int64)
    load[0] = np.maximum(net, 0)
    generation = np.zeros_like(load)
    generation[2] = np.maximum(-net, 0)
    problem = PlanProblem(
        beta_utok_per_wh=np.zeros_like(load),
        gamma_ntok_per_wh2=np.ones_like(load),
        d_min_wh=load,
        d_max_wh=load,
        generation_wh=generation,
        import_price_utok_per_wh=imp,
        export_price_utok_per_wh=exp,
        battery_capacity_wh=storage.capacity_wh,
        battery_power_w=storage.power_w,
        battery_efficiency_permille=storage.efficiency_permille,
        battery_initial_wh=storage.initial_wh,
    )
    central = plan(problem)
    assert found.least_cost_utok == pytest.approx(float(central.cost_utok.sum()), rel=1e-5)
    # Whole Wh cost no more than one Wh of each battery and hour at the difference of the prices.
    carried_out = cost(net + 3 * follow(found.held_wh, storage), imp, exp)
    assert carried_out - found.least_cost_utok <= 3 * float((imp - exp).sum())
    assert carried_out <= cost(net + 3 * self_consume(net, storage, 3), imp, exp)


def test_the_plan_buys_cheap_and_sells_dear() -> None:
    """4 kWh at 1 µtok/Wh in the second hour, 8 of 10 Wh come back, and replace what would cost 9."""
    storage = Storage(4_000, 5_000, 800, 0)
    net, imp, exp = np.array([100, 100, 3_000, 0]), np.array([5, 1, 9, 5]), np.array([0, 0, 0, 0])
    found = plan_charge(net, imp, exp, storage, 1)
    assert found.held_wh == pytest.approx([0, 3_000, 0, 0])
    assert follow(found.held_wh, storage).tolist() == [0, 3_750, -3_000, 0]
    assert found.least_cost_utok == pytest.approx(500 + 100 + 3_750)


def test_self_consumption_by_hand() -> None:
    """Two batteries; surplus in, shortage out, odd Wh left; power and room limit; the last hour restores."""
    storage = Storage(1_000, 400, 500, 100)
    net = np.array([51, -301, -3_000, -3_000, 40, 0])
    # 25 each; 150 each; power 400; power again, since 475 + 200 leaves room; out 20; back to 100
    assert self_consume(net, storage, 2).tolist() == [-25, 150, 400, 400, -20, -430]
    lanes = np.stack((net, np.zeros_like(net)), axis=1)
    assert self_consume(lanes, storage, 2)[:, 0].tolist() == self_consume(net, storage, 2).tolist()
    assert not self_consume(lanes, storage, 2)[:, 1].any()


def test_the_rule_knows_no_later_hour() -> None:
    storage, (net, _, _) = Storage(5_000, 2_500, 900, 2_500), case(3, 24)
    other = net.copy()
    other[12:] = 0
    assert self_consume(net, storage, 1)[:12].tolist() == self_consume(other, storage, 1)[:12].tolist()


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="efficiency_permille: 0, allowed are 1"):
        Storage(1, 1, 0, 0)
    with pytest.raises(ConfigError, match="power_w: -1, allowed are 0"):
        Storage(1, -1, 900, 0)
    with pytest.raises(ConfigError, match="initial_wh: 2, allowed is at most capacity_wh \\(1\\)"):
        Storage(1, 1, 900, 2)
    from scipy.sparse import csr_array

    one, none = np.ones(1), csr_array((0, 1))
    curved = BoxQP(one, one, 0 * one, one, none, np.zeros(0), none, np.zeros(0))
    with pytest.raises(ConfigError, match="curvature: 1"):
        solve_box_lp(curved)
