"""`gridmarl compare ev-quota`: a day of the charging stations, played by each policy and planned centrally."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario, default_ev_scenario
from gridmarl.train.config import TrainConfig
from gridmarl.train.loop import build_agent, train
from gridmarl.train.options import checked_device, parse_settings
from gridmarl.train.quota.episode import Policy, QuotaEpisode, coordinate, play_day
from gridmarl.train.quota.figure import load_figure
from gridmarl.train.quota.market import NO_TRADE, quota_parameters
from gridmarl.train.quota.rows import (
    Array,
    Deviation,
    QuotaRow,
    deviation_terms,
    deviations,
    planned_row,
    played_row,
    policy_of,
)
from gridmarl.train.quota.tables import deviations_table, print_rows, write_rows
from gridmarl.train.run_folder import describe_run, write_json
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
    interrupted: bool = False


def compare_quota(options: Compare) -> int:
    """Run the comparison; writes config.json, metrics.csv, summary.json and figures/. Exit code 0, or 130 after Ctrl-C.

    Raises:
        ConfigError: an option that is not allowed, or belongs to another environment.
    """
    params = quota_parameters(options)
    options.check()
    torch.set_num_threads(options.threads)
    scenario = default_ev_scenario(params.num_stations)
    build_agent(*_training(options, params, scenario))  # what it refuses ends here, before a folder is made
    folder = options.folder("compare")
    about = {"command": "compare", **describe_run(options), "params": params.to_dict()}
    write_json(folder / "config.json", about | {"scenario": scenario.name, "attribution": scenario.attribution})
    result = QuotaComparison()
    try:
        _play_all(options, params, scenario, folder, result)
    except KeyboardInterrupt:
        result.interrupted = True
    _report(folder, results_console(), result)
    return 130 if result.interrupted else 0


def _play_all(
    options: Compare, params: EVQuotaParams, scenario: EVScenario, folder: Path, result: QuotaComparison
) -> None:
    lanes, seed = options.episodes, evaluation_seed(options.seed)

    def market(**changes: object) -> BatchedEVQuota:
        rules = replace(params, **changes)  # type: ignore[arg-type]
        device = checked_device(options.device)
        return BatchedEVQuota(rules, scenario, num_envs=lanes, device=device, auto_reset=False)

    with stage_bar("coordinator", lanes, "lanes", options.progress) as advance:
        plans = coordinate(market(), seed, advance)
    best = np.array([plan.welfare_utok for plan in plans])
    episodes: dict[str, QuotaEpisode] = {}
    for name, registered in HEURISTICS:
        changes = {"overuse": True} if name == "uncoordinated" else {}
        env = market(action_space="continuous", **changes)
        episodes[name] = play_day(env, policy_of(env, registered), seed)
    no_trade = episodes[NO_TRADE].welfare_utok.astype(np.float64)
    for name, episode in episodes.items():
        _add(result, name, episode, no_trade, best)
    policy, result.interrupted = _deep_q(options, params, scenario, folder)
    _add(result, "deep Q", play_day(market(action_space="discrete"), policy, seed), no_trade, best)
    env = market()
    env.reset(seed)
    tariff = env.state.tariff.cpu().numpy().astype(np.float64)
    result.rows.append(planned_row(plans, tariff, params.num_stations, no_trade))
    result.load_kwh["coordinator"] = (np.mean([plan.energy_wh.sum(0) for plan in plans], axis=0) / 1_000).tolist()
    result.margin_kwh = (episodes[NO_TRADE].margin_wh.mean(1) / 1_000).tolist()
    if not result.interrupted and options.exploitability != "off":
        parts = len(deviation_terms(params)) * params.num_stations
        with stage_bar("over-declaring alone", parts, "stations", options.progress) as advance:
            result.over_declaring = deviations(params, scenario, lanes, seed, advance)


def _add(result: QuotaComparison, name: str, episode: QuotaEpisode, no_trade: Array, best: Array) -> None:
    result.rows.append(played_row(name, episode, no_trade, best))
    result.load_kwh[name] = (episode.used_wh.sum(1).mean(1) / 1_000).tolist()


def _training(options: Compare, params: EVQuotaParams, scenario: EVScenario) -> tuple[BatchedEVQuota, TrainConfig]:
    rules = replace(params, action_space="discrete")
    lanes = options.train_lanes
    env = BatchedEVQuota(rules, scenario, num_envs=lanes, device=checked_device(options.device), ledger="off")
    return env, TrainConfig(
        env_id=env.env_id,
        agent="dqn",
        total_steps=options.train_steps,
        num_envs=lanes,
        seed=options.seed,
        device=options.device,
        checkpoint_interval=max(1, options.train_steps // 4),
        log_interval=max(lanes, options.train_steps // 40),
        agent_options=parse_settings(options.agent_set),
        env_options=rules.to_dict(),
        progress=options.progress,
    )


def _deep_q(options: Compare, params: EVQuotaParams, scenario: EVScenario, folder: Path) -> tuple[Policy, bool]:
    """A trained policy, and whether its training was cut off."""
    env, config = _training(options, params, scenario)
    agent = build_agent(env, config)
    outcome = train(env, agent, config, folder / "deep-q")
    return lambda observation: agent.act(observation, explore=False), outcome.interrupted


def _report(folder: Path, console: Console, result: QuotaComparison) -> None:
    if not result.rows:
        return
    print_rows(console, result.rows)
    if result.over_declaring:
        console.print(deviations_table(result.over_declaring))
    write_rows(folder / "metrics.csv", result.rows)
    write_json(folder / "summary.json", asdict(result))
    load_figure(folder / "figures" / "load.png", result.load_kwh, result.margin_kwh)
    console.print(f"Results in {folder}")
