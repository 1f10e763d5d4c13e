"""Algorithm 1 of chapter 9 as it is printed, one book, in plain Python; shares no code with the package.

"Bids descending, offers ascending; while bid_1 >= offer_1: price = (bid_1 + offer_1)/2, amount = min(demand_1,
supply_1), transfer from buyer to seller, reduce both, drop the exhausted side."
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor as round_down

from tests.oracles.clearing import Orders


@dataclass(frozen=True)
class Walk:
    """Outcome of one book; `pairs` are (buy, sell, energy, price) in the order in which they trade."""

    buy_fill_wh: list[int]
    sell_fill_wh: list[int]
    payment_utok: list[int]
    income_utok: list[int]
    pairs: list[tuple[int, int, int, int]]


def walk(buys: Orders, sells: Orders, floor: int, cap: int, start: int) -> Walk:
    """Algorithm 1; equal prices in the order of the index, which begins at `start`; prices limited to [floor, cap]."""
    bids = [[min(price, cap), energy, i] for i, (price, energy) in enumerate(buys) if energy > 0]
    offers = [[max(price, floor), energy, i] for i, (price, energy) in enumerate(sells) if energy > 0]
    bids.sort(key=lambda order: (-order[0], (order[2] - start) % len(buys)))
    offers.sort(key=lambda order: (order[0], (order[2] - start) % len(sells)))
    bought, sold, paid, earned = [0] * len(buys), [0] * len(sells), [0] * len(buys), [0] * len(sells)
    pairs = []
    while bids and offers and bids[0][0] >= offers[0][0]:
        bid, offer = bids[0], offers[0]
        price = round_down(Fraction(bid[0] + offer[0], 2))
        amount = min(bid[1], offer[1])
        bought[bid[2]] += amount
        sold[offer[2]] += amount
        paid[bid[2]] += amount * price
        earned[offer[2]] += amount * price
        pairs.append((bid[2], offer[2], amount, price))
        bid[1] -= amount
        offer[1] -= amount
        if bid[1] == 0:
            bids.pop(0)
        if offer[1] == 0:
            offers.pop(0)
    return Walk(bought, sold, paid, earned, pairs)
