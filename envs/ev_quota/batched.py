"""Many lanes of EVQuota behind one handle: gridmarl.protocols.BatchedEnv, for native trainers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gridmarl.envs.base.sealed import SealedMarket
from gridmarl.envs.base.state import StepResult
from gridmarl.envs.ev_quota.actions import action_spec
from gridmarl.envs.ev_quota.generator import check_scenario, reset
from gridmarl.envs.ev_quota.observe import FIELDS, observation_scales, observe
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.rules import half_hour_record, quota_rules
from gridmarl.envs.ev_quota.scenario import EVScenario, default_ev_scenario
from gridmarl.envs.ev_quota.state import State
from gridmarl.envs.ev_quota.step import Settled, step
from gridmarl.errors import ConfigError
from gridmarl.ledger.chain import LaneChains
from gridmarl.ledger.half_hour import HalfHourRecord
from gridmarl.ledger.quota_genesis import QuotaRules

LedgerLevel = Literal["off", "accounts", "sealed"]
ENV_ID = "gridmarl/EVQuota-v0"


class BatchedEVQuota(SealedMarket[State, Settled]):
    """Lanes `first_lane .. first_lane + num_envs - 1` of the quota market, auto-resetting at the horizon.

    Args:
        params: constants of the market.
        scenario: sessions and conventional load; None: the calibrated default for `num_stations`.
        num_envs, device, first_lane, auto_reset: as `gridmarl.envs.base.batched.BatchedMarket`.
        on_hour, ledger: as `gridmarl.envs.base.sealed.SealedMarket`, for half hours; there is no level "batch".

    Raises:
        ConfigError: `num_envs` or `ledger` is not allowed, `ledger="off"` with `on_hour`, or the scenario has another
            number of stations or more energy than a book may hold.
    """

    env_id = ENV_ID
    observation_fields = FIELDS
    state_type = State
    chains: LaneChains | None
    """Level "sealed": the chains of blocks of all lanes since the last `reset`."""

    def __init__(
        self,
        params: EVQuotaParams | None = None,
        scenario: EVScenario | None = None,
        *,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        first_lane: int = 0,
        auto_reset: bool = True,
        on_hour: Callable[[HalfHourRecord], object] | None = None,
        ledger: LedgerLevel = "accounts",
    ) -> None:
        self.params = params or EVQuotaParams()
        if ledger not in get_args(LedgerLevel):
            raise ConfigError(f"ledger: {ledger!r}, allowed are {', '.join(get_args(LedgerLevel))}")
        if ledger == "off" and on_hour is not None:
            raise ConfigError("ledger: 'off', allowed with on_hour are accounts, sealed")
        super().__init__(
            tuple(f"station_{index}" for index in range(self.params.num_stations)),
            ledger=ledger,
            on_hour=on_hour,
            num_envs=num_envs,
            device=device,
            first_lane=first_lane,
            auto_reset=auto_reset,
        )
        scenario = scenario or default_ev_scenario(self.params.num_stations)
        check_scenario(self.params, scenario)
        self.scenario = scenario.to(self.device)
        self.action_spec = action_spec(self.params, self.device)
        self._scales = observation_scales(self.device)

    def ledger_rules(self, seed: int, lane: int = 0, **sealing: Any) -> QuotaRules:
        """See `SealedMarket`."""
        return quota_rules(self.params, self.scenario, seed, lane, **sealing)

    def _new_chains(self) -> LaneChains:
        return LaneChains(self.ledger_rules(self._seed), range(self.first_lane, self.first_lane + self.num_envs))

    def _period_record(self, settled: Settled) -> HalfHourRecord:
        return half_hour_record(self.params, settled)

    def _begin(self, seed: int, episode: int) -> State:
        lanes, first = self.num_envs, self.first_lane
        return reset(self.params, self.scenario, seed, lanes, first_lane=first, episode=episode)

    def _next(self, actions: Tensor) -> tuple[State, StepResult[Settled], Tensor]:
        keep = self.ledger != "off"
        state, result = step(self.params, self.action_spec, self.state, actions, keep)
        return state, result if keep else result._replace(settled=None), self._observe(state)

    def _observe(self, state: State) -> Tensor:
        return observe(self.params, state, self._scales)
