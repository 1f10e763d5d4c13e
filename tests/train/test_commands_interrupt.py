"""Ctrl-C: exit code 130, and a run folder that can be used, verified and resumed. Progress bars on standard error."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gridmarl.train import compare, stage_bar
from gridmarl.train.checkpoint import load_checkpoint
from tests.train.command_line import COMPARE, SMALL_LEARNER, TRAIN, files, gridmarl, same_keys, strict_json

FOREVER = str(10**9)
PATIENCE_S = 120.0


def interrupted(arguments: list[str], sign: Path, repository: Path) -> tuple[int, str, str]:
    """Run the command in a process of its own, press Ctrl-C once the file `sign` has a few rows."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gridmarl", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=repository, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not (sign.is_file() and sign.read_text().count("\n") > 2):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return process.returncode, out, err


def test_an_interrupted_training_resumes_to_the_same_end(repository: Path, tmp_path: Path) -> None:
    folder, whole = tmp_path / "run", tmp_path / "whole"
    learner = ("--agent-set", *SMALL_LEARNER[1:], "exploration_steps=500")
    base = [*TRAIN, *learner, "--eval-every", "0"]
    cut = [*base, "--steps", "6000", "--checkpoint-every", FOREVER, "--run-dir", str(folder)]
    code, out, err = interrupted(cut, folder / "metrics.csv", repository)
    assert (code, err) == (130, "")
    step = load_checkpoint(folder / "checkpoint.pt")["env_steps"]
    assert f"interrupted after {step} steps; continue with --resume --run-dir {folder}" in out
    assert files(folder) == {"config.json", "metrics.csv", "summary.json", "checkpoint.pt", "figures/learning.png"}
    assert strict_json(folder / "summary.json")["interrupted"] is True
    total = str(step + 100)
    assert gridmarl(*base, "--steps", total, "--run-dir", folder, "--resume").code == 0
    same_keys(folder, whole)
    assert gridmarl(*base, "--steps", total, "--run-dir", whole).code == 0
    assert (folder / "ledger.bin").read_bytes() == (whole / "ledger.bin").read_bytes()
    ours, theirs = (strict_json(path / "summary.json") for path in (folder, whole))
    assert ours["rows"] == theirs["rows"]
    assert ours["interrupted"] is False


def test_an_interrupted_comparison_keeps_what_was_done(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [*COMPARE, *SMALL_LEARNER, "--train-steps", "6000", "--run-dir", str(folder)]
    code, out, err = interrupted(arguments, folder / "deep-q-two_settlement" / "metrics.csv", repository)
    assert (code, err) == (130, "")
    assert "interrupted: rows are missing, or deep Q is only partly trained" in out
    summary = strict_json(folder / "summary.json")
    assert summary["interrupted"] is True
    assert [row["name"] for row in summary["rows"]["two_settlement"]][-2:] == ["deep Q", "aggregator"]
    assert 0 < summary["training"]["two_settlement"]["env_steps"] < 6_000
    assert {"config.json", "metrics.csv", "ledger.bin", "checkpoint-two_settlement.pt", "figures/gains.png"} <= files(
        folder
    )
    assert not any("additive" in name for name in files(folder))
    assert gridmarl("ledger", "verify", folder).out.splitlines()[-1] == "residual 0 utok"


def test_an_interrupt_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "plan_benchmarks", stop)
    outcome = gridmarl(*COMPARE, "--run-dir", tmp_path)
    assert (outcome.code, outcome.err) == (130, "")
    assert files(tmp_path) == {"config.json", "metrics.csv", "summary.json"}
    assert strict_json(tmp_path / "summary.json")["rows"] == {}
    assert (tmp_path / "metrics.csv").read_text().startswith("dr_settlement,name,welfare_tok,")


def test_an_interrupt_in_the_second_reading_keeps_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played, play = [], compare.play

    def second_inflate(env: Any, agent: Any, seed: int, on_hour: Any = None) -> Any:
        played.append(agent.name)
        if played.count("inflate") == 2:
            raise KeyboardInterrupt
        return play(env, agent, seed, on_hour)

    monkeypatch.setattr(compare, "play", second_inflate)
    outcome = gridmarl(*COMPARE, *SMALL_LEARNER, "--run-dir", tmp_path)
    assert outcome.code == 130
    rows = strict_json(tmp_path / "summary.json")["rows"]
    assert [len(rows[reading]) for reading in ("two_settlement", "additive")] == [6, 3]
    figures = {name for name in files(tmp_path) if name.startswith("figures")}
    assert figures == {"figures/gains.png", "figures/load-two_settlement.png", "figures/price-two_settlement.png"}


def test_an_interrupted_ledger_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gridmarl.train import ledger_run

    def stop(*_: Any, on_hour: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger_run, "play", stop)
    assert gridmarl(*COMPARE, *SMALL_LEARNER, "--run-dir", tmp_path).code == 130
    assert not [name for name in files(tmp_path) if "ledger" in name]


def bar_of(mode: str, terminal: bool, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the bar of a stage of 10 lanes draws that is advanced at the given times."""
    times = iter([0.0, *clock])
    monkeypatch.setattr(stage_bar.time, "monotonic", lambda: next(times, clock[-1]))
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=terminal, width=100)
    with stage_bar.stage_bar("central planner", 10, "lanes", mode, console) as advance:
        for _ in clock:
            advance()
    return drawn.getvalue()


def test_the_bar_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bar_of("auto", True, [0.5, 1.0, 1.9], monkeypatch) == ""
    assert bar_of("auto", False, [0.5, 1.0, 5.0], monkeypatch) == ""
    assert bar_of("off", True, [0.5, 1.0, 5.0], monkeypatch) == ""
    seen = bar_of("auto", True, [0.5, 1.0, 6.0], monkeypatch)
    for part in ("central planner", "3/10", "0.5 lanes/s"):
        assert part in seen
    assert "1/10" in bar_of("on", False, [0.5], monkeypatch)


@pytest.mark.parametrize("base", [COMPARE, TRAIN])
def test_bars_go_to_standard_error_only(base: tuple[str, ...], tmp_path: Path) -> None:
    outcome = gridmarl(*base, *SMALL_LEARNER, "--progress", "on", "--run-dir", tmp_path / "run")
    assert outcome.code == 0
    for label in ("central planner", "training", "evaluation"):
        assert re.search(rf"{label}.* \d+/\d+ ", outcome.err), label
    assert "lanes/s" in outcome.err
    assert "━━" not in outcome.out
    assert "lanes/s" not in outcome.out
