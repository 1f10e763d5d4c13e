"""`gridmarl compare ev-quota`: a day of the charging stations, played by each policy and planned centrally."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario, default_ev_scenario
from gridmarl.errors import ConfigError
from gridmarl.train.config import TrainConfig
from gridmarl.train.loop import build_agent, train
from gridmarl.train.options import checked_device, parse_settings, read_config
from gridmarl.train.quota.episode import Policy, QuotaEpisode, coordinate, play_day
from gridmarl.train.quota.figure import load_figure
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
from gridmarl.train.run_folder import describe_run, write_json
from gridmarl.train.stage_bar import stage_bar
from gridmarl.train.tables import results_console
from gridmarl.train.train_options import evaluation_seed

if TYPE_CHECKING:
    from gridmarl.train.compare import Compare

ENV = "ev-quota"
NO_TRADE = "no trade"
HEURISTICS = (
    ("uncoordinated", "quota_uncoordinated"),
    (NO_TRADE, "quota_no_trade"),
    ("truthful", "quota_truthful"),
    ("patient", "quota_patient"),
    ("all over-declare", "quota_over_declare"),
)
"""Name in tables, name in the registry."""
_FOREIGN = ("scenario_name", "prices", "homes", "region", "start", "days")


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
    for name in _FOREIGN:
        if getattr(options, name):
            shown = "scenario" if name == "scenario_name" else name
            raise ConfigError(f"--{shown} with {ENV}: sessions are drawn from the packaged tables; allowed is --set")
    params = EVQuotaParams.from_dict(read_config(options.config) | parse_settings(options.set))
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
    for title, columns in (("Energy and load", _ENERGY), ("Money", _MONEY)):
        console.print(_rows_table(title, columns, result.rows))
    for note in _NOTES:
        console.print(f"  {note}", highlight=False)
    if result.over_declaring:
        console.print(_deviations_table(result.over_declaring))
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(QuotaRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in result.rows)
    write_json(folder / "summary.json", asdict(result))
    load_figure(folder / "figures" / "load.png", result.load_kwh, result.margin_kwh)
    console.print(f"Results in {folder}")


def _number(value: float | None, digits: int = 1) -> str:
    return "n/a" if value is None else f"{value:,.{digits}f}"


def _share(row: QuotaRow) -> str:
    if row.gains_share is None:
        return "n/a"
    text = f"{100 * row.gains_share:,.1f}"
    return f"{text} ± {100 * row.gains_share_interval:,.1f} %" if row.gains_share_interval else f"{text} %"


_ENERGY: tuple[tuple[str, Callable[[QuotaRow], str]], ...] = (
    ("delivered\nkWh", lambda row: _number(row.delivered_kwh)),
    ("unserved\nkWh", lambda row: _number(row.unserved_kwh)),
    ("overload\nhalf hours", lambda row: _number(row.overload_half_hours)),
    ("overload\nkWh", lambda row: _number(row.overload_kwh)),
    ("scarce\nhalf hours", lambda row: _number(row.scarce_half_hours)),
    ("traded\nkWh", lambda row: _number(row.traded_kwh)),
    ("over-decl.\nkWh", lambda row: _number(row.over_declared_kwh)),
)
_MONEY: tuple[tuple[str, Callable[[QuotaRow], str]], ...] = (
    ("welfare\ntoken", lambda row: _number(row.welfare_tok, 0)),
    ("gains\nshare, 95 % int.", _share),
    ("stations\ntoken", lambda row: _number(row.reward_tok, 0)),
    ("fee per\nstation", lambda row: _number(row.fee_per_station_tok, 0)),
    ("penalty per\nstation", lambda row: _number(row.penalty_per_station_tok, 0)),
)
_NOTES = (
    "all figures are means per day; uncoordinated stations may charge beyond their quotas",
    "welfare: value of delivered energy less fees and the cost of unserved energy",
    "gains: welfare beyond 'no trade'; the share is of what the coordinator gains",
    "stations: welfare less penalties; penalty: forfeited deposits included",
)


def _rows_table(title: str, columns: tuple[tuple[str, Callable[[QuotaRow], str]], ...], rows: list[QuotaRow]) -> Table:
    table = Table("", title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.name, *(cell(row) for _, cell in columns))
    return table


def _deviations_table(found: list[Deviation]) -> Table:
    title = "One station declares the most it may, the others truthfully"
    heads = ("terms", "it gains, token/day", "over-declared kWh/day")
    table = Table(*heads, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in found:
        table.add_row(row.terms, f"{row.gain_tok:,.1f} ± {row.interval_tok:,.1f}", _number(row.over_declared_kwh))
    return table
