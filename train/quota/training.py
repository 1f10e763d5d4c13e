"""`gridmarl train ev-quota`: one agent for all stations, ending with how it compares with trading truthfully."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gridmarl.agents.registry import needs_discrete_actions, supports
from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent
from gridmarl.train.figures import learning_curve
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.loop import TrainProgress, TrainResult, build_agent, train
from gridmarl.train.quota.market import ENV, HeldOut, QuotaMarket
from gridmarl.train.quota.rows import QuotaRow
from gridmarl.train.quota.sealed import (
    check_sealing,
    play_sealed_day,
    sealed_while_training,
    training_ledger,
    training_level,
)
from gridmarl.train.quota.settings import agent_options
from gridmarl.train.quota.tables import print_rows, write_rows
from gridmarl.train.run_folder import describe_run, write_json
from gridmarl.train.tables import results_console
from gridmarl.train.train_options import VALIDATION_SEED, evaluation_seed, seed_folder
from gridmarl.train.train_run import RunConfig
from gridmarl.train.workers import started_by_torchrun

if TYPE_CHECKING:
    from gridmarl.train.train_options import Train


@dataclass
class QuotaRun:
    """One seed, built and not yet trained.

    Attributes:
        options: what the ledger is to be.
        held_out: the days of its evaluations, if there are any.
    """

    options: Train
    env: BatchedEVQuota
    agent: Agent
    config: RunConfig
    held_out: HeldOut | None = None

    def policy(self, observation: Tensor) -> Tensor:
        """What the agent does without exploring."""
        return self.agent.act(observation, explore=False)

    def train(
        self, folder: Path, resume: bool, on_progress: Callable[[TrainProgress], None] | None = None
    ) -> TrainResult:
        """The loop of one seed; see `gridmarl.train.loop.train`."""
        space = self.config.env_options["action_space"]
        with training_ledger(self.options, self.env, self.config.seed, folder, resume) as ledger:
            return train(
                self.env,
                self.agent,
                self.config,
                folder,
                on_progress=on_progress,
                evaluate=None if self.held_out is None else self.held_out.evaluator(space),
                resume=resume,
                ledger=ledger,
            )


def train_quota(options: Train) -> int:
    """See `Train`; seeds train one after the other. Exit code 0, or 130 after Ctrl-C.

    Raises:
        ConfigError: an option that is not allowed, or belongs to another environment.
    """
    options.check()
    _refuse(options)
    torch.set_num_threads(options.threads)
    market = _market(options)
    space = market.params.action_space
    first = _prepare(options, market, options.all_seeds[0])
    # what can be refused has been, and all that follows costs time: nothing is left behind by bad input
    learning = bool(first.config.eval_interval)
    held_out = _held_out(options, market, VALIDATION_SEED, "validation days") if learning else None
    compared = _held_out(options, market, evaluation_seed(min(options.all_seeds)), "days of the comparison")
    folder = options.folder(options.agent)
    results: dict[int, TrainResult] = {}
    rows = [compared.row(name, episode) for name, episode in compared.references.items()]
    for seed in options.all_seeds:
        run = first if seed == options.all_seeds[0] else _prepare(options, market, seed)
        run.held_out = held_out
        place = _place(options, folder, seed)
        results[seed] = run.train(place, options.resume)
        if results[seed].interrupted:
            break
        if run.env.chains is not None:
            results_console().print(sealed_while_training(run.env.chains), highlight=False)
        play_sealed_day(market, space, run.policy, evaluation_seed(min(options.all_seeds)), place, options)
        name = f"{options.agent}, seed {seed}" if options.seeds else options.agent
        rows.append(compared.row(name, compared.play(run.agent, space)))
    return _finish(options, folder, rows, compared, held_out, results)


class QuotaTrials:
    """The trials of a sweep; see `gridmarl.train.sweep.trial.Trials`."""

    def held_out(self, options: Train) -> HeldOut:
        """The days of the evaluations."""
        return _held_out(options, _market(options), VALIDATION_SEED, "validation days")

    def prepare(self, options: Train, seed: int, held_out: HeldOut | None) -> QuotaRun:
        """Build all that can be refused."""
        _refuse(options)
        return replace(_prepare(options, _market(options), seed), held_out=held_out)

    def train(self, run: QuotaRun, folder: Path, on_progress: Callable[[TrainProgress], None]) -> TrainResult:
        """Train to the end, from the checkpoint if there is one, without a bar of its own."""
        run = replace(run, config=replace(run.config, progress="off"))
        return run.train(folder, resume=True, on_progress=on_progress)


TRIALS = QuotaTrials()


def _market(options: Train) -> QuotaMarket:
    """With the action space of the agent."""
    market = QuotaMarket.of(options)
    check_sealing(options, market)
    space = "discrete" if needs_discrete_actions(options.agent) else market.params.action_space
    return replace(market, params=replace(market.params, action_space=space))


def _refuse(options: Train) -> None:
    if started_by_torchrun():
        raise ConfigError(f"torchrun with {ENV}: not for this environment; allowed is one process")
    training_level(options)
    if not supports(options.agent, ENV):
        raise ConfigError(f"agent: {options.agent!r} plays another environment; allowed: see `gridmarl list`")


def _held_out(options: Train, market: QuotaMarket, seed: int, stage: str) -> HeldOut:
    return HeldOut.prepare(market, options.eval_lanes, seed, options.progress, stage)


def _place(options: Train, folder: Path, seed: int) -> Path:
    return folder / seed_folder(seed) if options.seeds else folder


def _prepare(options: Train, market: QuotaMarket, seed: int) -> QuotaRun:
    env = market.for_training(options.lanes, training_level(options))
    config = RunConfig(
        env_id=env.env_id,
        agent=options.agent,
        total_steps=options.steps,
        num_envs=options.lanes,
        seed=seed,
        device=options.device,
        log_interval=max(options.lanes, options.steps // 100),
        eval_interval=options.eval_every,
        eval_seed=VALIDATION_SEED,
        checkpoint_interval=options.checkpoint_every,
        agent_options=agent_options(options.agent, options.agent_set),
        env_options=market.params.to_dict(),
        progress=options.progress,
        scenario={"name": market.scenario.name},
        attribution=market.scenario.attribution,
        **describe_run(options),
    )
    agent = build_agent(env, config)
    if not agent.learns:
        config = replace(config, eval_interval=0)
    return QuotaRun(options, env, agent, config)


def _finish(
    options: Train,
    folder: Path,
    rows: list[QuotaRow],
    compared: HeldOut,
    held_out: HeldOut | None,
    results: dict[int, TrainResult],
) -> int:
    """Tables, summary.json, comparison.csv and the learning curve; without rows after an interruption."""
    console = results_console()
    interrupted = any(result.interrupted for result in results.values())
    rows = [] if interrupted else [*rows, compared.coordinator_row()]
    levels = {} if held_out is None else held_out.levels()
    reports = {seed: asdict(result) for seed, result in results.items()}
    summary = {
        "attribution": compared.market.scenario.attribution,
        "interrupted": interrupted,
        "training": reports,
        "rows": [asdict(row) for row in rows],
        "levels": levels,
    }
    write_json(folder / "summary.json", summary)
    curves = {options.agent: [read_metrics(_place(options, folder, seed)) for seed in results]}
    learning_curve(
        curves, levels.get("reward_tok_per_station", {}), folder / "figures" / "learning.png", whose="station"
    )
    if interrupted:
        done = sum(result.env_steps for result in results.values())
        told = f"interrupted after {done} steps; continue with --resume --run-dir {folder}"
        console.print(told, highlight=False, soft_wrap=True)
        return 130
    write_rows(folder / "comparison.csv", rows)
    print_rows(console, rows)
    console.print(compared.market.scenario.attribution, highlight=False)
    console.print(f"results in {folder}", highlight=False, soft_wrap=True)
    return 0
