"""Many lanes of EVQuota behind one handle: gridmarl.protocols.BatchedEnv, for native trainers."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gridmarl.envs.ev_quota.actions import action_spec
from gridmarl.envs.ev_quota.generator import check_scenario, reset
from gridmarl.envs.ev_quota.observe import FIELDS, observation_scales, observe
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario, default_ev_scenario
from gridmarl.envs.ev_quota.state import State, state_from_dict, state_to_dict
from gridmarl.envs.ev_quota.step import Settled, step
from gridmarl.errors import ConfigError
from gridmarl.protocols import ActionSpec, BatchStep
from gridmarl.units import UTOK_PER_TOKEN

LedgerLevel = Literal["off", "accounts"]
ENV_ID = "gridmarl/EVQuota-v0"


class BatchedEVQuota:
    """Lanes `first_lane .. first_lane + num_envs - 1` of the quota market, auto-resetting at the horizon.

    Args:
        params: constants of the market.
        scenario: sessions and conventional load; None: the calibrated default for `num_stations`.
        num_envs: lanes.
        device: where everything lives.
        first_lane: lane number of the first lane; lane i of a batch equals the single run with `first_lane=i`.
        auto_reset: start the next episode at the horizon; else the caller calls `reset`.
        ledger: "accounts": balances are kept. "off": they are not, and `settled` stays None.

    Raises:
        ConfigError: `num_envs` or `ledger` is not allowed, or the scenario has another number of stations or more
            energy than a book may hold.
    """

    env_id = ENV_ID
    observation_fields = FIELDS

    def __init__(
        self,
        params: EVQuotaParams | None = None,
        scenario: EVScenario | None = None,
        *,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        first_lane: int = 0,
        auto_reset: bool = True,
        ledger: LedgerLevel = "accounts",
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs: {num_envs}, allowed is 1 or more")
        if ledger not in get_args(LedgerLevel):
            allowed = ", ".join(get_args(LedgerLevel))
            raise ConfigError(f"ledger: {ledger!r}, allowed are {allowed}; rounds of quotas cannot be sealed")
        self.params = params or EVQuotaParams()
        self.ledger = ledger
        self.device = torch.device(device)
        scenario = scenario or default_ev_scenario(self.params.num_stations)
        check_scenario(self.params, scenario)
        self.scenario = scenario.to(self.device)
        self.num_envs, self.num_agents = num_envs, self.params.num_stations
        self.agent_names = tuple(f"station_{index}" for index in range(self.num_agents))
        self.first_lane, self.auto_reset = first_lane, auto_reset
        self.action_spec: ActionSpec = action_spec(self.params, self.device)
        self._scales = observation_scales(self.device)
        self._seed, self._episode = 0, -1
        self._state: State | None = None
        self.settled: Settled | None = None
        """What happened in the last step's half hour (None after the first of two steps, and with the ledger off)."""

    @property
    def state(self) -> State:
        """The current state; ConfigError before the first reset."""
        if self._state is None:
            raise ConfigError("state: none yet, call reset(seed) first")
        return self._state

    def reset(self, seed: int, episode: int = 0) -> Tensor:
        """Observation `[E, N, F]` float32 of a new episode in every lane."""
        self._seed, self._episode = seed, episode
        return self._start()

    def _start(self, before: State | None = None) -> Tensor:
        """A new episode; after another one accounts live on."""
        self._state = reset(
            self.params,
            self.scenario,
            self._seed,
            self.num_envs,
            first_lane=self.first_lane,
            episode=self._episode,
        )
        if before is not None:
            self._state = self._state.with_changes(balances=before.balances)
        self.settled = None
        return observe(self.params, self._state, self._scales)

    def step(self, actions: Tensor) -> BatchStep:
        """One step of all lanes; rewards in tokens."""
        keep = self.ledger != "off"
        state, result = step(self.params, self.action_spec, self.state, actions, keep)
        final = observe(self.params, state, self._scales)
        self._state, self.settled = state, result.settled if keep else None
        observation = final
        if result.closed and self.auto_reset:
            self._episode += 1
            settled = self.settled
            observation = self._start(state)
            self.settled = settled
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
