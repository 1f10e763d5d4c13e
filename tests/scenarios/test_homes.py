"""What the household loader accepts, and how it names what it does not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gridmarl.errors import DataError
from gridmarl.scenarios.homes import load_homes

HOURLY = ["2012-07-01 01:00,206,0,577", "2012-07-01 02:00,180,12,573", "2012-07-01 03:00,70,13,5"]
HOURLY_HEADER = "interval_end,c005_load,c005_pv,c013_load"
HALVES = ["2012-07-01 00:30,57,38", "2012-07-01 01:00,55,38", "2012-07-01 01:30,1,2", "2012-07-01 02:00,3,5"]
HALVES_HEADER = "interval_end,home_01,home_02"


def write(folder: Path, rows: list[str], header: str = HOURLY_HEADER, name: str = "one_wh.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def fails(path: object, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        load_homes(path)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(caught.value)


def test_hourly_load_and_pv(tmp_path: Path) -> None:
    homes = load_homes(write(tmp_path, HOURLY))
    assert homes.names == ("c005", "c013")
    assert homes.load_wh.to_numpy().tolist() == [[206, 577], [180, 573], [70, 5]]
    assert homes.pv_wh.to_numpy().tolist() == [[0, 0], [12, 0], [13, 0]]
    assert homes.load_wh.index[0] == pd.Timestamp("2012-07-01 01:00")
    assert (homes.load_wh.dtypes == "int64").all()
    assert (homes.pv_wh.dtypes == "int64").all()


def test_half_hours_are_summed(tmp_path: Path) -> None:
    homes = load_homes(write(tmp_path, HALVES, HALVES_HEADER))
    assert homes.load_wh.to_numpy().tolist() == [[112, 76], [4, 7]]
    assert homes.pv_wh.to_numpy().tolist() == [[0, 0], [0, 0]]
    assert homes.load_wh.index.tolist() == [pd.Timestamp("2012-07-01 01:00"), pd.Timestamp("2012-07-01 02:00")]


def test_files_are_joined_on_common_hours(tmp_path: Path) -> None:
    write(tmp_path, HOURLY)
    two = write(tmp_path, HALVES, HALVES_HEADER, "two_wh.csv")
    (tmp_path / "meta.csv").write_text("home,pv_kwp\nc005,1.0\n")
    for paths in ([tmp_path / "one_wh.csv", two], tmp_path):
        homes = load_homes(paths)
        assert homes.names == ("c005", "c013", "home_01", "home_02")
        assert homes.load_wh.to_numpy().tolist() == [[206, 577, 112, 76], [180, 573, 4, 7]]
        assert homes.pv_wh["c005"].tolist() == [0, 12]


def test_order_duplicates_and_whole_floats(tmp_path: Path) -> None:
    homes = load_homes(write(tmp_path, [HOURLY[2], HOURLY[0], HOURLY[1].replace("180", "180.0"), HOURLY[0]]))
    assert homes.load_wh["c005"].tolist() == [206, 180, 70]


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ("2012-07-01 04:00,-1,0,5", ("line 5", "2012-07-01 04:00", "c005_load", "'-1'")),
        ("2012-07-01 04:00,1,-2,5", ("line 5", "c005_pv", "'-2'")),
        ("2012-07-01 04:00,1.5,0,5", ("line 5", "c005_load", "'1.5'")),
        ("2012-07-01 04:00,1,0,", ("line 5", "c013_load", "empty")),
        ("2012-07-01 04:00,1,0,nan", ("line 5", "c013_load", "empty")),
        ("2012-07-01 04:00,1,0,inf", ("line 5", "c013_load", "'inf'")),
        ("2012-07-01 04:00,1,x,5", ("line 5", "c005_pv", "'x'")),
        ("2012-07-01 04:00,100000001,0,5", ("line 5", "c005_load", "100000001", "100000000")),
        ("2012-07-01 05:00,1,0,5", ("gap", "2012-07-01 04:00")),
        ("2012-07-01 03:00,1,0,5", ("2012-07-01 03:00", "c005_load", "70", "1")),
        ("2012-07-01 03:10,1,0,5", ("03:10", "not the end")),
        ("sometime,1,0,5", ("line 5", "'sometime'")),
        ("2012-07-01 04:00,1,0,5,6", ("readable CSV",)),
    ],
)
def test_malformed_rows(tmp_path: Path, row: str, parts: tuple[str, ...]) -> None:
    path = write(tmp_path, [*HOURLY, row])
    fails(path, path.name, *parts)


def test_gap_of_half_hours(tmp_path: Path) -> None:
    fails(write(tmp_path, HALVES[:2] + HALVES[3:], HALVES_HEADER), "gap", "2012-07-01 01:30")
    fails(write(tmp_path, HALVES[1:], HALVES_HEADER), "2012-07-01 01:00", "one half hour")
    fails(write(tmp_path, HALVES[:3], HALVES_HEADER), "2012-07-01 02:00", "one half hour")


def test_columns(tmp_path: Path) -> None:
    fails(write(tmp_path, HOURLY, "interval_end,c005_load,c005_pv,total"), "one_wh.csv", "'total'")
    fails(write(tmp_path, HOURLY, "interval_end,c005_load,c005_pv,c013_pv"), "one_wh.csv", "c013_load")
    fails(write(tmp_path, ["2012-07-01 01:00"], "interval_end"), "one_wh.csv", "no column")
    fails(write(tmp_path, HOURLY, "interval_end,c005_load,c005_pv,C005_load"), "one_wh.csv", "twice")


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    one = write(tmp_path, HOURLY)
    fails([one, write(tmp_path, HOURLY, name="copy.csv")], "c005", "one_wh.csv", "copy.csv")
    later = [row.replace("2012", "2013") for row in HALVES]
    two = write(tmp_path, later, HALVES_HEADER, "two.csv")
    fails([one, two], "no hour in common", "2012-07-01 03:00", "2013-07-01 01:00")
    fails([], "no files given")
    fails(tmp_path / "absent.csv", "absent.csv")


def test_real_files(real_data: Path) -> None:
    ausgrid = real_data / "households" / "ausgrid_8homes_hourly_201207_201306_wh.csv.gz"
    sgsc = real_data / "households" / "sgsc_nsw_40homes_30min_2013_wh.csv.gz"
    homes = load_homes(ausgrid)
    assert homes.load_wh.shape == (8760, 8)
    meta = pd.read_csv(real_data / "households" / "ausgrid_8homes_meta.csv", index_col=0)
    for name in homes.names:
        assert round(int(homes.load_wh[name].sum()) / 1000) == meta.loc[name, "load_kwh"]
        assert round(int(homes.pv_wh[name].sum()) / 1000) == meta.loc[name, "pv_kwh"]
    raw = pd.read_csv(sgsc, index_col=0, parse_dates=True)
    assert int(load_homes(sgsc).load_wh.to_numpy().sum()) == int(raw.to_numpy().sum())
    joined = load_homes([ausgrid, sgsc])
    assert joined.load_wh.shape == (4344, 48)
    assert joined.load_wh.index[0] == pd.Timestamp("2013-01-01 01:00")
    assert joined.load_wh.index[-1] == pd.Timestamp("2013-07-01 00:00")
