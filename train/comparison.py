"""One row of the comparison per policy: the market played by it, or a benchmark by definition."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gridmarl.metrics import (
    gains_from_trade,
    gini,
    load_variance,
    mean_and_interval,
    peak_to_average,
    price_gap,
    self_sufficiency,
)
from gridmarl.optimum.outcome import Plan
from gridmarl.train.planning import Benchmarks
from gridmarl.train.rollout import FLOW_NAMES, Episode
from gridmarl.units import UTOK_PER_TOKEN

Array = NDArray[np.float64]
UTOK_PER_WH_PER_TOKEN_PER_KWH = 1000.0


@dataclass
class Row:
    """One policy's result; tokens and kWh are means per lane (one lane = one episode of the community).

    `nan` (in a share: None) means: not defined for this row (a plan has no market price, say).
    `gains_share_interval` is the half-width of the 95 % interval of `gains_share` over lanes.
    """

    name: str
    welfare_tok: float
    efficiency: float
    gains_share: float | None
    gains_share_interval: float | None
    gains_tok: float
    gains_possible_tok: float
    price_gap_mean: float
    price_gap_max: float
    bill_per_prosumer_tok: float
    bill_gini: float
    billing_cost_tok_per_kwh: float
    peak_to_average_before: float
    peak_to_average_after: float
    load_variance_before: float
    load_variance_after: float
    import_kwh: float
    export_kwh: float
    local_kwh: float
    self_sufficiency: float
    reduced_kwh: float
    shifted_kwh: float
    penalties_tok: float
    phantom_kwh: float
    phantom_tok: float
    dr_hours: float
    dr_price_differs_hours: float
    operator_tok: float
    operator_flows_tok: dict[str, float] = field(default_factory=dict)
    welfare_by_lane_tok: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Profile:
    """Hourly series of one row for the figures, means over lanes; `[T]`."""

    price: Array
    load_before_kwh: Array
    load_after_kwh: Array

    def to_dict(self) -> dict[str, list[float]]:
        """Lists for summary.json; the price in token/kWh."""
        return {
            "price_tok_per_kwh": (self.price / UTOK_PER_WH_PER_TOKEN_PER_KWH).tolist(),
            "load_before_kwh": self.load_before_kwh.tolist(),
            "load_after_kwh": self.load_after_kwh.tolist(),
        }


def _per_lane(values: NDArray[np.int64], lanes: int, unit: float) -> float:
    return float(values.sum()) / unit / lanes


def share_interval(captured: Array, possible: Array) -> float | None:
    """Half-width of the 95 % interval of `captured.sum() / possible.sum()`, lanes as the sample, `[E]` each.

    A ratio of sums: `captured - ratio * possible` over the mean of `possible` is its error, lane by lane (the linear
    approximation that survey sampling uses; Cochran, "Sampling Techniques", 1977, section 6.4). Lanes without gains to
    divide by, which make a mean of ratios useless, do no harm. None for fewer than two lanes.
    """
    if captured.size < 2 or possible.sum() == 0:
        return None
    ratio = captured.sum() / possible.sum()
    _, width = mean_and_interval((captured - ratio * possible) / possible.mean())
    return width


def market_row(name: str, episode: Episode, benchmarks: Benchmarks) -> Row:
    """The row of a policy that played the market."""
    lanes = episode.price.shape[1]
    welfare = episode.welfare_utok
    first_best = np.array([item.welfare_utok for item in benchmarks.first_best])
    no_market = np.array([item.welfare_utok for item in benchmarks.no_market])
    bills = -episode.received_utok.sum(0)  # [P, E]
    gains = gains_from_trade(welfare.sum(), no_market.sum(), first_best.sum(), bills.sum())
    reference = np.stack([item.break_even_price_utok_per_wh for item in benchmarks.first_best], axis=1)
    gap = price_gap(episode.price.astype(np.float64), reference)
    before, after = episode.demand_wh.sum(1), episode.load_wh.sum(1)
    short = episode.shortage_wh > 0
    flows = {key: _per_lane(episode.flow_utok[:, i], lanes, UTOK_PER_TOKEN) for i, key in enumerate(FLOW_NAMES)}
    flows["interest"] = float(np.sum(episode.interest_utok)) / lanes / UTOK_PER_TOKEN
    return Row(
        name=name,
        welfare_tok=_per_lane(welfare, lanes, UTOK_PER_TOKEN),
        efficiency=float(welfare.sum() / first_best.sum()),
        gains_share=gains.share,
        gains_share_interval=None
        if gains.share is None
        else share_interval(welfare - no_market, first_best - no_market),
        gains_tok=gains.captured_utok / UTOK_PER_TOKEN / lanes,
        gains_possible_tok=gains.possible_utok / UTOK_PER_TOKEN / lanes,
        price_gap_mean=gap.mean_absolute,
        price_gap_max=gap.largest,
        bill_per_prosumer_tok=float(bills.mean()) / UTOK_PER_TOKEN,
        bill_gini=gini(bills.mean(1).astype(np.float64)),
        billing_cost_tok_per_kwh=float(episode.upstream_utok.sum() / max(1, after.sum())) / 1000.0,
        peak_to_average_before=peak_to_average(before.astype(np.float64)),
        peak_to_average_after=peak_to_average(after.astype(np.float64)),
        load_variance_before=load_variance(before.astype(np.float64)),
        load_variance_after=load_variance(after.astype(np.float64)),
        import_kwh=_per_lane(episode.upstream_wh[:, 0], lanes, 1000.0),
        export_kwh=_per_lane(episode.upstream_wh[:, 1], lanes, 1000.0),
        local_kwh=_per_lane(episode.volume_wh, lanes, 1000.0),
        self_sufficiency=self_sufficiency(episode.upstream_wh[:, 0].astype(np.float64), after.astype(np.float64)),
        reduced_kwh=_per_lane(episode.accepted_wh, lanes, 1000.0),
        shifted_kwh=_per_lane(episode.shifted_wh, lanes, 1000.0),
        penalties_tok=flows["penalty"],
        phantom_kwh=_per_lane(episode.phantom_wh, lanes, 1000.0),
        phantom_tok=_per_lane(episode.phantom_utok, lanes, UTOK_PER_TOKEN),
        dr_hours=float(short.mean(1).sum()),
        dr_price_differs_hours=float((short & (episode.dr_price > episode.price)).mean(1).sum()),
        operator_tok=_per_lane(episode.operator_utok, lanes, UTOK_PER_TOKEN),
        operator_flows_tok=flows,
        welfare_by_lane_tok=[float(value) / UTOK_PER_TOKEN for value in welfare],
    )


def plan_row(name: str, plans: list[Plan], benchmarks: Benchmarks, *, central: bool) -> Row:
    """The row of a benchmark by definition; `central`: the aggregator, with its break-even internal price."""
    lanes = len(plans)
    welfare = np.array([item.welfare_utok for item in plans])
    first_best = np.array([item.welfare_utok for item in benchmarks.first_best])
    no_market = np.array([item.welfare_utok for item in benchmarks.no_market])
    bills = np.stack([item.bill_utok for item in plans], axis=1)
    gains = gains_from_trade(welfare.sum(), no_market.sum(), first_best.sum(), bills.sum())
    load = np.stack([item.load_wh.sum(0) for item in plans], axis=1)
    cost = sum(item.import_cost_utok - item.export_revenue_utok for item in plans)
    nan = float("nan")
    ratio, variance = peak_to_average(load), load_variance(load)
    return Row(
        name=name,
        welfare_tok=float(welfare.mean()) / UTOK_PER_TOKEN,
        efficiency=float(welfare.sum() / first_best.sum()),
        gains_share=gains.share,
        gains_share_interval=None
        if gains.share is None
        else share_interval(welfare - no_market, first_best - no_market),
        gains_tok=gains.captured_utok / UTOK_PER_TOKEN / lanes,
        gains_possible_tok=gains.possible_utok / UTOK_PER_TOKEN / lanes,
        price_gap_mean=0.0 if central else nan,
        price_gap_max=0.0 if central else nan,
        bill_per_prosumer_tok=float(bills.mean()) / UTOK_PER_TOKEN,
        bill_gini=gini(bills.mean(1)),
        billing_cost_tok_per_kwh=cost / max(1.0, float(load.sum())) / 1000.0,
        peak_to_average_before=nan,
        peak_to_average_after=ratio,
        load_variance_before=nan,
        load_variance_after=variance,
        import_kwh=float(np.mean([item.import_wh.sum() for item in plans])) / 1000.0,
        export_kwh=float(np.mean([item.export_wh.sum() for item in plans])) / 1000.0,
        local_kwh=nan,
        self_sufficiency=self_sufficiency(np.stack([item.import_wh for item in plans], axis=1), load),
        reduced_kwh=nan,
        shifted_kwh=float(np.mean([item.shifted_wh.sum() for item in plans])) / 1000.0,
        penalties_tok=0.0,
        phantom_kwh=0.0,
        phantom_tok=0.0,
        dr_hours=nan,
        dr_price_differs_hours=nan,
        operator_tok=0.0,
        welfare_by_lane_tok=[float(value) / UTOK_PER_TOKEN for value in welfare],
    )


def market_profile(episode: Episode) -> Profile:
    """Hourly means over lanes of a market episode."""
    return Profile(
        price=episode.price.mean(1),
        load_before_kwh=episode.demand_wh.sum(1).mean(1) / 1000.0,
        load_after_kwh=episode.load_wh.sum(1).mean(1) / 1000.0,
    )


def plan_profile(plans: list[Plan]) -> Profile:
    """Hourly means over lanes of the central plan: break-even price and load."""
    load = np.mean([item.load_wh.sum(0) for item in plans], axis=0) / 1000.0
    price = np.mean([item.break_even_price_utok_per_wh for item in plans], axis=0)
    return Profile(price=price, load_before_kwh=load, load_after_kwh=load)
