"""Trained policies, heuristics and the coordinator in the same days of EVQuota: rows, loads, welfare day by day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.train.contest import Contender, mean_row
from gridmarl.train.markets import market_entry
from gridmarl.train.policies import Policies
from gridmarl.train.quota.command import HEURISTICS
from gridmarl.train.quota.episode import QuotaEpisode, play_day
from gridmarl.train.quota.market import ENV, NO_TRADE, HeldOut, QuotaMarket
from gridmarl.train.quota.rows import QuotaRow, policy_of
from gridmarl.units import UTOK_PER_TOKEN

COORDINATOR = "coordinator"
WH_PER_KWH = 1_000.0


@dataclass
class QuotaContest:
    """Outcome; names are those of the rows' policies, of several seeds without their number.

    Attributes:
        rows: in the order of the tables; of several seeds their mean.
        by_seed: of each trained policy.
        load_kwh: mean energy of each half hour, `[T]`.
        welfare_tok: of each day.
        bills_tok: what each station pays in a day, `[N]`: fees, penalties, payments for quota less income; played
            policies only.
    """

    held_out: HeldOut
    rows: list[QuotaRow] = field(default_factory=list)
    by_seed: dict[str, dict[int, QuotaRow]] = field(default_factory=dict)
    load_kwh: dict[str, list[float]] = field(default_factory=dict)
    welfare_tok: dict[str, list[float]] = field(default_factory=dict)
    bills_tok: dict[str, list[float]] = field(default_factory=dict)

    @property
    def margin_kwh(self) -> list[float]:
        """What the transformer leaves for vehicles in each half hour, `[T]`, mean over the days."""
        margin: list[float] = (self.held_out.references[NO_TRADE].margin_wh.mean(1) / WH_PER_KWH).tolist()
        return margin

    @property
    def all_rows(self) -> list[QuotaRow]:
        """The rows, and after the mean of several seeds a row of each."""
        shown = []
        for row in self.rows:
            shown.append(row)
            for name, seeds in self.by_seed.items():
                if len(seeds) > 1 and row.name == f"{name} ({len(seeds)} seeds)":
                    shown += seeds.values()
        return shown

    def to_dict(self) -> dict[str, Any]:
        """For summary.json and evaluation.json."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "rows_by_seed": {
                name: {seed: asdict(row) for seed, row in seeds.items()} for name, seeds in self.by_seed.items()
            },
            "levels": self.held_out.levels(),
            "load_kwh": self.load_kwh,
            "margin_kwh": self.margin_kwh,
            "welfare_by_day_tok": self.welfare_tok,
            "bills_by_station_tok": self.bills_tok,
        }


def quota_market(policies: Policies) -> QuotaMarket:
    """The market that the policies play."""
    return QuotaMarket(policies.params, policies.scenario, policies.options.device)


def hold_quota(policies: Policies, lanes: int, seed: int) -> QuotaContest:
    """Play the heuristics and every policy in the same `lanes` days, and plan these centrally.

    Raises:
        DataError: a policy whose checkpoint cannot be read.
    """
    market = quota_market(policies)
    held_out = HeldOut.prepare(market, lanes, seed, policies.options.progress, COORDINATOR)
    contest = QuotaContest(held_out)
    for name, registered in HEURISTICS:
        contest.rows.append(held_out.row(name, episode := _heuristic(held_out, name, registered)))
        _keep(contest, name, [episode])
    for contender in policies.contenders:
        episodes = {trained: play(held_out, contender, trained) for trained in contender.policies}
        several = len(episodes) > 1
        contest.by_seed[contender.name] = {
            trained: held_out.row(f"{contender.name}, seed {trained}" if several else contender.name, episode)
            for trained, episode in episodes.items()
        }
        contest.rows.append(mean_row(contender.name, list(contest.by_seed[contender.name].values())))
        _keep(contest, contender.name, list(episodes.values()))
    _add_coordinator(contest)
    return contest


def play(held_out: HeldOut, contender: Contender, trained: int) -> QuotaEpisode:
    """The held-out days under a policy as one of its seeds has learned it."""
    agent = contender.policies[trained](held_out.lanes)
    env = env_for(held_out, contender)
    return play_day(env, lambda observation: agent.act(observation, explore=False), held_out.seed)


def env_for(held_out: HeldOut, contender: Contender) -> BatchedEVQuota:
    """The held-out days with what a policy may choose from."""
    own = {name: getattr(contender.params, name) for name in market_entry(ENV).own}
    return held_out.market.batched(held_out.lanes, **own)


def _heuristic(held_out: HeldOut, name: str, registered: str) -> QuotaEpisode:
    played = held_out.references.get(name)
    if played is not None:
        return played
    changes = {"overuse": True} if name == "uncoordinated" else {}
    env = held_out.market.batched(held_out.lanes, action_space="continuous", **changes)
    return play_day(env, policy_of(env, registered), held_out.seed)


def _keep(contest: QuotaContest, name: str, episodes: Sequence[QuotaEpisode]) -> None:
    """Means over the seeds."""
    load = np.mean([episode.used_wh.sum(1).mean(1) for episode in episodes], axis=0)
    welfare = np.mean([episode.welfare_utok for episode in episodes], axis=0)
    paid = np.mean([(episode.value_utok - episode.reward_utok).sum(0).mean(1) for episode in episodes], axis=0)
    contest.load_kwh[name] = (load / WH_PER_KWH).tolist()
    contest.welfare_tok[name] = (welfare / UTOK_PER_TOKEN).tolist()
    contest.bills_tok[name] = (paid / UTOK_PER_TOKEN).tolist()


def _add_coordinator(contest: QuotaContest) -> None:
    plans = contest.held_out.plans
    contest.rows.append(contest.held_out.coordinator_row())
    load = np.mean([plan.energy_wh.sum(0) for plan in plans], axis=0)
    contest.load_kwh[COORDINATOR] = (load / WH_PER_KWH).tolist()
    contest.welfare_tok[COORDINATOR] = [plan.welfare_utok / UTOK_PER_TOKEN for plan in plans]
