"""Judging a policy on held-out episodes of the two-stage market while it learns: return, welfare, price.

The share of the gains from trade is measured on welfare, which also counts what the operator ends up with; the return
is what the prosumers themselves receive. Agents maximise the second, papers compare the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.metrics import gains_from_trade
from gridmarl.protocols import Agent
from gridmarl.train.planning import Benchmarks
from gridmarl.train.rollout import Episode, play
from gridmarl.units import UTOK_PER_TOKEN


@dataclass(frozen=True)
class Levels:
    """What the references reach in the episodes of an evaluation.

    Attributes:
        first_best_utok, no_market_utok, truthful_utok: welfare, summed over the episodes.
        bills_utok: what truthful prosumers pay in sum, for the rule that tiny gains are not divided by.
        reward_tok: reward per prosumer and episode of each reference; for first best its welfare per prosumer.
    """

    first_best_utok: float
    no_market_utok: float
    truthful_utok: float
    bills_utok: float
    reward_tok: dict[str, float]

    def share(self, welfare_utok: float) -> float | None:
        """Share of the gains from trade of a welfare summed over the same episodes; None where they are tiny."""
        return gains_from_trade(welfare_utok, self.no_market_utok, self.first_best_utok, self.bills_utok).share

    def to_dict(self) -> dict[str, dict[str, float | None]]:
        """For summary.json: by unit of a learning curve, the level of each reference."""
        return {
            "reward_tok_per_prosumer": dict(self.reward_tok),
            "gains_share": {
                "optimum": self.share(self.first_best_utok),
                "truthful": self.share(self.truthful_utok),
                "no market": self.share(self.no_market_utok),
            },
        }


def levels_of(truthful: Episode, benchmarks: Benchmarks) -> Levels:
    """Levels of the episodes that truthful bidding played and the planner solved."""
    lanes, prosumers = truthful.price.shape[1], truthful.gamma.shape[1]
    first_best = float(sum(item.welfare_utok for item in benchmarks.first_best))
    no_market = float(sum(item.welfare_utok for item in benchmarks.no_market))
    received = float((truthful.comfort_utok + truthful.received_utok).sum())
    each = lanes * prosumers * UTOK_PER_TOKEN
    return Levels(
        first_best_utok=first_best,
        no_market_utok=no_market,
        truthful_utok=float(truthful.welfare_utok.sum()),
        bills_utok=float(-truthful.received_utok.sum()),
        reward_tok={"optimum": first_best / each, "truthful": received / each, "no market": no_market / each},
    )


class MarketEvaluation:
    """An `Evaluator` (train/loop.py): one greedy episode in every lane of an environment of its own.

    Args:
        env: held-out lanes.
        seed: of every evaluation, so that all of a run can be compared.
        levels: of the same lanes and seed.
    """

    def __init__(self, env: BatchedTwoStageDR, seed: int, levels: Levels) -> None:
        self.env, self.seed, self.levels = env, seed, levels

    def __call__(self, agent: Agent) -> dict[str, float]:
        """Mean return per prosumer, share of the gains from trade, efficiency and mean market price."""
        episode = play(self.env, agent, self.seed)
        welfare = float(episode.welfare_utok.sum())
        received = (episode.comfort_utok + episode.received_utok).sum(0)  # [P, E]
        found = {
            "eval_return": float(received.mean()) / UTOK_PER_TOKEN,
            "eval_efficiency": welfare / self.levels.first_best_utok,
            "eval_price_tok_per_kwh": float(np.mean(episode.price)) / 1000.0,
        }
        share = self.levels.share(welfare)
        return found if share is None else {**found, "eval_gains_share": share}
