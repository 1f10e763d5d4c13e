"""Panels of a frame, each a pure function from arrays to axes: prices, load, balances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gridmarl.envs.rendering import colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Place = tuple[float, float, float, float]
"""Left, bottom, width, height as shares of the figure."""
Floats = NDArray[np.float64]
MAX_NAMES = 25
"""So many names fit under bars as wide as the frame."""


@contextmanager
def small_print() -> Iterator[None]:
    """Font sizes of a frame, readable where it is 800 pixels wide."""
    from matplotlib import rc_context

    with rc_context(
        {"font.size": 9, "axes.labelsize": "small", "xtick.labelsize": "small", "ytick.labelsize": "small"}
    ):
        yield


def emptied_axes(figure: Figure, places: Sequence[Place]) -> list[Axes]:
    """Axes at the given places without anything drawn on them: those of the last frame, if the figure has them.

    Building axes takes twice as long as drawing on them. What is left behind are ticks, which the next limits replace.
    """
    if len(figure.axes) != len(places):
        figure.clear()
        return [figure.add_axes(place) for place in places]
    for text in tuple(figure.texts):
        text.remove()
    for axes in figure.axes:
        for artist in (*axes.lines, *axes.patches, *axes.collections, *axes.texts):
            artist.remove()
        legend = axes.get_legend()
        if legend is not None:
            legend.remove()
        axes.relim()
        axes.set_autoscale_on(True)
    return figure.axes


def hours_axis(axes: Axes, hours: int) -> None:
    """Hours of the episode from left to right, midnights marked."""
    step = next((step for step in (1, 3, 6, 12, 24) if hours <= 12 * step), 24 * (hours // 288 + 1))
    axes.set_xlim(0, hours)
    axes.set_xticks(range(0, hours + 1, step))
    axes.grid(alpha=0.25)
    for midnight in range(24, hours, 24) if hours <= 24 * 31 else ():
        axes.axvline(midnight, color="0.7", linewidth=0.8)


def legend_above(axes: Axes, columns: int) -> None:
    """Over the axes, where it covers no data."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=columns, fontsize="small", frameon=False,
                borderaxespad=0.1, handlelength=1.4, columnspacing=1.2)  # fmt: skip


def draw_prices(
    axes: Axes, price: Floats, import_price: Floats, export_price: Floats, dr_price: Floats | None = None
) -> None:
    """Market price so far, `[t]`, in the band from export to import price of the whole episode, `[T]`; token/kWh.

    Args:
        dr_price: `[t]`, NaN in hours without demand response.
    """
    hours = len(import_price)
    edges = np.arange(hours + 1)
    axes.use_sticky_edges = False  # prices at the edge of the band keep some air
    axes.stairs(import_price, edges, baseline=export_price, fill=True, color="0.9", label="export to import price")
    if len(price):
        axes.stairs(price, edges[: len(price) + 1], baseline=None, color=colours.PRICE, linewidth=1.6, label="price")
    if dr_price is not None and np.isfinite(dr_price).any():
        at = np.flatnonzero(np.isfinite(dr_price))
        axes.hlines(dr_price[at], at, at + 1, color=colours.SHORTAGE, linewidth=1.6, label="DR price")
    hours_axis(axes, hours)
    axes.set_ylabel("token/kWh")
    legend_above(axes, 3)


def draw_load(axes: Axes, before_kwh: Floats, after_kwh: Floats, generation_kwh: Floats, hours: int) -> None:
    """Load before and after stage 2 and generation so far, `[t]` each, kWh in the hour; the reduction is shaded."""
    edges = np.arange(len(before_kwh) + 1)
    if len(before_kwh):
        axes.stairs(before_kwh, edges, baseline=after_kwh, fill=True, color=colours.SHORTAGE, alpha=0.3)
        axes.stairs(before_kwh, edges, baseline=None, color=colours.SHORTAGE, linewidth=1.2, label="load, stage 1")
        axes.stairs(after_kwh, edges, baseline=None, color=colours.DEMAND, linewidth=1.6, label="after stage 2")
        axes.stairs(generation_kwh, edges, baseline=None, color=colours.SUPPLY, linewidth=1.6, label="generation")
        legend_above(axes, 3)
    hours_axis(axes, hours)
    axes.set_ylim(0, 1.08 * max([1e-3, *before_kwh, *generation_kwh]))
    axes.set_xlabel("hour of the episode")
    axes.set_ylabel("kWh")


def draw_balances(
    axes: Axes, prosumers_tok: Floats, others: Sequence[tuple[str, float]], *, names: int = MAX_NAMES
) -> None:
    """Accounts as bars: prosumers by number, then others by name; tokens since the start of the episode.

    Args:
        names: so many numbers fit under the bars.
    """
    count = len(prosumers_tok)
    gap = max(1.0, count / 20)  # the others' bars stay as wide as names need
    bars(axes, np.arange(count, dtype=np.float64), prosumers_tok, colours.BALANCE, 0.4)
    places = count - 1 + gap * np.arange(1, len(others) + 1, dtype=np.float64)
    if others:
        bars(axes, places, np.array([value for _, value in others]), colours.OPERATOR, 0.4 * gap)
    shown = numbers_shown(count, names)
    axes.set_xticks([*shown, *places], [*map(str, shown), *(name for name, _ in others)])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlim(-0.6, max(places, default=count - 1.0) + 0.6 * gap)
    if not np.any(prosumers_tok) and not any(value for _, value in others):
        axes.set_ylim(-1, 1)
    else:
        axes.margins(y=0.1)
    axes.grid(axis="y", alpha=0.25)
    axes.set_xlabel("balance of each prosumer, token")


def numbers_shown(count: int, names: int) -> list[int]:
    """Of `count` agents, those whose numbers are written under their bars: at most `names`."""
    step = -(-count // names)
    return [index for index in range(count) if index % step == 0 and index < count - (step - 1) // 2]


def bars(
    axes: Axes,
    places: Floats,
    heights: Floats,
    colour: str,
    half_width: float,
    *,
    base: Floats | None = None,
    **style: Any,
) -> None:
    """Bars as one outline, so that a thousand cost no more than ten.

    Args:
        base: where each bar begins; None: at 0.
        style: of the patch, such as `label`; with `fill=False` only the outline is drawn.
    """
    edges = np.stack((places - half_width, places + half_width), 1).ravel()
    foot = np.zeros_like(heights) if base is None else base
    top, below = (np.stack((ends, np.zeros_like(ends)), 1).ravel()[:-1] for ends in (foot + heights, foot))
    drawn: dict[str, Any] = {"fill": True, "linewidth": 0} | style
    axes.stairs(top, edges, baseline=0 if base is None else below, color=colour, **drawn)
