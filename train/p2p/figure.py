"""Figures of the comparison: bills home by home, and what the community draws from the grid, form by form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

# Okabe-Ito: told apart by colour-blind readers and in print
_COLOURS = ("#999999", "#E69F00", "#56B4E9", "#0072B2", "#CC79A7", "#D55E00")
_STYLES = ("-", "-", ":", "-", "-", "--")  # community and aggregator may draw nearly the same


def bills_figure(path: Path, bills_tok: Mapping[str, Sequence[float]], owners: Sequence[bool]) -> None:
    """Bars of each home's mean bill by form, as a PNG file.

    Args:
        path: of the file.
        bills_tok: by form, of each home, tokens per day.
        owners: which homes have a battery; they are marked.
    """
    figure, axis = plt.subplots(figsize=(max(9.0, 0.55 * len(owners)), 4.2), layout="constrained")
    homes, width = np.arange(len(owners)), 0.8 / max(1, len(bills_tok))
    for index, (name, bills) in enumerate(bills_tok.items()):
        place = homes + (index - (len(bills_tok) - 1) / 2) * width
        axis.bar(place, bills, width, label=name, color=_COLOURS[index % len(_COLOURS)])
    axis.set_xticks(homes, [f"{home}{' *' if owner else ''}" for home, owner in enumerate(owners)], fontsize=8)
    axis.set_xlabel("home" + (" (* has a battery)" if any(owners) else ""))
    axis.set_ylabel("bill, token per day")
    axis.axhline(0, color="black", linewidth=0.6)
    _finish(figure, path)


def load_figure(path: Path, drawn_kwh: Mapping[str, Sequence[float]]) -> None:
    """Mean net load of the community in each hour of the episode, as a PNG file; forms with the same load share a line.

    Args:
        path: of the file.
        drawn_kwh: by form, of each hour; negative: fed in.
    """
    figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
    together: dict[tuple[float, ...], list[str]] = {}
    for name, load in drawn_kwh.items():
        together.setdefault(tuple(load), []).append(name)
    for load, names in together.items():
        index = list(drawn_kwh).index(names[0])
        colour, style = _COLOURS[index % len(_COLOURS)], _STYLES[index % len(_STYLES)]
        axis.step(np.arange(len(load)), load, where="post", label=", ".join(names), color=colour, linestyle=style)
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_xlabel("hour of the episode")
    axis.set_ylabel("net load of all homes, kWh per hour")
    _finish(figure, path)


def _finish(figure: Figure, path: Path) -> None:
    for axis in figure.axes:
        axis.grid(alpha=0.25)
    figure.legend(loc="outside lower center", fontsize=8, ncols=6, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
