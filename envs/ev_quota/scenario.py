"""What EVQuota plays on: sessions of the stations, drawn or recorded, and the other load of their transformer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gridmarl.errors import ConfigError
from gridmarl.random import Purpose, below, draw
from gridmarl.scenarios.ev_days import EvDay, EvStations, draw_ev_day, make_ev_stations
from gridmarl.scenarios.ev_load import ConventionalLoad, make_conventional_load
from gridmarl.scenarios.ev_tables import DAY_START_SLOT

if TYPE_CHECKING:
    from gridmarl.scenarios.files import PathLike

DEFAULT_SESSIONS_PER_DAY_PERMILLE = 8_000
DEFAULT_PEAK_W = 90_000


@dataclass(frozen=True, eq=False)
class EVScenario:
    """Build one with `ev_scenario` or `recorded_ev_scenario`.

    Attributes:
        sessions: tables to draw a day from, or recorded days `[M, N, days]`, of which each lane plays one.
        load: of the transformer's other customers.
        start_slot: half hour of the clock at which a day begins.
    """

    name: str
    attribution: str
    sessions: EvStations | EvDay
    load: ConventionalLoad
    start_slot: int

    @property
    def num_stations(self) -> int:
        """N."""
        if isinstance(self.sessions, EvStations):
            return self.sessions.num_stations
        return self.sessions.valid.shape[1]

    @property
    def max_sessions(self) -> int:
        """M, sessions per station and day at most."""
        if isinstance(self.sessions, EvStations):
            return self.sessions.max_sessions
        return self.sessions.valid.shape[0]

    @property
    def max_power_w(self) -> int:
        """Highest power of a session."""
        power = self.sessions.power_w if isinstance(self.sessions, EvStations) else self.sessions.max_power_w
        return int(power.max()) if power.numel() else 0

    def to(self, device: torch.device | str) -> EVScenario:
        """The same with its tensors on a device."""
        if isinstance(self.sessions, EvStations):
            return replace(self, sessions=self.sessions.to(device), load=self.load.to(device))
        moved = EvDay(*(part.to(device) for part in self.sessions))
        return replace(self, sessions=moved, load=self.load.to(device))

    def day(self, keys: Tensor) -> EvDay:
        """The sessions of one day in each lane, `[M, N, E]`.

        Args:
            keys: `[2, E]` lane keys, on the device of the scenario.
        """
        if isinstance(self.sessions, EvStations):
            return draw_ev_day(self.sessions, keys)
        # words 0 and 1 of this stream are the type of day and the season
        which = below(draw(keys, 0, Purpose.EV_DAY).select(0, 2), self.sessions.valid.shape[2])
        return EvDay(*(part.index_select(-1, which) for part in self.sessions))


def ev_scenario(
    num_stations: int = 8,
    *,
    public_stations: int | None = None,
    sessions_per_day_permille: int = DEFAULT_SESSIONS_PER_DAY_PERMILLE,
    conventional_peak_w: int = DEFAULT_PEAK_W,
    variation_permille: int = 30,
    forecast_error_permille: int = 0,
    start_slot: int = DAY_START_SLOT,
) -> EVScenario:
    """Sessions drawn by the packaged, calibrated tables.

    Args:
        public_stations: the first so many are of kind "public", the others "residential"; None: half of them.
        sessions_per_day_permille: mean sessions per day and station, in thousandths.
        conventional_peak_w, variation_permille, forecast_error_permille: see `make_conventional_load`. With an error
            above 0 stations that keep to their quotas can overload the transformer.
        start_slot: half hour of the clock at which a day begins.

    Raises:
        ConfigError: a number that is not allowed.
    """
    if type(num_stations) is not int or num_stations < 1:
        raise ConfigError(f"num_stations: {num_stations!r}, allowed are integers from 1")
    public = (num_stations + 1) // 2 if public_stations is None else public_stations
    if type(public) is not int or not 0 <= public <= num_stations:
        raise ConfigError(f"public_stations: {public!r}, allowed are integers 0 .. {num_stations}")
    kinds = ("public",) * public + ("residential",) * (num_stations - public)
    stations = make_ev_stations(kinds, sessions_per_day_permille, start_slot=start_slot)
    load = make_conventional_load(
        conventional_peak_w,
        variation_permille=variation_permille,
        forecast_error_permille=forecast_error_permille,
        start_slot=start_slot,
    )
    name = f"calibrated, {public} public and {num_stations - public} residential stations"
    return EVScenario(name, f"{stations.attribution} {load.attribution}", stations, load, start_slot)


def recorded_ev_scenario(
    files: PathLike,
    first_day: str,
    days: int,
    num_stations: int = 8,
    *,
    unit: str = "outlet",
    conventional_peak_w: int = DEFAULT_PEAK_W,
    variation_permille: int = 30,
    forecast_error_permille: int = 0,
    start_slot: int = DAY_START_SLOT,
) -> EVScenario:
    """Recorded sessions: each lane plays one of `days` days, drawn with equal chances.

    Args:
        files: as `load_sessions`; the licence of the files is the user's affair.
        first_day, days, unit: as `recorded_days`.

    Raises:
        DataError: files that are malformed or do not cover the days.
        ConfigError: a number that is not allowed.
    """
    from gridmarl.scenarios.ev_files import load_sessions  # they import pandas, which drawn sessions do without
    from gridmarl.scenarios.ev_recorded import recorded_days

    sessions = recorded_days(load_sessions(files), num_stations, first_day, days, unit=unit, start_slot=start_slot)
    load = make_conventional_load(
        conventional_peak_w,
        variation_permille=variation_permille,
        forecast_error_permille=forecast_error_permille,
        start_slot=start_slot,
    )
    return EVScenario(f"recorded, {days} days from {first_day}", load.attribution, sessions, load, start_slot)


@lru_cache(maxsize=8)
def default_ev_scenario(num_stations: int) -> EVScenario:
    """The calibrated scenario for so many stations, on the CPU."""
    return ev_scenario(num_stations)
