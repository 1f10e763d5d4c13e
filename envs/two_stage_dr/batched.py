"""Many lanes of TwoStageDR behind one handle: gridmarl.protocols.BatchedEnv, for native trainers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from gridmarl.envs.two_stage_dr.actions import action_spec
from gridmarl.envs.two_stage_dr.generator import check_bounds, reset
from gridmarl.envs.two_stage_dr.observe import FIELDS, observation_scales, observe
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import State, state_from_dict, state_to_dict
from gridmarl.envs.two_stage_dr.step import Settled, hour_record, step
from gridmarl.errors import ConfigError
from gridmarl.ledger.hour import HourRecord
from gridmarl.protocols import ActionSpec, BatchStep
from gridmarl.scenarios.scenario import Scenario, default_scenario
from gridmarl.units import UTOK_PER_TOKEN

LedgerLevel = Literal["off", "accounts", "sealed"]
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
        on_hour: Callable[[HourRecord], None] | None = None,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs: {num_envs}, allowed is 1 or more")
        self.params = params or TwoStageDRParams()
        self.device = torch.device(device)
        scenario = scenario or default_scenario()
        check_bounds(self.params, scenario)
        self.scenario = scenario.to(self.device)
        self.num_envs, self.num_agents = num_envs, self.params.num_prosumers
        self.agent_names = tuple(f"prosumer_{index}" for index in range(self.num_agents))
        self.first_lane, self.auto_reset, self.on_hour = first_lane, auto_reset, on_hour
        self.action_spec: ActionSpec = action_spec(self.params, self.device)
        self._scales = observation_scales(self.device)
        self._seed, self._episode = 0, -1
        self._state: State | None = None
        self.settled: Settled | None = None
        """What happened in the last step's hour (None after the first of two steps)."""

    @property
    def state(self) -> State:
        """The current state; ConfigError before the first reset."""
        if self._state is None:
            raise ConfigError("state: none yet, call reset(seed) first")
        return self._state

    def reset(self, seed: int, episode: int = 0) -> Tensor:
        """Observation `[E, P, F]` float32 of a new episode in every lane."""
        self._seed, self._episode = seed, episode
        return self._start()

    def _start(self) -> Tensor:
        self._state = reset(
            self.params,
            self.scenario,
            self._seed,
            self.num_envs,
            first_lane=self.first_lane,
            episode=self._episode,
        )
        self.settled = None
        return observe(self.params, self._state, self._scales)

    def step(self, actions: Tensor, alpha_permille: Tensor | None = None) -> BatchStep:
        """One step of all lanes; rewards in tokens. `alpha_permille` `[E]`: the operator's choice, if it has one."""
        self._state, result = step(self.params, self.action_spec, self.scenario, self.state, actions, alpha_permille)
        self.settled = result.settled
        if self.on_hour is not None and result.settled is not None:
            self.on_hour(hour_record(result.settled))
        final = observation = observe(self.params, self._state, self._scales)
        if result.closed and self.auto_reset:
            # accounts live on, so that one chain of blocks can hold episode after episode
            balances = self._state.balances
            self._episode += 1
            observation = self._start()
            self._state = self._state.with_changes(balances=balances)
            self.settled = result.settled
        flags = torch.full((self.num_envs,), result.closed, device=self.device)
        reward = (result.reward_utok.to(torch.float32) * (1.0 / UTOK_PER_TOKEN)).T
        return BatchStep(observation, reward, torch.zeros_like(flags), flags, final, {})

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""
        return {"seed": self._seed, "episode": self._episode, "state": state_to_dict(self.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._seed, self._episode = state["seed"], state["episode"]
        self._state, self.settled = state_from_dict(state["state"]), None
