"""Recorded days of EV sessions as tensors: the outlets of a file, grouped into stations.

What is assigned are single outlets, or whole sites (a car park, a garage). They are taken by the energy that they
charged in the days asked for, largest first (ties by name), each to the station with least energy so far (ties to the
first): stations of about equal size where no site is larger than that. No session is left out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gridmarl.errors import ConfigError, DataError
from gridmarl.scenarios.ev_days import EvDay
from gridmarl.scenarios.ev_files import EvSessions, Ints
from gridmarl.scenarios.ev_tables import DAY_START_SLOT, SLOTS_PER_DAY


def assign_stations(energy_wh: dict[str, int], num_stations: int) -> dict[str, int]:
    """Station of each unit, given its energy, by the rule above.

    Raises:
        ConfigError: fewer than one station, or more than there are units.
    """
    if not 1 <= num_stations <= len(energy_wh):
        raise ConfigError(f"num_stations = {num_stations}: allowed are 1 .. {len(energy_wh)}, what there is to assign")
    load = [0] * num_stations
    station: dict[str, int] = {}
    for unit in sorted(energy_wh, key=lambda name: (-energy_wh[name], name)):
        station[unit] = load.index(min(load))
        load[station[unit]] += energy_wh[unit]
    return station


def recorded_days(
    sessions: EvSessions,
    num_stations: int,
    first_day: str,
    days: int,
    *,
    unit: str = "outlet",
    max_sessions: int | None = None,
    start_slot: int = DAY_START_SLOT,
) -> EvDay:
    """The recorded sessions of consecutive days, one day per lane (`E = days`), in order of arrival.

    Day D lasts from D, half hour `start_slot`, to the same of D + 1; a session belongs to the day it arrives in, and
    what lasts beyond its end is cut as the generator does (`cut_wh` counts it). Sessions that began before the first
    day are not there.

    Args:
        sessions: of `load_sessions`.
        num_stations: N.
        first_day: "YYYY-MM-DD".
        days: 1 or more.
        unit: what is never split between stations: "outlet", or "site" for stations that are whole places.
        max_sessions: M; None = as many as the fullest station and day need.
        start_slot: half hour of the clock that a day begins with, 0 .. 47.

    Raises:
        DataError: a malformed date, or days that the file does not cover (the message says which it does).
        ConfigError: `num_stations`, `unit`, `max_sessions` or `start_slot` is not one of those.
    """
    if unit not in ("site", "outlet"):
        raise ConfigError(f"unit = {unit!r}: allowed are 'site' and 'outlet'")
    if not 0 <= start_slot < SLOTS_PER_DAY:
        raise ConfigError(f"start_slot = {start_slot}: allowed are 0 .. {SLOTS_PER_DAY - 1}")
    first = _offset(sessions, first_day, days)
    table = sessions.table
    since = table["arrival"].to_numpy(dtype=np.int64) - first * SLOTS_PER_DAY - start_slot
    inside = (since >= 0) & (since < days * SLOTS_PER_DAY)
    table, since = table[inside], since[inside]
    day, arrival = since // SLOTS_PER_DAY, since % SLOTS_PER_DAY
    unit_wh = table.groupby(unit)["energy_wh"].sum()
    stations = assign_stations({str(name): int(wh) for name, wh in unit_wh.items()}, num_stations)
    station = np.asarray(table[unit].map(stations), dtype=np.int64)
    cell = pd.Series(day * num_stations + station)
    place = np.asarray(cell.groupby(cell).cumcount(), dtype=np.int64)
    size = _size(max_sessions, place, day, station, sessions.first_day + pd.Timedelta(days=first))
    stay = table["departure"].to_numpy(dtype=np.int64) - table["arrival"].to_numpy(dtype=np.int64)
    power, energy = (table[name].to_numpy(dtype=np.int64) for name in ("max_power_w", "energy_wh"))
    departure = np.minimum(arrival + stay, SLOTS_PER_DAY)
    kept = np.minimum(energy, power // 2 * (departure - arrival))
    shape = (size, num_stations, days)
    cells = (place, station, day)
    cut = np.zeros((num_stations, days), dtype=np.int64)
    np.add.at(cut, (station, day), energy - kept)
    weekday = (sessions.first_day.weekday() + first + np.arange(days)) % 7
    return EvDay(
        arrival=_grid(arrival, cells, shape),
        departure=_grid(departure, cells, shape),
        energy_wh=_grid(kept, cells, shape),
        max_power_w=_grid(power, cells, shape),
        valid=_grid(np.ones_like(place), cells, shape) > 0,
        day_type=torch.from_numpy((weekday >= 5).astype(np.int64)),
        cut_wh=torch.from_numpy(cut),
    )


def _grid(values: Ints, cells: tuple[Ints, Ints, Ints], shape: tuple[int, int, int]) -> Tensor:
    """`[M, N, E]` with the values in their cells, 0 elsewhere."""
    grid = np.zeros(shape, dtype=np.int64)
    grid[cells] = values
    return torch.from_numpy(grid)


def _offset(sessions: EvSessions, first_day: str, days: int) -> int:
    """Days from the file's first day to the one asked for."""
    last = sessions.first_day + pd.Timedelta(days=int(sessions.table["arrival"].max()) // SLOTS_PER_DAY)
    covered = f"{sessions.first_day:%Y-%m-%d} .. {last:%Y-%m-%d}"
    try:
        start = pd.to_datetime(first_day, format="%Y-%m-%d")
    except (ValueError, TypeError) as error:
        raise DataError(f"first_day = {first_day!r}: allowed is a date YYYY-MM-DD within {covered}") from error
    if days < 1 or start < sessions.first_day or start + pd.Timedelta(days=days - 1) > last:
        raise DataError(f"first_day = {first_day!r}, days = {days}: allowed are days within {covered}")
    return int((start - sessions.first_day).days)


def _size(given: int | None, place: Ints, day: Ints, station: Ints, first: pd.Timestamp) -> int:
    """M, and an error that names the fullest station and day where it is too small."""
    fullest = int(np.argmax(place))
    needed = int(place[fullest]) + 1
    if given is not None and given < needed:
        date = first + pd.Timedelta(days=int(day[fullest]))
        raise ConfigError(
            f"max_sessions = {given}: station {int(station[fullest])} has {needed} sessions on {date:%Y-%m-%d}: "
            f"allowed are {needed} or more"
        )
    return needed if given is None else given
