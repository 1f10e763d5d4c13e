"""`gridmarl sweep` with Ray: killed and resumed it ends as `gridmarl train` does; early stopping; random draws."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import pickle
import shlex
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gridmarl.errors import ConfigError
from gridmarl.train.checkpoint import load_checkpoint, tree_hash
from gridmarl.train.runs import load_run
from gridmarl.train.sweep.space import parse_draws
from tests.train.command_line import gridmarl, strict_json
from tests.train.sweep_processes import Process, alive, descendants

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs pip install 'gridmarl[ray]'"),
]
STEPS = 2_400
MARKET = ("two-stage-dr", "--days", "1", "--set", "num_prosumers=3")
LEARNER = ("--agent", "ppo", "--agent-set", "rollout_steps=12", "hidden=[8]")
LENGTH = ("--steps", str(STEPS), "--lanes", "4", "--eval-lanes", "1", "--eval-every", "600")
RATES = (0.001, 0.01)
GRID = ("--grid", f"learning_rate={RATES[0]},{RATES[1]}", "--seeds", "0", "1", "--checkpoint-every", "400")
PATIENCE_S = 480.0


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gridmarl", "sweep", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(*arguments: object) -> tuple[int, str, str]:
    with start(*arguments) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return process.returncode, out, err


def steps_done(folder: Path) -> int:
    path = folder / "checkpoint.pt"
    return int(load_checkpoint(path)["env_steps"]) if path.is_file() else 0


@dataclass(frozen=True)
class Resumed:
    """A sweep that was killed in its second trial and then resumed."""

    folder: Path
    started: set[Process]
    steps_when_killed: list[int]
    metrics_when_killed: list[str]
    outcome: tuple[int, str, str]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    folder = tmp_path_factory.mktemp("sweep") / "run"
    arguments = (*MARKET, *LEARNER, *LENGTH, *GRID, "--workers", "1", "--run-dir", folder)
    first, second = (folder / f"config-00{index}" / "seed-0" for index in (0, 1))
    deadline = time.monotonic() + PATIENCE_S
    with start(*arguments) as process:
        try:
            while not 0 < steps_done(second) < STEPS:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            started = descendants(process.pid)
        finally:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    while alive(started) and time.monotonic() < deadline:
        time.sleep(0.1)
    steps = [steps_done(place) for place in (first, second)]
    metrics = [(place / "metrics.csv").read_text(encoding="utf-8") for place in (first, second)]
    return Resumed(folder, started, steps, metrics, finish(*arguments, "--resume"))


def test_a_killed_sweep_leaves_no_process_behind(resumed: Resumed) -> None:
    assert len(resumed.started) > 2
    assert not alive(resumed.started)


def test_finished_trials_stay_and_the_unfinished_goes_on(resumed: Resumed) -> None:
    code, _, err = resumed.outcome
    assert (code, err) == (0, "")
    assert resumed.steps_when_killed[0] == STEPS
    kept_steps = resumed.steps_when_killed[1]
    assert 0 < kept_steps < STEPS
    now = [(resumed.folder / f"config-00{index}/seed-0/metrics.csv").read_text(encoding="utf-8") for index in (0, 1)]
    # the clock is in each row: rows that are equal were not made again
    assert now[0] == resumed.metrics_when_killed[0]
    old, new = (list(csv.DictReader(text.splitlines())) for text in (resumed.metrics_when_killed[1], now[1]))
    kept = [row["seconds"] for row in old if int(row["env_steps"]) <= kept_steps]
    assert kept
    assert [row["seconds"] for row in new if int(row["env_steps"]) <= kept_steps] == kept
    assert int(new[-1]["env_steps"]) == STEPS


def test_every_trial_is_the_run_that_its_command_makes(resumed: Resumed, tmp_path: Path) -> None:
    summary = strict_json(resumed.folder / "summary.json")
    command = summary["best"]["command"]
    assert f"  {command}\n" in resumed.outcome[1]
    assert {item["agent"]["learning_rate"] for item in summary["configurations"]} == set(RATES)
    best_rate = summary["configurations"][0]["agent"]["learning_rate"]
    for item in summary["configurations"]:
        rate = item["agent"]["learning_rate"]
        words = shlex.split(command.replace(f"learning_rate={best_rate}", f"learning_rate={rate}"))
        folder = tmp_path / item["name"]
        told = gridmarl(*words[1:], "--workers", "1", "--run-dir", folder)
        assert (told.code, told.err) == (0, "")
        for seed in (0, 1):
            ours, theirs = (
                load_checkpoint(place / f"seed-{seed}" / "checkpoint.pt")["agent"]
                for place in (resumed.folder / item["name"], folder)
            )
            assert tree_hash(ours) == tree_hash(theirs)


def test_the_summary_is_of_all_trials(resumed: Resumed) -> None:
    summary = strict_json(resumed.folder / "summary.json")
    with (resumed.folder / "sweep.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["configuration"], row["seed"], row["status"]) for row in rows] == [
        (f"config-00{index}", str(seed), "finished") for seed in (0, 1) for index in (0, 1)
    ]
    shares = {
        name: [float(row["eval_gains_share"]) for row in rows if row["configuration"] == name]
        for name in ("config-000", "config-001")
    }
    best = max(shares, key=lambda name: sum(shares[name]))
    assert summary["best"]["name"] == summary["configurations"][0]["name"] == best
    for item in summary["configurations"]:
        assert item["finished"] == 2
        assert item["mean"]["eval_gains_share"] == pytest.approx(sum(shares[item["name"]]) / 2, rel=1e-12)
        assert item["interval"]["eval_gains_share"] > 0
    run = load_run(resumed.folder / best)  # what `gridmarl compare` reads
    assert [seed.seed for seed in run.seeds] == [0, 1]


def test_a_sweep_goes_on_with_its_own_options_only(resumed: Resumed) -> None:
    again = gridmarl("sweep", *MARKET, *LEARNER, *LENGTH, *GRID, "--run-dir", resumed.folder)
    assert again.code == 2
    assert f"{resumed.folder} holds a sweep; allowed is --resume" in again.err
    other = ("--metric", "eval_return", "--resume", "--run-dir", resumed.folder)
    told = gridmarl("sweep", *MARKET, *LEARNER, *LENGTH, *GRID, *other)
    assert told.code == 2
    assert "metric='eval_return' (saved: 'eval_gains_share')" in told.err


def test_early_stopping_ends_what_falls_behind(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    varied = ("--grid", "learning_rate=0.001,10.0", "--sample-set", "alpha_permille=randint(1100,1500)")
    code, out, err = finish(
        *MARKET, *LEARNER, *LENGTH, *varied, "--early-stop", "--workers", "1", "--run-dir", folder
    )  # fmt: skip
    assert (code, err) == (0, "")
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["status"], row["env_steps"]) for row in rows] == [("finished", str(STEPS)), ("stopped", "600")]
    assert rows[0]["set.alpha_permille"] == rows[1]["set.alpha_permille"]
    assert 1100 <= int(rows[0]["set.alpha_permille"]) < 1500
    assert "best by eval_gains_share: config-000" in out


# --- without starting Ray


@pytest.fixture(scope="module")
def sweep_ray() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, of its dependencies
        import gridmarl.train.sweep.ray as module
    return module


def test_draws_are_those_of_the_seed(sweep_ray: ModuleType) -> None:
    agent = parse_draws(["learning_rate=loguniform(1e-4,1e-2)", "hidden=choice([[8],[64,64]])"])
    market = parse_draws(["alpha_permille=qloguniform(1000,2000,100)", "k_permille=randint(100,1000)"])
    drawn = sweep_ray.draw_settings(agent, market, 20, seed=3)
    assert drawn == sweep_ray.draw_settings(agent, market, 20, seed=3)
    assert drawn != sweep_ray.draw_settings(agent, market, 20, seed=4)
    assert json.loads(json.dumps(drawn)) == [list(pair) for pair in drawn]
    rates = sorted(options["learning_rate"] for options, _ in drawn)
    assert 1e-4 <= rates[0] < 1e-3 < rates[-1] <= 1e-2
    assert {tuple(options["hidden"]) for options, _ in drawn} == {(8,), (64, 64)}
    assert all(type(values["k_permille"]) is int and values["alpha_permille"] % 100 == 0 for _, values in drawn)


@pytest.mark.parametrize("item", ["a=loguniform(-1,2)", "a=uniform(1)", "a=choice(3)", "a=randint('x',2)"])
def test_draws_that_a_distribution_refuses_are_named(sweep_ray: ModuleType, item: str) -> None:
    with pytest.raises(ConfigError, match="allowed is what Ray Tune's") as caught:
        sweep_ray.draw_settings(parse_draws([item]), {}, 1, seed=0)
    assert item in str(caught.value)


def test_decisions_of_early_stopping_outlive_the_process(sweep_ray: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "early_stop.pkl"
    scheduler = sweep_ray.EarlyStop("eval_return", 900, path)
    as_written_by_ray = pickle.dumps(scheduler)
    trials = [SimpleNamespace(trial_id=str(number)) for number in range(3)]
    for trial in trials:
        scheduler.on_trial_add(None, trial)

    def judged(judge: Any, trial: Any, steps: int, value: float) -> str:
        return str(judge.on_trial_result(None, trial, {"env_steps": steps, "eval_return": value}))

    assert judged(scheduler, trials[0], 90, 1.0) == "CONTINUE"  # before the first decision, at 100
    assert judged(scheduler, trials[0], 120, 1.0) == "CONTINUE"
    assert judged(scheduler, trials[1], 120, 0.0) == "STOP"
    restored = pickle.loads(as_written_by_ray)
    assert judged(restored, trials[2], 120, 0.5) == "STOP"  # behind the first trial, which this one remembers
    assert judged(restored, trials[1], 180, 9.0) == "STOP"  # what was stopped stays so
    assert judged(restored, trials[0], 900, 1.0) == "CONTINUE"
