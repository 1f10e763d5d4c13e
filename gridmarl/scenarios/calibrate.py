"""Compact household tables from hourly series: mean shapes by day kind, and how reality scatters around them.

Everything is integer arithmetic, so that the same files give the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gridmarl.errors import DataError
from gridmarl.scenarios.homes import Homes
from gridmarl.scenarios.roulette import HOURS, nearest

SEASONS = ("summer", "autumn", "winter", "spring")
KINDS = tuple(f"{season} {day}" for season in SEASONS for day in ("weekday", "weekend"))
LOAD_RATIOS = 64
PV_RATIOS = 32
FORECAST_ERRORS = 64

_PPM = 1_000_000
_PERMILLE = 1000

Ints = NDArray[np.int64]


class HomeTables(NamedTuple):
    """`N` homes, `K = 8` day kinds (season x weekday or weekend, southern hemisphere)."""

    names: tuple[str, ...]
    load_wh: Ints  # [K, 24, N] mean by kind, to the nearest Wh
    pv_wh: Ints  # [K, 24, N] mean by season (the weather knows no weekends), to the nearest Wh
    kind_days: Ints  # [K] days of the series
    load_ratio_permille: Ints  # [64] equally likely, mean exactly 1000
    pv_ratio_permille: Ints  # [32], or [1] without any PV; equally likely, mean exactly 1000


def day_kinds(ends: pd.DatetimeIndex) -> Ints:
    """Day kind 0 .. 7 (see `KINDS`) of each hour, given the END of the hour: midnight belongs to the day before."""
    day = ends - pd.Timedelta(minutes=1)
    season = day.month.to_numpy() % 12 // 3
    return np.asarray(2 * season + (day.day_of_week.to_numpy() >= 5), dtype=np.int64)


def calibrate_homes(parts: Sequence[Homes]) -> HomeTables:
    """Tables of the homes of several parts, each with hours of its own; the day kinds are counted in the first part.

    * A load ratio is an hour's load over the mean of its home, day kind and hour; pooled over everything.
    * A PV ratio is a day's PV over its season's mean day, summed over the homes of a part: the weather they share.

    Ratios are cut into equally many ranks per bin, and a bin's value is its mean.

    Raises:
        DataError: no parts, or no load at all.
    """
    if not parts:
        raise DataError("homes: no series to calibrate from")
    loads, pvs, load_ratios, pv_ratios = [], [], [], []
    for homes in parts:
        kinds, hours = _cells(homes)
        load = homes.load_wh.to_numpy(dtype=np.int64)
        pv = homes.pv_wh.to_numpy(dtype=np.int64)
        loads.append(_means(load, kinds, hours))
        season_kinds = kinds // 2 * 2
        pvs.append(_means(pv, season_kinds, hours)[(0, 0, 2, 2, 4, 4, 6, 6), :, :])
        expected = loads[-1][kinds, hours]
        load_ratios.append((load * _PPM // np.maximum(expected, 1))[expected > 0])
        pv_ratios.append(_day_ratios(pv.sum(axis=1), season_kinds, homes.load_wh.index))
    kinds, hours = _cells(parts[0])
    return HomeTables(
        names=tuple(name for homes in parts for name in homes.names),
        load_wh=np.concatenate(loads, axis=2),
        pv_wh=np.concatenate(pvs, axis=2),
        kind_days=nearest(np.bincount(kinds, minlength=len(KINDS)), HOURS),
        load_ratio_permille=_equal_bins(np.concatenate(load_ratios), LOAD_RATIOS, "load"),
        pv_ratio_permille=_equal_bins(np.concatenate([*pv_ratios, np.zeros(0, np.int64)]), PV_RATIOS, ""),
    )


def representatives(homes: Homes, number: int) -> Homes:
    """The homes at the middle of `number` equal slices of the ranking by total load (ties by name)."""
    total = homes.load_wh.sum()
    ranked = sorted(homes.names, key=lambda name: (int(total[name]), name))
    if not 1 <= number <= len(ranked):
        raise DataError(f"representatives = {number}: allowed are 1 .. {len(ranked)} (the homes there are)")
    chosen = [ranked[(2 * i + 1) * len(ranked) // (2 * number)] for i in range(number)]
    return Homes(homes.load_wh[chosen], homes.pv_wh[chosen], tuple(chosen))


def forecast_errors(size: int = FORECAST_ERRORS) -> Ints:
    """`[size]` equally likely unit forecast errors in permille: symmetric, standard deviation about 1000.

    Quantiles of the normal distribution at the middle of `size` equal slices, rescaled (the slices lose some variance).
    `size` is even.
    """
    half = [NormalDist().inv_cdf((2 * i + 1) / (2 * size)) for i in range(size // 2, size)]
    scale = (sum(x * x for x in half) / len(half)) ** 0.5
    positive = [round(_PERMILLE * x / scale) for x in half]
    return np.array([-x for x in reversed(positive)] + positive, dtype=np.int64)


def _cells(homes: Homes) -> tuple[Ints, Ints]:
    """Day kind and hour of day of each row; hour 0 is the one that ends at 01:00."""
    ends = pd.DatetimeIndex(homes.load_wh.index)
    return day_kinds(ends), (ends.hour.to_numpy().astype(np.int64) - 1) % HOURS


def _means(energy_wh: Ints, kinds: Ints, hours: Ints) -> Ints:
    """Mean energy `[K, 24, N]` of `[rows, N]`; 0 where a kind does not occur."""
    total = np.zeros((len(KINDS), HOURS, energy_wh.shape[1]), dtype=np.int64)
    rows = np.zeros((len(KINDS), HOURS, 1), dtype=np.int64)
    np.add.at(total, (kinds, hours), energy_wh)
    np.add.at(rows, (kinds, hours), 1)
    return nearest(total, np.maximum(rows, 1))


def _day_ratios(pv_wh: Ints, season: Ints, index: pd.Index[pd.Timestamp]) -> Ints:
    """Each whole day's PV over the mean day of its season, in ppm; seasons without PV are left out."""
    day = (pd.DatetimeIndex(index) - pd.Timedelta(minutes=1)).normalize()
    days = (
        pd.DataFrame({"pv": pv_wh, "season": season})
        .groupby(day.to_numpy())
        .agg(pv=("pv", "sum"), season=("season", "first"), hours=("pv", "size"))
    )
    days = days[days["hours"] == HOURS]
    total = days.groupby("season")["pv"].transform("sum").to_numpy(dtype=np.int64)
    count = days.groupby("season")["pv"].transform("size").to_numpy(dtype=np.int64)
    pv = days["pv"].to_numpy(dtype=np.int64)
    sunny = total > 0
    return np.asarray(pv[sunny] * count[sunny] * _PPM // total[sunny], dtype=np.int64)


def _equal_bins(ratio_ppm: Ints, bins: int, required: str) -> Ints:
    """Means in permille of `bins` slices of equally many ranks, scaled so that they average to exactly 1000."""
    ordered = np.sort(ratio_ppm)
    bins = min(bins, len(ordered))
    if bins == 0:
        if required:
            raise DataError(f"homes: no {required} in any hour")
        return np.array([_PERMILLE], dtype=np.int64)
    edge = len(ordered) * np.arange(bins + 1, dtype=np.int64) // bins
    total = np.add.reduceat(ordered, edge[:-1])
    # Each bin counts the same whatever its number of ranks, so the values are put over the mean of the bins' means.
    means = nearest(total, np.diff(edge))
    permille = nearest(means * (_PERMILLE * bins), int(means.sum()))
    permille[-1] += _PERMILLE * bins - int(permille.sum())
    return permille
