"""What the commands for EVQuota share: their options as parameters, held-out days with their references, evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gridmarl.envs.ev_quota.batched import BatchedEVQuota, LedgerLevel
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario, default_ev_scenario
from gridmarl.errors import ConfigError
from gridmarl.optimum.ev_charging import ChargingPlan
from gridmarl.protocols import Agent
from gridmarl.train.options import MarketOptions, checked_device, parse_settings, read_config
from gridmarl.train.quota.episode import QuotaEpisode, coordinate, play_day
from gridmarl.train.quota.rows import Array, QuotaRow, planned_row, played_row, policy_of
from gridmarl.train.stage_bar import stage_bar
from gridmarl.units import UTOK_PER_TOKEN

ENV = "ev-quota"
NO_TRADE = "no trade"
TRUTHFUL = "truthful"
_FOREIGN = ("scenario_name", "prices", "homes", "region", "start", "days")


def quota_parameters(options: MarketOptions) -> EVQuotaParams:
    """Parameters from --config and --set.

    Raises:
        ConfigError: a parameter that is not allowed, or an option that belongs to another environment.
    """
    return EVQuotaParams.from_dict(quota_changes(options) | read_config(options.config) | parse_settings(options.set))


def quota_changes(options: MarketOptions) -> dict[str, Any]:
    """No parameter is changed by another option; ConfigError for one that belongs to another environment."""
    for name in _FOREIGN:
        if getattr(options, name):
            shown = "scenario" if name == "scenario_name" else name
            raise ConfigError(f"--{shown} with {ENV}: sessions are drawn from the packaged tables; allowed is --set")
    return {}


def quota_scenario(options: MarketOptions, params: EVQuotaParams) -> EVScenario:
    """Sessions and the transformer's other load."""
    return default_ev_scenario(params.num_stations)


@dataclass(frozen=True)
class QuotaMarket:
    """Parameters and sessions of a run, and where it is computed."""

    params: EVQuotaParams
    scenario: EVScenario
    device: str

    @classmethod
    def of(cls, options: MarketOptions) -> QuotaMarket:
        """By the options of a command; see `quota_parameters`."""
        params = quota_parameters(options)
        return cls(params, default_ev_scenario(params.num_stations), options.device)

    def batched(self, lanes: int, **changes: Any) -> BatchedEVQuota:
        """Days of which each ends, with some parameters changed."""
        params, device = replace(self.params, **changes), checked_device(self.device)
        return BatchedEVQuota(params, self.scenario, num_envs=lanes, device=device, auto_reset=False)

    def for_training(self, lanes: int, ledger: LedgerLevel = "off") -> BatchedEVQuota:
        """Day after day, by default without accounts."""
        device = checked_device(self.device)
        return BatchedEVQuota(self.params, self.scenario, num_envs=lanes, device=device, ledger=ledger)


@dataclass(frozen=True)
class HeldOut:
    """Days that policies are judged on: what the coordinator plans and what the references reach in them."""

    market: QuotaMarket
    lanes: int
    seed: int
    plans: list[ChargingPlan]
    references: dict[str, QuotaEpisode]

    @classmethod
    def prepare(cls, market: QuotaMarket, lanes: int, seed: int, progress: str, stage: str) -> HeldOut:
        """Plan and play the references; a bar shows the planning."""
        with stage_bar(stage, lanes, "lanes", progress) as advance:
            plans = coordinate(market.batched(lanes), seed, advance)
        references = {}
        for name, registered in ((NO_TRADE, "quota_no_trade"), (TRUTHFUL, "quota_truthful")):
            env = market.batched(lanes, action_space="continuous")
            references[name] = play_day(env, policy_of(env, registered), seed)
        return cls(market, lanes, seed, plans, references)

    @property
    def best_utok(self) -> Array:
        """Welfare of the coordinator, `[E]`."""
        return np.array([plan.welfare_utok for plan in self.plans])

    @property
    def no_trade_utok(self) -> Array:
        """Welfare of allocation without trading, `[E]`."""
        return self.references[NO_TRADE].welfare_utok.astype(np.float64)

    def row(self, name: str, episode: QuotaEpisode) -> QuotaRow:
        """The row of a policy that played these days."""
        return played_row(name, episode, self.no_trade_utok, self.best_utok)

    def coordinator_row(self) -> QuotaRow:
        """The row of the coordinator."""
        env = self.market.batched(self.lanes)
        env.reset(self.seed)
        tariff, margin = (part.cpu().numpy().astype(np.float64) for part in (env.state.tariff, env.state.margin_wh))
        return planned_row(self.plans, tariff, margin, self.market.params.num_stations, self.no_trade_utok)

    def levels(self) -> dict[str, dict[str, float | None]]:
        """By unit of a learning curve, what the references reach: tokens per station and day, share of the gains."""
        stations = self.market.params.num_stations
        rows = {name: self.row(name, episode) for name, episode in self.references.items()}
        reward: dict[str, float | None] = {name: (row.reward_tok or 0.0) / stations for name, row in rows.items()}
        reward["optimum"] = float(self.best_utok.mean()) / UTOK_PER_TOKEN / stations
        shares: dict[str, float | None] = {name: row.gains_share for name, row in rows.items()}
        return {"reward_tok_per_station": reward, "gains_share": {**shares, "optimum": 1.0}}

    def play(self, agent: Agent, action_space: str) -> QuotaEpisode:
        """The policy of an agent in these days."""
        env = self.market.batched(self.lanes, action_space=action_space)
        return play_day(env, lambda observation: agent.act(observation, explore=False), self.seed)

    def evaluator(self, action_space: str) -> Callable[[Agent], dict[str, float]]:
        """An `Evaluator` (train/loop.py) on these days."""
        stations = self.market.params.num_stations

        def judge(agent: Agent) -> dict[str, float]:
            row = self.row("", self.play(agent, action_space))
            assert row.reward_tok is not None
            found = {
                "eval_return": row.reward_tok / stations,
                "eval_unserved_kwh": row.unserved_kwh,
                "eval_overload_kwh": row.overload_kwh,
            }
            return found if row.gains_share is None else {**found, "eval_gains_share": row.gains_share}

        return judge
