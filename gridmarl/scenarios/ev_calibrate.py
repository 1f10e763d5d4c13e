"""Compact tables of EV sessions: `python -m gridmarl.scenarios.ev_calibrate --sessions FILE... --out FILE`.

Deterministic: the same files give the same bytes. No session is copied, only counts and means of at least three.

Stay and energy depend on each other, so they are drawn together: the sessions of a power class and block of arrival are
cut by stay into eight slices of equally many ranks, each of those by energy into four; a pair is the mean stay and the
mean energy of such a slice. The cells of a class with too few sessions share the pairs of all of them together (of the
whole class, if that is too few as well). Means keep feasible sessions feasible; where rounding the stay down would not,
it is rounded up.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gridmarl.errors import DataError, GridmarlError
from gridmarl.scenarios.ev_files import EvSessions, load_sessions
from gridmarl.scenarios.ev_tables import BLOCKS, DAY_START_SLOT, SLOTS_PER_DAY, EvTables, write_ev_tables
from gridmarl.scenarios.roulette import nearest

STAY_SLICES = 8
ENERGY_SLICES = 4
LEAST_PER_PAIR = 3

ATTRIBUTION = {
    "public": "Dundee City Council, electric vehicle charging sessions 2018-03-05 to 2018-06-03. Contains public "
    "sector information licensed under the Open Government Licence v3.0. Binned and averaged.",
    "residential": "Sorensen, Lindberg, Sartori and Andresen, Residential electric vehicle charging datasets from "
    "apartment buildings, Data in Brief 36:107105 (2021), CC BY 4.0. Binned and averaged.",
}

Ints = NDArray[np.int64]


def calibrate_sessions(sessions: EvSessions, attribution: str | None = None) -> EvTables:
    """Tables of the sessions of one kind.

    Args:
        sessions: of `load_sessions`.
        attribution: None = that of the public file of this kind.

    Raises:
        DataError: a power class with fewer than 96 sessions, or no weekday or no weekend with sessions.
    """
    table = sessions.table
    arrival, departure, energy, power = (
        table[name].to_numpy(dtype=np.int64) for name in ("arrival", "departure", "energy_wh", "max_power_w")
    )
    slot = arrival % SLOTS_PER_DAY
    day = (arrival - DAY_START_SLOT) // SLOTS_PER_DAY
    weekend = _weekend(sessions.first_day, day)
    arrivals = np.zeros((2, SLOTS_PER_DAY), dtype=np.int64)
    np.add.at(arrivals, (weekend, slot), 1)
    days = np.bincount(_weekend(sessions.first_day, np.arange(day.min(), day.max() + 1)), minlength=2)
    if (arrivals.sum(axis=1) == 0).any():
        raise DataError(f"EV sessions: {arrivals.sum(axis=1).tolist()} on weekdays and weekends: allowed are 1 or more")
    rate = nearest(arrivals.sum(axis=1) * 1_000_000, days)
    block = slot * BLOCKS // SLOTS_PER_DAY
    classes, level = np.unique(power, return_inverse=True)
    weight = np.zeros((BLOCKS, len(classes)), dtype=np.int64)
    np.add.at(weight, (block, level), 1)
    weight[weight.sum(axis=1) == 0] = np.bincount(level)  # a block without any session is never drawn
    cells = [_class_pairs(departure - arrival, energy, block, level == c, int(classes[c])) for c in range(len(classes))]
    sites = table["site"].nunique()
    return EvTables(
        kind=sessions.kind,
        attribution=ATTRIBUTION[sessions.kind] if attribution is None else attribution,
        sessions_per_day_permille=int(nearest(1000 * len(table), int(days.sum()) * sites)),
        arrivals=_tuples(arrivals),
        day_factor_permille=_tuples(nearest(rate * 1000, int(nearest(5 * rate[0] + 2 * rate[1], 7)))),
        power_w=_tuples(classes),
        class_weight=_tuples(weight),
        stay=_tuples(np.stack([stay for stay, _ in cells])),
        energy_wh=_tuples(np.stack([wh for _, wh in cells])),
    )


def _weekend(first_day: pd.Timestamp, day: Ints) -> Ints:
    """1 for Saturdays and Sundays; `day` counts from `first_day`, and may be -1 (before 06:00 of the first day)."""
    return np.asarray((first_day.weekday() + day) % 7 >= 5, dtype=np.int64)


def _class_pairs(stay: Ints, energy: Ints, block: Ints, inside: NDArray[np.bool_], power_w: int) -> tuple[Ints, Ints]:
    """Stay and energy `[8, Q]` of one power class."""
    least = LEAST_PER_PAIR * STAY_SLICES * ENERGY_SLICES
    if inside.sum() < least:
        raise DataError(f"EV sessions of {power_w} W: {inside.sum()} sessions: allowed are {least} or more")
    rare = inside & (np.bincount(block[inside], minlength=BLOCKS) < least)[block]
    cells = []
    for number in range(BLOCKS):
        chosen = inside & (block == number)
        if chosen.sum() < least:
            chosen = rare if rare.sum() >= least else inside
        cells.append(_pairs(stay[chosen], energy[chosen], power_w))
    return np.stack([cell[0] for cell in cells]), np.stack([cell[1] for cell in cells])


def _pairs(stay: Ints, energy: Ints, power_w: int) -> tuple[Ints, Ints]:
    """Stay and energy `[Q]` of one cell.

    Each session counts `Q` times, so that slices are exactly equal, and the mean of the pairs is that of the sessions.
    """
    pairs = STAY_SLICES * ENERGY_SLICES
    # Ties in the stay (public sessions last one half hour mostly) are cut by energy.
    by_stay = np.repeat(np.lexsort((energy, stay)), pairs).reshape(STAY_SLICES, -1)
    stays, energies = [], []
    for outer in by_stay:
        by_energy = outer[np.lexsort((stay[outer], energy[outer]))].reshape(ENERGY_SLICES, -1)
        for part in by_energy:
            energies.append(int(nearest(int(energy[part].sum()), part.size)))
            least = -(-energies[-1] // (power_w // 2))
            stays.append(max(least, int(nearest(int(stay[part].sum()), part.size))))
    return np.array(stays, dtype=np.int64), np.array(energies, dtype=np.int64)


def _tuples(values: Any) -> Any:
    return tuple(_tuples(value) for value in values) if isinstance(values, np.ndarray) else int(values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 2 and one line on standard error if the input is at fault."""
    parser = argparse.ArgumentParser(prog="python -m gridmarl.scenarios.ev_calibrate", description=__doc__)
    parser.add_argument("--sessions", nargs="+", required=True, metavar="FILE", help="one file per kind")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="JSON file to write")
    options = parser.parse_args(arguments)
    try:
        tables = [calibrate_sessions(load_sessions([path])) for path in options.sessions]
        write_ev_tables(options.out, sorted(tables, key=lambda table: table.kind))
    except GridmarlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
