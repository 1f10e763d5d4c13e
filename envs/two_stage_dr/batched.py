"""Many lanes of TwoStageDR behind one handle: gridmarl.protocols.BatchedEnv, for native trainers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gridmarl.envs.two_stage_dr.actions import action_spec
from gridmarl.envs.two_stage_dr.compiled import CompiledStep, missing_compiler
from gridmarl.envs.two_stage_dr.generator import check_bounds, reset
from gridmarl.envs.two_stage_dr.observe import FIELDS, fields_of, observation_scales, observe
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.rules import check_sealable, ledger_rules
from gridmarl.envs.two_stage_dr.state import State, state_from_dict, state_to_dict
from gridmarl.envs.two_stage_dr.step import Settled, StepResult, check_plugin, hour_record, step_at
from gridmarl.errors import ConfigError
from gridmarl.ledger.batch import BatchChain
from gridmarl.ledger.chain import LaneChains
from gridmarl.ledger.hour import HourRecord
from gridmarl.protocols import ActionSpec, BatchStep
from gridmarl.scenarios.scenario import Scenario, default_scenario
from gridmarl.units import UTOK_PER_TOKEN

LedgerLevel = Literal["off", "accounts", "sealed", "batch"]
_HASHED = ("sealed", "batch")
ENV_ID = "gridmarl/TwoStageDR-v0"


class BatchedTwoStageDR:
    """Lanes `first_lane .. first_lane + num_envs - 1` of the market, auto-resetting at the horizon.

    Args:
        params: constants of the market.
        scenario: prices and homes; None: the calibrated default.
        num_envs: lanes.
        device: where everything lives.
        first_lane: lane number of the first lane; lane i of a batch equals the single run with `first_lane=i`.
        auto_reset: start the next episode at the horizon; else the caller calls `reset`.
        on_hour: called with each settled hour's record (the ledger's input); None: no records are built.
        ledger: "accounts": balances are kept. "off": they are not, and `settled` stays None. "sealed": every lane's
            hours are hashed into its chain of blocks, see `chains`; a chain begins at `reset`. "batch": the hours of
            all lanes are hashed at once, into one chain of batches from which every lane's block can be proven.
        compile: run the step as compiled graphs (the same bits, several times as fast in large batches; the first and
            the last hour of the first episode take some ten seconds each). Without a compiler: eager, with a warning.

    Raises:
        ConfigError: `num_envs` or `ledger` is not allowed, `ledger="off"` with what needs accounts (`on_hour`, a credit
            limit), the scenario is too large or too dear for the parameters, or `price_rule` is a plug-in's mechanism
            that does not conform, is to be compiled, or is to be sealed (nobody could replay it).
    """

    env_id = ENV_ID
    observation_fields = FIELDS

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
        if num_envs < 1:
            raise ConfigError(f"num_envs: {num_envs}, allowed is 1 or more")
        self.params = params or TwoStageDRParams()
        self.ledger = ledger
        self._check_ledger(on_hour)
        if self.params.has_plugin_mechanism:
            self._check_plugin(compile)
        self.device = torch.device(device)
        scenario = scenario or default_scenario()
        check_bounds(self.params, scenario)
        self.scenario = scenario.to(self.device)
        self.num_envs, self.num_agents = num_envs, self.params.num_prosumers
        self.agent_names = tuple(f"prosumer_{index}" for index in range(self.num_agents))
        self.first_lane, self.auto_reset, self.on_hour = first_lane, auto_reset, on_hour
        self.action_spec: ActionSpec = action_spec(self.params, self.device)
        self.chains: LaneChains | BatchChain | None = None
        """Level "sealed": the chains of blocks of all lanes since the last `reset`; "batch": the chain of batches."""
        self.observation_fields = fields_of(self.params)
        self._scales = observation_scales(self.device, self.params)
        self._compiled = self._compile() if compile else None
        self._seed, self._episode = 0, -1
        self._state: State | None = None
        self.settled: Settled | None = None
        """What happened in the last step's hour (None after the first of two steps, and with the ledger off)."""

    def _check_ledger(self, on_hour: Callable[[HourRecord], object] | None) -> None:
        if self.ledger not in get_args(LedgerLevel):
            raise ConfigError(f"ledger: {self.ledger!r}, allowed are {', '.join(get_args(LedgerLevel))}")
        limited = self.params.credit_limit_utok is not None or self.params.has_strict_finality
        if self.ledger == "off" and (on_hour is not None or limited):
            allowed = "allowed with on_hour, credit_limit_utok or strict finality are accounts, sealed, batch"
            raise ConfigError(f"ledger: 'off', {allowed}")

    def _check_plugin(self, compile: bool) -> None:
        if self.ledger in _HASHED:
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

    @property
    def state(self) -> State:
        """The current state; ConfigError before the first reset."""
        if self._state is None:
            raise ConfigError("state: none yet, call reset(seed) first")
        return self._state

    def reset(self, seed: int, episode: int = 0) -> Tensor:
        """Observation `[E, P, F]` float32 of a new episode in every lane."""
        self._seed, self._episode = seed, episode
        observation = self._start()
        self.chains = self._new_chains() if self.ledger in _HASHED else None
        return observation

    def _new_chains(self) -> LaneChains | BatchChain:
        lanes = range(self.first_lane, self.first_lane + self.num_envs)
        rules = ledger_rules(self.params, self.scenario, self._seed)
        return BatchChain(rules, lanes) if self.ledger == "batch" else LaneChains(rules, lanes)

    def _start(self, before: State | None = None) -> Tensor:
        """A new episode; after another one accounts live on, so that one chain of blocks can hold them all."""
        self._state = reset(
            self.params,
            self.scenario,
            self._seed,
            self.num_envs,
            first_lane=self.first_lane,
            episode=self._episode,
        )
        if before is not None:
            self._state = self._state.with_changes(balances=before.balances, receipts=before.receipts)
        self.settled = None
        return observe(self.params, self._state, self._scales)

    def step(self, actions: Tensor, alpha_permille: Tensor | None = None) -> BatchStep:
        """One step of all lanes; rewards in tokens. `alpha_permille` `[E]`: the operator's choice, if it has one."""
        state, result, final = self._next(actions, alpha_permille)
        self._state, self.settled = state, result.settled
        if result.settled is not None:
            self._record(result.settled)
        observation = final
        if result.closed and self.auto_reset:
            self._episode += 1
            observation = self._start(state)
            self.settled = result.settled
        flags = torch.full((self.num_envs,), result.closed, device=self.device)
        reward = (result.reward_utok.to(torch.float32) * (1.0 / UTOK_PER_TOKEN)).T
        return BatchStep(observation, reward, torch.zeros_like(flags), flags, final, {})

    def _next(self, actions: Tensor, alpha_permille: Tensor | None) -> tuple[State, StepResult, Tensor]:
        """The next state, the outcome and the observation that follows."""
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
        return state, result if keep else result._replace(settled=None), observe(self.params, state, self._scales)

    def _record(self, settled: Settled) -> None:
        if self.on_hour is None and self.chains is None:
            return
        record = hour_record(settled)
        if self.chains is not None:
            self.chains.append(record)
        if self.on_hour is not None:
            self.on_hour(record)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""
        out = {"seed": self._seed, "episode": self._episode, "state": state_to_dict(self.state)}
        return out if self.chains is None else out | {"chains": self.chains.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._seed, self._episode = state["seed"], state["episode"]
        self._state, self.settled = state_from_dict(state["state"]), None
        if self.ledger in _HASHED:
            self.chains = self._new_chains()
            self.chains.load_state_dict(state["chains"])
