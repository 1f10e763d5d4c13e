"""A day of EV sessions at each station, drawn per lane: arrival, departure, energy and maximum power as integers.

Arrivals at a station form a Poisson process whose rate follows the half hour and the type of day: the number of
sessions comes from a Poisson wheel, each session's half hour from the wheel of arrivals, its power class from that of
the arrival's block, its stay and energy as one of `Q` equally likely pairs. Every car finds a free outlet.

Integers only, int64, lanes last. Every draw ends in an integer table, so a lane is the same on every device and in any
batch; station n of N draws the same for any N > n, and session m the same for any number of sessions and any rate.

The day starts empty. What lasts beyond its end is cut: departure = 48, energy at most what the shorter stay takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridmarl.errors import ConfigError
from gridmarl.preferences import floor_div
from gridmarl.random import Purpose, below, draw, philox4x32
from gridmarl.scenarios.ev_tables import (
    BLOCKS,
    DAY_START_SLOT,
    DAY_TYPES,
    SLOTS_PER_DAY,
    EvTables,
    default_ev_tables,
)
from gridmarl.units import PERMILLE

WEEKDAY, WEEKEND = range(len(DAY_TYPES))
MAX_SESSIONS = 1024
MAX_RATE_PERMILLE = 500_000  # 500 sessions per day and station

_WEEKDAYS, _WEEK = 5, 7
_WHEEL_TOTAL = 2**30
_LEAST_MEAN_PERMILLE = 999  # of the stated mean, that `max_sessions` must leave


class Wheels(NamedTuple):
    """`W` roulette wheels of `B` bins end to end, so that one search serves draws from different wheels."""

    cumulative: Tensor  # [W * B] int64 running totals, each wheel's from where the one before ended
    start: Tensor  # [W] int64 running total at which a wheel begins
    total: Tensor  # [W] int64 weight of a wheel, 1 .. 2**31-1


class EvDay(NamedTuple):
    """Sessions of one day: `M` sessions at most, `N` stations, `E` lanes; int64. Where not valid, all are 0.

    A session may charge in the half hours `arrival <= t < departure` of the day (0 = its first), at most
    `max_power_w // 2` Wh in each; `energy_wh <= (max_power_w // 2) * (departure - arrival)`. Not sorted by time.
    """

    arrival: Tensor  # [M, N, E] 0 .. 47
    departure: Tensor  # [M, N, E] 1 .. 48
    energy_wh: Tensor  # [M, N, E]
    max_power_w: Tensor  # [M, N, E]
    valid: Tensor  # [M, N, E] bool
    day_type: Tensor  # [E] 0 weekday, 1 weekend
    cut_wh: Tensor  # [N, E] energy of sessions cut at the end of the day that did not fit any more


@dataclass(frozen=True, eq=False)
class EvStations:
    """Tables that days are drawn from; build one with `make_ev_stations` (it validates). Tensors int64.

    `K` kinds, `C` power classes (padded), `Q` pairs (padded).
    """

    kinds: tuple[str, ...]  # of each station
    attribution: str
    start_slot: int  # half hour of the clock that a day begins with
    max_sessions: int  # M
    station_kind: Tensor  # [N] index into the K kinds
    count: Wheels  # wheel n * 2 + day type, of M + 1 bins: number of sessions
    arrival: Wheels  # wheel kind * 2 + day type, of 48 bins: half hour of the clock
    power_class: Wheels  # wheel kind * 8 + block, of C bins
    power_w: Tensor  # [K * C]
    pairs: Tensor  # [K] number of pairs
    stay: Tensor  # [K * C * 8 * Q] half hours
    energy_wh: Tensor  # [K * C * 8 * Q]

    @property
    def num_stations(self) -> int:
        """N."""
        return len(self.kinds)

    def to(self, device: torch.device | str) -> EvStations:
        """The same with its tensors on a device."""
        moved: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device)
            elif isinstance(value, Wheels):
                moved[field.name] = Wheels(*(part.to(device) for part in value))
        return dataclasses.replace(self, **moved)


def make_ev_stations(
    kinds: Sequence[str],
    sessions_per_day_permille: int | Sequence[int],
    *,
    max_sessions: int | None = None,
    start_slot: int = DAY_START_SLOT,
    tables: dict[str, EvTables] | None = None,
) -> EvStations:
    """Stations ready to draw days from, on the CPU.

    Args:
        kinds: kind of each station, such as `("public",) * 4 + ("residential",) * 4`.
        sessions_per_day_permille: mean sessions per day in thousandths, over the days of a week; one number for all
            stations, or one per station. 0 .. 500,000.
        max_sessions: M; None = the least that is allowed. The number of sessions is Poisson, given that it is at most
            M; M must leave 99.9 % of every mean.
        start_slot: half hour of the clock that a day begins with, 0 .. 47; 12 = 06:00, where least energy is cut.
        tables: by kind; None = the packaged ones ("public", "residential").

    Raises:
        ConfigError: no stations, an unknown kind, or a number out of range.
    """
    tables = default_ev_tables() if tables is None else tables
    names = tuple(kinds)
    known = tuple(sorted(tables))
    if not names or any(name not in tables for name in names):
        raise ConfigError(f"kinds = {list(kinds)}: allowed are one or more of {', '.join(known)}")
    _check("start_slot", start_slot, 0, SLOTS_PER_DAY - 1)
    rates = _rates(sessions_per_day_permille, names, tables)
    needed = max((least_max_sessions(rate) for rate in rates), default=1)
    if max_sessions is None:
        max_sessions = needed
    _check("max_sessions", max_sessions, needed, MAX_SESSIONS)
    used = [tables[name] for name in known if name in names]
    position = {table.kind: index for index, table in enumerate(used)}
    classes = max(len(table.power_w) for table in used)
    pairs = max(len(table.stay[0][0]) for table in used)
    return EvStations(
        kinds=names,
        attribution=" ".join(table.attribution for table in used),
        start_slot=start_slot,
        max_sessions=max_sessions,
        station_kind=torch.tensor([position[name] for name in names], dtype=torch.int64),
        count=_wheels([poisson_weights(rate, max_sessions) for rate in rates]),
        arrival=_wheels([row for table in used for row in table.arrivals]),
        power_class=_wheels([_padded(row, classes) for table in used for row in table.class_weight]),
        power_w=torch.tensor([power for table in used for power in _padded(table.power_w, classes)]),
        pairs=torch.tensor([len(table.stay[0][0]) for table in used], dtype=torch.int64),
        stay=_flat([table.stay for table in used], classes, pairs),
        energy_wh=_flat([table.energy_wh for table in used], classes, pairs),
    )


def draw_ev_day(stations: EvStations, keys: Tensor, *, day: int | Tensor = 0, day_type: Tensor | None = None) -> EvDay:
    """Draw the sessions of one day in each lane.

    Args:
        stations: on the device of `keys`.
        keys: `[2, E]` lane keys.
        day: day of the episode; an int, or an int64 tensor of shape `[]` or `[E]`. Each has draws of its own.
        day_type: `[E]` 0 weekday, 1 weekend; None draws it, five days of seven weekdays.
    """
    lanes, number = keys.size(1), stations.num_stations
    if day_type is None:
        day_type = draw_day_type(keys, day)
    kind = stations.station_kind.view(-1, 1)
    station = torch.arange(number, device=keys.device).view(-1, 1)
    words = draw(keys, day, Purpose.EV_COUNT, number).select(0, 0)  # [N, E]
    count = _spin(words, stations.count, station * len(DAY_TYPES) + day_type)
    session = torch.arange(stations.max_sessions, device=keys.device).view(-1, 1, 1)
    valid = session < count
    first, second, third = _session_words(keys, day, number, stations.max_sessions)
    clock = _spin(first, stations.arrival, kind * len(DAY_TYPES) + day_type)
    block = floor_div(clock, SLOTS_PER_DAY // BLOCKS)
    level = _spin(second, stations.power_class, kind * BLOCKS + block)
    classes = stations.power_w.size(0) // stations.pairs.size(0)
    level = kind * classes + level  # of all kinds
    power = torch.take(stations.power_w, level)
    width = stations.stay.size(0) // (stations.power_w.size(0) * BLOCKS)
    pair = (level * BLOCKS + block) * width + below(third, torch.take(stations.pairs, kind))
    arrival = torch.remainder(clock - stations.start_slot, SLOTS_PER_DAY)
    departure = (arrival + torch.take(stations.stay, pair)).clamp_(max=SLOTS_PER_DAY)
    wanted = torch.take(stations.energy_wh, pair)
    energy = torch.minimum(wanted, (power >> 1) * (departure - arrival))
    cut = ((wanted - energy) * valid).sum(dim=0)
    return EvDay(arrival * valid, departure * valid, energy * valid, power * valid, valid, day_type.expand(lanes), cut)


def draw_day_type(keys: Tensor, day: int | Tensor = 0) -> Tensor:
    """`[E]` int64: 0 weekday (5 of 7) or 1 weekend, of one day in each lane."""
    return (below(draw(keys, day, Purpose.EV_DAY).select(0, 0), _WEEK) >= _WEEKDAYS).to(torch.int64)


def poisson_weights(mean_permille: int, largest: int) -> list[int]:
    """Integer weights of 0 .. largest under the Poisson law, proportional to `mean**k / k!`; total about 2**30.

    Whole numbers of any length, so that they are the same on every machine.
    """
    terms = _poisson_terms(mean_permille, largest)
    total = sum(terms)
    return [term * _WHEEL_TOTAL // total for term in terms]


def least_max_sessions(mean_permille: int) -> int:
    """The least number of sessions, 1 or more, that leaves 99.9 % of the mean where the count is cut off there."""
    terms = _poisson_terms(mean_permille, MAX_SESSIONS)
    below_it = terms[0]
    for largest in range(1, len(terms)):
        # The mean of a Poisson number given that it is at most M is `mean * P(at most M - 1) / P(at most M)`.
        if below_it * PERMILLE >= _LEAST_MEAN_PERMILLE * (below_it + terms[largest]):
            return largest
        below_it += terms[largest]
    raise ConfigError(f"mean of {mean_permille} / 1000 sessions per day: allowed are up to {MAX_RATE_PERMILLE}")


def _poisson_terms(mean_permille: int, largest: int) -> list[int]:
    terms = [1 << 256]
    for k in range(1, largest + 1):
        terms.append(terms[-1] * mean_permille // (PERMILLE * k))
    return terms


def _rates(given: int | Sequence[int], names: tuple[str, ...], tables: dict[str, EvTables]) -> list[int]:
    """Mean sessions in permille of each station and type of day (the type runs fastest)."""
    means = list(given) if isinstance(given, Sequence) else [given] * len(names)
    if len(means) != len(names):
        raise ConfigError(f"sessions_per_day_permille: {len(means)} entries: allowed are one, or {len(names)}")
    for position, mean in enumerate(means):
        _check(f"sessions_per_day_permille[{position}]", mean, 0, MAX_RATE_PERMILLE)
    return [
        mean * factor // PERMILLE
        for name, mean in zip(names, means, strict=True)
        for factor in tables[name].day_factor_permille
    ]


def _check(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} = {value!r}: allowed are integers {low} .. {high}")


def _padded(row: Sequence[int], size: int) -> list[int]:
    """A row with zeros after it; a class of weight zero is never drawn."""
    return [*row, *[0] * (size - len(row))]


def _flat(tables: Sequence[Sequence[Sequence[Sequence[int]]]], classes: int, pairs: int) -> Tensor:
    """`[K * C * 8 * Q]` of one table per kind, padded to equal sizes."""
    flat = torch.zeros(len(tables), classes, BLOCKS, pairs, dtype=torch.int64)
    for index, table in enumerate(tables):
        values = torch.tensor(table, dtype=torch.int64)
        flat.select(0, index).narrow(0, 0, values.size(0)).narrow(2, 0, values.size(2)).copy_(values)
    return flat.flatten()


def _wheels(weights: Sequence[Sequence[int]]) -> Wheels:
    """Wheels of equally many bins."""
    table = torch.tensor(weights, dtype=torch.int64)
    total = table.sum(dim=1)
    return Wheels(table.flatten().cumsum(0), total.cumsum(0) - total, total)


def _spin(words: Tensor, wheels: Wheels, which: Tensor) -> Tensor:
    """Bin of each random word on the wheel `which` (broadcast against the words)."""
    bins = wheels.cumulative.size(0) // wheels.total.size(0)
    mark = below(words, torch.take(wheels.total, which)) + torch.take(wheels.start, which)
    return torch.searchsorted(wheels.cumulative, mark.contiguous(), right=True) - which * bins


def _session_words(keys: Tensor, day: int | Tensor, stations: int, sessions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Three random words `[M, N, E]` each: as `draw(keys, day, EV_SESSION, N, index=m)` of all m at once."""
    period = day if isinstance(day, Tensor) else keys.new_full((), day)
    purpose = keys.new_full((), Purpose.EV_SESSION)
    agent = torch.arange(stations, device=keys.device).view(-1, 1)
    index = torch.arange(sessions, device=keys.device).view(-1, 1, 1)
    words = philox4x32((period, purpose, agent, index), (keys.select(0, 0), keys.select(0, 1)))
    return words[0], words[1], words[2]
