"""`gridmarl train ev-quota`: resumed runs, seeds, what it refuses, what it leaves behind."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from gridmarl.protocols import Agent
from gridmarl.train.checkpoint import load_checkpoint, tree_hash
from gridmarl.train.quota.market import HeldOut
from tests.train.command_line import gridmarl, strict_json

SMALL = (
    "--agent", "dqn", "--lanes", "4", "--eval-lanes", "2", "--eval-every", "96", "--checkpoint-every", "96",
    "--agent-set", "learning_starts=32", "batch_size=16", "hidden=[8]",
    "--set", "num_stations=3", "transformer_capacity_w=30000",
)  # fmt: skip


def train(folder: Path, steps: int, *more: str) -> None:
    outcome = gridmarl("train", "ev-quota", *SMALL, "--steps", str(steps), "--run-dir", folder, *more)
    assert (outcome.code, outcome.err) == (0, "")


def test_an_interrupted_run_continues_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number learned, and of the rows."""
    train(tmp_path / "whole", 480)
    made = HeldOut.evaluator
    with monkeypatch.context() as patch:

        def interrupting(self: HeldOut, action_space: str) -> Callable[[Agent], dict[str, float]]:
            judge, calls = made(self, action_space), count(1)

            def judged(agent: Agent) -> dict[str, float]:
                if next(calls) == 3:
                    signal.raise_signal(signal.SIGINT)
                return judge(agent)

            return judged

        patch.setattr(HeldOut, "evaluator", interrupting)
        outcome = gridmarl("train", "ev-quota", *SMALL, "--steps", "480", "--run-dir", tmp_path / "parts")
        assert outcome.code == 130
        assert "continue with --resume" in outcome.out
        assert strict_json(tmp_path / "parts" / "summary.json")["rows"] == []
    train(tmp_path / "parts", 480, "--resume")
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt", "cpu")["agent"] for name in ("whole", "parts"))
    assert tree_hash(whole) == tree_hash(parts)
    rows = [strict_json(tmp_path / name / "summary.json")["rows"] for name in ("whole", "parts")]
    assert rows[0] == rows[1]


def test_what_a_run_leaves_behind(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, 192)
    summary = strict_json(folder / "summary.json")
    assert not summary["interrupted"]
    assert summary["levels"]["gains_share"]["optimum"] == 1.0
    assert set(summary["levels"]["reward_tok_per_station"]) == {"no trade", "truthful", "optimum"}
    optimum, truthful = (summary["levels"]["reward_tok_per_station"][name] for name in ("optimum", "truthful"))
    assert optimum >= truthful
    with (folder / "comparison.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["no trade", "truthful", "dqn", "coordinator"]
    assert all(float(row["overload_kwh"]) == 0.0 for row in rows)
    assert float(rows[3]["welfare_tok"]) >= max(float(row["welfare_tok"]) for row in rows[:3])
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        evaluated = [row for row in csv.DictReader(file) if row["eval_return"]]
    assert len(evaluated) == 2
    assert all(float(row["eval_overload_kwh"]) == 0.0 for row in evaluated)
    assert (folder / "figures" / "learning.png").stat().st_size > 5_000
    assert strict_json(folder / "config.json")["env_options"]["num_stations"] == 3


def test_seeds_train_in_folders_of_their_own_as_they_would_alone(tmp_path: Path) -> None:
    train(tmp_path / "both", 192, "--seeds", "3", "5")
    train(tmp_path / "alone", 192, "--seed", "5")
    rows = strict_json(tmp_path / "both" / "summary.json")["rows"]
    assert [row["name"] for row in rows[2:4]] == ["dqn, seed 3", "dqn, seed 5"]
    agents = [load_checkpoint(tmp_path / name / "checkpoint.pt", "cpu")["agent"] for name in ("both/seed-5", "alone")]
    assert tree_hash(agents[0]) == tree_hash(agents[1])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--ledger", "batch"), "--ledger batch with ev-quota; allowed are accounts, sealed, stored"),
        (("--validators", "9"), "validators = 9"),
        (("--days", "2"), "--days with ev-quota"),
        (("--agent", "truthful"), "agent: 'truthful' plays another environment"),
        (("--set", "stations=3"), "stations"),
        (("--lanes", "0"), "lanes: 0"),
    ],
)
def test_what_it_refuses_before_a_folder_is_made(options: tuple[str, ...], told: str, tmp_path: Path) -> None:
    outcome = gridmarl("train", "ev-quota", "--steps", "96", "--run-dir", tmp_path / "run", *options)
    assert outcome.code == 2
    assert told in outcome.err
    assert not (tmp_path / "run").exists()
