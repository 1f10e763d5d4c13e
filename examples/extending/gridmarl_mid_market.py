"""Mid-market rate as a gridmarl mechanism: one price half-way between export and import price, whatever the bids are.

The usual baseline of peer-to-peer markets (Long et al., "Peer-to-peer energy trading in a community microgrid", 2017).
Those who accept the price trade; the longer side is served pro rata. Nobody can move the price, so nobody gains by
shading a bid; what is lost is that the price says nothing about scarcity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.clearing.apportion import apportion
from gridmarl.clearing.book import Clearing


def mid_market(
    buy_price: Tensor,
    buy_wh: Tensor,
    sell_price: Tensor,
    sell_wh: Tensor,
    floor: Tensor,
    cap: Tensor,
    start: int | Tensor,
    /,
) -> Clearing:
    """Clear `[orders, lanes]` int64 books; see `gridmarl.clearing.registry.Mechanism`."""
    price = torch.div(floor + cap, 2, rounding_mode="floor")
    wanted, offered = buy_wh * (buy_price >= price), sell_wh * (sell_price <= price)
    volume = torch.minimum(wanted.sum(0), offered.sum(0))
    return Clearing(
        price=price,
        buy_fill_wh=apportion(volume, wanted, start),
        sell_fill_wh=apportion(volume, offered, start),
        volume_wh=volume,
        low=price,
        high=price,
    )
