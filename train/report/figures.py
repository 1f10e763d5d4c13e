"""The figures of a report: what each shows in numbers, and how it is drawn for a window of a given width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from gridmarl.envs.rendering.curves import draw_market
from gridmarl.envs.rendering.panels import draw_balances
from gridmarl.train.comparison import UTOK_PER_WH_PER_TOKEN_PER_KWH, Profile
from gridmarl.train.figures import (
    Metrics,
    curve_colour,
    curve_points,
    draw_learning,
    draw_load_before_and_after,
    draw_price_against_billing_cost,
    mean_curve,
)
from gridmarl.train.report.play import ChosenHour, View
from gridmarl.train.report.source import Levels, Outcome
from gridmarl.train.report.svg import Form, Picture, legend_below, new_figure, picture
from gridmarl.units import UTOK_PER_TOKEN

Curves = Mapping[str, Sequence[Metrics]]
"""By policy, the metrics of each of its seeds."""
LEARNING = (
    ("eval_gains_share", "gains_share", "share of the gains from trade"),
    ("eval_return", "reward_tok_per_prosumer", "reward, token per prosumer and episode"),
)
EXPLORING = ("return", "", "return while exploring, token")
_NOT_DIAGNOSTIC = {"env_steps", "episodes", "seconds", "return_min", "return_max", "eval_gains_share", "eval_return"}
LOWEST_SHARE, HIGHEST_SHARE = -1.0, 1.08
"""Limits of learning curves, as shares of the gains from trade: early policies may lose many times what can be won."""


def learning_picture(curves: Curves, levels: Levels, episodes: str) -> Picture | None:
    """Evaluations during training against the optimum, truthful bidding and no market; None before the first one.

    Args:
        episodes: a sentence on which ones the evaluations had.
    """
    panels = [panel for panel in LEARNING if _last_values(curves, panel[0])]
    if not panels and _last_values(curves, EXPLORING[0]):
        panels = [EXPLORING]
    if not panels:
        return None

    def draw(form: Form) -> Figure:
        columns = min(form.columns, len(panels))
        figure = new_figure(form, 3.3 if columns == len(panels) else 5.9)
        axes = figure.subplots(len(panels) // columns, columns, squeeze=False).flat
        for axis, (column, unit, title) in zip(axes, panels, strict=True):
            draw_learning(axis, curves, column, levels.get(unit, {}))
            _draw_seeds(axis, curves, column)
            _cut_off(axis, curves, column, unit, levels)
            _steps_axis(axis)
            axis.set_title(title)
        legend_below(figure, form.legend)
        return figure

    return picture(draw, _learning_alt(curves, levels, panels), _learning_caption(curves, panels, episodes))


def _draw_seeds(axis: Axes, curves: Curves, column: str) -> None:
    """Each of several seeds as a thin line."""
    for index, runs in enumerate(curves.values()):
        for metrics in runs if len(runs) > 1 else ():
            axis.plot(*curve_points(metrics, column), color=curve_colour(index), linewidth=0.7, alpha=0.6)


def _cut_off(axis: Axes, curves: Curves, column: str, unit: str, levels: Levels) -> None:
    """Limits that show the references apart, whatever an early policy loses or the band of two seeds spans."""
    scale = _scale(unit, levels)
    if scale is None:
        return
    zero, one = scale
    highest = max([zero + HIGHEST_SHARE * (one - zero), *(float(values.max()) for values in _seeds(curves, column))])
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, _lowest(curves, column, scale)), min(high, highest))


def _scale(unit: str, levels: Levels) -> tuple[float, float] | None:
    """What no market and the optimum are in this unit; None if that is not known."""
    if unit == "gains_share":
        return 0.0, 1.0
    found = levels.get(unit, {})
    return (found["no market"], found["optimum"]) if {"optimum", "no market"} <= set(found) else None


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


def _learning_caption(curves: Curves, panels: Sequence[tuple[str, str, str]], episodes: str) -> str:
    if panels == [EXPLORING]:
        return "Return while exploring; there were no evaluations."
    several = any(len(runs) > 1 for runs in curves.values())
    told = f"Policies as they were at each step, without exploration. {episodes}"
    if several:
        told += " Thick: mean over seeds; band: its 95 % interval, as far as it fits; thin: each seed."
    column, unit, _ = LEARNING[0]
    scale = _scale(unit, {})
    least = min((float(values.min()) for values in _seeds(curves, column)), default=0.0)
    if scale is not None and least < (lowest := _lowest(curves, column, scale)):
        told += f" Shares below {lowest:.3g} are cut off; the least is {least:.3g}."
    return told


def price_picture(outcome: Outcome, colours: Mapping[str, str]) -> Picture:
    """Hourly price of truthful bidding and the trained policies against the aggregator's billing cost."""
    shown = _shown(outcome, ("truthful", *outcome.trained, "aggregator"))

    def draw(form: Form) -> Figure:
        figure = new_figure(form, 3.8 if form.columns > 1 else 4.2)
        axis = figure.subplots()
        draw_price_against_billing_cost(axis, shown, outcome.upstream, colours)
        legend_below(figure, form.legend)
        return figure

    means = [f"{name} {profile.price.mean() / UTOK_PER_WH_PER_TOKEN_PER_KWH:.2f}" for name, profile in shown.items()]
    alt = f"Price in each hour of the episode. Mean over the hours, token/kWh: {', '.join(means)}."
    caption = "The aggregator's line is its billing cost: the one price at which it breaks even in that hour."
    return picture(draw, alt, f"{caption}{_mean_of(outcome)}")


def load_picture(outcome: Outcome, colours: Mapping[str, str]) -> Picture:
    """Hourly load of the trained policies before and after stage 2, and the aggregator's."""
    shown = _shown(outcome, (*(outcome.trained or ["truthful"]), "aggregator"))

    def draw(form: Form) -> Figure:
        figure = new_figure(form, 3.8 if form.columns > 1 else 4.2)
        axis = figure.subplots()
        draw_load_before_and_after(axis, shown, colours)
        legend_below(figure, form.legend)
        return figure

    sums = [
        f"{name} {profile.load_before_kwh.sum():.1f} before and {profile.load_after_kwh.sum():.1f} after"
        for name, profile in shown.items()
        if name != "aggregator"
    ]
    best = [f"aggregator {shown['aggregator'].load_after_kwh.sum():.1f}"] if "aggregator" in shown else []
    alt = f"Load in each hour of the episode. Sum, kWh: {', '.join(sums + best)}."
    caption = "Stage 1: what the orders asked for; after stage 2: what was metered, reductions left out and shifted"
    return picture(draw, alt, f"{caption} energy added where it came back.{_mean_of(outcome)}")


def _shown(outcome: Outcome, names: Sequence[str]) -> dict[str, Profile]:
    return {name: outcome.profiles[name] for name in names if name in outcome.profiles}


def _mean_of(outcome: Outcome) -> str:
    return f" Means over {outcome.lanes} episodes." if outcome.lanes > 1 else ""


def market_picture(hour: ChosenHour, views: Sequence[View]) -> Picture:
    """Supply and demand of one hour, a panel for each policy on the same axes."""
    markets = [view.markets[hour.hour] for view in views]
    widest = 1.05 * max(market.widest_kwh for market in markets) or 1.0

    def draw(form: Form) -> Figure:
        columns = min(form.columns, len(views))
        rows = -(-len(views) // columns)
        figure = new_figure(form, (3.4 if columns > 1 else 4.0) * rows)
        panels = figure.subfigures(rows, columns, squeeze=False).flat
        for panel, view, market in zip(panels, views, markets, strict=False):
            axis = panel.subplots()
            draw_market(axis, market, energy_limit_kwh=widest, legend=False)
            axis.set_title(view.label, fontweight="bold")
            size = "small" if columns > 1 else "medium"
            panel.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=size)
        return figure

    found = [
        f"{view.label}: {market.volume_wh / 1000:.2f} kWh traded at "
        f"{market.price_utok_per_wh / UTOK_PER_WH_PER_TOKEN_PER_KWH:.2f} token/kWh, "
        f"{market.shortage_wh / 1000:.2f} kWh short, {market.reduced_wh / 1000:.2f} kWh reduced"
        for view, market in zip(views, markets, strict=True)
    ]
    alt = f"Supply and demand curves, {hour.name}. {'; '.join(found)}."
    return picture(draw, alt, f"Shown because {', and '.join(hour.reasons)}.")


def _hide(axes: Sequence[Axes]) -> None:
    for axis in axes:
        axis.set_axis_off()


def balances_picture(views: Sequence[View]) -> Picture:
    """What each prosumer and the operator gained or lost over an episode, mean over episodes, a panel per policy."""
    means = [view.change_utok.mean(1) / UTOK_PER_TOKEN for view in views]

    def draw(form: Form) -> Figure:
        figure = new_figure(form, 0.5 + 1.9 * len(views))
        axes = figure.subplots(len(views), 1, sharey=True, squeeze=False).flat
        operator = "operator" if form.columns > 1 else "oper-\nator"
        for axis, view, mean in zip(axes, views, means, strict=True):
            draw_balances(axis, mean[:-3], [(operator, float(mean[-2]))])
            axis.set_title(view.label, loc="left")
            axis.set_xlabel("")
            axis.set_ylabel("token")
        figure.axes[-1].set_xlabel("prosumer")
        return figure

    found = [
        f"{view.label}: prosumers from {mean[:-3].min():.1f} to {mean[:-3].max():.1f}, operator {mean[-2]:.1f}"
        for view, mean in zip(views, means, strict=True)
    ]
    alt = f"Balances at the end of an episode, token. {'; '.join(found)}."
    lanes = views[0].change_utok.shape[1]
    caption = "What the account of each prosumer and of the operator gained over an episode."
    return picture(draw, alt, caption + (f" Means over {lanes} episodes." if lanes > 1 else ""))


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
