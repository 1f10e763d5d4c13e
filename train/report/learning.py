"""Learning curves and diagnostics, of any environment: columns of metrics.csv over the steps of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from gridmarl.train.figures import Metrics, curve_colour, curve_points, draw_learning, mean_curve
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.report.source import Comparison, Levels
from gridmarl.train.report.svg import Form, Picture, legend_below, new_figure, picture
from gridmarl.train.runs import Run, load_run

Curves = Mapping[str, Sequence[Metrics]]
"""By policy, the metrics of each of its seeds."""


@dataclass(frozen=True)
class LearningAxes:
    """What the learning curves of an environment are drawn in.

    Attributes:
        panels: column of metrics.csv, unit of the levels, title; the first one is the share of the gains.
        zero, one: the references between which a share of the gains is measured.
    """

    panels: tuple[tuple[str, str, str], ...]
    zero: str
    one: str


MARKET_AXES = LearningAxes(
    panels=(
        ("eval_gains_share", "gains_share", "share of the gains from trade"),
        ("eval_return", "reward_tok_per_prosumer", "reward, token per prosumer and episode"),
    ),
    zero="no market",
    one="optimum",
)
EXPLORING = ("return", "", "return while exploring, token")
_NOT_DIAGNOSTIC = {"env_steps", "episodes", "seconds", "return_min", "return_max", "eval_gains_share", "eval_return"}
LOWEST_SHARE, HIGHEST_SHARE = -1.0, 1.08
"""Limits of learning curves, as shares of the gains from trade: early policies may lose many times what can be won."""


def learning_picture(curves: Curves, levels: Levels, episodes: str, axes: LearningAxes = MARKET_AXES) -> Picture | None:
    """Evaluations during training against the references; None before the first one.

    Args:
        episodes: a sentence on which ones the evaluations had.
        axes: what is drawn of them.
    """
    panels = [panel for panel in axes.panels if _last_values(curves, panel[0])]
    if not panels and _last_values(curves, EXPLORING[0]):
        panels = [EXPLORING]
    if not panels:
        return None

    def draw(form: Form) -> Figure:
        columns = min(form.columns, len(panels))
        figure = new_figure(form, 3.3 if columns == len(panels) else 5.9)
        places = figure.subplots(len(panels) // columns, columns, squeeze=False).flat
        for axis, (column, unit, title) in zip(places, panels, strict=True):
            draw_learning(axis, curves, column, levels.get(unit, {}))
            _draw_seeds(axis, curves, column)
            _cut_off(axis, curves, column, _scale(axes, unit, levels))
            _steps_axis(axis)
            axis.set_title(title)
        legend_below(figure, form.legend)
        return figure

    return picture(draw, _learning_alt(curves, levels, panels), _learning_caption(curves, panels, episodes, axes))


def _draw_seeds(axis: Axes, curves: Curves, column: str) -> None:
    """Each of several seeds as a thin line."""
    for index, runs in enumerate(curves.values()):
        for metrics in runs if len(runs) > 1 else ():
            axis.plot(*curve_points(metrics, column), color=curve_colour(index), linewidth=0.7, alpha=0.6)


def _cut_off(axis: Axes, curves: Curves, column: str, scale: tuple[float, float] | None) -> None:
    """Limits that show the references apart, whatever an early policy loses or the band of two seeds spans."""
    if scale is None:
        return
    zero, one = scale
    highest = max([zero + HIGHEST_SHARE * (one - zero), *(float(values.max()) for values in _seeds(curves, column))])
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, _lowest(curves, column, scale)), min(high, highest))


def _scale(axes: LearningAxes, unit: str, levels: Levels) -> tuple[float, float] | None:
    """What none and all of the gains are in this unit; None if that is not known."""
    if unit == "gains_share":
        return 0.0, 1.0
    found = levels.get(unit, {})
    return (found[axes.zero], found[axes.one]) if {axes.zero, axes.one} <= set(found) else None


def _lowest(curves: Curves, column: str, scale: tuple[float, float]) -> float:
    """Where a learning curve is cut off below; each one's last value stays in sight."""
    zero, one = scale
    ends = [mean - 0.1 * (one - zero) for _, mean, _ in _last_values(curves, column).values()]
    return min([zero + LOWEST_SHARE * (one - zero), *ends])


def _seeds(curves: Curves, column: str) -> list[NDArray[np.float64]]:
    """Values of every seed that has any."""
    found = [curve_points(metrics, column)[1] for runs in curves.values() for metrics in runs]
    return [values for values in found if len(values)]


def _steps_axis(axis: Axes) -> None:
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_xlim(left=0)


def _last_values(curves: Curves, column: str) -> dict[str, tuple[int, float, float]]:
    """By policy, the last step that all seeds have reached, mean and half-width of the interval there."""
    found = {}
    for name, runs in curves.items():
        steps, mean, width = mean_curve(runs, column)
        if len(steps):
            found[name] = int(steps[-1]), float(mean[-1]), float(width[-1])
    return found


def _learning_alt(curves: Curves, levels: Levels, panels: Sequence[tuple[str, str, str]]) -> str:
    parts = []
    for column, unit, title in panels:
        values = [
            f"{name} {mean:.3g}{f' ± {width:.2g}' if width else ''} after {step:,} steps"
            for name, (step, mean, width) in _last_values(curves, column).items()
        ]
        values += [f"{name} {value:.3g}" for name, value in levels.get(unit, {}).items()]
        parts.append(f"{title}: {', '.join(values)}")
    return f"Learning curves. {'; '.join(parts)}."


def _learning_caption(curves: Curves, panels: Sequence[tuple[str, str, str]], episodes: str, axes: LearningAxes) -> str:
    if panels == [EXPLORING]:
        return "Return while exploring; there were no evaluations."
    several = any(len(runs) > 1 for runs in curves.values())
    told = f"Policies as they were at each step, without exploration. {episodes}"
    if several:
        told += " Thick: mean over seeds; band: its 95 % interval, as far as it fits; thin: each seed."
    column, unit, _ = axes.panels[0]
    scale = _scale(axes, unit, {})
    least = min((float(values.min()) for values in _seeds(curves, column)), default=0.0)
    if scale is not None and least < (lowest := _lowest(curves, column, scale)):
        told += f" Shares below {lowest:.3g} are cut off; the least is {least:.3g}."
    return told


def _hide(axes: Sequence[Axes]) -> None:
    for axis in axes:
        axis.set_axis_off()


def diagnostics_picture(curves: Curves) -> Picture | None:
    """All other columns of metrics.csv as small panels; None where there are none."""
    columns = diagnostic_columns(curves)
    if not columns:
        return None

    def draw(form: Form) -> Figure:
        rows = -(-len(columns) // form.small)
        figure = new_figure(form, 0.4 + 1.55 * rows)
        axes = list(figure.subplots(rows, form.small, squeeze=False).flat)
        for axis, column in zip(axes, columns, strict=False):
            _draw_diagnostic(axis, curves, column)
        _hide(axes[len(columns) :])
        legend_below(figure, form.legend)
        return figure

    last = {column: _last_values(curves, column) for column in columns}
    told = [f"{column} {', '.join(f'{mean:.3g}' for _, mean, _ in values.values())}" for column, values in last.items()]
    alt = f"Learning diagnostics over the steps of training. Last values: {'; '.join(told)}."
    caption = "Every other column of metrics.csv by its name there, over the steps of one lane; means over seeds with"
    return picture(draw, alt, f"{caption} the 95 % interval as a band.")


def diagnostic_columns(curves: Curves) -> list[str]:
    """Columns of metrics.csv with numbers in them, in the order of their first occurrence."""
    found = dict.fromkeys(key for runs in curves.values() for metrics in runs for row in metrics for key in row)
    return [column for column in found if column not in _NOT_DIAGNOSTIC and _last_values(curves, column)]


def _draw_diagnostic(axis: Axes, curves: Curves, column: str) -> None:
    for index, (name, runs) in enumerate(curves.items()):
        steps, mean, width = mean_curve(runs, column)
        if len(steps):
            axis.plot(steps, mean, color=curve_colour(index), linewidth=1.0, label=name)
            axis.fill_between(steps, mean - width, mean + width, color=curve_colour(index), alpha=0.2, linewidth=0)
    _steps_axis(axis)
    axis.xaxis.set_major_locator(MaxNLocator(2))
    axis.yaxis.set_major_locator(MaxNLocator(3))
    axis.set_title(column, fontsize="medium")
    axis.grid(alpha=0.25)


@dataclass(frozen=True)
class Learned:
    """What the learning curves are drawn of."""

    curves: Curves
    levels: Levels


def gather_curves(
    named: Mapping[str, Run],
    comparisons: Sequence[Comparison],
    levels_of: Callable[[Run], Levels],
    common: Levels,
    notes: list[str],
) -> Learned:
    """Metrics of every run, and the levels of the references where all had the same evaluations.

    Args:
        levels_of: what the references reach in the evaluations of a run.
        common: levels that hold for any episodes, in place of those that differ.
        notes: gets a sentence for each thing that is missing.
    """
    runs = dict(named)
    for item in comparisons:
        for path in map(Path, item.config.get("policies", ())):
            if path.is_dir():
                runs.setdefault(path.resolve().name, load_run(path))
            elif path.suffix != ".zip":
                notes.append(f"{item.name}: {path} is not there any more, so its learning curve is not shown.")
    curves = {name: [seed.metrics for seed in run.seeds] for name, run in runs.items()}
    curves |= {name: [read_metrics(path)] for item in comparisons for name, path in item.training_folders().items()}
    found = [levels_of(run) for run in runs.values()]
    if any(levels != found[0] for levels in found):
        notes.append("The runs were evaluated on different episodes while training: their curves have no common lines.")
        return Learned(curves, common)
    return Learned(curves, found[0] if found else {})
