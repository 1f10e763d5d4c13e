"""Bad input, one specific error each: it names the field, the value seen and what is allowed."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from gridmarl.contracts.two_stage import Phase
from gridmarl.envs.two_stage_dr import step as stages
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.env import TwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import State
from gridmarl.errors import ActionError, ConfigError, DataError, GridmarlError, LedgerError, OverdraftError
from gridmarl.scenarios.scenario import Scenario, toy_scenario

BATTERY = {"battery_capacity_wh": 1_000, "battery_power_w": 500}
PRICE = 10_000_000
# field, least, greatest, what else it takes for these two to be allowed
RANGES: list[tuple[str, int, int, dict[str, Any]]] = [
    ("num_prosumers", 1, 100_000, {}),
    ("horizon_hours", 1, 8_784, {}),
    ("k_permille", 0, 1_000, {}),
    ("alpha_permille", 1_000, 100_000, {}),
    ("alpha_max_permille", 1_000, 100_000, {}),
    ("participation_permille", 0, 1_000, {}),
    ("shift_share_permille", 0, 1_000, {}),
    ("shift_deadline_hours", 0, 168, {}),
    ("discomfort_utok_per_wh", 0, PRICE, {}),
    ("forecast_error_permille", 0, 5_000, {}),
    ("penalty_permille", 0, 10_000, {}),
    ("import_adder_utok_per_wh", 0, PRICE, {}),
    ("retail_price_utok_per_wh", -PRICE, PRICE, {}),
    ("export_margin_utok_per_wh", 0, PRICE, {}),
    ("feed_in_tariff_utok_per_wh", -PRICE, PRICE, {}),
    ("elasticity_permille", 1, 10_000, {}),
    ("reference_price_utok_per_wh", 0, PRICE, {}),
    ("demand_min_permille", 0, 10_000, {"demand_max_permille": 10_000}),
    ("demand_max_permille", 0, 10_000, {"demand_min_permille": 0}),
    ("pv_scale_permille", 0, 100_000, {}),
    ("battery_capacity_wh", 0, 100_000_000, {}),
    ("battery_power_w", 0, 100_000_000, {}),
    ("battery_efficiency_permille", 1, 1_000, {}),
    ("battery_initial_permille", 0, 1_000, {}),
    ("price_levels", 1, 101, {}),
    ("quantity_levels", 1, 101, {}),
    ("battery_levels", 1, 101, {}),
    ("reduction_levels", 2, 101, {}),
    ("initial_balance_utok", 0, 10**18, {}),
    ("finality_lag_hours", 0, 1_000, {"finality": "strict"}),
    ("credit_interest_ppm", 0, 1_000_000, {"finality": "strict"}),
]
HINTS = get_type_hints(TwoStageDRParams)
CHOICES = {
    "stage1": "priced, comfort",
    "stage2": "rule, learned",
    "dr_settlement": "two_settlement, additive",
    "price_rule": "uniform, marginal_pair",
    "import_form": "wholesale, retail",
    "export_form": "wholesale, feed_in",
    "action_space": "continuous, discrete",
    "finality": "instant, strict",
}


def refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        TwoStageDRParams.from_dict(values)


def test_every_field_is_tested_here() -> None:
    tested = {name for name, *_ in RANGES} | set(CHOICES) | {"operator", "single_price", "credit_limit_utok"}
    assert {item.name for item in fields(TwoStageDRParams)} == tested | {"local_credit_utok"}  # test_finality.py


@pytest.mark.parametrize(("name", "least", "greatest", "others"), RANGES)
def test_ranges(name: str, least: int, greatest: int, others: dict[str, Any]) -> None:
    for value in (least, greatest):
        both = {name: value} | others
        if name in BATTERY:
            both = dict.fromkeys(BATTERY, value)
        assert getattr(TwoStageDRParams.from_dict(both), name) == value
    for value in (least - 1, greatest + 1, 10**30, -(10**30)):
        refused({name: value} | others, f"{name}: {value}, allowed are {least} .. {greatest}")


@pytest.mark.parametrize("name", [name for name, *_ in RANGES])
def test_only_python_integers(name: str) -> None:
    """A float that slips into integer money would round silently; NumPy's integers overflow silently."""
    for value in (1.0, True, np.int64(1), "1", None, float("nan"), [1], torch.tensor(1)):
        refused({name: value}, f"{name}: {value!r}, allowed is one int")


@pytest.mark.parametrize("name", ["operator", "single_price"])
def test_only_booleans(name: str) -> None:
    for value in (1, 0, "true", None, np.bool_(True)):
        refused({name: value}, f"{name}: {value!r}, allowed is one bool")


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_only_named_choices(name: str) -> None:
    for value in ("", "Priced", 0, None, True):
        refused({name: value}, f"{name}: {value!r}, allowed are {CHOICES[name]}")
    for value in CHOICES[name].split(", "):
        assert getattr(TwoStageDRParams.from_dict({name: value}), name) == value


def test_credit_limit() -> None:
    for value in (1.5, True, np.int64(3), "none"):
        refused({"credit_limit_utok": value}, f"credit_limit_utok: {value!r}, allowed is an integer or null")
    refused({"credit_limit_utok": -1}, "credit_limit_utok: -1, allowed is 0 or more, or null")
    assert TwoStageDRParams(credit_limit_utok=0).credit_limit_utok == 0


def test_unknown_key_lists_the_known_ones() -> None:
    refused({"num_prosumer": 3}, "num_prosumer: unknown key, allowed are num_prosumers, horizon_hours, ")
    refused({1: 3}, "1: unknown key")  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"^alpha: unknown key"):
        TwoStageDR(alpha=1200)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"demand_min_permille": 1401},
            "demand_min_permille: 1401, allowed is at most demand_max_permille (1400)",
        ),
        (
            {"battery_capacity_wh": 5},
            "battery_power_w: 0 with battery_capacity_wh 5; allowed are both positive, or both zero (no battery)",
        ),
        ({"battery_power_w": 7}, "battery_power_w: 7 with battery_capacity_wh 0; allowed are both positive"),
        (
            {
                "import_form": "retail",
                "export_form": "feed_in",
                "retail_price_utok_per_wh": 10,
                "feed_in_tariff_utok_per_wh": 11,
            },
            "retail_price_utok_per_wh: 10, allowed is at least feed_in_tariff_utok_per_wh (11)",
        ),
    ],
)
def test_fields_that_contradict_each_other(values: dict[str, Any], message: str) -> None:
    refused(values, message)


def test_a_dictionary_there_and_back() -> None:
    params = TwoStageDRParams.from_dict({"num_prosumers": 3, "stage2": "learned", "credit_limit_utok": 5} | BATTERY)
    assert TwoStageDRParams.from_dict(params.to_dict()) == params


def spiky(price: int = 40_000) -> Scenario:
    return toy_scenario([5_000, 5_000, price, 5_000], [[1_000]] * 4, [[500]] * 4)


@pytest.mark.parametrize(
    ("values", "wholesale", "seen"),
    [
        ({"import_form": "retail", "retail_price_utok_per_wh": 25_000}, 40_000, "25000 < 39000"),
        ({"export_form": "feed_in", "feed_in_tariff_utok_per_wh": 9_000}, -1_000, "7000 < 9000"),
    ],
)
def test_a_spike_that_turns_the_prices_round(values: dict[str, Any], wholesale: int, seen: str) -> None:
    """One price fixed, the other following wholesale: where they cross, at the start of the episode."""
    env = BatchedTwoStageDR(TwoStageDRParams.from_dict({"horizon_hours": 4} | values), spiky(wholesale), num_envs=2)
    message = f"^import price below export price in hour 2, lane 0: {seen} µtok/Wh; allowed is import >= export"
    with pytest.raises(ConfigError, match=message):
        env.reset(0)
    before = {"horizon_hours": 2} | values
    BatchedTwoStageDR(TwoStageDRParams.from_dict(before), spiky(wholesale)).reset(0)


def test_books_that_could_overflow() -> None:
    """3e9 Wh on one side is allowed, one Wh per prosumer more is not."""
    scenario = toy_scenario([1], [[60_000_000]])
    flat = {"demand_max_permille": 1000, "shift_share_permille": 0, "forecast_error_permille": 0, "horizon_hours": 1}
    BatchedTwoStageDR(TwoStageDRParams.from_dict(flat | {"num_prosumers": 50}), scenario)
    with pytest.raises(
        ConfigError,
        match=r"^num_prosumers: 51 prosumers with orders of up to 60000000 Wh, allowed is a book of at most 3000000000",
    ):
        BatchedTwoStageDR(TwoStageDRParams.from_dict(flat | {"num_prosumers": 51}), scenario)
    battery = {"battery_capacity_wh": 1_000, "battery_power_w": 1}
    shifting = {"shift_share_permille": 1, "shift_deadline_hours": 1}
    for more, order in ((battery, 60_001_111), (shifting, 120_000_000)):
        params = TwoStageDRParams.from_dict(flat | more | {"num_prosumers": 50})
        with pytest.raises(ConfigError, match=f"^num_prosumers: 50 prosumers with orders of up to {order} Wh"):
            BatchedTwoStageDR(params, scenario)


def test_prices_that_could_overflow() -> None:
    scenario = toy_scenario([-9_999_000], [[1]])
    BatchedTwoStageDR(TwoStageDRParams(import_adder_utok_per_wh=0), scenario)
    with pytest.raises(ConfigError, match=r"^prices of up to 10000001 µtok/Wh, allowed are at most 10000000"):
        BatchedTwoStageDR(TwoStageDRParams(import_adder_utok_per_wh=1), scenario)


def test_utilities_that_could_overflow() -> None:
    """`gamma d²` grows as the elasticity falls."""
    scenario = toy_scenario([1_000_000], [[100_000]])
    params = {"num_prosumers": 1, "horizon_hours": 1, "demand_max_permille": 10_000}
    with pytest.raises(ConfigError, match=r"^elasticity_permille: 1 with consumption of up to 1000000 Wh"):
        BatchedTwoStageDR(TwoStageDRParams(elasticity_permille=1, **params), scenario)
    BatchedTwoStageDR(TwoStageDRParams(elasticity_permille=300, **params), scenario)


def test_the_largest_allowed_market_does_not_overflow() -> None:
    """Bounds of the units page at once: every amount exact, checked against Python's integers."""
    scenario = toy_scenario([10_000_000], [[50_000_000]], [[10_000_000]])
    params = TwoStageDRParams(
        num_prosumers=50, horizon_hours=2, import_adder_utok_per_wh=0, export_margin_utok_per_wh=0,
        demand_max_permille=1000, shift_share_permille=0, forecast_error_permille=0, pv_scale_permille=1000,
        participation_permille=0,
    )  # fmt: skip
    env = BatchedTwoStageDR(params, scenario, num_envs=1, auto_reset=False)
    env.reset(0)
    env.step(torch.ones(1, 50, 3))
    assert env.settled is not None
    net = 50 * 40_000_000 * 10_000_000
    assert env.state.balances[-1].tolist() == [net]
    assert env.state.balances[:-3].tolist() == [[-net // 50]] * 50


def test_no_lanes() -> None:
    for count in (0, -1):
        with pytest.raises(ConfigError, match=f"^num_envs: {count}, allowed is 1 or more"):
            BatchedTwoStageDR(num_envs=count)


def test_step_before_reset() -> None:
    env = BatchedTwoStageDR(TwoStageDRParams(num_prosumers=2))
    with pytest.raises(ConfigError, match=r"^state: none yet, call reset\(seed\) first"):
        env.step(torch.zeros(1, 2, 3))
    with pytest.raises(ConfigError, match=r"^state: none yet"):
        env.state_dict()
    with pytest.raises(ActionError, match=r"call reset\(\) first"):
        TwoStageDR().step({})


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"^seed = {seed}: allowed are 0 <= seed < {2**64}"):
        BatchedTwoStageDR().reset(seed)
    with pytest.raises(ConfigError, match=f"^seed = {seed}"):
        TwoStageDR().reset(seed=seed)


def test_window_shorter_than_the_horizon() -> None:
    fixed = spiky()
    object.__setattr__(fixed, "periodic", False)
    with pytest.raises(DataError, match=r"^horizon_hours = 5: allowed are 1 \.\. 4"):
        BatchedTwoStageDR(TwoStageDRParams(horizon_hours=5), fixed).reset(0)


def test_an_hour_settles_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What settles an hour, called again with the state after it, of the next bidding or after the end, refuses."""
    honest: Any = stages.settle
    seen: list[tuple[Any, ...]] = []

    def watched(*args: Any) -> Any:
        seen.append(args)
        return honest(*args)

    monkeypatch.setattr(stages, "settle", watched)
    params = TwoStageDRParams(num_prosumers=2, horizon_hours=2, stage2="learned")
    env = BatchedTwoStageDR(params, auto_reset=False)
    env.reset(0)
    for hour, after in enumerate((Phase.BIDDING, Phase.CLOSED)):
        env.step(torch.zeros(1, 2, 4))
        assert env.state.phase is Phase.RESCHEDULING
        assert len(seen) == hour, "the first step of an hour moves no money"
        env.step(torch.zeros(1, 2, 4))
        assert env.state.phase is after
        again = [env.state if isinstance(item, State) else item for item in seen[-1]]
        with pytest.raises(LedgerError, match=f"^contract phase: {after.name}, allowed for this call: RESCHEDULING"):
            honest(*again)
    with pytest.raises(LedgerError, match=r"^contract phase: CLOSED, allowed for this call: BIDDING"):
        env.step(torch.zeros(1, 2, 4))


def test_overdraft_names_the_limit() -> None:
    scenario = toy_scenario([5_000], [[1_000, 1_000]])
    market = TwoStageDR(scenario, num_prosumers=2, horizon_hours=3, credit_limit_utok=1_000)
    market.reset(seed=0)
    with pytest.raises(OverdraftError, match=r"^an account fell below -1000 µtok \(credit_limit_utok\)"):
        market.step({name: np.zeros(3, np.float32) for name in market.agents})


def test_the_limit_itself_is_allowed() -> None:
    """1,000 Wh at 13,000 µtok/Wh, nobody sells: exactly 13,000,000 µtok are owed."""
    scenario = toy_scenario([5_000], [[1_000]])
    for limit, overdrawn in ((13_000_000, False), (12_999_999, True)):
        params = TwoStageDRParams(
            num_prosumers=1, horizon_hours=1, credit_limit_utok=limit, demand_min_permille=1000,
            demand_max_permille=1000,
        )  # fmt: skip
        env = BatchedTwoStageDR(params, scenario, auto_reset=False)
        env.reset(0)
        env.step(torch.zeros(1, 1, 3))
        assert env.state.balances[0].tolist() == [-13_000_000]
        assert env.state.overdrawn.tolist() == [overdrawn]


def test_all_are_errors_that_the_command_line_prints() -> None:
    assert all(issubclass(kind, GridmarlError) for kind in (ConfigError, ActionError, DataError, LedgerError))
    assert set(HINTS) == {item.name for item in fields(TwoStageDRParams)}
