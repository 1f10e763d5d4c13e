"""What environments and agents know of each other: spaces, observations, and the batched protocol. Nothing else.

Public shapes lead with the lane: `E` lanes (independent copies of the environment), `P` agents, `F` observation fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class ObservationField:
    """One number that an agent sees: `value = integer * scale`, `scale` a power of two where `exact` is true.

    With a power-of-two scale and an integer below 2**24, the float32 is exact, and `round(value / scale)` recovers the
    integer.
    """

    name: str
    unit: str
    scale: float
    low: float
    high: float
    meaning: str


@dataclass(frozen=True)
class ActionSpec:
    """Either discrete (`num_actions` choices per agent) or continuous (`size` numbers in [-1, 1] per agent).

    Attributes:
        kind: "discrete" or "continuous".
        num_actions: choices of a discrete action, 0 if continuous.
        size: entries of a continuous action, 0 if discrete.
        names: names of the entries of the continuous action, in order (also for discrete: what the grid spans).
        grid: discrete only: `[num_actions, len(names)]` float32, the continuous action that each choice stands for.
    """

    kind: str
    num_actions: int
    size: int
    names: tuple[str, ...]
    grid: Tensor | None = None


class BatchStep(NamedTuple):
    """Result of one step of all lanes.

    `observation` is that of the next step: after an episode's end with auto-reset, the first of the new episode;
    `final_observation` always is the one that ended this step (use it for bootstrapping).
    """

    observation: Tensor  # [E, P, F] float32
    reward: Tensor  # [E, P] float32, tokens
    terminated: Tensor  # [E] bool; never true for a time limit
    truncated: Tensor  # [E] bool
    final_observation: Tensor  # [E, P, F] float32
    info: dict[str, Tensor]


@runtime_checkable
class BatchedEnv(Protocol):
    """Many lanes of one environment behind one stateful handle (the adapter around the pure `reset` and `step`)."""

    env_id: str
    num_envs: int
    num_agents: int
    agent_names: tuple[str, ...]
    observation_fields: tuple[ObservationField, ...]
    action_spec: ActionSpec
    device: torch.device

    def reset(self, seed: int) -> Tensor:
        """Observation `[E, P, F]` float32 of a new episode in every lane."""
        ...

    def step(self, actions: Tensor) -> BatchStep:
        """One step. `actions`: `[E, P]` int64 (discrete) or `[E, P, size]` float32 (continuous)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit (exact resume)."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        ...


@dataclass(frozen=True)
class Transition:
    """One step of all lanes, as a learner sees it. Shapes as in BatchStep; `action` as given to `step`."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor  # the final observation where the episode ended
    terminated: Tensor
    truncated: Tensor


class Workers(Protocol):
    """Processes that train one agent together, each with an equal share of the lanes, in order of their ranks."""

    rank: int
    size: int

    def add(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place; every process must call it, in the same order. Returns `values`."""
        ...


class Alone:
    """The only process."""

    rank = 0
    size = 1

    def add(self, values: Tensor) -> Tensor:
        """The values as they are."""
        return values


@dataclass(frozen=True)
class AgentContext:
    """What an agent is told when it is built: spaces and sizes, never the environment itself.

    `num_envs` are the lanes of this process, `workers.size * num_envs` those of all. An agent that trains with others
    says so by a class attribute `data_parallel = True`, and uses `workers` to sum what depends on all lanes.
    """

    num_envs: int
    num_agents: int
    observation_fields: tuple[ObservationField, ...]
    action_spec: ActionSpec
    device: torch.device
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    workers: Workers = field(default_factory=Alone)

    @property
    def first_lane(self) -> int:
        """Lane of all processes that is this one's first."""
        return self.workers.rank * self.num_envs

    def field_index(self, name: str) -> int:
        """Position of a named observation field; KeyError names the fields there are."""
        for index, item in enumerate(self.observation_fields):
            if item.name == name:
                return index
        raise KeyError(f"no observation field {name!r}; there are {[item.name for item in self.observation_fields]}")


@runtime_checkable
class Agent(Protocol):
    """A policy for all agents of all lanes at once; learning agents override `learn`.

    An agent may also have `load_policy(state)`, which takes from a `state_dict` only what acting without exploring
    needs: comparisons then read no replay memory.
    """

    name: str
    learns: bool

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Actions for `[E, P, F]` observations: `[E, P]` int64 or `[E, P, size]` float32.

        With `explore=False` a learning agent takes any number of lanes and changes none of its state, so that one
        object can be trained on many lanes and evaluated on few.
        """
        ...

    def learn(self, transition: Transition) -> dict[str, float]:
        """Take in one step of experience; returns what to log (may be empty)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimiser, replay memory, counters: everything for an exact resume."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        ...
