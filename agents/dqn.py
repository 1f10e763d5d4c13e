"""Deep Q-learning with experience replay on `[E, P, F]` tensors: the algorithm of chapter 7, stage 1.

One step: act epsilon-greedily (the chapter's rho), store the transition in the replay memory D, draw a minibatch from
D, form the target y = r for a terminal step, else r + discount * max_a Q(next), and take a gradient step on (y - Q)^2
or its Huber variant. All agents and lanes go through each line at once.

Differences from the chapter: its figure writes the market price's symbol where the discount belongs and max where
argmax belongs; here they are discount and argmax. A target network, double and dueling learning are standard additions;
`double=False, dueling=False, loss="mse", target_interval=1, stateless=True` is the chapter's text.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gridmarl.agents.compiling import can_compile, compiled
from gridmarl.agents.dqn_config import DQNConfig
from gridmarl.agents.networks import ActionValueTable, StackedQNetwork, clip_network_gradients
from gridmarl.agents.outside_option import OutsideOption
from gridmarl.agents.registry_options import from_options
from gridmarl.agents.replay import Batch, ReplayMemory, RunningMoments
from gridmarl.agents.sharing import SlotShare
from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext, Transition
from gridmarl.random import MASK, MAX_TOTAL, Purpose, below, draw, lane_keys

_WORDS = 4  # random words per Philox draw


class DQN:
    """Deep Q-learning agent for discrete actions; an `Agent` (see gridmarl.protocols). Options: `DQNConfig`.

    `N` networks are trained: `N = 1` (policy "shared") or `N = P` ("independent" or `stateless`). Independent agents
    never see each other's transitions; a minibatch takes the same `B` slots for all of them, each agent its own
    transition of the slot (Omidshafiei et al., "Deep decentralized multi-task multi-agent RL under partial
    observability", 2017, use such concurrent draws).

    Every random choice is a function of (seed, counter), and the counters are in `state_dict`, so a run can be resumed
    bit for bit.

    Raises:
        ConfigError: unknown or refused options, a continuous action space, or a memory smaller than one step of all
            lanes.
    """

    name = "dqn"
    learns = True
    data_parallel = True

    def __init__(self, context: AgentContext) -> None:
        self.config = config = from_options(DQNConfig, context.options, "dqn")
        spec = context.action_spec
        if spec.kind != "discrete" or spec.num_actions < 1:
            raise ConfigError(f"dqn: action_spec.kind={spec.kind!r}; allowed is 'discrete' (a grid of actions)")
        self.num_envs, self.num_agents, self.num_actions = context.num_envs, context.num_agents, spec.num_actions
        self.device = context.device
        self._separate = config.policy == "independent" or config.stateless
        self.num_networks = self.num_agents if self._separate else 1
        # A table reads no features, so its replay memory stores none.
        self._width = 0 if config.stateless else len(context.observation_fields)
        self._outside = OutsideOption(context, config.outside_option, config.discount)

        generator = torch.Generator().manual_seed(context.seed)
        self.online = self._make_network(generator)
        self.target = self._make_network(generator).requires_grad_(False)
        self.target.load_state_dict(self.online.state_dict())
        self._parameters = list(self.online.parameters())
        self._loss: Callable[[Batch, Tensor | float, Tensor | None], tuple[Tensor, Tensor]] = self._temporal_difference
        self._explore_values: Callable[[Tensor], Tensor] = self.action_values
        if config.compile and context.workers.size > 1:
            raise ConfigError(
                f"dqn: compile=true in {context.workers.size} processes; allowed is false, or one process"
            )
        if config.compile and can_compile(self.device, self.name):
            # No CUDA graphs here: torch's optimiser would read gradients that the next graph overwrites.
            self._loss = partial(compiled(DQN._temporal_difference, self.device, graphs=False), self)
            self._explore_values = partial(compiled(DQN.action_values, self.device, graphs=False), self)
        # One kernel for all parameters where there is one.
        fused = self.device.type in ("cpu", "cuda")
        self.optimiser = torch.optim.Adam(self._parameters, lr=config.learning_rate, fused=fused)

        if config.replay_capacity * self.num_agents >= MAX_TOTAL:
            raise ConfigError(
                f"dqn: replay_capacity={config.replay_capacity} x {self.num_agents} agents; allowed are fewer than "
                f"{MAX_TOTAL} transitions"
            )
        self._share, self._workers = SlotShare(context), context.workers
        # all processes together hold what one with all lanes would
        capacity = config.replay_capacity // self._share.total_envs * self.num_envs or config.replay_capacity
        self.memory = ReplayMemory(
            capacity, self.num_envs, self.num_agents, self._width, self.device, horizon=config.n_step
        )
        shape = (self.num_agents,) if self._separate else ()
        self._observation_moments = RunningMoments((*shape, self._width), self.device, self._workers)
        self._reward_moments = RunningMoments(shape, self.device, self._workers)

        self._one_hot = torch.eye(self.num_agents, device=self.device)
        first = context.first_lane
        self._explore_keys = lane_keys(context.seed, self.num_envs, first_lane=first, device=self.device)
        self._replay_keys = lane_keys(context.seed, config.batch_size, device=self.device)
        self._explore_words: tuple[int, Tensor] | None = None
        self._replay_words: tuple[int, Tensor] | None = None
        self._explorations = 0  # act(explore=True) calls
        self._updates = 0  # gradient steps
        self._learn_calls = 0

    def _make_network(self, generator: torch.Generator) -> nn.Module:
        config = self.config
        if config.stateless:
            return ActionValueTable(self.num_networks, self.num_actions).to(self.device)
        width = self._width + (self.num_agents if config.agent_id else 0)
        network = StackedQNetwork(self.num_networks, width, self.num_actions, config.hidden, config.dueling, generator)
        return network.to(self.device)

    @property
    def epsilon(self) -> float:
        """Share of random actions now, by the linear schedule."""
        config = self.config
        steps = self._learn_calls * self._share.total_envs
        if steps >= config.exploration_steps:
            return config.epsilon_end
        progress = steps / config.exploration_steps
        return config.epsilon_start + progress * (config.epsilon_end - config.epsilon_start)

    # Acting -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Greedy actions `[E, P]` int64 for `[E, P, F]` observations; with `explore`, epsilon-greedy."""
        if not explore:
            return self.action_values(observation).argmax(dim=-1)
        greedy = self._explore_values(observation).argmax(dim=-1)
        choose, pick = self._exploration_words()
        random = below(pick, self.num_actions)
        return torch.where(choose < int(self.epsilon * (MASK + 1)), random, greedy)

    def action_values(self, observation: Tensor) -> Tensor:
        """Q of the online network, `[E, P, A]` float32, for `[E, P, F]` observations."""
        observation = observation[..., : self._width]
        if self._separate:
            values: Tensor = self.online(self._features(observation, None))
            return values.transpose(0, 1)
        rows = observation.flatten(0, 1)
        agent = torch.arange(rows.shape[0], device=rows.device) % self.num_agents
        values = self.online(self._features(rows, agent))
        return values.view(observation.shape[0], self.num_agents, self.num_actions)

    def _by_network(self, values: Tensor) -> Tensor:
        """`[B, P, ...]` to `[P, B, ...]` for separate networks, `[B, ...]` to `[1, B, ...]` for a shared one."""
        return values.transpose(0, 1) if self._separate else values.unsqueeze(0)

    def _features(self, observation: Tensor, agent: Tensor | None) -> Tensor:
        """Network input `[N, B, F']`; `agent` `[B]` says whose rows they are where the network is shared."""
        if self.config.normalise_observations:
            observation = self._observation_moments.normalise(observation)
        if self.config.agent_id and agent is not None:
            observation = torch.cat((observation, self._one_hot[agent]), dim=-1)
        return self._by_network(observation)

    def _exploration_words(self) -> tuple[Tensor, Tensor]:
        """Two random words per lane and agent, `[E, P]`; one Philox draw serves two calls."""
        period, part = divmod(self._explorations, _WORDS // 2)
        if self._explore_words is None or self._explore_words[0] != period:
            words = draw(self._explore_keys, period, Purpose.EXPLORE, num_agents=self.num_agents)
            self._explore_words = (period, words.transpose(1, 2))
        self._explorations += 1
        words = self._explore_words[1]
        return words[2 * part], words[2 * part + 1]

    # Learning ---------------------------------------------------------------------------------------------------------

    def learn(self, transition: Transition) -> dict[str, float]:
        """Store one step of all lanes and take `updates_per_step` gradient steps.

        Returns loss, gradient norm and mean Q (means over networks) and epsilon, every `log_every` calls; else nothing.
        """
        self._store(transition)
        self._learn_calls += 1
        if self._learn_calls * self._share.total_envs < self.config.learning_starts or not self.memory.usable:
            return {}
        for _ in range(self.config.updates_per_step):
            means, norm = self._update()
        if self._learn_calls % self.config.log_every:
            return {}
        loss, value, gradient_norm = torch.cat((self._workers.add(means), norm)).tolist()
        return {"loss": loss, "gradient_norm": gradient_norm, "q_mean": value, "epsilon": self.epsilon}

    @torch.no_grad()
    def _store(self, transition: Transition) -> None:
        """Shape the reward, update the moments, add to the replay memory."""
        config = self.config
        terminal = (
            transition.terminated if config.bootstrap_truncation else transition.terminated | transition.truncated
        )
        terminal = terminal.unsqueeze(-1).expand(-1, self.num_agents)
        reward = self._outside.shape(transition.reward, transition.observation, transition.next_observation, terminal)
        observation = transition.observation[..., : self._width]
        if config.normalise_observations and self._width:
            self._observation_moments.update(observation if self._separate else observation.flatten(0, 1))
        if config.normalise_rewards:
            self._reward_moments.update(reward if self._separate else reward.flatten())
        following = transition.next_observation[..., : self._width]
        ended = transition.terminated | transition.truncated
        self.memory.add(Batch(observation, transition.action, reward, following, terminal), ended)

    def _sample(self) -> tuple[Batch, Tensor | float, Tensor | None]:
        """A minibatch drawn uniformly with replacement: `[B, P, ...]` for separate networks.

        Also the weight of the next value, and for a shared network (then `[B, ...]`) the agent `[B]` of each row. Of
        several processes each has its part of it.
        """
        period, part = divmod(self._updates, _WORDS)
        if self._replay_words is None or self._replay_words[0] != period:
            self._replay_words = (period, draw(self._replay_keys, period, Purpose.REPLAY))
        words, size = self._replay_words[1][part], self.memory.usable * self._workers.size
        if self._separate:
            slot = self.memory.usable_slots(self._share.own(below(words, size))[0])
            return *self._several_steps(self.memory.by_slot(slot), slot, None), None
        index = below(words, size * self.num_agents)
        slot, agent = index // self.num_agents, index % self.num_agents
        if self._workers.size > 1:
            slot, which = self._share.own(slot)
            agent = agent.index_select(0, which)
        slot = self.memory.usable_slots(slot)
        batch = self.memory.by_transition(slot * self.num_agents + agent)
        return *self._several_steps(batch, slot, agent), agent

    def _several_steps(self, batch: Batch, slot: Tensor, agent: Tensor | None) -> tuple[Batch, Tensor | float]:
        if self.config.n_step == 1:
            return batch, self.config.discount
        return self.memory.followed(batch, slot, agent, self.config.discount)

    def _update(self) -> tuple[Tensor, Tensor]:
        """One gradient step of every network; returns loss and mean Q of this process's rows, and the gradient norm.

        On the device, `[2]` and `[1]`; the first are parts of means over the rows of all processes.
        """
        batch, weight, agent = self._sample()
        loss, value = self._loss(batch, weight, agent)
        self.optimiser.zero_grad(set_to_none=True)
        # The sum over networks leaves each network the gradient that it would have alone.
        loss.sum().backward()
        if self._workers.size > 1:
            for parameter in self._parameters:
                assert parameter.grad is not None
                self._workers.add(parameter.grad)
        norm = clip_network_gradients(self._parameters, self.config.max_gradient_norm)
        self.optimiser.step()
        self._updates += 1
        if self._updates % self.config.target_interval == 0:
            self._update_target()
        return torch.stack((loss.detach().mean(), value.detach())), norm.mean().unsqueeze(0)

    def _temporal_difference(self, batch: Batch, weight: Tensor | float, agent: Tensor | None) -> tuple[Tensor, Tensor]:
        """Loss of each network, `[N]`, and mean value of the actions taken, `[]`: this process's part of the means."""
        action = self._by_network(batch.action).unsqueeze(-1)
        target = self._target_value(batch, weight, agent)
        value = self.online(self._features(batch.observation, agent)).gather(-1, action).squeeze(-1)
        if self.config.loss == "huber":
            error = functional.smooth_l1_loss(value, target, reduction="none")
        else:
            error = (value - target).square()
        rows = self.config.batch_size
        return error.sum(dim=1) / rows, value.sum() / (rows * self.num_networks)

    @torch.no_grad()
    def _target_value(self, batch: Batch, weight: Tensor | float, agent: Tensor | None) -> Tensor:
        """The chapter's y, `[N, B]`: r for a terminal step, else r + weight * max_a Q(next).

        The weight is the discount, or a power of it `[B, P]` or `[B]` after several steps.
        """
        following = self._features(batch.next_observation, agent)
        later = self.target(following)
        chooser = self.online(following) if self.config.double else later
        best = chooser.argmax(dim=-1, keepdim=True)
        value = later.gather(-1, best).squeeze(-1).masked_fill(self._by_network(batch.terminal), 0.0)
        reward = self._reward_moments.scale(batch.reward) if self.config.normalise_rewards else batch.reward
        weight = self._by_network(weight) if isinstance(weight, Tensor) else weight
        y: Tensor = self._by_network(reward) + weight * value
        return y

    @torch.no_grad()
    def _update_target(self) -> None:
        for target, online in zip(self.target.parameters(), self._parameters, strict=True):
            target.lerp_(online, self.config.target_mix)

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, moments, replay memory and counters: everything for a bit-identical continuation."""
        return {
            # Copies: torch's own state_dicts share memory with what goes on changing.
            "online": deepcopy(self.online.state_dict()),
            "target": deepcopy(self.target.state_dict()),
            "optimiser": deepcopy(self.optimiser.state_dict()),
            "memory": self.memory.state_dict(),
            "observation_moments": self._observation_moments.state_dict(),
            "reward_moments": self._reward_moments.state_dict(),
            "explorations": self._explorations,
            "updates": self._updates,
            "learn_calls": self._learn_calls,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; the agent must have been built with the same context.

        Raises:
            ConfigError: the saved memory does not fit this agent's.
        """
        self.memory.load_state_dict(state["memory"])
        self.load_policy(state)
        self.target.load_state_dict(state["target"])
        self.optimiser.load_state_dict(deepcopy(state["optimiser"]))
        self._reward_moments.load_state_dict(state["reward_moments"])
        self._explorations = state["explorations"]
        self._updates = state["updates"]
        self._learn_calls = state["learn_calls"]
        self._explore_words = self._replay_words = None

    def load_policy(self, state: dict[str, Any]) -> None:
        """Of `state_dict()` only what acting without exploring needs; the rest may be of other lanes or processes."""
        self.online.load_state_dict(state["online"])
        self._observation_moments.load_state_dict(state["observation_moments"])
