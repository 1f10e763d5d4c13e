"""Random half hours of charging quotas for the ledger's tests: rounds of the slow oracle, one lane after the other."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import torch

from gridmarl.ledger.half_hour import HalfHourRecord
from tests.oracles.ev_quota import Order, Terms, play_round, trade

TERMS = Terms(deposit_rate=7, penalty_rate=500, forfeit_permille=130, cap=60)


@dataclass(frozen=True)
class QuotaPlay:
    """Rules and ranges of a random play."""

    N: int = 3
    T: int = 4
    terms: Terms = TERMS
    tariff: tuple[int, int] = (0, 90)
    energy: int = 60
    overuse: bool = True
    budget: int | None = None

    @property
    def tariffs(self) -> tuple[int, ...]:
        """Of the half hours of an episode."""
        return tuple(self.tariff[t % 2] + t for t in range(self.T))

    def rules(self, **changes: Any) -> dict[str, Any]:
        """Constructor arguments of the package's QuotaRules."""
        terms = self.terms
        return {
            "num_stations": self.N, "horizon_half_hours": self.T, "tariff_utok_per_wh": self.tariffs,
            "initial_balances": (1000,) * self.N + (50,), "auction": terms.auction,
            "deposit_rate_utok_per_wh": terms.deposit_rate, "deposit_budget_utok": self.budget,
            "penalty_rate_utok_per_wh": terms.penalty_rate, "forfeit_permille": terms.forfeit_permille,
            "floor_utok_per_wh": terms.floor, "cap_utok_per_wh": terms.cap, "overuse": self.overuse,
        } | changes  # fmt: skip

    def variant(self, **terms: Any) -> QuotaPlay:
        """With other terms."""
        return replace(self, terms=replace(self.terms, **terms))


def play_half_hour(play: QuotaPlay, rng: random.Random, t: int, balances: list[int]) -> dict[str, Any]:
    """One half hour of one lane as a dictionary; `balances` are updated."""
    terms, stations = play.terms, range(play.N)
    most = play.energy if play.budget is None or not terms.deposit_rate else play.budget // terms.deposit_rate
    declared = [rng.choice((0, rng.randint(0, min(play.energy, most)))) for _ in stations]
    margin = rng.choice((-5, sum(declared) // 2, sum(declared) // 2, sum(declared) - 1, sum(declared) + 9))
    first = play_round(terms, t, margin, 0, declared, [("buy", terms.floor, 0)] * play.N, [0] * play.N)
    orders: list[Order] = []
    for i in stations:
        side = rng.choice(("buy", "sell"))
        price = rng.choice((terms.floor, terms.cap, rng.randint(terms.floor, terms.cap)))
        quantity = rng.randint(0, play.energy if side == "buy" else first.quota_wh[i]) if first.scarce else 0
        orders.append((side, price, rng.choice((0, quantity, quantity))))
    final = play_round(terms, t, margin, 0, declared, orders, [0] * play.N)
    beyond = play.energy if play.overuse else 0
    used = [max(0, rng.choice((wh, rng.randint(0, wh), wh + rng.randint(0, beyond)))) for wh in final.final_wh]
    tariff = play.tariffs[t]
    done = play_round(terms, t, margin, tariff, declared, orders, used)
    balances[:] = [balance + change for balance, change in zip(balances, done.change_utok, strict=True)]
    sides = {side: [wh if of == side else 0 for of, _, wh in orders] for side in ("buy", "sell")}
    gaps = [wh - quota for wh, quota in zip(used, done.final_wh, strict=True)]
    nothing = [0 for _ in stations]
    trades = play_trades(play, t, orders) if done.scarce else (nothing, nothing)
    return {
        "margin_wh": margin, "actual_margin_wh": margin + rng.randint(-9, 9), "tariff": tariff,
        "scarce": int(done.scarce), "declared_wh": declared,
        "deposit_utok": [wh * terms.deposit_rate for wh in declared],
        "first_quota_wh": done.quota_wh, "order_price": [price for _, price, _ in orders], "buy_wh": sides["buy"],
        "sell_wh": sides["sell"], "used_wh": used, "final_quota_wh": done.final_wh,
        "flow_wh": [*trades, used, [max(gap, 0) for gap in gaps], [max(-gap, 0) for gap in gaps]],
        "flow_utok": [done.payment_utok, done.income_utok, done.fee_utok, done.penalty_utok, done.forfeit_utok],
        "balances": list(balances),
    }  # fmt: skip


def play_trades(play: QuotaPlay, t: int, orders: list[Order]) -> tuple[list[int], list[int]]:
    """Energy bought and sold by each station."""
    bought, sold, _, _ = trade(play.terms, orders, t % play.N)
    return bought, sold


def quota_records(play: QuotaPlay, seeds: list[int], episodes: int = 1) -> list[HalfHourRecord]:
    """HalfHourRecords of one lane per seed."""
    lanes = []
    for seed in seeds:
        rng, balances = random.Random(seed), [1000] * play.N + [50]
        lanes.append([play_half_hour(play, rng, step % play.T, balances) for step in range(play.T * episodes)])
    records = []
    for step in range(play.T * episodes):
        stacked = {
            name: torch.stack([torch.tensor(lane[step][name], dtype=torch.int64) for lane in lanes], dim=-1)
            for name in lanes[0][step]
        }
        records.append(HalfHourRecord(period=step % play.T, **stacked))
    return records
