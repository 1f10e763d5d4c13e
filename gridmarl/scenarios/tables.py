"""The packaged tables: how they are written to and read from a folder. Plain CSV and JSON, readable without pandas."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from gridmarl.errors import DataError

WHEEL_FILE = "price_wheel.csv"
HOMES_FILE = "homes.csv"
MANIFEST_FILE = "manifest.json"


class Tables(NamedTuple):
    """What the files hold. `B` price bins, `K` day kinds, `N` homes; nested lists in the order of the dimensions."""

    price_value: list[list[int]]  # [24][B]
    price_weight: list[list[int]]  # [24][B]
    price_after: list[list[list[int]]]  # [24][B hour before][B this hour]
    load_wh: list[list[list[int]]]  # [K][24][N]
    pv_wh: list[list[list[int]]]  # [K][24][N]
    manifest: dict[str, Any]  # name, attribution, reference price, ratios, day kinds, homes


def packaged() -> Traversable:
    """Folder of the tables that come with the package."""
    return files("gridmarl.scenarios") / "tables"


def write_tables(folder: Path, tables: Tables, comments: list[str]) -> None:
    """Write the three files; `comments` head the CSV files."""
    folder.mkdir(parents=True, exist_ok=True)
    bins = len(tables.price_value[0])
    wheel_header = ["hour", "bin", "value_utok_per_wh", "weight", *(f"after_{j}" for j in range(bins))]
    wheel_rows = (
        [hour, b, tables.price_value[hour][b], tables.price_weight[hour][b]]
        + [tables.price_after[hour][j][b] for j in range(bins)]
        for hour in range(len(tables.price_value))
        for b in range(bins)
    )
    _write_csv(folder / WHEEL_FILE, comments, wheel_header, wheel_rows)
    homes = tables.manifest["homes"]
    homes_header = ["kind", "hour", *(f"{home}_load" for home in homes), *(f"{home}_pv" for home in homes)]
    homes_rows = (
        [kind, hour, *load, *pv]
        for kind in range(len(tables.load_wh))
        for hour, (load, pv) in enumerate(zip(tables.load_wh[kind], tables.pv_wh[kind], strict=True))
    )
    _write_csv(folder / HOMES_FILE, comments, homes_header, homes_rows)
    text = json.dumps(tables.manifest, indent=1, ensure_ascii=True)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8", newline="\n")


def read_tables(folder: Traversable) -> Tables:
    """Read what `write_tables` wrote.

    Raises:
        DataError: a file is missing or not of this form (the message names it).
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        wheel = _read_csv(folder / WHEEL_FILE)
        homes = _read_csv(folder / HOMES_FILE)
        bins = 1 + max(row[1] for row in wheel)
        hours = [wheel[at : at + bins] for at in range(0, len(wheel), bins)]
        count = len(manifest["homes"])
        kinds = [homes[at : at + len(hours)] for at in range(0, len(homes), len(hours))]
        return Tables(
            price_value=[[row[2] for row in hour] for hour in hours],
            price_weight=[[row[3] for row in hour] for hour in hours],
            price_after=[[[row[4 + j] for row in hour] for j in range(bins)] for hour in hours],
            load_wh=[[row[2 : 2 + count] for row in kind] for kind in kinds],
            pv_wh=[[row[2 + count : 2 + 2 * count] for row in kind] for kind in kinds],
            manifest=manifest,
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"tables in {folder}: {type(error).__name__}: {error}") from error


def _write_csv(path: Path, comments: list[str], header: list[str], rows: Iterable[list[int]]) -> None:
    lines = [f"# {line}" for line in comments] + [",".join(header)]
    lines += [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _read_csv(path: Traversable) -> list[list[int]]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [[int(cell) for cell in row] for row in csv.reader(lines[1:])]
