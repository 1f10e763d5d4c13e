"""A policy profile that is only played: the same actions in every copy of a lane, and its own state left as it was.

Lanes of copies: copy `c` of lane `e` is lane `c * E + e`, so that every `E` lanes in a row are one copy of the lanes
that the policy was built for.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent


class FrozenPolicy:
    """An `Agent` that does not explore or learn, for `E` lanes in any number of copies, in the continuous action space.

    An agent whose actions depend on a state that changes while it plays (random bids, say) is asked copy by copy from
    the same state, so that all copies meet the same draws. It may offer `in_copies(copies) -> Agent`, itself for
    `copies * E` lanes with each copy as the first, which is asked once instead.

    Args:
        agent: acts for all prosumers; built for `num_lanes` lanes where it is bound to a number of lanes.
        num_lanes: `E`.
        grid: `[A, size]` float32, what the choices of an agent for the discrete action space stand for.
    """

    def __init__(self, agent: Agent, num_lanes: int, grid: Tensor) -> None:
        self.agent, self.num_lanes, self._grid = agent, num_lanes, grid
        # an agent that learns takes any number of lanes and changes nothing when it does not explore (Agent.act)
        self._bound: bool | None = False if agent.learns or not agent.state_dict() else None

    @property
    def bound(self) -> bool:
        """Whether the agent is bound to `num_lanes` lanes, or may be: it has a state and was not tried out yet."""
        return self._bound is not False

    def snapshot(self) -> Any:
        """What `restore` takes to act again as from now; None where acting changes nothing."""
        return None if self._bound is False else deepcopy(self.agent.state_dict())

    def restore(self, snapshot: Any) -> None:
        """Act again as at the time of the snapshot."""
        if snapshot is not None:
            self.agent.load_state_dict(deepcopy(snapshot))

    @torch.no_grad()
    def act(self, observation: Tensor) -> Tensor:
        """Actions `[C * E, P, size]` float32 for observations `[C * E, P, F]` of `C` copies.

        Raises:
            ConfigError: an action that is neither a row of the grid nor has the entries of the action space.
        """
        copies = observation.shape[0] // self.num_lanes
        if self._bound is None and copies > 1:
            self._bound = self._is_bound(observation)
        if copies == 1 or not self._bound:
            return self._entries(self.agent.act(observation, explore=False), observation)
        if hasattr(self.agent, "in_copies"):
            twin = self.agent.in_copies(copies)
            action = twin.act(observation, explore=False)
            self.agent.load_state_dict(twin.state_dict())
            return self._entries(action, observation)
        before, actions = self.snapshot(), []
        for block in observation.split(self.num_lanes):
            self.restore(before)
            actions.append(self.agent.act(block, explore=False))
        return self._entries(torch.cat(actions), observation)

    def _entries(self, action: Tensor, observation: Tensor) -> Tensor:
        if not action.is_floating_point():
            action = self._grid[action]
        if action.shape != (*observation.shape[:2], self._grid.shape[1]):
            raise ConfigError(
                f"{self.agent.name}: actions of shape {list(action.shape)}, allowed are "
                f"{[*observation.shape[:2], self._grid.shape[1]]} or rows of the grid {list(observation.shape[:2])}"
            )
        return action

    def _is_bound(self, observation: Tensor) -> bool:
        """Whether the agent cannot act for two copies at once, or acts differently in them, or changes by acting."""
        before = self.snapshot()
        try:
            twice = self.agent.act(observation[: self.num_lanes].repeat(2, 1, 1), explore=False)
        except (RuntimeError, ValueError, IndexError):  # lanes that do not fit
            return True
        finally:
            after = self.agent.state_dict()
            changed = not _equal(before, after)
            self.restore(before)
        first, second = twice.chunk(2)
        return changed or not torch.equal(first, second)


def _equal(one: Any, other: Any) -> bool:
    """Equality of nested containers of tensors and plain values."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
