"""Entry points: packaged tables, fixed windows, calibration from files, and the script that derived the tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gridmarl.errors import DataError
from gridmarl.random import lane_keys
from gridmarl.scenarios.calibrate import calibrate_homes, day_kinds, representatives
from gridmarl.scenarios.derive import main
from gridmarl.scenarios.homes import Homes
from gridmarl.scenarios.scenario import (
    Scenario,
    calibrated_scenario,
    conditions,
    default_scenario,
    draw_lanes,
    fixed_scenario,
    load_scenario,
)
from gridmarl.scenarios.tables import packaged, read_tables

NAMES = ("README.md", "homes.csv", "manifest.json", "price_wheel.csv")


def hours(days: int, start: str = "2013-02-01") -> pd.DatetimeIndex:
    return pd.date_range(pd.Timestamp(start) + pd.Timedelta(hours=1), periods=24 * days, freq="h")


def made_up(days: int = 10) -> tuple[pd.Series[int], Homes]:
    """Hourly prices 0, 1, 2, ... and two homes, one with PV."""
    index = hours(days)
    count = np.arange(24 * days)
    load = pd.DataFrame({"a": 100 + count, "b": 7 * count % 50}, index=index, dtype="int64")
    pv = pd.DataFrame({"a": np.where(count % 24 == 12, 1000 + count, 0), "b": 0 * count}, index=index, dtype="int64")
    return pd.Series(count, index=index, name="NSW1", dtype="int64"), Homes(load, pv, ("a", "b"))


def write_prices(path: Path, days: int = 3) -> Path:
    ends = pd.date_range("2013-02-01 00:30", periods=48 * days, freq="30min")
    rows = [f"NSW1,{end:%Y/%m/%d %H:%M:%S},1,{i}.5,TRADE" for i, end in enumerate(ends)]
    path.write_text("\n".join(["REGION,SETTLEMENTDATE,TOTALDEMAND,RRP,PERIODTYPE", *rows]))
    return path


def same(one: Scenario, two: Scenario) -> bool:
    fields = [name for name in vars(one) if isinstance(getattr(one, name), torch.Tensor)]
    return all(torch.equal(getattr(one, name), getattr(two, name)) for name in fields)


def test_default_scenario() -> None:
    scenario = default_scenario()
    assert default_scenario() is scenario
    assert scenario.price_value.shape == (24, 10)
    assert scenario.load_wh.shape == scenario.pv_wh.shape == (8, 24, 12)
    assert scenario.reference_price_utok_per_wh == 5484
    assert (scenario.pv_wh.sum(dim=(0, 1)) > 0).sum() == 8
    assert (scenario.pv_wh[:, :, :3].sum(dim=(0, 1)) == 0).any()  # small communities are mixed
    assert float(scenario.load_ratio_permille.double().mean()) == 1000
    assert float(scenario.pv_ratio_permille.double().mean()) == 1000
    for holder in ("AEMO", "Ausgrid", "Commonwealth of Australia", "CC BY"):
        assert holder in scenario.attribution
    assert same(load_scenario(), scenario)
    assert same(load_scenario(persistence=False), default_scenario(persistence=False))
    assert not same(default_scenario(persistence=False), scenario)


def test_default_scenario_is_plausible() -> None:
    """A home uses 4.8 MWh a year (the recorded mean of these twelve), and a quarter of it is generated."""
    scenario, keys = default_scenario(), lane_keys(1, 2000)
    draws = draw_lanes(scenario, keys, 24)
    load = generation = 0
    for hour in range(24):
        now = conditions(scenario, draws, keys, hour, 12, pv_scale_permille=1000, forecast_error_permille=100)
        load, generation = load + int(now.load_wh.sum()), generation + int(now.generation_wh.sum())
    assert 12_600 < load / 2000 / 12 < 13_500
    assert 0.23 < generation / load < 0.28


def test_packaged_tables_are_small_and_attributed() -> None:
    folder = packaged()
    assert sum(len((folder / name).read_bytes()) for name in NAMES) < 150_000
    for name in NAMES:
        text = (folder / name).read_text(encoding="utf-8")
        for holder in ("AEMO", "Ausgrid", "Commonwealth of Australia"):
            assert holder in text, name


def test_default_scenario_needs_no_pandas(repository: Path) -> None:
    code = "import sys, gridmarl.scenarios.scenario as s; s.default_scenario(); sys.exit('pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repository)


def test_packaged_tables_are_what_the_script_derives(real_data: Path, tmp_path: Path) -> None:
    prices = real_data / "aemo" / "nem_30min_201207_201312.csv.gz"
    homes = [
        real_data / "households" / name
        for name in ("ausgrid_8homes_hourly_201207_201306_wh.csv.gz", "sgsc_nsw_40homes_30min_2013_wh.csv.gz")
    ]
    assert main(["--prices", str(prices), "--homes", *map(str, homes), "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (packaged() / name).read_bytes(), name


def test_derive_reports_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--prices", str(tmp_path / "absent.csv"), "--homes", "x", "--out", str(tmp_path / "out")]) == 2
    assert "absent.csv" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_damaged_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json"):
        read_tables(tmp_path)
    for name in NAMES:
        (tmp_path / name).write_bytes((packaged() / name).read_bytes())
    assert read_tables(tmp_path) == read_tables(packaged())
    (tmp_path / "price_wheel.csv").write_text("hour,bin,value_utok_per_wh,weight\n0,0,x,1\n")
    with pytest.raises(DataError, match="'x'"):
        read_tables(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    with pytest.raises(DataError, match=str(tmp_path)):
        read_tables(tmp_path)


def test_fixed_window_is_the_recorded_series() -> None:
    prices, homes = made_up()
    scenario = fixed_scenario(prices, homes, "2013-02-04", 2)
    assert (scenario.start, scenario.periodic, scenario.period_hours) == ("2013-02-04", False, 48)
    assert scenario.reference_price_utok_per_wh == (72 + 119) // 2
    keys = lane_keys(1, 3)
    draws = draw_lanes(scenario, keys, 48)
    assert draws.wholesale_utok_per_wh[:, 2].tolist() == list(
        range(72, 120)
    )  # the hour that ends at 01:00 is the first
    now = conditions(scenario, draws, keys, 36, 2, pv_scale_permille=1000, forecast_error_permille=0)
    assert now.load_wh[:, 1].tolist() == [100 + 108, 7 * 108 % 50]
    assert now.generation_wh[:, 1].tolist() == [1000 + 108, 0]
    with pytest.raises(DataError, match="horizon_hours = 49"):
        draw_lanes(scenario, keys, 49)


def test_fixed_window_with_packaged_homes() -> None:
    """2013-02-03 is a summer Sunday, the day after a Monday: kinds 1 and 0."""
    prices, _ = made_up()
    scenario, default = fixed_scenario(prices, None, "2013-02-03", 2), default_scenario()
    assert torch.equal(scenario.load_wh[0, :24], default.load_wh[1])
    assert torch.equal(scenario.load_wh[0, 24:], default.load_wh[0])
    assert torch.equal(scenario.pv_wh[0, 24:], default.pv_wh[0])
    assert torch.equal(scenario.load_ratio_permille, default.load_ratio_permille)
    assert "Ausgrid" in scenario.attribution


def test_windows_that_are_not_covered() -> None:
    prices, homes = made_up(10)
    with pytest.raises(DataError, match=r"prices cover 2013-02-01 01:00 \.\. 2013-02-11 00:00"):
        fixed_scenario(prices, None, "2013-02-10", 2)
    with pytest.raises(DataError, match=r"prices cover 2013-02-01 01:00"):
        fixed_scenario(prices, homes, "2013-01-31", 1)
    late = Homes(homes.load_wh.iloc[48:], homes.pv_wh.iloc[48:], homes.names)
    with pytest.raises(DataError, match=r"homes cover 2013-02-03 01:00 \.\. 2013-02-11 00:00"):
        fixed_scenario(prices, late, "2013-02-02", 2)
    for start, days in (("04/02/2013", 2), ("2013-02-30", 2), ("2013-02-04", 0), ("2013-02-04", 10**9)):
        with pytest.raises(DataError, match=r"(days|start) = "):
            fixed_scenario(prices, homes, start, days)


def test_calibration_of_homes() -> None:
    prices, homes = made_up(14)
    tables = calibrate_homes([homes])
    kinds = day_kinds(pd.DatetimeIndex(homes.load_wh.index))
    hour_of_day = np.arange(len(kinds)) % 24
    for kind in (0, 1):
        for hour in (0, 12, 23):
            rows = homes.load_wh["a"].to_numpy()[(kinds == kind) & (hour_of_day == hour)]
            assert abs(int(tables.load_wh[kind, hour, 0]) * len(rows) - rows.sum()) * 2 <= len(rows)
    assert (tables.pv_wh[0] == tables.pv_wh[1]).all()
    assert tables.pv_wh[0, 12, 0] == round(homes.pv_wh["a"].sum() / 14)
    assert tables.kind_days.tolist() == [10, 4, 0, 0, 0, 0, 0, 0]
    assert tables.load_ratio_permille.mean() == tables.pv_ratio_permille.mean() == 1000
    assert len(tables.load_ratio_permille) == 64
    scenario = calibrated_scenario(prices, homes)
    assert int(draw_lanes(scenario, lane_keys(1, 500), 24).kind.max()) == 1
    dark = calibrate_homes([Homes(homes.load_wh, homes.pv_wh * 0, homes.names)])
    assert dark.pv_ratio_permille.tolist() == [1000]
    with pytest.raises(DataError, match="no load"):
        calibrate_homes([Homes(homes.load_wh * 0, homes.pv_wh, homes.names)])
    with pytest.raises(DataError, match="no series"):
        calibrate_homes([])


def test_day_kinds_at_midnight() -> None:
    stamps = ["2013-03-01 00:00", "2013-03-01 01:00", "2013-03-02 00:00", "2013-03-02 01:00", "2013-06-03 00:00"]
    assert day_kinds(pd.DatetimeIndex(stamps)).tolist() == [0, 2, 2, 3, 5]
    assert day_kinds(pd.DatetimeIndex(["2012-12-05 12:00", "2013-09-07 12:00"])).tolist() == [0, 7]


def test_representatives() -> None:
    load = pd.DataFrame({f"h{i}": [7 * i % 8] for i in range(8)})
    chosen = representatives(Homes(load, load, tuple(load.columns)), 4)
    assert sorted(load.iloc[0][list(chosen.names)].tolist()) == [1, 3, 5, 7]
    with pytest.raises(DataError, match="representatives = 9"):
        representatives(Homes(load, load, tuple(load.columns)), 9)


def test_load_scenario_from_files(tmp_path: Path) -> None:
    path = write_prices(tmp_path / "PRICE_AND_DEMAND_201302_NSW1.csv")
    _, homes = made_up(3)
    table = homes.load_wh.add_suffix("_load").join(homes.pv_wh.add_suffix("_pv"))
    table.to_csv(tmp_path / "homes_wh.csv")
    calibrated = load_scenario(path)
    assert calibrated.periodic
    assert torch.equal(calibrated.load_wh, default_scenario().load_wh)
    window = load_scenario([path], tmp_path / "homes_wh.csv", start="2013-02-02", days=1)
    assert window.price_value[:, 0].tolist() == [100 * (48 + 2 * i) + 100 for i in range(24)]
    assert window.load_wh[0, :, 0].tolist() == list(range(124, 148))
    assert load_scenario(path, tmp_path / "homes_wh.csv").num_homes == 2
    with pytest.raises(DataError, match="only together with prices"):
        load_scenario(start="2013-02-02")
    with pytest.raises(DataError, match="only together with prices"):
        load_scenario(homes=tmp_path / "homes_wh.csv")
    with pytest.raises(DataError, match="QLD1"):
        load_scenario(path, region="QLD1")


def test_real_window(real_data: Path) -> None:
    scenario = load_scenario(
        real_data / "aemo" / "nem_30min_201207_201312.csv.gz",
        real_data / "households",
        start="2013-02-04",
        days=2,
    )
    assert scenario.price_value.shape == (48, 1)
    assert scenario.load_wh.shape == (1, 48, 48)
    with pytest.raises(DataError, match=r"homes cover 2013-01-01 01:00 \.\. 2013-07-01 00:00"):
        load_scenario(
            real_data / "aemo" / "nem_30min_201207_201312.csv.gz", real_data / "households", start="2013-06-30"
        )
