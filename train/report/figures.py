"""Figures of the two-stage market: what each shows in numbers, and how it is drawn for a window of a given width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from gridmarl.envs.rendering.curves import draw_market
from gridmarl.envs.rendering.panels import draw_balances
from gridmarl.train.comparison import UTOK_PER_WH_PER_TOKEN_PER_KWH, Profile
from gridmarl.train.figures import draw_load_before_and_after, draw_price_against_billing_cost
from gridmarl.train.report.play import ChosenHour, View
from gridmarl.train.report.source import Outcome
from gridmarl.train.report.svg import Form, Picture, legend_below, new_figure, picture
from gridmarl.units import UTOK_PER_TOKEN


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
