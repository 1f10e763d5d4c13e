"""Panels of EVQuota's frame, each a pure function from arrays to axes: transformer, stations now, the day so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gridmarl.contracts.quota_sums import HALF_HOURS_PER_DAY
from gridmarl.envs.rendering import colours
from gridmarl.envs.rendering.curves import WH_PER_KWH, Floats
from gridmarl.envs.rendering.host import Integers
from gridmarl.envs.rendering.panels import bars, legend_above, numbers_shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HALF_HOURS_PER_HOUR = 2
MAX_NAMES = 12
"""So many numbers of stations fit under the bars, and under each its number of vehicles."""


def clock(slot: int) -> str:
    """Time of the clock at the start of a half hour of the day, counted from midnight."""
    hour, half = divmod(slot % HALF_HOURS_PER_DAY, HALF_HOURS_PER_HOUR)
    return f"{hour:02d}:{30 * half:02d}"


def clock_axis(axes: Axes, half_hours: int, start_slot: int) -> None:
    """Half hours of the episode from left to right, named by the clock."""
    step = next(step for step in (1, 2, 4, 8) if half_hours <= 8 * step or step == 8)
    first = -start_slot % step
    ticks = range(first, half_hours, step)
    axes.set_xlim(0, half_hours)
    axes.set_xticks([*ticks], [clock(start_slot + tick) for tick in ticks])
    axes.grid(alpha=0.25)


def draw_transformer(
    axes: Axes, capacity_w: int, margin_wh: Integers, charged_wh: Integers, overload_wh: Integers, start_slot: int
) -> None:
    """Mean power of every half hour: conventional load, charging so far on top, capacity, and what exceeds it.

    Args:
        margin_wh: `[T]`, what the conventional load leaves: as it turned out in half hours that are over, else as
            published. Where it is 0 the load may be above the capacity; it is drawn at the capacity.
        charged_wh, overload_wh: `[t]`, of the half hours that are over.
    """
    half_hours, over = len(margin_wh), len(charged_wh)
    edges = np.arange(half_hours + 1)
    capacity = capacity_w / WH_PER_KWH
    conventional = np.maximum(capacity - _kw(margin_wh), 0.0)
    total = conventional[:over] + _kw(charged_wh)
    axes.stairs(conventional, edges, baseline=0, fill=True, color="0.8", linewidth=0, label="conventional")
    if over:
        now = edges[: over + 1]
        axes.stairs(total, now, baseline=conventional[:over], fill=True, color=colours.BALANCE, linewidth=0,
                    label="charging")  # fmt: skip
        if overload_wh.any():
            axes.stairs(total, now, baseline=total - _kw(overload_wh), fill=True, color=colours.BEYOND, linewidth=0,
                        label="overload")  # fmt: skip
    axes.axhline(capacity, color="black", linestyle="--", linewidth=1.2, label="capacity")
    clock_axis(axes, half_hours, start_slot)
    axes.set_ylim(0, 1.08 * max([1e-3, capacity, *total]))
    axes.set_ylabel("kW")
    legend_above(axes, 4)


def _kw(energy_wh: Integers) -> Floats:
    """Mean power of a half hour."""
    power: Floats = energy_wh * HALF_HOURS_PER_HOUR / WH_PER_KWH
    return power


def draw_stations(
    axes: Axes, declared_wh: Integers, quota_wh: Integers, used_wh: Integers, vehicles: Integers, top_kwh: float
) -> None:
    """Each station's half hour, `[N]` each: declaration, final quota, what it charged within it and beyond it.

    Args:
        top_kwh: the most that the axis has to hold.
    """
    declared, quota, used = declared_wh / WH_PER_KWH, quota_wh / WH_PER_KWH, used_wh / WH_PER_KWH
    places = np.arange(len(quota), dtype=np.float64)
    within = np.minimum(used, quota)
    bars(axes, places, declared, "0.85", 0.42, label="declared")
    bars(axes, places, within, colours.BALANCE, 0.3, label="charged")
    if (used > quota).any():
        bars(axes, places, used - within, colours.BEYOND, 0.3, base=within, label="beyond quota")
    axes.hlines(quota, places - 0.42, places + 0.42, color="black", linewidth=1.6, label="quota")
    _station_axis(axes, len(quota), vehicles)
    axes.set_ylim(0, 1.08 * top_kwh or 1.0)
    axes.set_ylabel("kWh")
    legend_above(axes, 4)


def draw_day(axes: Axes, delivered_wh: Integers, unserved_wh: Integers) -> None:
    """What each station's vehicles got since the start of the episode, and what they left without, `[N]`."""
    delivered, unserved = delivered_wh / WH_PER_KWH, unserved_wh / WH_PER_KWH
    places = np.arange(len(delivered), dtype=np.float64)
    bars(axes, places, delivered, colours.DELIVERED, 0.4, label="delivered so far")
    bars(axes, places, unserved, colours.BEYOND, 0.4, base=delivered, label="unserved")
    _station_axis(axes, len(delivered))
    axes.set_ylim(0, 1.08 * (delivered + unserved).max() or 1.0)
    axes.set_ylabel("kWh")
    legend_above(axes, 2)


def _station_axis(axes: Axes, count: int, vehicles: Integers | None = None) -> None:
    """Stations by number; under the number, if there is room, how many vehicles want energy."""
    shown = numbers_shown(count, MAX_NAMES)
    named = vehicles is not None and count <= MAX_NAMES
    axes.set_xticks(shown, [f"{at}\n{vehicles[at]}" if vehicles is not None and named else f"{at}" for at in shown])
    axes.set_xlim(-0.6, count - 0.4)
    axes.grid(axis="y", alpha=0.25)
    axes.set_xlabel("station, and how many vehicles want energy" if named else "station")
