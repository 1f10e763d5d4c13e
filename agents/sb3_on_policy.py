"""PPO and A2C of Stable-Baselines3 as agents of ours; one step at a time of `OnPolicyAlgorithm.collect_rollouts`."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from stable_baselines3 import A2C, PPO
from torch import Tensor

from gridmarl.agents.sb3_base import SB3Agent, copied, fill_arrays
from gridmarl.agents.sb3_options import A2COptions, PPOOptions
from gridmarl.errors import ActionError, ConfigError
from gridmarl.protocols import AgentContext, Transition

_ARRAYS = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs")


class _Pending(NamedTuple):
    """The policy's outputs for the step under way: one row per agent and lane."""

    action: Tensor  # [R] int64, or [R, A] float32 before it is clamped
    value: Tensor  # [R, 1] float32
    log_prob: Tensor  # [R] float32


class _OnPolicyAgent(SB3Agent):
    """Acts for `n_steps` steps, then trains on them. A truncated episode's value goes on, as in SB3."""

    def __init__(self, context: AgentContext) -> None:
        super().__init__(context)
        self._pending: _Pending | None = None
        self._episode_starts = np.ones(self.num_rows, dtype=np.bool_)

    def _constructor_arguments(self, context: AgentContext) -> dict[str, Any]:
        arguments = super()._constructor_arguments(context)
        if arguments["normalize_advantage"] and arguments["n_steps"] * self.num_rows == 1:
            raise ConfigError(
                f"{self.name}: n_steps=1 with one agent in one lane; allowed are two or more with normalize_advantage"
            )
        return arguments

    def _explore(self, observation: Tensor) -> Tensor:
        policy = self.model.policy
        policy.set_training_mode(False)
        with self._generators.in_use(), torch.no_grad():
            self._pending = _Pending(*policy(observation.reshape(self.num_rows, -1)))
        action = self._pending.action
        action = action.clamp(-1.0, 1.0) if self._continuous else action.clone()
        return action.reshape(observation.shape[0], self.num_agents, *action.shape[1:])

    def learn(self, transition: Transition) -> dict[str, float]:
        """Add one step of all lanes to the rollout; when it is full, train on it and start anew.

        Returns what SB3's `train` logged: `policy_loss`, `value_loss`, `entropy`, `explained_variance`, `lr`, and for
        PPO `approx_kl`, `clip_fraction`, `loss`; else nothing.

        Raises:
            ActionError: no act(explore=True) went before.
        """
        if self._pending is None:
            raise ActionError(f"{self.name}: learn without act(explore=True); allowed is one act for each learn")
        model, buffer, pending = self.model, self.model.rollout_buffer, self._pending
        self._count_step()
        ended = self._each_agent(transition.terminated | transition.truncated)
        buffer.add(
            self._rows(transition.observation),
            pending.action.reshape(self.num_rows, -1).cpu().numpy(),
            self._continued_rewards(transition),
            self._episode_starts,
            pending.value,
            pending.log_prob,
        )
        self._pending, self._episode_starts = None, ended
        if not buffer.full:
            return {}
        with torch.no_grad():
            # Where an episode ended SB3 has the next one's observation here; neither counts then.
            values = model.policy.predict_values(transition.next_observation.reshape(self.num_rows, -1))
        buffer.compute_returns_and_advantage(last_values=values, dones=ended)
        self._update_progress()
        with self._generators.in_use():
            model.train()
        buffer.reset()
        return self._take_metrics()

    def _continued_rewards(self, transition: Transition) -> Any:
        """Rewards `[R]`; where an episode was cut off, with the discounted value of its final observation."""
        rewards = self._rows(transition.reward).copy()
        cut_off = self._each_agent(transition.truncated & ~transition.terminated)
        if not cut_off.any():
            return rewards
        policy, final = self.model.policy, self._rows(transition.next_observation)
        # One by one as SB3 does: a batch could round differently.
        for row in np.flatnonzero(cut_off):
            with torch.no_grad():
                value = policy.predict_values(policy.obs_to_tensor(final[row])[0])[0]
            rewards[row] += float(self.model.gamma * value)
        return rewards

    def _buffer_state(self) -> dict[str, Any]:
        buffer = self.model.rollout_buffer
        return {
            "arrays": {name: copied(getattr(buffer, name), buffer.pos) for name in _ARRAYS},
            "pos": buffer.pos,
            "episode_starts": torch.from_numpy(self._episode_starts.copy()),
            "pending": None if self._pending is None else [part.clone() for part in self._pending],
        }

    def _load_buffer(self, state: dict[str, Any]) -> None:
        buffer = self.model.rollout_buffer
        buffer.reset()
        fill_arrays(self.name, buffer, state["arrays"])
        buffer.pos = state["pos"]
        self._episode_starts = state["episode_starts"].cpu().numpy().copy()
        pending = state["pending"]
        self._pending = None if pending is None else _Pending(*(part.to(self.device).clone() for part in pending))


class SB3PPO(_OnPolicyAgent):
    """SB3's PPO; options: `PPOOptions`."""

    name: ClassVar[str] = "sb3-ppo"
    algorithm = PPO
    options_class = PPOOptions


class SB3A2C(_OnPolicyAgent):
    """SB3's A2C; options: `A2COptions`."""

    name: ClassVar[str] = "sb3-a2c"
    algorithm = A2C
    options_class = A2COptions
