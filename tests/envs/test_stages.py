"""The stages of an hour one by one, with numbers worked out by hand: actions, orders, battery, shifting, phases."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gridmarl.contracts.two_stage import Phase
from gridmarl.envs.two_stage_dr.actions import action_names, action_spec, pick, quantise
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.observe import FIELDS
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.scenarios.scenario import toy_scenario

PRECISE = {"forecast_error_permille": 0, "pv_scale_permille": 1000}


def started(prices: list[int], load: list[int], pv: list[int] | None = None, **values: Any) -> BatchedTwoStageDR:
    """One lane; every prosumer has the same load `L` in all hours: `d = 0 .. 2 L`, `beta = 40,030`, `d(10,000) = L`."""
    hours = len(prices)
    scenario = toy_scenario(prices, [load] * hours, None if pv is None else [pv] * hours)
    defaults = {"num_prosumers": len(load), "horizon_hours": hours, "demand_min_permille": 0}
    defaults |= {"demand_max_permille": 2000, "elasticity_permille": 333, "reference_price_utok_per_wh": 10_000}
    defaults |= {"participation_permille": 1000, "import_adder_utok_per_wh": 5_000, "export_margin_utok_per_wh": 1_000}
    params = TwoStageDRParams.from_dict(defaults | PRECISE | values)
    env = BatchedTwoStageDR(params, scenario, auto_reset=False)
    env.reset(0)
    return env


def bids(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).unsqueeze(0)


def field(env: BatchedTwoStageDR, observation: Tensor, name: str) -> list[int]:
    """A field of all prosumers of lane 0, as the integers it was made from."""
    index = next(i for i, item in enumerate(FIELDS) if item.name == name)
    return [round(value / FIELDS[index].scale) for value in observation[0, :, index].tolist()]


@pytest.mark.parametrize(
    ("entry", "level"),
    [
        (-1.0, 0), (-1.0 + 2.0**-16, 1), (-1.0 + 2.0**-17, 0), (0.0, 32_768), (1.0, 65_536), (0.5, 49_152),
        (float("nan"), 0), (float("inf"), 65_536), (float("-inf"), 0), (1.5, 65_536), (-1e30, 0),
    ],
)  # fmt: skip
def test_levels(entry: float, level: int) -> None:
    params = TwoStageDRParams(num_prosumers=1)
    levels, clamped = quantise(params, action_spec(params), bids((entry, 0.0, 0.0)))
    assert levels.buy_price.tolist() == [[level]]
    assert clamped.tolist() == [int(not -1 <= entry <= 1)]


def test_every_integer_of_a_range_can_be_hit() -> None:
    for span in (0, 1, 7, 1_000, 65_535, 65_536):
        offsets = torch.arange(span + 1)
        levels = -((-offsets * 65_536) // max(span, 1))
        assert torch.equal(pick(levels, torch.tensor(-9), torch.tensor(span - 9)), offsets - 9)


def test_names_follow_the_configuration() -> None:
    names = {
        (): ("buy_price", "quantity", "sell_price"),
        (("single_price", True),): ("price", "quantity"),
        (("stage2", "learned"),): ("buy_price", "quantity", "sell_price", "reduction"),
        (("battery_capacity_wh", 1), ("battery_power_w", 1), ("single_price", True), ("stage2", "learned")): (
            "price", "quantity", "battery", "reduction",
        ),
    }  # fmt: skip
    for values, expected in names.items():
        assert action_names(TwoStageDRParams.from_dict(dict(values))) == expected


def test_grid_spells_out_every_combination_once() -> None:
    params = TwoStageDRParams(
        action_space="discrete", price_levels=3, quantity_levels=2, battery_levels=1, battery_capacity_wh=1,
        battery_power_w=1,
    )  # fmt: skip
    spec = action_spec(params)
    assert spec.grid is not None
    assert spec.num_actions == 18
    assert spec.grid.tolist() == [list(row) for row in product((-1.0, 0.0, 1.0), (-1.0, 1.0), (-1.0, 0.0, 1.0), (0.0,))]


def test_grid_of_a_learned_second_stage() -> None:
    """The index is a row of bids first, then, modulo the levels, a reduction; the longer list rules."""
    few = TwoStageDRParams(
        action_space="discrete", stage2="learned", single_price=True, price_levels=2, quantity_levels=1,
        reduction_levels=5,
    )  # fmt: skip
    spec = action_spec(few)
    assert spec.grid is not None
    assert spec.grid.tolist() == [[-1, 0, -1], [1, 0, -0.5], [-1, 0, 0], [1, 0, 0.5], [-1, 0, 1]]
    levels, clamped = quantise(few, spec, torch.tensor([[4, 5], [-1, 0]]))
    assert levels.reduction is not None
    assert levels.reduction.tolist() == [[65_536, 0], [65_536, 0]]
    assert clamped.tolist() == [1, 1]


def test_an_hour_by_hand() -> None:
    """`imp = 15,000`, `exp = 9,000`. Prosumer 0 buys 1,500 Wh at 12,000, prosumer 1 offers its 600 Wh at 10,500.

    600 Wh trade and the buyer, served in part, sets `pi = 12,000`; shortage 900 Wh, `pi_DR = min(14,400, 15,000)`.
    Demand at 14,400: `gamma = 30,030`, `d = 1000 * (40,030 - 14,400) / 30,030 = 853` Wh, so 647 Wh are reduced and 253
    imported.
    """
    env = started([10_000], [1_000, 0], [0, 600], shift_share_permille=0)
    assert (env.state.beta, env.state.home.gamma.flatten().tolist()) == (40_030, [30_030, 1])
    env.step(bids((0.0, 0.5, 0.0), (0.0, 0.0, -0.5)))
    settled = env.settled
    assert settled is not None
    market, orders = settled.market, settled.orders
    assert (orders.buy_price.flatten().tolist(), orders.buy_wh.flatten().tolist()) == ([12_000, 12_000], [1_500, 0])
    assert (orders.sell_price.flatten().tolist(), orders.sell_wh.flatten().tolist()) == ([12_000, 10_500], [0, 600])
    outcome = (market.price, market.volume_wh, market.shortage_wh, market.dr_price, market.reduction_price)
    assert [int(value) for value in outcome] == [12_000, 600, 900, 14_400, 14_400]
    assert settled.accepted_wh.flatten().tolist() == [647, 0]
    assert settled.load_wh.flatten().tolist() == [853, 0]
    assert settled.flows.upstream_wh.flatten().tolist() == [253, 0]
    paid = 600 * 12_000 + 900 * 15_000 - 647 * 14_400
    assert settled.received_utok.flatten().tolist() == [-paid, 600 * 12_000]
    utility = 40_030 * 853 - 30_030 * 853**2 // 2000
    assert settled.reward_utok.flatten().tolist() == [utility - paid, 600 * 12_000]
    operator = 900 * 15_000 - 647 * 14_400 - 253 * 15_000
    assert env.state.balances.flatten().tolist() == [-paid, 7_200_000, 0, operator, 253 * 15_000]


def test_additive_pays_the_market_price_on_top() -> None:
    """The same hour: `rho = 12,000 + 14,400`, `d(26,400) = 454` Wh (453.9), so 1,046 Wh offered, 900 accepted."""
    env = started([10_000], [1_000, 0], [0, 600], shift_share_permille=0, dr_settlement="additive")
    env.step(bids((0.0, 0.5, 0.0), (0.0, 0.0, -0.5)))
    assert env.settled is not None
    assert env.settled.market.reduction_price.tolist() == [26_400]
    assert env.settled.offered_wh.flatten().tolist() == [1_046, 0]
    assert env.settled.accepted_wh.flatten().tolist() == [900, 0]
    paid = 600 * 12_000 + 900 * 15_000 - 900 * 26_400
    assert env.settled.received_utok.flatten().tolist() == [-paid, 7_200_000]


def test_shifted_energy_comes_back_in_the_cheapest_hour() -> None:
    """Hours at 15,000, 13,000, 12,000, 12,000, 11,000: with a deadline of 3 hours, hour 2 is the first cheapest.

    All demand is imported at `pi = imp = pi_DR = 15,000`; `d(15,000) = 833` Wh of 2,000 remain, and a third of the
    1,167 Wh, 389, returns.
    """
    env = started([10_000, 8_000, 7_000, 7_000, 6_000], [1_000], shift_share_permille=334, shift_deadline_hours=3,
                  discomfort_utok_per_wh=700)  # fmt: skip
    env.step(bids((1.0, 1.0, 0.0)))
    assert env.settled is not None
    assert env.settled.market.dr_price.tolist() == [15_000]
    assert (env.settled.accepted_wh.tolist(), env.settled.shifted_wh.tolist()) == ([[1_167]], [[389]])
    enjoyed = 833 + 389
    expected = 40_030 * enjoyed - 30_030 * enjoyed**2 // 2000 - 700 * 389
    assert env.settled.comfort_utok.tolist() == [[expected]]
    loads = []
    for _ in range(4):
        env.step(bids((1.0, -1.0, 0.0)))
        assert env.settled is not None
        loads.append((int(env.settled.orders.returned_wh), int(env.settled.load_wh)))
    assert loads == [(0, 0), (389, 389), (0, 0), (0, 0)]


@pytest.mark.parametrize(("deadline", "hours"), [(0, 3), (3, 1)])
def test_nothing_is_shifted_past_the_end(deadline: int, hours: int) -> None:
    env = started([10_000] * hours, [1_000], shift_share_permille=1000, shift_deadline_hours=deadline)
    for _ in range(hours):
        env.step(bids((1.0, 1.0, 0.0)))
        assert env.settled is not None
        assert env.settled.accepted_wh.tolist() == [[1_167]]
        assert env.settled.shifted_wh.tolist() == [[0]]


def test_battery_by_hand() -> None:
    """1,000 Wh, 700 W, 90 %, half full: room for 555 Wh of charge, which store 499; discharge up to 700 and the charge.

    The last hour restores 500 Wh: `ceil(201 * 1000 / 900) = 224` Wh from 299, beyond what the action asks for.
    """
    env = started([10_000] * 4, [0], battery_capacity_wh=1_000, battery_power_w=700)
    seen = []
    for wish in (1.0, -1.0, 0.0, -1.0):
        env.step(bids((0.0, 0.0, 0.0, wish)))
        assert env.settled is not None
        orders = env.settled.orders
        seen.append((int(orders.charge_wh), int(orders.discharge_wh), int(env.state.soc_wh)))
    assert seen == [(555, 0, 999), (0, 700, 299), (0, 0, 299), (224, 0, 500)]


@pytest.mark.parametrize(
    ("wish", "charge", "discharge"),
    [(0.5, 350, 0), (-0.5, 0, 350), (0.25, 175, 0), (2.0**-15, 0, 0), (-(2.0**-15), 0, 0), (-1.0, 0, 500)],
)
def test_battery_power_is_the_same_both_ways(wish: float, charge: int, discharge: int) -> None:
    env = started([10_000] * 2, [0], battery_capacity_wh=1_000, battery_power_w=700)
    env.step(bids((0.0, 0.0, 0.0, wish)))
    assert env.settled is not None
    orders = env.settled.orders
    assert (int(orders.charge_wh), int(orders.discharge_wh)) == (charge, discharge)


@pytest.mark.parametrize(
    ("initial", "actions", "charge", "discharge"),
    [(0, [1.0], 0, 630), (1000, [-1.0], 778, 0), (500, [0.0], 0, 0), (1000, [-1.0, -1.0], 1112, 0)],
)
def test_restoring_ignores_the_power_limit(initial: int, actions: list[float], charge: int, discharge: int) -> None:
    """0 -> 630 Wh after one hour at 700 W; 1,000 -> 300, and `ceil(700/0.9) = 778`; 1,000 -> 0, and 1,112 > 700 W."""
    env = started([10_000] * (len(actions) + 1), [0], battery_capacity_wh=1_000, battery_power_w=700,
                  battery_initial_permille=initial)  # fmt: skip
    for wish in [*actions, 1.0]:
        env.step(bids((0.0, 0.0, 0.0, wish)))
    assert env.settled is not None
    orders = env.settled.orders
    assert (int(orders.charge_wh), int(orders.discharge_wh)) == (charge, discharge)
    assert env.state.soc_wh.tolist() == [[initial]]


def test_comfort_ignores_the_quantity() -> None:
    for quantity in (-1.0, 1.0):
        env = started([10_000], [1_000], stage1="comfort")
        env.step(bids((1.0, quantity, 0.0)))
        assert env.settled is not None
        assert env.settled.orders.demand_wh.tolist() == [[1_333]]  # 40,030 / 30.03


def test_two_steps_of_a_learned_hour() -> None:
    """First the bid, with a reward of 0 and nothing settled; then the share of `d - d_min` that is offered."""
    env = started([10_000] * 2, [1_000], stage2="learned", shift_share_permille=0)
    first = env.step(bids((1.0, 1.0, 0.0, 1.0)))
    assert env.settled is None
    assert env.state.phase is Phase.RESCHEDULING
    assert first.reward.tolist() == [[0.0]]
    assert not bool(first.truncated.any())
    assert not bool(env.state.balances.any())
    seen = {name: field(env, first.observation, name) for name in ("stage", "stage1_demand_wh", "rule_reduction_wh")}
    assert seen == {"stage": [1], "stage1_demand_wh": [2_000], "rule_reduction_wh": [1_167]}
    assert field(env, first.observation, "dr_price_utok_per_wh") == [15_000]
    second = env.step(bids((-1.0, -1.0, 0.0, 0.5)))
    assert env.settled is not None
    assert env.settled.orders.demand_wh.tolist() == [[2_000]], "the bid of the first step stands"
    assert env.settled.accepted_wh.tolist() == [[1_500]]
    assert env.state.phase is Phase.BIDDING
    assert env.state.hour == 1
    assert field(env, second.observation, "stage") == [0]
    assert field(env, second.observation, "stage1_demand_wh") == [0]
    assert field(env, second.observation, "last_price_utok_per_wh") == [15_000]


@pytest.mark.parametrize("stage2", ["rule", "learned"])
def test_only_participants_reduce(stage2: str) -> None:
    load = [1_000] * 7
    counts = []
    for share in (0, 142, 143, 500, 999, 1000):
        env = started([10_000], load, participation_permille=share, stage2=stage2)
        counts.append(int(env.state.participates.sum()))
        for _ in range(env.params.steps_per_hour):
            env.step(torch.ones(1, 7, env.action_spec.size))
        assert env.settled is not None
        assert torch.equal(env.settled.accepted_wh > 0, env.state.participates)
    assert counts == [0, 0, 1, 3, 6, 7]


@pytest.mark.parametrize("stage2", ["rule", "learned"])
@pytest.mark.parametrize("wholesale", [-4_999, -5_000, -30_000])
def test_no_reduction_without_a_positive_price(stage2: str, wholesale: int) -> None:
    """At an import price of 1 there still is one; at 0 and below nobody is asked."""
    env = started([wholesale], [1_000], stage2=stage2)
    for _ in range(env.params.steps_per_hour):
        env.step(torch.ones(1, 1, env.action_spec.size))
    assert env.settled is not None
    assert int(env.settled.market.shortage_wh) == 2_000
    assert int(env.settled.market.dr_price) == max(0, wholesale + 5_000)
    assert bool(env.settled.offered_wh.any()) == (wholesale == -4_999)


def test_operator_chooses_alpha_per_lane() -> None:
    params = TwoStageDRParams(num_prosumers=2, operator=True, horizon_hours=2)
    env = BatchedTwoStageDR(params, num_envs=3)
    env.reset(0)
    env.step(torch.zeros(3, 2, 3), torch.tensor([1000, 1200, 3000]))
    assert env.settled is not None
    assert env.settled.market.alpha_permille.tolist() == [1000, 1200, 3000]
    env.step(torch.zeros(3, 2, 3))
    assert env.settled is not None
    assert env.settled.market.alpha_permille.tolist() == [params.alpha_permille] * 3


def test_states_are_never_changed_in_place() -> None:
    env = BatchedTwoStageDR(TwoStageDRParams(battery_capacity_wh=900, battery_power_w=500), num_envs=2)
    env.reset(0)
    for _ in range(3):
        state = env.state
        copies = {name: value.clone() for name, value in vars(state).items() if isinstance(value, Tensor)}
        actions = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 10, 4)).astype(np.float32))
        before = actions.clone()
        env.step(actions)
        assert torch.equal(actions, before)
        assert all(torch.equal(getattr(state, name), value) for name, value in copies.items())
