"""Proximal policy optimisation on `[E, P, F]` tensors (Schulman et al., 2017), for discrete and continuous actions.

One update: act for `rollout_steps` steps of all lanes; estimate advantages (generalised advantage estimation, Schulman
et al., 2016); then, for a few epochs of shuffled minibatches, take gradient steps on the clipped objective
`min(ratio * A, clip(ratio, 1 - c, 1 + c) * A)` and on the squared error of the value. All agents and lanes go through
each line at once.

With `critic="central"` it is multi-agent PPO (Yu et al., "The surprising effectiveness of PPO in cooperative
multi-agent games", 2022): in training, the critic sees the observations of all agents of the lane.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from gridmarl.agents.networks import clip_network_gradients
from gridmarl.agents.outside_option import OutsideOption
from gridmarl.agents.ppo_config import PPOConfig
from gridmarl.agents.ppo_networks import (
    Actor,
    StackedMLP,
    gaussian_entropy,
    gaussian_log_prob,
    normals,
    uniforms,
)
from gridmarl.agents.registry_options import from_options
from gridmarl.agents.replay import RunningMoments
from gridmarl.errors import ActionError, ConfigError
from gridmarl.protocols import AgentContext, Transition
from gridmarl.random import Purpose, draw, lane_keys

_WORDS = 4  # random words per Philox draw


class Rollout(NamedTuple):
    """What was seen in `T` steps of all lanes."""

    observation: Tensor  # [T, E, P, F] float32
    sample: Tensor  # [T, E, P] int64, or [T, E, P, A] float32: before it is clamped to [-1, 1]
    reward: Tensor  # [T, E, P] float32, shaped
    terminal: Tensor  # [T, E, 1] bool: nothing is worth anything afterwards
    ended: Tensor  # [T, E, 1] bool: the next step belongs to another episode
    following: Tensor  # next observation, [T, E, P, F], or of the last step only, [1, E, P, F]


class Batch(NamedTuple):
    """Rows to learn from: `[S, P, ...]` for a shared network, `[P, S, ...]` for separate ones; `S = T * E` slots."""

    features: Tensor  # [..., F']
    sample: Tensor
    log_prob: Tensor
    advantage: Tensor
    target: Tensor  # of the value
    value: Tensor


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

    def __init__(self, context: AgentContext) -> None:
        self.config = config = from_options(PPOConfig, context.options, "ppo")
        spec, self.device = context.action_spec, context.device
        self.num_envs, self.num_agents = context.num_envs, context.num_agents
        self._width = len(context.observation_fields)
        self._continuous = spec.kind == "continuous"
        self._num_outputs = spec.size if self._continuous else spec.num_actions
        self._separate = config.policy == "independent"
        self.num_networks = self.num_agents if self._separate else 1
        self._slots = config.rollout_steps * self.num_envs
        if config.minibatches > self._slots:
            raise ConfigError(
                f"ppo: minibatches={config.minibatches}; allowed are up to rollout_steps x lanes = {self._slots}"
            )
        self._outside = OutsideOption(context, config.outside_option, config.discount)

        generator = torch.Generator().manual_seed(context.seed % 2**63)
        own = self._width + (self.num_agents if config.agent_id else 0)
        widths = (own, *config.hidden, self._num_outputs)
        log_std = config.log_std if self._continuous else None
        self.actor = Actor(self.num_networks, widths, config.activation, log_std, generator).to(self.device)
        central = config.critic == "central"
        # A shared central critic gives the values of all agents at once: they differ, the observations do not.
        values = self.num_agents if central and not self._separate else 1
        widths = (self._width * self.num_agents if central else own, *config.hidden, values)
        self.critic = StackedMLP(self.num_networks, widths, config.activation, 1.0, generator).to(self.device)
        self._actor_parameters = list(self.actor.parameters())
        self._critic_parameters = list(self.critic.parameters())
        # One kernel for all parameters where there is one.
        fused = self.device.type in ("cpu", "cuda")
        parameters = [*self._actor_parameters, *self._critic_parameters]
        self.optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, eps=1e-5, fused=fused)

        shape = (self.num_agents,) if self._separate else ()
        self._observation_moments = RunningMoments((*shape, self._width), self.device)
        self._reward_moments = RunningMoments(shape, self.device)
        self._rollout = self._empty_rollout()
        self._position = 0  # steps in the rollout
        self._sample: Tensor | None = None  # of the last act(explore=True)

        self._one_hot = torch.eye(self.num_agents, device=self.device)
        # The lanes' keys once per step of a rollout: one draw serves a whole rollout.
        self._explore_keys = lane_keys(context.seed, self.num_envs, device=self.device).repeat(1, config.rollout_steps)
        self._shuffle_keys = lane_keys(context.seed, self._slots, device=self.device)
        self._noise: tuple[int, Tensor] | None = None
        self._explorations = 0  # act(explore=True) calls
        self._updates = 0
        self._learn_calls = 0

    def _empty_rollout(self) -> Rollout:
        steps, shape = self.config.rollout_steps, (self.num_envs, self.num_agents)
        kind = torch.float32 if self._continuous else torch.int64
        size = (self._num_outputs,) if self._continuous else ()
        kept = steps if self.config.bootstrap_truncation else 1
        return Rollout(
            observation=torch.zeros(steps, *shape, self._width, device=self.device),
            sample=torch.zeros(steps, *shape, *size, dtype=kind, device=self.device),
            reward=torch.zeros(steps, *shape, device=self.device),
            terminal=torch.zeros(steps, self.num_envs, 1, dtype=torch.bool, device=self.device),
            ended=torch.zeros(steps, self.num_envs, 1, dtype=torch.bool, device=self.device),
            following=torch.zeros(kept, *shape, self._width, device=self.device),
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
        outputs = self.action_outputs(observation)
        noise = self._exploration_noise()
        if self._continuous:
            assert self.actor.log_std is not None
            deviation = self.actor.log_std.exp().squeeze(1)  # [N, A], broadcasts over lanes and agents
            self._sample = torch.addcmul(outputs, noise, deviation)
            return self._sample.clamp(-1.0, 1.0)
        cumulative = outputs.softmax(dim=-1).cumsum(dim=-1)
        below = cumulative[..., :-1] < noise.unsqueeze(-1) * cumulative[..., -1:]
        self._sample = below.sum(dim=-1)
        return self._sample

    def action_outputs(self, observation: Tensor) -> Tensor:
        """Logits or means `[E, P, A]` float32 for `[E, P, F]` observations."""
        outputs: Tensor = self.actor(self._rows(self._by_network(self._features(observation))))
        if self._separate:
            return outputs.transpose(0, 1)
        return outputs.view(*observation.shape[:2], self._num_outputs)

    def _features(self, observation: Tensor) -> Tensor:
        """`[..., P, F]` observations, normalised, and which agent it is where wanted: `[..., P, F']`."""
        if self.config.normalise_observations:
            observation = self._observation_moments.normalise(observation)
        if self.config.agent_id:
            who = self._one_hot.expand(*observation.shape[:-1], self.num_agents)
            observation = torch.cat((observation, who), dim=-1)
        return observation

    def _by_network(self, slots: Tensor) -> Tensor:
        """`[S, P, ...]`, for separate networks as `[P, S, ...]`."""
        return slots.transpose(0, 1) if self._separate else slots

    def _rows(self, values: Tensor) -> Tensor:
        """Of a `Batch`: one row per network and sample, `[N, B, ...]`."""
        return values if self._separate else values.flatten(0, 1).unsqueeze(0)

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
        steps = self._learn_calls * self.num_envs
        left = max(0.0, 1.0 - steps / self.config.anneal_steps) if self.config.anneal_steps else 1.0
        return self.config.learning_rate * left

    def _update(self) -> dict[str, Tensor]:
        """Train on the full rollout; returns what the last minibatch measured, on the device."""
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        batch = self._prepare()
        axis = 1 if self._separate else 0
        bounds = [self._slots * part // config.minibatches for part in range(config.minibatches + 1)]
        measured: dict[str, Tensor] = {}
        for epoch in range(config.epochs):
            order = self._shuffled(epoch)
            shuffled = [values.index_select(axis, order) for values in batch]
            for part in range(config.minibatches):
                start, size = bounds[part], bounds[part + 1] - bounds[part]
                last = epoch == config.epochs - 1 and part == config.minibatches - 1
                measured = self._gradient_step(Batch(*(x.narrow(axis, start, size) for x in shuffled)), measure=last)
        self._update_moments(self._rollout.observation)
        return measured

    @torch.no_grad()
    def _prepare(self) -> Batch:
        """Values, probabilities, advantages and value targets of the rollout, by the parameters that played it."""
        config, rollout = self.config, self._rollout
        reward = rollout.reward
        if config.normalise_rewards:
            self._reward_moments.update(reward.flatten(0, 1) if self._separate else reward.flatten())
            reward = self._reward_moments.scale(reward)
        features = self._by_network(self._features(rollout.observation).flatten(0, 1)).contiguous()
        sample = self._by_network(rollout.sample.flatten(0, 1)).contiguous()
        value = self._as_steps(self._value(features))
        following = self._by_network(self._features(rollout.following).flatten(0, 1))
        later = self._as_steps(self._value(following))
        if not config.bootstrap_truncation:
            later = torch.cat((value[1:], later))
        advantage = generalised_advantage(
            reward, value, later, rollout.terminal, rollout.ended, config.discount, config.gae_lambda
        )
        target = self._by_network((advantage + value).flatten(0, 1)).contiguous()
        advantage = self._by_network(advantage.flatten(0, 1)).contiguous()
        if config.normalise_advantages:
            over = (1,) if self._separate else (0, 1)
            deviation, mean = torch.std_mean(advantage, dim=over, keepdim=True, correction=0)
            advantage = (advantage - mean) / (deviation + 1e-8)
        value = self._by_network(value.flatten(0, 1)).contiguous()
        log_prob, _ = self._evaluate(self._rows(features), self._rows(sample), with_entropy=False)
        return Batch(features, sample, log_prob.view_as(advantage), advantage, target, value)

    def _value(self, features: Tensor) -> Tensor:
        """Values `[N, B]` of features as in a `Batch`, in units of scaled reward."""
        if self.config.critic == "own":
            value: Tensor = self.critic(self._rows(features)).squeeze(-1)
            return value
        seen = features[..., : self._width]
        if self._separate:
            everyone = seen.transpose(0, 1).flatten(1)
            value = self.critic(everyone.expand(self.num_agents, -1, -1)).squeeze(-1)
        else:
            value = self.critic(seen.flatten(1).unsqueeze(0)).flatten(1)
        return value

    def _as_steps(self, value: Tensor) -> Tensor:
        """`[N, B]` to `[T, E, P]`."""
        return (value.T if self._separate else value).reshape(-1, self.num_envs, self.num_agents)

    def _evaluate(self, features: Tensor, sample: Tensor, *, with_entropy: bool) -> tuple[Tensor, Tensor | None]:
        """Log-probability `[N, B]` of samples, and the policy's entropy (broadcasts to `[N, B]`)."""
        outputs = self.actor(features)
        if self._continuous:
            log_std = self.actor.log_std
            assert log_std is not None
            return gaussian_log_prob(sample, outputs, log_std), gaussian_entropy(log_std) if with_entropy else None
        each = log_softmax(outputs, dim=-1)
        log_prob = each.gather(-1, sample.unsqueeze(-1)).squeeze(-1)
        return log_prob, -(each.exp() * each).sum(dim=-1) if with_entropy else None

    def _shuffled(self, epoch: int) -> Tensor:
        """Order of the slots in this epoch, `[S]` int64: that of random words (ties keep their order)."""
        index, word = divmod(epoch, _WORDS)
        words = draw(self._shuffle_keys, self._updates, Purpose.REPLAY, index=index)[word]
        return words.argsort(stable=True)

    def _gradient_step(self, batch: Batch, *, measure: bool) -> dict[str, Tensor]:
        """One gradient step of all networks; with `measure`, the terms of the loss (means over networks)."""
        config = self.config
        old, advantage, target = (self._rows(x) for x in (batch.log_prob, batch.advantage, batch.target))
        log_prob, entropy = self._evaluate(
            self._rows(batch.features), self._rows(batch.sample), with_entropy=measure or config.entropy_weight > 0.0
        )
        ratio = (log_prob - old).exp()
        limited = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        policy_loss = -torch.minimum(ratio * advantage, limited * advantage).mean(dim=1)
        value = self._value(batch.features)
        value_loss = (value - target).square()
        if config.value_clip:
            before = self._rows(batch.value)
            near = before + (value - before).clamp(-config.value_clip, config.value_clip)
            value_loss = torch.maximum(value_loss, (near - target).square())
        value_loss = value_loss.mean(dim=1)
        loss = policy_loss + config.value_weight * value_loss
        if entropy is not None and config.entropy_weight:
            loss = loss - config.entropy_weight * entropy.mean(dim=1)
        self.optimiser.zero_grad(set_to_none=True)
        # The sum over networks leaves each network the gradient that it would have alone.
        loss.sum().backward()
        actor_norm = clip_network_gradients(self._actor_parameters, config.max_gradient_norm)
        critic_norm = clip_network_gradients(self._critic_parameters, config.max_gradient_norm)
        self.optimiser.step()
        if not measure:
            return {}
        assert entropy is not None
        variance = target.var(dim=1, correction=0)
        explained = 1.0 - (target - value).var(dim=1, correction=0) / variance
        means = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": (ratio - 1.0) - (log_prob - old),
            "clip_fraction": (limited != ratio).to(torch.float32),
            "gradient_norm": actor_norm,
            "value_gradient_norm": critic_norm,
            "explained_variance": explained.masked_fill(variance < 1e-8, 0.0),
        }
        return {name: values.detach().mean() for name, values in means.items()}

    @torch.no_grad()
    def _update_moments(self, observation: Tensor) -> None:
        """Take in observations `[T, E, P, F]`; they are first used in the next rollout, so that ratios start at 1."""
        if self.config.normalise_observations:
            self._observation_moments.update(observation.flatten(0, 1 if self._separate else 2))

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, moments, the rollout under way and counters: for a bit-identical continuation."""
        return {
            # Copies: torch's own state_dicts share memory with what goes on changing.
            "actor": deepcopy(self.actor.state_dict()),
            "critic": deepcopy(self.critic.state_dict()),
            "optimiser": deepcopy(self.optimiser.state_dict()),
            "observation_moments": self._observation_moments.state_dict(),
            "reward_moments": self._reward_moments.state_dict(),
            "rollout": {name: x[: self._position].clone() for name, x in self._rollout._asdict().items()},
            "sample": None if self._sample is None else self._sample.clone(),
            "explorations": self._explorations,
            "updates": self._updates,
            "learn_calls": self._learn_calls,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; the agent must have been built with the same context.

        Raises:
            ConfigError: the saved rollout does not fit this agent's.
        """
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
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.optimiser.load_state_dict(deepcopy(state["optimiser"]))
        self._observation_moments.load_state_dict(state["observation_moments"])
        self._reward_moments.load_state_dict(state["reward_moments"])
        self._sample = None if state["sample"] is None else state["sample"].clone()
        self._explorations = state["explorations"]
        self._updates = state["updates"]
        self._learn_calls = state["learn_calls"]


class MAPPO(PPO):
    """PPO with a central critic unless told otherwise."""

    name = "mappo"

    def __init__(self, context: AgentContext) -> None:
        super().__init__(replace(context, options={"critic": "central", **context.options}))


def generalised_advantage(
    reward: Tensor,
    value: Tensor,
    later: Tensor,
    terminal: Tensor,
    ended: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Generalised advantage estimates `[T, ...]` (Schulman et al., 2016, eq. (16)), float32.

    `A_t = delta_t + discount * lambda * A_(t+1)` within an episode and `delta_t` at its end, with
    `delta_t = r_t + discount * V_(t+1) - V_t`, where `V_(t+1)` counts 0 after a terminal step.

    Args:
        reward, value: `[T, ...]`.
        later: value of the next observation, `[T, ...]`.
        terminal, ended: `[T, ...]` bool, broadcast; see `Rollout`.
    """
    delta = reward + discount * later.masked_fill(terminal, 0.0) - value
    carry = (~ended).to(torch.float32) * (discount * gae_lambda)
    advantage = torch.empty_like(delta)
    ahead = torch.zeros_like(delta[0])
    for step in range(delta.shape[0] - 1, -1, -1):
        ahead = torch.addcmul(delta[step], carry[step], ahead, out=advantage[step])
    return advantage
