"""Many lanes of TwoStageDR behind one handle: gridmarl.protocols.BatchedEnv, for native trainers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gridmarl.compiler import missing_compiler
from gridmarl.envs.base.sealed import HASHED, LedgerLevel, SealedMarket
from gridmarl.envs.base.state import StepResult
from gridmarl.envs.two_stage_dr.actions import action_spec
from gridmarl.envs.two_stage_dr.compiled import CompiledStep
from gridmarl.envs.two_stage_dr.generator import check_bounds, reset
from gridmarl.envs.two_stage_dr.observe import FIELDS, fields_of, observation_scales, observe
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.rules import check_sealable, ledger_rules
from gridmarl.envs.two_stage_dr.state import State
from gridmarl.envs.two_stage_dr.step import Settled, check_plugin, hour_record, step_at
from gridmarl.errors import ConfigError
from gridmarl.ledger.batch import BatchChain
from gridmarl.ledger.chain import LaneChains
from gridmarl.ledger.genesis import Rules
from gridmarl.ledger.hour import HourRecord
from gridmarl.protocols import BatchStep
from gridmarl.scenarios.scenario import Scenario, default_scenario

ENV_ID = "gridmarl/TwoStageDR-v0"


class BatchedTwoStageDR(SealedMarket[State, Settled]):
    """Lanes `first_lane .. first_lane + num_envs - 1` of the market, auto-resetting at the horizon.

    Args:
        params: constants of the market.
        scenario: prices and homes; None: the calibrated default.
        num_envs, device, first_lane, auto_reset: as `gridmarl.envs.base.batched.BatchedMarket`.
        on_hour, ledger: as `gridmarl.envs.base.sealed.SealedMarket`.
        compile: run the step as compiled graphs (the same bits, several times as fast in large batches; the first and
            the last hour of the first episode take some ten seconds each). Without a compiler: eager, with a warning.

    Raises:
        ConfigError: `num_envs` or `ledger` is not allowed, `ledger="off"` with what needs accounts (`on_hour`, a credit
            limit), the scenario is too large or too dear for the parameters, or `price_rule` is a plug-in's mechanism
            that does not conform, is to be compiled, or is to be sealed (nobody could replay it).
    """

    env_id = ENV_ID
    observation_fields = FIELDS
    state_type = State
    lasting = ("balances", "receipts")
    chains: LaneChains | BatchChain | None
    """Level "sealed": the chains of blocks of all lanes since the last `reset`; "batch": the chain of batches."""

    def __init__(
        self,
        params: TwoStageDRParams | None = None,
        scenario: Scenario | None = None,
        *,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        first_lane: int = 0,
        auto_reset: bool = True,
        on_hour: Callable[[HourRecord], object] | None = None,
        ledger: LedgerLevel = "accounts",
        compile: bool = False,
    ) -> None:
        self.params = params or TwoStageDRParams()
        super().__init__(
            tuple(f"prosumer_{index}" for index in range(self.params.num_prosumers)),
            ledger=ledger,
            on_hour=on_hour,
            num_envs=num_envs,
            device=device,
            first_lane=first_lane,
            auto_reset=auto_reset,
        )
        self._check_accounts()
        if self.params.has_plugin_mechanism:
            self._check_plugin(compile)
        scenario = scenario or default_scenario()
        check_bounds(self.params, scenario)
        self.scenario = scenario.to(self.device)
        self.action_spec = action_spec(self.params, self.device)
        self.observation_fields = fields_of(self.params)
        self._scales = observation_scales(self.device, self.params)
        self._compiled = self._compile() if compile else None

    def _check_accounts(self) -> None:
        limited = self.params.credit_limit_utok is not None or self.params.has_strict_finality
        if self.ledger == "off" and (self.on_hour is not None or limited):
            allowed = "allowed with on_hour, credit_limit_utok or strict finality are accounts, sealed, batch"
            raise ConfigError(f"ledger: 'off', {allowed}")

    def _check_plugin(self, compile: bool) -> None:
        if self.ledger in HASHED:
            check_sealable(self.params)
        if compile:
            rule = self.params.price_rule
            raise ConfigError(
                f"compile: True with price_rule {rule!r}, a plug-in's, checked every hour; allowed is False"
            )
        check_plugin(self.params.price_rule)

    def _compile(self) -> CompiledStep | None:
        missing = missing_compiler(self.device)
        if missing is not None:
            warnings.warn(f"compile=True: {missing}, running eagerly", RuntimeWarning, stacklevel=3)
            return None
        return CompiledStep(self.params, self.action_spec, self.scenario, self._scales, keep=self.ledger != "off")

    def ledger_rules(self, seed: int, lane: int = 0, **sealing: Any) -> Rules:
        """See `SealedMarket`."""
        return ledger_rules(self.params, self.scenario, seed, lane, **sealing)

    def _new_chains(self) -> LaneChains | BatchChain:
        lanes = range(self.first_lane, self.first_lane + self.num_envs)
        rules = self.ledger_rules(self._seed)
        return BatchChain(rules, lanes) if self.ledger == "batch" else LaneChains(rules, lanes)

    def _period_record(self, settled: Settled) -> HourRecord:
        return hour_record(settled)

    def _begin(self, seed: int, episode: int) -> State:
        lanes, first = self.num_envs, self.first_lane
        return reset(self.params, self.scenario, seed, lanes, first_lane=first, episode=episode)

    def step(self, actions: Tensor, alpha_permille: Tensor | None = None) -> BatchStep:
        """One step of all lanes; rewards in tokens. `alpha_permille` `[E]`: the operator's choice, if it has one."""
        return self._finish(*self._next(actions, alpha_permille))

    def _next(self, actions: Tensor, alpha_permille: Tensor | None = None) -> tuple[State, StepResult[Settled], Tensor]:
        if self._compiled is not None:
            return self._compiled(self.state, actions, alpha_permille)
        hour, keep = self.state.hour, self.ledger != "off"
        state, result = step_at(
            self.params,
            self.action_spec,
            self.scenario,
            self.state,
            hour,
            hour == self.params.horizon_hours - 1,
            actions,
            alpha_permille,
            keep,
        )
        return state, result if keep else result._replace(settled=None), self._observe(state)

    def _observe(self, state: State) -> Tensor:
        return observe(self.params, state, self._scales)
