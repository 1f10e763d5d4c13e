"""Wheels are what a plain loop over history counts, and nothing of the tails is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gridmarl.errors import DataError
from gridmarl.scenarios.aemo import hourly, load_prices
from gridmarl.scenarios.roulette import EDGES_PERMILLE, build_wheel, cumulative_weights, nearest


def history(days: int = 60, start: str = "2020-01-01 01:00", seed: int = 3) -> pd.Series[int]:
    """Made-up hourly prices with a daily shape, persistence, ties, negative prices and one price at the cap."""
    generator = np.random.default_rng(seed)
    hours = 24 * days
    level = generator.integers(-60, 61, hours).cumsum() // 10 * 10
    values = 5000 + level + 30 * (np.arange(hours) % 24)
    values[20], values[30:33] = 1_660_000, -100_000
    return pd.Series(values, index=pd.date_range(start, periods=hours, freq="h"), dtype="int64", name="X")


def test_nearest_is_half_up() -> None:
    assert [int(nearest(total, 2)) for total in (-3, -1, 0, 1, 3, 4)] == [-1, 0, 0, 1, 2, 2]


def test_wheel_against_a_plain_loop() -> None:
    series = history()
    wheel = build_wheel(series)
    days = series.to_numpy().reshape(-1, 24)
    size = len(EDGES_PERMILLE) + 1
    bins: list[int] = []
    for day in range(len(days)):
        for hour in range(24):
            ordered = sorted(days[:, hour].tolist())
            n = len(ordered)
            ranks = [-(-n * q // 1000) if q < 500 else n * q // 1000 for q in EDGES_PERMILLE]
            bins.append(sum(ordered[min(rank, n - 1)] <= days[day, hour] for rank in ranks))
    pairs = Counter((i % 24, bins[i - 1], bins[i]) for i in range(1, len(bins)))
    for hour in range(24):
        for b in range(size):
            inside = [int(p) for i, p in enumerate(series) if i % 24 == hour and bins[i] == b]
            assert wheel.weight[hour, b] == len(inside)
            if inside:
                assert abs(wheel.value_utok_per_wh[hour, b] * len(inside) - sum(inside)) * 2 <= len(inside)
            assert [wheel.after[hour, j, b] for j in range(size)] == [pairs[hour, j, b] for j in range(size)]
    assert wheel.reference_price_utok_per_wh == int(nearest(int(series.sum()), len(series)))


def test_extremes_are_never_clipped() -> None:
    series = history()
    wheel = build_wheel(series)
    assert wheel.value_utok_per_wh.max() == 1_660_000
    assert wheel.value_utok_per_wh.min() == -100_000
    drawn_mean = (wheel.value_utok_per_wh * wheel.weight).sum() / wheel.weight.sum()
    assert drawn_mean == pytest.approx(series.mean(), abs=0.5)


def test_ties_share_a_bin_and_constant_prices_work() -> None:
    constant = pd.Series(7, index=history(3).index, dtype="int64")
    wheel = build_wheel(constant)
    assert (wheel.value_utok_per_wh == 7).all()
    assert ((wheel.weight > 0).sum(axis=1) == 1).all()
    first, following = cumulative_weights(wheel.weight, wheel.after)
    assert first[-1] == 3
    assert (following[:, :, -1] > 0).all()  # rows of bins that never occur fall back to the hour's wheel


def test_running_totals() -> None:
    wheel = build_wheel(history())
    first, following = cumulative_weights(wheel.weight, wheel.after)
    assert (np.diff(first, prepend=0) == wheel.weight[0]).all()
    counts = np.diff(following, prepend=0, axis=2)
    seen = wheel.after.sum(axis=2) > 0
    assert (counts[seen] == wheel.after[seen]).all()
    hours = np.broadcast_to(np.arange(24)[:, None], seen.shape)
    assert (~seen).any()
    assert (counts[~seen] == wheel.weight[hours[~seen]]).all()
    same, independent = cumulative_weights(wheel.weight, wheel.after, persistence=False)
    assert (same == first).all()
    assert (independent == wheel.weight.cumsum(axis=1)[:, None, :]).all()


def test_incomplete_days_are_left_out() -> None:
    whole = history(5)
    cut = pd.concat([history(1, "2019-12-31 01:00").iloc[7:], whole, history(1, "2020-01-06 01:00").iloc[:5]])
    assert (build_wheel(cut).weight == build_wheel(whole).weight).all()
    assert (build_wheel(cut).after == build_wheel(whole).after).all()


def test_errors() -> None:
    series = history(3)
    with pytest.raises(DataError, match=r"2020-01-01 11:00"):
        build_wheel(series.drop(series.index[10]))
    with pytest.raises(DataError, match="no whole day"):
        build_wheel(series.iloc[1:24])
    with pytest.raises(DataError, match="empty"):
        build_wheel(series.iloc[:0])
    for edges in ([], [500, 100], [0, 500], [500, 1000], [5, 5]):
        with pytest.raises(DataError, match="edges_permille"):
            build_wheel(series, edges)


def test_real_history(real_data: Path) -> None:
    prices = hourly(load_prices(real_data / "aemo" / "nem_30min_201207_201312.csv.gz"))
    wheel = build_wheel(prices)
    assert (wheel.weight.sum(axis=1) == 549).all()
    assert wheel.after.sum() == len(prices) - 1
    assert wheel.value_utok_per_wh.max() == prices.max()
    assert wheel.value_utok_per_wh.min() == prices.min()
