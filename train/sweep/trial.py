"""One trial of a sweep: an ordinary training run of one seed, which tells what each evaluation found."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gridmarl.train.evaluation import Levels
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.loop import TrainProgress
from gridmarl.train.sweep.plan import Trial
from gridmarl.train.train_options import Train
from gridmarl.train.train_run import prepare, train_seed, training_market

Report = Callable[[dict[str, Any]], None]
STEPS = "env_steps"


@dataclass(frozen=True)
class TrialJob:
    """What a worker needs for a trial; paths in `options` are relative to `cwd`.

    Attributes:
        folder: absolute, where the trial's run goes or goes on.
        metric: column of metrics.csv by which trials are judged.
        levels: of its market's held-out episodes.
    """

    trial: Trial
    options: Train
    folder: Path
    cwd: Path
    metric: str
    levels: Levels


def run_trial(job: TrialJob, report: Report) -> None:
    """Train to the end, from the checkpoint if there is one; `report` gets every evaluation and may stop the trial.

    A finished trial only reports its last evaluation once more.

    Raises:
        GridmarlError: what `gridmarl train` would refuse.
    """
    os.chdir(job.cwd)
    torch.set_num_threads(job.options.threads)
    seed = job.trial.seed
    run = prepare(job.options, training_market(job.options), seed, job.levels)

    def on_progress(progress: TrainProgress) -> None:
        # the last step's is reported below, when everything of the run has been written
        if "eval_return" in progress.metrics and progress.env_steps < progress.total_steps:
            report({STEPS: progress.env_steps, job.metric: progress.metrics.get(job.metric, float("nan"))})

    run = replace(run, config=replace(run.config, progress="off"))
    result = train_seed(run, job.folder, resume=True, on_progress=on_progress)
    last = last_evaluation(read_metrics(job.folder))
    report({STEPS: result.env_steps, job.metric: last.get(job.metric, float("nan"))})


def last_evaluation(rows: list[dict[str, str]]) -> Mapping[str, float]:
    """What the newest evaluation in metrics.csv found; empty without one."""
    for row in reversed(rows):
        if row.get("eval_return"):
            return {name: float(value) for name, value in row.items() if name.startswith("eval_") and value}
    return {}
