"""Pairwise average double auction: the best bid meets the best offer, each pair at the mean of its two prices.

Source: chapter 9 of the book named in the README, Algorithm 1; exact rules: docs/quota-rules.md. With bids in falling
and offers in rising order, the algorithm walks along two staircases: cumulative demand and cumulative supply. Between
two neighbouring steps of either staircase one bid meets one offer, so the walk is the list of those segments, and
neither lanes nor orders need a loop. Two routes find them, bit for bit the same:

* `merge`: sort both sides, merge the steps of both staircases (`B + S` segments), payments by prefix sums;
* `broadcast`: an order's place is what stands before it, by one comparison of all orders with all (no sort), and a
  pair's energy the overlap of two intervals, `[B, S, E]`. Few fused operations, so the faster one for small books.

Degenerate cases (each one is a row of the tested table in tests/core/test_pairwise.py):

| case | outcome |
|---|---|
| a side without orders, or with zero quantities only | no trade |
| best bid below best offer | no trade |
| bid equal to offer | they trade at that price |
| both orders of a pair used up at once | the walk goes on with the next bid and the next offer |
| one bid meeting many offers (or the reverse) | a price per pair |
| ties on a side | in the order of the index, which starts at `start`: first come, first served |
| zero quantity at any price | as if the order were not there |
| odd sum of two prices | mean rounded down, negative prices too |
| bid above cap, offer below floor | counts as at the cap, at the floor |
| bid below floor, offer above cap | never trades |
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from gridmarl.errors import ConfigError

ROUTES = ("auto", "merge", "broadcast")
BROADCAST_MAX_ORDERS = 20  # of both sides together: up to here comparing all with all is the faster route


class Trades(NamedTuple):
    """Outcome of an auction in which every order has a payment of its own; int64. `B` buys, `S` sells, `E` lanes."""

    buy_fill_wh: Tensor  # [B, E]
    sell_fill_wh: Tensor  # [S, E]
    payment_utok: Tensor  # [B, E] what each buy order pays
    income_utok: Tensor  # [S, E] what each sell order gets; sums over orders equal those of the payments
    volume_wh: Tensor  # [E] sum of the fills of either side


class Pairs(NamedTuple):
    """Who trades with whom, in the order of the walk; int64 `[B + S, E]`, rows without energy are no trade."""

    buyer: Tensor  # index of the buy order, 0 where there is no trade
    seller: Tensor  # index of the sell order, 0 where there is no trade
    energy_wh: Tensor
    price: Tensor  # µtok/Wh, 0 where there is no trade


def clear_pairwise(
    buy_price: Tensor,
    buy_wh: Tensor,
    sell_price: Tensor,
    sell_wh: Tensor,
    floor: Tensor,
    cap: Tensor,
    start: int | Tensor,
    *,
    route: str = "auto",
) -> Trades:
    """Clear one book per lane by Algorithm 1; a pair pays `energy * ((bid + offer) // 2)`, buyer to seller.

    Args:
        buy_price, buy_wh: `[B, E]` int64, µtok/Wh and Wh.
        sell_price, sell_wh: `[S, E]` int64.
        floor, cap: `[E]` int64, `floor <= cap`: limits of every price.
        start: index that comes first among equal prices, mod the number of orders of the side; an int >= 0, or int64
            `[]` or `[E]`.
        route: "merge", "broadcast", or "auto" (by the size of the book: the result is the same).

    Returns:
        `Trades`. Nothing is read back from the device and no value is checked: see `validate_book` for the bounds that
        must hold; within them a side's payments are below 3.1e16 µtok.

    Raises:
        ConfigError: an unknown route.
    """
    if route not in ROUTES:
        raise ConfigError(f"route = {route!r}: allowed are {ROUTES}")
    bid, offer = torch.minimum(buy_price, cap), torch.maximum(sell_price, floor)
    buys, sells = bid.size(0), offer.size(0)
    if buys == 0 or sells == 0:
        return nothing_traded(buy_wh, sell_wh, cap)
    if route == "auto":
        route = "broadcast" if buys + sells <= BROADCAST_MAX_ORDERS else "merge"
    walk = _by_broadcast if route == "broadcast" else _by_merge
    return walk(bid, buy_wh, offer, sell_wh, start)


def match_pairs(
    buy_price: Tensor,
    buy_wh: Tensor,
    sell_price: Tensor,
    sell_wh: Tensor,
    floor: Tensor,
    cap: Tensor,
    start: int | Tensor,
) -> Pairs:
    """The trades of `clear_pairwise` one by one; arguments as there."""
    bid, offer = torch.minimum(buy_price, cap), torch.maximum(sell_price, floor)
    if bid.size(0) == 0 or offer.size(0) == 0:
        none = buy_wh.new_zeros((bid.size(0) + offer.size(0), cap.size(0)))
        return Pairs(none, none, none, none)
    buy, sell = merit_order_side(-bid, buy_wh, start), merit_order_side(offer, sell_wh, start)
    segments = segments_between(buy, sell)
    trades = segments.energy_wh > 0
    columns = (
        buy.order.gather(1, segments.buy_place) * trades,
        sell.order.gather(1, segments.sell_place) * trades,
        segments.energy_wh,
        segments.price * trades,
    )
    return Pairs(*(column.t() for column in columns))


def nothing_traded(buy_wh: Tensor, sell_wh: Tensor, cap: Tensor) -> Trades:
    bought, sold = torch.zeros_like(buy_wh), torch.zeros_like(sell_wh)
    return Trades(bought, sold, bought, sold, torch.zeros_like(cap))


def rank_by_index(orders: Tensor, start: int | Tensor) -> Tensor:
    """`[N, 1]` or `[N, E]` place of each order of a side among equal prices."""
    count = orders.size(0)
    index = torch.arange(count, device=orders.device).unsqueeze(1)
    return (index - start) % count


# --- merge: lanes first inside, since sorts and scans want their dimension contiguous


def _turned(table: Tensor) -> Tensor:
    """Transposed, and laid out as such."""
    return table.t().clone(memory_format=torch.contiguous_format)


def _shifted(cumulative: Tensor) -> Tensor:
    """What the cumulative values were one place before, 0 at first."""
    return pad(cumulative.narrow(1, 0, cumulative.size(1) - 1), (1, 0))


class Side(NamedTuple):
    """One side in the order of the walk, lanes first: `[E, N]`."""

    order: Tensor  # its index in the book
    price: Tensor  # of buys: negated
    end: Tensor  # cumulative energy, the order's own included


class Segments(NamedTuple):
    """What lies between neighbouring steps of the two staircases, `[E, B + S]`."""

    end: Tensor  # cumulative energy
    buy_place: Tensor  # place of the bid in the sorted side
    sell_place: Tensor
    price: Tensor
    energy_wh: Tensor  # 0 where bid and offer do not meet


def merit_order_side(price: Tensor, energy: Tensor, start: int | Tensor) -> Side:
    """Sorted by price, then by rank; the key holds both, so that no two are equal."""
    key = price * price.size(0) + rank_by_index(price, start)
    order = _turned(key).argsort(1)
    return Side(order, price.t().gather(1, order), energy.t().gather(1, order).cumsum(1))


def segments_between(buy: Side, sell: Side) -> Segments:
    end = torch.cat((buy.end, sell.end), 1).sort(1).values
    begin = _shifted(end)
    buy_place = torch.searchsorted(buy.end, begin, right=True)
    sell_place = torch.searchsorted(sell.end, begin, right=True)
    buys, sells = buy.end.size(1), sell.end.size(1)
    both = (buy_place < buys) & (sell_place < sells)
    buy_place, sell_place = buy_place.clamp(max=buys - 1), sell_place.clamp(max=sells - 1)
    bid, offer = -buy.price.gather(1, buy_place), sell.price.gather(1, sell_place)
    energy = (end - begin) * (both & (bid >= offer))
    return Segments(end, buy_place, sell_place, (bid + offer) >> 1, energy)


def _by_merge(bid: Tensor, buy_wh: Tensor, offer: Tensor, sell_wh: Tensor, start: int | Tensor) -> Trades:
    buy, sell = merit_order_side(-bid, buy_wh, start), merit_order_side(offer, sell_wh, start)
    segments = segments_between(buy, sell)
    volume = segments.energy_wh.sum(1)
    paid = (segments.energy_wh * segments.price).cumsum(1)

    def of_orders(one: Side, other: Side) -> tuple[Tensor, Tensor]:
        """Fill and money of each order: differences of cumulative values at the order's two steps."""
        filled = torch.minimum(one.end, volume.unsqueeze(1))
        own = torch.arange(one.end.size(1), device=one.end.device)
        step = own + torch.searchsorted(other.end, one.end)  # where the order's step stands among all
        return _back(filled, one.order), _back(paid.gather(1, step), one.order)

    bought, payment = of_orders(buy, sell)
    sold, income = of_orders(sell, buy)
    return Trades(bought, sold, payment, income, volume)


def _back(cumulative: Tensor, order: Tensor) -> Tensor:
    """Differences of cumulative values, from the order of the walk `[E, N]` to that of the book `[N, E]`."""
    each = cumulative - _shifted(cumulative)
    return _turned(torch.zeros_like(each).scatter(1, order, each))


# --- broadcast: lanes last


def _interval(price: Tensor, energy: Tensor, start: int | Tensor) -> tuple[Tensor, Tensor]:
    """`[N, E]` where each order begins and ends on its side's staircase, without sorting."""
    key = price * price.size(0) + rank_by_index(price, start)
    begin = ((key.unsqueeze(0) < key.unsqueeze(1)) * energy.unsqueeze(0)).sum(1)
    return begin, begin + energy


def _by_broadcast(bid: Tensor, buy_wh: Tensor, offer: Tensor, sell_wh: Tensor, start: int | Tensor) -> Trades:
    buy_begin, buy_end = _interval(-bid, buy_wh, start)
    sell_begin, sell_end = _interval(offer, sell_wh, start)
    bid, offer = bid.unsqueeze(1), offer.unsqueeze(0)
    begin = torch.maximum(buy_begin.unsqueeze(1), sell_begin.unsqueeze(0))
    end = torch.minimum(buy_end.unsqueeze(1), sell_end.unsqueeze(0))
    energy = (end - begin).clamp(min=0) * (bid >= offer)
    paid = energy * ((bid + offer) >> 1)
    bought = energy.sum(1)
    return Trades(bought, energy.sum(0), paid.sum(1), paid.sum(0), bought.sum(0))
