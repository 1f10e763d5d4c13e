"""Recorded days as tensors: which day, which station, what is cut, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gridmarl.errors import ConfigError, DataError
from gridmarl.scenarios.ev_days import EvDay
from gridmarl.scenarios.ev_files import EvSessions, load_sessions
from gridmarl.scenarios.ev_recorded import assign_stations, recorded_days

ROWS = [  # Friday 2018-03-09 to Sunday 2018-03-11
    "2018-03-09 02:00,2018-03-09 03:00,3,1,1,7.0,north",  # before 06:00: Thursday's
    "2018-03-09 06:00,2018-03-09 07:00,4,1,1,7.0,north",
    "2018-03-09 09:10,2018-03-09 10:10,5,2,1,7.0,south",
    "2018-03-09 09:20,2018-03-09 10:20,6,3,1,50.0,south",
    "2018-03-10 05:40,2018-03-10 08:40,20,2,1,7.0,south",  # Friday's; one half hour of six fits
    "2018-03-10 06:00,2018-03-10 06:40,2,1,1,7.0,north",
    "2018-03-11 05:00,2018-03-11 05:30,1,1,1,7.0,north",
]


@pytest.fixture
def sessions(tmp_path: Path) -> EvSessions:
    path = tmp_path / "sessions.csv"
    header = "arrival,departure,energy_kwh,charge_point,connector,rated_kw,site"
    path.write_text("\n".join([header, *ROWS]) + "\n")
    return load_sessions(path)


def by_cell(day: EvDay) -> dict[tuple[int, int], list[tuple[int, ...]]]:
    """Sessions in order, by (station, lane)."""
    cells: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for m, n, e in day.valid.nonzero().tolist():
        cells.setdefault((n, e), []).append(tuple(int(part[m, n, e]) for part in day[:4]))
    return cells


def test_days_stations_and_cuts(sessions: EvSessions) -> None:
    day = recorded_days(sessions, 2, "2018-03-09", 2, unit="site")
    assert day.arrival.shape == (3, 2, 2)
    # by energy: south 31 kWh, station 0; north 7 kWh, station 1
    assert by_cell(day) == {
        (0, 0): [(6, 8, 5000, 7000), (6, 8, 6000, 50_000), (47, 48, 3500, 7000)],
        (1, 0): [(0, 2, 4000, 7000)],
        (1, 1): [(0, 1, 2000, 7000), (46, 47, 1000, 7000)],
    }
    assert day.cut_wh.tolist() == [[16_500, 0], [0, 0]]
    assert day.day_type.tolist() == [0, 1]
    for part in day[:4]:
        assert not part[~day.valid].any()


def test_a_later_first_day(sessions: EvSessions) -> None:
    """Saturday and Sunday: the session of 05:00 on Sunday is Saturday's."""
    day = recorded_days(sessions, 1, "2018-03-10", 2)
    assert day.day_type.tolist() == [1, 1]
    assert by_cell(day) == {(0, 0): [(0, 1, 2000, 7000), (46, 47, 1000, 7000)]}


def test_outlets_are_spread_more_evenly(sessions: EvSessions) -> None:
    day = recorded_days(sessions, 3, "2018-03-09", 1)
    # south/2 25 kWh, south/3 6 kWh, north/1 4 kWh
    assert by_cell(day) == {
        (0, 0): [(6, 8, 5000, 7000), (47, 48, 3500, 7000)],
        (1, 0): [(6, 8, 6000, 50_000)],
        (2, 0): [(0, 2, 4000, 7000)],
    }


def test_another_start_and_more_places(sessions: EvSessions) -> None:
    day = recorded_days(sessions, 1, "2018-03-09", 1, start_slot=0, max_sessions=9)
    assert day.arrival.shape == (9, 1, 1)
    assert by_cell(day)[0, 0] == [
        (4, 6, 3000, 7000),
        (12, 14, 4000, 7000),
        (18, 20, 5000, 7000),
        (18, 20, 6000, 50_000),
    ]


def test_largest_first_to_the_least_loaded() -> None:
    energy = {"b": 5, "a": 5, "c": 4, "d": 3, "e": 2}
    assert assign_stations(energy, 2) == {"a": 0, "b": 1, "c": 0, "d": 1, "e": 1}
    assert assign_stations(energy, 5) == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
    for number in (0, 6):
        with pytest.raises(ConfigError, match=f"num_stations = {number}: allowed are 1 .. 5"):
            assign_stations(energy, number)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"first_day": "9 March"}, DataError, "first_day = '9 March': allowed is a date YYYY-MM-DD"),
        ({"first_day": "2018-03-08"}, DataError, r"within 2018-03-09 \.\. 2018-03-11"),
        ({"days": 4}, DataError, "days = 4"),
        ({"days": 0}, DataError, "days = 0"),
        ({"num_stations": 4}, ConfigError, r"num_stations = 4: allowed are 1 \.\. 3"),
        ({"unit": "street"}, ConfigError, "unit = 'street'"),
        ({"start_slot": 48}, ConfigError, "start_slot = 48"),
        (
            {"num_stations": 1, "max_sessions": 3},
            ConfigError,
            "max_sessions = 3: station 0 has 4 sessions on 2018-03-09: allowed are 4 or more",
        ),
    ],
)
def test_bad_arguments(sessions: EvSessions, change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"num_stations": 2, "first_day": "2018-03-09", "days": 2} | change
    with pytest.raises(error, match=message):
        recorded_days(sessions, **arguments)


def test_real_file(real_data: Path) -> None:
    sessions = load_sessions(real_data / "ev" / "dundee_sessions_13weeks_20180305_20180603.csv.gz")
    day = recorded_days(sessions, 8, "2018-03-05", 91)
    before_six = int((sessions.table["arrival"] < 12).sum())
    assert int(day.valid.sum()) == 15_323 - before_six
    table = sessions.table[sessions.table["arrival"] >= 12]
    assert int(day.energy_wh.sum() + day.cut_wh.sum()) == int(table["energy_wh"].sum())
    station = day.energy_wh.sum(dim=(0, 2))
    assert int(station.max()) < 1.02 * int(station.min())
