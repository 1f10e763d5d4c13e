"""Roulette wheels of wholesale prices: fitness-proportional sampling of discretised history (chapter 7, experiments).

For each hour of the day the prices of history are cut into bins with unequal quantile edges: wide in the middle, narrow
in the tails, so that rare spikes and negative prices keep bins of their own and are never clipped (up to 1,000 days of
history, each hour's lowest and highest price is a bin alone, unless it tied). A bin's value is the mean of the prices
in it and its weight is their number, so a draw's expectation is the historical mean of that hour.

The chapter draws each hour from its own wheel. Prices of neighbouring hours are strongly correlated, though; with
`persistence=True` the wheel of an hour is that of the days on which the hour before fell into the same bin (a Markov
chain of bins, whose marginal wheels are the same).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridmarl.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

HOURS = 24
EDGES_PERMILLE = (1, 20, 100, 250, 500, 750, 900, 980, 999)  # inner edges of 10 bins

Ints = NDArray[np.int64]


class PriceWheel(NamedTuple):
    """Counts of history, `B` bins. Hour 0 is the one that ends at 01:00."""

    value_utok_per_wh: Ints  # [24, B] mean price in the bin, to the nearest µtok/Wh (halves up)
    weight: Ints  # [24, B] hours of history in the bin
    after: Ints  # [24, B, B] of those, how often the hour before was in bin j: after[hour, j, bin]
    reference_price_utok_per_wh: int  # mean of the history, to the nearest µtok/Wh (halves up)


def nearest(total: Ints | int, count: Ints | int) -> Ints:
    """`total / count` to the nearest integer, halves up, exactly; `count >= 1`."""
    parts = np.asarray(count, dtype=np.int64)
    return np.asarray((2 * np.asarray(total, dtype=np.int64) + parts) // (2 * parts), dtype=np.int64)


def build_wheel(hourly: pd.Series[int], edges_permille: Sequence[int] = EDGES_PERMILLE) -> PriceWheel:
    """Wheels of an hourly price history; an incomplete first or last day is left out.

    Args:
        hourly: int64 µtok/Wh, index the END of the hour, without gaps.
        edges_permille: inner bin edges as quantiles of each hour's prices, increasing, within 1 .. 999.

    Raises:
        DataError: edges out of order, a gap, or less than one whole day.
    """
    edges = list(edges_permille)
    if not edges or edges != sorted(set(edges)) or edges[0] < 1 or edges[-1] > 999:
        raise DataError(f"edges_permille = {edges}: allowed are increasing integers 1 .. 999")
    prices = _whole_days(hourly)
    bins = np.stack([_bins(prices[:, hour], edges) for hour in range(HOURS)], axis=1)
    size = len(edges) + 1
    hour_of_day = np.broadcast_to(np.arange(HOURS), bins.shape)
    count = np.zeros((HOURS, size), dtype=np.int64)
    total = np.zeros((HOURS, size), dtype=np.int64)
    np.add.at(count, (hour_of_day, bins), 1)
    np.add.at(total, (hour_of_day, bins), prices)
    after = np.zeros((HOURS, size, size), dtype=np.int64)
    flat, hours = bins.ravel(), hour_of_day.ravel()
    np.add.at(after, (hours[1:], flat[:-1], flat[1:]), 1)
    # A bin without prices (ties) is never drawn; the hour's mean stands in as its value.
    mean = nearest(total.sum(axis=1), count.sum(axis=1))[:, None]
    value = np.where(count > 0, nearest(total, np.maximum(count, 1)), mean)
    return PriceWheel(value, count, after, int(nearest(int(prices.sum()), prices.size)))


def cumulative_weights(weight: Ints, after: Ints, *, persistence: bool = True) -> tuple[Ints, Ints]:
    """Running totals of a wheel: of hour 0 `[B]`, and of each hour given the bin of the hour before `[24, B, B]`.

    A bin that history never left towards this hour falls back to the hour's own wheel. `persistence=False` is the
    chapter's literal version: every row is the hour's own wheel.
    """
    weights: NDArray[Any] = np.broadcast_to(weight[:, None, :], after.shape)
    if persistence:
        weights = np.where(after.sum(axis=2, keepdims=True) > 0, after, weights)
    return weight[0].cumsum(), weights.cumsum(axis=2)


def _whole_days(hourly: pd.Series[int]) -> Ints:
    """Prices `[days, 24]`; a day D is (D 00:00, D+1 00:00]."""
    import pandas as pd  # the packaged wheels need no pandas

    from gridmarl.scenarios.files import check_gaps, show

    if hourly.empty:
        raise DataError("hourly prices: the series is empty")
    index = pd.DatetimeIndex(hourly.index)
    check_gaps(index, 60, "hourly prices")
    values = hourly.to_numpy(dtype=np.int64)
    first = int(np.argmax(index.hour == 1))
    days = (len(values) - first) // HOURS
    if not (index.hour == 1).any() or days < 1:
        raise DataError(f"hourly prices: {show(index[0])} .. {show(index[-1])} holds no whole day (00:00 to 24:00)")
    grid = values[first : first + days * HOURS].reshape(days, HOURS)
    return np.asarray(grid, dtype=np.int64)


def _bins(prices: Ints, edges_permille: Sequence[int]) -> Ints:
    """Bin of each price of one hour. Equal prices share a bin; both outermost bins hold at least one rank."""
    ordered = np.sort(prices)
    size = len(ordered)
    ranks = [-(-size * q // 1000) if q < 500 else size * q // 1000 for q in edges_permille]
    edges = ordered[np.minimum(ranks, size - 1)]
    return np.searchsorted(edges, prices, side="right").astype(np.int64)
