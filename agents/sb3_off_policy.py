"""DQN and SAC of Stable-Baselines3 as agents of ours; one step at a time of `OffPolicyAlgorithm.collect_rollouts`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN, SAC
from torch import Tensor

from gridmarl.agents.sb3_base import SB3Agent, copied, fill_arrays
from gridmarl.agents.sb3_options import DQNOptions, SACOptions
from gridmarl.errors import ActionError
from gridmarl.protocols import AgentContext, Transition

_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class _OffPolicyAgent(SB3Agent):
    """Keeps transitions and trains on samples of them, every `train_freq` steps of all lanes.

    A truncated episode's value goes on, as in SB3.
    """

    def __init__(self, context: AgentContext) -> None:
        super().__init__(context)
        self._pending: NDArray[Any] | None = None  # the action as SB3's replay buffer keeps it
        self._collected = 0  # steps of all lanes since the last training
        self._no_infos: list[dict[str, Any]] = [{} for _ in range(self.num_rows)]

    def _explore(self, observation: Tensor) -> Tensor:
        model = self.model
        model.policy.set_training_mode(False)
        model._last_obs = self._rows(observation)
        with self._generators.in_use():
            action, self._pending = model._sample_action(model.learning_starts, None, self.num_rows)
        return self._as_actions(action, observation.shape[0])

    def learn(self, transition: Transition) -> dict[str, float]:
        """Add one step of all lanes to the replay buffer; train when SB3 would.

        Returns what SB3 logged when it trained: for DQN `loss`, `epsilon`, `lr`; for SAC `actor_loss`, `critic_loss`,
        `ent_coef`, `ent_coef_loss`, `lr`; else nothing.

        Raises:
            ActionError: no act(explore=True) went before.
        """
        if self._pending is None:
            raise ActionError(f"{self.name}: learn without act(explore=True); allowed is one act for each learn")
        model = self.model
        self._count_step()
        model._last_obs = self._rows(transition.observation)
        ended = self._each_agent(transition.terminated | transition.truncated)
        model._store_transition(
            model.replay_buffer,
            self._pending,
            self._rows(transition.next_observation),
            self._rows(transition.reward),
            ended,
            self._infos(transition),
        )
        self._pending = None
        self._update_progress()
        model._on_step()
        self._collected += 1
        if self._collected < model.train_freq.frequency:
            return {}
        collected, self._collected = self._collected, 0
        return self._train(collected)

    def _infos(self, transition: Transition) -> list[dict[str, Any]]:
        """SB3's word for a time limit. The next observation is the final one already."""
        cut_off = self._each_agent(transition.truncated & ~transition.terminated)
        if not cut_off.any():
            return self._no_infos
        return [{"TimeLimit.truncated": bool(value)} for value in cut_off]

    def _train(self, collected: int) -> dict[str, float]:
        model = self.model
        if model.num_timesteps <= model.learning_starts:
            return {}
        # As many as SB3's environments made steps, if negative.
        steps = model.gradient_steps if model.gradient_steps >= 0 else collected * self.num_rows
        if steps == 0:
            return {}
        with self._generators.in_use():
            model.train(batch_size=model.batch_size, gradient_steps=steps)
        return self._take_metrics()

    def _buffer_state(self) -> dict[str, Any]:
        buffer = self.model.replay_buffer
        return {
            "arrays": {name: copied(getattr(buffer, name), buffer.size()) for name in _ARRAYS},
            "pos": buffer.pos,
            "full": buffer.full,
            "collected": self._collected,
            "pending": None if self._pending is None else torch.from_numpy(self._pending.copy()),
        }

    def _load_buffer(self, state: dict[str, Any]) -> None:
        buffer = self.model.replay_buffer
        fill_arrays(self.name, buffer, state["arrays"])
        buffer.pos, buffer.full = state["pos"], state["full"]
        self._collected = state["collected"]
        self._pending = None if state["pending"] is None else state["pending"].cpu().numpy().copy()


class SB3DQN(_OffPolicyAgent):
    """SB3's DQN, for discrete actions; options: `DQNOptions`."""

    name: ClassVar[str] = "sb3-dqn"
    algorithm = DQN
    options_class = DQNOptions
    action_kinds = ("discrete",)
    counters = (*SB3Agent.counters, "_n_calls", "exploration_rate")


class SB3SAC(_OffPolicyAgent):
    """SB3's SAC, for continuous actions; options: `SACOptions`."""

    name: ClassVar[str] = "sb3-sac"
    algorithm = SAC
    options_class = SACOptions
    action_kinds = ("continuous",)

    def _constructor_arguments(self, context: AgentContext) -> dict[str, Any]:
        arguments = super()._constructor_arguments(context)
        if arguments["target_entropy"] == "auto":
            # SB3's own choice, which it can make only where it is given an environment.
            arguments["target_entropy"] = -float(context.action_spec.size)
        return arguments
