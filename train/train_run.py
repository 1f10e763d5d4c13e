"""One seed of a training run: its settings, its environment and agent, and the loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gridmarl.agents.registry import needs_discrete_actions
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.rules import check_sealable
from gridmarl.protocols import Agent, Alone, Workers
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.config import TrainConfig
from gridmarl.train.evaluation import Levels, MarketEvaluation
from gridmarl.train.ledger_options import LedgerOptions
from gridmarl.train.ledger_store import TrainingLedger
from gridmarl.train.loop import TrainProgress, TrainResult, build_agent, train
from gridmarl.train.options import parse_settings
from gridmarl.train.run_folder import describe_run, describe_scenario
from gridmarl.train.train_options import VALIDATION_SEED, Train
from gridmarl.train.workers import share_of


@dataclass(frozen=True)
class RunConfig(TrainConfig):
    """config.json of a run from the command line: also says how to repeat it.

    Attributes:
        command, gridmarl_version, versions, options: what ran; free to differ when the run is resumed.
        scenario, attribution: the prices and homes it is compared on; must be the same when the run is resumed.
    """

    command: str = "train"
    gridmarl_version: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    scenario: Mapping[str, Any] = field(default_factory=dict)
    attribution: str = ""

    def check_resumable_from(self, saved_json: str) -> None:
        """See `TrainConfig.check_resumable_from`."""
        now = json.loads(self.to_json())
        ours = {name: now[name] for name in ("command", "gridmarl_version", "versions", "options")}
        super().check_resumable_from(json.dumps({**json.loads(saved_json), **ours}))


@dataclass(frozen=True)
class TrainingMarket:
    """What every seed of a run shares: parameters (with the action space of the agent) and scenarios."""

    params: TwoStageDRParams
    scenario: Scenario
    training: Scenario


def training_market(options: Train) -> TrainingMarket:
    """The market of a run, by its options. Raises ConfigError or DataError for what they get wrong."""
    params = options.parameters()
    if needs_discrete_actions(options.agent):
        params = replace(params, action_space="discrete")
    return TrainingMarket(params, options.scenario(), options.training_scenario())


def run_config(options: Train, market: TrainingMarket, seed: int, env_id: str) -> RunConfig:
    """Settings of one seed."""
    return RunConfig(
        env_id=env_id,
        agent=options.agent,
        total_steps=options.steps,
        num_envs=options.lanes,
        seed=seed,
        device=options.device,
        log_interval=max(options.lanes, options.steps // 100),
        eval_interval=options.eval_every,
        eval_seed=VALIDATION_SEED,
        checkpoint_interval=options.checkpoint_every,
        agent_options=parse_settings(options.agent_set),
        env_options=market.params.to_dict(),
        progress=options.progress,
        scenario=describe_scenario(options, market.scenario),
        attribution=market.scenario.attribution,
        **describe_run(options),
    )


@dataclass
class SeedRun:
    """One seed, built and not yet trained. `stored`: how lane 0's hours are sealed into a store, if they are."""

    env: BatchedTwoStageDR
    agent: Agent
    config: RunConfig
    workers: Workers
    evaluate: MarketEvaluation | None = None
    stored: LedgerOptions | None = None


def prepare(
    options: Train, market: TrainingMarket, seed: int, levels: Levels | None, workers: Workers | None = None
) -> SeedRun:
    """Build all that can be refused: environment, settings, agent and its options.

    Args:
        levels: of the evaluations during training; None: none are built yet, or there are none.
        workers: processes that train together, each with its share of the lanes.
    """
    workers = workers or Alone()
    lanes = share_of(options.lanes, workers)
    first = workers.rank * lanes
    stored = options.ledger == "stored"
    if stored:
        check_sealable(market.params)
        options.sealing(market.params.num_prosumers)
    level = "accounts" if stored else options.ledger
    env = options.batched(market.params, market.training, lanes, ledger=level, first_lane=first)
    config = run_config(options, market, seed, env.env_id)
    agent = build_agent(env, config, workers)
    if not agent.learns:
        config = replace(config, eval_interval=0)  # nothing changes: the comparison at the end says it all
    run = SeedRun(env, agent, config, workers, stored=options if stored and workers.rank == 0 else None)
    if levels is not None:
        add_evaluation(options, market, run, levels)
    return run


def add_evaluation(options: Train, market: TrainingMarket, run: SeedRun, levels: Levels) -> None:
    """Give a run the held-out lanes of `levels`, where it evaluates at all."""
    if run.config.eval_interval:
        held_out = options.batched(market.params, market.training, options.eval_lanes, auto_reset=False)
        run.evaluate = MarketEvaluation(held_out, run.config.eval_seed, levels)


def train_seed(
    run: SeedRun, folder: Path, resume: bool, on_progress: Callable[[TrainProgress], None] | None = None
) -> TrainResult:
    """The loop of one seed; see `gridmarl.train.loop.train`."""
    with _ledger(run, folder, resume) as ledger:
        return train(
            run.env,
            run.agent,
            run.config,
            folder,
            on_progress=on_progress,
            evaluate=run.evaluate,
            resume=resume,
            workers=run.workers,
            ledger=ledger,
        )


def _ledger(run: SeedRun, folder: Path, resume: bool) -> AbstractContextManager[TrainingLedger | None]:
    if run.stored is None:
        return nullcontext()
    return TrainingLedger(run.env, run.config.seed, folder, resume=resume, sealing=run.stored)
