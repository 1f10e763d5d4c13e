"""Small, busy markets that every test walks through: the day begins at 16:00, quotas are scarce most of the time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario, ev_scenario

_SMALL: dict[str, Any] = {"num_stations": 4, "horizon_half_hours": 10, "transformer_capacity_w": 50_000}
CONFIGS: dict[str, dict[str, Any]] = {
    "default": _SMALL,
    "uniform": _SMALL | {"auction": "uniform"},
    "marginal_pair": _SMALL | {"auction": "marginal_pair", "forfeit_permille": 333},
    "overuse": _SMALL | {"overuse": True, "penalty_rate_utok_per_wh": 777_777},
    "discrete": _SMALL | {"action_space": "discrete"},
    "discrete_overuse": _SMALL | {"action_space": "discrete", "overuse": True, "declare_levels": 90},
    "budget": _SMALL | {"deposit_budget_utok": 400_000_000, "forfeit_permille": 1000, "declare_factor_permille": 5000},
    "truthful_only": _SMALL | {"declare_factor_permille": 1000, "floor_utok_per_wh": 5_000, "cap_utok_per_wh": 60_001},
    "no_capacity": _SMALL | {"transformer_capacity_w": 0},
    "plenty": _SMALL | {"transformer_capacity_w": 10_000_000},
    "one_station": _SMALL | {"num_stations": 1, "transformer_capacity_w": 40_000},
    "one_half_hour": _SMALL | {"horizon_half_hours": 1},
}


@lru_cache(maxsize=4)
def evening(stations: int) -> EVScenario:
    """Sessions of a day that begins at 16:00, when many arrive; forecasts of the load are off by 5 %."""
    return ev_scenario(
        stations, sessions_per_day_permille=9_000, conventional_peak_w=60_000, forecast_error_permille=50, start_slot=32
    )


def batched(name: str, num_envs: int, **kwargs: Any) -> BatchedEVQuota:
    """The batched environment of a named configuration."""
    params = EVQuotaParams.from_dict(CONFIGS[name])
    return BatchedEVQuota(params, evening(params.num_stations), num_envs=num_envs, **kwargs)


def random_actions(env: BatchedEVQuota, rng: np.random.Generator) -> Tensor:
    """Actions for all lanes, multiples of 1/256 in continuous spaces, a fifth of the entries at -1, 0 or 1.

    Every other time all prices are equal, so that who trades is a matter of ties.
    """
    shape = (env.num_envs, env.num_agents)
    if env.action_spec.num_actions:
        return torch.from_numpy(rng.integers(env.action_spec.num_actions, size=shape))
    size = (*shape, env.action_spec.size)
    values = rng.integers(-256, 257, size) / 256
    mixed = np.where(rng.random(size) < 0.2, rng.integers(-1, 2, size), values)
    if rng.random() < 0.5:
        mixed[..., 2] = 0.25
    return torch.from_numpy(mixed.astype(np.float32))
