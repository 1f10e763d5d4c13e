"""Proximal policy optimisation on `[E, P, F]` tensors (Schulman et al., 2017), for discrete and continuous actions.

One update: act for `rollout_steps` steps of all lanes; estimate advantages (generalised advantage estimation, Schulman
et al., 2016); then, for a few epochs of shuffled minibatches, take gradient steps on the clipped objective
`min(ratio * A, clip(ratio, 1 - c, 1 + c) * A)` and on the squared error of the value. All agents and lanes go through
each line at once.

With `critic="central"` it is multi-agent PPO (Yu et al., "The surprising effectiveness of PPO in cooperative
multi-agent games", 2022): in training, the critic sees the observations of all agents of the lane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gridmarl.agents.compiling import can_compile, compiled, keep_in_place
from gridmarl.agents.outside_option import OutsideOption
from gridmarl.agents.ppo_config import PPOConfig
from gridmarl.agents.ppo_loss import LossWeights, Rows, log_prob_and_entropy, policy_terms, value_errors
from gridmarl.agents.ppo_networks import NetworkLayout, evaluate, initial_networks, normals, uniforms
from gridmarl.agents.ppo_rollout import empty_rollout, generalised_advantage
from gridmarl.agents.ppo_step import (
    AdamState,
    StepSettings,
    actor_to_compile,
    adam_scales,
    gradient_step_,
    step_to_compile,
)
from gridmarl.agents.registry_options import from_options
from gridmarl.agents.replay import RunningMoments
from gridmarl.agents.sharing import SlotShare, standardised
from gridmarl.errors import ActionError, ConfigError
from gridmarl.protocols import AgentContext, Transition
from gridmarl.random import Purpose, draw, lane_keys

_WORDS = 4  # random words per Philox draw


class PPO:
    """Proximal policy optimisation; an `Agent` (see gridmarl.protocols). Options: `PPOConfig`.

    `N` actors and `N` critics are trained: `N = 1` (policy "shared") or `N = P` ("independent", which never see each
    other's rewards or actions). A minibatch holds whole slots (one step of one lane): each of the slot's agents is a
    row of the shared network, or of its own.

    Continuous actions are samples of a Gaussian, clamped to [-1, 1] when they leave; the probability is that of the
    sample before. Parameters do not change during a rollout, so values and probabilities of the whole rollout are
    computed in one batch at its end.

    Every random choice is a function of (seed, counter), and the counters are in `state_dict`, so a run can be resumed
    bit for bit.

    Raises:
        ConfigError: unknown or refused options, or more minibatches than slots in a rollout.
    """

    name = "ppo"
    learns = True
    data_parallel = True

    def __init__(self, context: AgentContext) -> None:
        self.config = config = from_options(PPOConfig, context.options, "ppo")
        spec, self.device = context.action_spec, context.device
        self.num_envs, self.num_agents = context.num_envs, context.num_agents
        self._width = len(context.observation_fields)
        self._continuous = spec.kind == "continuous"
        self._num_outputs = spec.size if self._continuous else spec.num_actions
        self._separate = config.policy == "independent"
        self.num_networks = self.num_agents if self._separate else 1
        self._share = SlotShare(context)
        self._workers = context.workers
        self._slots = config.rollout_steps * self._share.total_envs  # of all processes
        if config.minibatches > self._slots:
            raise ConfigError(
                f"ppo: minibatches={config.minibatches}; allowed are up to rollout_steps x lanes = {self._slots}"
            )
        self._outside = OutsideOption(context, config.outside_option, config.discount)

        generator = torch.Generator().manual_seed(context.seed % 2**63)
        self.layout = self._layout()
        self.parameters = initial_networks(self.num_networks, self.layout, config.log_std, generator).to(self.device)
        self.parts = self.layout.parts(self.parameters)
        self.adam = AdamState(torch.zeros_like(self.parameters), torch.zeros_like(self.parameters))
        weights = LossWeights(config.clip, config.value_clip, config.value_weight, config.entropy_weight)
        self._settings = StepSettings(self.layout, weights, config.max_gradient_norm)
        self._actor = partial(evaluate, self.parts.actor, config.activation)
        self._step = partial(gradient_step_, self.parameters, self.parts, self._workers)
        if config.compile and self._workers.size > 1:
            raise ConfigError(f"ppo: compile=true in {self._workers.size} processes; allowed is false, or one process")
        if config.compile and can_compile(self.device, self.name):
            keep_in_place(self.parameters, *self.adam)
            self._actor = partial(compiled(actor_to_compile, self.device), self.layout, self.parameters)
            self._step = partial(compiled(step_to_compile, self.device), self.parameters)

        shape = (self.num_agents,) if self._separate else ()
        self._observation_moments = RunningMoments((*shape, self._width), self.device, self._workers)
        self._reward_moments = RunningMoments(shape, self.device, self._workers)
        self._rollout = empty_rollout(
            config.rollout_steps,
            (self.num_envs, self.num_agents),
            self._width,
            self._num_outputs if self._continuous else None,
            config.rollout_steps if config.bootstrap_truncation else 1,
            self.device,
        )
        self._position = 0  # steps in the rollout
        self._sample: Tensor | None = None  # of the last act(explore=True)

        self._one_hot = torch.eye(self.num_agents, device=self.device)
        # The lanes' keys once per step of a rollout: one draw serves a whole rollout.
        keys = lane_keys(context.seed, self.num_envs, first_lane=context.first_lane, device=self.device)
        self._explore_keys = keys.repeat(1, config.rollout_steps)
        self._shuffle_keys = lane_keys(context.seed, self._slots, device=self.device)
        self._noise: tuple[int, Tensor] | None = None
        self._explorations = 0  # act(explore=True) calls
        self._updates = 0
        self._gradient_steps = 0
        self._learn_calls = 0

    def _layout(self) -> NetworkLayout:
        config = self.config
        own = self._width + (self.num_agents if config.agent_id else 0)
        central = config.critic == "central"
        # A shared central critic gives the values of all agents at once: they differ, the observations do not.
        values = self.num_agents if central and not self._separate else 1
        return NetworkLayout(
            actor=(own, *config.hidden, self._num_outputs),
            critic=(self._width * self.num_agents if central else own, *config.hidden, values),
            continuous=self._continuous,
            activation=config.activation,
        )

    # Acting -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Most likely actions for `[E, P, F]` observations, `[E, P]` int64 or `[E, P, A]` float32; samples to explore.

        With `explore`, the sample is remembered for `learn`.
        """
        if not explore:
            outputs = self.action_outputs(observation)
            return outputs.clamp_(-1.0, 1.0) if self._continuous else outputs.argmax(dim=-1)
        if self._observation_moments.count == 0:
            self._update_moments(observation.unsqueeze(0))
        outputs = self._outputs(observation, self._actor)
        noise = self._exploration_noise()
        if self._continuous:
            assert self.parts.log_std is not None
            deviation = self.parts.log_std.exp().squeeze(1)  # [N, A], broadcasts over lanes and agents
            self._sample = torch.addcmul(outputs, noise, deviation)
            return self._sample.clamp(-1.0, 1.0)
        cumulative = outputs.softmax(dim=-1).cumsum(dim=-1)
        below = cumulative[..., :-1] < noise.unsqueeze(-1) * cumulative[..., -1:]
        self._sample = below.sum(dim=-1)
        return self._sample

    def action_outputs(self, observation: Tensor) -> Tensor:
        """Logits or means `[E, P, A]` float32 for `[E, P, F]` observations."""
        return self._outputs(observation, partial(evaluate, self.parts.actor, self.config.activation))

    def _outputs(self, observation: Tensor, actor: Callable[[Tensor], Tensor]) -> Tensor:
        rows = self._rows(self._features(observation.unsqueeze(0)))
        return self._steps(actor(rows), (1, *observation.shape[:2])).squeeze(0)

    def _features(self, observation: Tensor) -> Tensor:
        """`[..., P, F]` observations, normalised, and which agent it is where wanted: `[..., P, F']`."""
        if self.config.normalise_observations:
            observation = self._observation_moments.normalise(observation)
        if self.config.agent_id:
            who = self._one_hot.expand(*observation.shape[:-1], self.num_agents)
            observation = torch.cat((observation, who), dim=-1)
        return observation

    def _rows(self, values: Tensor) -> Tensor:
        """`[T, E, P, ...]` as rows of each network, `[N, B, ...]`: `B = T * E` for separate ones, else `T * E * P`."""
        return values.flatten(0, 1).transpose(0, 1) if self._separate else values.flatten(0, 2).unsqueeze(0)

    def _steps(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """`[N, B, ...]` as `[T, E, P, ...]`, given `(T, E, P)`."""
        return (rows.transpose(0, 1) if self._separate else rows).reshape(*shape, *rows.shape[2:])

    def _exploration_noise(self) -> Tensor:
        """Noise of this step: uniform `[E, P]` (discrete) or normal `[E, P, A]`; drawn for a rollout at a time."""
        steps = self.config.rollout_steps
        period, step = divmod(self._explorations, steps)
        if self._noise is None or self._noise[0] != period:
            first = period * steps
            counter = torch.arange(first, first + steps, device=self.device).repeat_interleave(self.num_envs)
            needed = self._num_outputs if self._continuous else 1
            draws = [
                draw(self._explore_keys, counter, Purpose.EXPLORE, num_agents=self.num_agents, index=index)
                for index in range(-(-needed // _WORDS))
            ]
            noise = torch.cat([normals(words) if self._continuous else uniforms(words[:1]) for words in draws])
            noise = noise[:needed].view(needed, self.num_agents, steps, self.num_envs).permute(2, 3, 1, 0)
            self._noise = (period, noise.contiguous() if self._continuous else noise.squeeze(-1))
        self._explorations += 1
        return self._noise[1][step]

    # Learning ---------------------------------------------------------------------------------------------------------

    def learn(self, transition: Transition) -> dict[str, float]:
        """Add one step of all lanes to the rollout; when it is full, train on it and start anew.

        Returns losses, entropy, divergence (`approx_kl`), `clip_fraction`, gradient norms, `explained_variance` (of the
        returns by the values) and the learning rate, of the update's last minibatch, every `log_every` updates; else
        nothing.

        Raises:
            ActionError: no act(explore=True) went before.
        """
        self._store(transition)
        self._learn_calls += 1
        if self._position < self.config.rollout_steps:
            return {}
        self._position = 0
        measured = self._update()
        self._updates += 1
        if self._updates % self.config.log_every:
            return {}
        return {**dict(zip(measured, torch.stack(list(measured.values())).tolist(), strict=True)), "lr": self._rate()}

    @torch.no_grad()
    def _store(self, transition: Transition) -> None:
        if self._sample is None:
            raise ActionError("ppo: learn without act(explore=True) before; allowed is one act for each learn")
        rollout, step = self._rollout, self._position
        ended = (transition.terminated | transition.truncated).unsqueeze(-1)
        terminal = transition.terminated.unsqueeze(-1) if self.config.bootstrap_truncation else ended
        following = transition.next_observation
        rollout.observation[step].copy_(transition.observation)
        rollout.sample[step].copy_(self._sample)
        rollout.reward[step].copy_(self._outside.shape(transition.reward, transition.observation, following, terminal))
        rollout.terminal[step].copy_(terminal)
        rollout.ended[step].copy_(ended)
        rollout.following[min(step, rollout.following.shape[0] - 1)].copy_(following)
        self._sample = None
        self._position += 1

    def _rate(self) -> float:
        """Learning rate now."""
        steps = self._learn_calls * self._share.total_envs
        left = max(0.0, 1.0 - steps / self.config.anneal_steps) if self.config.anneal_steps else 1.0
        return self.config.learning_rate * left

    @torch.no_grad()
    def _update(self) -> dict[str, Tensor]:
        """Train on the full rollout; returns what the last minibatch measured, on the device."""
        config = self.config
        columns = self._prepare()
        steps = config.epochs * config.minibatches
        scales = adam_scales(self._gradient_steps + 1, steps, self._rate()).to(self.device).unbind()
        measured: dict[str, Tensor] = {}
        for epoch in range(config.epochs):
            minibatches = self._minibatches(columns, epoch)
            for part, (rows, share) in enumerate(minibatches, epoch * config.minibatches):
                if part == steps - 1:
                    measured = self._measure(rows, share)
                norms = self._step(self.adam, scales[part], rows, self._settings, *share)
        self._gradient_steps += steps
        self._update_moments(self._rollout.observation)
        actor_norm, critic_norm = norms.mean(dim=1).unbind()
        return {**measured, "gradient_norm": actor_norm, "value_gradient_norm": critic_norm}

    def _prepare(self) -> Rows:
        """The rollout with values, probabilities, advantages and value targets by the parameters that played it.

        By slot: `[1, S, P, ...]` for a shared network, `[P, S, ...]` for separate ones, `S = T * E`.
        """
        config, rollout = self.config, self._rollout
        reward = rollout.reward
        if config.normalise_rewards:
            self._reward_moments.update(reward.flatten(0, 1) if self._separate else reward.flatten())
            reward = self._reward_moments.scale(reward)
        features = self._features(rollout.observation)
        value = self._value(features)
        later = self._value(self._features(rollout.following))
        if not config.bootstrap_truncation:
            later = torch.cat((value[1:], later))
        advantage = generalised_advantage(
            reward, value, later, rollout.terminal, rollout.ended, config.discount, config.gae_lambda
        )
        target = advantage + value
        if config.normalise_advantages:
            advantage = standardised(advantage, (0, 1) if self._separate else (0, 1, 2), self._share)
        outputs = evaluate(self.parts.actor, config.activation, self._rows(features))
        log_prob, _ = log_prob_and_entropy(outputs, self.parts.log_std, self._rows(rollout.sample))
        by_slot = [
            x.flatten(0, 1).transpose(0, 1).contiguous() if self._separate else x.flatten(0, 1).unsqueeze(0)
            for x in (features, rollout.sample, self._steps(log_prob, reward.shape), advantage, target, value)
        ]
        seen = by_slot[0] if config.critic == "own" else self._everyone(features)
        return Rows(by_slot[0], seen, *by_slot[1:])

    def _everyone(self, features: Tensor) -> Tensor:
        """Of `[T, E, P, F']`, what a central critic sees, `[1, T * E, P * F]`."""
        return features[..., : self._width].flatten(2).flatten(0, 1).unsqueeze(0)

    def _value(self, features: Tensor) -> Tensor:
        """Values `[T, E, P]` of features `[T, E, P, F']`, in units of scaled reward."""
        seen = self._rows(features)
        if self.config.critic == "central":
            seen = self._everyone(features).expand(self.num_networks, -1, -1)
        value = evaluate(self.parts.critic, self.config.activation, seen)
        return self._steps(value.flatten(1), features.shape[:3])

    def _shuffled(self, epoch: int) -> tuple[Tensor, list[int], list[float]]:
        """This process's slots in the order of this epoch, `[S]` int64: that of random words (ties keep their order).

        Also where its minibatches begin and end, and which share of each it has.
        """
        index, word = divmod(epoch, _WORDS)
        words = draw(self._shuffle_keys, self._updates, Purpose.REPLAY, index=index)[word]
        parts = self.config.minibatches
        bounds = [self._slots * part // parts for part in range(parts + 1)]
        order, own = self._share.own_parts(words.argsort(stable=True), bounds)
        shares = [(b - a) / (d - c) for (a, b), (c, d) in zip(pairwise(own), pairwise(bounds), strict=True)]
        return order, own, shares

    def _minibatches(self, columns: Rows, epoch: int) -> Iterator[tuple[Rows, tuple[float, ...]]]:
        """What `_prepare` returns as rows `[N, B, ...]` of each minibatch, and which share of it they are.

        The share is left out in the only process, where it is all.
        """
        order, bounds, shares = self._shuffled(epoch)
        features = self._split(columns.features, order, bounds, by_agent=not self._separate)
        seen = features
        if columns.seen is not columns.features:
            parts = self._split(columns.seen, order, bounds, by_agent=False)
            seen = [x.expand(self.num_networks, -1, -1) for x in parts]
        rest = (self._split(column, order, bounds, by_agent=not self._separate) for column in columns[2:])
        told = [(share,) if self._workers.size > 1 else () for share in shares]
        return zip(map(Rows, features, seen, *rest), told, strict=True)

    def _split(self, column: Tensor, order: Tensor, bounds: Sequence[int], *, by_agent: bool) -> Sequence[Tensor]:
        column = column.index_select(1, order)
        each = self.num_agents if by_agent else 1
        if by_agent:
            column = column.flatten(1, 2)
        minibatches: Sequence[Tensor] = column.split([each * (end - at) for at, end in pairwise(bounds)], dim=1)
        return minibatches

    def _measure(self, rows: Rows, share: tuple[float, ...] = ()) -> dict[str, Tensor]:
        """The terms of the loss and what else tells how learning goes, means over rows and networks.

        Of several processes: the mean of theirs, by their shares of the rows.
        """
        config, (actor, log_std, critic) = self.config, self.parts
        outputs = evaluate(actor, config.activation, rows.features)
        log_prob, entropy = log_prob_and_entropy(outputs, log_std, rows.sample)
        value, target = evaluate(critic, config.activation, rows.seen).flatten(1), rows.target
        variance = target.var(dim=1, correction=0)
        explained = 1.0 - (target - value).var(dim=1, correction=0) / variance
        terms = {
            **policy_terms(log_prob, rows, config.clip),
            "value_loss": value_errors(value, rows, config.value_clip),
            "entropy": entropy,
            "explained_variance": explained.masked_fill(variance < 1e-8, 0.0),
        }
        means = {name: term.mean() for name, term in terms.items()}
        if not share:
            return means
        together = self._workers.add(torch.stack(list(means.values())).nan_to_num(0.0) * share[0])
        return dict(zip(means, together.unbind(), strict=True))

    @torch.no_grad()
    def _update_moments(self, observation: Tensor) -> None:
        """Take in observations `[T, E, P, F]`; they are first used in the next rollout, so that ratios start at 1."""
        if self.config.normalise_observations:
            self._observation_moments.update(observation.flatten(0, 1 if self._separate else 2))

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, moments, the rollout under way and counters: for a bit-identical continuation."""
        return {
            "parameters": self.parameters.clone(),
            "adam": {name: x.clone() for name, x in self.adam._asdict().items()},
            "observation_moments": self._observation_moments.state_dict(),
            "reward_moments": self._reward_moments.state_dict(),
            "rollout": {name: x[: self._position].clone() for name, x in self._rollout._asdict().items()},
            "sample": None if self._sample is None else self._sample.clone(),
            "explorations": self._explorations,
            "updates": self._updates,
            "gradient_steps": self._gradient_steps,
            "learn_calls": self._learn_calls,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; the agent must have been built with the same context.

        Raises:
            ConfigError: the saved networks or the saved rollout do not fit this agent's.
        """
        self.load_policy(state)
        saved = state["rollout"]
        position = saved["observation"].shape[0]
        for name, stored in self._rollout._asdict().items():
            if saved[name].shape[1:] != stored.shape[1:] or saved[name].shape[0] > stored.shape[0]:
                raise ConfigError(
                    f"saved rollout: {name} has shape {tuple(saved[name].shape)}; allowed is up to "
                    f"{tuple(stored.shape)}"
                )
        for name, stored in self._rollout._asdict().items():
            stored[: saved[name].shape[0]].copy_(saved[name])
        self._position = position
        for name, moment in self.adam._asdict().items():
            moment.copy_(state["adam"][name])
        self._reward_moments.load_state_dict(state["reward_moments"])
        self._sample = None if state["sample"] is None else state["sample"].clone()
        self._explorations = state["explorations"]
        self._updates = state["updates"]
        self._gradient_steps = state["gradient_steps"]
        self._learn_calls = state["learn_calls"]

    def load_policy(self, state: dict[str, Any]) -> None:
        """Of `state_dict()` only what acting without exploring needs; the rest may be of other lanes or processes.

        Raises:
            ConfigError: the saved networks do not fit this agent's.
        """
        if "parameters" not in state or state["parameters"].shape != self.parameters.shape:
            found = tuple(state["parameters"].shape) if "parameters" in state else "none"
            raise ConfigError(f"saved networks: {found}; allowed is {tuple(self.parameters.shape)}")
        self.parameters.copy_(state["parameters"])
        self._observation_moments.load_state_dict(state["observation_moments"])


class MAPPO(PPO):
    """PPO with a central critic unless told otherwise."""

    name = "mappo"

    def __init__(self, context: AgentContext) -> None:
        super().__init__(replace(context, options={"critic": "central", **context.options}))
