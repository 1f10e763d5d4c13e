"""Small, busy markets that every test walks through."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.scenarios.scenario import Scenario, toy_scenario

_SMALL: dict[str, Any] = {"num_prosumers": 6, "horizon_hours": 8, "portfolio_wh": 15_000, "battery_capacity_wh": 5_001}
_BOTH = _SMALL | {"variant": "flexibility", "request_permille": 700}
CONFIGS: dict[str, dict[str, Any]] = {
    "default": _SMALL,
    "uniform": _SMALL | {"payment_rule": "uniform", "assets": "load", "return_hours": 1},
    "vcg": _SMALL | {"payment_rule": "vcg", "num_aggregators": 3},
    "flexibility": _BOTH,
    "flexibility_vcg": _BOTH | {"payment_rule": "vcg", "load_power_w": 600},
    "flexibility_uniform": _BOTH | {"payment_rule": "uniform", "assets": "photovoltaic"},
    "mcafee": _BOTH | {"payment_rule": "mcafee", "num_aggregators": 3, "portfolio_step_permille": 0},
    "first_rejected": _BOTH | {"payment_rule": "first_rejected", "assets": "battery", "battery_return_w": 3_000},
    "discrete": _SMALL | {"action_space": "discrete"},
    "discrete_flexibility": _BOTH | {"action_space": "discrete", "price_levels": 3, "payment_rule": "last_accepted"},
    "loads": _BOTH | {"assets": "load", "return_hours": 3, "shiftable_permille": 1_500},
    "wild": _BOTH
    | {"deviation_persistence_permille": 1000, "deviation_volatility_permille": 1000, "request_max_wh": 30_001},
    "quiet": _SMALL | {"deviation_volatility_permille": 0, "forecast_error_permille": 0},
    "large": _BOTH
    | {
        "portfolio_wh": 2_000_000,
        "portfolio_step_permille": 0,
        "forecast_error_permille": 1000,
        "request_max_wh": 4_000_000,
        "battery_capacity_wh": 10_000_000,
        "battery_power_w": 10_000_000,
        "shiftable_permille": 10_000,
        "load_power_w": 10_000_000,
        "return_hours": 168,
        "cap_utok_per_wh": 10_000_000,
    },
    "one_of_each": _BOTH | {"num_aggregators": 1, "num_prosumers": 1, "horizon_hours": 3},
}
WHOLESALE = [6_000, 21_000, -9_000, 2_000, 0, 7_777]
LOAD = [[1_400, 900, 300, 40], [2_000, 1_100, 0, 700], [700, 650, 500, 333], [1_500, 800, 900, 901]] * 2
PV = [[0, 400, 1_900, 0], [0, 300, 900, 0], [0, 1_500, 2_500, 0], [0, 0, 200, 0]] * 2


@lru_cache(maxsize=1)
def scenario() -> Scenario:
    """Six prices, one of them negative; four homes, two of them with photovoltaics; loads and weather vary."""
    return toy_scenario(
        [*WHOLESALE, 4_000, 9_000],
        LOAD,
        PV,
        load_ratio_permille=(700, 1000, 1300),
        pv_ratio_permille=(900, 1100),
    )


def batched(name: str, num_envs: int, **kwargs: Any) -> BatchedAggregatorAuction:
    """The batched environment of a named configuration."""
    return BatchedAggregatorAuction(
        AggregatorAuctionParams.from_dict(CONFIGS[name]), scenario(), num_envs=num_envs, **kwargs
    )


def random_actions(env: BatchedAggregatorAuction, rng: np.random.Generator) -> Tensor:
    """Actions for all lanes, multiples of 1/256 in continuous spaces, a fifth of the entries at -1, 0 or 1.

    Bids tend to be high and offers low, so that there is trade; every other time all asks are equal.
    """
    shape = (env.num_envs, env.num_agents)
    if env.action_spec.num_actions:
        return torch.from_numpy(rng.integers(env.action_spec.num_actions, size=shape))
    size = (*shape, env.action_spec.size)
    values = rng.integers(-256, 257, size) / 256
    mixed = np.where(rng.random(size) < 0.2, rng.integers(-1, 2, size), values)
    buyers = env.params.num_aggregators
    mixed[:, :buyers, 0] = np.abs(mixed[:, :buyers, 0])
    if rng.random() < 0.5:
        mixed[:, buyers:, 0::2] = -0.25
    return torch.from_numpy(mixed.astype(np.float32))
