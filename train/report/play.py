"""What only playing shows: orders of chosen hours, balances at the end, and that no money was made or lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gridmarl.envs.rendering.curves import WH_PER_KWH, MarketHour
from gridmarl.envs.two_stage_dr.render import market_hour
from gridmarl.envs.two_stage_dr.step import Settled
from gridmarl.train.comparison import UTOK_PER_WH_PER_TOKEN_PER_KWH
from gridmarl.train.contest import Contender, heuristic
from gridmarl.train.policies import Policies
from gridmarl.train.rollout import play
from gridmarl.train.stage_bar import stage_bar

ASKED_FOR = "--hours asks for it"


@dataclass(frozen=True)
class View:
    """One policy's episodes, seen from outside.

    Attributes:
        seed: of its training; None for one that was not trained.
        markets: every hour of the first episode.
        change_utok: `[P + 3, E]` int64, what each account gained over the episode: prosumers, market, operator,
            upstream grid.
    """

    name: str
    seed: int | None
    markets: Sequence[MarketHour]
    change_utok: NDArray[np.int64]

    @property
    def label(self) -> str:
        """Name, and which of several seeds."""
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"

    @property
    def residual_utok(self) -> int:
        """Greatest sum over all accounts of an episode, µtok; 0, or money was made or lost."""
        return int(np.abs(self.change_utok.sum(0)).max())


@dataclass(frozen=True)
class ChosenHour:
    """An hour whose market curves are shown, and why."""

    hour: int
    reasons: tuple[str, ...]

    @property
    def name(self) -> str:
        """Day and time of day."""
        day, hour = divmod(self.hour, 24)
        return f"Day {day + 1}, {hour:02d}:00 to {hour + 1:02d}:00"


def watch(policies: Policies, contender: Contender | None, lanes: int) -> View:
    """Play a policy (of several seeds: the least) in the episodes of its contest.

    Args:
        contender: one of the policies; None: truthful bidding.
    """
    options, scenario = policies.options, policies.scenario
    shown = contender or heuristic(options, policies.params, scenario, "truthful", "truthful")
    trained = min(shown.policies)
    env = options.batched(shown.params, scenario, lanes, auto_reset=False)
    env.reset(policies.eval_seed)
    before = env.state.balances.cpu().numpy().copy()
    markets: list[MarketHour] = []
    last: list[Settled] = []
    with stage_bar(f"market of {shown.name}", shown.params.horizon_hours, "hours", options.progress) as advance:

        def on_hour(settled: Settled) -> None:
            markets.append(market_hour(settled))
            last[:] = [settled]
            advance()

        play(env, shown.policies[trained](lanes), policies.eval_seed, on_hour)
    change = last[0].balances.cpu().numpy() - before
    return View(shown.name, trained if len(shown.policies) > 1 else None, markets, change)


def choose_hours(
    markets: Sequence[MarketHour], break_even_utok_per_wh: NDArray[np.float64], asked: Sequence[int] = ()
) -> list[ChosenHour]:
    """Hours worth looking at: of the greatest shortage and surplus and the greatest price gap; or those asked for.

    Args:
        markets: hours of an episode, in order.
        break_even_utok_per_wh: the aggregator's price in each, `[T]`.
        asked: hours of the episode.
    """
    if asked:
        return [ChosenHour(hour, (ASKED_FOR,)) for hour in sorted(set(asked))]
    balance = np.array([int(item.buy_wh.sum() - item.sell_wh.sum()) for item in markets])
    shortage = np.array([item.shortage_wh for item in markets])
    gap = np.abs(np.array([item.price_utok_per_wh for item in markets]) - break_even_utok_per_wh)
    found: dict[int, list[str]] = {}
    if shortage.max() > 0:
        _note(found, shortage, f"it has the greatest shortage of the episode, {shortage.max() / WH_PER_KWH:.2f} kWh")
    if balance.min() < 0:
        _note(
            found,
            -balance,
            f"it has the greatest surplus, {-balance.min() / WH_PER_KWH:.2f} kWh more offered than demanded",
        )
    widest = gap.max() / UTOK_PER_WH_PER_TOKEN_PER_KWH
    _note(found, gap, f"it has the widest gap to the aggregator's break-even price, {widest:.2f} token/kWh")
    return [ChosenHour(hour, tuple(reasons)) for hour, reasons in sorted(found.items())]


def _note(found: dict[int, list[str]], values: NDArray[np.float64] | NDArray[np.int64], reason: str) -> None:
    found.setdefault(int(np.argmax(values)), []).append(reason)


def with_policies(contender: Contender, seeds: set[int]) -> Contender | None:
    """The contender with these seeds only; None where none is left."""
    kept = {seed: policy for seed, policy in contender.policies.items() if seed in seeds}
    return replace(contender, policies=kept) if kept else None
