"""Procurement, McAfee's auction and market power for one book in plain Python, from docs/procurement-rules.md.

Shares no code with the package. Which energy is accepted comes from the oracle of merit order; VCG is played seller by
seller, each time with the whole book cleared anew without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor as round_down
from math import nan

from tests.oracles.clearing import Orders, clear_by_rules, shares

INFINITE = 10**12


@dataclass(frozen=True)
class Bought:
    """Outcome of one book."""

    buy_fill_wh: list[int]
    sell_fill_wh: list[int]
    payment_utok: list[int]
    income_utok: list[int]


def _limited(bids: Orders, offers: Orders, floor: int, cap: int) -> tuple[Orders, Orders]:
    """Prices as they count; orders that can never trade get quantity 0."""
    return (
        [(min(price, cap), energy if price >= floor else 0) for price, energy in bids],
        [(max(price, floor), energy if price <= cap else 0) for price, energy in offers],
    )


def procure_by_rules(bids: Orders, offers: Orders, floor: int, cap: int, start: int, rule: str) -> Bought:
    """The section "Payments" of the rules, sentence by sentence."""
    merit = clear_by_rules(bids, offers, floor, cap, start)
    bought, sold = merit.buy_fill_wh, merit.sell_fill_wh
    bids, offers = _limited(bids, offers, floor, cap)
    if rule == "pay_as_bid":
        income = [q * ask for q, (ask, _) in zip(sold, offers, strict=True)]
    elif rule == "vcg":
        income = [vcg_payment(bids, offers, floor, cap, seller, sold[seller]) for seller in range(len(offers))]
    else:
        price = uniform_price(bids, offers, bought, sold, rule)
        income = [q * price for q in sold]
    return Bought(bought, sold, shared_cost(sum(income), bids, bought, start), income)


def uniform_price(bids: Orders, offers: Orders, bought: list[int], sold: list[int], rule: str) -> int:
    """One price for all sellers; 0 where nothing is sold."""
    if sum(sold) == 0:
        return 0
    if rule == "last_accepted":
        return max(ask for (ask, _), q in zip(offers, sold, strict=True) if q > 0)
    lowest_accepted_bid = min(bid for (bid, _), q in zip(bids, bought, strict=True) if q > 0)
    rejected = [ask for (ask, offered), q in zip(offers, sold, strict=True) if q < offered]
    return min([lowest_accepted_bid, *rejected])


def welfare(bids: Orders, offers: Orders, floor: int, cap: int) -> int:
    """Value of what merit order serves, less what it costs at the asks."""
    merit = clear_by_rules(bids, offers, floor, cap, 0)
    value = sum(q * bid for q, (bid, _) in zip(merit.buy_fill_wh, bids, strict=True))
    return value - sum(q * ask for q, (ask, _) in zip(merit.sell_fill_wh, offers, strict=True))


def best_welfare(bids: Orders, offers: Orders, *, least_price: int) -> int:
    """The same for tiny books by trying all numbers of Wh, the dearest bids and the cheapest offers of each."""
    values = sorted((bid for bid, energy in bids for _ in range(energy) if bid >= least_price), reverse=True)
    costs = sorted(ask for ask, energy in offers for _ in range(energy))
    return max(sum(values[:n]) - sum(costs[:n]) for n in range(min(len(values), len(costs)) + 1))


def vcg_payment(bids: Orders, offers: Orders, floor: int, cap: int, seller: int, sold: int) -> int:
    """Its cost at its ask, and what all together gain by its being there."""
    without = [(ask, 0 if index == seller else energy) for index, (ask, energy) in enumerate(offers)]
    gain = welfare(bids, offers, floor, cap) - welfare(bids, without, floor, cap)
    return offers[seller][0] * sold + gain


def shared_cost(total: int, bids: Orders, bought: list[int], start: int) -> list[int]:
    """The highest whole price that does not collect too much, each bid a limit; the rest by energy above it."""

    def collected(price: int) -> int:
        return sum(q * min(bid, price) for q, (bid, _) in zip(bought, bids, strict=True))

    if collected(INFINITE) == total:
        return [q * bid for q, (bid, _) in zip(bought, bids, strict=True)]
    low, high = -INFINITE, INFINITE  # collected(low) <= total < collected(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if collected(middle) <= total else (low, middle)
    paid = [q * min(bid, low) for q, (bid, _) in zip(bought, bids, strict=True)]
    above = [q if bid > low else 0 for q, (bid, _) in zip(bought, bids, strict=True)]
    return [a + b for a, b in zip(paid, shares(total - sum(paid), above, start), strict=True)]


def mcafee_by_rules(bids: Orders, offers: Orders, floor: int, cap: int, start: int) -> Bought:
    """The section "McAfee": walk to the margin, then look at it."""
    limited_bids, limited_offers = _limited(bids, offers, floor, cap)
    buyers = [i for i, (_, energy) in enumerate(limited_bids) if energy > 0]
    sellers = [i for i, (_, energy) in enumerate(limited_offers) if energy > 0]
    buyers.sort(key=lambda i: (-limited_bids[i][0], (i - start) % len(bids)))
    sellers.sort(key=lambda i: (limited_offers[i][0], (i - start) % len(offers)))
    want, have = [limited_bids[i][1] for i in buyers], [limited_offers[i][1] for i in sellers]
    k = m = 0
    last: tuple[int, int] | None = None
    while k < len(buyers) and m < len(sellers) and limited_bids[buyers[k]][0] >= limited_offers[sellers[m]][0]:
        last = (k, m)
        amount = min(want[k], have[m])
        want[k] -= amount
        have[m] -= amount
        k, m = k + (want[k] == 0), m + (have[m] == 0)
    nothing = Bought([0] * len(bids), [0] * len(offers), [0] * len(bids), [0] * len(offers))
    if last is None:
        return nothing
    last_buyer, last_seller = last
    bid_k, offer_l = limited_bids[buyers[last_buyer]][0], limited_offers[sellers[last_seller]][0]
    if want[last_buyer] == have[last_seller] == 0:
        next_bid = limited_bids[buyers[last_buyer + 1]][0] if last_buyer + 1 < len(buyers) else floor
        next_offer = limited_offers[sellers[last_seller + 1]][0] if last_seller + 1 < len(sellers) else cap
        mean = round_down(Fraction(next_bid + next_offer, 2))
        if offer_l <= mean <= bid_k:
            return _trade(bids, offers, buyers[: last_buyer + 1], sellers[: last_seller + 1], mean, mean, start)
    return _trade(bids, offers, buyers[:last_buyer], sellers[:last_seller], bid_k, offer_l, start)


def _trade(
    bids: Orders, offers: Orders, buyers: list[int], sellers: list[int], paid: int, earned: int, start: int
) -> Bought:
    wanted = [energy if i in buyers else 0 for i, (_, energy) in enumerate(bids)]
    given = [energy if i in sellers else 0 for i, (_, energy) in enumerate(offers)]
    volume = min(sum(wanted), sum(given))
    bought, sold = shares(volume, wanted, start), shares(volume, given, start)
    return Bought(bought, sold, [q * paid for q in bought], [q * earned for q in sold])


def hhi(quantities: list[int]) -> float:
    """Sum of squared shares in percent."""
    total = sum(quantities)
    return float(sum(Fraction(100 * q, total) ** 2 for q in quantities)) if total else nan


def lerner(income: int, sold: int, cost: int) -> float:
    """(price - cost) / price at the average price."""
    if income <= 0:
        return nan
    price = Fraction(income, sold)
    return float((price - cost) / price)


def residual_supply(capacities: list[int], demand: int, seller: int) -> float:
    """Capacity of all but one, by the demand."""
    others = sum(capacity for index, capacity in enumerate(capacities) if index != seller)
    return float(Fraction(others, demand)) if demand else nan
