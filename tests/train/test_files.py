"""Settings, checkpoints, metrics and the progress bar, each on its own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from gridmarl.errors import ConfigError, DataError
from gridmarl.train import progress
from gridmarl.train.checkpoint import load_checkpoint, save_checkpoint, write_atomically
from gridmarl.train.config import CONFIG_FILE, TrainConfig
from gridmarl.train.logging_ import METRICS_FILE, MetricsLog, read_metrics
from gridmarl.train.progress import ProgressBar
from gridmarl.train.runs import read_object


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lanes": 3}, "train: unknown option 'lanes'; allowed are env_id, agent, total_steps"),
        ({"total_steps": 0}, "total_steps=0; allowed is an integer >= 1"),
        ({"num_envs": 2.0}, "num_envs=2.0; allowed is an integer >= 1"),
        ({"seed": -1}, "seed=-1; allowed is an integer 0 .. 18446744073709551615"),
        ({"agent": ""}, "agent=''; allowed is a name"),
        ({"device": "abacus"}, "device='abacus'; allowed are 'cpu', 'cuda'"),
        ({"progress": True}, "progress=True; allowed are 'auto', 'on', 'off'"),
        ({"tensorboard": "yes"}, "tensorboard='yes'; allowed are True, False"),
        ({"agent_options": [1]}, r"agent_options=\(1,\); allowed is a mapping"),
    ],
)
def test_refused_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_mapping({"env_id": "toy", **options})


def test_settings_survive_json(tmp_path: Path) -> None:
    config = TrainConfig("toy", agent_options={"hidden": [8, 8], "discount": 0.5}, env_options={"homes": 3})
    config.save(tmp_path)
    assert TrainConfig.load(tmp_path) == config
    with pytest.raises(ConfigError, match="env_id is missing"):
        TrainConfig.from_mapping({})


@pytest.mark.parametrize(("content", "message"), [("{", "cannot be read as JSON"), ("[]", "holds list; allowed is an")])
def test_refused_config_files(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text(content)
    with pytest.raises(ConfigError, match=message):
        TrainConfig.load(tmp_path)


def test_checkpoint_replaces_the_old_one_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"value": torch.arange(3), "nested": {"list": [1, 2.5, "x", None]}})

    def power_cut(*_: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr("os.replace", power_cut)
    with pytest.raises(OSError, match="power cut"):
        save_checkpoint(path, {"value": torch.arange(4)})
    state = load_checkpoint(path)
    assert state["value"].tolist() == [0, 1, 2]
    assert state["nested"] == {"list": [1, 2.5, "x", None]}


class Arbitrary:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [({"format": 99}, "format 99; allowed is 1"), ([1], "format 'list'"), (Arbitrary(), "not a readable")],
)
def test_refused_checkpoints(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(DataError, match=message):
        load_checkpoint(tmp_path / "c.pt")


def test_missing_checkpoint_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"c\.pt: not a readable checkpoint"):
        load_checkpoint(tmp_path / "c.pt")


def test_rows_are_on_disk_at_once_and_new_metrics_add_columns(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, tensorboard=False) as log:
        log.write(10, {"return": 1.5})
        assert (tmp_path / METRICS_FILE).read_text() == "env_steps,return\n10,1.5\n"
        log.write(20, {"loss": 0.1})
        log.write(30, {"return": 0.1 + 0.2, "loss": 0.0})
        text = "env_steps,return,loss\n10,1.5,\n20,,0.1\n30,0.30000000000000004,0.0\n"
        assert (tmp_path / METRICS_FILE).read_text() == text


def test_resuming_drops_rows_after_the_checkpoint_and_half_written_ones(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text("env_steps,return\n10,1.0\n20,2.0\n30,3.0\n40,4")
    assert [row["env_steps"] for row in read_metrics(tmp_path)] == ["10", "20", "30"]
    with MetricsLog(tmp_path, resume_step=20, tensorboard=False) as log:
        log.write(25, {"return": 9.0})
    assert [row["return"] for row in read_metrics(tmp_path)] == ["1.0", "2.0", "9.0"]


def test_another_file_named_metrics_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text("time,value\n1,2\n")
    with pytest.raises(DataError, match="first column is 'time'; allowed is 'env_steps'"):
        MetricsLog(tmp_path, tensorboard=False)


def test_tensorboard_holds_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path) as log:
        log.write(10, {"return": 1.5, "loss": 0.5})
        log.write(20, {"return": 2.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("return")] == [(10, 1.5), (20, 2.5)]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 0.5)]


def drawn(mode: str, terminal: bool, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a bar draws that is updated at the given times."""
    times = iter(clock)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120)
    with ProgressBar(1000, 100, mode, console) as bar:
        for step in range(len(clock) - 1):
            bar.update(200 + 100 * step, 1.25)
    return output.getvalue()


def test_a_short_run_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn("auto", True, [0.0, 0.5, 1.9], monkeypatch) == ""


def test_a_long_run_shows_rate_and_return(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = drawn("auto", True, [0.0, 1.0, 4.0], monkeypatch)
    assert "50 steps/s" in seen
    assert "return 1.25" in seen
    assert "300/1000" in seen


def test_a_bar_can_be_forced_and_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn("auto", False, [0.0, 4.0], monkeypatch) == ""
    assert drawn("off", True, [0.0, 4.0], monkeypatch) == ""
    assert "200/1000" in drawn("on", False, [0.0, 0.1], monkeypatch)


def test_interrupted_write_leaves_no_part_behind_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, json.dumps([1]).encode())
    write_atomically(path, memoryview(b"[2]"))
    assert path.read_text() == "[2]"
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("text", "told"), [("[" * 100_000, "nested deeper than 64 levels"), ("[]", "holds list"), ("{", "cannot be read")]
)
def test_what_is_no_object_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        read_object(tmp_path / "config.json")
