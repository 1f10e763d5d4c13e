"""The market's rules as the ledger's genesis block states them."""

from __future__ import annotations

from typing import Any

from gridmarl.clearing.uniform import PRICE_RULES
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.errors import ConfigError
from gridmarl.ledger.genesis import Rules
from gridmarl.ledger.keys import KeyRing
from gridmarl.scenarios.scenario import Scenario


def ledger_rules(
    params: TwoStageDRParams,
    scenario: Scenario,
    seed: int,
    lane: int = 0,
    *,
    keys: KeyRing | None = None,
    **sealing: Any,
) -> Rules:
    """Rules of one lane.

    Args:
        keys: whose public keys and addresses the rules name; None: the chain is unsigned, its accounts have none.
        sealing: fields of `Rules` that say who seals: consensus, validators, difficulty_bits, confirmations.

    Raises:
        ConfigError: a plug-in's mechanism clears the market; or the sealing is not allowed, or not that of the keys.
    """
    check_sealable(params)
    if keys is not None:
        sealing |= {"sealers": keys.public_keys, "addresses": keys.addresses}
    return Rules(
        num_prosumers=params.num_prosumers,
        horizon_hours=params.horizon_hours,
        initial_balances=(params.initial_balance_utok,) * params.num_prosumers + (0, 0, 0),
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
        finality=params.finality,
        finality_lag_hours=params.finality_lag_hours,
        local_credit_utok=params.local_credit_utok,
        credit_interest_ppm=params.credit_interest_ppm,
        seed=seed,
        lane=lane,
        scenario=scenario.name,
        **sealing,
    )


def check_sealable(params: TwoStageDRParams) -> None:
    """Refuse a ledger of what its replay could not check: it clears again by rules of its own, and has no plug-ins.

    Raises:
        ConfigError: a plug-in's mechanism clears the market.
    """
    if params.has_plugin_mechanism:
        raise ConfigError(
            f"price_rule: {params.price_rule!r} is a plug-in's, which the ledger's replay cannot run again; allowed in "
            f"a sealed ledger are {', '.join(PRICE_RULES)}"
        )
