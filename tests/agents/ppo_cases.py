"""What the tests of PPO share: quick settings, the kinds of policy, a continuous toy, and how to run them."""

from __future__ import annotations

from typing import Any

import torch
from blake3 import blake3
from torch import Tensor

from gridmarl.agents.ppo import PPO
from gridmarl.protocols import ActionSpec, BatchStep, Transition
from tests.oracles.toy_env import IdentityEnv, ToyEnv

FAST: dict[str, Any] = {
    "hidden": (32,),
    "rollout_steps": 16,
    "minibatches": 4,
    "epochs": 4,
    "learning_rate": 5e-3,
}
KINDS: list[dict[str, Any]] = [
    {"policy": "shared", "agent_id": True},
    {"policy": "independent"},
    {"policy": "shared", "agent_id": True, "critic": "central"},
    {"policy": "independent", "critic": "central"},
]
META = torch.device("meta")


class AimEnv(IdentityEnv):
    """Continuous: each agent earns `-(a - aim)^2`, where its symbol and number say what to aim at, in both entries."""

    env_id = "toy/aim"

    def __init__(self, num_envs: int = 16, num_agents: int = 2, horizon: int = 8) -> None:
        super().__init__(num_envs, num_agents, 3, horizon)
        self.action_spec = ActionSpec("continuous", 0, 2, ("first", "second"))

    def aim(self) -> Tensor:
        aim = (self.symbol - 1) * 0.6 * (1 - 2 * torch.arange(self.num_agents))
        return torch.stack((aim, -aim), dim=-1)

    def step(self, actions: Tensor) -> BatchStep:
        assert float(actions.abs().max()) <= 1.0
        reward = -(actions - self.aim()).square().sum(dim=-1)
        return super().step(self.best())._replace(reward=reward)


def moved(agent: Any, env: ToyEnv, observation: Tensor) -> Tensor:
    action = agent.act(observation, explore=True)
    step = env.step(action)
    agent.learn(Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated))
    return step.observation


def run(env: ToyEnv, steps: int, seed: int = 3, **options: Any) -> PPO:
    agent = PPO(env.context(seed, **{**FAST, **options}))
    observation = env.reset(seed)
    for _ in range(steps):
        observation = moved(agent, env, observation)
    return agent


def parameters(agent: PPO) -> dict[str, Tensor]:
    actor, critic = agent.parameters.split(agent.layout.sizes, dim=-1)
    return {"actor": actor, "critic": critic}


def parameter_hash(agent: PPO) -> str:
    state = blake3()
    for name, value in sorted(parameters(agent).items()):
        state.update(name.encode())
        state.update(value.contiguous().numpy().tobytes())
    return state.hexdigest()
