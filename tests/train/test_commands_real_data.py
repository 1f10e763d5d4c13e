"""The comparison on the real price and household files, by path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.command_line import SMALL_LEARNER, gridmarl, strict_json

TINY = (
    *("--lanes", "1", "--train-steps", "24", "--train-lanes", "4", "--dr-settlement", "two_settlement"),
    *SMALL_LEARNER,
)
NEM = "aemo/nem_30min_201207_201312.csv.gz"
HOMES = ("households/ausgrid_8homes_hourly_201207_201306_wh.csv.gz", "households/sgsc_nsw_40homes_30min_2013_wh.csv.gz")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are tested elsewhere, and take longer than all the rest."""
    monkeypatch.setattr("gridmarl.train.compare.comparison_figures", lambda *_: None)


def test_two_days_of_real_prices_and_homes(real_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    homes = [real_data / name for name in HOMES]
    window = ("--region", "NSW1", "--start", "2013-02-04", "--days", "2")
    outcome = gridmarl(
        "compare", "two-stage-dr", "--prices", real_data / NEM, *window, "--homes", *homes, "--run-dir", folder, *TINY
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert gridmarl("ledger", "verify", folder).out.splitlines()[-1] == "residual 0 utok"
    config = strict_json(folder / "config.json")
    assert config["scenario"]["name"] == "NSW1-2013-02-04-2d"
    assert config["params"]["horizon_hours"] == 48
    assert config["params"]["pv_scale_permille"] == 1000, "recorded photovoltaics are taken as they were"
    hourly = strict_json(folder / "summary.json")["hourly"]["two_settlement"]["truthful"]["price_tok_per_kwh"]
    assert len(hourly) == 48


def test_several_files_as_downloaded_without_homes(real_data: Path, tmp_path: Path) -> None:
    raw = real_data / "aemo" / "raw"
    names = ("PRICE_AND_DEMAND_201501_NSW1.csv",)
    both = ("PRICE_AND_DEMAND_201703_NSW1.csv", *names)
    folder = tmp_path / "run"
    one = gridmarl(
        "compare", "--prices", *(raw / name for name in names), "--start", "2015-01-10", "--days", "1",
        "--set", "num_prosumers=3", "--run-dir", folder, *TINY,
    )  # fmt: skip
    assert (one.code, one.err) == (0, "")
    assert strict_json(folder / "config.json")["scenario"]["name"] == "NSW1-2015-01-10-1d"
    # 2015-01 and 2017-03 leave a gap of two years between them
    gap = gridmarl("compare", "--prices", *(raw / name for name in both), "--run-dir", tmp_path / "gap", *TINY)
    assert (gap.code, gap.err.count("\n")) == (2, 1)
    assert "first missing interval" in gap.err
    assert "2015-02-01 00:30" in gap.err
    assert not (tmp_path / "gap").exists()


def test_a_region_that_the_file_does_not_have(real_data: Path, tmp_path: Path) -> None:
    outcome = gridmarl("compare", "--prices", real_data / NEM, "--region", "WA1", "--run-dir", tmp_path / "run", *TINY)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "WA1" in outcome.err
    assert "NSW1" in outcome.err
    assert not (tmp_path / "run").exists()
