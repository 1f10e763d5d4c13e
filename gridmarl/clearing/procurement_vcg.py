"""VCG payments to the sellers of a procurement: to each what its being there spares the others, in exact integers.

Seller i gets `ask_i * sold_i + W - W_i`, with `W` the welfare of all bids and offers, and `W_i` the best that the
others reach without it (docs/procurement-rules.md, "VCG"; Krishna, Auction Theory, ch. 5).

`W_i` needs no auction of its own. Without seller i its `sold_i` Wh are replaced by what is cheapest: an offer that was
rejected, at its ask, or a bid that goes without, at its price. Sort these prices and let `R(x)` be what the cheapest
`x` Wh of them cost. None of them is below the price of merit order, and what of offer i itself was rejected has just
that price, since the offer was accepted in part. So it stands first on the curve, and taking it out is a shift:

    payment_i = R(sold_i + unsold_i) - unsold_i * ask_i = R(offered_i) - unsold_i * ask_i.

One sort and two running sums serve all the books without one seller at once.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _lanes_first(*tables: Tensor) -> Tensor:
    """`[E, N]` of tables `[.., E]` below each other, laid out as such: sorts and scans want their rows contiguous."""
    return torch.cat(tables).t().clone(memory_format=torch.contiguous_format)


def externality_payments(
    bid_price: Tensor, bought_wh: Tensor, ask_price: Tensor, offered_wh: Tensor, sold_wh: Tensor
) -> Tensor:
    """What each seller gets under VCG, given which energy merit order accepts.

    Args:
        bid_price, bought_wh: `[K, E]` int64; bids limited to the cap, their fills. K >= 1.
        ask_price, offered_wh, sold_wh: `[P, E]` int64; asks limited to the floor, offers, their fills. P >= 1.

    Returns:
        `[P, E]` int64 µtok, 0 for who sells nothing. Within the bounds of `gridmarl.units` every running sum is below
        6.1e16; the payments add up to at most `sum of bought * bid`, since sellers are substitutes.
    """
    unsold = offered_wh - sold_wh
    price, order = _lanes_first(ask_price, bid_price).sort(1)
    energy = _lanes_first(unsold, bought_wh).gather(1, order)
    end, cost = energy.cumsum(1), (price * energy).cumsum(1)
    wanted = _lanes_first(offered_wh)
    step = torch.searchsorted(end, wanted).clamp(max=end.size(1) - 1)  # beyond the end only for who sells nothing
    replaced = cost.gather(1, step) - (end.gather(1, step) - wanted) * price.gather(1, step)
    return (replaced.t() - unsold * ask_price) * (sold_wh > 0)
