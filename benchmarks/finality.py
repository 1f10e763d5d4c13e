"""What finality does to earnings: the same truthful prosumers and days under each consensus mechanism's lag.

    python -m benchmarks.finality [--quick] [--output FILE]

Truthful prosumers (one order at the import price) bid in the same episodes: first with instant finality, then with
strict finality at the lag of each mechanism, for some initial balances and credit limits (docs/finality.md). Blocks are
hours, so a lag of six blocks is six hours. Interest is charged in all strict rows. The gains from trade are those of
docs/performance.md's planner, solved once: prices and homes are the same in all rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.provenance import RESULTS, provenance, rounded, write_csv
from gridmarl.agents.registry import make_agent
from gridmarl.consensus import Network
from gridmarl.consensus.registry import blocks_to_finality
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.step import Settled
from gridmarl.protocols import AgentContext
from gridmarl.train.comparison import market_row
from gridmarl.train.planning import Benchmarks, plan_benchmarks
from gridmarl.train.rollout import Episode, play
from gridmarl.units import UTOK_PER_TOKEN

OUTPUT = RESULTS / "finality-cpu.csv"
MECHANISMS = ("pbft", "proof_of_authority", "proof_of_stake", "proof_of_work")


@dataclass(frozen=True)
class Options:
    """What to play."""

    lanes: int = 16
    hours: int = 168
    validators: int = Network.validators
    """Under proof of authority a block is final when a majority has built on it."""
    confirmations: int = 6
    """Under proof of stake and of work."""
    balances_tok: tuple[int, ...] = (0, 100, 300)
    credits_tok: tuple[int | None, ...] = (0, 100, None)
    """None: without limit."""
    interest_ppm: int = 20
    """For an hour; 20 are some 19 % a year."""
    seed: int = 0
    output: Path = OUTPUT
    quick: bool = False
    """A day in few lanes, to see that it works."""

    @property
    def lags(self) -> dict[str, int]:
        """Blocks that must follow until a block is final, by mechanism."""
        validators, confirmations = self.validators, self.confirmations
        return {
            name: blocks_to_finality(name, validators=validators, confirmations=confirmations) for name in MECHANISMS
        }


@dataclass(frozen=True)
class Outcome:
    """One row. Means per prosumer and episode unless said otherwise; `local_kwh` and the operator: per episode."""

    finality: str
    mechanism: str
    lag_hours: int
    initial_balance_tok: int
    local_credit_tok: int | None
    interest_ppm: int
    lanes: int
    hours: int
    local_kwh: float
    refused_share: float
    """Of the buy orders of more than zero energy."""
    indebted_share: float
    """Of prosumers and hours: owing after settlement."""
    interest_tok: float
    bill_tok: float
    """What leaves the account, interest included."""
    reward_tok: float
    operator_tok: float
    gains_share: float | None
    gains_share_interval: float | None


class Counts:
    """Orders refused and debts, counted hour by hour."""

    def __init__(self) -> None:
        self.orders = self.refused = self.indebted = self.cells = 0

    def add(self, hour: Settled) -> None:
        """Count one hour in all lanes."""
        self.orders += int((hour.orders.buy_wh > 0).sum())
        self.cells += hour.orders.buy_wh.numel()
        if hour.market.refused is not None:
            self.refused += int(hour.market.refused.sum())
        if hour.credit is not None:
            self.indebted += int((hour.credit.principal_utok > 0).sum())


def play_truthful(params: TwoStageDRParams, options: Options) -> tuple[Episode, Counts]:
    """One episode in every lane, and what was counted."""
    env = BatchedTwoStageDR(params, num_envs=options.lanes, auto_reset=False)
    context = AgentContext(
        options.lanes, env.num_agents, env.observation_fields, env.action_spec, env.device, options.seed
    )
    counts = Counts()
    return play(env, make_agent("truthful", context), options.seed, counts.add), counts


def outcome(
    params: TwoStageDRParams, mechanism: str, episode: Episode, counts: Counts, plans: Benchmarks, options: Options
) -> Outcome:
    """The row of an episode."""
    row = market_row("truthful", episode, plans)
    each = options.lanes * params.num_prosumers * UTOK_PER_TOKEN
    credit = params.local_credit_utok
    return Outcome(
        finality=params.finality,
        mechanism=mechanism,
        lag_hours=params.finality_lag_hours,
        initial_balance_tok=params.initial_balance_utok // UTOK_PER_TOKEN,
        local_credit_tok=None if credit is None else credit // UTOK_PER_TOKEN,
        interest_ppm=params.credit_interest_ppm,
        lanes=options.lanes,
        hours=params.horizon_hours,
        local_kwh=float(episode.volume_wh.sum()) / 1000 / options.lanes,
        refused_share=counts.refused / max(1, counts.orders),
        indebted_share=counts.indebted / counts.cells,
        interest_tok=float(np.sum(episode.interest_utok)) / each,
        bill_tok=float(-episode.received_utok.sum()) / each,
        reward_tok=float((episode.comfort_utok + episode.received_utok).sum()) / each,
        operator_tok=row.operator_tok,
        gains_share=row.gains_share,
        gains_share_interval=row.gains_share_interval,
    )


def outcomes(options: Options) -> Iterator[Outcome]:
    """Instant finality, then all mechanisms, balances and limits; each lag is played once."""
    plain = TwoStageDRParams(horizon_hours=options.hours)
    episode, counts = play_truthful(plain, options)
    plans = plan_benchmarks(plain, episode)
    yield outcome(plain, "none", episode, counts, plans, options)
    for balance in options.balances_tok:
        for credit in options.credits_tok:
            played: dict[int, Outcome] = {}
            for mechanism, lag in options.lags.items():
                if lag not in played:
                    params = replace(
                        plain,
                        finality="strict",
                        finality_lag_hours=lag,
                        initial_balance_utok=balance * UTOK_PER_TOKEN,
                        local_credit_utok=None if credit is None else credit * UTOK_PER_TOKEN,
                        credit_interest_ppm=options.interest_ppm,
                    )
                    played[lag] = outcome(params, mechanism, *play_truthful(params, options), plans, options)
                yield replace(played[lag], mechanism=mechanism)


def show(rows: list[Outcome]) -> None:
    """A table on the terminal; mechanisms of one lag share a line."""
    print(f"{rows[0].lanes} episodes of {rows[0].hours} h, truthful prosumers; means per prosumer in token")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in (
        "final",
        "lag",
        "money",
        "credit",
        "local\nkWh",
        "re-\nfused",
        "owing",
        "inter-\nest",
        "bill",
        "gains",
    ):
        table.add_column(name, justify="left" if name == "final" else "right", no_wrap=True)
    lines: dict[tuple[object, ...], list[str]] = {}
    for row in rows:
        cells = (
            "no limit" if row.local_credit_tok is None else f"{row.local_credit_tok:,}",
            f"{row.local_kwh:,.1f}",
            f"{row.refused_share:.1%}",
            f"{row.indebted_share:.1%}",
            f"{row.interest_tok:.2f}",
            f"{row.bill_tok:,.2f}",
            "n/a" if row.gains_share is None else f"{row.gains_share:.3f}",
        )
        name = "at once" if row.finality == "instant" else row.mechanism.removeprefix("proof_of_")
        key = (row.finality, str(row.lag_hours), f"{row.initial_balance_tok:,}", *cells)
        lines.setdefault(key, []).append(name)
    for (_, *shown), names in lines.items():
        table.add_row(", ".join(names), *map(str, shown))
    Console().print(table)


def main(options: Options, arguments: list[str]) -> list[Outcome]:
    """Play, write, show."""
    if options.quick:
        options = replace(options, lanes=2, hours=24, balances_tok=(0, 500), credits_tok=(0, None))
    rows = list(outcomes(options))
    origin = provenance("finality", arguments, seed=options.seed)
    write_csv(options.output, [rounded(row, 6) for row in rows], origin)
    show(rows)
    return rows


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__), sys.argv[1:])
