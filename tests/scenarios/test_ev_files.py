"""What the loader of EV sessions accepts, its roundings, and how it names what it does not accept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gridmarl.errors import DataError
from gridmarl.scenarios import ev_files
from gridmarl.scenarios.ev_files import EvSessions, load_sessions

PUBLIC = "arrival,departure,energy_kwh,charge_point,connector,rated_kw,site"
PUBLIC_ROWS = [
    "2018-03-05 00:29,2018-03-05 01:12,6.65,50349,2,50.0,d11",
    "2018-03-05 04:58,2018-03-05 05:22,7.05,50339,2,50.0,d23",
    "2018-03-06 09:00,2018-03-06 10:15,8.001,51088,1,7.0,d10",
]
HOME = "arrival,departure,energy_kwh,user,site,charge_point"
HOME_ROWS = [
    "2018-12-21 10:24,2018-12-21 10:39,0.87,u10,AdO3,private",
    "2018-12-22 16:15,2018-12-23 16:40,15.56,u8,AdO3,private",
    "2018-12-23 11:33,2018-12-23 19:46,59.87,u10,AdO3,private",
]
NAMES = ("arrival", "departure", "energy_wh", "max_power_w")


def write(folder: Path, rows: list[str], header: str = PUBLIC, name: str = "sessions.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def numbers(sessions: EvSessions) -> list[list[int]]:
    return [sessions.table[name].tolist() for name in NAMES]


def fails(path: object, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        load_sessions(path)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(caught.value)


def test_public_sessions(tmp_path: Path) -> None:
    """00:29 is in half hour 0, 43 minutes are one half hour, 75 minutes are 3 (halves up), 24 minutes are 1."""
    sessions = load_sessions(write(tmp_path, PUBLIC_ROWS))
    assert (sessions.kind, sessions.first_day) == ("public", pd.Timestamp("2018-03-05"))
    assert numbers(sessions) == [[0, 9, 66], [1, 10, 69], [6650, 7050, 8001], [50_000, 50_000, 7_000]]
    assert sessions.table["site"].tolist() == ["d11", "d23", "d10"]
    assert sessions.table["outlet"].tolist() == ["d11/50349/2", "d23/50339/2", "d10/51088/1"]
    assert (sessions.table[list(NAMES)].dtypes == "int64").all()
    assert (sessions.clipped, sessions.clipped_wh) == (0, 0)


def test_residential_sessions_and_their_power(tmp_path: Path) -> None:
    """u8 stays below 3.68 kW; u10 has charged at 7.29 kW on average, so all its sessions may take 7.36 kW."""
    sessions = load_sessions(write(tmp_path, HOME_ROWS, HOME))
    assert sessions.kind == "residential"
    assert numbers(sessions) == [[20, 80, 119], [21, 129, 135], [870, 15_560, 58_880], [7_360, 3_680, 7_360]]
    assert (sessions.clipped, sessions.clipped_wh) == (1, 59_870 - 58_880)  # 8 h 13 min are 16 half hours


def test_order_columns_and_files(tmp_path: Path) -> None:
    whole = load_sessions(write(tmp_path, PUBLIC_ROWS))
    parts = [
        write(tmp_path, [PUBLIC_ROWS[i] for i in rows], name=f"{n}_sessions.csv") for n, rows in ((1, [2, 0]), (2, [1]))
    ]
    assert numbers(load_sessions(parts)) == numbers(whole)
    turned = write(tmp_path, [",".join(row.split(",")[::-1]) for row in PUBLIC_ROWS], ",".join(PUBLIC.split(",")[::-1]))
    assert numbers(load_sessions(turned)) == numbers(whole)
    (tmp_path / "sessions.csv").unlink()
    assert numbers(load_sessions(tmp_path)) == numbers(whole)


def test_kinds_are_not_mixed(tmp_path: Path) -> None:
    public, home = write(tmp_path, PUBLIC_ROWS), write(tmp_path, HOME_ROWS, HOME, "home.csv")
    fails([public, home], "public and residential", "one kind")


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ("2018-03-06 12:00,2018-03-06 12:00,1,1,1,7.0,d1", ("departure = '2018-03-06 12:00'", "after the arrival")),
        ("2018-03-06 12:00,2018-03-05 13:00,1,1,1,7.0,d1", ("departure = '2018-03-05 13:00'", "after the arrival")),
        ("2018-03-06 12:00,2018-03-09 12:01,1,1,1,7.0,d1", ("departure = '2018-03-09 12:01'", "72 h")),
        ("2018-03-06 12:00,2018-03-06 13:00,-1,1,1,7.0,d1", ("energy_kwh = '-1'", "0.001 .. 200 kWh")),
        ("2018-03-06 12:00,2018-03-06 13:00,0,1,1,7.0,d1", ("energy_kwh = '0'", "0.001 .. 200 kWh")),
        ("2018-03-06 12:00,2018-03-08 13:00,200.1,1,1,7.0,d1", ("energy_kwh = '200.1'", "0.001 .. 200 kWh")),
        ("2018-03-06 12:00,2018-03-06 13:00,nan,1,1,7.0,d1", ("energy_kwh = 'nan'", "0.001 .. 200 kWh")),
        ("2018-03-06 12:00,2018-03-06 13:00,8.76,1,1,7.0,d1", ("energy_kwh = '8.76'", "125 % of rated_kw")),
        ("2018-03-06 12:00,2018-03-06 13:00,1,1,1,-7,d1", ("rated_kw = '-7'", "1000 kW")),
        ("2018-03-06 12:00,2018-03-06 13:00,1,1,1,x,d1", ("rated_kw = 'x'",)),
        ("2018-03-06 12:00,2018-03-06 13:00,1,1,1,7.0,", ("site = ''", "a value")),
        ("2018-03-06 12:00,,1,1,1,7.0,d1", ("departure = ''", "a value")),
        ("noon,2018-03-06 13:00,1,1,1,7.0,d1", ("'noon'",)),
        ("2018-03-25 01:30,2018-03-25 03:00,1,1,1,7.0,d1", ("arrival = '2018-03-25 01:30'", "Europe/London", "spring")),
        ("2018-03-06 10:00,2018-03-06 11:00,1,51088,1,7.0,d10", ("'d10/51088/1'", "occupied", "line 4")),
    ],
)
def test_malformed_rows(tmp_path: Path, row: str, parts: tuple[str, ...]) -> None:
    path = write(tmp_path, [*PUBLIC_ROWS, row])
    fails(path, path.name, "line 5", *parts)


def test_copies_and_overlaps(tmp_path: Path) -> None:
    fails(write(tmp_path, [*PUBLIC_ROWS, PUBLIC_ROWS[2]]), "line 5", "line 4", "the same session twice")
    at_once = ["2018-12-22 17:00,2018-12-22 18:00,1,u8,AdO3,", "2018-12-22 17:30,2018-12-22 18:30,2,u8,AdO3,"]
    shared = write(tmp_path, [row + "shared" for row in at_once], HOME)
    assert len(load_sessions(shared).table) == 2  # a user with two cars
    fails(write(tmp_path, [row + "private" for row in at_once], HOME), "line 3", "'AdO3/u8/private'", "occupied")
    fails(write(tmp_path, [at_once[0] + "shared"] * 2, HOME), "the same session twice")
    fails(write(tmp_path, [at_once[0] + "kerb"], HOME), "charge_point = 'kerb'", "private or shared")


def test_one_minute_ends_before_the_next_begins(tmp_path: Path) -> None:
    next_car = "2018-03-06 10:15,2018-03-06 11:00,1,51088,1,7.0,d10"
    assert len(load_sessions(write(tmp_path, [*PUBLIC_ROWS, next_car])).table) == 4


def test_gap_of_days(tmp_path: Path) -> None:
    late = "2018-03-{},2018-03-20 12:00,1,1,1,7.0,d1"
    assert (
        len(load_sessions(write(tmp_path, [*PUBLIC_ROWS[:2], late.format("12 23:59").replace("20 12", "13 12")])).table)
        == 3
    )
    path = write(tmp_path, [*PUBLIC_ROWS[:2], late.format("20 11:00")])
    fails(path, "line 4", "gap", "2018-03-05 04:58", "up to 7 days")


def test_home_above_every_power_class(tmp_path: Path) -> None:
    row = "2018-12-22 17:00,2018-12-22 18:00,24.3,u8,AdO3,private"
    fails(write(tmp_path, [row], HOME), "line 2", "energy_kwh = 24.3", "24300 W", "24200 W")


@pytest.mark.parametrize("header", [PUBLIC.replace("rated_kw", "power"), PUBLIC + ",note", HOME.replace(",user", "")])
def test_columns(tmp_path: Path, header: str) -> None:
    fails(write(tmp_path, ["1,2,3,4,5,6,7,8"[: 2 * header.count(",") + 1]], header), "columns", "allowed", "connector")


def test_empty_file(tmp_path: Path) -> None:
    fails(write(tmp_path, []), "no rows")
    fails(tmp_path / "absent.csv", "absent.csv")


def test_stays_across_a_change_of_the_clock(tmp_path: Path) -> None:
    """Elapsed time: 23:30 to 03:30 is 3 h in spring and 5 h in autumn (read: 01:30, the first of two)."""
    spring = "2018-03-24 23:30,2018-03-25 03:30,1,1,1,7.0,d1"
    autumn = "2018-10-27 23:30,2018-10-28 03:30,1,1,1,7.0,d1"
    twice = "2018-10-28 01:30,2018-10-28 02:30,1,1,1,7.0,d1"
    for row, half_hours in ((spring, 6), (autumn, 10), (twice, 4)):
        table = load_sessions(write(tmp_path, [row])).table
        assert (table["departure"] - table["arrival"]).tolist() == [half_hours]


def test_time_zone_data_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = [layout._replace(zone="Nowhere/Land") for layout in ev_files._LAYOUTS]
    monkeypatch.setattr(ev_files, "_LAYOUTS", nowhere)
    fails(write(tmp_path, PUBLIC_ROWS), "Nowhere/Land", "install the package tzdata")


def test_real_files(real_data: Path) -> None:
    public = load_sessions(real_data / "ev" / "dundee_sessions_13weeks_20180305_20180603.csv.gz")
    assert (len(public.table), public.clipped, public.clipped_wh) == (15_323, 157, 133_780)
    assert public.table["max_power_w"].value_counts().to_dict() == {50_000: 9_130, 7_000: 4_876, 22_000: 1_317}
    home = load_sessions(real_data / "ev" / "norway_apartments_sessions_201812_202001.csv.gz")
    assert (len(home.table), home.clipped, home.clipped_wh) == (6_675, 393, 180_650)
    assert home.table["max_power_w"].value_counts().to_dict() == {3_680: 4_223, 7_360: 2_452}
    raw = pd.read_csv(real_data / "ev" / "norway_apartments_sessions_201812_202001.csv.gz")
    assert int(home.table["energy_wh"].sum()) + home.clipped_wh == round(raw["energy_kwh"].sum() * 1000)
    for sessions in (public, home):
        table = sessions.table
        assert (table["energy_wh"] <= table["max_power_w"] // 2 * (table["departure"] - table["arrival"])).all()
