"""Figures inside a page: each drawn twice, for a wide window and for a phone, as SVG in data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure

# Names of folders are text, not formulas; ids by content, so that equal figures are equal bytes.
_STYLE: Any = {
    "svg.hashsalt": "gridmarl",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.labelsize": "medium",
    "xtick.labelsize": "medium",
    "ytick.labelsize": "medium",
    "lines.markersize": 3,
}
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Form:
    """A window's width and what fits into it.

    Attributes:
        columns: panels side by side.
        small: small panels side by side.
        legend: entries of a legend side by side.
    """

    width_in: float
    font_pt: float
    columns: int
    small: int
    legend: int


WIDE = Form(width_in=9.4, font_pt=9.0, columns=2, small=4, legend=4)
NARROW = Form(width_in=4.0, font_pt=9.0, columns=1, small=2, legend=1)

Draw = Callable[[Form], Figure]


@dataclass(frozen=True)
class Picture:
    """A figure for the page.

    Attributes:
        alt: what it shows, with its main numbers.
        wide, narrow: data URIs.
        caption: what there is to see, and how it was made.
    """

    alt: str
    caption: str
    wide: str
    narrow: str


def picture(draw: Draw, alt: str, caption: str) -> Picture:
    """Draw a figure in both forms."""
    return Picture(alt, caption, _data_uri(draw, WIDE), _data_uri(draw, NARROW))


def new_figure(form: Form, height_in: float) -> Figure:
    """An empty figure as wide as the form."""
    return Figure(figsize=(form.width_in, height_in), layout="constrained")


def legend_below(figure: Figure, columns: int) -> None:
    """One legend for all axes, each label once, where it covers no data."""
    entries: dict[str, Artist] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            list(entries.values()), list(entries), loc="outside lower center",
            ncols=min(columns, len(entries)) if len(entries) <= columns else min(3, columns),
            frameon=False, fontsize="medium", handlelength=1.8, columnspacing=1.4,
        )  # fmt: skip


def _data_uri(draw: Draw, form: Form) -> str:
    with style(form):
        return f"data:image/svg+xml;base64,{base64.b64encode(_svg(draw(form))).decode()}"


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=_METADATA)
    return buffer.getvalue()


@contextmanager
def style(form: Form) -> Iterator[None]:
    """Settings of matplotlib while a figure of this form is drawn."""
    with matplotlib.rc_context({**_STYLE, "font.size": form.font_pt}):
        yield
