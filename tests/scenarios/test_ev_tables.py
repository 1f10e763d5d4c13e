"""The packaged tables of EV sessions: derived from the files, small, attributed, and checked when read."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gridmarl.errors import DataError
from gridmarl.scenarios.ev_calibrate import calibrate_sessions, main
from gridmarl.scenarios.ev_files import EvSessions, load_sessions
from gridmarl.scenarios.ev_tables import EV_FILE, EvTables, default_ev_tables, read_ev_tables, write_ev_tables
from gridmarl.scenarios.tables import packaged

FILES = ("dundee_sessions_13weeks_20180305_20180603.csv.gz", "norway_apartments_sessions_201812_202001.csv.gz")


def small() -> EvTables:
    """One power class, one pair."""
    return EvTables(
        kind="x",
        attribution="y",
        sessions_per_day_permille=1000,
        arrivals=((1,) * 48, (2,) * 48),
        day_factor_permille=(1000, 1000),
        power_w=(7000,),
        class_weight=((1,),) * 8,
        stay=(((4,),) * 8,),
        energy_wh=(((14_000,),) * 8,),
    )


def made_up(days: int = 28, per_day: int = 40) -> EvSessions:
    """From Monday 2018-01-01: every day sessions at 20:00, of two power classes, half of them on weekdays only."""
    rows = []
    for day in range(days):
        weekend = day % 7 >= 5
        for i in range(per_day // 2 if weekend else per_day):
            slow = i % 4 == 0
            stay = 2 + i % 5
            rows.append((day * 48 + 40, day * 48 + 40 + stay, 500 * stay + 10 * i, 3000 if slow else 50_000, "s", "o"))
    names = ["arrival", "departure", "energy_wh", "max_power_w", "site", "outlet"]
    return EvSessions("public", pd.Timestamp("2018-01-01"), pd.DataFrame(rows, columns=names), 0, 0)


def test_packaged_tables_are_what_the_script_derives(real_data: Path, tmp_path: Path) -> None:
    out = tmp_path / EV_FILE
    assert main(["--sessions", *(str(real_data / "ev" / name) for name in FILES), "--out", str(out)]) == 0
    assert out.read_bytes() == (packaged() / EV_FILE).read_bytes()


def test_packaged_means_are_those_of_the_files(real_data: Path) -> None:
    """Exact up to rounding where no cell takes pairs of others (public); within 0.2 % where one does."""
    for kind, name, share in (("public", FILES[0], 1e-4), ("residential", FILES[1], 2e-3)):
        tables = default_ev_tables()[kind]
        weight = np.array(tables.class_weight).T
        energy = (weight * np.array(tables.energy_wh).mean(axis=2)).sum() / weight.sum()
        assert abs(energy / load_sessions(real_data / "ev" / name).table["energy_wh"].mean() - 1) < share


def test_script_reports_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sessions", str(tmp_path / "absent.csv"), "--out", str(tmp_path / "out.json")]) == 2
    assert "absent.csv" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_packaged_tables_are_small_and_attributed() -> None:
    raw = (packaged() / EV_FILE).read_bytes()
    assert len(raw) < 16_000
    tables = default_ev_tables()
    assert sorted(tables) == ["public", "residential"]
    assert "Open Government Licence v3.0" in tables["public"].attribution
    assert "CC BY 4.0" in tables["residential"].attribution
    assert sum(map(sum, tables["public"].arrivals)) == 15_323
    assert sum(map(sum, tables["residential"].arrivals)) == 6_675
    for table in tables.values():
        assert abs(5 * table.day_factor_permille[0] + 2 * table.day_factor_permille[1] - 7000) <= 5


def test_packaged_tables_need_no_pandas(repository: Path) -> None:
    code = (
        "import sys, gridmarl.scenarios.ev_days as d, gridmarl.scenarios.ev_load as v, gridmarl.scenarios.ev_demand\n"
        "d.make_ev_stations(['public'], 5000); v.make_conventional_load(1000)\n"
        "sys.exit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repository)


def test_calibration_by_hand() -> None:
    sessions = made_up()
    tables = calibrate_sessions(sessions, "made up")
    assert tables.attribution == "made up"
    assert [sum(row) for row in tables.arrivals] == [20 * 40, 8 * 20]
    assert [row[40] for row in tables.arrivals] == [800, 160]
    # 40 a weekday, 20 a weekend day: 240 / 7 a day
    assert tables.day_factor_permille == (1167, 583)
    assert tables.sessions_per_day_permille == 34_286
    assert tables.power_w == (3000, 50_000)
    assert tables.class_weight[6] == (10 * 20 + 5 * 8, 30 * 20 + 15 * 8)
    assert len(tables.stay[0][6]) == 32
    assert {value for cell in tables.stay[1] for value in cell} == {2, 3, 4, 5, 6}
    fast = sessions.table[sessions.table["max_power_w"] == 50_000]
    assert abs(sum(tables.energy_wh[1][6]) / 32 - fast["energy_wh"].mean()) <= 0.5  # rounding of each pair
    stay = (fast["departure"] - fast["arrival"]).mean()
    assert abs(sum(tables.stay[1][6]) / 32 - stay) < 0.1


def test_midnight_belongs_to_the_day_before() -> None:
    """Arrivals at 02:00 on Saturdays count as Friday's, a weekday."""
    sessions = made_up()
    late = sessions.table.assign(
        arrival=sessions.table["arrival"] + 12, departure=sessions.table["departure"] + 12
    )  # 20:00 becomes 02:00 of the next day
    tables = calibrate_sessions(dataclasses.replace(sessions, table=late))
    assert [row[4] for row in tables.arrivals] == [800, 160]


def with_more(arrivals: list[int], copies: int) -> EvTables:
    """Tables of the made-up sessions and of `copies` more at each of some half hours, 20 half hours for 9 kWh."""
    sessions = made_up()
    rows = [(slot, slot + 20, 9000, 50_000, "s", "o") for slot in arrivals for _ in range(copies)]
    more = pd.DataFrame(rows, columns=sessions.table.columns)
    return calibrate_sessions(dataclasses.replace(sessions, table=pd.concat([more, sessions.table], ignore_index=True)))


def test_rare_cells_of_a_class_share_their_pairs() -> None:
    tables = with_more([20, 26, 32], 40)  # three blocks with 40 each: 120 together
    assert tables.class_weight[3] == (0, 40)
    for block in (0, 1, 2, 3, 4, 5, 7):
        assert tables.stay[1][block] == (20,) * 32
        assert tables.energy_wh[1][block] == (9000,) * 32
    assert max(tables.stay[1][6]) == 6


def test_too_few_rare_cells_take_the_whole_class() -> None:
    tables = with_more([20], 40)
    assert tables.stay[1][3] == tables.stay[1][0]
    assert max(tables.stay[1][3]) == 20
    assert min(tables.stay[1][3]) == 2


def test_stays_are_long_enough_for_the_energy() -> None:
    """12.4 of 32 slices stay 3 half hours at full power, others 2: the mixed slice, of mean 2.4, is rounded up."""
    sessions = made_up()
    count = len(sessions.table)
    stay = np.where(np.arange(count) < count * 124 // 320, 3, 2)
    table = sessions.table.assign(departure=sessions.table["arrival"] + stay, energy_wh=750 * stay, max_power_w=1500)
    tables = calibrate_sessions(dataclasses.replace(sessions, table=table))
    assert sorted(set(zip(tables.stay[0][6], tables.energy_wh[0][6], strict=True))) == [(2, 1500), (3, 1800), (3, 2250)]


def test_too_few_sessions() -> None:
    with pytest.raises(DataError, match=r"3000 W: 60 sessions: allowed are 96 or more"):
        calibrate_sessions(made_up(days=7))
    sessions = made_up()
    weekdays = dataclasses.replace(sessions, table=sessions.table[(sessions.table["arrival"] // 48) % 7 < 5])
    with pytest.raises(DataError, match=r"\[800, 0\] on weekdays and weekends"):
        calibrate_sessions(weekdays)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "ev.json"
    write_ev_tables(path, [small(), dataclasses.replace(small(), kind="z")])
    assert read_ev_tables(path) == {"x": small(), "z": dataclasses.replace(small(), kind="z")}
    write_ev_tables(path, [small(), small()])
    with pytest.raises(DataError, match="each once"):
        read_ev_tables(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '[{"kind": "x"}]', "[3]"])
def test_damaged_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ev.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"ev\.json"):
        read_ev_tables(path)
    with pytest.raises(DataError, match="absent"):
        read_ev_tables(tmp_path / "absent.json")


def test_a_table_out_of_bounds_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "ev.json"
    write_ev_tables(path, [small()])
    kinds = json.loads(path.read_text())
    kinds[0]["power_w"] = [-7000]
    path.write_text(json.dumps(kinds))
    with pytest.raises(DataError, match=r"ev\.json: EV tables of 'x': power_w\[0\] = -7000: allowed are 2"):
        read_ev_tables(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": ""}, "kind = ''"),
        ({"attribution": ""}, "attribution = ''"),
        ({"power_w": ()}, "0 power classes: allowed are 1 .. 16"),
        ({"arrivals": ((1,) * 48,)}, r"arrivals: shape \[1, 48\]: expected \[2, 48\]"),
        ({"arrivals": ((1,) * 48, (-1,) * 48)}, r"arrivals\[1, 0\] = -1"),
        ({"arrivals": ((1,) * 48, (0,) * 48)}, r"arrivals\[1\] sums to 0"),
        ({"arrivals": ((1,) * 48, (1,) * 47)}, "arrivals: rows of unequal length"),
        ({"day_factor_permille": (1000, 1.0)}, "day_factor_permille: entries of type float64"),
        ({"class_weight": ((1,),) * 7 + ((0,),)}, r"class_weight\[7\] sums to 0"),
        ({"stay": (((0,),) * 8,)}, r"stay\[0, 0, 0\] = 0: allowed are 1 .. 144"),
        ({"stay": (((3,),) * 8,)}, r"energy_wh\[0, 0, 0\] = 14000: allowed are up to 10500"),
        ({"stay": (((),) * 8,)}, r"stay: shape \[1, 8, 0\]"),
        ({"energy_wh": (((1, 2),) * 8,)}, r"energy_wh: shape \[1, 8, 2\]: expected \[1, 8, 1\]"),
    ],
)
def test_bad_tables(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataclasses.replace(small(), **change)
