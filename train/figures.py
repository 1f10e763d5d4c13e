"""Figures of a comparison as PNG files: price against billing cost, load before and after stage 2, gains from trade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gridmarl.metrics import mean_and_interval
from gridmarl.train.comparison import UTOK_PER_WH_PER_TOKEN_PER_KWH, Profile, Row

# Okabe-Ito: told apart by colour-blind readers and in print
COLOURS = {
    "no market": "#999999",
    "zero-intelligence": "#E69F00",
    "truthful": "#0072B2",
    "inflate": "#CC79A7",
    "deep Q": "#D55E00",
    "aggregator": "#000000",
}


def colours_of(trained: Sequence[str]) -> dict[str, str]:
    """Colour by name: of the references, and of trained policies in the order of their learning curves."""
    return COLOURS | {name: curve_colour(index) for index, name in enumerate(trained)}


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _legend_below(figure: Figure, columns: int) -> None:
    """Under the axes, where it covers no data; none for a run that was cut off before it had any."""
    if not any(axis.get_legend_handles_labels()[0] for axis in figure.axes):
        return
    figure.legend(loc="outside lower center", fontsize=8, ncols=columns, frameon=False)


def _hours_axis(axis: Axes, hours: int) -> None:
    axis.set_xlim(0, hours)
    axis.set_xticks(range(0, hours + 1, 6 if hours <= 72 else 24))
    axis.set_xlabel("hour")
    axis.grid(alpha=0.25)
    for midnight in range(24, hours, 24):
        axis.axvline(midnight, color="0.7", linewidth=0.8)


def price_against_billing_cost(
    profiles: Mapping[str, Profile],
    import_price: NDArray[np.float64],
    export_price: NDArray[np.float64],
    path: Path,
    title: str,
    colours: Mapping[str, str] = COLOURS,
) -> Path:
    """Hourly market price of each policy against the aggregator's break-even price (the chapter's figs. 5 and 6)."""
    figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
    draw_price_against_billing_cost(axis, profiles, (import_price, export_price), colours)
    axis.set_title(title, fontsize=11)
    _legend_below(figure, 4)
    return _save(figure, path)


def draw_price_against_billing_cost(
    axis: Axes,
    profiles: Mapping[str, Profile],
    upstream: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    colours: Mapping[str, str] = COLOURS,
) -> None:
    """As steps over the hours, with labels for a legend.

    Args:
        upstream: import and export price, `[T]` each, µtok/Wh; None: not known.
        colours: by name, as `colours_of` gives them.
    """
    hours = len(next(iter(profiles.values())).price)
    edges = np.arange(hours + 1)
    if upstream is not None:
        roof, band = (np.append(price, price[-1]) / UTOK_PER_WH_PER_TOKEN_PER_KWH for price in upstream)
        axis.fill_between(edges, band, roof, step="post", color="0.92", label="export to import price")
    for name, profile in profiles.items():
        wide = name == "aggregator"
        axis.stairs(
            profile.price / UTOK_PER_WH_PER_TOKEN_PER_KWH,
            edges,
            label="aggregator: billing cost (break-even price)" if wide else f"{name}: market price",
            color=colours[name],
            linewidth=2.2 if wide else 1.5,
            linestyle="--" if wide else "-",
            baseline=None,
        )
    _hours_axis(axis, hours)
    axis.set_ylabel("token/kWh")


def load_before_and_after(
    profiles: Mapping[str, Profile], path: Path, title: str, colours: Mapping[str, str] = COLOURS
) -> Path:
    """Total load of the community before and after stage 2, and under the aggregator (the chapter's figs. 8 and 9)."""
    figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
    draw_load_before_and_after(axis, profiles, colours)
    axis.set_title(title)
    _legend_below(figure, 5)
    return _save(figure, path)


def draw_load_before_and_after(
    axis: Axes, profiles: Mapping[str, Profile], colours: Mapping[str, str] = COLOURS
) -> None:
    """As steps over the hours, with labels for a legend; `colours` by name, as `colours_of` gives them."""
    hours = len(next(iter(profiles.values())).load_after_kwh)
    edges = np.arange(hours + 1)
    for name, profile in profiles.items():
        if name == "aggregator":
            axis.stairs(
                profile.load_after_kwh, edges, color="black", linestyle=":", linewidth=1.8, label=name, baseline=None
            )
            continue
        colour = colours[name]
        axis.stairs(profile.load_before_kwh, edges, color=colour, alpha=0.45, label=f"{name}: stage 1", baseline=None)
        axis.stairs(
            profile.load_after_kwh, edges, color=colour, linewidth=2.0, label=f"{name}: after stage 2", baseline=None
        )
    _hours_axis(axis, hours)
    axis.set_ylabel("load, kWh in the hour")
    axis.set_ylim(bottom=0)


def gains_bars(rows: Mapping[str, Sequence[Row]], path: Path) -> Path:
    """Gains from trade captured by each row, in tokens, one group per reading; whiskers: 95 % over episodes."""
    figure, axis = plt.subplots(figsize=(8, 4.4), layout="constrained")
    names = [row.name for row in next(iter(rows.values()))]
    width = 0.8 / len(rows)
    for index, (reading, group) in enumerate(rows.items()):
        bars = axis.bar(
            np.arange(len(group)) + (index - (len(rows) - 1) / 2) * width,
            [row.gains_tok for row in group],
            width * 0.92,
            yerr=[(row.gains_share_interval or 0.0) * row.gains_possible_tok for row in group],
            error_kw={"elinewidth": 0.8, "ecolor": "0.35"},
            color=[COLOURS.get(row.name, curve_colour(1)) for row in group],
            alpha=1.0 if index == 0 else 0.45,
            hatch="" if index == 0 else "//",
        )
        axis.bar_label(
            bars,
            labels=["n/a" if row.gains_share is None else f"{row.gains_share:.0%}" for row in group],
            fontsize=7,
            padding=2,
        )
        axis.bar(0, 0, color="0.4", alpha=1.0 if index == 0 else 0.45, hatch="" if index == 0 else "//", label=reading)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.margins(y=0.12)
    axis.set_xticks(range(len(names)), names)
    axis.set_ylabel("welfare beyond no market,\ntoken per episode")
    axis.set_title("Gains from trade and share of the aggregator's (whiskers: 95 % over episodes)", fontsize=11)
    axis.grid(axis="y", alpha=0.25)
    axis.set_axisbelow(True)
    _legend_below(figure, len(rows))
    return _save(figure, path)


def comparison_figures(
    folder: Path,
    scenario: str,
    rows: Mapping[str, Sequence[Row]],
    profiles: Mapping[str, Mapping[str, Profile]],
    import_price: NDArray[np.float64],
    export_price: NDArray[np.float64],
    trained: Sequence[str] = ("deep Q",),
) -> None:
    """All figures of a comparison, as far as it came; readings that were interrupted have none.

    Args:
        trained: rows that were trained; their prices and loads are drawn.
    """
    colours = colours_of(trained)
    complete = {name: group for name, group in rows.items() if group[-1].name == "aggregator"}
    for reading in complete:
        of, found = f"{scenario}, {reading}, mean over episodes", profiles[reading]
        price_against_billing_cost(
            {name: found[name] for name in ("truthful", *trained, "aggregator")},
            import_price,
            export_price,
            folder / f"price-{reading}.png",
            f"Market price and the aggregator's billing cost ({of})",
            colours,
        )
        load_before_and_after(
            {name: found[name] for name in (*trained, "aggregator")},
            folder / f"load-{reading}.png",
            f"Load before and after stage 2 ({of})",
            colours,
        )
    if complete:
        gains_bars(complete, folder / "gains.png")


Metrics = Sequence[Mapping[str, str]]
"""Rows of a run's metrics.csv."""
_DASHES: tuple[Any, ...] = ("--", "-.", (0, (1, 1.5)))
_SHOWN_AS = {"optimum": "aggregator", "coordinator": "aggregator", "no trade": "no market"}


def learning_curve(
    curves: Mapping[str, Sequence[Metrics]],
    levels: Mapping[str, float | None],
    path: Path,
    *,
    whose: str = "prosumer",
) -> Path:
    """Return per prosumer and episode in evaluations, against references such as the optimum.

    Args:
        curves: by agent, the metrics of each of its seeds. A single seed is shown while exploring, too.
        levels: references in the same unit, on the episodes of the evaluations.
        whose: what an agent is called.
    """
    figure, axis = plt.subplots(figsize=(8, 4.4), layout="constrained")
    draw_learning(axis, curves, "eval_return", levels)
    if len(curves) == 1:
        ((agent, runs),) = curves.items()
        steps, values = curve_points(runs[0], "return")
        if len(runs) == 1 and len(steps):
            axis.plot(steps, values, ":", color=curve_colour(0), label=f"{agent}: while exploring")
    axis.set_ylabel(f"token per {whose} and episode")
    axis.set_title("Learning against the optimum")
    _legend_below(figure, 5)
    return _save(figure, path)


def draw_learning(
    axis: Axes, curves: Mapping[str, Sequence[Metrics]], column: str, levels: Mapping[str, float | None]
) -> None:
    """Curves of a column of the evaluations, mean and 95 % interval over seeds, and a line for each level."""
    for index, (agent, runs) in enumerate(curves.items()):
        shared, mean, width = mean_curve(runs, column)
        if not len(shared):
            continue
        what = f"{agent}: {len(runs)} seeds, 95 % interval" if len(runs) > 1 else f"{agent}: held-out episodes"
        axis.plot(shared, mean, "-o", color=curve_colour(index), markersize=3, label=what)
        if len(runs) > 1:
            axis.fill_between(shared, mean - width, mean + width, color=curve_colour(index), alpha=0.2, linewidth=0)
    for (name, level), dashes in zip(levels.items(), _DASHES, strict=False):
        if level is not None:
            colour = COLOURS.get(_SHOWN_AS.get(name, name), "0.5")
            axis.axhline(level, color=colour, linestyle=dashes, linewidth=1.4, label=name)
    axis.set_xlabel("steps of one lane")
    axis.grid(alpha=0.25)


def mean_curve(
    runs: Sequence[Metrics], column: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps that all seeds have reached, mean of a column over the seeds there, half-width of its 95 % interval."""
    found = [dict(zip(*curve_points(metrics, column), strict=True)) for metrics in runs]
    # a run that goes on has fewer rows
    shared = sorted(set.intersection(*map(set, found))) if found else []
    table = [mean_and_interval(np.array([points[step] for points in found])) for step in shared]
    mean, width = np.array(table, dtype=np.float64).reshape(-1, 2).T
    return np.array(shared, dtype=np.int64), mean, width


def curve_points(metrics: Metrics, column: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps and values of the rows that have this column."""
    rows = [(int(row["env_steps"]), float(row[column])) for row in metrics if row.get(column)]
    return np.array([step for step, _ in rows], dtype=np.int64), np.array([value for _, value in rows])


def curve_colour(index: int) -> str:
    """Colour of the trained policies, in order; none is that of a reference."""
    return ("#D55E00", "#009E73", "#56B4E9", "#CC79A7", "#F0E442", "#E69F00")[index % 6]
