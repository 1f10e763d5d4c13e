"""Measures of a market's outcome, on plain numbers (DESIGN: welfare, efficiency, price gap, peak-to-average, Gini).

Arrays are NumPy; hours first (`[T]` or `[T, E]`), energy in Wh, prices in µtok/Wh, money in µtok.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

LEAST_SHARE_DENOMINATOR = 0.005
"""Below this share of the total bill, gains from trade are too small to divide by."""


@dataclass(frozen=True)
class GainsFromTrade:
    """Share of the gains from trade captured, with the absolute numbers beside it.

    Attributes:
        captured_utok: welfare beyond no market.
        possible_utok: first-best welfare beyond no market.
        share: their ratio; None where `possible` is under 0.5 % of the total bill.
    """

    captured_utok: float
    possible_utok: float
    share: float | None


def gains_from_trade(
    welfare_utok: float, no_market_utok: float, first_best_utok: float, total_bill_utok: float
) -> GainsFromTrade:
    """`(sum W - sum W_no_market) / (sum W_first_best - sum W_no_market)` over a run."""
    captured, possible = welfare_utok - no_market_utok, first_best_utok - no_market_utok
    enough = possible > LEAST_SHARE_DENOMINATOR * abs(total_bill_utok)
    return GainsFromTrade(captured, possible, captured / possible if enough else None)


@dataclass(frozen=True)
class PriceGap:
    """Distance of hourly prices from a reference, normalised by the mean of the reference over the days."""

    mean_absolute: float
    mean_signed: float
    largest: float


def price_gap(price: Array, reference: Array) -> PriceGap:
    """Gap between two hourly price series `[T, ...]`, relative to the reference's mean over all hours.

    Dividing by the mean and not hour by hour keeps hours with prices near zero from ruling the figure.
    """
    scale = float(np.abs(reference.mean()))
    if scale == 0.0:
        return PriceGap(float("nan"), float("nan"), float("nan"))
    gap = (price - reference) / scale
    return PriceGap(float(np.abs(gap).mean()), float(gap.mean()), float(np.abs(gap).max()))


def peak_to_average(load_wh: Array) -> float:
    """Greatest hourly load over the mean load, averaged over columns of `[T, ...]`; nan without load."""
    flat = load_wh.reshape(load_wh.shape[0], -1).astype(np.float64)
    mean = flat.mean(0)
    if not bool((mean > 0).all()):
        return float("nan")
    return float((flat.max(0) / mean).mean())


def load_variance(load_wh: Array) -> float:
    """Variance over the hours of the total load, in kWh², averaged over columns of `[T, ...]`."""
    flat = load_wh.reshape(load_wh.shape[0], -1) / 1000.0
    return float(flat.var(0).mean())


def gini(values: Array) -> float:
    """Gini coefficient of non-negative values (bills, say): 0 equal, towards 1 unequal; nan if they sum to 0."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    total = ordered.sum()
    if total <= 0 or ordered[0] < 0:
        return float("nan")
    ranks = np.arange(1, ordered.size + 1)
    return float((2 * ranks - ordered.size - 1) @ ordered / (ordered.size * total))


def self_sufficiency(import_wh: Array, load_wh: Array) -> float:
    """Share of the load that was not imported."""
    total = float(load_wh.sum())
    return float("nan") if total == 0 else 1.0 - float(import_wh.sum()) / total


def mean_and_interval(values: Array) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval by Student's t (0 for fewer than two values)."""
    values = np.asarray(values, dtype=np.float64)
    if values.size < 2:
        return float(values.mean()), 0.0
    quantile = float(stdtrit(values.size - 1, 0.975))
    return float(values.mean()), quantile * float(values.std(ddof=1)) / float(np.sqrt(values.size))
