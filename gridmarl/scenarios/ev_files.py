"""EV charging sessions from two public files, in half hours and exact integers.

Two layouts are read, plain or gzipped, told apart by their columns:

* "public": arrival, departure, energy_kwh, charge_point, connector, rated_kw, site (Dundee City Council);
* "residential": arrival, departure, energy_kwh, user, site, charge_point, without power (Sorensen et al. 2021, Norway).

Times are the wall clock of the place, with daylight saving: Europe/London and Europe/Oslo. An hour that occurs twice in
autumn is read as its first occurrence; a time that spring skips is an error. The stay is elapsed time, the arrival is
placed by the wall clock, since people's habits follow it.

Roundings: energy to the nearest Wh (half to even); the arrival half hour is the one the car arrives in; the stay is the
nearest number of half hours (halves up), at least one. So a session spans the half hours [arrival, departure), and what
it can take at most is `(max_power_w // 2) * (departure - arrival)` Wh. Energy above that is clipped and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gridmarl.errors import DataError
from gridmarl.scenarios.files import PathLike, csv_files, interval_ends, line_number, read_csv, show

SLOTS_PER_DAY = 48
MAX_STAY_HOURS = 72
MAX_ENERGY_WH = 200_000
MAX_RATED_W = 1_000_000
MAX_GAP_DAYS = 7
HOME_POWER_W = (3_680, 7_360, 11_000, 22_000)  # 230 V x 16 A, x 32 A; 400 V three-phase 16 A, 32 A
HOME_TOLERANCE_PERCENT = 110  # minutes are whole: a session's mean power can read a little high
RATED_TOLERANCE_PERCENT = 125

_SLOT_MINUTES = 30
_PRIVATE, _SHARED = "private", "shared"
_IDENTITY = ["outlet", "begin", "end", "energy_wh"]

Ints = NDArray[np.int64]


class _Layout(NamedTuple):
    kind: str
    zone: str
    columns: tuple[str, ...]
    outlet: tuple[str, ...]  # what one car occupies at a time


_LAYOUTS = (
    _Layout(
        "public",
        "Europe/London",
        ("arrival", "departure", "energy_kwh", "charge_point", "connector", "rated_kw", "site"),
        ("site", "charge_point", "connector"),
    ),
    _Layout(
        "residential",
        "Europe/Oslo",
        ("arrival", "departure", "energy_kwh", "user", "site", "charge_point"),
        ("site", "user", "charge_point"),
    ),
)


@dataclass(frozen=True, eq=False)
class EvSessions:
    """Sessions of one kind, sorted by arrival.

    Attributes:
        kind: "public" or "residential".
        first_day: midnight that half hour 0 begins at (wall clock, without zone).
        table: int64 columns `arrival` and `departure` (half hours since `first_day`), `energy_wh`, `max_power_w`; text
            columns `site` and `outlet` (a connector, or a user's charge point).
        clipped: sessions whose energy was more than their stay allows at maximum power.
        clipped_wh: energy that was cut off them, in all.
    """

    kind: str
    first_day: pd.Timestamp
    table: pd.DataFrame
    clipped: int
    clipped_wh: int


def load_sessions(paths: Sequence[PathLike] | PathLike) -> EvSessions:
    """Sessions of one or several files of one layout, or of the files of a folder (`*sessions*`, else all CSV).

    The maximum power is the connector's rating, or for residential sessions, which have none, the least of
    `HOME_POWER_W` that the greatest mean power of the outlet's sessions fits under (with 10 % to spare).

    Raises:
        DataError: a file is missing, empty, not CSV, or has other columns; files of both layouts are mixed; a field is
            empty; a time is malformed or skipped by the clock; departure not after arrival; a stay above 72 h; energy
            not within 0 .. 200 kWh (0 excluded); mean power above 125 % of the rating; an outlet that is occupied
            twice at a time, or a session listed twice; more than 7 days without any arrival. The message names file,
            line, field, the value seen and what is allowed.
    """
    parts = [_read(path) for path in csv_files(paths, "EV sessions", "*sessions*")]
    layouts = {layout.kind: layout for layout, _ in parts}
    if len(layouts) > 1:
        raise DataError(
            f"EV sessions: files of {' and '.join(sorted(layouts))} sessions: allowed is one kind at a time"
        )
    layout = parts[0][0]
    rows = pd.concat([part for _, part in parts], ignore_index=True)
    rows = rows.sort_values(["clock", "outlet"], kind="stable", ignore_index=True)
    _reject_overlaps(rows)
    _reject_gaps(rows)
    return _half_hours(layout, rows)


def _read(path: Path) -> tuple[_Layout, pd.DataFrame]:
    """Checked rows of one file: begin and end (UTC), clock, energy_wh, rated_w (0 unknown), minutes, site, outlet."""
    table = read_csv(path, dtype=str, keep_default_na=False)
    layout = next((known for known in _LAYOUTS if set(known.columns) == set(table.columns)), None)
    if layout is None:
        allowed = " or ".join(", ".join(known.columns) for known in _LAYOUTS)
        raise DataError(f"{path}: columns {', '.join(table.columns)}: allowed are {allowed}")
    for name in layout.columns:
        text = table[name].str.strip()
        _reject(path, name, text, text == "", "a value (the field is empty)")
    clock = interval_ends(table["arrival"], path)
    begin = _utc(path, table["arrival"], clock, layout.zone)
    end = _utc(path, table["departure"], interval_ends(table["departure"], path), layout.zone)
    minutes = np.asarray((end - begin) // pd.Timedelta(minutes=1), dtype=np.int64)
    _reject(path, "departure", table["departure"], minutes <= 0, f"a time after the arrival ({layout.zone})")
    _reject(path, "departure", table["departure"], minutes > MAX_STAY_HOURS * 60, f"a stay up to {MAX_STAY_HOURS} h")
    energy = _thousandfold(path, table["energy_kwh"], MAX_ENERGY_WH, "kWh")
    rated = np.zeros(len(table), dtype=np.int64)
    if layout.kind == "residential":
        points = table["charge_point"].str.strip()
        _reject(path, "charge_point", points, ~points.isin([_PRIVATE, _SHARED]), f"{_PRIVATE} or {_SHARED}")
    if layout.kind == "public":
        rated = _thousandfold(path, table["rated_kw"], MAX_RATED_W, "kW")
        bound = rated * minutes * RATED_TOLERANCE_PERCENT // 6_000
        allowed = f"up to {RATED_TOLERANCE_PERCENT} % of rated_kw over the stay"
        _reject(path, "energy_kwh", table["energy_kwh"], energy > bound, allowed)
    rows = {
        "begin": begin,
        "end": end,
        "clock": clock,
        "minutes": minutes,
        "energy_wh": energy,
        "rated_w": rated,
        "exclusive": (table["charge_point"].str.strip() != _SHARED).to_numpy(),
        "site": table["site"].str.strip().to_numpy(),
        "outlet": table[list(layout.outlet)].agg("/".join, axis=1).to_numpy(),
        "place": [f"{path}: line {line_number(row)}" for row in table.index],
    }
    return layout, pd.DataFrame(rows)


def _reject(path: Path, field: str, texts: pd.Series[str], bad: Any, allowed: str) -> None:
    """Raise a DataError that names the first bad row."""
    bad = np.asarray(bad, dtype=bool)
    if bad.any():
        at = int(np.argmax(bad))
        value = texts.iloc[at]
        raise DataError(f"{path}: line {line_number(texts.index[at])}: {field} = {value!r}: allowed is {allowed}")


def _utc(path: Path, texts: pd.Series[str], clock: pd.DatetimeIndex, zone: str) -> pd.DatetimeIndex:
    """Instants of wall-clock times; a time that occurs twice is the first of the two."""
    try:
        there = clock.tz_localize(zone, ambiguous=np.ones(len(clock), dtype=bool), nonexistent="NaT")
    except ZoneInfoNotFoundError as error:
        raise DataError(f"{path}: no data of time zone {zone}: install the package tzdata") from error
    _reject(path, str(texts.name), texts, there.isna(), f"a time that the clocks of {zone} do not skip in spring")
    return there.tz_convert("UTC")


def _thousandfold(path: Path, texts: pd.Series[str], limit: int, unit: str) -> Ints:
    """Thousandths of a column as integers within 1 .. limit."""
    numbers = pd.to_numeric(texts.str.strip(), errors="coerce").to_numpy(dtype=np.float64) * 1000
    with np.errstate(invalid="ignore"):
        bad = ~((np.rint(numbers) >= 1) & (numbers <= limit))
    _reject(path, str(texts.name), texts, bad, f"0.001 .. {limit // 1000} {unit}")
    return np.asarray(np.rint(numbers), dtype=np.int64)


def _reject_overlaps(rows: pd.DataFrame) -> None:
    """An outlet serves one car at a time. Shared points of a garage are not told apart, so there only copies count."""
    ordered = rows.sort_values(_IDENTITY, kind="stable", ignore_index=True)
    before = ordered.shift()
    copy = (ordered[_IDENTITY] == before[_IDENTITY]).all(axis=1)
    same = (ordered["outlet"] == before["outlet"]) & ordered["exclusive"]
    clash = np.flatnonzero((copy | (same & (ordered["begin"] < before["end"]))).to_numpy())
    if clash.size:
        at = int(clash[0])
        what = "the same session twice" if copy[at] else "the outlet is occupied"
        raise DataError(
            f"{ordered['place'][at]}: arrival = {show(ordered['clock'][at])!r} at outlet {ordered['outlet'][at]!r}: "
            f"{what} (see {ordered['place'][at - 1]}): allowed is an arrival after the departure before it"
        )


def _reject_gaps(rows: pd.DataFrame) -> None:
    """A long time without any arrival is missing data, not a lack of cars."""
    days = rows["clock"].dt.normalize()
    gaps = np.flatnonzero((days.diff() > pd.Timedelta(days=MAX_GAP_DAYS)).to_numpy())
    if gaps.size:
        at = int(gaps[0])
        raise DataError(
            f"{rows['place'][at]}: arrival = {show(rows['clock'][at])!r}: gap: no arrival since "
            f"{show(rows['clock'][at - 1])}: allowed are up to {MAX_GAP_DAYS} days"
        )


def _half_hours(layout: _Layout, rows: pd.DataFrame) -> EvSessions:
    first_day = rows["clock"].iloc[0].normalize()
    minute = np.asarray((rows["clock"] - first_day) // pd.Timedelta(minutes=1), dtype=np.int64)
    minutes = rows["minutes"].to_numpy(dtype=np.int64)
    arrival = minute // _SLOT_MINUTES
    stay = np.maximum(1, (minutes + _SLOT_MINUTES // 2) // _SLOT_MINUTES)
    power = rows["rated_w"].to_numpy(dtype=np.int64) if layout.kind == "public" else _home_power(rows)
    energy = rows["energy_wh"].to_numpy(dtype=np.int64)
    feasible = np.minimum(energy, power // 2 * stay)
    table = pd.DataFrame(
        {
            "arrival": arrival,
            "departure": arrival + stay,
            "energy_wh": feasible,
            "max_power_w": power,
            "site": rows["site"],
            "outlet": rows["outlet"],
        }
    )
    cut = energy - feasible
    return EvSessions(layout.kind, first_day, table, int((cut > 0).sum()), int(cut.sum()))


def _home_power(rows: pd.DataFrame) -> Ints:
    """Power class of each row's outlet."""
    mean_w = rows["energy_wh"] * 60 // rows["minutes"]
    greatest = mean_w.groupby(rows["outlet"]).transform("max").to_numpy(dtype=np.int64)
    limits = np.array([power * HOME_TOLERANCE_PERCENT // 100 for power in HOME_POWER_W], dtype=np.int64)
    level = np.searchsorted(limits, greatest)
    if (level == len(limits)).any():
        at = int(np.argmax(mean_w.to_numpy()))
        seen = rows["energy_wh"][at] / 1000
        raise DataError(
            f"{rows['place'][at]}: energy_kwh = {seen}: mean power {mean_w[at]} W over the stay: "
            f"allowed are up to {limits[-1]} W at a home"
        )
    return np.asarray(HOME_POWER_W, dtype=np.int64)[level]
