"""The rules of charging quotas in plain Python integers, one function per section of docs/quota-rules.md.

Independent of the tensor code on purpose: no torch, no numpy, nothing from the clearing or the contracts. Energy in Wh,
prices in µtok/Wh, money in µtok. `start` is the station at which ties and roundings begin, `t mod N`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gridmarl.ledger import replay_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridmarl.ledger.quota_genesis import QuotaRules


class Auction(NamedTuple):
    """Outcome of an auction, one number for each station."""

    bought_wh: list[int]
    sold_wh: list[int]
    paid_utok: list[int]
    earned_utok: list[int]


class Charge(NamedTuple):
    """What one station owes the DSO, and for how much energy."""

    overused_wh: int
    unused_wh: int
    fee_utok: int
    penalty_utok: int
    forfeit_utok: int


class _HalfPoint(NamedTuple):
    """One price for all, where several clear the market at the middle (`replay_rules.OnePrice`)."""

    price_rule: str
    k_permille: int = 500


def allocate(declared_wh: Sequence[int], margin_wh: int, start: int) -> list[int]:
    """First quotas: the margin shared in proportion to the declarations, or all of these where it suffices."""
    return replay_rules.pro_rata(min(sum(declared_wh), max(margin_wh, 0)), declared_wh, start)


def auction(
    rules: QuotaRules, price: Sequence[int], buy_wh: Sequence[int], sell_wh: Sequence[int], start: int
) -> Auction:
    """The auction of one half hour; prices within floor and cap, one for each station.

    Where nothing is scarce there is none: all quantities are 0 then, and nothing comes of them here, either.
    """
    if rules.auction == "pairwise":
        return _pairwise(price, buy_wh, sell_wh, start)
    floor, cap = rules.floor_utok_per_wh, rules.cap_utok_per_wh
    cleared = replay_rules.clear(_HalfPoint(rules.auction), start, cap, floor, (price, buy_wh), (price, sell_wh))
    bought, sold = cleared.bought_wh, cleared.sold_wh
    return Auction(bought, sold, [wh * cleared.price for wh in bought], [wh * cleared.price for wh in sold])


def _pairwise(price: Sequence[int], buy_wh: Sequence[int], sell_wh: Sequence[int], start: int) -> Auction:
    """Algorithm 1: the best bid meets the best offer at the mean of their prices, until they do not meet."""
    count = len(price)
    done = Auction([0] * count, [0] * count, [0] * count, [0] * count)
    turn = [(start + step) % count for step in range(count)]  # a sort keeps this order among equal prices
    buyers = sorted((i for i in turn if buy_wh[i]), key=lambda i: -price[i])
    sellers = sorted((i for i in turn if sell_wh[i]), key=lambda i: price[i])
    first_buyer = first_seller = 0
    while first_buyer < len(buyers) and first_seller < len(sellers):
        buyer, seller = buyers[first_buyer], sellers[first_seller]
        if price[buyer] < price[seller]:
            break
        wanted, offered = buy_wh[buyer] - done.bought_wh[buyer], sell_wh[seller] - done.sold_wh[seller]
        energy = min(wanted, offered)
        amount = energy * ((price[buyer] + price[seller]) // 2)
        done.bought_wh[buyer] += energy
        done.sold_wh[seller] += energy
        done.paid_utok[buyer] += amount
        done.earned_utok[seller] += amount
        first_buyer += energy == wanted
        first_seller += energy == offered
    return done


def charge(rules: QuotaRules, tariff: int, used_wh: int, quota_wh: int) -> Charge:
    """Fee, penalty and forfeiture of one station with a final quota."""
    over, unused = max(used_wh - quota_wh, 0), max(quota_wh - used_wh, 0)
    forfeit = unused * rules.deposit_rate_utok_per_wh * rules.forfeit_permille // 1000
    return Charge(over, unused, used_wh * tariff, over * rules.penalty_rate_utok_per_wh, forfeit)


def whole_price(amount_utok: int, energy_wh: int) -> int:
    """The price of a flow: amount / energy where that is a whole number, else 0."""
    price, rest = divmod(amount_utok, energy_wh) if energy_wh else (0, 0)
    return 0 if rest else price
