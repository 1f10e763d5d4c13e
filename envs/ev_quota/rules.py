"""What EVQuota hands to the ledger: the rules of a market for its genesis block, and the record of each half hour."""

from __future__ import annotations

from typing import Any

import torch

from gridmarl.contracts.quota_sums import deposit_due, tariff_by_half_hour
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario
from gridmarl.envs.ev_quota.step import Settled
from gridmarl.ledger.half_hour import HalfHourRecord
from gridmarl.ledger.keys import KeyRing
from gridmarl.ledger.quota_genesis import QuotaRules


def quota_rules(
    params: EVQuotaParams,
    scenario: EVScenario,
    seed: int,
    lane: int = 0,
    *,
    keys: KeyRing | None = None,
    **sealing: Any,
) -> QuotaRules:
    """Rules of one lane.

    Args:
        keys: whose public keys and addresses the rules name; None: the chain is unsigned, its accounts have none.
        sealing: fields of `QuotaRules` that say who seals: consensus, validators, difficulty_bits, confirmations.

    Raises:
        ConfigError: the sealing is not allowed, or not that of the keys.
    """
    if keys is not None:
        sealing |= {"sealers": keys.public_keys, "addresses": keys.addresses}
    return QuotaRules(
        num_stations=params.num_stations,
        horizon_half_hours=params.horizon_half_hours,
        tariff_utok_per_wh=tuple(tariff_by_half_hour(scenario.start_slot, params.horizon_half_hours)),
        initial_balances=(0,) * (params.num_stations + 1),
        auction=params.auction,
        deposit_rate_utok_per_wh=params.deposit_rate_utok_per_wh,
        deposit_budget_utok=params.deposit_budget_utok,
        penalty_rate_utok_per_wh=params.penalty_rate_utok_per_wh,
        overuse=params.overuse,
        forfeit_permille=params.forfeit_permille,
        floor_utok_per_wh=params.floor_utok_per_wh,
        cap_utok_per_wh=params.cap_utok_per_wh,
        seed=seed,
        lane=lane,
        scenario=scenario.name,
        **sealing,
    )


def half_hour_record(params: EVQuotaParams, settled: Settled) -> HalfHourRecord:
    """What the ledger needs of a settled half hour."""
    declared, orders, trades, charges = settled.declared, settled.orders, settled.trades, settled.charges
    beyond = settled.used_wh - settled.quota_wh
    over = beyond.clamp(min=0)
    amounts = (trades.payment_utok, trades.income_utok, *charges)
    return HalfHourRecord(
        period=settled.half_hour,
        margin_wh=settled.margin_wh,
        actual_margin_wh=settled.actual_margin_wh,
        tariff=settled.tariff.expand_as(settled.margin_wh),
        scarce=declared.scarce.to(torch.int64),
        declared_wh=declared.declared_wh,
        deposit_utok=deposit_due(declared.declared_wh, params.terms),
        first_quota_wh=declared.quota_wh,
        order_price=orders.price,
        buy_wh=orders.buy_wh,
        sell_wh=orders.sell_wh,
        used_wh=settled.used_wh,
        final_quota_wh=settled.quota_wh,
        flow_wh=torch.stack((trades.buy_fill_wh, trades.sell_fill_wh, settled.used_wh, over, over - beyond)),
        flow_utok=torch.stack(amounts),
        balances=settled.balances,
    )
