"""Batched environments with a known optimum, for tests of learners and of the training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gridmarl.protocols import ActionSpec, AgentContext, BatchStep, ObservationField
from gridmarl.random import Purpose, below, draw, lane_keys


def one_hot_fields(count: int) -> tuple[ObservationField, ...]:
    return tuple(ObservationField(f"is_{index}", "0 or 1", 1.0, 0.0, 1.0, "one-hot") for index in range(count))


class ToyEnv:
    """Lanes, agents and spaces shared by all toys; a subclass has `env_id`, `reset` and `step`."""

    env_id = "toy"

    def __init__(self, num_envs: int, num_agents: int, num_actions: int, num_fields: int) -> None:
        self.num_envs, self.num_agents = num_envs, num_agents
        self.agent_names = tuple(f"agent_{index}" for index in range(num_agents))
        self.observation_fields = one_hot_fields(num_fields)
        grid = torch.linspace(-1.0, 1.0, num_actions).unsqueeze(1)
        self.action_spec = ActionSpec("discrete", num_actions, 0, ("choice",), grid)
        self.device = torch.device("cpu")

    def context(self, seed: int = 0, **options: Any) -> AgentContext:
        return AgentContext(
            self.num_envs, self.num_agents, self.observation_fields, self.action_spec, self.device, seed, options
        )

    def flags(self, value: bool) -> Tensor:
        return torch.full((self.num_envs,), value)


class IdentityEnv(ToyEnv):
    """Each agent sees a random symbol of `n`; the action `(symbol + agent) % n` earns 1, any other 0.

    Truncated at `horizon`. The optimal return is `horizon`. The final observation is all zeros, unlike any other.
    """

    env_id = "toy/identity"

    def __init__(self, num_envs: int = 16, num_agents: int = 3, symbols: int = 4, horizon: int = 8) -> None:
        super().__init__(num_envs, num_agents, symbols, symbols)
        self.symbols, self.horizon = symbols, horizon
        self.seed = self.clock = 0
        self.symbol = torch.zeros(num_envs, num_agents, dtype=torch.int64)

    def _observe(self) -> Tensor:
        words = draw(lane_keys(self.seed, self.num_envs), self.clock, Purpose.LOAD, num_agents=self.num_agents)
        self.symbol = below(words[0], self.symbols).T
        return one_hot(self.symbol, self.symbols).to(torch.float32)

    def best(self) -> Tensor:
        return (self.symbol + torch.arange(self.num_agents)) % self.symbols

    def reset(self, seed: int) -> Tensor:
        self.seed, self.clock = seed, 0
        return self._observe()

    def step(self, actions: Tensor) -> BatchStep:
        reward = (actions == self.best()).to(torch.float32)
        self.clock += 1
        ended = self.clock % self.horizon == 0
        observation = self._observe()
        final = torch.zeros_like(observation) if ended else observation
        return BatchStep(observation, reward, self.flags(False), self.flags(ended), final, {})

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "clock": self.clock}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seed, self.clock = state["seed"], state["clock"]
        self._observe()


class ChainEnv(ToyEnv):
    """One agent walks `length` places. Action 1 advances, earning 1 at the end; action 0 cashes `cash` and ends.

    From the first place advancing is worth `discount ** (length - 1)`, so it pays iff that exceeds `cash`.
    """

    env_id = "toy/chain"

    def __init__(self, num_envs: int = 32, length: int = 4, cash: float = 0.5) -> None:
        super().__init__(num_envs, 1, 2, length + 1)
        self.length, self.cash = length, cash
        self.place = torch.zeros(num_envs, 1, dtype=torch.int64)

    def _observe(self, place: Tensor) -> Tensor:
        return one_hot(place, self.length + 1).to(torch.float32)

    def reset(self, seed: int) -> Tensor:
        self.place = torch.zeros_like(self.place)
        return self._observe(self.place)

    def step(self, actions: Tensor) -> BatchStep:
        after = torch.where(actions == 1, self.place + 1, self.length)
        arrived = after == self.length
        reward = torch.where(actions == 0, self.cash, arrived.to(torch.float32))
        self.place = after.masked_fill(arrived, 0)
        done = arrived.squeeze(1)
        return BatchStep(self._observe(self.place), reward, done, self.flags(False), self._observe(after), {})

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place = state["place"].clone()


class OppositeEnv(ToyEnv):
    """Two agents see the same constant; agent 0 earns +1 for action 0 and -1 for action 1, agent 1 the opposite.

    Transitions of one agent taken for the other's would pull both values towards zero. One step per episode, truncated.
    """

    env_id = "toy/opposite"

    def __init__(self, num_envs: int = 16) -> None:
        super().__init__(num_envs, 2, 2, 1)

    def reset(self, seed: int) -> Tensor:
        return torch.ones(self.num_envs, 2, 1)

    def step(self, actions: Tensor) -> BatchStep:
        reward = torch.where(actions == torch.arange(2), 1.0, -1.0)
        observation = self.reset(0)
        return BatchStep(observation, reward, self.flags(False), self.flags(True), observation, {})

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state
