"""`gridmarl compare`: one market played by each policy, beside the benchmarks by definition, under both readings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import gridmarl
from gridmarl.agents.registry import make_agent
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.protocols import Agent, AgentContext
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.checkpoint import CHECKPOINT_FILE
from gridmarl.train.comparison import Profile, Row, market_profile, market_row, plan_profile, plan_row
from gridmarl.train.config import TrainConfig
from gridmarl.train.figures import gains_bars, load_before_and_after, price_against_billing_cost
from gridmarl.train.ledger_run import play_sealed
from gridmarl.train.loop import build_agent, train
from gridmarl.train.options import MarketOptions, parse_settings
from gridmarl.train.planning import Benchmarks, plan_benchmarks
from gridmarl.train.rollout import Episode, play
from gridmarl.train.tables import print_comparison, without_nan, write_metrics

HEURISTICS = (("zero-intelligence", "zero_intelligence"), ("truthful", "truthful"), ("inflate", "inflate"))
EVALUATION_SEED_OFFSET = 1_000_003
Reading = Literal["two_settlement", "additive"]


@dataclass(kw_only=True)
class Compare(MarketOptions):
    """Train deep-Q prosumers and compare: no market, zero-intelligence, truthful, inflate, deep Q, central
    aggregator."""

    dr_settlement: Literal["both", "two_settlement", "additive"] = "both"
    """Which reading of the demand-response incentive; both are shown by default."""
    lanes: int = 8
    """Evaluation episodes, the same for every row."""
    train_steps: int = 120_000
    """Training of the deep-Q prosumers per reading, in market hours of one lane."""
    train_lanes: int = 64
    """Lanes that train in parallel."""
    agent_set: tuple[str, ...] = ()
    """Options of the deep-Q agent as name=value, e.g. --agent-set learning_rate=0.0005 policy=independent."""

    def run(self) -> int:
        """Run the comparison; exit code 0, or 130 after Ctrl-C (the run folder keeps what was done)."""
        return run_compare(self)


@dataclass
class Comparison:
    """All that a comparison found."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Profile]] = field(default_factory=dict)
    training: dict[str, dict[str, float]] = field(default_factory=dict)
    interrupted: bool = False


def run_compare(options: Compare) -> int:
    """See `Compare`; writes config.json, metrics.csv, summary.json, figures/, checkpoint*.pt and ledger.bin."""
    console = Console()
    readings = ["two_settlement", "additive"] if options.dr_settlement == "both" else [options.dr_settlement]
    params = {name: options.parameters(dr_settlement=name) for name in readings}
    scenario = options.scenario()
    options.batched(params[readings[0]], scenario, options.lanes)  # bad input ends here, before a folder is made
    folder = options.folder("compare")
    _write_config(folder, options, params[readings[0]], scenario)
    result = Comparison()
    benchmarks, reference = _benchmarks(options, params[readings[0]], scenario, console)
    for reading in readings:
        _one_reading(options, reading, params[reading], scenario, benchmarks, folder, result)
        if result.interrupted:
            break
    _report(folder, console, scenario, result, reference)
    return 130 if result.interrupted else 0


def evaluation_seed(seed: int) -> int:
    """Seed of the evaluation episodes; never that of the training."""
    return (seed + EVALUATION_SEED_OFFSET) % 2**64


def agent_for(
    options: MarketOptions, params: TwoStageDRParams, scenario: Scenario, name: str, lanes: int, **agent_options: Any
) -> Agent:
    """An agent by name, built for `lanes` lanes of this market."""
    env = options.batched(params, scenario, lanes)
    context = AgentContext(
        num_envs=lanes,
        num_agents=env.num_agents,
        observation_fields=env.observation_fields,
        action_spec=env.action_spec,
        device=env.device,
        seed=options.seed,
    )
    return make_agent(name, context, **agent_options)


def _benchmarks(
    options: Compare, params: TwoStageDRParams, scenario: Scenario, console: Console
) -> tuple[Benchmarks, Episode]:
    """Both benchmarks depend on homes and prices only, so one solution serves every row and reading."""
    env = options.batched(params, scenario, options.lanes, auto_reset=False)
    agent = agent_for(options, params, scenario, "truthful", options.lanes)
    episode = play(env, agent, evaluation_seed(options.seed))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("central planner, lanes", total=options.lanes)
        return plan_benchmarks(params, episode, lambda: bar.advance(task)), episode


def _one_reading(
    options: Compare,
    reading: str,
    params: TwoStageDRParams,
    scenario: Scenario,
    benchmarks: Benchmarks,
    folder: Path,
    result: Comparison,
) -> None:
    seed = evaluation_seed(options.seed)
    rows = [plan_row("no market", benchmarks.no_market, benchmarks, central=False)]
    profiles: dict[str, Profile] = {}

    def add(name: str, market: TwoStageDRParams, agent: Agent) -> None:
        env = options.batched(market, scenario, options.lanes, auto_reset=False)
        episode = play(env, agent, seed)
        rows.append(market_row(name, episode, benchmarks))
        profiles[name] = market_profile(episode)

    for name, registered in HEURISTICS:
        add(name, params, agent_for(options, params, scenario, registered, options.lanes))
    discrete = replace(params, action_space="discrete")
    trained, training = _train_deep_q(options, reading, discrete, folder)
    add("deep Q", discrete, trained)
    ledger = folder / ("ledger.bin" if not result.rows else f"ledger-{reading}.bin")
    play_sealed(options, discrete, scenario, trained, seed, ledger)
    rows.append(plan_row("aggregator", benchmarks.first_best, benchmarks, central=True))
    profiles["aggregator"] = plan_profile(benchmarks.first_best)
    result.rows[reading], result.profiles[reading] = rows, profiles
    result.training[reading] = {key: value for key, value in training.items() if key != "interrupted"}
    result.interrupted = bool(training["interrupted"])


def _train_deep_q(
    options: Compare, reading: str, params: TwoStageDRParams, folder: Path
) -> tuple[Agent, dict[str, float]]:
    """Train on the training scenario; returns the trained agent and what to report of its training."""
    env = options.batched(params, options.training_scenario(), options.train_lanes)
    config = TrainConfig(
        env_id=env.env_id,
        agent="dqn",
        total_steps=options.train_steps,
        num_envs=options.train_lanes,
        seed=options.seed,
        device=options.device,
        checkpoint_interval=max(1, options.train_steps // 4),
        log_interval=max(options.train_lanes, options.train_steps // 40),
        agent_options=parse_settings(options.agent_set),
        env_options=params.to_dict(),
    )
    run = folder / f"deep-q-{reading}"
    (run / CHECKPOINT_FILE).unlink(missing_ok=True)  # of an earlier comparison in the same folder
    agent = build_agent(env, config)
    outcome = train(env, agent, config, run)
    (folder / f"checkpoint-{reading}.pt").write_bytes((run / CHECKPOINT_FILE).read_bytes())
    return agent, {
        "env_steps": outcome.env_steps,
        "seconds": outcome.seconds,
        "steps_per_s": outcome.steps_per_s,
        "interrupted": outcome.interrupted,
    }


def _write_config(folder: Path, options: Compare, params: TwoStageDRParams, scenario: Scenario) -> None:
    content = {
        "command": "compare",
        "gridmarl_version": gridmarl.__version__,
        "options": asdict(options),
        "params": params.to_dict(),
        "scenario": scenario.name,
        "attribution": scenario.attribution,
    }
    (folder / "config.json").write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def _report(folder: Path, console: Console, scenario: Scenario, result: Comparison, reference: Episode) -> None:
    """Tables to the terminal; metrics.csv, summary.json and figures to the folder."""
    print_comparison(console, result.rows)
    write_metrics(folder / "metrics.csv", result.rows)
    summary = {
        "scenario": scenario.name,
        "attribution": scenario.attribution,
        "interrupted": result.interrupted,
        "training": result.training,
        "rows": {reading: [asdict(row) for row in rows] for reading, rows in result.rows.items()},
    }
    text = json.dumps(without_nan(summary), indent=2, default=str)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    figures = folder / "figures"
    shown = ("truthful", "deep Q", "aggregator")
    for reading, profiles in result.profiles.items():
        picked = {name: profiles[name] for name in shown}
        price_against_billing_cost(
            picked,
            reference.import_price.mean(1),
            reference.export_price.mean(1),
            figures / f"price-{reading}.png",
            f"Market price and the aggregator's billing cost ({scenario.name}, {reading})",
        )
        load_before_and_after(
            {name: profiles[name] for name in ("deep Q", "aggregator")},
            figures / f"load-{reading}.png",
            f"Load before and after stage 2 ({scenario.name}, {reading})",
        )
    if result.rows:
        gains_bars(result.rows, figures / "gains.png")
    console.print(f"scenario {scenario.name}: {scenario.attribution}")
    console.print(f"results in {folder}")
