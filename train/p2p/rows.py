"""One row of the comparison per form of local trade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridmarl.metrics import gini, mean_and_interval, peak_to_average, self_sufficiency
from gridmarl.train.comparison import share_interval
from gridmarl.train.p2p.disclosure import HOURS_PER_DAY
from gridmarl.train.p2p.forms import NO_TRADE, AllForms, Played
from gridmarl.train.p2p.homes import Homes, Ints
from gridmarl.units import UTOK_PER_TOKEN

Array = NDArray[np.float64]
UTOK_PER_WH_PER_TOKEN_PER_KWH = 1_000.0
LEAST_GAIN = 0.001
"""Below this share of the cost without trade, gains are too small to divide by."""


@dataclass(frozen=True)
class P2PRow:
    """Means per day of the community, over episodes; tokens and kWh. None: not defined for this row.

    Attributes:
        cost_tok: what the retailer is paid in all, which is what the homes pay.
        saved_tok: less than without trade; the intervals are half-widths of 95 % intervals over episodes.
        gains_share: of what the aggregator's planner can save at most.
        import_kwh, export_kwh: with the retailer, as the meters say that the form bills by.
        local_kwh: exchanged between homes.
        self_sufficiency: share of the load that was not imported.
        peak_to_average: of the energy that the homes together draw from the grid, battery charging included.
        local_price_tok_per_kwh: mean over the energy exchanged.
        bill_tok: of a home; `least_bill_tok` and `most_bill_tok` are the means of the homes that pay least and most.
        bill_gini: of the mean bills of the homes; not defined where one of them earns (NaN).
        bill_difference_tok: mean absolute difference between the mean bills of two homes, which always is.
        worst_tok: how much more than without trade the home pays that gains least; negative: even that home gains.
        worse_off_homes: homes that pay more than without trade, per episode.
        worse_off_count: the same, all homes and episodes together.
        messages_per_hour, numbers_per_home_day, hours_ahead, known_to: see `Disclosure`.
    """

    name: str
    cost_tok: float
    cost_interval_tok: float
    saved_tok: float
    saved_interval_tok: float
    gains_share: float | None
    gains_share_interval: float | None
    import_kwh: float
    export_kwh: float
    local_kwh: float
    self_sufficiency: float
    peak_to_average: float
    local_price_tok_per_kwh: float | None
    bill_tok: float
    bill_gini: float
    bill_difference_tok: float
    least_bill_tok: float
    most_bill_tok: float
    worst_tok: float
    worst_interval_tok: float
    worse_off_homes: float
    worse_off_count: int
    messages_per_hour: float
    numbers_per_home_day: float
    hours_ahead: int
    known_to: str


def form_rows(homes: Homes, forms: AllForms, played: Sequence[Played]) -> list[P2PRow]:
    """A row of each of `played`, which `forms` has; the first of its forms is trade with the retailer alone."""
    assert forms.played[0].name == NO_TRADE
    return [_row(homes, form, forms.played[0].bill_utok, forms.least_cost_utok) for form in played]


def _row(homes: Homes, form: Played, alone_utok: Ints, least_utok: Ints) -> P2PRow:
    hours, _, lanes = homes.load_wh.shape
    days = hours / HOURS_PER_DAY

    def per_day(values: Ints, unit: float) -> Array:
        """Of each episode."""
        found: Array = values.astype(np.float64) / unit / days
        return found

    def kwh(values: Ints) -> float:
        return float(per_day(values.sum(0), 1_000.0).mean())

    cost, before = form.bill_utok.sum(0), alone_utok.sum(0)
    cost_mean, cost_width = mean_and_interval(per_day(cost, UTOK_PER_TOKEN))
    saved, saved_width = mean_and_interval(per_day(before - cost, UTOK_PER_TOKEN))
    share, share_width = _share((before - cost).astype(np.float64), (before - least_utok).astype(np.float64), before)
    more = form.bill_utok - alone_utok
    worst, worst_width = mean_and_interval(per_day(more.max(0), UTOK_PER_TOKEN))
    bills = per_day(form.bill_utok, UTOK_PER_TOKEN).mean(1)
    drawn = np.maximum(form.net_wh.sum(1), 0).astype(np.float64)
    exchanged = int(form.local_wh.sum())
    price = None
    if form.local_utok is not None and exchanged:
        price = float(form.local_utok.sum()) / exchanged / UTOK_PER_WH_PER_TOKEN_PER_KWH
    return P2PRow(
        name=form.name,
        cost_tok=cost_mean,
        cost_interval_tok=cost_width,
        saved_tok=saved,
        saved_interval_tok=saved_width,
        gains_share=share,
        gains_share_interval=share_width,
        import_kwh=kwh(form.import_wh),
        export_kwh=kwh(form.export_wh),
        local_kwh=kwh(form.local_wh),
        self_sufficiency=self_sufficiency(form.import_wh.astype(np.float64), homes.load_wh.astype(np.float64)),
        peak_to_average=peak_to_average(drawn),
        local_price_tok_per_kwh=price,
        bill_tok=float(bills.mean()),
        bill_gini=gini(bills),
        bill_difference_tok=float(np.abs(bills[:, None] - bills).sum()) / max(1, bills.size * (bills.size - 1)),
        least_bill_tok=float(bills.min()),
        most_bill_tok=float(bills.max()),
        worst_tok=worst,
        worst_interval_tok=worst_width,
        worse_off_homes=int((more > 0).sum()) / lanes,
        worse_off_count=int((more > 0).sum()),
        messages_per_hour=form.disclosure.messages_per_hour,
        numbers_per_home_day=form.disclosure.numbers_per_home_day,
        hours_ahead=form.disclosure.hours_ahead,
        known_to=form.disclosure.to,
    )


def _share(captured: Array, possible: Array, before: Ints) -> tuple[float | None, float | None]:
    if possible.sum() <= LEAST_GAIN * np.abs(before).sum():
        return None, None
    return float(captured.sum() / possible.sum()), share_interval(captured, possible)
