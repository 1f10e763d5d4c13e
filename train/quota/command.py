"""`gridmarl compare ev-quota`: a day of the charging stations, played by each policy and planned centrally."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent
from gridmarl.train.config import TrainConfig
from gridmarl.train.loop import build_agent, train
from gridmarl.train.quota.episode import QuotaEpisode, play_day
from gridmarl.train.quota.figure import load_figure, over_use_figure
from gridmarl.train.quota.market import ENV, NO_TRADE, HeldOut, QuotaMarket
from gridmarl.train.quota.over_use import OverUseTable, learned_rates, learned_row, over_use_table, tried_rates
from gridmarl.train.quota.rows import (
    Deviation,
    QuotaRow,
    deviation_terms,
    deviations,
    policy_of,
)
from gridmarl.train.quota.settings import agent_options
from gridmarl.train.quota.tables import deviations_table, print_over_use, print_rows, write_rows
from gridmarl.train.run_folder import describe_run, remove_earlier, write_json
from gridmarl.train.stage_bar import stage_bar
from gridmarl.train.tables import results_console
from gridmarl.train.train_options import evaluation_seed

if TYPE_CHECKING:
    from gridmarl.train.compare import Compare

HEURISTICS = (
    ("uncoordinated", "quota_uncoordinated"),
    (NO_TRADE, "quota_no_trade"),
    ("truthful", "quota_truthful"),
    ("patient", "quota_patient"),
    ("all over-declare", "quota_over_declare"),
)
"""Name in tables, name in the registry."""


@dataclass
class QuotaComparison:
    """All that a comparison found."""

    rows: list[QuotaRow] = field(default_factory=list)
    load_kwh: dict[str, list[float]] = field(default_factory=dict)
    margin_kwh: list[float] = field(default_factory=list)
    over_declaring: list[Deviation] = field(default_factory=list)
    over_use: OverUseTable | None = None
    interrupted: bool = False


def compare_quota(options: Compare) -> int:
    """Run the comparison; writes config.json, metrics.csv, summary.json and figures/. Exit code 0, or 130 after Ctrl-C.

    Raises:
        ConfigError: an option that is not allowed, or belongs to another environment.
    """
    market = QuotaMarket.of(options)
    options.check()
    if options.dr_settlement != "both":
        raise ConfigError(f"--dr-settlement {options.dr_settlement} with {ENV}: it has one settlement only")
    torch.set_num_threads(options.threads)
    build_agent(*_training(options, market))  # what it refuses ends here, before a folder is made
    folder = options.folder("compare")
    remove_earlier(folder)
    about = {"command": "compare", **describe_run(options), "params": market.params.to_dict()}
    scenario = {"scenario": market.scenario.name, "attribution": market.scenario.attribution}
    write_json(folder / "config.json", about | scenario)
    result = QuotaComparison()
    try:
        _play_all(options, market, folder, result)
    except KeyboardInterrupt:
        result.interrupted = True
    _report(folder, results_console(), result)
    return 130 if result.interrupted else 0


def _play_all(options: Compare, market: QuotaMarket, folder: Path, result: QuotaComparison) -> None:
    lanes, seed = options.episodes, evaluation_seed(options.seed)
    held_out = HeldOut.prepare(market, lanes, seed, options.progress, "coordinator")
    for name, registered in HEURISTICS:
        episode = held_out.references.get(name)
        if episode is None:
            changes = {"overuse": True} if name == "uncoordinated" else {}
            env = market.batched(lanes, action_space="continuous", **changes)
            episode = play_day(env, policy_of(env, registered), seed)
        _add(result, held_out, name, episode)
    agent, result.interrupted = _deep_q(options, market, folder / "deep-q")
    _add(result, held_out, "deep Q", held_out.play(agent, "discrete"))
    _add_coordinator(result, held_out)
    if not result.interrupted and options.exploitability != "off":
        parts = len(deviation_terms(market.params)) * market.params.num_stations
        with stage_bar("over-declaring alone", parts, "stations", options.progress) as advance:
            result.over_declaring = deviations(market.params, market.scenario, lanes, seed, advance)
    if not result.interrupted and options.over_use != "off":
        _over_use(options, market, folder, result)


def _over_use(options: Compare, market: QuotaMarket, folder: Path, result: QuotaComparison) -> None:
    lanes, seed = options.episodes, evaluation_seed(options.seed)
    bound, rates = tried_rates(market)
    with stage_bar("over-use", len(rates), "rates", options.progress) as advance:
        result.over_use = over_use_table(market, lanes, seed, advance)
    if options.over_use != "learn":
        return
    short = replace(options, train_steps=max(1, options.train_steps // 3))
    for rate in learned_rates(bound, rates):
        rules = replace(market.params, overuse=True, penalty_rate_utok_per_wh=rate)
        agent, result.interrupted = _deep_q(short, replace(market, params=rules), folder / f"deep-q-penalty-{rate}")
        if result.interrupted:
            return
        result.over_use.rows.append(learned_row(market, agent, rate, lanes, seed))


def _add(result: QuotaComparison, held_out: HeldOut, name: str, episode: QuotaEpisode) -> None:
    result.rows.append(held_out.row(name, episode))
    result.load_kwh[name] = (episode.used_wh.sum(1).mean(1) / 1_000).tolist()


def _add_coordinator(result: QuotaComparison, held_out: HeldOut) -> None:
    result.rows.append(held_out.coordinator_row())
    load_wh = np.mean([plan.energy_wh.sum(0) for plan in held_out.plans], axis=0)
    result.load_kwh["coordinator"] = (load_wh / 1_000).tolist()
    result.margin_kwh = (held_out.references[NO_TRADE].margin_wh.mean(1) / 1_000).tolist()


def _training(options: Compare, market: QuotaMarket) -> tuple[BatchedEVQuota, TrainConfig]:
    rules = replace(market.params, action_space="discrete")
    lanes = options.train_lanes
    env = replace(market, params=rules).for_training(lanes)
    return env, TrainConfig(
        env_id=env.env_id,
        agent="dqn",
        total_steps=options.train_steps,
        num_envs=lanes,
        seed=options.seed,
        device=options.device,
        checkpoint_interval=max(1, options.train_steps // 4),
        log_interval=max(lanes, options.train_steps // 40),
        agent_options=agent_options("dqn", options.agent_set),
        env_options=rules.to_dict(),
        progress=options.progress,
    )


def _deep_q(options: Compare, market: QuotaMarket, folder: Path) -> tuple[Agent, bool]:
    """A trained agent, and whether its training was cut off."""
    env, config = _training(options, market)
    agent = build_agent(env, config)
    outcome = train(env, agent, config, folder)
    return agent, outcome.interrupted


def _report(folder: Path, console: Console, result: QuotaComparison) -> None:
    if not result.rows:
        return
    print_rows(console, result.rows)
    if result.over_declaring:
        console.print(deviations_table(result.over_declaring))
    if result.over_use is not None:
        print_over_use(console, result.over_use)
        write_rows(folder / "overuse.csv", result.over_use.rows)
        over_use_figure(folder / "figures" / "overuse.png", result.over_use)
    write_rows(folder / "metrics.csv", result.rows)
    write_json(folder / "summary.json", asdict(result))
    load_figure(folder / "figures" / "load.png", result.load_kwh, result.margin_kwh)
    console.print(f"Results in {folder}")
