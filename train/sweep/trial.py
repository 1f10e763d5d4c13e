"""One trial of a sweep: an ordinary training run of one seed, which tells what each evaluation found."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from gridmarl.train.logging_ import read_metrics
from gridmarl.train.loop import TrainProgress, TrainResult
from gridmarl.train.markets import market_entry
from gridmarl.train.sweep.plan import Trial
from gridmarl.train.train_options import Train

Report = Callable[[dict[str, Any]], None]
STEPS = "env_steps"


class Trials(Protocol):
    """How one environment trains a trial; what `held_out` returns goes to other processes by pickle."""

    def held_out(self, options: Train) -> Any:
        """What the evaluations during training are measured by."""
        ...

    def prepare(self, options: Train, seed: int, held_out: Any) -> Any:
        """A run with an `agent`, built and not yet trained.

        Args:
            held_out: None: nothing is to be trained; what can be refused is refused.

        Raises:
            GridmarlError: what `gridmarl train` would refuse.
        """
        ...

    def train(self, run: Any, folder: Path, on_progress: Callable[[TrainProgress], None]) -> TrainResult:
        """Train to the end, from the checkpoint if there is one, without a bar of its own."""
        ...


def trials_in(env: str) -> Trials:
    """Those of an environment."""
    made: Trials = market_entry(env).load("trials")
    return made


@dataclass(frozen=True)
class TrialJob:
    """What a worker needs for a trial; paths in `options` are relative to `cwd`.

    Attributes:
        folder: absolute, where the trial's run goes or goes on.
        metric: column of metrics.csv by which trials are judged.
        held_out: what its evaluations are measured by.
    """

    trial: Trial
    options: Train
    folder: Path
    cwd: Path
    metric: str
    held_out: Any


def run_trial(job: TrialJob, report: Report) -> None:
    """Train to the end, from the checkpoint if there is one; `report` gets every evaluation and may stop the trial.

    A finished trial only reports its last evaluation once more.

    Raises:
        GridmarlError: what `gridmarl train` would refuse.
    """
    os.chdir(job.cwd)
    torch.set_num_threads(job.options.threads)
    trials = trials_in(job.options.env)
    run = trials.prepare(job.options, job.trial.seed, job.held_out)

    def on_progress(progress: TrainProgress) -> None:
        # the last step's is reported below, when everything of the run has been written
        if "eval_return" in progress.metrics and progress.env_steps < progress.total_steps:
            report({STEPS: progress.env_steps, job.metric: progress.metrics.get(job.metric, float("nan"))})

    result = trials.train(run, job.folder, on_progress)
    last = last_evaluation(read_metrics(job.folder))
    report({STEPS: result.env_steps, job.metric: last.get(job.metric, float("nan"))})


def last_evaluation(rows: list[dict[str, str]]) -> Mapping[str, float]:
    """What the newest evaluation in metrics.csv found; empty without one."""
    for row in reversed(rows):
        if row.get("eval_return"):
            return {name: float(value) for name, value in row.items() if name.startswith("eval_") and value}
    return {}
