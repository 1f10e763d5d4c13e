"""Scenarios ready to use: the packaged calibrated one, a fixed window of real days, one calibrated from files, toys.

Everything that environments need from this folder can be imported from here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gridmarl.errors import DataError
from gridmarl.scenarios.lanes import HourConditions, LaneDraws, Scenario, conditions, draw_lanes
from gridmarl.scenarios.roulette import build_wheel, cumulative_weights
from gridmarl.scenarios.tables import Tables, packaged, read_tables
from gridmarl.scenarios.validate import make_scenario

if TYPE_CHECKING:  # pandas is imported when files are read, not to train on the packaged scenario
    import pandas as pd

    from gridmarl.scenarios.files import PathLike
    from gridmarl.scenarios.homes import Homes

__all__ = [
    "HourConditions",
    "LaneDraws",
    "Scenario",
    "calibrated_scenario",
    "conditions",
    "default_scenario",
    "draw_lanes",
    "fixed_scenario",
    "load_scenario",
    "make_scenario",
    "toy_scenario",
]

_GIVEN = "as given by the user"


@functools.cache
def _tables() -> Tables:
    return read_tables(packaged())


@functools.cache
def default_scenario(*, persistence: bool = True) -> Scenario:
    """The packaged scenario: NSW1 prices 2012-07 to 2013-12, 12 homes (8 with PV); see `tables/README.md`.

    Args:
        persistence: True keeps the persistence of prices; False draws each hour from its own wheel (the chapter).

    Raises:
        DataError: the packaged tables are damaged.
    """
    tables = _tables()
    weight = np.array(tables.price_weight)
    after = np.array(tables.price_after)
    return make_scenario(
        name=tables.manifest["name"] + ("" if persistence else "-independent"),
        attribution=" ".join(tables.manifest["attribution"]),
        reference_price_utok_per_wh=tables.manifest["reference_price_utok_per_wh"],
        **_wheel_fields(np.array(tables.price_value), weight, after, persistence),
        **_default_homes(),
    )


def calibrated_scenario(
    prices: pd.Series[int], homes: Homes | None = None, *, persistence: bool = True, name: str = "calibrated"
) -> Scenario:
    """Roulette wheels of an hourly price history, with homes calibrated from series or (None) the packaged ones.

    Raises:
        DataError: less than one whole day of prices, a gap, or homes without any load.
    """
    wheel = build_wheel(prices)
    return make_scenario(
        name=name,
        attribution=_attribution(homes),
        reference_price_utok_per_wh=wheel.reference_price_utok_per_wh,
        **_wheel_fields(wheel.value_utok_per_wh, wheel.weight, wheel.after, persistence),
        **(_default_homes() if homes is None else _calibrated_homes(homes)),
    )


def fixed_scenario(prices: pd.Series[int], homes: Homes | None, start: str, days: int) -> Scenario:
    """A window of real days, (start 00:00, start + days 00:00]: every lane sees the same prices.

    With `homes`, load and PV are the recorded ones too: a deterministic series. Without, the packaged homes are used on
    the right day kinds (season, weekday or weekend), and they keep their random ratios.

    Args:
        prices: hourly µtok/Wh, index the END of the hour.
        homes: recorded series, or None.
        start: first day, "YYYY-MM-DD".
        days: 1 or more.

    Raises:
        DataError: a bad date or number of days, or a window that prices or homes do not cover (the message names the
            range that they do cover).
    """
    hours = _window(start, days)
    price = _cut(prices, hours, "prices").reshape(-1, 1)
    period = len(price)
    if homes is not None:
        household: dict[str, Any] = {
            "load_wh": _cut(homes.load_wh, hours, "homes")[None],
            "pv_wh": _cut(homes.pv_wh, hours, "homes")[None],
            "load_ratio_permille": [1000],
            "pv_ratio_permille": [1000],
            "forecast_error_permille": _tables().manifest["forecast_error_permille"],
        }
    else:
        household = _default_homes()
        from gridmarl.scenarios.calibrate import day_kinds

        kinds, hour_of_day = day_kinds(hours), np.arange(period) % 24
        for field in ("load_wh", "pv_wh"):
            household[field] = household[field][kinds, hour_of_day][None]
    return make_scenario(
        name=f"{'prices' if prices.name is None else prices.name}-{start}-{days}d",
        attribution=_attribution(homes),
        start=start,
        periodic=False,
        reference_price_utok_per_wh=int(price.sum()) // period,
        price_value=price,
        price_first_cum=[1],
        price_next_cum=np.ones((period, 1, 1), dtype=np.int64),
        **(household | {"kind_cum": [1]}),
    )


def load_scenario(
    prices: Sequence[PathLike] | PathLike | None = None,
    homes: Sequence[PathLike] | PathLike | None = None,
    region: str = "NSW1",
    start: str | None = None,
    days: int = 2,
    *,
    persistence: bool = True,
) -> Scenario:
    """The one entry point of the command line.

    * nothing given: the packaged scenario;
    * price files: wheels of their whole history; with `start`: the fixed window of `days` from there;
    * household files: their homes (needs price files); else the packaged homes.

    Raises:
        DataError: `homes` or `start` without `prices`, and whatever the loaders raise.
    """
    if prices is None:
        if homes is not None or start is not None:
            field = "homes" if homes is not None else "start"
            raise DataError(f"{field} = {homes if homes is not None else start}: allowed only together with prices")
        return default_scenario(persistence=persistence)
    from gridmarl.scenarios.aemo import hourly, load_prices
    from gridmarl.scenarios.homes import load_homes

    series = hourly(load_prices(prices, region))
    series_of_homes = None if homes is None else load_homes(homes)
    if start is None:
        name = f"{series.name}-calibrated"
        return calibrated_scenario(series, series_of_homes, persistence=persistence, name=name)
    return fixed_scenario(series, series_of_homes, start, days)


def toy_scenario(
    price_utok_per_wh: Sequence[int],
    load_wh: Sequence[Sequence[int]],
    pv_wh: Sequence[Sequence[int]] | None = None,
    *,
    load_ratio_permille: Sequence[int] = (1000,),
    pv_ratio_permille: Sequence[int] = (1000,),
    forecast_error_permille: Sequence[int] = (-1000, 1000),
    reference_price_utok_per_wh: int | None = None,
) -> Scenario:
    """A small scenario by hand, with prices that every lane sees, repeated after the last hour.

    Args:
        price_utok_per_wh: one price per hour, `[T']`.
        load_wh: `[T'][N]`.
        pv_wh: `[T'][N]`; None = no PV.
        load_ratio_permille: see `Scenario`; one entry of 1000 makes the load deterministic. The next two likewise.
        pv_ratio_permille: as above.
        forecast_error_permille: unit errors, summing to 0.
        reference_price_utok_per_wh: None = floor of the mean price.

    Raises:
        DataError: tables that do not fit together or are out of bounds.
    """
    period = len(price_utok_per_wh)
    reference = reference_price_utok_per_wh
    return make_scenario(
        name="toy",
        attribution="none: made-up numbers",
        reference_price_utok_per_wh=sum(price_utok_per_wh) // max(period, 1) if reference is None else reference,
        price_value=[[price] for price in price_utok_per_wh],
        price_first_cum=[1],
        price_next_cum=[[[1]]] * period,
        load_wh=[load_wh],
        pv_wh=[[[0] * len(row) for row in load_wh] if pv_wh is None else pv_wh],
        kind_cum=[1],
        load_ratio_permille=list(load_ratio_permille),
        pv_ratio_permille=list(pv_ratio_permille),
        forecast_error_permille=list(forecast_error_permille),
    )


def _wheel_fields(value: Any, weight: Any, after: Any, persistence: bool) -> dict[str, Any]:
    first, following = cumulative_weights(weight, after, persistence=persistence)
    return {"price_value": value, "price_first_cum": first, "price_next_cum": following}


def _default_homes() -> dict[str, Any]:
    tables = _tables()
    return {
        "load_wh": np.array(tables.load_wh),
        "pv_wh": np.array(tables.pv_wh),
        "kind_cum": np.cumsum(tables.manifest["kind_days"]),
        "load_ratio_permille": tables.manifest["load_ratio_permille"],
        "pv_ratio_permille": tables.manifest["pv_ratio_permille"],
        "forecast_error_permille": tables.manifest["forecast_error_permille"],
    }


def _calibrated_homes(homes: Homes) -> dict[str, Any]:
    from gridmarl.scenarios.calibrate import calibrate_homes, forecast_errors

    tables = calibrate_homes([homes])
    return {
        "load_wh": tables.load_wh,
        "pv_wh": tables.pv_wh,
        "kind_cum": tables.kind_days.cumsum(),
        "load_ratio_permille": tables.load_ratio_permille,
        "pv_ratio_permille": tables.pv_ratio_permille,
        "forecast_error_permille": forecast_errors(),
    }


def _attribution(homes: Homes | None) -> str:
    household = " ".join(_tables().manifest["attribution_homes"]) if homes is None else _GIVEN
    return f"Prices: {_GIVEN}. Homes: {household}"


def _window(start: str, days: int) -> pd.DatetimeIndex:
    """Ends of the hours of the window."""
    import pandas as pd

    try:
        first = date.fromisoformat(start)
        last = first + timedelta(days=days)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"start = {start!r}, days = {days!r}: allowed are a date YYYY-MM-DD and whole days") from error
    if days < 1:
        raise DataError(f"days = {days}: allowed are 1 or more")
    return pd.date_range(pd.Timestamp(first), pd.Timestamp(last), freq="h", inclusive="right")


def _cut(series: pd.Series[int] | pd.DataFrame, hours: pd.DatetimeIndex, what: str) -> NDArray[np.int64]:
    """The rows of the window, or an error that names what is covered."""
    from gridmarl.scenarios.files import show

    if not hours.isin(series.index).all():
        covered = f"{show(series.index[0])} .. {show(series.index[-1])}" if len(series) else "nothing"
        raise DataError(f"window {show(hours[0])} .. {show(hours[-1])} (ends of hours): the {what} cover {covered}")
    return np.asarray(series.loc[hours].to_numpy(), dtype=np.int64)
