"""What a penalty rate does to charging beyond the quota: who over-uses how much, what it costs, who gains by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gridmarl.agents.quota_over_use import OverUse
from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.metrics import mean_and_interval
from gridmarl.protocols import Agent
from gridmarl.train.quota.alone import play_alone
from gridmarl.train.quota.episode import Policy, QuotaEpisode, play_day
from gridmarl.train.quota.market import QuotaMarket
from gridmarl.train.quota.rows import acting, heuristic, policy_of
from gridmarl.units import UTOK_PER_TOKEN

COMPLYING = "complying"
BEST_RESPONSE = "over-use"
_MOST_ALONE = 8  # stations that deviate alone, evenly spaced where there are more: time grows with the square
_PARTS = 10  # of the range of rates in which over-use can pay
_UTOK_PER_TOK_KWH = 1_000


@dataclass(frozen=True)
class OverUseRow:
    """Means per lane (a day of all stations) at one penalty rate; tokens, kWh.

    `alone_gain_tok` is what one station gains by over-using where it pays while the others comply, with the half-width
    of its 95 % interval over lanes. `rate` is None where no penalty is ever due.
    """

    policy: str
    rate_tok_per_kwh: float | None
    over_used_kwh: float
    overload_half_hours: float
    overload_kwh: float
    unserved_kwh: float
    penalty_tok: float
    welfare_tok: float
    stations_tok: float
    dso_income_tok: float  # fees, penalties, forfeited deposits
    alone_gain_tok: float | None = None
    alone_interval_tok: float | None = None


@dataclass
class OverUseTable:
    """Rows by rate, and the rates from which complying pays, in token/kWh.

    `bound` follows from values and tariffs alone: no Wh can be worth more. `ends` is the highest worth of a Wh beyond
    the quota in the days that were played: from there on nothing is over-used. From `alone_from` on, of the rates that
    were tried, a station gains nothing by over-using alone; from `all_from` on all stations together gain nothing.
    """

    bound: float
    ends: float
    rows: list[OverUseRow]
    alone_from: float | None
    all_from: float | None


def highest_worth(params: EVQuotaParams, tariff: Sequence[int]) -> int:
    """The penalty rate from which no over-use pays, µtok/Wh, whatever the sessions.

    An urgent Wh is worth at most `value_high + unserved - lowest tariff`, an elastic one what the tariff rises by.

    Args:
        tariff: of every half hour, µtok/Wh.
    """
    rise = max((max(tariff[now:]) - price for now, price in enumerate(tariff)), default=0)
    return max(0, rise, params.value_high_utok_per_wh + params.unserved_utok_per_wh - min(tariff))


def rate_grid(bound: int, configured: int) -> list[int]:
    """Rates to try, µtok/Wh: from 0 in equal round steps to `bound` or just above it, and the configured one."""
    step = math.ceil(bound / _PARTS)
    unit = 10 ** max(0, len(str(step)) - 1)
    step = max(1, math.ceil(step / unit) * unit)
    return sorted({*range(0, bound + step, step), configured})


def tried_rates(market: QuotaMarket) -> tuple[int, list[int]]:
    """The bound of `highest_worth` and the rates of the table, µtok/Wh."""
    env = market.batched(1)
    env.reset(0)
    bound = highest_worth(market.params, env.state.tariff.tolist())
    return bound, rate_grid(bound, market.params.penalty_rate_utok_per_wh)


def learned_rates(bound: int, rates: Sequence[int]) -> list[int]:
    """Where a learner is trained: at a quarter and at half of the range, and where over-use does not pay any more."""
    within = rates[: 1 + next(index for index, rate in enumerate(rates) if rate >= bound)]
    return sorted({within[len(within) // 4], within[len(within) // 2], within[-1]})


def over_use_table(
    market: QuotaMarket, lanes: int, seed: int, on_rate: Callable[[], None] | None = None
) -> OverUseTable:
    """Patient stations that charge beyond their quotas where it pays, at each rate, all of them, and one alone.

    Each station in turn is that one, or eight of them, evenly spaced, where there are more.
    """
    bound, rates = tried_rates(market)
    env = over_use_market(market, rates[0], lanes, "continuous")
    judge = heuristic(env, "quota_over_use")
    assert isinstance(judge, OverUse)
    watched = _Watched(policy_of(env, "quota_patient"), judge)
    before = play_day(env, watched, seed)  # the same at every rate, since no penalty is due
    rows = [over_use_row(COMPLYING, None, before)]
    count = market.params.num_stations
    stations = (
        [count * index // _MOST_ALONE for index in range(_MOST_ALONE)] if count > _MOST_ALONE else [*range(count)]
    )
    for rate in rates:
        env = over_use_market(market, rate, lanes, "continuous")
        over_using = policy_of(env, "quota_over_use", penalty_rate_utok_per_wh=rate)
        row = over_use_row(BEST_RESPONSE, rate, play_day(env, over_using, seed))
        alone = play_alone(env, watched.policy, over_using, seed, stations=stations).reward_utok
        alone = alone - before.reward_utok.sum(0)[stations]
        mean, width = mean_and_interval(alone.mean(0) / UTOK_PER_TOKEN)
        rows.append(replace(row, alone_gain_tok=mean, alone_interval_tok=width))
        if on_rate is not None:
            on_rate()
    return OverUseTable(
        bound=bound / _UTOK_PER_TOK_KWH,
        ends=watched.highest / _UTOK_PER_TOK_KWH,
        rows=rows,
        alone_from=_from_which(rows[1:], lambda row: (row.alone_gain_tok or 0.0) <= 0),
        all_from=_from_which(rows[1:], lambda row: row.stations_tok <= rows[0].stations_tok),
    )


def over_use_market(market: QuotaMarket, rate: int, lanes: int, action_space: str) -> BatchedEVQuota:
    """The market with over-use allowed at a penalty rate, µtok/Wh."""
    return market.batched(lanes, overuse=True, penalty_rate_utok_per_wh=rate, action_space=action_space)


def learned_row(market: QuotaMarket, agent: Agent, rate: int, lanes: int, seed: int) -> OverUseRow:
    """What a trained agent does at a rate."""
    return over_use_row("deep Q", rate, play_day(over_use_market(market, rate, lanes, "discrete"), acting(agent), seed))


def over_use_row(policy: str, rate: int | None, episode: QuotaEpisode) -> OverUseRow:
    """The figures of a day that was played."""
    lanes = episode.margin_wh.shape[1]
    kwh, tokens = 1_000 * lanes, UTOK_PER_TOKEN * lanes
    return OverUseRow(
        policy=policy,
        rate_tok_per_kwh=None if rate is None else rate / _UTOK_PER_TOK_KWH,
        over_used_kwh=float(episode.over_used_wh.sum() / kwh),
        overload_half_hours=float((episode.overload_wh > 0).sum() / lanes),
        overload_kwh=float(episode.overload_wh.sum() / kwh),
        unserved_kwh=float(episode.unserved_wh.sum() / kwh),
        penalty_tok=float(episode.penalty_utok.sum() / tokens),
        welfare_tok=float(episode.welfare_utok.sum() / tokens),
        stations_tok=float(episode.reward_utok.sum() / tokens),
        dso_income_tok=float((episode.fee_utok + episode.penalty_utok).sum() / tokens),
    )


class _Watched:
    """A policy, and what the Wh were worth that it leaves uncharged because of its quotas."""

    def __init__(self, policy: Policy, judge: OverUse) -> None:
        self.policy, self.judge, self.highest = policy, judge, 0

    def __call__(self, observation: Tensor) -> Tensor:
        self.highest = max(self.highest, int(torch.amax(self.judge.complies_from(observation))))
        return self.policy(observation)


def _from_which(rows: Sequence[OverUseRow], holds: Callable[[OverUseRow], bool]) -> float | None:
    """Lowest rate from which on something holds; None if not even at the highest."""
    found = None
    for row in reversed(rows):
        if not holds(row):
            break
        found = row.rate_tok_per_kwh
    return found
