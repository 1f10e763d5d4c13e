"""Household load and PV generation: hourly, exact Wh, index the END of the hour on NEM time.

Two layouts are read, plain or gzipped, told apart by their columns (the first column is the interval's end):

* hourly `<home>_load` and `<home>_pv` (the Ausgrid solar-home extract);
* half-hourly `home_NN` without PV (the Smart-Grid Smart-City extract), summed to hours.

Any mix of these column kinds and of the two steps works; several files are joined on the hours that all of them have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gridmarl.errors import DataError
from gridmarl.scenarios.files import PathLike, check_gaps, csv_files, interval_ends, line_number, read_csv, show
from gridmarl.units import MAX_ORDER_WH

_COLUMN = re.compile(r"^(?:(?P<home>.+)_(?P<kind>load|pv)|(?P<plain>home_\d+))$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Homes:
    """Hourly series of the same homes: both frames have one int64 Wh column per name, and the same hours."""

    load_wh: pd.DataFrame
    pv_wh: pd.DataFrame
    names: tuple[str, ...]


def load_homes(paths: Sequence[PathLike] | PathLike) -> Homes:
    """Hourly load and PV of the homes in one or several files, or in the files of a folder.

    Args:
        paths: files or folders. In a folder, files named `*_wh.csv*` are read if there are any, else all CSV.

    Returns:
        load and PV in Wh per hour; PV is 0 for homes without a PV column. Without gaps.

    Raises:
        DataError: a file is missing, empty or not CSV; a column is not recognised or a home occurs twice; an energy is
            not an integer, negative or above 100 MWh; two rows of one interval disagree; an interval is missing (the
            first is named); the files have no hour in common.
    """
    loads: list[pd.DataFrame] = []
    pvs: list[pd.DataFrame] = []
    places: dict[str, Path] = {}
    for path in csv_files(paths, "homes", "*_wh.csv*"):
        load, pv = _read(path)
        for name in load.columns:
            if name in places:
                raise DataError(f"{path}: home {name!r} is also in {places[name]}")
            places[name] = path
        loads.append(load)
        pvs.append(pv)
    hours = loads[0].index
    for frame in loads[1:]:
        hours = hours.intersection(frame.index)
    if hours.empty:
        ranges = "; ".join(f"{show(f.index[0])} .. {show(f.index[-1])}" for f in loads)
        raise DataError(f"homes: the files have no hour in common: {ranges}")
    joined = pd.concat([f.loc[hours] for f in loads], axis=1)
    return Homes(joined, pd.concat([f.loc[hours] for f in pvs], axis=1), tuple(map(str, joined.columns)))


def _read(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hourly load and PV of one file."""
    table = read_csv(path, low_memory=False)
    ends = interval_ends(table.iloc[:, 0], path)
    found = _columns(path, list(table.columns[1:]))
    wh = pd.DataFrame({name: _integers(table[name], ends, path) for name in table.columns[1:]}, index=ends)
    wh = _distinct(wh.sort_index(kind="stable"), path)
    hours = _hours(wh, path)
    load = pd.DataFrame({home: hours[columns["load"]] for home, columns in found.items()})
    zero = pd.Series(0, index=hours.index, dtype="int64")
    pv = pd.DataFrame({home: hours[columns["pv"]] if "pv" in columns else zero for home, columns in found.items()})
    return load, pv


def _columns(path: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """Columns of each home: {"c005": {"load": "c005_load", "pv": "c005_pv"}, "home_01": {"load": "home_01"}}."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        match = _COLUMN.match(name)
        if match is None:
            raise DataError(f"{path}: column {name!r}: expected <home>_load, <home>_pv or home_NN")
        home = match["plain"] or match["home"]
        found.setdefault(home, {})[(match["kind"] or "load").lower()] = name
    for home, columns in found.items():
        if "load" not in columns:
            raise DataError(f"{path}: home {home!r} has a PV column but no {home}_load")
    if not found:
        raise DataError(f"{path}: no column of a home: expected <home>_load, <home>_pv or home_NN")
    return found


def _integers(column: pd.Series[Any], ends: pd.DatetimeIndex, path: Path) -> NDArray[np.int64]:
    """A column as int64 Wh within 0 .. MAX_ORDER_WH, or an error that names the first culprit."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~((numbers >= 0) & (numbers <= MAX_ORDER_WH) & (np.floor(numbers) == numbers))
    if bad.any():
        row = int(np.argmax(bad))
        value = column.iloc[row]
        seen = "empty" if pd.isna(value) else repr(str(value))
        raise DataError(
            f"{path}: line {line_number(column.index[row])} (interval that ends {show(ends[row])}), column "
            f"{column.name}: energy {seen}: allowed are whole Wh, 0 .. {MAX_ORDER_WH}"
        )
    return numbers.astype(np.int64)


def _distinct(wh: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Rows of distinct intervals; `wh` is sorted. Equal duplicates are dropped, conflicting ones are an error."""
    again = wh.index[1:] == wh.index[:-1]
    values = wh.to_numpy()
    clash = again[:, None] & (values[1:] != values[:-1])
    if clash.any():
        row, column = np.argwhere(clash)[0]
        raise DataError(
            f"{path}: interval that ends {show(wh.index[row])}: conflicting rows: column {wh.columns[column]} is "
            f"{values[row, column]} and {values[row + 1, column]} Wh"
        )
    return wh[~wh.index.duplicated()]


def _hours(wh: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Hourly sums of a gapless half-hourly or hourly frame."""
    ends = pd.DatetimeIndex(wh.index)
    off = np.flatnonzero((ends.minute % 30 != 0) | (ends.second != 0))
    if off.size:
        raise DataError(f"{path}: {ends[int(off[0])]} is not the end of an hour or half hour")
    half_hourly = bool((ends.minute == 30).any())
    check_gaps(ends, 30 if half_hourly else 60, str(path))
    if not half_hourly:
        return wh.rename_axis("interval_end")
    for end, minute in ((ends[0], 30), (ends[-1], 0)):
        if end.minute != minute:
            raise DataError(f"{path}: the hour that ends {show(end.ceil('h'))} has one half hour only")
    sums = wh.to_numpy().reshape(-1, 2, wh.shape[1]).sum(axis=1)
    return pd.DataFrame(sums, index=ends[1::2].rename("interval_end"), columns=wh.columns)
