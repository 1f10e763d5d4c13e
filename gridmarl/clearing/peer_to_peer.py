"""Forms of local trade between homes of given net loads, settled hour by hour in exact integers.

Source: docs/p2p.md (chapter 5 of the book named in the README: full, community-based and hybrid peer-to-peer, and the
aggregator). Every form takes the same net loads and retail prices, and says what each home pays: the sum over homes is
what the retailer charges for what they do not exchange.

Shapes as in `gridmarl.clearing.community`: `[P, E]` for `P` homes in `E` lanes (or hours of lanes), `[E]` for prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.clearing.community import retail_cost_utok, share, split_net
from gridmarl.clearing.registry import Auction
from gridmarl.errors import ConfigError


class Settlement(NamedTuple):
    """Outcome of one hour in each lane; int64."""

    bill_utok: Tensor  # [P, E] what each home pays in all (negative: earns)
    import_wh: Tensor  # [E] bought from the retailer
    export_wh: Tensor  # [E] sold to the retailer
    local_wh: Tensor  # [E] exchanged between homes
    local_utok: Tensor  # [E] what was paid for that, at local prices


def settle_alone(net_wh: Tensor, import_price: Tensor, export_price: Tensor) -> Settlement:
    """No trade: each home buys at the import price and sells at the export price."""
    short, surplus = split_net(net_wh)
    nothing = torch.zeros_like(import_price)
    bill = retail_cost_utok(net_wh, import_price, export_price)
    return Settlement(bill, short.sum(0), surplus.sum(0), nothing, nothing)


def settle_auction(
    net_wh: Tensor, import_price: Tensor, export_price: Tensor, start: int | Tensor, auction: Auction
) -> Settlement:
    """Full peer-to-peer: every home orders its net load at its true value; the retailer serves and takes the rest.

    The true value of a Wh that is short is the import price, that of a Wh to spare the export price: what the home
    would pay or earn without the market.

    Args:
        net_wh: `[P, E]` int64.
        import_price, export_price: `[E]` int64, `export_price <= import_price`.
        start: where rotations start, see the auction's kernel.
        auction: of `gridmarl.clearing.registry.get_auction`: "uniform" is a pool with one price, "pairwise" bilateral.
    """
    short, surplus = split_net(net_wh)
    value, cost = import_price.expand_as(net_wh), export_price.expand_as(net_wh)
    trades = auction(value, short, cost, surplus, export_price, import_price, start)
    bought, sold = short - trades.buy_fill_wh, surplus - trades.sell_fill_wh
    rest = import_price * bought - export_price * sold
    bill = trades.payment_utok - trades.income_utok + rest
    return Settlement(bill, bought.sum(0), sold.sum(0), trades.volume_wh, trades.payment_utok.sum(0))


def settle_community(
    net_wh: Tensor, import_price: Tensor, export_price: Tensor, start: int | Tensor, rule: str
) -> Settlement:
    """One manager nets all homes, exchanges the rest with the retailer, and shares by `gridmarl.clearing.community`.

    Raises:
        ConfigError: an unknown sharing rule.
    """
    total = net_wh.sum(0)
    outside = retail_cost_utok(total, import_price, export_price)
    shares = share(net_wh, import_price, export_price, outside, start, rule)
    bought, sold = split_net(total)
    return Settlement(shares.bill_utok, bought, sold, shares.inside_wh, shares.price * shares.inside_wh)


def settle_hybrid(
    net_wh: Tensor,
    import_price: Tensor,
    export_price: Tensor,
    start: int | Tensor,
    sizes: Sequence[int],
    rule: str,
    auction: Auction,
) -> Settlement:
    """Several communities; their managers trade shortages and surpluses as homes do in full peer-to-peer.

    Args:
        net_wh: `[P, E]` int64; homes of a community follow each other.
        import_price, export_price, start: as for `settle_auction`.
        sizes: homes of each community, 1 or more, P together.
        rule: sharing rule inside.
        auction: between managers.

    Raises:
        ConfigError: sizes that do not fit, or an unknown sharing rule.
    """
    if sum(sizes) != net_wh.size(0) or min(sizes, default=0) < 1:
        raise ConfigError(f"sizes: {list(sizes)}, allowed are positive sizes that add up to {net_wh.size(0)} homes")
    parts = net_wh.split(list(sizes))
    between = settle_auction(torch.stack([part.sum(0) for part in parts]), import_price, export_price, start, auction)
    bills, inside_wh, inside_utok = [], between.local_wh, between.local_utok
    for part, outside in zip(parts, between.bill_utok, strict=True):
        shares = share(part, import_price, export_price, outside, start, rule)
        bills.append(shares.bill_utok)
        inside_wh = inside_wh + shares.inside_wh
        inside_utok = inside_utok + shares.price * shares.inside_wh
    return Settlement(torch.cat(bills), between.import_wh, between.export_wh, inside_wh, inside_utok)


def settle_central(net_wh: Tensor, import_price: Tensor, export_price: Tensor, idle_price: Tensor) -> Settlement:
    """A non-profit aggregator: one price for load and generation alike, at which it breaks even in every hour.

    That is the import price where the homes together import, the export price where they export, and any price where
    they do neither: `idle_price`, `[E]` int64, kept between the two.
    """
    total = net_wh.sum(0)
    idle = torch.minimum(torch.maximum(idle_price, export_price), import_price)
    price = torch.where(total > 0, import_price, torch.where(total < 0, export_price, idle))
    bought, sold = split_net(total)
    short, surplus = split_net(net_wh)
    local = torch.minimum(short.sum(0), surplus.sum(0))
    return Settlement(price * net_wh, bought, sold, local, price * local)


def residuals(
    settlement: Settlement, net_wh: Tensor, import_price: Tensor, export_price: Tensor
) -> tuple[Tensor, Tensor]:
    """What is missing from conservation, `[E]` each: money in µtok, energy in Wh. Zero, or the settlement is wrong."""
    upstream = import_price * settlement.import_wh - export_price * settlement.export_wh
    energy = net_wh.sum(0) - settlement.import_wh + settlement.export_wh
    return settlement.bill_utok.sum(0) - upstream, energy
