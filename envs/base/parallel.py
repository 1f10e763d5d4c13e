"""A market as a PettingZoo ParallelEnv: one lane of a batched environment, agent by agent, with NumPy and floats."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from gymnasium import logger, spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from gridmarl.envs.base.batched import BatchedMarket
from gridmarl.envs.base.spaces import AgentType, action_space, joint_action, observation_space
from gridmarl.envs.rendering.modes import RENDER_FPS, RENDER_MODES, checked_render_mode
from gridmarl.envs.rendering.screen import Pixels, Scene, Screen
from gridmarl.errors import ActionError
from gridmarl.protocols import BatchStep

Observation = NDArray[np.float32]
Lanes = TypeVar("Lanes", bound=BatchedMarket[Any, Any])


class View(Scene, Protocol):
    """An episode so far, as something to look at."""

    def start(self, state: Any) -> None:
        """Begin an episode with the state after a reset."""
        ...

    def record(self, settled: Any) -> None:
        """Add a settled period."""
        ...


def metadata(env_id: str) -> dict[str, Any]:
    """What PettingZoo wants to know of an environment's class."""
    return {
        "name": env_id,
        "render_modes": list(RENDER_MODES),
        "render_fps": RENDER_FPS,
        "is_parallelizable": True,
    }


def everyone(lanes: BatchedMarket[Any, Any]) -> AgentType:
    """All agents of a batch, with the spaces of the batch."""
    return AgentType(lanes.agent_names, tuple(range(lanes.num_agents)), lanes.observation_fields, lanes.action_spec)


class ParallelMarket(ParallelEnv[str, Observation, Any], Generic[Lanes]):
    """A thin adapter over one lane. A subclass overrides `_advance` and `_rewards` if its types of agents need that.

    Args:
        lanes: batched environment of one lane that does not reset itself.
        view: what `render` shows.
        render_mode: "human", "rgb_array", "ansi", or None; ConfigError for any other.
        types: all agents, by their spaces; None: those of the batch, which share its spaces.
    """

    def __init__(
        self, lanes: Lanes, view: View, render_mode: str | None, types: Sequence[AgentType] | None = None
    ) -> None:
        self.render_mode = checked_render_mode(render_mode)
        self._screen = None if self.render_mode is None else Screen(self.render_mode, lanes.env_id)
        self._view, self._lanes = view, lanes
        self._types = (everyone(lanes),) if types is None else tuple(types)
        self.possible_agents = [name for kind in self._types for name in kind.names]
        self.agents: list[str] = []
        self._seed: int | None = None
        self._episode = 0
        members = [(kind, name) for kind in self._types for name in kind.names]
        self.observation_spaces = {name: observation_space(kind.fields) for kind, name in members}
        self.action_spaces = {name: action_space(kind.spec) for kind, name in members}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The observation space of an agent (the same object each time)."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The action space of an agent (the same object each time)."""
        return self.action_spaces[agent]

    @property
    def lanes(self) -> Lanes:
        """The batched environment underneath, for inspection: state, what was settled last."""
        return self._lanes

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start an episode. Without a seed, the next episode of the last seed (of a random one the first time).

        Args:
            options: `{"lane": i}` plays lane i of that seed: the same bits as lane i of a batch.
        """
        if seed is None and self._seed is not None:
            self._episode += 1
        else:
            self._seed, self._episode = secrets.randbits(63) if seed is None else seed, 0
        self._lanes.first_lane = int((options or {}).get("lane", 0))
        observation = self._lanes.reset(self._seed, self._episode)
        self.agents = list(self.possible_agents)
        if self._screen is not None:
            self._view.start(self._lanes.state)
            self._show_window()
        return self._observations(observation), {name: {} for name in self.agents}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """One step; ActionError for actions outside their space, and after the end."""
        if not self.agents:
            raise ActionError("step: the episode is over, call reset() first")
        result = self._advance(*self._joint_actions(actions))
        if self._screen is not None and self._lanes.settled is not None:
            self._view.record(self._lanes.settled)
            self._show_window()
        over, names = bool(result.truncated[0]), self.agents
        if over:
            self.agents = []
        return (
            self._observations(result.observation),
            self._rewards(result),
            dict.fromkeys(names, False),
            dict.fromkeys(names, over),
            {name: {} for name in names},
        )

    def _joint_actions(self, actions: dict[str, Any]) -> list[torch.Tensor]:
        """Of each type of agents, `[1, n]` int64 or `[1, n, size]` float32."""
        missing = [name for name in self.agents if name not in actions]
        unknown = [name for name in actions if name not in self.agents]
        if missing or unknown:
            raise ActionError(f"actions: missing {missing}, unknown {unknown}; allowed are exactly {self.agents}")
        return [joint_action(kind, actions) for kind in self._types]

    def _advance(self, *actions: torch.Tensor) -> BatchStep:
        """Step the lane with the actions of each type of agents."""
        return self._lanes.step(*actions)

    def _observations(self, observation: torch.Tensor) -> dict[str, Observation]:
        """By agent its row of `[1, P, F]`, and of that the fields of its type."""
        rows = np.ascontiguousarray(observation[0].numpy())
        out: dict[str, Observation] = {}
        for kind in self._types:
            if kind.fields == self._lanes.observation_fields:
                seen = rows
            else:
                seen = rows[:, [item in kind.fields for item in self._lanes.observation_fields]]
            out.update((name, seen[row]) for name, row in zip(kind.names, kind.rows, strict=True))
        return out

    def _rewards(self, result: BatchStep) -> dict[str, float]:
        """By agent, tokens."""
        return dict(zip(self._lanes.agent_names, result.reward[0].tolist(), strict=True))

    def render(self) -> Pixels | str | None:
        """The current frame: `[520, 800, 3]` uint8, text, or None where it is in a window or there is no render mode.

        Raises:
            ConfigError: before the first reset, or there is nowhere to open a window.
        """
        if self._screen is None:
            logger.warn(
                "You are calling render method without specifying any render mode. Allowed at construction, as "
                f"render_mode, are {', '.join(RENDER_MODES)}"
            )
            return None
        return self._screen.show(self._view)

    def _show_window(self) -> None:
        """Windows follow the market by themselves, as Gymnasium has it."""
        if self._screen is not None and self.render_mode == "human":
            self._screen.show(self._view)

    def close(self) -> None:
        """Free the window and the figure; more than once does no harm."""
        if self._screen is not None:
            self._screen.close()
