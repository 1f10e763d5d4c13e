"""The configurations that every conformance test walks through."""

from __future__ import annotations

from typing import Any

CONFIGS: dict[str, dict[str, Any]] = {
    "default": {"horizon_hours": 24},
    "comfort": {"horizon_hours": 24, "stage1": "comfort"},
    "additive": {"horizon_hours": 24, "dr_settlement": "additive"},
    "learned": {"horizon_hours": 24, "stage2": "learned"},
    "marginal_pair": {"horizon_hours": 24, "price_rule": "marginal_pair"},
    "discrete": {"horizon_hours": 24, "action_space": "discrete"},
    "single_price": {"horizon_hours": 24, "single_price": True, "action_space": "discrete"},
    "battery": {"horizon_hours": 24, "battery_capacity_wh": 5_001, "battery_power_w": 1_999},
    "everything": {
        "horizon_hours": 30,
        "stage2": "learned",
        "action_space": "discrete",
        "price_levels": 3,
        "quantity_levels": 3,
        "battery_capacity_wh": 3_000,
        "battery_power_w": 1_500,
        "operator": True,
        "num_prosumers": 5,
        "credit_limit_utok": 10**15,
    },
    "operator": {"horizon_hours": 24, "operator": True, "num_prosumers": 4},
    "retail": {
        "horizon_hours": 24,
        "import_form": "retail",
        "export_form": "feed_in",
        "retail_price_utok_per_wh": 25_000,
        "feed_in_tariff_utok_per_wh": 5_000,
    },
    "no_shift": {"horizon_hours": 24, "shift_share_permille": 0, "forecast_error_permille": 0},
    "one_prosumer": {"horizon_hours": 12, "num_prosumers": 1},
    "one_hour": {"horizon_hours": 1},
    "all_take_part": {"horizon_hours": 24, "participation_permille": 1000, "shift_deadline_hours": 1},
}
