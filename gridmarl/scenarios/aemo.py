"""Wholesale prices of the Australian National Electricity Market (NEM), as AEMO publishes them, in exact integers.

Two layouts are read, plain or gzipped, told apart by their columns:

* AEMO's own `PRICE_AND_DEMAND_YYYYMM_<REGION>.csv`: columns REGION, SETTLEMENTDATE, TOTALDEMAND, RRP, PERIODTYPE, in
  any order and case (also `Region ID`, `settlement_date`, `Price` and the like); rows in any order; 30-minute trading
  rows, 5-minute rows (since October 2021), or blocks of both;
* the compact wide file: `settlement_end` and one `<REGION>_rrp` column per region.

Roundings, all stated: a price is the nearest µtok/Wh (half to even; exact to one cent per MWh); a half hour of six
5-minute prices is the floor of their mean (closed right, label right); an hour is the floor of the mean of its two half
hours. Prices are never clipped: negative ones and those at the cap stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gridmarl.errors import DataError
from gridmarl.scenarios.files import PathLike, csv_files, interval_ends, line_number, read_csv, show
from gridmarl.units import price_from_aud_per_mwh

_PREFERRED = "[Pp][Rr][Ii][Cc][Ee]_[Aa][Nn][Dd]_[Dd][Ee][Mm][Aa][Nn][Dd]_*"
_NAMES = {
    "region": ("region", "regionid"),
    "end": ("settlementdate", "settlementend", "intervalend", "settlement"),
    "price": ("rrp", "price", "spotprice", "rrpaudmwh"),
    "kind": ("periodtype",),
}
_SLOT = 30  # minutes
_STEP = 5

Ints = NDArray[np.int64]


def load_prices(paths: Sequence[PathLike] | PathLike, region: str = "NSW1") -> pd.Series[int]:
    """Half-hourly prices of one region from one or several files, or from the files of a folder.

    Args:
        paths: files or folders. In a folder, files named `PRICE_AND_DEMAND_*` are read if there are any, else all CSV.
        region: NEM region, without case: NSW1, QLD1, SA1, TAS1 or VIC1.

    Returns:
        int64 µtok/Wh, index the END of each half hour (naive, NEM time), sorted, without gaps; named after the region.

    Raises:
        DataError: a file is missing, empty, not CSV or lacks a column; a timestamp or price is malformed; the region
            does not occur (the message lists those that do); two rows of one interval disagree; an interval is missing.
            The message names the file and line, or the interval.
    """
    wanted = region.strip().upper()
    seen: set[str] = set()
    parts = [_read(path, wanted, seen) for path in csv_files(paths, "prices", _PREFERRED)]
    rows = pd.concat(parts, ignore_index=True)
    if rows.empty:
        raise DataError(f"prices: region {region!r} does not occur; the files hold {', '.join(sorted(seen)) or 'none'}")
    rows = rows.sort_values("end", kind="stable", ignore_index=True)
    _reject_conflicts(rows, wanted)
    rows = rows.drop_duplicates("end", ignore_index=True)
    return _half_hours(rows, wanted)


def hourly(half_hours: pd.Series[int]) -> pd.Series[int]:
    """Hourly prices: the floor of the mean of the two half hours; index the END of the hour.

    Raises:
        DataError: the series does not consist of whole hours without gaps (the message names the hour).
    """
    if half_hours.empty:
        raise DataError("half-hourly prices: the series is empty")
    index = pd.DatetimeIndex(half_hours.index)
    hour_end = index.ceil("h")
    counts = pd.Series(1, index=hour_end).groupby(level=0).sum()
    short = counts[counts != 2]
    if len(short) or not (half_hours.index.to_series().diff().dropna() == pd.Timedelta(minutes=_SLOT)).all():
        culprit = show(short.index[0]) if len(short) else "unsorted index"
        raise DataError(f"half-hourly prices: the hour that ends {culprit} does not consist of two half hours")
    pairs = half_hours.to_numpy(dtype=np.int64).reshape(-1, 2)
    return pd.Series(pairs.sum(axis=1) // 2, index=index[1::2], name=half_hours.name, dtype="int64")


def _read(path: Path, region: str, seen: set[str]) -> pd.DataFrame:
    """Rows (end, price, text, file, line) of one region in one file; the file's regions are added to `seen`."""
    table = read_csv(path, dtype=str, keep_default_na=False)
    columns = {"".join(c for c in name.lower() if c.isalnum()): name for name in table.columns}
    named = {field: next((columns[n] for n in names if n in columns), None) for field, names in _NAMES.items()}
    wide = {key[: -len("rrp")].upper(): name for key, name in columns.items() if key.endswith("rrp") and key != "rrp"}
    end = named["end"]
    if end is not None and named["region"] is not None and named["price"] is not None:
        table, prices = _long_rows(table, named, region, seen)
    elif end is not None and wide:
        seen.update(wide)
        prices = table[wide[region]] if region in wide else table.iloc[:0, 0]
        table = table.loc[prices.index]
    else:
        raise DataError(
            f"{path}: columns {list(table.columns)}: expected REGION, SETTLEMENTDATE and RRP, "
            "or settlement_end and <REGION>_rrp"
        )
    return pd.DataFrame(
        {
            "end": interval_ends(table[end], path),
            "price": _exact(prices, path),
            "text": prices.to_numpy(),
            "place": [f"{path.name}:{line_number(row)}" for row in table.index],
        }
    )


def _long_rows(
    table: pd.DataFrame, named: dict[str, str | None], region: str, seen: set[str]
) -> tuple[pd.DataFrame, pd.Series[str]]:
    """The rows of one region in AEMO's own layout that are trading prices (PERIODTYPE other than TRADE is dropped)."""
    if named["kind"] is not None:
        table = table[table[named["kind"]].str.strip().str.upper() == "TRADE"]
    regions = table[named["region"]].str.strip().str.upper()
    seen.update(regions.unique())
    table = table[regions == region]
    return table, table[named["price"]]


def _exact(prices: pd.Series[str], path: Path) -> Ints:
    """Prices in µtok/Wh of AUD/MWh texts; each distinct text is converted once, by exact decimal arithmetic."""
    codes, texts = pd.factorize(prices.str.strip())
    values = np.zeros(len(texts), dtype=np.int64)
    for position, text in enumerate(texts):
        try:
            values[position] = price_from_aud_per_mwh(text)
        except DataError as error:
            line = line_number(prices.index[int(np.flatnonzero(codes == position)[0])])
            raise DataError(f"{path}: line {line}: {error}") from error
    return values[codes]


def _reject_conflicts(rows: pd.DataFrame, region: str) -> None:
    """Two rows of one interval must agree on the price; `rows` are sorted by interval."""
    same = rows["end"].to_numpy()[1:] == rows["end"].to_numpy()[:-1]
    clash = np.flatnonzero(same & (rows["price"].to_numpy()[1:] != rows["price"].to_numpy()[:-1]))
    if clash.size:
        one, two = rows.iloc[int(clash[0])], rows.iloc[int(clash[0]) + 1]
        raise DataError(
            f"prices: {region}, interval that ends {show(one['end'])}: conflicting rows {one['text']} ({one['place']}) "
            f"and {two['text']} ({two['place']}) AUD/MWh"
        )


def _half_hours(rows: pd.DataFrame, region: str) -> pd.Series[int]:
    """Half-hourly prices from sorted, distinct rows of 30 or 5 minutes, or an error that names the first gap."""
    seconds = rows["end"].to_numpy().astype("datetime64[s]").astype(np.int64)
    minute = seconds // 60
    off = np.flatnonzero(seconds % (60 * _STEP) != 0)
    if off.size:
        row = rows.iloc[int(off[0])]
        raise DataError(f"prices: {row['place']}: {row['end']} is not the end of a 5- or 30-minute interval")
    slot, first, count = np.unique(-(-minute // _SLOT), return_index=True, return_counts=True)
    fine = _is_fine(minute[first], count)
    _reject_gaps(slot, fine, np.split(minute, first[1:]), region)
    total = np.add.reduceat(rows["price"].to_numpy(), first)
    index = pd.DatetimeIndex((slot * _SLOT * 60).astype("datetime64[s]"), name="interval_end")
    return pd.Series(total // count, index=index, name=region, dtype="int64")


def _is_fine(first_minute: Ints, count: Ints) -> NDArray[np.bool_]:
    """Which half hours come in 5-minute rows.

    A lone row on the half hour is a 30-minute price, except between two half hours of 5-minute rows, where it is what
    is left of a damaged one.
    """
    fine: NDArray[np.bool_] = (count > 1) | (first_minute % _SLOT != 0)
    fine[1:-1] |= fine[:-2] & fine[2:]
    return fine


def _reject_gaps(slot: Ints, fine: NDArray[np.bool_], minutes: list[Ints], region: str) -> None:
    """Name the first interval that is missing: a whole half hour, or one of the six rows of a 5-minute half hour."""
    for position in range(len(slot)):
        step = _STEP if fine[position] else _SLOT
        if position and slot[position] != slot[position - 1] + 1:
            missing, step = slot[position - 1] * _SLOT, _STEP if fine[position - 1] else _SLOT
            missing += step
        elif fine[position] and len(minutes[position]) != _SLOT // _STEP:
            due = np.arange((slot[position] - 1) * _SLOT + _STEP, slot[position] * _SLOT + 1, _STEP)
            missing = np.setdiff1d(due, minutes[position])[0]
        else:
            continue
        end = show(pd.Timestamp(int(missing) * 60, unit="s"))
        raise DataError(f"prices: {region}: gap: first missing interval is the {step}-minute one that ends {end}")
