"""McAfee's double auction for many units: truthful prices, paid for by the trade of the marginal pair.

Sources: R. P. McAfee, "A dominant strategy double auction", Journal of Economic Theory 56 (1992) 434-450, for one unit
per trader; P. Huang, A. Scheller-Wolf and K. Sycara, "Design of a multi-unit double auction e-market", Computational
Intelligence 18 (2002) 596-617, who leave out the whole orders at the margin. Exact rules, and what differs from the
latter: docs/procurement-rules.md, "McAfee".

With bids in falling and offers in rising order, let the efficient volume end within bid K and offer L. Either

* both are used up exactly, and the mean of bid K+1 and offer L+1 (floor and cap where there is none) lies between
  offer L and bid K: everything is traded at that mean; or
* bid K and offer L go: the bids before K pay the price of bid K, the offers before L get that of offer L, the longer
  side shares pro rata, and the operator keeps the difference.

Degenerate cases (each one is a row of the tested table in tests/core/test_procurement_table.py):

| case | outcome |
|---|---|
| a side is empty, or has zero quantities only | no trade |
| best bid below best offer | no trade |
| one bid and one offer that differ in quantity | no trade: both are marginal |
| one bid and one offer of the same quantity | trade at the mean of floor and cap if that lies between them |
| ties at the margin | in the order of the index, which starts at `start` |
| zero quantity at any price | as if the order were not there |
| odd sum of two prices | mean rounded down |
| bid above cap, offer below floor | counts as at the cap, at the floor |
| bid below floor, offer above cap | never trades; as bid K+1 or offer L+1 it counts as at the floor, at the cap |
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.clearing.apportion import apportion
from gridmarl.clearing.pairwise import Side, Trades, merit_order_side, nothing_traded, rank_by_index, segments_between


def clear_mcafee(
    buy_price: Tensor,
    buy_wh: Tensor,
    sell_price: Tensor,
    sell_wh: Tensor,
    floor: Tensor,
    cap: Tensor,
    start: int | Tensor,
) -> Trades:
    """Clear one book per lane by multi-unit trade reduction.

    Args:
        buy_price, buy_wh: `[B, E]` int64, µtok/Wh and Wh; one order per buyer.
        sell_price, sell_wh: `[S, E]` int64; one order per seller.
        floor, cap: `[E]` int64, `floor <= cap`: limits of every price.
        start: index that comes first among equal prices, and start of the pro-rata rotation, mod the number of orders
            of the side; an int >= 0, or int64 `[]` or `[E]`.

    Returns:
        `Trades`. Payments may add up to more than incomes, never to less: `operator_surplus` is what is left. Nothing
        is read back from the device and no value is checked: see `gridmarl.clearing.book.validate_book` for the bounds
        that must hold; within them a side's money is at most 3e16 µtok.
    """
    bid, offer = torch.minimum(buy_price, cap), torch.maximum(sell_price, floor)
    if bid.size(0) == 0 or offer.size(0) == 0:
        return nothing_traded(buy_wh, sell_wh, cap)
    buy, sell = merit_order_side(-bid, buy_wh, start), merit_order_side(offer, sell_wh, start)
    volume = segments_between(buy, sell).energy_wh.sum(1, keepdim=True)
    last_buy, last_sell = _last_traded(buy, volume), _last_traded(sell, volume)
    bid_k, offer_l = -_at(buy.price, last_buy), _at(sell.price, last_sell)
    mean = _mean_of_next(buy, sell, volume, floor, cap)
    exact = (buy.end == volume).any(1) & (sell.end == volume).any(1)
    all_trade = exact & (offer_l <= mean) & (mean <= bid_k)
    buying = _kept(-bid, buy_wh, start, buy, last_buy, all_trade) * (volume.squeeze(1) > 0)
    selling = _kept(offer, sell_wh, start, sell, last_sell, all_trade) * (volume.squeeze(1) > 0)
    traded = torch.minimum(buying.sum(0), selling.sum(0))
    bought, sold = apportion(traded, buying, start), apportion(traded, selling, start)
    payment = bought * torch.where(all_trade, mean, bid_k)
    income = sold * torch.where(all_trade, mean, offer_l)
    return Trades(bought, sold, payment, income, traded)


def operator_surplus(trades: Trades) -> Tensor:
    """`[E]` µtok that the buyers pay and no seller gets; 0 or more after `clear_mcafee`."""
    return trades.payment_utok.sum(0) - trades.income_utok.sum(0)


def _last_traded(side: Side, volume: Tensor) -> Tensor:
    """`[E, 1]` place of the order within which the efficient volume ends; one of quantity 0 never is."""
    return torch.searchsorted(side.end, volume).clamp(max=side.end.size(1) - 1)


def _at(values: Tensor, place: Tensor) -> Tensor:
    """`[E]` the value at a place of each lane."""
    return values.gather(1, place).squeeze(1)


def _mean_of_next(buy: Side, sell: Side, volume: Tensor, floor: Tensor, cap: Tensor) -> Tensor:
    """`[E]` mean, rounded down, of the best bid and the best offer behind the volume, the floor and the cap without."""

    def price_behind(side: Side, none: Tensor) -> Tensor:
        place = torch.searchsorted(side.end, volume, right=True)
        orders = side.end.size(1)
        price = _at(side.price, place.clamp(max=orders - 1))
        return torch.where(place.squeeze(1) < orders, price, none)

    bid = torch.maximum(-price_behind(buy, -floor), floor)
    offer = torch.minimum(price_behind(sell, cap), cap)
    return (bid + offer) >> 1


def _kept(price: Tensor, energy: Tensor, start: int | Tensor, side: Side, last: Tensor, with_last: Tensor) -> Tensor:
    """`[N, E]` quantities of the orders before the last traded one, in some lanes with that one; zeros elsewhere."""
    orders = price.size(0)
    rank = rank_by_index(price, start)
    place = (rank + price * orders).expand_as(price)
    last_index = side.order.gather(1, last).t()
    return energy * (place < place.gather(0, last_index) + with_last)
