"""Replay memory as device tensors, and running moments for normalisation. No random numbers, no host transfers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridmarl.errors import ConfigError
from gridmarl.protocols import Workers


class Batch(NamedTuple):
    """Transitions taken from the memory; leading shape `[B, P]` (by slot) or `[B]` (by transition)."""

    observation: Tensor  # [..., F] float32
    action: Tensor  # [...] int64
    reward: Tensor  # [...] float32
    next_observation: Tensor  # [..., F] float32
    terminal: Tensor  # [...] bool


class ReplayMemory:
    """Ring buffer of slots; a slot is one step of one lane and holds one transition of each of `P` agents.

    Agents' transitions never mix: agent `p`'s are those at `[:, p]`. The capacity is rounded down to whole steps of all
    lanes, so a step is one contiguous copy that never wraps. Memory: about `capacity * P * (8 F + 13)` bytes.

    Args:
        horizon: consecutive steps of a lane that are drawn together (`followed`).

    Raises:
        ConfigError: capacity below `horizon` steps of all lanes.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        num_agents: int,
        num_features: int,
        device: torch.device,
        *,
        horizon: int = 1,
    ) -> None:
        if capacity < num_envs:
            raise ConfigError(f"replay_capacity={capacity}: must be at least the number of lanes, {num_envs}")
        if capacity < horizon * num_envs:
            raise ConfigError(
                f"replay_capacity={capacity}: must be at least {horizon} steps of {num_envs} lanes, "
                f"{horizon * num_envs}"
            )
        self.capacity = capacity - capacity % num_envs
        self.horizon = horizon
        self.num_envs = num_envs
        self.num_agents = num_agents
        shape = (self.capacity, num_agents)
        self._store = Batch(
            observation=torch.zeros(*shape, num_features, device=device),
            action=torch.zeros(shape, dtype=torch.int64, device=device),
            reward=torch.zeros(shape, device=device),
            next_observation=torch.zeros(*shape, num_features, device=device),
            terminal=torch.zeros(shape, dtype=torch.bool, device=device),
        )
        self._ended = torch.zeros(self.capacity, dtype=torch.bool, device=device)
        self.position = 0
        self.size = 0

    @property
    def usable(self) -> int:
        """Slots that `horizon - 1` later steps of the same lane follow."""
        return max(self.size - (self.horizon - 1) * self.num_envs, 0)

    def add(self, batch: Batch, ended: Tensor | None = None) -> None:
        """Store one step of all lanes, `[E, P, ...]`; overwrites the oldest step once the ring is full.

        Args:
            ended: `[E]` bool, whether the episode ended with this step; None: it did not.
        """
        for stored, new in zip(self._store, batch, strict=True):
            stored.narrow(0, self.position, self.num_envs).copy_(new)
        self._ended.narrow(0, self.position, self.num_envs).copy_(ended if ended is not None else torch.zeros(()))
        self.position = (self.position + self.num_envs) % self.capacity
        self.size = min(self.size + self.num_envs, self.capacity)

    def by_slot(self, index: Tensor) -> Batch:
        """All agents' transitions of the slots `index` `[B]` in `0..size-1`: `[B, P, ...]`."""
        return Batch(*(stored.index_select(0, index) for stored in self._store))

    def by_transition(self, index: Tensor) -> Batch:
        """Single transitions, `index` `[B]` in `0..size*P-1`, `index = slot * P + agent`: `[B, ...]`."""
        return Batch(*(stored.flatten(0, 1).index_select(0, index) for stored in self._store))

    def usable_slots(self, index: Tensor) -> Tensor:
        """The slots that are `index` `[B]`, in `0..usable-1`, in order of age where `horizon` exceeds 1."""
        if self.horizon == 1 or self.size < self.capacity:
            return index
        return (self.position + index) % self.capacity

    def followed(self, batch: Batch, slot: Tensor, agent: Tensor | None, discount: float) -> tuple[Batch, Tensor]:
        """`batch` with the rewards of up to `horizon` steps, fewer where the episode ends before.

        Args:
            batch: what `by_slot(slot)` or, with `agent` `[B]`, `by_transition(slot * P + agent)` returned.
            slot: `[B]`, from `usable_slots`.

        Returns:
            The batch, its reward the discounted sum, next observation and terminal of the last step; and the weight of
            the value there, `discount ** steps`, as the reward's shape.
        """
        reward, last, weight = batch.reward, slot, torch.full_like(batch.reward, discount)
        going = ~self._ended.index_select(0, slot)
        for ahead in range(1, self.horizon):
            later = (slot + ahead * self.num_envs) % self.capacity
            rows = self._store.reward.index_select(0, later)
            gained = rows if agent is None else rows.gather(1, agent.unsqueeze(1)).squeeze(1)
            on = going.unsqueeze(1) if agent is None else going
            reward = reward + (weight * gained).masked_fill(~on, 0.0)
            weight = torch.where(on, weight * discount, weight)
            last = torch.where(going, later, last)
            going = going & ~self._ended.index_select(0, later)
        stored = self._store
        if agent is None:
            following, terminal = (x.index_select(0, last) for x in (stored.next_observation, stored.terminal))
        else:
            row = last * self.num_agents + agent
            following, terminal = (
                x.flatten(0, 1).index_select(0, row) for x in (stored.next_observation, stored.terminal)
            )
        return batch._replace(reward=reward, next_observation=following, terminal=terminal), weight

    def state_dict(self) -> dict[str, Any]:
        """The filled part and the ring's position."""
        filled = {name: stored[: self.size].clone() for name, stored in self._store._asdict().items()}
        ended = self._ended[: self.size].clone()
        return {
            "position": self.position,
            "size": self.size,
            "capacity": self.capacity,
            "slots": filled,
            "ended": ended,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            ConfigError: the saved memory has another capacity or other shapes.
        """
        if state["capacity"] != self.capacity:
            raise ConfigError(
                f"saved replay memory holds {state['capacity']} slots; this agent's holds {self.capacity}"
            )
        for name, stored in self._store._asdict().items():
            saved = state["slots"][name]
            if saved.shape[1:] != stored.shape[1:]:
                raise ConfigError(
                    f"saved replay memory: {name} has shape {tuple(saved.shape[1:])} per slot; allowed is "
                    f"{tuple(stored.shape[1:])}"
                )
            stored[: state["size"]].copy_(saved)
        self._ended[: state["size"]].copy_(state["ended"])
        self.position = state["position"]
        self.size = state["size"]


class RunningMoments:
    """Mean and standard deviation of everything seen so far by all processes, in float64 (Chan et al., 1979).

    Constant entries (deviation below `1e-8`) have scale 1, so that they normalise to 0 instead of noise.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, workers: Workers) -> None:
        self.count = 0
        self._workers = workers
        self._mean = torch.zeros(shape, dtype=torch.float64, device=device)
        self._squares = torch.zeros(shape, dtype=torch.float64, device=device)
        self._refresh()

    def update(self, samples: Tensor) -> None:
        """Take in samples `[M, *shape]`, of every process as many."""
        values, workers = samples.to(torch.float64), self._workers
        new = samples.shape[0] * workers.size
        total = self.count + new
        mean = workers.add(values.mean(dim=0)) / workers.size
        delta = mean - self._mean
        self._squares += workers.add((values - mean).square_().sum(dim=0)) + delta.square() * (self.count * new / total)
        self._mean += delta * (new / total)
        self.count = total
        self._refresh()

    def _refresh(self) -> None:
        """Float32 copies that `normalise` and `scale` use."""
        deviation = (self._squares / max(self.count, 1)).sqrt()
        self._inverse = torch.where(deviation < 1e-8, 1.0, 1.0 / deviation).to(torch.float32)
        self._centre = self._mean.to(torch.float32)

    def normalise(self, values: Tensor) -> Tensor:
        """`(values - mean) / deviation`, clamped to +-10, float32; `values` is `[..., *shape]`."""
        return ((values - self._centre) * self._inverse).clamp_(-10.0, 10.0)

    def scale(self, values: Tensor) -> Tensor:
        """`values / deviation` without shifting the mean, float32."""
        return values * self._inverse

    def state_dict(self) -> dict[str, Any]:
        """Count, mean and sum of squared deviations."""
        return {"count": self.count, "mean": self._mean.clone(), "squares": self._squares.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.count = state["count"]
        self._mean.copy_(state["mean"])
        self._squares.copy_(state["squares"])
        self._refresh()
