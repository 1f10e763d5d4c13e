"""Figures: drawn from what there is, labelled with units, legends beside the data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from gridmarl.train import figures
from gridmarl.train.comparison import Profile, Row
from gridmarl.train.figures import COLOURS, comparison_figures, gains_bars, learning_curve

HOURS = 48


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """The figures themselves, before they are closed."""
    found: list[Figure] = []
    monkeypatch.setattr(plt, "close", found.append)
    yield found
    monkeypatch.undo()
    for figure in found:
        plt.close(figure)


def row(name: str, share: float | None, gains: float) -> Row:
    values: dict[str, Any] = dict.fromkeys(Row.__dataclass_fields__, 1.0)
    values |= {"name": name, "gains_share": share, "gains_share_interval": 0.1, "gains_tok": gains}
    return Row(**values | {"gains_possible_tok": 100.0})


def profile(level: float) -> Profile:
    return Profile(np.full(HOURS, 1000.0 * level), np.full(HOURS, level), np.full(HOURS, level - 1))


def all_of(tmp_path: Path, complete: bool = True) -> None:
    names = list(COLOURS) if complete else list(COLOURS)[:3]
    rows = [row(name, 0.25 * index - 0.5, 25.0 * index - 50) for index, name in enumerate(names)]
    profiles = {name: profile(index + 3.0) for index, name in enumerate(COLOURS)}
    limits = np.full(HOURS, 15_000.0), np.full(HOURS, 4_000.0)
    comparison_figures(tmp_path, "toy", {"two_settlement": rows}, {"two_settlement": profiles}, *limits)


def test_every_figure_has_labels_units_and_a_legend_off_the_data(tmp_path: Path, drawn: list[Figure]) -> None:
    all_of(tmp_path)
    metrics = [{"env_steps": "10", "return": "1.5", "eval_return": "2"}]
    learning_curve({"x": [metrics]}, {"optimum": 3.0}, tmp_path / "l.png")
    assert {path.name for path in tmp_path.iterdir()} == {
        "price-two_settlement.png",
        "load-two_settlement.png",
        "gains.png",
        "l.png",
    }
    assert len(drawn) == 4
    for figure in drawn:
        (axis,) = figure.axes
        assert axis.get_title()
        assert any(unit in axis.get_ylabel() for unit in ("token", "kWh"))
        assert axis.get_xlabel() or len(axis.get_xticklabels()) == len(COLOURS)
        (legend,) = figure.legends
        assert axis.get_legend() is None
        figure.canvas.draw()
        assert legend.get_window_extent().y1 <= axis.get_window_extent().y0
        assert legend.get_window_extent().x0 >= 0
        assert legend.get_window_extent().x1 <= figure.bbox.x1
        assert axis.title.get_window_extent().x1 <= figure.bbox.x1


def test_prices_are_drawn_in_tokens_per_kwh(tmp_path: Path, drawn: list[Figure]) -> None:
    all_of(tmp_path)
    labels = drawn[0].axes[0].get_legend_handles_labels()[1]
    assert labels == [
        "export to import price",
        "truthful: market price",
        "deep Q: market price",
        "aggregator: billing cost (break-even price)",
    ]
    low, high = drawn[0].axes[0].get_ylim()
    assert 0 < low < 4 < 15 < high < 20


def test_bars_carry_their_share(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [row("truthful", 0.8, 80.0), row("deep Q", None, -5.0)]
    gains_bars({"two_settlement": rows, "additive": rows}, tmp_path / "gains.png")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["80%", "n/a"] * 2
    assert drawn[0].axes[0].get_legend_handles_labels()[1] == ["two_settlement", "additive"]


def test_an_interrupted_reading_has_no_figures(tmp_path: Path) -> None:
    all_of(tmp_path, complete=False)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_any_return_yet(tmp_path: Path) -> None:
    learning_curve({"dqn": [[]]}, {}, tmp_path / "learning.png")
    assert (tmp_path / "learning.png").stat().st_size > 0


def test_colours_are_of_a_palette_made_for_colour_blind_eyes() -> None:
    """Okabe and Ito's, with a grey."""
    okabe_ito = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000", "#999999"}
    assert set(figures.COLOURS.values()) <= okabe_ito
    assert len(set(figures.COLOURS.values())) == len(figures.COLOURS)
