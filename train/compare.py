"""`gridmarl compare`: one market played by each policy, beside the benchmarks by definition, under both readings."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console

from gridmarl.envs.registry import environments
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.checkpoint import CHECKPOINT_FILE
from gridmarl.train.comparison import Profile, Row, market_profile, market_row, plan_profile, plan_row
from gridmarl.train.config import TrainConfig
from gridmarl.train.contest import HEURISTICS, Exploit, agent_for, measured
from gridmarl.train.deviations.exploitability import Exploitability
from gridmarl.train.deviations.table import print_exploitability
from gridmarl.train.figures import comparison_figures
from gridmarl.train.ledger_options import LedgerOptions
from gridmarl.train.ledger_run import play_sealed
from gridmarl.train.loop import build_agent, train
from gridmarl.train.markets import market_entry
from gridmarl.train.options import (
    MAX_LANES,
    MAX_STEPS,
    MarketOptions,
    Settings,
    check_range,
    parse_settings,
)
from gridmarl.train.planning import Benchmarks, plan_benchmarks
from gridmarl.train.policies import is_policy, market_of
from gridmarl.train.rollout import play
from gridmarl.train.run_folder import describe_run, describe_scenario, remove_earlier, write_json
from gridmarl.train.runs import Kept
from gridmarl.train.stage_bar import stage_bar
from gridmarl.train.tables import print_comparison, results_console, write_metrics
from gridmarl.train.train_options import evaluation_seed

DEFAULT_EPISODES = 8
PEER_TO_PEER = "p2p"
"""In place of an environment: a comparison in which nothing is trained (docs/p2p.md)."""
Reading = Literal["two_settlement", "additive"]
OverUseTable = Literal["table", "learn", "off"]


@dataclass(kw_only=True)
class Compare(LedgerOptions, MarketOptions):
    """Train deep-Q prosumers and compare: no market, zero-intelligence, truthful, inflate, deep Q, central
    aggregator. With runs in place of an environment: compare these instead, in the market of the first. With p2p:
    forms of peer-to-peer trade on the same homes."""

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[RUN ...]", help_behavior_hint="")
    ] = ()
    """Folders of training runs, or policies saved by Stable-Baselines3 (.zip); nothing is trained then."""
    dr_settlement: Literal["both", "two_settlement", "additive"] = "both"
    """Reading of the demand-response incentive."""
    lanes: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Evaluation episodes, the same for every row; default: 8, and of runs those of the first run's own comparison."""
    eval_seed: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Of runs: seed of the episodes; default: those of the first run's own comparison."""
    checkpoint: Kept = "last"
    """Of runs: the policy at the end of training, or that of the best evaluation."""
    exploitability: Exploit = "search"
    """What each prosumer would gain by deviating alone from truthful bidding or a trained policy: by batched search,
    fresh learners (slower), or both."""
    over_use: OverUseTable = "table"
    """Of ev-quota: charging beyond the quota at different penalty rates, by a heuristic, by deep Q as well (learn:
    trained for each of three rates, a third of --train-steps each), or not at all."""
    train_steps: Annotated[int, tyro.conf.arg(metavar="N")] = 360_000
    """Training of the deep-Q prosumers per reading, in steps of one lane."""
    train_lanes: Annotated[int, tyro.conf.arg(metavar="N")] = 64
    """Lanes that train in parallel."""
    agent_set: Settings = ()
    """Options of the deep-Q agent, e.g. learning_rate=0.0005."""

    @property
    def episodes(self) -> int:
        """Evaluation episodes of an environment's comparison."""
        return DEFAULT_EPISODES if self.lanes is None else self.lanes

    def check(self) -> None:
        """See `MarketOptions.check`."""
        super().check()
        check_range("lanes", self.episodes, 1, MAX_LANES)
        check_range("train_lanes", self.train_lanes, 1, MAX_LANES)
        check_range("train_steps", self.train_steps, 1, MAX_STEPS)
        if "dr_settlement" in parse_settings(self.set):
            raise ConfigError("--set dr_settlement: compare chooses it; allowed is --dr-settlement")

    def run(self) -> int:
        """Run the comparison; exit code 0, or 130 after Ctrl-C (the run folder keeps what was done)."""
        if self.over_use != "table" and self.env not in ("ev-quota", environments()["ev-quota"].env_id):
            raise ConfigError(f"--over-use {self.over_use} with {self.env}: belongs to ev-quota; allowed is none")
        if self.env == PEER_TO_PEER:
            from gridmarl.train.p2p.command import compare_p2p

            return compare_p2p(self)
        paths = self.policies()
        if not paths:
            code: int = market_entry(self.env).load("compare")(self)
            return code
        check_range("lanes", self.episodes, 1, MAX_LANES)
        return self._compare_policies(paths)

    def _compare_policies(self, paths: list[Path]) -> int:
        asked_for = len(paths) == len(self.runs)
        market: MarketOptions = self if asked_for else replace(self, env=MarketOptions.env)
        entry = market_of(market, paths)
        if entry is not market_entry(market.env):
            if asked_for:
                raise ConfigError(f"env: {self.env!r}, but the runs are of {entry.env}; allowed is {entry.env}")
            market = replace(market, env=entry.env)
        code: int = entry.load("compare_policies")(
            market, paths, self.lanes, self.checkpoint, self.eval_seed, self.exploitability
        )
        return code

    def policies(self) -> list[Path]:
        """The runs to compare; the first of them stands where an environment may stand."""
        known = environments()
        if self.env in known or any(self.env == entry.env_id for entry in known.values()):
            return list(self.runs)
        if is_policy(Path(self.env)):
            return [Path(self.env), *self.runs]
        raise ConfigError(
            f"{self.env!r}: neither an environment nor a run; allowed are {', '.join(sorted(known))}, {PEER_TO_PEER}, "
            "the folder of a run, or a policy saved by Stable-Baselines3 (.zip)"
        )


@dataclass
class Comparison:
    """All that a comparison found."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Profile]] = field(default_factory=dict)
    training: dict[str, dict[str, float]] = field(default_factory=dict)
    exploitability: dict[str, dict[str, Exploitability]] = field(default_factory=dict)
    import_price: Any = None
    export_price: Any = None
    interrupted: bool = False


def run_compare(options: Compare) -> int:
    """See `Compare`; writes config.json, metrics.csv, summary.json, figures/, checkpoint*.pt and ledger.bin."""
    console = results_console()
    options.check()
    torch.set_num_threads(options.threads)
    readings = ["two_settlement", "additive"] if options.dr_settlement == "both" else [options.dr_settlement]
    params = {name: options.parameters(dr_settlement=name) for name in readings}
    scenario = options.scenario()
    _try_out(options, params[readings[0]], scenario)  # bad input ends here, before a folder is made
    folder = options.folder("compare")
    remove_earlier(folder)
    config = {
        "command": "compare",
        **describe_run(options),
        "readings": readings,
        "params": params[readings[0]].to_dict(),
        "scenario": describe_scenario(options, scenario),
        "attribution": scenario.attribution,
    }
    write_json(folder / "config.json", config)
    result = Comparison()
    try:
        benchmarks = _benchmarks(options, params[readings[0]], scenario, result)
        for reading in readings:
            _one_reading(options, reading, params[reading], scenario, benchmarks, folder, result)
            if result.interrupted:
                break
    except KeyboardInterrupt:
        result.interrupted = True
    _report(folder, console, scenario, result)
    return 130 if result.interrupted else 0


def _try_out(options: Compare, params: TwoStageDRParams, scenario: Scenario) -> None:
    """Build everything once that can be refused: environments, training settings, the learner and its options."""
    options.batched(params, scenario, options.episodes)
    options.sealing(params.num_prosumers)
    env = options.batched(replace(params, action_space="discrete"), options.training_scenario(), options.train_lanes)
    build_agent(env, _train_config(options, env.env_id, params))


def _benchmarks(options: Compare, params: TwoStageDRParams, scenario: Scenario, result: Comparison) -> Benchmarks:
    """Both benchmarks depend on homes and prices only, so one solution serves every row and reading."""
    params = replace(params, action_space="continuous")
    env = options.batched(params, scenario, options.episodes, auto_reset=False)
    agent = agent_for(options, params, scenario, "truthful", options.episodes)
    episode = play(env, agent, evaluation_seed(options.seed))
    result.import_price, result.export_price = episode.import_price.mean(1), episode.export_price.mean(1)
    with stage_bar("central planner", options.episodes, "lanes", options.progress) as advance:
        return plan_benchmarks(params, episode, advance)


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
    rows = result.rows[reading] = [plan_row("no market", benchmarks.no_market, benchmarks, central=False)]
    profiles = result.profiles[reading] = {}

    def add(name: str, market: TwoStageDRParams, agent: Agent) -> None:
        env = options.batched(market, scenario, options.episodes, auto_reset=False)
        with stage_bar(f"evaluation of {name}", market.horizon_hours, "hours", options.progress) as advance:
            episode = play(env, agent, seed, on_hour=lambda _: advance())
        rows.append(market_row(name, episode, benchmarks))
        profiles[name] = market_profile(episode)

    continuous, discrete = (replace(params, action_space=kind) for kind in ("continuous", "discrete"))
    gains = result.exploitability[reading] = {}

    def measure(name: str, market: TwoStageDRParams, agent: Agent) -> None:
        if options.exploitability != "off" and not result.interrupted:
            method, lanes = options.exploitability, options.episodes
            gains[name] = measured(options, market, scenario, agent, name, lanes, seed, method)

    for name, registered in HEURISTICS:
        add(name, continuous, agent_for(options, continuous, scenario, registered, options.episodes))
    trained, training, interrupted = _train_deep_q(options, reading, discrete, folder)
    result.training[reading], result.interrupted = training, interrupted
    add("deep Q", discrete, trained)
    ledger = "ledger.bin" if len(result.rows) == 1 else f"ledger-{reading}.bin"
    play_sealed(options, discrete, scenario, trained, seed, folder / ledger, options)
    rows.append(plan_row("aggregator", benchmarks.first_best, benchmarks, central=True))
    profiles["aggregator"] = plan_profile(benchmarks.first_best)
    measure("truthful", continuous, agent_for(options, continuous, scenario, "truthful", options.episodes))
    measure("deep Q", discrete, trained)


def _train_config(options: Compare, env_id: str, params: TwoStageDRParams) -> TrainConfig:
    return TrainConfig(
        env_id=env_id,
        agent="dqn",
        total_steps=options.train_steps,
        num_envs=options.train_lanes,
        seed=options.seed,
        device=options.device,
        checkpoint_interval=max(1, options.train_steps // 4),
        log_interval=max(options.train_lanes, options.train_steps // 40),
        agent_options=parse_settings(options.agent_set),
        env_options=params.to_dict(),
        progress=options.progress,
    )


def _train_deep_q(
    options: Compare, reading: str, params: TwoStageDRParams, folder: Path
) -> tuple[Agent, dict[str, float], bool]:
    """Train on the training scenario; returns the agent, what to report of its training, and whether it was cut off."""
    env = options.batched(params, options.training_scenario(), options.train_lanes)
    config = _train_config(options, env.env_id, params)
    run = folder / f"deep-q-{reading}"
    agent = build_agent(env, config)
    outcome = train(env, agent, config, run)
    if (run / CHECKPOINT_FILE).exists():
        shutil.copyfile(run / CHECKPOINT_FILE, folder / f"checkpoint-{reading}.pt")
    report = {"env_steps": outcome.env_steps, "seconds": outcome.seconds, "steps_per_s": outcome.steps_per_s}
    return agent, report, outcome.interrupted


def _report(folder: Path, console: Console, scenario: Scenario, result: Comparison) -> None:
    """metrics.csv, summary.json and figures to the folder; then tables to the terminal."""
    write_metrics(folder / "metrics.csv", result.rows)
    summary = {
        "scenario": scenario.name,
        "attribution": scenario.attribution,
        "interrupted": result.interrupted,
        "training": result.training,
        "rows": {reading: [asdict(row) for row in rows] for reading, rows in result.rows.items()},
        "hourly": {
            reading: {name: profile.to_dict() for name, profile in profiles.items()}
            for reading, profiles in result.profiles.items()
        },
    }
    summary["exploitability"] = {
        reading: {name: item.to_dict() for name, item in found.items()}
        for reading, found in result.exploitability.items()
    }
    write_json(folder / "summary.json", summary)
    comparison_figures(
        folder / "figures", scenario.name, result.rows, result.profiles, result.import_price, result.export_price
    )
    print_comparison(console, result.rows)
    for reading, found in result.exploitability.items():
        print_exploitability(console, found, f"dr_settlement = {reading}")
    console.print(f"scenario {scenario.name}: {scenario.attribution}", highlight=False)
    if result.interrupted:
        console.print("interrupted: rows are missing, or deep Q is only partly trained", highlight=False)
    console.print(f"results in {folder}", highlight=False, soft_wrap=True)
