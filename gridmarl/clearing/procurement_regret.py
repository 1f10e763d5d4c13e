"""What a seller would gain by another offer, all sellers and all offers tried at once: the regret of truth-telling.

With everybody's offers at true cost and capacity, the largest gain of a seller is its regret of having told the truth
(R. Lubin and D. C. Parkes, "Approximate strategyproofness", Current Science 103 (2012) 1021-1032: the ex-post regret);
a mechanism is truthful where it is never above 0. With learned offers in the book it is how far a seller is from a best
response.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.clearing.registry import Auction


def deviation_gains(
    auction: Auction,
    bid_price: Tensor,
    bid_wh: Tensor,
    ask_price: Tensor,
    ask_wh: Tensor,
    floor: Tensor,
    cap: Tensor,
    start: int | Tensor,
    *,
    cost_utok_per_wh: Tensor,
    deviation_price: Tensor,
    deviation_wh: Tensor,
) -> Tensor:
    """Profit of each seller with another offer of its own, all others as in the book, less that with its own offer.

    The books are cleared in `E + D * P * E` lanes: split the lanes into parts where that is too many.

    Args:
        auction: of `gridmarl.clearing.registry.get_procurement`.
        bid_price, bid_wh, ask_price, ask_wh, floor, cap, start: the book, as for `Auction`; `[K, E]`, `[P, E]`, `[E]`.
        cost_utok_per_wh: `[P, E]` int64 true cost of what is sold.
        deviation_price, deviation_wh: `[D, P, E]` int64, the D other offers of each seller. Keep the quantities within
            what the seller can deliver: the gain from selling what one does not have is not counted as a loss here.

    Returns:
        `[D, P, E]` int64 µtok, positive where the deviation pays.
    """
    now = auction(bid_price, bid_wh, ask_price, ask_wh, floor, cap, start)
    profit = now.income_utok - now.sell_fill_wh * cost_utok_per_wh
    deviations, sellers, lanes = deviation_price.shape
    own = torch.eye(sellers, dtype=torch.bool, device=ask_price.device).view(sellers, 1, sellers, 1)

    def spread(values: Tensor) -> Tensor:
        """`[N, D * P * E]` or `[D * P * E]`: the same in every book that differs by one offer."""
        wide = values.unsqueeze(-2).unsqueeze(-2).expand(*values.shape[:-1], deviations, sellers, lanes)
        return wide.flatten(-3)

    def replaced(values: Tensor, other: Tensor) -> Tensor:
        """`[P, D * P * E]`: in book (d, i) row i is the deviation d of seller i."""
        return torch.where(own, other.unsqueeze(0), values.view(sellers, 1, 1, lanes)).flatten(1)

    turn = spread(start.expand(lanes)) if isinstance(start, Tensor) else start
    ask, offered = replaced(ask_price, deviation_price), replaced(ask_wh, deviation_wh)
    then = auction(spread(bid_price), spread(bid_wh), ask, offered, spread(floor), spread(cap), turn)
    each = then.income_utok - then.sell_fill_wh * spread(cost_utok_per_wh)
    return (each.view(sellers, deviations, sellers, lanes) * own).sum(0) - profit
