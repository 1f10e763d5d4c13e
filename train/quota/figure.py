"""Pictures of a comparison: the transformer's load over the day by policy, and over-use against the penalty rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from gridmarl.train.quota.over_use import BEST_RESPONSE, OverUseRow, OverUseTable

# Okabe-Ito: told apart by colour-blind readers and in print
_COLOURS = ("#999999", "#E69F00", "#0072B2", "#56B4E9", "#CC79A7", "#D55E00", "#009E73")
_DASHED = "all over-declare"  # the same as truthful, where it changes nothing


def load_figure(path: Path, load_kwh: Mapping[str, Sequence[float]], margin_kwh: Sequence[float]) -> None:
    """Mean energy of each half hour as a PNG file.

    Args:
        load_kwh: by policy, of each half hour.
        margin_kwh: of each half hour; may be empty where the comparison was cut off.
    """
    figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
    for index, (name, load) in enumerate(load_kwh.items()):
        hours = np.arange(len(load)) / 2
        style = ":" if name == _DASHED else "-"
        axis.step(hours, load, where="post", label=name, color=_COLOURS[index % len(_COLOURS)], linestyle=style)
    if margin_kwh:
        hours = np.arange(len(margin_kwh)) / 2
        axis.step(hours, margin_kwh, where="post", label="mean margin", color="black", linestyle="--")
    axis.set_xlabel("hours since the start of the day")
    axis.set_ylabel("kWh per half hour")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.25)
    figure.legend(loc="outside lower center", fontsize=8, ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


_Value = Callable[[OverUseRow], float]
_PANELS: tuple[tuple[str, tuple[tuple[str, str, _Value], ...]], ...] = (
    (
        "kWh per day",
        (
            ("overload", "#D55E00", lambda row: row.overload_kwh),
            ("over-used", "#E69F00", lambda row: row.over_used_kwh),
            ("unserved", "#0072B2", lambda row: row.unserved_kwh),
        ),
    ),
    ("half hours per day", (("with overload", "#D55E00", lambda row: row.overload_half_hours),)),
    (
        "token per day",
        (
            ("welfare", "#009E73", lambda row: row.welfare_tok),
            ("stations", "#0072B2", lambda row: row.stations_tok),
            ("DSO", "#CC79A7", lambda row: row.dso_income_tok),
        ),
    ),
)
"""Label of an axis; label, colour and figure of each curve."""


def over_use_figure(path: Path, found: OverUseTable) -> None:
    """Over-use, overload, and who has how much more than if all complied, against the penalty rate, as a PNG file;
    crosses are of a learner."""
    figure, axes = plt.subplots(1, len(_PANELS), figsize=(11, 3.8), layout="constrained")
    for axis, (label, curves) in zip(axes, _PANELS, strict=True):
        for name, colour, value in curves:
            _curve(axis, found.rows, value, name, colour)
        axis.axvline(found.ends, color="black", linestyle="--", linewidth=0.8)
        axis.axvline(found.bound, color="black", linestyle=":", linewidth=0.8)
        axis.set_xlim(0, max(1.1 * found.bound, 1.0))
        axis.set_xlabel("penalty rate, token/kWh")
        axis.set_ylabel(f"{label}, beyond complying")
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, frameon=False)
    figure.suptitle("dashed: over-use ends in these days; dotted: no Wh can be worth more", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _curve(axis: Axes, rows: Sequence[OverUseRow], value: _Value, name: str, colour: str) -> None:
    base = value(rows[0])
    points = [(row.policy, row.rate_tok_per_kwh, value(row) - base) for row in rows if row.rate_tok_per_kwh is not None]
    line = ".:" if name == "over-used" else ".-"  # where the margin is used up, the same as the overload
    for shown, style in ((True, line), (False, "x")):
        found = [(rate, figure) for policy, rate, figure in points if (policy == BEST_RESPONSE) == shown]
        axis.plot(*np.reshape(found, (-1, 2)).T, style, color=colour, label=name if shown else None)
