"""Slow, obvious settlement of one hour of a community in every form, from docs/p2p.md; shares no code with the package.

Money is exact (`fractions.Fraction`) until a home's part of a total is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor as round_down

from tests.oracles.clearing import clear_by_rules, shares
from tests.oracles.pairwise import walk


@dataclass(frozen=True)
class Hour:
    """What a form comes to in one hour of one community."""

    bills: list[int]
    imported: int
    exported: int
    inside: int
    inside_paid: int


Between = Callable[[list[int], int, int, int], Hour]


def retail(net: int, imp: int, exp: int) -> int:
    """What the retailer wants for one meter."""
    return imp * net if net > 0 else exp * net


def alone(nets: Sequence[int], imp: int, exp: int) -> Hour:
    """Each home with the retailer."""
    bills = [retail(net, imp, exp) for net in nets]
    return Hour(bills, sum(net for net in nets if net > 0), -sum(net for net in nets if net < 0), 0, 0)


def pool(nets: list[int], imp: int, exp: int, start: int) -> Hour:
    """Merit order at one price, orders at true values."""
    buys, sells = [(imp, max(net, 0)) for net in nets], [(exp, max(-net, 0)) for net in nets]
    found = clear_by_rules(buys, sells, exp, imp, start)
    bills = [0] * len(nets)
    for i, net in enumerate(nets):
        bought, sold = found.buy_fill_wh[i], found.sell_fill_wh[i]
        bills[i] = found.price * (bought - sold) + retail(net - bought + sold, imp, exp)
    wanted, offered = sum(q for _, q in buys), sum(q for _, q in sells)
    volume = found.volume_wh
    return Hour(bills, wanted - volume, offered - volume, volume, found.price * volume)


def bilateral(nets: list[int], imp: int, exp: int, start: int) -> Hour:
    """One buyer meets one seller, again and again."""
    found = walk([(imp, max(net, 0)) for net in nets], [(exp, max(-net, 0)) for net in nets], exp, imp, start)
    bills = [retail(net, imp, exp) for net in nets]
    for buyer, seller, energy, price in found.pairs:
        bills[buyer] += energy * (price - imp)
        bills[seller] -= energy * (price - exp)
    volume = sum(energy for _, _, energy, _ in found.pairs)
    wanted, offered = sum(max(net, 0) for net in nets), sum(max(-net, 0) for net in nets)
    return Hour(bills, wanted - volume, offered - volume, volume, sum(e * p for _, _, e, p in found.pairs))


def divided(total: int, weights: list[int], start: int) -> list[int]:
    """A total of money by energies: the whole part of the price for everybody, the rest by cumulative floors."""
    if sum(weights) == 0:
        assert total == 0
        return [0] * len(weights)
    price = round_down(Fraction(total, sum(weights)))
    rest = shares(total - price * sum(weights), weights, start)
    return [price * weight + part for weight, part in zip(weights, rest, strict=True)]


def inside_price(short: int, surplus: int, imp: int, exp: int, rule: str) -> int:
    """The internal price of a community."""
    if rule == "mid_market":
        return round_down(Fraction(imp + exp, 2))
    if short == 0:
        return exp
    ratio = min(Fraction(1), Fraction(surplus, short))
    return imp - round_down((imp - exp) * ratio)


def managed(nets: list[int], imp: int, exp: int, outside: int, start: int, rule: str) -> tuple[list[int], int, int]:
    """Bills of a community whose manager pays `outside`; what was exchanged inside, and for how much."""
    short, surplus = [max(net, 0) for net in nets], [max(-net, 0) for net in nets]
    price = inside_price(sum(short), sum(surplus), imp, exp, rule)
    inside = min(sum(short), sum(surplus))
    pay, earn = price * inside, price * inside
    if sum(nets) > 0:
        pay += outside
    if sum(nets) < 0:
        earn -= outside
    paid, earned = divided(pay, short, start), divided(earn, surplus, start)
    return [p - e for p, e in zip(paid, earned, strict=True)], inside, price * inside


def community(nets: list[int], imp: int, exp: int, start: int, rule: str) -> Hour:
    """One manager for all."""
    total = sum(nets)
    bills, inside, paid = managed(nets, imp, exp, retail(total, imp, exp), start, rule)
    return Hour(bills, max(total, 0), max(-total, 0), inside, paid)


def hybrid(nets: list[int], imp: int, exp: int, start: int, sizes: list[int], rule: str, between: Between) -> Hour:
    """Managers inside, peer-to-peer between them."""
    groups, first = [], 0
    for size in sizes:
        groups.append(nets[first : first + size])
        first += size
    market = between([sum(group) for group in groups], imp, exp, start)
    bills: list[int] = []
    inside, paid = market.inside, market.inside_paid
    for group, outside in zip(groups, market.bills, strict=True):
        own, energy, money = managed(group, imp, exp, outside, start, rule)
        bills += own
        inside, paid = inside + energy, paid + money
    return Hour(bills, market.imported, market.exported, inside, paid)


def central(nets: list[int], imp: int, exp: int, idle: int) -> Hour:
    """The aggregator's one price."""
    total = sum(nets)
    price = imp if total > 0 else exp if total < 0 else min(max(idle, exp), imp)
    inside = min(sum(max(net, 0) for net in nets), sum(max(-net, 0) for net in nets))
    return Hour([price * net for net in nets], max(total, 0), max(-total, 0), inside, price * inside)
