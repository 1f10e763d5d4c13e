"""Figures of EVQuota in a report: the transformer's load, quota auctions of chosen half hours, balances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gridmarl.envs.ev_quota.panels import clock
from gridmarl.envs.ev_quota.render import QuotaHalfHour
from gridmarl.envs.rendering.auction import draw_auction
from gridmarl.envs.rendering.curves import UTOK_PER_WH_PER_TOKEN_PER_KWH, WH_PER_KWH
from gridmarl.envs.rendering.panels import draw_balances
from gridmarl.train.quota.report_play import ChosenHalfHour, PlayedDays
from gridmarl.train.report.svg import Form, Picture, legend_below, new_figure, picture
from gridmarl.units import UTOK_PER_TOKEN

COORDINATOR, TRUTHFUL, UNCOORDINATED = "coordinator", "truthful", "uncoordinated"
# Okabe-Ito, as in the other figures
_COLOURS = {UNCOORDINATED: "#E69F00", TRUTHFUL: "#0072B2", COORDINATOR: "#000000"}


def load_picture(
    load_kwh: Mapping[str, Sequence[float]],
    margin_kwh: Sequence[float],
    trained: Mapping[str, str],
    start_slot: int,
    lanes: int,
) -> Picture:
    """The transformer's load by vehicles against what it leaves for them, half hour by half hour.

    Args:
        load_kwh: by policy, of each half hour.
        margin_kwh: of each half hour.
        trained: colours of the trained policies by name.
        start_slot: half hour of the clock at which a day begins.
        lanes: days that the means are over; 0: not known.
    """
    shown = {name: load_kwh[name] for name in (UNCOORDINATED, TRUTHFUL, *trained, COORDINATOR) if name in load_kwh}

    def draw(form: Form) -> Figure:
        figure = new_figure(form, 3.8 if form.columns > 1 else 4.2)
        axis = figure.subplots()
        edges = np.arange(len(margin_kwh) + 1) / 2
        margin = "margin: what the transformer leaves"
        axis.stairs(margin_kwh, edges, baseline=None, color="0.45", linestyle="--", linewidth=2.0, label=margin)
        for name, load in shown.items():
            style = ":" if name == COORDINATOR else "-"
            width = 2.0 if name in trained else 1.5
            colour = trained.get(name, _COLOURS.get(name, "0.5"))
            axis.stairs(load, edges, baseline=None, color=colour, linestyle=style, linewidth=width, label=name)
        _clock_axis(axis, len(margin_kwh), start_slot, 3 if form.columns > 1 else 6)
        axis.set_ylabel("kWh in the half hour")
        axis.set_ylim(bottom=0)
        legend_below(figure, form.legend)
        return figure

    excess = {name: np.maximum(np.array(load) - np.array(margin_kwh), 0.0).sum() for name, load in shown.items()}
    told = [
        f"{name} {sum(load):.1f}, most {max(load):.1f}, {excess[name]:.1f} above the mean margin"
        for name, load in shown.items()
    ]
    alt = f"Charging in each half hour of the day, kWh. Sum: {'; '.join(told)}. Least margin {min(margin_kwh):.1f}."
    caption = "Energy for vehicles. Uncoordinated stations charge at once all that is plugged in, beyond quotas, too."
    return picture(draw, alt, f"{caption} Means over {lanes} days." if lanes > 1 else caption)


def _clock_axis(axis: Axes, half_hours: int, start_slot: int, every_hours: int) -> None:
    hours = half_hours / 2
    ticks = np.arange(0, hours + 1e-9, every_hours)
    axis.set_xlim(0, hours)
    axis.set_xticks(ticks, [clock(start_slot + round(2 * tick)) for tick in ticks])
    axis.set_xlabel("time of day")
    axis.grid(alpha=0.25)


def auction_picture(
    chosen: ChosenHalfHour, views: Sequence[PlayedDays], limits_utok_per_wh: tuple[int, int]
) -> Picture:
    """Bids and offers for quota in one half hour, a panel for each policy on the same axes.

    Args:
        limits_utok_per_wh: least and greatest price that is allowed.
    """
    half_hours = [view.half_hours[chosen.index] for view in views]
    books = [item.book for item in half_hours]
    widest = 1.05 * max(max(int(book.bid_wh.sum()), int(book.offer_wh.sum())) for book in books) / WH_PER_KWH or 1.0
    low, high = (value / UTOK_PER_WH_PER_TOKEN_PER_KWH for value in limits_utok_per_wh)
    air = 0.06 * (high - low) or 1.0

    def draw(form: Form) -> Figure:
        columns = min(form.columns, len(views))
        rows = -(-len(views) // columns)
        figure = new_figure(form, (3.3 if columns > 1 else 3.8) * rows)
        panels = figure.subfigures(rows, columns, squeeze=False).flat
        for panel, view, item in zip(panels, views, half_hours, strict=False):
            axis = panel.subplots()
            axis.set_title(view.label, fontweight="bold")
            if item.book.is_empty:
                axis.set_axis_off()
                axis.text(0.5, 0.5, _empty(item), ha="center", transform=axis.transAxes, color="0.4")
                continue
            draw_auction(axis, item.book, limits_utok_per_wh)
            axis.get_legend().remove()
            axis.set_xlim(0, widest)
            axis.set_ylim(low - air, high + air)
            size = "small" if columns > 1 else "medium"
            panel.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=size)
        return figure

    told = [f"{view.label}: {_told(item)}" for view, item in zip(views, half_hours, strict=True)]
    reasons = f"Shown because {', and '.join(chosen.reasons)}."
    margins = f"The transformer leaves {half_hours[0].margin_wh / WH_PER_KWH:.2f} kWh; declared are " + ", ".join(
        f"{item.declared_wh.sum() / WH_PER_KWH:.2f} ({view.label})"
        for view, item in zip(views, half_hours, strict=True)
    )
    return picture(draw, f"Quota auction, {chosen.name}. {'; '.join(told)}.", f"{reasons} {margins}.")


def _empty(item: QuotaHalfHour) -> str:
    return "quotas are scarce, but nobody bids or offers" if item.scarce else "quotas meet all demands: no auction"


def _told(item: QuotaHalfHour) -> str:
    book = item.book
    if book.is_empty:
        return _empty(item)
    bid, offered, traded = (value / WH_PER_KWH for value in (book.bid_wh.sum(), book.offer_wh.sum(), book.volume_wh))
    price = book.mean_price_utok_per_wh / UTOK_PER_WH_PER_TOKEN_PER_KWH
    at = f" at {price:.1f} token/kWh on average" if book.volume_wh else ""
    return f"{bid:.2f} kWh bid for, {offered:.2f} kWh offered, {traded:.2f} kWh traded{at}"


def balances_picture(views: Sequence[PlayedDays]) -> Picture:
    """What each station and the DSO gained or lost over a day, mean over days, a panel per policy."""
    means = [view.change_utok.mean(1) / UTOK_PER_TOKEN for view in views]

    def draw(form: Form) -> Figure:
        figure = new_figure(form, 0.5 + 1.9 * len(views))
        axes = figure.subplots(len(views), 1, sharey=True, squeeze=False).flat
        for axis, view, mean in zip(axes, views, means, strict=True):
            draw_balances(axis, mean[:-1], [("DSO", float(mean[-1]))])
            axis.set_title(view.label, loc="left")
            axis.set_xlabel("")
            axis.set_ylabel("token")
        figure.axes[-1].set_xlabel("station")
        return figure

    found = [
        f"{view.label}: stations from {mean[:-1].min():,.1f} to {mean[:-1].max():,.1f}, DSO {mean[-1]:,.1f}"
        for view, mean in zip(views, means, strict=True)
    ]
    lanes = views[0].change_utok.shape[1]
    caption = "What the accounts of the stations and of the grid operator (DSO) gained over a day, fees included."
    alt = f"Balances at the end of a day, token. {'; '.join(found)}."
    return picture(draw, alt, caption + (f" Means over {lanes} days." if lanes > 1 else ""))
