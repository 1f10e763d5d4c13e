"""`gridmarl train`: one agent in one environment, ending with how it compares with truthful bidding and the optimum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.checkpoint import CHECKPOINT_FILE
from gridmarl.train.compare import agent_for, evaluation_seed
from gridmarl.train.comparison import Row, market_row, plan_row
from gridmarl.train.config import TrainConfig
from gridmarl.train.figures import learning_curve
from gridmarl.train.ledger_run import play_sealed
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.loop import TrainResult, build_agent, train
from gridmarl.train.options import MAX_LANES, MAX_STEPS, MarketOptions, Settings, check_range, parse_settings
from gridmarl.train.planning import Benchmarks, plan_benchmarks
from gridmarl.train.rollout import Episode, play
from gridmarl.train.run_folder import describe_run, describe_scenario, write_json
from gridmarl.train.stage_bar import stage_bar
from gridmarl.train.tables import print_notes, print_rows, results_console
from gridmarl.units import UTOK_PER_TOKEN

DISCRETE_AGENTS = ("dqn", "tabular_q")
"""Agents of ours that choose rows of the action grid; for one of your own say --set action_space=discrete."""


@dataclass(kw_only=True)
class Train(MarketOptions):
    """Train an agent; ends with a comparison against truthful bidding, no market and the central optimum."""

    agent: Annotated[str, tyro.conf.arg(metavar="NAME")] = "dqn"
    """Name of the agent; `gridmarl list` shows them."""
    steps: Annotated[int, tyro.conf.arg(metavar="N")] = 360_000
    """Length of the training, in steps of one lane."""
    lanes: Annotated[int, tyro.conf.arg(metavar="N")] = 64
    """Lanes that train in parallel."""
    agent_set: Settings = ()
    """Options of the agent, e.g. --agent-set learning_rate=0.0005 policy=independent."""
    eval_every: Annotated[int, tyro.conf.arg(metavar="N")] = 36_000
    """Steps between evaluations on held-out episodes (best.pt keeps the best policy); 0: none."""
    eval_lanes: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """Held-out episodes of an evaluation, and of the comparison at the end."""
    checkpoint_every: Annotated[int, tyro.conf.arg(metavar="N")] = 60_000
    """Steps between checkpoints: the most that a killed run loses."""
    ledger: Literal["accounts", "sealed"] = "accounts"
    """accounts: balances are kept while training; sealed: every hour of every lane is hashed into its chain, too."""
    resume: bool = False
    """Continue the run in --run-dir from its checkpoint, bit for bit."""

    def check(self) -> None:
        """See `MarketOptions.check`; also refuses a run folder that this run would spoil."""
        super().check()
        check_range("lanes", self.lanes, 1, MAX_LANES)
        check_range("eval_lanes", self.eval_lanes, 1, MAX_LANES)
        check_range("steps", self.steps, 1, MAX_STEPS)
        check_range("eval_every", self.eval_every, 0, MAX_STEPS)
        check_range("checkpoint_every", self.checkpoint_every, 1, MAX_STEPS)
        if self.run_dir is None:
            if self.resume:
                raise ConfigError("--resume without --run-dir; allowed is --resume --run-dir FOLDER_OF_THE_RUN")
        elif self.run_dir.is_dir():
            read_metrics(self.run_dir)  # refuses the folder of a comparison
            if (self.run_dir / CHECKPOINT_FILE).exists() and not self.resume:
                raise ConfigError(f"run_dir: {self.run_dir} holds a run; allowed is --resume, or another folder")

    def run(self) -> int:
        """Train; exit code 0, or 130 after Ctrl-C (the run folder can be resumed)."""
        return run_train(self)


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


def run_train(options: Train) -> int:
    """See `Train`; writes config.json, metrics.csv, summary.json, figures/, checkpoint.pt and ledger.bin."""
    console = results_console()
    options.check()
    torch.set_num_threads(options.threads)
    params = options.parameters()
    if options.agent in DISCRETE_AGENTS:
        params = replace(params, action_space="discrete")
    scenario = options.scenario()
    training = options.training_scenario()
    env = options.batched(params, training, options.lanes, ledger=options.ledger)
    config = _config(options, env.env_id, params, scenario)
    agent = build_agent(env, config)
    if not agent.learns:
        config = replace(config, eval_interval=0)  # nothing changes: the comparison at the end says it all
    eval_env = options.batched(params, training, options.eval_lanes) if config.eval_interval else None
    reference = _reference(options, params, scenario, options.eval_lanes, evaluation_seed(options.seed))
    folder = options.folder(options.agent)  # what can be refused has been: nothing is left behind by bad input
    outcome = train(env, agent, config, folder, eval_env=eval_env, resume=options.resume)
    if outcome.interrupted:
        _report(options, folder, scenario, [], outcome, {})
        told = f"interrupted after {outcome.env_steps} steps; continue with --resume --run-dir {folder}"
        console.print(told, highlight=False, soft_wrap=True)
        return 130
    if env.chains is not None:
        console.print(f"sealed while training: {env.chains.height} blocks in each of {env.num_envs} chains")
    rows = _final_rows(options, params, scenario, agent, reference, folder)
    levels = {}
    if any(row.get("eval_return") for row in read_metrics(folder)):
        levels = _levels(options, params, config.eval_seed)
    _report(options, folder, scenario, rows, outcome, levels)
    print_rows(console, rows, "after training")
    print_notes(console)
    console.print(f"scenario {scenario.name}: {scenario.attribution}", highlight=False)
    console.print(f"results in {folder}", highlight=False, soft_wrap=True)
    return 0


def _config(options: Train, env_id: str, params: TwoStageDRParams, scenario: Scenario) -> RunConfig:
    return RunConfig(
        env_id=env_id,
        agent=options.agent,
        total_steps=options.steps,
        num_envs=options.lanes,
        seed=options.seed,
        device=options.device,
        log_interval=max(options.lanes, options.steps // 100),
        eval_interval=options.eval_every,
        checkpoint_interval=options.checkpoint_every,
        agent_options=parse_settings(options.agent_set),
        env_options=params.to_dict(),
        progress=options.progress,
        scenario=describe_scenario(options, scenario),
        attribution=scenario.attribution,
        **describe_run(options),
    )


def _reference(
    options: Train, params: TwoStageDRParams, scenario: Scenario, lanes: int, seed: int
) -> tuple[Episode, Benchmarks]:
    """Truthful bidding in `lanes` episodes, and the benchmarks on these."""
    continuous = replace(params, action_space="continuous")
    truthful = play(
        options.batched(continuous, scenario, lanes, auto_reset=False),
        agent_for(options, continuous, scenario, "truthful", lanes),
        seed,
    )
    with stage_bar("central planner", lanes, "lanes", options.progress) as advance:
        return truthful, plan_benchmarks(params, truthful, advance)


def _levels(options: Train, params: TwoStageDRParams, seed: int) -> dict[str, float]:
    """Reward per prosumer and episode of the references, on the very episodes of the evaluations during training."""
    truthful, benchmarks = _reference(options, params, options.training_scenario(), options.eval_lanes, seed)
    prosumers = params.num_prosumers * UTOK_PER_TOKEN
    return {
        "optimum": float(np.mean([item.welfare_utok for item in benchmarks.first_best])) / prosumers,
        "truthful": float((truthful.comfort_utok + truthful.received_utok).sum((0, 1)).mean()) / prosumers,
        "no market": float(np.mean([item.welfare_utok for item in benchmarks.no_market])) / prosumers,
    }


def _final_rows(
    options: Train,
    params: TwoStageDRParams,
    scenario: Scenario,
    agent: Agent,
    reference: tuple[Episode, Benchmarks],
    folder: Path,
) -> list[Row]:
    seed, lanes = evaluation_seed(options.seed), options.eval_lanes
    truthful, benchmarks = reference

    def trained(number: int) -> Agent:
        """Only a learner promises to act in any number of lanes, and has something to keep."""
        if agent.learns:
            return agent
        return agent_for(options, params, scenario, options.agent, number, **parse_settings(options.agent_set))

    env = options.batched(params, scenario, lanes, auto_reset=False)
    with stage_bar("evaluation", params.horizon_hours, "hours", options.progress) as advance:
        episode = play(env, trained(lanes), seed, on_hour=lambda _: advance())
    play_sealed(options, params, scenario, trained(1), seed, folder / "ledger.bin")
    return [
        plan_row("no market", benchmarks.no_market, benchmarks, central=False),
        market_row("truthful", truthful, benchmarks),
        market_row(options.agent, episode, benchmarks),
        plan_row("aggregator", benchmarks.first_best, benchmarks, central=True),
    ]


def _report(
    options: Train,
    folder: Path,
    scenario: Scenario,
    rows: list[Row],
    outcome: TrainResult,
    levels: dict[str, float],
) -> None:
    """summary.json and the learning curve; without rows and levels after an interruption."""
    training = {name: value for name, value in asdict(outcome).items() if name not in ("run_dir", "interrupted")}
    summary = {
        "scenario": scenario.name,
        "attribution": scenario.attribution,
        "interrupted": outcome.interrupted,
        "training": training,
        "rows": [asdict(row) for row in rows],
        "levels_tok_per_prosumer": levels,
    }
    write_json(folder / "summary.json", summary)
    learning_curve(read_metrics(folder), levels, folder / "figures" / "learning.png", options.agent)
