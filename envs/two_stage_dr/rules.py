"""The market's rules as the ledger's genesis block states them."""

from __future__ import annotations

from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.ledger.genesis import Rules
from gridmarl.scenarios.scenario import Scenario


def ledger_rules(params: TwoStageDRParams, scenario: Scenario, seed: int, lane: int = 0) -> Rules:
    """Rules of one lane, with accounts that start at zero."""
    return Rules(
        num_prosumers=params.num_prosumers,
        horizon_hours=params.horizon_hours,
        initial_balances=(0,) * (params.num_prosumers + 3),
        k_permille=params.k_permille,
        price_rule=params.price_rule,
        dr_settlement=params.dr_settlement,
        alpha_permille=None if params.operator else params.alpha_permille,
        penalty_permille=params.penalty_permille,
        shift_share_permille=params.shift_share_permille if params.has_shifting else 0,
        shift_deadline_hours=params.shift_deadline_hours if params.has_shifting else 0,
        battery_capacity_wh=params.battery_capacity_wh,
        battery_power_w=params.battery_power_w,
        battery_efficiency_permille=params.battery_efficiency_permille,
        battery_initial_wh=params.battery_initial_wh,
        credit_limit_utok=params.credit_limit_utok,
        seed=seed,
        lane=lane,
        scenario=scenario.name,
    )
