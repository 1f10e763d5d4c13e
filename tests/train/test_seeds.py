"""Several seeds in one run: each as if alone, side by side or one by one, interrupted and resumed; their statistics."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gridmarl.agents import registry
from gridmarl.agents.registry import register_agent
from gridmarl.train import seeds as seeds_module
from gridmarl.train.checkpoint import load_checkpoint
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.seeds import worker_count
from gridmarl.train.train_options import Train
from tests.train.command_line import TIMING, TRAIN, gridmarl, strict_json

SEEDS = ("--seeds", "7", "3")
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two seeds in processes of their own."""
    folder = tmp_path_factory.mktemp("seeds") / "run"
    outcome = gridmarl(*TRAIN, *SEEDS, "--workers", "2", "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    return folder, outcome.out


def same_training(one: Path, other: Path) -> None:
    """Bit-equal networks and equal metrics, the clock aside."""
    ours, theirs = (load_checkpoint(path / "checkpoint.pt") for path in (one, other))
    for name, value in ours["agent"]["online"].items():
        assert value.equal(theirs["agent"]["online"][name]), name
    rows = [
        [{key: value for key, value in row.items() if key not in TIMING} for row in read_metrics(path)]
        for path in (one, other)
    ]
    assert rows[0] == rows[1]


def test_a_seed_is_trained_as_if_alone(several: tuple[Path, str], tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    assert gridmarl(*TRAIN, "--seed", "3", "--run-dir", alone).code == 0
    same_training(several[0] / "seed-3", alone)
    seven, three = (load_checkpoint(several[0] / f"seed-{seed}" / "checkpoint.pt")["agent"] for seed in (7, 3))
    assert any(not seven["online"][name].equal(three["online"][name]) for name in seven["online"])


def test_one_by_one_is_side_by_side(several: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert gridmarl(*TRAIN, *SEEDS, "--workers", "1", "--run-dir", folder).code == 0
    for seed in (3, 7):
        same_training(several[0] / f"seed-{seed}", folder / f"seed-{seed}")
    ours, theirs = (strict_json(path / "summary.json") for path in (several[0], folder))
    for name in ("rows", "rows_by_seed", "levels", "seeds"):
        assert ours[name] == theirs[name], name


def test_the_summary_has_means_and_intervals_over_seeds(several: tuple[Path, str]) -> None:
    folder, out = several
    summary = strict_json(folder / "summary.json")
    assert summary["seeds"] == [7, 3]
    assert set(summary["training"]) == set(summary["rows_by_seed"]) == {"3", "7"}
    row = next(row for row in summary["rows"] if row["name"] == "dqn (2 seeds)")
    each = [summary["rows_by_seed"][seed] for seed in ("3", "7")]
    assert row["welfare_tok"] == pytest.approx(np.mean([item["welfare_tok"] for item in each]), rel=1e-12)
    assert row["gains_share"] == pytest.approx(np.mean([item["gains_share"] for item in each]), rel=1e-12)
    # two values: Student's t with one degree of freedom is 12.7062, the deviation |a - b| / sqrt(2), over sqrt(2)
    spread = abs(each[0]["gains_share"] - each[1]["gains_share"])
    assert row["gains_share_interval"] == pytest.approx(12.7062047 * spread / 2, rel=1e-6)
    assert re.search(r"^ dqn \(2 seeds\) ", out, re.MULTILINE)
    assert "dqn by seed" in out
    assert "95 % interval over them" in out
    assert (folder / "figures" / "learning.png").stat().st_size > 0
    for seed in ("3", "7"):
        assert gridmarl("ledger", "verify", folder / f"seed-{seed}").code == 0


def test_evaluations_log_what_users_watch(several: tuple[Path, str]) -> None:
    rows = [row for row in read_metrics(several[0] / "seed-3") if row["eval_return"]]
    assert len(rows) == 2
    for name in ("eval_gains_share", "eval_efficiency", "eval_price_tok_per_kwh"):
        assert all(np.isfinite(float(row[name])) for row in rows), name
    assert all(0.5 < float(row["eval_efficiency"]) < 1.0 for row in rows)


def test_ctrl_c_stops_all_workers_and_resume_ends_the_same(repository: Path, tmp_path: Path) -> None:
    folder, whole = tmp_path / "run", tmp_path / "whole"
    base = [*TRAIN, *SEEDS, "--workers", "2", "--eval-every", "0", "--checkpoint-every", "1000000000"]
    base += ["--agent-set", "hidden=[8]", "batch_size=8", "learning_starts=16", "exploration_steps=500"]
    command = [sys.executable, "-m", "gridmarl", *base, "--steps", "8000", "--run-dir", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    signs = [folder / f"seed-{seed}" / "metrics.csv" for seed in (3, 7)]
    with subprocess.Popen(
        command, cwd=repository, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not all(sign.is_file() and sign.read_text().count("\n") > 2 for sign in signs):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "")
    assert f"continue with --resume --run-dir {folder}" in out
    steps = [load_checkpoint(folder / f"seed-{seed}" / "checkpoint.pt")["env_steps"] for seed in (3, 7)]
    assert all(0 < step < 8_000 for step in steps)
    total = ["--steps", str(max(steps) + 100)]
    assert gridmarl(*base, *total, "--run-dir", folder, "--resume").code == 0
    assert gridmarl(*base, *total, "--run-dir", whole).code == 0
    for seed in (3, 7):
        ours, theirs = (load_checkpoint(path / f"seed-{seed}" / "checkpoint.pt")["agent"] for path in (folder, whole))
        assert all(ours["online"][name].equal(theirs["online"][name]) for name in ours["online"])


def test_a_killed_worker_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(options: Train, seed: int, *_: object) -> None:
        os._exit(9)

    monkeypatch.setattr(seeds_module, "_work", killed)
    monkeypatch.setattr(seeds_module.multiprocessing, "get_context", lambda _: _forking())
    outcome = gridmarl(*TRAIN, "--seeds", "7", "3", "--workers", "2", "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert "training of seed 7 was killed (its process ended with exit code 9;" in outcome.err
    assert "--resume continues all seeds" in outcome.err


def test_a_failing_worker_shows_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("broken on purpose")

    monkeypatch.setattr(seeds_module, "_prepare", broken)
    monkeypatch.setattr(seeds_module.multiprocessing, "get_context", lambda _: _forking())
    with pytest.raises(RuntimeError, match=r"(?s)training of seed 7 failed: Traceback .*broken on purpose"):
        gridmarl(*TRAIN, "--seeds", "7", "3", "--workers", "2", "--run-dir", tmp_path / "run")


def _forking():  # type: ignore[no-untyped-def]
    import multiprocessing.context

    return multiprocessing.context.ForkContext()


def test_how_many_workers() -> None:
    cores = len(os.sched_getaffinity(0))
    assert worker_count(Train(seeds=(1, 2, 3), workers=2)) == 2
    assert worker_count(Train(seeds=(1,), workers=8)) == 1
    assert worker_count(Train(seeds=tuple(range(1000)))) == cores
    assert worker_count(Train(seeds=(1, 2, 3), threads=1024)) == 1
    assert worker_count(Train(seeds=(1, 2, 3), device="cuda")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", "1", "1"), "seeds: 1 1; allowed is each only once"),
        (("--seeds", "1", "-2"), "seeds: -2, allowed are 0 .."),
        (("--seeds", "1", "2", "--seed", "4"), "--seed 4 and --seeds; allowed is one of them"),
        (("--seeds", "1", "2", "--workers", "-1"), "workers: -1, allowed are 0 .. 1024"),
        (("--seeds", "1", "2", "--agent-set", "nonsense=1"), "dqn: unknown option 'nonsense'"),
    ],
)
def test_bad_seeds(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    outcome = gridmarl(*TRAIN, *options, "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


def test_an_agent_of_this_process_cannot_go_to_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gridmarl.agents.heuristics import Truthful

    monkeypatch.setattr(registry, "_registered", {})  # other tests list what is registered
    register_agent("seeds_here_only", Truthful)
    outcome = gridmarl(*TRAIN[:5], "--agent", "seeds_here_only", *SEEDS, "--workers", "2", "--run-dir", tmp_path / "a")
    assert (outcome.code, "registered in this process only" in outcome.err) == (2, True)
    assert worker_count(Train(seeds=(1, 2), agent="seeds_here_only")) == 1


def test_run_folders_are_not_mixed(several: tuple[Path, str], tmp_path: Path) -> None:
    folder = several[0]
    again = gridmarl(*TRAIN, *SEEDS, "--run-dir", folder)
    assert f"run_dir: {folder} holds a run; allowed is --resume" in again.err
    single = gridmarl(*TRAIN, "--resume", "--run-dir", folder)
    assert "holds a run with several seeds; allowed is --seeds with these" in single.err
    other = gridmarl(*TRAIN, *SEEDS, "--resume", "--run-dir", folder / "seed-3")
    assert "holds a run with one seed; allowed is --seed or another folder" in other.err
