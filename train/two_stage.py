"""What the two-stage market brings to the commands: its parameters, its scenario, the trials of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.contest import reference
from gridmarl.train.evaluation import Levels, levels_of
from gridmarl.train.loop import TrainProgress, TrainResult
from gridmarl.train.options import MarketOptions
from gridmarl.train.train_options import VALIDATION_SEED, Train
from gridmarl.train.train_run import SeedRun, prepare, train_seed, training_market


def parameters(options: MarketOptions) -> TwoStageDRParams:
    """See `MarketOptions.parameters`."""
    return options.parameters()


def changes(options: MarketOptions) -> dict[str, Any]:
    """Another number of days is another horizon."""
    return {} if options.days is None else {"horizon_hours": 24 * options.days}


def scenario(options: MarketOptions, params: TwoStageDRParams) -> Scenario:
    """Prices and homes."""
    return options.scenario()


class TwoStageTrials:
    """The trials of a sweep; see `gridmarl.train.sweep.trial.Trials`."""

    def held_out(self, options: Train) -> Levels:
        """What the references reach in the episodes of the evaluations."""
        market = training_market(options)
        given = reference(options, market.params, market.training, options.eval_lanes, VALIDATION_SEED)
        return levels_of(given.truthful, given.benchmarks)

    def prepare(self, options: Train, seed: int, held_out: Levels | None) -> SeedRun:
        """Build all that can be refused."""
        return prepare(options, training_market(options), seed, held_out)

    def train(self, run: SeedRun, folder: Path, on_progress: Callable[[TrainProgress], None]) -> TrainResult:
        """Train to the end, from the checkpoint if there is one, without a bar of its own."""
        run = replace(run, config=replace(run.config, progress="off"))
        return train_seed(run, folder, resume=True, on_progress=on_progress)


TRIALS = TwoStageTrials()
