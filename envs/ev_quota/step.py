"""One step of EVQuota as named stages: declare and allocate; trade, charge, pay, advance. Pure; docs/ev-quota.md.

All tensors int64, lanes last (`N` stations, `E` lanes); no host synchronisation. Sums are those of the contract
(`gridmarl.contracts.quota_sums`), so that an episode is what its rounds would be, played one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.clearing.pairwise import Trades
from gridmarl.clearing.quota import allocate
from gridmarl.clearing.registry import get_auction
from gridmarl.contracts.errors import IllegalTransitionError
from gridmarl.contracts.quota import QuotaPhase
from gridmarl.contracts.quota_sums import Charges, auction_book, final_quota, round_balances, round_charges
from gridmarl.envs.base.state import StepResult
from gridmarl.envs.ev_quota.actions import HALF_BITS, HALF_LEVELS, Levels, pick, quantise
from gridmarl.envs.ev_quota.observe import most_declared
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.state import Declared, Sessions, Situation, State
from gridmarl.envs.ev_quota.vehicles import share_out, short_value, situation_at, unserved_wh
from gridmarl.preferences import floor_div
from gridmarl.protocols import ActionSpec


class Orders(NamedTuple):
    """What is bid for quota; int64 `[N, E]`, 0 Wh where nothing is scarce."""

    price: Tensor
    buy_wh: Tensor
    sell_wh: Tensor


class Settled(NamedTuple):
    """Everything that happened in a half hour; int64 `[N, E]` unless said otherwise."""

    half_hour: int
    margin_wh: Tensor  # [E] published
    actual_margin_wh: Tensor  # [E]
    tariff: Tensor  # [] µtok/Wh
    situation: Situation
    declared: Declared
    orders: Orders
    trades: Trades
    price: Tensor  # [E] mean price of this auction, 0 without trade
    quota_wh: Tensor  # after the auction
    used_wh: Tensor
    delivered_wh: Tensor  # [M, N, E] of it, each session's
    value_utok: Tensor
    charges: Charges
    unserved_wh: Tensor
    unserved_utok: Tensor
    received_utok: Tensor  # change of each station's account
    balances: Tensor  # [N+1, E] after the half hour

    @property
    def reward_utok(self) -> Tensor:
        """Value delivered, less what is unserved, plus the change of the account."""
        return self.value_utok - self.unserved_utok + self.received_utok

    @property
    def overload_wh(self) -> Tensor:
        """Energy beyond what the transformer could carry, `[E]`."""
        return (self.used_wh.sum(0) - self.actual_margin_wh).clamp(min=0)


def step(
    params: EVQuotaParams, spec: ActionSpec, state: State, actions: Tensor, keep_accounts: bool = True
) -> tuple[State, StepResult[Settled]]:
    """Advance all lanes by one step.

    Args:
        actions: `[E, N]` int64 or `[E, N, 4]` float32, see `actions.py`.
        keep_accounts: update the balances; else they stay as they are.

    Raises:
        IllegalTransitionError: the episode has ended.
    """
    levels, clamped = quantise(spec, actions)
    state = state.with_changes(clamped_actions=state.clamped_actions + clamped)
    if state.phase is QuotaPhase.DECLARING:
        state = state.with_changes(declared=declare(params, state, levels), phase=QuotaPhase.TRADING)
        return state, StepResult(torch.zeros_like(state.situation.urgent_wh), False, None)
    if state.phase is not QuotaPhase.TRADING:
        raise IllegalTransitionError(f"step in state {state.phase.name}; allowed is after reset")
    last = state.half_hour == params.horizon_half_hours - 1
    settled = settle(params, state, levels, last, keep_accounts)
    return advance(state, last, settled), StepResult(settled.reward_utok, last, settled)


def declare(params: EVQuotaParams, state: State, levels: Levels) -> Declared:
    """Step 1: declarations, at least the urgent energy if the limit allows it, and their quotas."""
    own = state.situation
    most = most_declared(params, own)
    declared = pick(levels.declare, torch.minimum(own.urgent_wh, most), most)
    outcome = allocate(declared, state.margin_wh.select(0, state.half_hour), state.half_hour)
    worth = short_value(state.sessions, state.remaining_wh, state.half_hour, outcome.quota)
    return Declared(declared, outcome.quota, outcome.scarce, worth)


def collect_orders(params: EVQuotaParams, state: State, levels: Levels) -> Orders:
    """Step 2: a station sells at most its quota, and buys at most what its vehicles could use beyond it."""
    assert state.declared is not None
    quota, scarce = state.declared.quota_wh, state.declared.scarce
    wish = levels.trade - HALF_LEVELS
    room = (state.situation.possible_wh - quota).clamp(min=0)
    return Orders(
        price=pick(levels.price, params.floor_utok_per_wh, params.cap_utok_per_wh),
        buy_wh=((room * wish.clamp(min=0)) >> HALF_BITS) * scarce,
        sell_wh=((quota * (-wish).clamp(min=0)) >> HALF_BITS) * scarce,
    )


def used_energy(params: EVQuotaParams, levels: Levels, possible_wh: Tensor, quota_wh: Tensor) -> Tensor:
    """Step 2: what each station charges, given its final quota."""
    within = torch.minimum(possible_wh, quota_wh)
    if not params.overuse:
        return pick(levels.charge, 0, within)
    wish = levels.charge - HALF_LEVELS
    kept = (within * (HALF_LEVELS + wish.clamp(max=0))) >> HALF_BITS
    return kept + (((possible_wh - within) * wish.clamp(min=0)) >> HALF_BITS)


def settle(params: EVQuotaParams, state: State, levels: Levels, last: bool, keep_accounts: bool = True) -> Settled:
    """Step 2: auction, charging, and all payments of the half hour."""
    assert state.declared is not None
    terms, now, own = params.terms, state.half_hour, state.situation
    orders = collect_orders(params, state, levels)
    bids, offers = (torch.stack((orders.price, wh)) for wh in (orders.buy_wh, orders.sell_wh))
    trades = get_auction(terms.auction)(*auction_book(bids, offers, terms), now)
    quota = final_quota(state.declared.quota_wh, trades)
    used = used_energy(params, levels, own.possible_wh, quota)
    delivered = share_out(state.sessions, state.remaining_wh, now, used)
    tariff = state.tariff.select(0, now)
    charges = round_charges(used, quota, tariff, terms)
    unserved = unserved_wh(state.sessions, state.remaining_wh - delivered, now, last).sum(0)
    received = trades.income_utok - trades.payment_utok - charges.total_utok
    balances = round_balances(state.balances, trades, charges) if keep_accounts else state.balances
    return Settled(
        half_hour=now,
        margin_wh=state.margin_wh.select(0, now),
        actual_margin_wh=state.actual_margin_wh.select(0, now),
        tariff=tariff,
        situation=own,
        declared=state.declared,
        orders=orders,
        trades=trades,
        price=floor_div(trades.payment_utok.sum(0), trades.volume_wh.clamp(min=1)),
        quota_wh=quota,
        used_wh=used,
        delivered_wh=delivered,
        value_utok=_value(state.sessions, delivered),
        charges=charges,
        unserved_wh=unserved,
        unserved_utok=unserved * params.unserved_utok_per_wh,
        received_utok=received,
        balances=balances,
    )


def _value(sessions: Sessions, delivered_wh: Tensor) -> Tensor:
    return (delivered_wh * sessions.value).sum(0)


def advance(state: State, last: bool, settled: Settled) -> State:
    """Vehicles keep what they got; the next half hour begins, or the episode ends."""
    remaining = state.remaining_wh - settled.delivered_wh
    following = state.half_hour + 1
    return state.with_changes(
        half_hour=following,
        phase=QuotaPhase.SETTLED if last else QuotaPhase.DECLARING,
        remaining_wh=remaining,
        situation=situation_at(state.sessions, remaining, following),
        balances=settled.balances,
        last_price=torch.where(settled.trades.volume_wh > 0, settled.price, state.last_price),
        declared=None,
    )
