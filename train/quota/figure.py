"""The transformer's load by EV stations over the day, policy by policy, against what it can carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

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
