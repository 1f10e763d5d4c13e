"""One row of the comparison per policy in EVQuota, and what declaring more brings to one station alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridmarl.agents.registry import make_agent
from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario
from gridmarl.metrics import mean_and_interval
from gridmarl.optimum.ev_charging import ChargingPlan
from gridmarl.protocols import Agent, AgentContext
from gridmarl.train.comparison import share_interval
from gridmarl.train.quota.alone import play_alone
from gridmarl.train.quota.episode import Policy, QuotaEpisode, play_day
from gridmarl.units import UTOK_PER_TOKEN

Array = NDArray[np.float64]
_SOLVER_WH = 1e-3  # what floating point may leave of a limit that a plan keeps to


@dataclass(frozen=True)
class QuotaRow:
    """Means per lane (a day of all stations); tokens, kWh. None: not defined for this row.

    `gains_share` is welfare beyond allocation without trading over what the coordinator gains beyond it, with the
    half-width of its 95 % interval over lanes. A bill is a station's fees, penalties and payments for quota, less what
    others pay it.
    """

    name: str
    delivered_kwh: float
    unserved_kwh: float
    overload_half_hours: float
    overload_kwh: float
    welfare_tok: float
    gains_share: float | None
    gains_share_interval: float | None
    reward_tok: float | None  # of the stations together, after penalties
    fee_per_station_tok: float
    penalty_per_station_tok: float
    scarce_half_hours: float | None
    traded_kwh: float | None
    over_declared_kwh: float | None
    over_used_kwh: float = 0.0
    bill_per_station_tok: float | None = None
    least_bill_tok: float | None = None  # of the station that pays least
    most_bill_tok: float | None = None


@dataclass(frozen=True)
class Deviation:
    """What one station gains by declaring the most it may, others declaring truthfully; tokens per station and day."""

    terms: str
    gain_tok: float
    interval_tok: float
    over_declared_kwh: float


def played_row(name: str, episode: QuotaEpisode, no_trade: Array, best: Array) -> QuotaRow:
    """The row of a policy that played; `no_trade` and `best` are welfares `[E]` in µtok of the same lanes."""
    lanes, stations = episode.margin_wh.shape[1], episode.used_wh.shape[1]

    def mean(values: NDArray[Any], unit: float = 1_000.0) -> float:
        total: float = values.sum() / (unit * lanes)
        return float(total)

    share, interval = _share(episode.welfare_utok.astype(np.float64), no_trade, best)
    return QuotaRow(
        name=name,
        delivered_kwh=mean(episode.used_wh),
        unserved_kwh=mean(episode.unserved_wh),
        overload_half_hours=mean(episode.overload_wh > 0, 1.0),
        overload_kwh=mean(episode.overload_wh),
        welfare_tok=mean(episode.welfare_utok, UTOK_PER_TOKEN),
        gains_share=share,
        gains_share_interval=interval,
        reward_tok=mean(episode.reward_utok, UTOK_PER_TOKEN),
        fee_per_station_tok=mean(episode.fee_utok, UTOK_PER_TOKEN) / stations,
        penalty_per_station_tok=mean(episode.penalty_utok, UTOK_PER_TOKEN) / stations,
        scarce_half_hours=mean(episode.scarce, 1.0),
        traded_kwh=mean(episode.traded_wh),
        over_declared_kwh=mean(episode.over_declared_wh),
        over_used_kwh=mean(episode.over_used_wh),
        **_bills(episode.bill_utok.mean(1)),
    )


def planned_row(
    plans: Sequence[ChargingPlan], tariff: Array, margin_wh: Array, stations: int, no_trade: Array
) -> QuotaRow:
    """The row of the coordinator.

    Args:
        tariff: `[T]` µtok/Wh.
        margin_wh: `[T, E]`, of which the plans may use the first half hours only.
        no_trade: welfare `[E]` without trading, µtok.
    """
    welfare = np.array([plan.welfare_utok for plan in plans])
    share, interval = _share(welfare, no_trade, welfare)
    load = np.stack([plan.energy_wh.sum(0) for plan in plans], 1)  # [T, E]
    overload = np.maximum(load - margin_wh[: len(load)], 0.0)
    # vehicles lie as [sessions, stations]
    fees = [(plan.energy_wh * tariff[: len(load)]).sum(1).reshape(-1, stations).sum(0) for plan in plans]
    fee = float(np.mean([(plan.energy_wh * tariff[: len(load)]).sum() for plan in plans])) / UTOK_PER_TOKEN
    return QuotaRow(
        name="coordinator",
        delivered_kwh=float(np.mean([plan.energy_wh.sum() for plan in plans])) / 1_000,
        unserved_kwh=float(np.mean([plan.unserved_wh.sum() for plan in plans])) / 1_000,
        overload_half_hours=float((overload > _SOLVER_WH).sum()) / len(plans),
        overload_kwh=float(overload.sum()) / 1_000 / len(plans),
        welfare_tok=float(welfare.mean()) / UTOK_PER_TOKEN,
        gains_share=share,
        gains_share_interval=interval,
        reward_tok=None,
        fee_per_station_tok=fee / stations,
        penalty_per_station_tok=0.0,
        scarce_half_hours=None,
        traded_kwh=None,
        over_declared_kwh=None,
        **_bills(np.mean(fees, axis=0)),
    )


def _bills(by_station: Array) -> dict[str, float]:
    """Mean, least and most of bills `[N]` in µtok."""
    bills = by_station / UTOK_PER_TOKEN
    return {
        "bill_per_station_tok": float(bills.mean()),
        "least_bill_tok": float(bills.min()),
        "most_bill_tok": float(bills.max()),
    }


def _share(welfare: Array, no_trade: Array, best: Array) -> tuple[float | None, float | None]:
    possible = best - no_trade
    if possible.sum() <= 1e-6 * np.abs(best).sum():
        return None, None
    captured = welfare - no_trade
    return float(captured.sum() / possible.sum()), share_interval(captured, possible)


def heuristic(env: BatchedEVQuota, name: str, **options: Any) -> Agent:
    """A registered heuristic for the stations of `env`."""
    context = AgentContext(
        num_envs=env.num_envs,
        num_agents=env.num_agents,
        observation_fields=env.observation_fields,
        action_spec=env.action_spec,
        device=env.device,
        seed=0,
    )
    return make_agent(name, context, **options)


def policy_of(env: BatchedEVQuota, name: str, **options: Any) -> Policy:
    """A registered heuristic as a function from observations to actions."""
    return acting(heuristic(env, name, **options))


def acting(agent: Agent) -> Policy:
    """An agent that does not explore, as a function."""
    return lambda observation: agent.act(observation, explore=False)


def deviation_terms(params: EVQuotaParams) -> dict[str, EVQuotaParams]:
    """Rules under which over-declaring is tried: as they are, unused quota forfeiting part of its deposit, a budget.

    The budget is a deposit for what a station's fair share of the transformer would be.
    """
    share_wh = params.transformer_capacity_w // 2 // params.num_stations
    budget = share_wh * params.deposit_rate_utok_per_wh
    terms = {"as configured": params}
    for permille in (500, 1000):
        terms[f"forfeiting {permille} / 1000"] = replace(params, forfeit_permille=permille)
    terms["deposit rate x 10, forfeiting 1000 / 1000"] = replace(
        params, forfeit_permille=1000, deposit_rate_utok_per_wh=10 * params.deposit_rate_utok_per_wh
    )
    terms[f"budget for {share_wh} Wh"] = replace(params, deposit_budget_utok=budget)
    return terms


def deviations(
    params: EVQuotaParams, scenario: EVScenario, lanes: int, seed: int, on_part: Callable[[], None] | None = None
) -> list[Deviation]:
    """For each rule: every station in turn deviates, in the same lanes; the interval is over lanes."""
    found = []
    for terms, rules in deviation_terms(params).items():
        env = BatchedEVQuota(replace(rules, action_space="continuous"), scenario, num_envs=lanes, auto_reset=False)
        truthful, most = policy_of(env, "quota_truthful"), policy_of(env, "quota_over_declare")
        before = play_day(env, truthful, seed).reward_utok.sum(0)
        after = play_alone(env, truthful, most, seed, on_part)
        gains = (after.reward_utok - before).mean(0) / UTOK_PER_TOKEN
        mean, width = mean_and_interval(gains)
        more = float(after.over_declared_wh.mean()) / 1_000
        found.append(Deviation(terms, mean, width, more))
    return found
