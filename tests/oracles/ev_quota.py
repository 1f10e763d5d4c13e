"""A whole round of the charging quotas, one lane, in plain Python from docs/quota-rules.md; no code of the package."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor as round_down

from tests.oracles.clearing import clear_by_rules
from tests.oracles.pairwise import walk
from tests.oracles.quota import whole_quotas

Order = tuple[str, int, int]  # side, price, quantity


@dataclass(frozen=True)
class Terms:
    """What is fixed; µtok/Wh."""

    deposit_rate: int = 100
    penalty_rate: int = 500
    forfeit_permille: int = 0
    floor: int = 0
    cap: int = 1_000
    auction: str = "pairwise"


@dataclass(frozen=True)
class Round:
    """What a round does to each station."""

    quota_wh: list[int]
    scarce: bool
    final_wh: list[int]
    payment_utok: list[int]
    income_utok: list[int]
    fee_utok: list[int]
    penalty_utok: list[int]
    forfeit_utok: list[int]
    change_utok: list[int]  # of balances: stations, then the DSO
    volume_wh: int


def trade(terms: Terms, orders: list[Order], start: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Bought, sold, paid and earned of each station."""
    buys = [(price, quantity if side == "buy" else 0) for side, price, quantity in orders]
    sells = [(price, quantity if side == "sell" else 0) for side, price, quantity in orders]
    if terms.auction == "pairwise":
        walked = walk(buys, sells, terms.floor, terms.cap, start)
        return walked.buy_fill_wh, walked.sell_fill_wh, walked.payment_utok, walked.income_utok
    cleared = clear_by_rules(buys, sells, terms.floor, terms.cap, start, price_rule=terms.auction)
    bought, sold = cleared.buy_fill_wh, cleared.sell_fill_wh
    return bought, sold, [wh * cleared.price for wh in bought], [wh * cleared.price for wh in sold]


def play_round(
    terms: Terms, period: int, margin: int, tariff: int, declared: list[int], orders: list[Order], used: list[int]
) -> Round:
    """The section "Contract", from the declarations to the last withdrawal; orders count under scarcity only."""
    stations = range(len(declared))
    start = period % len(declared)
    limit = max(margin, 0)
    quota = whole_quotas(declared, limit, start)
    scarce = sum(declared) > limit
    nothing = [0 for _ in stations]
    bought, sold, paid, earned = trade(terms, orders, start) if scarce else (nothing, nothing, nothing, nothing)
    final = [quota[i] + bought[i] - sold[i] for i in stations]
    fee = [used[i] * tariff for i in stations]
    penalty = [max(used[i] - final[i], 0) * terms.penalty_rate for i in stations]
    lost = [Fraction(max(final[i] - used[i], 0) * terms.deposit_rate * terms.forfeit_permille, 1000) for i in stations]
    forfeit = [round_down(amount) for amount in lost]
    owed = [fee[i] + penalty[i] + forfeit[i] for i in stations]
    change = [earned[i] - paid[i] - owed[i] for i in stations]
    return Round(quota, scarce, final, paid, earned, fee, penalty, forfeit, [*change, sum(owed)], sum(bought))
