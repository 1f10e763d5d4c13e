"""Stable-Baselines3: every prosumer of every lane is one SB3 environment (parameter sharing), stepped as one batch.

SB3 environment `lane * P + agent` is agent `agent` of lane `lane`. No Python loop over agents or lanes in a step; at
the end of an episode, which all lanes reach together, each gets its terminal observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from gridmarl.envs.base.spaces import action_space, observation_space
from gridmarl.errors import ActionError, ConfigError
from gridmarl.protocols import BatchedEnv


class SB3VecEnv(VecEnv):
    """A batched environment as an SB3 `VecEnv` of `num_envs * num_agents` environments with auto-reset.

    Args:
        env: batched environment that resets itself at the end of an episode.
        seed: of the first episode; `seed()` sets another for the next `reset`.
    """

    def __init__(self, env: BatchedEnv, seed: int = 0) -> None:
        self.env = env
        self._next_seed = seed
        self._actions: torch.Tensor | None = None
        self._no_infos: list[dict[str, Any]] = [{} for _ in range(env.num_envs * env.num_agents)]
        self.render_mode = None
        super().__init__(
            env.num_envs * env.num_agents, observation_space(env.observation_fields), action_space(env.action_spec)
        )

    def reset(self) -> VecEnvObs:
        """First observation of a new episode, `[E * P, F]` float32."""
        observation = self._flat(self.env.reset(self._next_seed))
        self._next_seed = (self._next_seed + 1) % 2**63
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions `[E * P]` or `[E * P, size]` for `step_wait`."""
        shape = (self.env.num_envs, self.env.num_agents, *actions.shape[1:])
        kind = torch.int64 if self.env.action_spec.num_actions else torch.float32
        self._actions = torch.as_tensor(actions.reshape(shape), dtype=kind, device=self.env.device)

    def step_wait(self) -> VecEnvStepReturn:
        """Observations, rewards, dones and infos of all agents of all lanes."""
        if self._actions is None:
            raise ActionError("step_wait: no actions, call step_async first")
        result = self.env.step(self._actions)
        self._actions = None
        observation = self._flat(result.observation)
        rewards = result.reward.reshape(-1).cpu().numpy()
        ended = (result.terminated | result.truncated).cpu().numpy()
        dones = np.repeat(ended, self.env.num_agents)
        if not ended.any():
            return observation, rewards, dones, self._no_infos
        return observation, rewards, dones, self._end_infos(result.final_observation, result.terminated, dones)

    def _end_infos(
        self, final: torch.Tensor, terminated: torch.Tensor, dones: NDArray[np.bool_]
    ) -> list[dict[str, Any]]:
        last = self._flat(final)
        cut = np.repeat((~terminated).cpu().numpy(), self.env.num_agents)
        return [
            {"terminal_observation": last[index], "TimeLimit.truncated": bool(cut[index])} if dones[index] else {}
            for index in range(self.num_envs)
        ]

    def _flat(self, observation: torch.Tensor) -> NDArray[np.float32]:
        flat: NDArray[np.float32] = observation.reshape(self.num_envs, -1).cpu().numpy()
        return flat

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed of the next `reset`; one seed for all, lanes are apart anyway."""
        if seed is not None:
            self._next_seed = seed
        return [seed] * self.num_envs

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute, once per environment asked for."""
        return [getattr(self.env, attr_name, getattr(self, attr_name, None)) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not possible: the environments are rows of one batch."""
        raise ConfigError(f"set_attr {attr_name!r}: the environments are rows of one batch and have no attributes")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Not possible, as `set_attr`."""
        raise ConfigError(f"env_method {method_name!r}: the environments are rows of one batch and have no methods")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """No environment is wrapped."""
        return [False for _ in self._get_indices(indices)]
