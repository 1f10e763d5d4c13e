"""Bad input: exit code 2, one line on standard error that names the culprit, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gridmarl.cli import main
from gridmarl.train.options import MarketOptions
from tests.train.command_line import COMPARE, TRAIN, gridmarl

BASES = {"compare": COMPARE, "train": TRAIN}
AEMO_HEADER = "REGION,SETTLEMENTDATE,TOTALDEMAND,RRP,PERIODTYPE\n"


def refused(*arguments: object) -> str:
    """The one line that a refused command prints."""
    outcome = gridmarl(*arguments)
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("gridmarl: error: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    return outcome.err


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A run folder that must not exist in the end."""
    path = tmp_path / "run"
    yield path
    assert not path.exists(), sorted(path.iterdir())


@pytest.mark.parametrize("command", ["compare", "train"])
@pytest.mark.parametrize(
    ("arguments", "culprits"),
    [
        (["--set", "num_prosumer=3"], ["num_prosumer", "num_prosumers"]),
        (["--set", "num_prosumers"], ["num_prosumers", "name=value"]),
        (["--set", "seed=1", "seed=2"], ["seed", "twice"]),
        (["--set", "num_prosumers=NaN"], ["num_prosumers", "nan"]),
        (["--set", "num_prosumers=1e400"], ["num_prosumers", "inf"]),
        (["--set", "num_prosumers=2.5"], ["num_prosumers", "2.5"]),
        (["--set", "num_prosumers=true"], ["num_prosumers", "True"]),
        (["--set", "alpha_permille=-5"], ["alpha_permille", "-5"]),
        (["--set", "battery_capacity_wh=-1", "battery_power_w=1"], ["battery_capacity_wh", "-1"]),
        (["--set", "battery_capacity_wh=5000"], ["battery_power_w", "both"]),
        (["--set", f"battery_capacity_wh={10**30}", "battery_power_w=1"], ["battery_capacity_wh", str(10**30)]),
        (["--set", "price_rule=fair"], ["price_rule", "fair", "uniform"]),
        (["--days", "0"], ["days: 0"]),
        (["--days", "-3"], ["days: -3"]),
        (["--days", "100000"], ["days: 100000"]),
        (["--seed", "-1"], ["seed: -1"]),
        (["--seed", str(2**64)], [f"seed: {2**64}"]),
        (["--lanes", "0"], ["lanes: 0"]),
        (["--lanes", "abc"], ["--lanes", "abc"]),
        (["--device", "tpu"], ["device: 'tpu'"]),
        (["--device", "meta"], ["device: 'meta'"]),
        (["--device", "cuda:99"], ["device: 'cuda:99'"]),
        (["--homes", "homes.csv"], ["homes", "prices"]),
        (["--start", "2013-02-04"], ["start", "prices"]),
        (["--prices", "no/such/file.csv"], ["no such file", "no/such/file.csv"]),
        (["--config", "no/such.json"], ["no/such.json"]),
        (["--agent-set", "learning_rat=1"], ["learning_rat"]),
        (["--agent-set", "learning_rate=NaN"], ["learning_rate"]),
        (["--agent-set", "hidden=[0]"], ["hidden"]),
        (["--lans", "3"], ["--lans"]),
        (["--progress", "maybe"], ["maybe", "--progress"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options(command: str, arguments: list[str], culprits: list[str], folder: Path) -> None:
    seen = refused(*BASES[command], "--run-dir", folder, *arguments)
    assert [culprit for culprit in culprits if culprit not in seen] == []


@pytest.mark.parametrize(
    ("base", "arguments", "culprits"),
    [
        (COMPARE, ["--train-steps", "0"], ["train_steps: 0"]),
        (COMPARE, ["--train-lanes", "0"], ["train_lanes: 0"]),
        (COMPARE, ["--set", "dr_settlement=additive"], ["dr_settlement", "--dr-settlement"]),
        (COMPARE, ["--dr-settlement", "none"], ["none", "two_settlement"]),
        (TRAIN, ["--steps", "0"], ["steps: 0"]),
        (TRAIN, ["--eval-lanes", "0"], ["eval_lanes: 0"]),
        (TRAIN, ["--eval-every", "-1"], ["eval_every: -1"]),
        (TRAIN, ["--checkpoint-every", "0"], ["checkpoint_every: 0"]),
        (TRAIN, ["--agent", "genius"], ["genius", "dqn, inflate, "]),
        (TRAIN, ["--agent", "truthful"], ["truthful", "hidden", "no options"]),
        (("compare", "no-such-market"), [], ["no-such-market", "two-stage-dr"]),
        (("train", "no-such-market"), [], ["no-such-market", "two-stage-dr"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options_of_one_command(base: tuple[str, ...], arguments: list[str], culprits: list[str], folder: Path) -> None:
    seen = refused(*base, "--run-dir", folder, *arguments)
    assert [culprit for culprit in culprits if culprit not in seen] == []


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ('{"num_prosumers": 3', "not JSON"),
        ("[1]", "list"),
        ("", "not JSON"),
        ('{"num_homes": 3}', "num_homes"),
        ('{"num_prosumers": NaN}', "num_prosumers: nan"),
        ('{"num_prosumers": 3, "num_prosumers": 4}', "'num_prosumers' occurs twice"),
        ("[" * 100_000, "not JSON"),
    ],
    ids=["cut off", "no object", "empty", "unknown key", "NaN", "key twice", "deep"],
)
def test_config_file(text: str, culprit: str, tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "market.json"
    path.write_text(text)
    seen = refused("compare", "--config", path, "--run-dir", folder)
    assert culprit in seen
    assert "\n" not in seen.rstrip("\n")


def test_config_file_that_is_not_text_or_a_folder(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "market.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert "market.json: not JSON" in refused("train", "--config", path, "--run-dir", folder)
    assert f"config: {tmp_path}: " in refused("train", "--config", tmp_path, "--run-dir", folder)


def aemo_rows(days: int = 2) -> list[str]:
    """Half hours of whole days from 2013-02-01 on, every one at 50 AUD/MWh."""
    ends = [datetime(2013, 2, 1) + timedelta(minutes=30 * (half + 1)) for half in range(48 * days)]
    return [f"NSW1,{end:%Y/%m/%d %H:%M:%S},7000,50.00,TRADE\n" for end in ends]


def malformed(kind: str) -> str:
    rows = aemo_rows()
    if kind == "missing interval":
        del rows[20]
    if kind == "conflict":
        rows.insert(11, rows[10].replace("50.00", "51.00"))
    if kind == "number":
        rows[10] = rows[10].replace("50.00", "fifty")
    if kind == "date":
        rows[10] = rows[10].replace("2013/02/01", "2013/13/41")
    header = AEMO_HEADER.replace("RRP", "PRICE_PAID") if kind == "columns" else AEMO_HEADER
    return header + "".join(rows)


@pytest.mark.parametrize(
    ("kind", "culprits"),
    [
        ("missing interval", ["gap", "2013-02-01 10:30"]),
        ("conflict", ["2013-02-01 05:30"]),
        ("columns", ["RRP"]),
        ("number", ["fifty"]),
        ("date", ["2013/13/41"]),
    ],
)
def test_malformed_price_file(kind: str, culprits: list[str], tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "PRICE_AND_DEMAND_201302_NSW1.csv"
    path.write_text(malformed(kind))
    seen = refused(*COMPARE, "--prices", path, "--run-dir", folder)
    assert [culprit for culprit in culprits if culprit.lower() not in seen.lower()] == []


def test_window_region_and_homes_must_be_in_the_files(tmp_path: Path, folder: Path) -> None:
    path, homes = tmp_path / "PRICE_AND_DEMAND_201302_NSW1.csv", tmp_path / "homes.csv"
    path.write_text(AEMO_HEADER + "".join(aemo_rows()))
    homes.write_text("time,c001_load\nyesterday,5\n")
    base = (*COMPARE, "--prices", path, "--run-dir", folder)
    assert "the prices cover" in refused(*base, "--start", "2014-01-01")
    assert "2013-02-30" in refused(*base, "--start", "2013-02-30")
    assert "VIC1" in refused(*base, "--region", "VIC1")
    assert "homes.csv" in refused(*base, "--homes", homes)
    too_long = refused(*base, "--start", "2013-02-01", "--set", "horizon_hours=48")
    assert "horizon_hours: 48" in too_long


@pytest.mark.parametrize("command", ["compare", "train"])
def test_run_folder_that_is_a_file_or_cannot_be_made(command: str, tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.write_text("mine")
    assert f"run_dir: {path} is a file" in refused(*BASES[command], "--run-dir", path)
    assert f"run_dir: {path / 'in'} cannot be made" in refused(*BASES[command], "--run-dir", path / "in")
    assert path.read_text() == "mine"


def test_run_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere, whatever the mode bits say
    seen = refused(*COMPARE, "--run-dir", tmp_path)
    assert f"run_dir: {tmp_path} cannot be written to" in seen
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "config.json"))

    monkeypatch.setattr("gridmarl.train.run_folder.write_atomically", full)
    assert "No space left on device" in refused(*COMPARE, "--run-dir", tmp_path)


def test_resume_needs_the_folder_of_a_run(folder: Path) -> None:
    assert "--resume without --run-dir" in refused(*TRAIN, "--resume")
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["ledger"], ["ledger", "prove", "x"], ["train", "two-stage-dr", "more"]]
)
def test_command_line_that_does_not_parse(arguments: list[str]) -> None:
    assert "gridmarl --help" in refused(*arguments)


def test_memory_that_is_not_there_is_one_line_and_a_bug_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> None:
        def scenario(self: MarketOptions) -> None:
            raise error

        monkeypatch.setattr(MarketOptions, "scenario", scenario)

    fail(RuntimeError("[enforce fail at alloc_cpu.cpp:127]\n can't allocate memory: you tried 80 bytes"))
    assert "out of memory; allowed are fewer lanes" in refused(*COMPARE, "--run-dir", folder)
    fail(RuntimeError("index out of range"))
    with pytest.raises(RuntimeError, match="index out of range"):
        gridmarl(*COMPARE, "--run-dir", folder)


def test_no_traceback_from_the_process_itself(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gridmarl", "train", "--set", "colour=red", "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("gridmarl: error: colour: unknown key, allowed are num_prosumers, ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_reader_that_goes_away_ends_the_command_quietly(repository: Path) -> None:
    if shutil.which("true") is None:
        pytest.skip("needs the command `true`")
    command = f"{sys.executable} -m gridmarl list | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=repository, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "compare" in capsys.readouterr().out
