"""What the AEMO loader accepts, and how it names what it does not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from gridmarl.errors import DataError
from gridmarl.scenarios.aemo import hourly, load_prices

HEADER = "REGION,SETTLEMENTDATE,TOTALDEMAND,RRP,PERIODTYPE"
ROWS = [
    "NSW1,2015/01/01 00:30:00,6920.94,48.06,TRADE",
    "NSW1,2015/01/01 01:00:00,6668.71,47.25,TRADE",
    "NSW1,2015/01/01 01:30:00,6327.71,37.1,TRADE",
    "NSW1,2015/01/01 02:00:00,6056.02,-1000,TRADE",
]
PRICES = [4806, 4725, 3710, -100_000]
FIVE = [
    f"NSW1,2015/01/01 02:{m:02}:00,1,{p},TRADE" for m, p in zip(range(5, 35, 5), (1, 1, 1, 1, 1, 1.05), strict=True)
]


def write(folder: Path, rows: list[str], header: str = HEADER, name: str = "PRICE_AND_DEMAND_201501_NSW1.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def fails(path: object, *parts: str, region: str = "NSW1") -> None:
    """The loader refuses, and its message holds every one of the parts."""
    with pytest.raises(DataError) as caught:
        load_prices(path, region)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(caught.value)


def test_plain_file(tmp_path: Path) -> None:
    series = load_prices([write(tmp_path, ROWS)])
    assert series.tolist() == PRICES
    assert series.dtype == "int64"
    assert series.name == "NSW1"
    assert series.index[0] == pd.Timestamp("2015-01-01 00:30")
    assert series.index[-1] == pd.Timestamp("2015-01-01 02:00")


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda text: text.replace("2015/01/01", "2015-01-01"), id="dashes"),
        pytest.param(lambda text: text.replace("2015/01/01 0", "1/01/2015 ").replace(":00,", ","), id="excel"),
        pytest.param(lambda text: text.replace(":00,", ","), id="no-seconds"),
        pytest.param(lambda text: text.replace("2015/01/01 0", "2015/1/1T"), id="short-T"),
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="crlf"),
        pytest.param(lambda text: "\ufeff" + text, id="bom"),
        pytest.param(lambda text: text + "\n\n", id="blank-lines"),
        pytest.param(lambda text: text.replace(HEADER, HEADER.lower()), id="lower-case"),
        pytest.param(
            lambda text: text.replace(HEADER, "RegionID,Settlement Date,Demand,Price,Period_Type"), id="renamed"
        ),
        pytest.param(lambda text: text.replace(",2015", ',"2015').replace(":00,", ':00",'), id="quoted"),
        pytest.param(lambda text: text.replace(",TRADE", "").replace(",PERIODTYPE", ""), id="no-period-type"),
        pytest.param(lambda text: text.replace("TRADE", " trade "), id="spaces"),
    ],
)
def test_spellings(tmp_path: Path, edit: object) -> None:
    path = write(tmp_path, ROWS)
    edited = edit(path.read_text())  # type: ignore[operator]
    assert edited != path.read_text()
    path.write_text(edited, newline="")
    assert load_prices(path).tolist() == PRICES


def test_day_first_dates(tmp_path: Path) -> None:
    path = write(tmp_path, ["NSW1,1/02/2015 23:30,1,10,TRADE", "NSW1,2/02/2015 0:00,1,20,TRADE"])
    assert load_prices(path).index.tolist() == [pd.Timestamp("2015-02-01 23:30"), pd.Timestamp("2015-02-02")]


def test_order_and_exact_duplicates(tmp_path: Path) -> None:
    path = write(tmp_path, [ROWS[3], ROWS[0], ROWS[2], ROWS[0], ROWS[1], ROWS[3]])
    assert load_prices(path).tolist() == PRICES


def test_conflicting_duplicates(tmp_path: Path) -> None:
    path = write(tmp_path, [*ROWS, "NSW1,2015/01/01 01:00:00,1,47.26,TRADE"])
    fails(path, "2015-01-01 01:00", "47.25", "47.26", f"{path.name}:3", f"{path.name}:6")


def test_other_period_types_and_regions_are_dropped(tmp_path: Path) -> None:
    rows = [*ROWS, "NSW1,2015/01/01 01:00:00,1,99,PREDISPATCH", "QLD1,2015/01/01 01:00:00,1,77,TRADE"]
    assert load_prices(write(tmp_path, rows)).tolist() == PRICES


def test_several_files_and_a_folder(tmp_path: Path) -> None:
    one = write(tmp_path, ROWS[:2])
    two = write(tmp_path, ROWS[2:], name="price_and_demand_201502_NSW1.csv")
    write(tmp_path, ["QLD1,2015/01/01 01:00:00,1,77,TRADE"], name="PRICE_AND_DEMAND_201501_QLD1.csv")
    (tmp_path / "notes.csv").write_text("not,prices\n1,2\n")
    assert load_prices([two, str(one)]).tolist() == PRICES
    assert load_prices(tmp_path).tolist() == PRICES
    assert load_prices(tmp_path, "qld1").tolist() == [7700]


def test_wide_file(tmp_path: Path) -> None:
    text = "settlement_end,NSW1_rrp,NSW1_demand,SA1_rrp\n2012-07-01 00:30,57.04,8,71.44\n2012-07-01 01:00,53.69,7,60\n"
    path = tmp_path / "wide.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert load_prices(tmp_path).tolist() == [5704, 5369]
    assert load_prices(path, "SA1").tolist() == [7144, 6000]
    fails(path, "VIC1", "NSW1, SA1", region="VIC1")


def test_five_minutes_are_averaged_with_closed_right(tmp_path: Path) -> None:
    """600 and 5: the mean 100.83 is floored; the row at 02:30 belongs to the half hour that ends there."""
    series = load_prices(write(tmp_path, [*ROWS, *FIVE, "NSW1,2015/01/01 03:00:00,1,2,TRADE"]))
    assert series.tolist() == [*PRICES, 100, 200]


def test_floor_of_a_negative_mean(tmp_path: Path) -> None:
    series = load_prices(write(tmp_path, [row.replace(",1.05,", ",-5.01,") for row in FIVE]))
    assert series.tolist() == [-1]  # 500 - 501 = -1; -1/6 floors to -1
    pair = load_prices(write(tmp_path, [ROWS[0], ROWS[1].replace("47.25", "-48.07")]))
    assert hourly(pair).tolist() == [-1]


def test_roundings_are_exact(tmp_path: Path) -> None:
    rows = [row.replace(",48.06,", ",0.005,").replace(",47.25,", ",0.015,") for row in ROWS]
    assert load_prices(write(tmp_path, rows)).tolist()[:2] == [0, 2]  # half to even


@pytest.mark.parametrize(("drop", "missing"), [(1, "2015-01-01 01:00"), (2, "2015-01-01 01:30")])
def test_gap_of_half_hours(tmp_path: Path, drop: int, missing: str) -> None:
    fails(write(tmp_path, ROWS[:drop] + ROWS[drop + 1 :]), "NSW1", "30-minute", missing)


@pytest.mark.parametrize("drop", range(5))
def test_gap_of_five_minutes(tmp_path: Path, drop: int) -> None:
    fails(write(tmp_path, [*ROWS, *FIVE[:drop], *FIVE[drop + 1 :]]), "5-minute", f"2015-01-01 02:{5 * drop + 5:02}")


def test_gap_after_five_minutes_and_a_lone_rest_of_them(tmp_path: Path) -> None:
    later = [row.replace(" 02:", " 03:") for row in FIVE]
    fails(write(tmp_path, [*FIVE, *later]), "5-minute", "2015-01-01 02:35")
    fails(write(tmp_path, [*FIVE, "NSW1,2015/01/01 03:00:00,1,2,TRADE", *later]), "5-minute", "2015-01-01 02:35")


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ("NSW1,2015/01/01 02:30:00,1,abc,TRADE", ("line 6", "'abc'")),
        ("NSW1,2015/01/01 02:30:00,1,,TRADE", ("line 6", "''")),
        ("NSW1,2015/01/01 02:30:00,1,NaN,TRADE", ("line 6", "'NaN'")),
        ("NSW1,2015/01/01 02:30:00,1,inf,TRADE", ("line 6", "'inf'")),
        ("NSW1,2015/01/01 02:30:00,1,100000.01,TRADE", ("line 6", "100000.01", "-100000 .. 100000")),
        ("NSW1,2015/13/01 02:30:00,1,1,TRADE", ("line 6", "2015/13/01")),
        ("NSW1,1/13/2015 2:30,1,1,TRADE", ("line 6", "1/13/2015")),
        ("NSW1,2015/02/29 02:30:00,1,1,TRADE", ("line 6", "2015/02/29")),
        ("NSW1,2015/01/01 24:30:00,1,1,TRADE", ("line 6", "24:30")),
        ("NSW1,,1,1,TRADE", ("line 6", "''")),
        ("NSW1,2015/01/01 02:31:00,1,1,TRADE", (":6", "02:31", "not the end")),
        ("NSW1,2015/01/01 02:30:01,1,1,TRADE", (":6", "02:30:01", "not the end")),
        ("NSW1,2015/01/01 02:30:00,1,1,TRADE,extra", ("readable CSV",)),
    ],
)
def test_malformed_rows(tmp_path: Path, row: str, parts: tuple[str, ...]) -> None:
    path = write(tmp_path, [*ROWS, row])
    fails(path, path.name, *parts)


def test_short_row(tmp_path: Path) -> None:
    path = write(tmp_path, [*ROWS, "NSW1,2015/01/01 02:30:00,1"], header=HEADER.replace(",PERIODTYPE", ",OTHER"))
    fails(path, path.name, "line 6", "''")


def test_all_rows_too_long(tmp_path: Path) -> None:
    """pandas alone would take the first column as the index and shift all others."""
    path = write(tmp_path, [row + ",extra" for row in ROWS])
    fails(path, path.name, "readable CSV")


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    fails([], "no files given")
    fails(tmp_path, str(tmp_path), "no .csv")
    fails(tmp_path / "absent.csv", "absent.csv", "no such file")
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    fails(empty, "empty.csv", "is empty")
    fails(write(tmp_path, [], name="header.csv"), "header.csv", "no rows")
    fails(write(tmp_path, ["1,2"], header="a,b", name="foreign.csv"), "foreign.csv", "['a', 'b']", "SETTLEMENTDATE")
    fails(write(tmp_path, ["1,2,3"], header="RRP,REGION,RRP", name="twice.csv"), "twice.csv", "'RRP' occurs twice")
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(b"REGION,RRP\n" * 99)[:20])
    fails(broken, "broken.csv.gz", "readable CSV")
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b"REGION,\xff\xfe\n1,2\n")
    fails(latin, "latin.csv", "readable CSV")


def test_unknown_region_and_nothing_traded(tmp_path: Path) -> None:
    fails(write(tmp_path, [*ROWS, ROWS[0].replace("NSW1", "TAS1")]), "'QLD1'", "NSW1, TAS1", region="QLD1")
    fails(write(tmp_path, [row.replace("TRADE", "FORECAST") for row in ROWS]), "'NSW1'", "none")


def test_hourly(tmp_path: Path) -> None:
    series = load_prices(write(tmp_path, ROWS))
    by_hour = hourly(series)
    assert by_hour.tolist() == [(4806 + 4725) // 2, (3710 - 100_000) // 2]
    assert by_hour.index.tolist() == [pd.Timestamp("2015-01-01 01:00"), pd.Timestamp("2015-01-01 02:00")]
    with pytest.raises(DataError, match="2015-01-01 01:00"):
        hourly(series.iloc[1:])
    with pytest.raises(DataError, match="2015-01-01 02:00"):
        hourly(series.iloc[:3])
    with pytest.raises(DataError, match="unsorted"):
        hourly(series.iloc[[1, 0, 2, 3]])
    with pytest.raises(DataError, match="empty"):
        hourly(series.iloc[:0])


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("PRICE_AND_DEMAND_201503_NSW1.csv", 0, "", ""),
        ("PRICE_AND_DEMAND_201703_NSW1.csv", 31 * 48, "2017-03-01 00:30", "2017-04-01 00:00"),
        ("PRICE_AND_DEMAND_201501_NSW1.csv", 31 * 48, "2015-01-01 00:30", "2015-02-01 00:00"),
        ("PRICE_AND_DEMAND_202501_NSW1_first_two_days.csv", 2 * 48, "2025-01-01 00:30", "2025-01-03 00:00"),
    ],
)
def test_real_files(real_data: Path, name: str, count: int, first: str, last: str) -> None:
    path = real_data / "aemo" / "raw" / name
    if count == 0:
        fails(path, name, "no such file")
        return
    series = load_prices(path)
    assert len(series) == count
    assert (series.index[0], series.index[-1]) == (pd.Timestamp(first), pd.Timestamp(last))
    raw = pd.read_csv(path)
    raw.index = pd.to_datetime(raw["SETTLEMENTDATE"])
    mean = raw.sort_index()["RRP"].resample("30min", closed="right", label="right").mean()
    assert ((mean * 100 - series).to_numpy() > -1e-6).all()
    assert ((mean * 100 - series).to_numpy() < 1).all()


def test_real_folder_and_history(real_data: Path) -> None:
    fails(real_data / "aemo" / "raw", "2015-02-01 00:30")
    history = real_data / "aemo" / "nem_30min_201207_201312.csv.gz"
    raw = pd.read_csv(history, index_col=0, parse_dates=True)
    for region in ("NSW1", "QLD1", "SA1", "TAS1", "VIC1"):
        series = load_prices(history, region)
        assert series.tolist() == (raw[f"{region}_rrp"] * 100).round().astype("int64").tolist()
