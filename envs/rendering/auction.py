"""An auction as a step chart on any matplotlib axes: bids, offers, what of them was accepted, and what buyers paid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gridmarl.envs.rendering import colours
from gridmarl.envs.rendering.curves import UTOK_PER_WH_PER_TOKEN_PER_KWH, WH_PER_KWH, Floats
from gridmarl.envs.rendering.host import Integers
from gridmarl.envs.rendering.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class AuctionBook:
    """Orders and outcome of one auction in one lane, Wh and µtok; orders of no energy are not drawn.

    Attributes:
        bid_price, bid_wh, bid_fill_wh, payment_utok: `[B]` of each bid; what it asked for, got, and pays.
        offer_price, offer_wh: `[S]` of each offer.
        start: index that comes first among equal prices.
    """

    bid_price: Integers
    bid_wh: Integers
    bid_fill_wh: Integers
    payment_utok: Integers
    offer_price: Integers
    offer_wh: Integers
    start: int = 0

    @property
    def volume_wh(self) -> int:
        """What was traded."""
        return int(self.bid_fill_wh.sum())

    @property
    def mean_price_utok_per_wh(self) -> int:
        """Mean price of what was traded, rounded down; 0 without trade."""
        return int(self.payment_utok.sum()) // max(1, self.volume_wh)

    @property
    def is_empty(self) -> bool:
        """Whether there are neither bids nor offers."""
        return not (self.bid_wh.any() or self.offer_wh.any())


def merit(price: Integers, energy_wh: Integers, start: int, *, dearest_first: bool) -> Integers:
    """Indices of the orders with energy, best first; among equal prices the index `start` comes first."""
    turn = (np.arange(len(price)) - start) % max(1, len(price))
    order = np.lexsort((turn, -price if dearest_first else price))
    kept: Integers = order[energy_wh[order] > 0]
    return kept


def paid_steps(book: AuctionBook) -> tuple[Floats, Floats]:
    """What buyers paid per kWh along the traded energy: edges `[K + 1]` in kWh, prices `[K]` in token/kWh.

    K counts the bids that got something, in merit order; each at the mean price of what it got.
    """
    order = merit(book.bid_price, book.bid_fill_wh, book.start, dearest_first=True)
    fills = book.bid_fill_wh[order]
    edges = np.concatenate(([0], np.cumsum(fills))) / WH_PER_KWH
    return edges, book.payment_utok[order] / fills / UTOK_PER_WH_PER_TOKEN_PER_KWH


def draw_auction(axes: Axes, book: AuctionBook, limits_utok_per_wh: tuple[int, int]) -> None:
    """Draw both curves, what was traded, and what buyers paid for it; legend above the axes, in two columns.

    Args:
        limits_utok_per_wh: least and greatest price that is allowed; the price axis begins at the first, and ends
            with the dearest order, or at the second if all orders are at the first.
    """
    for name, colour, price, energy, dearest_first in (
        ("bids", colours.DEMAND, book.bid_price, book.bid_wh, True),
        ("offers", colours.SUPPLY, book.offer_price, book.offer_wh, False),
    ):
        order = merit(price, energy, book.start, dearest_first=dearest_first)
        if not len(order):
            axes.plot([], [], color=colour, linewidth=2.0, label=f"no {name}")
            continue
        edges = np.concatenate(([0], np.cumsum(energy[order]))) / WH_PER_KWH
        heights = price[order] / UTOK_PER_WH_PER_TOKEN_PER_KWH
        label = f"{name} {number(energy.sum() / WH_PER_KWH, 2)} kWh"
        axes.stairs(heights, edges, baseline=None, color=colour, linewidth=2.0, label=label)
    volume = book.volume_wh / WH_PER_KWH
    if book.volume_wh:
        axes.axvspan(
            0, volume, color=colours.DELIVERED, alpha=0.15, linewidth=0, label=f"traded {number(volume, 2)} kWh"
        )
        edges, paid = paid_steps(book)
        mean = number(book.mean_price_utok_per_wh / UTOK_PER_WH_PER_TOKEN_PER_KWH, 2)
        axes.stairs(paid, edges, baseline=None, color=colours.PRICE, linewidth=1.6, label=f"paid, mean {mean}")
    widest = max(int(book.bid_wh.sum()), int(book.offer_wh.sum())) / WH_PER_KWH
    axes.set_xlim(0, widest * 1.05 or 1.0)
    low, high = limits_utok_per_wh
    asked = np.concatenate((book.bid_price[book.bid_wh > 0], book.offer_price[book.offer_wh > 0], [low]))
    bottom, top = (price / UTOK_PER_WH_PER_TOKEN_PER_KWH for price in (low, asked.max() if asked.max() > low else high))
    air = 0.08 * (top - bottom) or 1.0
    axes.set_ylim(bottom - air, top + air)
    axes.set_xlabel("energy, kWh in the half hour")
    axes.set_ylabel("token/kWh")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, fontsize="small", frameon=False,
                borderaxespad=0.2, handlelength=1.5, columnspacing=1.2)  # fmt: skip
