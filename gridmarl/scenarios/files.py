"""Reading interval files: which files, their columns as text, their timestamps, and the first gap.

Timestamps are naive, on NEM time (UTC+10, no daylight saving), and name the END of their interval.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from zlib import error as ZlibError

import numpy as np
import pandas as pd

from gridmarl.errors import DataError

PathLike = Path | str

_DATE = r"(?:(?P<y1>\d{4})[/-](?P<m1>\d{1,2})[/-](?P<d1>\d{1,2})|(?P<d2>\d{1,2})[/-](?P<m2>\d{1,2})[/-](?P<y2>\d{4}))"
_TIME = r"(?:[ T]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.0+)?)?)?"
_STAMP = rf"^{_DATE}{_TIME}$"


def csv_files(paths: Sequence[PathLike] | PathLike, what: str, preferred: str) -> list[Path]:
    """The files that `paths` names, in order; a folder stands for its CSV files (plain or .gz), sorted by name.

    In a folder the files that match the glob `preferred` are taken where there are any, else every CSV file.

    Raises:
        DataError: no paths, a path that does not exist, or a folder without CSV files.
    """
    given: Iterable[PathLike] = [paths] if isinstance(paths, str | Path) else paths
    files: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            inside = [p for pattern in ("*.csv", "*.csv.gz") for p in path.glob(pattern) if p.is_file()]
            chosen = [p for p in inside if p.match(preferred)] or inside
            if not chosen:
                raise DataError(f"{what}: folder {path} holds no .csv or .csv.gz file")
            files += sorted(chosen)
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{what}: no such file or folder: {path}")
    if not files:
        raise DataError(f"{what}: no files given")
    return files


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A CSV file with stripped column names; extra options go to `pandas.read_csv`.

    Row `i` of the result is line `i + 2` of the file; blank lines are left out, so the index may have holes.

    Raises:
        DataError: unreadable, not CSV, no header, no rows, or a column name that occurs twice.
    """
    try:
        with warnings.catch_warnings():
            # Without index_col=False a row with one field too many shifts all columns silently; with it pandas warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            common: dict[str, Any] = {"encoding": "utf-8-sig", "skip_blank_lines": False, "index_col": False}
            header = pd.read_csv(path, header=None, nrows=1, dtype=str, **common)  # pandas renames what occurs twice
            table: pd.DataFrame = pd.read_csv(path, **common, **options)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: the file is empty") from error
    except (pd.errors.ParserWarning, OSError, EOFError, ZlibError, ValueError) as error:  # ValueError: parser, encoding
        raise DataError(f"{path}: not a readable CSV file: {str(error).strip()}") from error
    names = [str(name).strip() for name in header.iloc[0].fillna("")]
    twice = [name for position, name in enumerate(names) if name.lower() in map(str.lower, names[:position])]
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} occurs twice")
    table.columns = pd.Index(names)
    table = table.loc[~(table.isna() | (table == "")).all(axis=1)]
    if table.empty:
        raise DataError(f"{path}: no rows below the header")
    return table


def interval_ends(texts: pd.Series[str], path: Path) -> pd.DatetimeIndex:
    """Naive timestamps of `Y/m/d`, `Y-m-d` or day-first `d/m/Y` texts, with or without a time and seconds.

    `texts` is indexed as `read_csv` does, so that an error can name its line.

    Raises:
        DataError: not such a date, or no date that exists.
    """
    text = texts.fillna("").astype(str).str.strip()
    part = text.str.extract(_STAMP)
    fields = pd.DataFrame(
        {
            "year": part["y1"].fillna(part["y2"]),
            "month": part["m1"].fillna(part["m2"]),
            "day": part["d1"].fillna(part["d2"]),
            "hour": part["hour"].fillna("0"),
            "minute": part["minute"].fillna("0"),
            "second": part["second"].fillna("0"),
        }
    ).apply(pd.to_numeric)
    date = pd.to_datetime(fields[["year", "month", "day"]], errors="coerce")
    bad = date.isna() | (fields["hour"] > 23) | (fields["minute"] > 59) | (fields["second"] > 59)
    if bad.any():
        row = bad.idxmax()
        raise DataError(
            f"{path}: line {line_number(row)}: timestamp {text[row]!r}: "
            "allowed are Y/m/d, Y-m-d or d/m/Y with H:M or H:M:S"
        )
    seconds = fields["hour"] * 3600 + fields["minute"] * 60 + fields["second"]
    return pd.DatetimeIndex(date + pd.to_timedelta(seconds, unit="s")).as_unit("s")


def line_number(row: Any) -> int:
    """Line of the file (from 1, the header's) of a row label of `read_csv`."""
    return int(row) + 2


def show(stamp: Any) -> str:
    """A timestamp as error messages write it."""
    return pd.Timestamp(stamp).strftime("%Y-%m-%d %H:%M")


def check_gaps(ends: pd.DatetimeIndex, minutes: int, what: str) -> None:
    """Raise a DataError that names the first missing interval of a sorted index with a step of `minutes`."""
    step = pd.Timedelta(minutes=minutes)
    holes = np.flatnonzero(np.asarray(ends[1:] - ends[:-1]) != step.to_timedelta64())
    if holes.size:
        missing = ends[int(holes[0])] + step
        raise DataError(f"{what}: gap: first missing interval is the {minutes}-minute one that ends {show(missing)}")
