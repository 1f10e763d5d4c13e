"""Procurement: aggregators buy the cheapest offers below their bids, under four payment rules, many lanes at once.

Source: chapter 5 of the book named in the README (fig. 5.4); exact rules: docs/procurement-rules.md. K aggregators bid
a quantity and a limit price each, their bids together are the demand curve; P prosumers offer a quantity and an ask.
All rules accept the same energy, that of merit order (`gridmarl.clearing.uniform`, ties shared pro rata), so they
differ in money alone:

| rule | each seller gets | truthful in price |
|---|---|---|
| `pay_as_bid` | its ask | no |
| `last_accepted` | the highest accepted ask | no |
| `first_rejected` | the lowest rejected ask, at most the lowest accepted bid | with one unit per seller |
| `vcg` | its externality (`gridmarl.clearing.procurement_vcg`) | yes, and nothing is gained by withholding |

What the sellers get, the aggregators pay, to the µtok: one price for all, and nobody above its own bid (`share_cost`).

Degenerate cases (each one is a row of the tested table in tests/core/test_procurement_table.py):

| case | outcome |
|---|---|
| no bids, no offers, or zero quantities only | nothing is procured, nobody pays |
| every ask above every bid | nothing is procured |
| ask equal to bid | accepted |
| offers short of the bids | all below their bids are accepted; the uncovered rest is `bid - fill` |
| ties of asks at the margin | pro rata by cumulative floors from `start` |
| ties of bids at the margin | likewise |
| partially accepted offer | last accepted and first rejected at once |
| no rejected offer | `first_rejected` and `vcg` pay up to the bids |
| bid above cap, ask below floor | counts as at the cap, at the floor |
| bid below floor, ask above cap | never trades |
| negative prices | same rules: a negative payment flows from the seller to the aggregator |
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.clearing.apportion import apportion
from gridmarl.clearing.pairwise import Trades
from gridmarl.clearing.procurement_vcg import externality_payments
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.errors import ConfigError
from gridmarl.preferences import floor_div

PAYMENT_RULES = ("pay_as_bid", "last_accepted", "first_rejected", "vcg")
_BEYOND = 2**30  # above every price, within int32


def procure(
    bid_price: Tensor,
    bid_wh: Tensor,
    ask_price: Tensor,
    ask_wh: Tensor,
    floor: Tensor,
    cap: Tensor,
    start: int | Tensor,
    *,
    payment: str = "pay_as_bid",
    capacity_wh: Tensor | None = None,
    price_bits: int | None = None,
) -> Trades:
    """Procure by merit order, one book per lane.

    Args:
        bid_price, bid_wh: `[K, E]` int64, µtok/Wh and Wh, of the aggregators.
        ask_price, ask_wh: `[P, E]` int64, of the prosumers.
        floor, cap: `[E]` int64, `floor <= cap`: limits of every price.
        start: start of the pro-rata rotations, mod the number of orders of the side; an int >= 0, or int64 `[]`, `[E]`.
        payment: one of `PAYMENT_RULES`.
        capacity_wh: `[P, E]` int64, what a prosumer can deliver: an offer counts up to it. `vcg` is truthful only if
            nobody sells what it cannot deliver. None: the offers are taken as they are.
        price_bits: as for `clear_uniform`.

    Returns:
        `Trades`: the aggregators are its buyers. Payments and incomes have the same sum; nobody pays more than
        `fill * bid` or gets less than `fill * ask`. Nothing is read back from the device and no value is checked: see
        `gridmarl.clearing.book.validate_book` for the bounds that must hold; within them a side's money is at most
        3e16 µtok.

    Raises:
        ConfigError: an unknown rule.
    """
    if payment not in PAYMENT_RULES:
        raise ConfigError(f"payment = {payment!r}: allowed are {PAYMENT_RULES}")
    offered = ask_wh if capacity_wh is None else torch.minimum(ask_wh, capacity_wh.clamp(min=0))
    bid, ask = torch.minimum(bid_price, cap), torch.maximum(ask_price, floor)
    cleared = clear_uniform(bid, bid_wh, ask, offered, floor, cap, start, price_bits=price_bits)
    bought, sold = cleared.buy_fill_wh, cleared.sell_fill_wh
    if bid.size(0) == 0 or ask.size(0) == 0:
        return Trades(bought, sold, torch.zeros_like(bought), torch.zeros_like(sold), cleared.volume_wh)
    if payment == "pay_as_bid":
        income = sold * ask
    elif payment == "last_accepted":
        income = sold * _highest(ask, sold > 0)
    elif payment == "first_rejected":
        income = sold * cleared.high  # the highest price at which the same energy trades is just that
    else:
        income = externality_payments(bid, bought, ask, offered, sold)
    return Trades(bought, sold, share_cost(income.sum(0), bid, bought, start), income, cleared.volume_wh)


def _highest(price: Tensor, among: Tensor) -> Tensor:
    """`[E]` highest price among some rows of `[N, E]`; far below every price where there are none.

    As int32 because torch's CPU maximum is vectorised for it, and not for int64.
    """
    return torch.where(among, price, -_BEYOND).to(torch.int32).amax(0).to(torch.int64)


def share_cost(total_utok: Tensor, bid_price: Tensor, fill_wh: Tensor, start: int | Tensor) -> Tensor:
    """What each buyer pays of a total: one price for all, except that nobody pays above its own bid.

    With `p` the highest whole price at which `sum of fill * min(bid, p)` does not exceed the total, everyone pays
    `fill * min(bid, p)`; the rest, less than one µtok per Wh, is apportioned over those with bids above `p`, by fill.

    Args:
        total_utok: `[E]` int64, at most `sum of fill * bid`.
        bid_price, fill_wh: `[K, E]` int64, µtok/Wh and Wh; K >= 1.
        start: start of the pro-rata rotation.

    Returns:
        `[K, E]` int64, its sums equal to the totals, none above `fill * bid`; zeros where a lane's fills are zero.
    """
    level = _highest_reached(total_utok, bid_price, fill_wh)
    at_bid = fill_wh * bid_price * (bid_price <= level)
    others_wh = fill_wh * (bid_price > level)
    price = floor_div(total_utok - at_bid.sum(0), others_wh.sum(0).clamp(min=1))
    paid = at_bid + others_wh * price
    rest = (total_utok - paid.sum(0)) * (others_wh > 0).any(0)
    return paid + apportion(rest, others_wh, start)


def _highest_reached(total_utok: Tensor, bid_price: Tensor, fill_wh: Tensor) -> Tensor:
    """`[E]` highest bid that a common price reaches: all buyers with bids up to it pay their bids.

    With bids in rising order, a common price at the k-th costs what those up to it pay at their bids, and all others
    at that one.
    """
    by_lane = bid_price.t().clone(memory_format=torch.contiguous_format)
    rising, order = by_lane.sort(1)
    fill = fill_wh.t().gather(1, order)
    whole = fill.sum(1, keepdim=True)
    collected = (rising * fill).cumsum(1) + rising * (whole - fill.cumsum(1))
    return _highest(rising.t(), (collected <= total_utok.unsqueeze(1)).t())
