"""Supply and demand curves of one settled hour, drawn on any matplotlib axes: in frames and in reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gridmarl.envs.rendering import colours
from gridmarl.envs.rendering.host import Integers
from gridmarl.envs.rendering.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
WH_PER_KWH = 1000.0
UTOK_PER_WH_PER_TOKEN_PER_KWH = 1000.0


@dataclass(frozen=True)
class MarketHour:
    """Orders and outcome of one hour in one lane, in the units of the ledger; `N` buy orders, `M` sell orders.

    Orders of zero quantity may be among them and are not drawn. `dr_price_utok_per_wh` counts only with a shortage.
    """

    hour: int
    buy_price_utok_per_wh: Integers  # [N]
    buy_wh: Integers  # [N]
    sell_price_utok_per_wh: Integers  # [M]
    sell_wh: Integers  # [M]
    import_price_utok_per_wh: int
    export_price_utok_per_wh: int
    price_utok_per_wh: int  # clearing price
    volume_wh: int  # traded in the local market
    shortage_wh: int = 0
    reduced_wh: int = 0  # of the shortage, met by demand response
    dr_price_utok_per_wh: int = 0

    @property
    def widest_kwh(self) -> float:
        """The greater of total demand and total supply, kWh: what the energy axis has to hold."""
        return max(int(self.buy_wh.sum()), int(self.sell_wh.sum())) / WH_PER_KWH


def merit_order(
    price_utok_per_wh: Integers, energy_wh: Integers, *, dearest_first: bool, end_price_utok_per_wh: int
) -> tuple[Floats, Floats]:
    """Corners of a merit-order curve: cumulative energy in kWh and price in token/kWh, `[2K + 1]` each.

    K counts the orders of positive energy; orders at one price keep their sequence. The last corner lies at
    `end_price`, below or above the last order: what is beyond it, the grid buys or sells.
    """
    kept = energy_wh > 0
    price, energy = price_utok_per_wh[kept], energy_wh[kept]
    order = np.argsort(-price if dearest_first else price, kind="stable")
    ends = np.cumsum(energy[order])
    edges = np.concatenate(([0], np.repeat(ends, 2)))
    heights = np.append(np.repeat(price[order], 2), end_price_utok_per_wh)
    return edges / WH_PER_KWH, heights / UTOK_PER_WH_PER_TOKEN_PER_KWH


def draw_market(axes: Axes, market: MarketHour, *, energy_limit_kwh: float | None = None, legend: bool = True) -> None:
    """Draw an hour's curves, clearing point, outside prices, shortage and demand-response price.

    Args:
        axes: empty axes; the caller sets title and place.
        energy_limit_kwh: end of the energy axis; None: what this hour needs.
        legend: name the curves and their values above the axes, in two columns of three rows.
    """
    high, low, price = (
        value / UTOK_PER_WH_PER_TOKEN_PER_KWH
        for value in (market.import_price_utok_per_wh, market.export_price_utok_per_wh, market.price_utok_per_wh)
    )
    axes.axhline(high, color=colours.OUTSIDE, linestyle="--", linewidth=1.2, label=f"import at {number(high, 2)}")
    axes.axhline(low, color=colours.OUTSIDE, linestyle=":", linewidth=1.4, label=f"export at {number(low, 2)}")
    _draw_shortage(axes, market)
    for name, colour, dearest_first, prices, energy, end in (
        ("demand", colours.DEMAND, True, market.buy_price_utok_per_wh, market.buy_wh, market.export_price_utok_per_wh),
        (
            "supply",
            colours.SUPPLY,
            False,
            market.sell_price_utok_per_wh,
            market.sell_wh,
            market.import_price_utok_per_wh,
        ),
    ):
        curve = merit_order(prices, energy, dearest_first=dearest_first, end_price_utok_per_wh=end)
        label = f"{name} {number(energy.sum() / WH_PER_KWH, 2)} kWh"
        axes.plot(*curve, color=colour, linewidth=2.0, label=label, solid_joinstyle="miter")
    volume = market.volume_wh / WH_PER_KWH
    label = f"{number(volume, 2)} kWh at {number(price, 2)}"
    axes.plot([volume], [price], "o", color=colours.PRICE, markersize=7, label=label, zorder=5, clip_on=False)
    axes.set_xlim(0, energy_limit_kwh or market.widest_kwh * 1.05 or 1.0)
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlabel("energy, kWh in the hour")
    axes.set_ylabel("token/kWh")
    axes.grid(alpha=0.25)
    if legend:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, fontsize="small", frameon=False,
                    borderaxespad=0.2, handlelength=1.5, columnspacing=1.2)  # fmt: skip


def _draw_shortage(axes: Axes, market: MarketHour) -> None:
    """Between total supply and total demand; the part that demand response met is darker, under its price."""
    if market.shortage_wh <= 0:
        return
    end = int(market.buy_wh.sum()) / WH_PER_KWH
    start, met = end - market.shortage_wh / WH_PER_KWH, market.reduced_wh / WH_PER_KWH
    axes.axvspan(start, end, color=colours.SHORTAGE, alpha=0.13, linewidth=0)
    if met > 0:
        axes.axvspan(end - met, end, color=colours.SHORTAGE, alpha=0.3, linewidth=0)
    if market.dr_price_utok_per_wh > 0:
        price = market.dr_price_utok_per_wh / UTOK_PER_WH_PER_TOKEN_PER_KWH
        short = number(market.shortage_wh / WH_PER_KWH, 2)
        label = f"{short} kWh short, {number(met, 2)} cut; DR at {number(price, 2)}"
        axes.plot([start, end], [price, price], color=colours.SHORTAGE, linewidth=2.0, linestyle="-.", label=label)
