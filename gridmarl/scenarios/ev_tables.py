"""The packaged tables of EV sessions: what they hold, and how they are written, read and checked: JSON, no pandas.

A kind of sessions ("public", "residential") is described by counts and by means of equally likely bins:

* arrivals by type of day (weekday, weekend) and half hour of the clock: the weights of a roulette wheel;
* power classes by block of arrival (3 hours of the clock): weights likewise;
* stay and energy by power class and block: `Q` equally likely pairs.

A type of day lasts from 06:00 to 06:00: the half hours after midnight belong to the day before.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from gridmarl.errors import DataError
from gridmarl.random import MAX_TOTAL
from gridmarl.scenarios.tables import packaged

EV_FILE = "ev_sessions.json"
SLOTS_PER_DAY = 48
DAY_START_SLOT = 12
DAY_TYPES = ("weekday", "weekend")
BLOCKS = 8
MAX_STAY_SLOTS = 144
MAX_ENERGY_WH = 1_000_000
MAX_POWER_W = 2_000_000
MAX_CLASSES = 16

_HEAD = ("kind", "attribution", "sessions_per_day_permille")
_LISTS = ("arrivals", "day_factor_permille", "power_w", "class_weight", "stay", "energy_wh")


@dataclass(frozen=True)
class EvTables:
    """One kind of sessions. `C` power classes in rising order, `Q` pairs; nested tuples in the order of the dimensions.

    Attributes:
        kind: name.
        attribution: whose data, under which licence.
        sessions_per_day_permille: mean sessions per site and day in the data, for orientation.
        arrivals: [2][48] sessions by type of day and half hour of the clock (0 = 00:00).
        day_factor_permille: [2] mean sessions of a day of each type over that of all days.
        power_w: [C] maximum power.
        class_weight: [8][C] sessions by block of arrival and power class.
        stay: [C][8][Q] half hours, 1 .. 144.
        energy_wh: [C][8][Q], at most `(power_w // 2) * stay`.
    """

    kind: str
    attribution: str
    sessions_per_day_permille: int
    arrivals: tuple[tuple[int, ...], ...]
    day_factor_permille: tuple[int, ...]
    power_w: tuple[int, ...]
    class_weight: tuple[tuple[int, ...], ...]
    stay: tuple[tuple[tuple[int, ...], ...], ...]
    energy_wh: tuple[tuple[tuple[int, ...], ...], ...]

    def __post_init__(self) -> None:
        """Check shapes and bounds; DataError names table, entry, value and what is allowed."""
        for name in ("kind", "attribution"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise DataError(f"EV tables: {name} = {getattr(self, name)!r}: allowed is a text that is not empty")
        classes = len(self.power_w)
        if not 1 <= classes <= MAX_CLASSES:
            raise DataError(f"EV tables of {self.kind!r}: {classes} power classes: allowed are 1 .. {MAX_CLASSES}")
        pairs = len(self.stay[0][0]) if self.stay and self.stay[0] else 0
        weight = (MAX_TOTAL - 1) // SLOTS_PER_DAY  # so that a wheel's total stays below MAX_TOTAL
        self._check("sessions_per_day_permille", (), 0, 10**9)
        self._check("arrivals", (len(DAY_TYPES), SLOTS_PER_DAY), 0, weight)
        self._check("day_factor_permille", (len(DAY_TYPES),), 0, 10_000)
        self._check("power_w", (classes,), 2, MAX_POWER_W)
        self._check("class_weight", (BLOCKS, classes), 0, weight)
        self._check("stay", (classes, BLOCKS, pairs), 1, MAX_STAY_SLOTS)
        self._check("energy_wh", (classes, BLOCKS, pairs), 1, MAX_ENERGY_WH)
        for name in ("arrivals", "class_weight"):
            for row, weights in enumerate(getattr(self, name)):
                if sum(weights) < 1:
                    raise DataError(f"EV tables of {self.kind!r}: {name}[{row}] sums to 0: allowed is 1 or more")
        for index in np.ndindex(classes, BLOCKS, pairs):
            c, b, q = index
            energy, limit = self.energy_wh[c][b][q], self.power_w[c] // 2 * self.stay[c][b][q]
            if energy > limit:
                raise DataError(
                    f"EV tables of {self.kind!r}: energy_wh{list(index)} = {energy}: allowed are up to {limit}, what "
                    "the stay takes at maximum power"
                )

    def _check(self, name: str, shape: tuple[int, ...], low: int, high: int) -> None:
        where = f"EV tables of {self.kind!r}: {name}"
        try:
            table = np.asarray(getattr(self, name))
        except ValueError as error:
            raise DataError(f"{where}: rows of unequal length") from error
        if table.shape != shape or 0 in shape:
            raise DataError(f"{where}: shape {list(table.shape)}: expected {list(shape)}, none of them 0")
        if table.dtype.kind != "i":
            raise DataError(f"{where}: entries of type {table.dtype}: allowed are integers")
        bad = np.argwhere((table < low) | (table > high))
        if len(bad):
            entry = tuple(int(i) for i in bad[0])
            raise DataError(f"{where}{list(entry)} = {table[entry]}: allowed are {low} .. {high}")


@functools.cache
def default_ev_tables() -> dict[str, EvTables]:
    """The packaged tables by kind: "public" (Dundee) and "residential" (Norway); see docs/ev-sessions.md.

    Raises:
        DataError: the packaged file is damaged.
    """
    return read_ev_tables(packaged() / EV_FILE)


def write_ev_tables(path: Path, tables: list[EvTables]) -> None:
    """Write the tables of several kinds; a row of numbers per line, so that differences can be read."""
    kinds = []
    for table in tables:
        lines = [f'  "{name}": {json.dumps(getattr(table, name), ensure_ascii=True)}' for name in _HEAD]
        lines += [f'  "{name}": {_rows(getattr(table, name), 3)}' for name in _LISTS]
        kinds.append(" {\n" + ",\n".join(lines) + "\n }")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(kinds) + "\n]\n", encoding="utf-8", newline="\n")


def read_ev_tables(path: Traversable) -> dict[str, EvTables]:
    """Read and check what `write_ev_tables` wrote.

    Raises:
        DataError: the file is missing or not of this form, a kind occurs twice, or a table is out of bounds.
    """
    try:
        kinds: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        tables = [EvTables(**{name: _tuples(kind[name]) for name in (*_HEAD, *_LISTS)}) for kind in kinds]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"EV tables in {path}: {type(error).__name__}: {error}") from error
    by_kind = {table.kind: table for table in tables}
    if not tables or len(by_kind) < len(tables):
        raise DataError(f"{path}: kinds {[table.kind for table in tables]}: allowed are one or more, each once")
    return by_kind


def _rows(values: Any, indent: int) -> str:
    """Nested lists as JSON, the innermost each on a line of its own."""
    if values and isinstance(values[0], tuple):
        inner = (",\n" + " " * indent).join(_rows(value, indent + 1) for value in values)
        return f"[\n{' ' * indent}{inner}]"
    return json.dumps(values, separators=(",", ":"))


def _tuples(values: Any) -> Any:
    return tuple(_tuples(value) for value in values) if isinstance(values, list) else values
