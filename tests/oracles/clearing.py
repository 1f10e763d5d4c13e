"""A slow, obvious clearing of one book, in plain Python from docs/market-rules.md, and what every clearing keeps.

Shares no code with the package. Prices are found by trying them: every integer price where the range is small, else the
limits, the floor, the cap and their neighbours, since demand and supply only change at a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor as round_down

import torch
from torch import Tensor

from gridmarl.clearing.book import Clearing

Orders = list[tuple[int, int]]  # (limit price, energy)


@dataclass(frozen=True)
class Outcome:
    """Of one book; fields as in `gridmarl.clearing.book.Clearing`."""

    price: int
    buy_fill_wh: list[int]
    sell_fill_wh: list[int]
    volume_wh: int
    low: int
    high: int


def shares(total: int, weights: list[int], start: int) -> list[int]:
    """Pro-rata by cumulative floors, part by part around the circle."""
    result = [0] * len(weights)
    whole, running = sum(weights), 0
    for step in range(len(weights)):
        index = (start + step) % len(weights)
        if weights[index]:
            before = round_down(Fraction(total * running, whole))
            running += weights[index]
            result[index] = round_down(Fraction(total * running, whole)) - before
    return result


def clear_by_rules(
    buys: Orders, sells: Orders, floor: int, cap: int, start: int, *, k_permille: int = 500, price_rule: str = "uniform"
) -> Outcome:
    """The section "Clearing" of the rules, sentence by sentence."""
    bids = [(min(b, cap), q if b >= floor else 0) for b, q in buys]  # below the floor: never trades
    offers = [(max(s, floor), q if s <= cap else 0) for s, q in sells]  # above the cap: never trades

    def demand(p: int) -> int:
        return sum(q for b, q in bids if b >= p)

    def demand_above(p: int) -> int:
        return sum(q for b, q in bids if b > p)

    def supply(p: int) -> int:
        return sum(q for s, q in offers if s <= p)

    def supply_below(p: int) -> int:
        return sum(q for s, q in offers if s < p)

    near = {p + step for p in [floor, cap, *(p for p, _ in bids + offers)] for step in (-1, 0, 1)}
    prices = range(floor, cap + 1) if cap - floor < 10 else sorted(p for p in near if floor <= p <= cap)
    low = next(p for p in prices if demand_above(p) <= supply(p))
    high = max(p for p in prices if demand_above(p) <= supply(p) and supply_below(p) <= demand(p))  # by definition
    volume = min(demand(low), supply(low))

    def fill(side: Orders, in_full: list[bool]) -> list[int]:
        left = volume - sum(q for (_, q), full in zip(side, in_full, strict=True) if full)
        rest = shares(left, [q if p == low else 0 for p, q in side], start)
        return [q if full else part for (_, q), full, part in zip(side, in_full, rest, strict=True)]

    buy_fill = fill(bids, [b > low for b, _ in bids])
    sell_fill = fill(offers, [s < low for s, _ in offers])

    all_demand, all_supply = sum(q for _, q in buys), sum(q for _, q in sells)
    price = low + round_down(Fraction(k_permille * (high - low), 1000))
    if price_rule == "marginal_pair" and volume > 0:
        last_bid = min(b for (b, _), traded in zip(bids, buy_fill, strict=True) if traded > 0)
        last_offer = max(s for (s, _), traded in zip(offers, sell_fill, strict=True) if traded > 0)
        price = round_down(Fraction(last_bid + last_offer, 2))
    if all_supply == 0 and all_demand > 0:
        price = cap
    if all_demand == 0 and all_supply > 0:
        price = floor
    return Outcome(price, buy_fill, sell_fill, volume, low, high)


def assert_clearing_invariants(
    buy_price: Tensor,
    buy_wh: Tensor,
    sell_price: Tensor,
    sell_wh: Tensor,
    floor: Tensor,
    cap: Tensor,
    clearing: Clearing,
    *,
    price_rule: str = "uniform",
) -> None:
    """What holds after every clearing, whatever its price rule; arguments as given to it, `[orders, lanes]`.

    Energy is conserved, fills lie within quantities, nobody trades against its own limit, and the price lies in
    `[floor, cap]`; for the rule "uniform" also in `[low, high]`.
    """
    price = clearing.price
    assert all(field.dtype == torch.int64 for field in clearing)
    assert clearing.buy_fill_wh.shape == buy_wh.shape
    assert clearing.sell_fill_wh.shape == sell_wh.shape
    assert torch.equal(clearing.buy_fill_wh.sum(0), clearing.volume_wh)
    assert torch.equal(clearing.sell_fill_wh.sum(0), clearing.volume_wh)
    for fill, energy in ((clearing.buy_fill_wh, buy_wh), (clearing.sell_fill_wh, sell_wh)):
        assert bool(((fill >= 0) & (fill <= energy)).all())
    assert not bool(((clearing.buy_fill_wh > 0) & (buy_price < price)).any())
    assert not bool(((clearing.sell_fill_wh > 0) & (sell_price > price)).any())
    assert bool(((floor <= price) & (price <= cap)).all())
    assert bool(((floor <= clearing.low) & (clearing.low <= clearing.high) & (clearing.high <= cap)).all())
    if price_rule == "uniform":
        assert bool(((clearing.low <= price) & (price <= clearing.high)).all())
