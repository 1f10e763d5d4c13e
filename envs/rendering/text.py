"""Numbers and series as short text, for frames in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WIDTH = 100
"""Columns that a frame may take."""
LABEL = 10
"""Columns of a line's name."""
_LEVELS = "▁▂▃▄▅▆▇█"


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` decimals where it fits ten characters, else with four significant digits."""
    fixed = f"{value:.{digits}f}"
    shown = fixed if len(fixed) <= 10 else f"{value:.3e}"
    return shown[1:] if shown.startswith("-") and not shown.strip("-0.") else shown  # no -0.000


def sparkline(values: Sequence[float], low: float | None = None, high: float | None = None) -> str:
    """One character per value, from ▁ at `low` to █ at `high` (default: least and greatest); a flat series lies low."""
    if not len(values):
        return ""
    low = min(values) if low is None else low
    high = max(values) if high is None else high
    span = high - low
    if span <= 0:
        return _LEVELS[0] * len(values)
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[min(top, max(0, round((value - low) / span * top)))] for value in values)


def wrap(parts: Sequence[str], indent: int, width: int = WIDTH) -> list[str]:
    """Parts in lines of at most `width` columns, all but the first indented; two spaces between parts."""
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]}  {part}" if lines[-1].strip() else lines[-1] + part
        if len(joined) > width - indent * (len(lines) == 1) and lines[-1].strip():
            lines.append(" " * indent + part)
        else:
            lines[-1] = joined
    return lines


def labelled(name: str, parts: Sequence[str]) -> list[str]:
    """Parts in lines of at most `WIDTH` columns behind a name of at most `LABEL - 1`."""
    first, *rest = wrap(parts, LABEL)
    return [f"{name:<{LABEL}}{first}", *rest]


def extremes(values: Floats, agent: str) -> list[str]:
    """Least, median and greatest, and which agents have them, where there are too many to be spelt out."""
    return [
        f"least {number(values.min())} ({agent}_{values.argmin()})",
        f"median {number(float(np.median(values)))}",
        f"greatest {number(values.max())} ({agent}_{values.argmax()})",
    ]
