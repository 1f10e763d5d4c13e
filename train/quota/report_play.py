"""What only playing EVQuota shows: orders of chosen half hours, accounts at the end, that no money was made or lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.panels import clock
from gridmarl.envs.ev_quota.render import QuotaHalfHour, quota_half_hour
from gridmarl.envs.rendering.curves import WH_PER_KWH
from gridmarl.protocols import Agent
from gridmarl.train.contest import Contender
from gridmarl.train.markets import market_entry
from gridmarl.train.quota.contest import env_for
from gridmarl.train.quota.market import ENV, TRUTHFUL, HeldOut
from gridmarl.train.quota.rows import heuristic
from gridmarl.train.quota.watching import watch_day
from gridmarl.train.report.play import ASKED_FOR

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PlayedDays:
    """One policy's days, seen from outside.

    Attributes:
        seed: of its training; None for one that was not trained, or has one seed only.
        half_hours: all of the first day.
        change_utok: `[N + 1, E]` int64, what each account gained over the day: stations, then the DSO.
    """

    name: str
    seed: int | None
    half_hours: Sequence[QuotaHalfHour]
    change_utok: Integers

    @property
    def label(self) -> str:
        """Name, and which of several seeds."""
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"

    @property
    def residual_utok(self) -> int:
        """Greatest sum over all accounts of a day, µtok; 0, or money was made or lost."""
        return int(np.abs(self.change_utok.sum(0)).max())


@dataclass(frozen=True)
class ChosenHalfHour:
    """A half hour whose orders are shown, and why.

    Attributes:
        index: in the day that is played.
        start_slot: half hour of the clock at which that day begins.
    """

    index: int
    start_slot: int
    reasons: tuple[str, ...]

    @property
    def name(self) -> str:
        """Time of day."""
        slot = self.start_slot + self.index
        return f"{clock(slot)} to {clock(slot + 1)}"


def watch_truthful(held_out: HeldOut) -> PlayedDays:
    """The truthful stations' days."""
    env = held_out.market.batched(held_out.lanes, action_space="continuous")
    return _watch(TRUTHFUL, None, env, heuristic(env, market_entry(ENV).truthful), held_out.seed)


def watch(held_out: HeldOut, contender: Contender) -> PlayedDays:
    """A policy's days (of several seeds: the least)."""
    trained = min(contender.policies)
    agent, env = contender.policies[trained](held_out.lanes), env_for(held_out, contender)
    shown = trained if len(contender.policies) > 1 else None
    return _watch(contender.name, shown, env, agent, held_out.seed)


def _watch(name: str, trained: int | None, env: BatchedEVQuota, agent: Agent, seed: int) -> PlayedDays:
    env.reset(seed)
    before = env.state.balances.cpu().numpy().copy()
    half_hours: list[QuotaHalfHour] = []
    watch_day(env, agent, seed, lambda settled: half_hours.append(quota_half_hour(settled)))
    return PlayedDays(name, trained, half_hours, env.state.balances.cpu().numpy() - before)


def short_wh(shown: QuotaHalfHour) -> int:
    """How much more was declared than the transformer leaves."""
    return max(0, int(shown.declared_wh.sum()) - shown.margin_wh)


def choose_half_hours(views: Sequence[PlayedDays], start_slot: int, asked: Sequence[int] = ()) -> list[ChosenHalfHour]:
    """Half hours worth looking at: most traded by each policy, greatest shortage; or those asked for.

    Args:
        views: the truthful stations', then the policies'.
        start_slot: half hour of the clock at which a day begins.
        asked: half hours of the day.
    """
    if asked:
        return [ChosenHalfHour(index, start_slot, (ASKED_FOR,)) for index in sorted(set(asked))]
    found: dict[int, list[str]] = {}
    for view in views:
        traded = np.array([item.book.volume_wh for item in view.half_hours])
        if traded.max() > 0:
            told = f"{view.label} trades most in it, {traded.max() / WH_PER_KWH:.2f} kWh"
            found.setdefault(int(np.argmax(traded)), []).append(told)
    first = views[min(1, len(views) - 1)]
    short = np.array([short_wh(item) for item in first.half_hours])
    if short.max() > 0:
        told = f"{first.label} declares most beyond the margin, {short.max() / WH_PER_KWH:.2f} kWh"
        found.setdefault(int(np.argmax(short)), []).append(told)
    return [ChosenHalfHour(index, start_slot, tuple(reasons)) for index, reasons in sorted(found.items())]
