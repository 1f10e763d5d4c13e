"""`gridmarl train`: one agent in one environment, ending with how it compares with truthful bidding and the optimum."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.protocols import Agent
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.compare import agent_for, evaluation_seed
from gridmarl.train.comparison import Row, market_row, plan_row
from gridmarl.train.config import TrainConfig
from gridmarl.train.figures import learning_curve
from gridmarl.train.ledger_run import play_sealed
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.loop import build_agent, train
from gridmarl.train.options import MarketOptions, parse_settings
from gridmarl.train.planning import plan_benchmarks
from gridmarl.train.rollout import play
from gridmarl.train.tables import ENERGY, WELFARE, table_of, without_nan
from gridmarl.units import UTOK_PER_TOKEN


@dataclass(kw_only=True)
class Train(MarketOptions):
    """Train an agent; ends with a comparison against truthful bidding, no market and the central optimum."""

    agent: str = "dqn"
    """Name of the agent (`gridmarl list` shows them)."""
    steps: int = 120_000
    """Length of the training, in steps of one lane."""
    lanes: int = 64
    """Lanes that train in parallel."""
    agent_set: tuple[str, ...] = ()
    """Options of the agent as name=value."""
    eval_every: int = 12_000
    """Steps between evaluations on held-out episodes (best.pt keeps the best policy); 0: only at the end."""
    eval_lanes: int = 8
    """Held-out episodes of an evaluation."""
    checkpoint_every: int = 30_000
    """Steps between checkpoints: the most that a killed run loses."""
    progress: Literal["auto", "on", "off"] = "auto"
    """The progress bar; auto: on a terminal, for runs of over two seconds."""
    resume: bool = False
    """Continue the run in --run-dir from its checkpoint, bit for bit."""

    def run(self) -> int:
        """Train; exit code 0, or 130 after Ctrl-C (the run folder can be resumed)."""
        return run_train(self)


def run_train(options: Train) -> int:
    """See `Train`; writes config.json, metrics.csv, summary.json, figures/, checkpoint.pt and ledger.bin."""
    console = Console()
    params = options.parameters()
    if options.agent == "dqn":
        params = replace(params, action_space="discrete")
    scenario = options.scenario()
    env = options.batched(params, options.training_scenario(), options.lanes)
    config = TrainConfig(
        env_id=env.env_id,
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
    )
    agent = build_agent(env, config)  # before the folder is made: a bad option leaves nothing behind
    folder = options.folder(options.agent)
    eval_env = options.batched(params, options.training_scenario(), options.eval_lanes) if options.eval_every else None
    outcome = train(env, agent, config, folder, eval_env=eval_env, resume=options.resume)
    if outcome.interrupted:
        console.print(f"interrupted after {outcome.env_steps} steps; continue with --resume --run-dir {folder}")
        return 130
    rows = _final_rows(options, params, scenario, agent, folder)
    _report(console, folder, scenario, rows, outcome.steps_per_s)
    levels = _levels(options, params, config.eval_seed)
    learning_curve(read_metrics(folder), levels, folder / "figures" / "learning.png", options.agent)
    console.print(f"results in {folder}")
    return 0


def _levels(options: Train, params: TwoStageDRParams, seed: int) -> dict[str, float]:
    """Reward per prosumer and episode of the references, on the very episodes of the evaluations during training."""
    scenario, lanes = options.training_scenario(), options.eval_lanes
    continuous = replace(params, action_space="continuous")
    truthful = play(
        options.batched(continuous, scenario, lanes, auto_reset=False),
        agent_for(options, continuous, scenario, "truthful", lanes),
        seed,
    )
    benchmarks = plan_benchmarks(params, truthful)
    prosumers = params.num_prosumers * UTOK_PER_TOKEN
    return {
        "optimum": float(np.mean([item.welfare_utok for item in benchmarks.first_best])) / prosumers,
        "truthful": float((truthful.comfort_utok + truthful.received_utok).sum((0, 1)).mean()) / prosumers,
        "no market": float(np.mean([item.welfare_utok for item in benchmarks.no_market])) / prosumers,
    }


def _final_rows(options: Train, params: TwoStageDRParams, scenario: Scenario, agent: Agent, folder: Path) -> list[Row]:
    seed = evaluation_seed(options.seed)
    lanes = options.eval_lanes
    continuous = replace(params, action_space="continuous")
    truthful = play(
        options.batched(continuous, scenario, lanes, auto_reset=False),
        agent_for(options, continuous, scenario, "truthful", lanes),
        seed,
    )
    episode = play(options.batched(params, scenario, lanes, auto_reset=False), agent, seed)
    play_sealed(options, params, scenario, agent, seed, folder / "ledger.bin")
    benchmarks = plan_benchmarks(params, truthful)
    return [
        plan_row("no market", benchmarks.no_market, benchmarks, central=False),
        market_row("truthful", truthful, benchmarks),
        market_row(options.agent, episode, benchmarks),
        plan_row("aggregator", benchmarks.first_best, benchmarks, central=True),
    ]


def _report(console: Console, folder: Path, scenario: Scenario, rows: list[Row], steps_per_s: float) -> None:
    console.print(table_of("After training, on held-out episodes: welfare and prices", WELFARE, rows))
    console.print(table_of("Load and energy", ENERGY, rows))
    summary = {
        "scenario": scenario.name,
        "attribution": scenario.attribution,
        "steps_per_s": steps_per_s,
        "rows": [asdict(row) for row in rows],
    }
    (folder / "summary.json").write_text(json.dumps(without_nan(summary), indent=2) + "\n", encoding="utf-8")
