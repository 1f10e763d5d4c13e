"""Many lanes of a market behind one handle: the part of gridmarl.protocols.BatchedEnv that all environments share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from gridmarl.envs.base.state import LaneState, StepResult
from gridmarl.errors import ConfigError
from gridmarl.protocols import ActionSpec, BatchStep, ObservationField
from gridmarl.units import UTOK_PER_TOKEN

State = TypeVar("State", bound=LaneState)
Settled = TypeVar("Settled")


class BatchedMarket(ABC, Generic[State, Settled]):
    """Lanes `first_lane .. first_lane + num_envs - 1` of a market, auto-resetting at the horizon.

    A subclass sets the attributes without a value here, and says how an episode begins (`_begin`), goes on (`_next`)
    and is seen (`_observe`); `_record` is told of each settled period.

    Args:
        agent_names: in the order of the rows of observations and actions.
        num_envs: lanes.
        device: where everything lives.
        first_lane: lane number of the first lane; lane i of a batch equals the single run with `first_lane=i`.
        auto_reset: start the next episode at the horizon; else the caller calls `reset`.

    Raises:
        ConfigError: `num_envs` is not allowed.
    """

    env_id: str
    observation_fields: tuple[ObservationField, ...]
    action_spec: ActionSpec
    state_type: type[State]
    lasting: ClassVar[tuple[str, ...]] = ("balances",)
    """Fields of the state that live on in the episode that follows by itself."""

    def __init__(
        self,
        agent_names: tuple[str, ...],
        *,
        num_envs: int,
        device: torch.device | str,
        first_lane: int,
        auto_reset: bool,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs: {num_envs}, allowed is 1 or more")
        self.agent_names, self.num_agents, self.num_envs = agent_names, len(agent_names), num_envs
        self.device = torch.device(device)
        self.first_lane, self.auto_reset = first_lane, auto_reset
        self._seed, self._episode = 0, -1
        self._state: State | None = None
        self.settled: Settled | None = None
        """What happened in the period that the last step settled; None if it settled none, and with the ledger off."""

    @abstractmethod
    def _begin(self, seed: int, episode: int) -> State:
        """The state of all lanes at the start of an episode."""

    @abstractmethod
    def _next(self, actions: Tensor) -> tuple[State, StepResult[Settled], Tensor]:
        """The next state, the outcome, and the observation `[E, P, F]` that follows."""

    @abstractmethod
    def _observe(self, state: State) -> Tensor:
        """Observation `[E, P, F]` float32."""

    def _record(self, settled: Settled) -> None:
        """Keep a settled period; called once for each, before the next episode begins."""

    @property
    def state(self) -> State:
        """The current state; ConfigError before the first reset."""
        if self._state is None:
            raise ConfigError("state: none yet, call reset(seed) first")
        return self._state

    def reset(self, seed: int, episode: int = 0) -> Tensor:
        """Observation `[E, P, F]` float32 of a new episode in every lane."""
        self._seed, self._episode = seed, episode
        self._state, self.settled = self._begin(seed, episode), None
        return self._observe(self._state)

    def step(self, actions: Tensor) -> BatchStep:
        """One step of all lanes; rewards in tokens."""
        return self._finish(*self._next(actions))

    def _finish(self, state: State, result: StepResult[Settled], final: Tensor) -> BatchStep:
        """Take over the next state; at the horizon, begin the next episode."""
        self._state, self.settled = state, result.settled
        if result.settled is not None:
            self._record(result.settled)
        observation = final
        if result.closed and self.auto_reset:
            self._episode += 1
            begun = self._begin(self._seed, self._episode)
            self._state = begun.with_changes(**{name: getattr(state, name) for name in self.lasting})
            observation = self._observe(self._state)
        flags = torch.full((self.num_envs,), result.closed, device=self.device)
        reward = (result.reward_utok.to(torch.float32) * (1.0 / UTOK_PER_TOKEN)).T
        return BatchStep(observation, reward, torch.zeros_like(flags), flags, final, {})

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""
        return {"seed": self._seed, "episode": self._episode, "state": self.state.to_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._seed, self._episode = state["seed"], state["episode"]
        self._state, self.settled = self.state_type.from_dict(state["state"]), None
