"""Markets that Hypothesis draws, and policies that are no agents: shared by the tests against oracle and plan."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from torch import Tensor

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.protocols import Transition
from gridmarl.scenarios.scenario import Scenario, toy_scenario
from tests.envs.helpers import random_actions

MAX_HOURS = 6


@st.composite
def drawn_params(draw: st.DrawFn, max_prosumers: int = 4) -> TwoStageDRParams:
    """Any small market with prices that follow wholesale."""
    low, high = sorted(draw(st.tuples(st.integers(0, 1000), st.integers(0, 2500))))
    values: dict[str, Any] = {
        "num_prosumers": draw(st.integers(1, max_prosumers)),
        "horizon_hours": draw(st.integers(1, MAX_HOURS)),
        "stage1": draw(st.sampled_from(["priced", "priced", "comfort"])),
        "stage2": draw(st.sampled_from(["rule", "learned"])),
        "dr_settlement": draw(st.sampled_from(["two_settlement", "additive"])),
        "price_rule": draw(st.sampled_from(["uniform", "marginal_pair"])),
        "k_permille": draw(st.integers(0, 1000)),
        "alpha_permille": draw(st.integers(1000, 4000)),
        "participation_permille": draw(st.sampled_from([0, 600, 1000])),
        "shift_share_permille": draw(st.sampled_from([0, 333, 1000])),
        "shift_deadline_hours": draw(st.integers(0, 4)),
        "discomfort_utok_per_wh": draw(st.sampled_from([0, 500])),
        "forecast_error_permille": draw(st.sampled_from([0, 100, 2000])),
        "penalty_permille": draw(st.sampled_from([0, 100, 2500])),
        "import_adder_utok_per_wh": draw(st.sampled_from([0, 3, 8_000])),
        "export_margin_utok_per_wh": draw(st.sampled_from([0, 2, 1_000])),
        "elasticity_permille": draw(st.sampled_from([20, 300, 3_000])),
        "reference_price_utok_per_wh": draw(st.sampled_from([0, 1, 9_000])),
        "demand_min_permille": low,
        "demand_max_permille": high,
        "pv_scale_permille": draw(st.sampled_from([0, 1000, 3000])),
        "action_space": draw(st.sampled_from(["continuous", "discrete"])),
        "single_price": draw(st.booleans()),
        "price_levels": 3,
        "quantity_levels": 4,
    }
    if draw(st.booleans()):
        values |= {
            "battery_capacity_wh": draw(st.integers(1, 4_000)),
            "battery_power_w": draw(st.integers(1, 3_000)),
            "battery_efficiency_permille": draw(st.sampled_from([500, 900, 999, 1000])),
            "battery_initial_permille": draw(st.sampled_from([0, 333, 1000])),
        }
    return TwoStageDRParams(**values)


@st.composite
def drawn_scenarios(draw: st.DrawFn) -> Scenario:
    """Prices of either sign, homes with and without load and sun."""
    price = st.sampled_from([-100_000, -3_000, 0, 1, 5_000, 12_000, 300_000]) | st.integers(-15_000, 30_000)
    energy = st.sampled_from([0, 1]) | st.integers(0, 3_000)
    homes = draw(st.integers(1, 3))
    rows = st.lists(st.lists(energy, min_size=homes, max_size=homes), min_size=MAX_HOURS, max_size=MAX_HOURS)
    return toy_scenario(
        draw(st.lists(price, min_size=MAX_HOURS, max_size=MAX_HOURS)),
        draw(rows),
        draw(rows),
        load_ratio_permille=draw(st.sampled_from([(1000,), (400, 1000, 1600)])),
        pv_ratio_permille=draw(st.sampled_from([(1000,), (0, 2000)])),
    )


class Scripted:
    """Random actions, kept as they were played."""

    name, learns = "scripted", False

    def __init__(self, env: BatchedTwoStageDR, rng: np.random.Generator, extreme: float = 0.3) -> None:
        self._env, self._rng, self._extreme = env, rng, extreme
        self.played: list[Tensor] = []

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Random actions of all prosumers."""
        self.played.append(random_actions(self._env, self._rng, extreme=self._extreme))
        return self.played[-1]

    def learn(self, transition: Transition) -> dict[str, float]:
        """Nothing to learn."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""
