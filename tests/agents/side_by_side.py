"""Two agents on the same experience: what the tests of every learner share."""

from __future__ import annotations

from dataclasses import replace

import torch

from gridmarl.protocols import Agent, Transition
from tests.oracles.toy_env import ToyEnv


def continue_alike(one: Agent, other: Agent, env: ToyEnv, steps: int, seed: int = 8) -> None:
    """Both act on what `env` shows and learn from what it pays; their actions must be equal at every step."""
    observation = env.reset(seed)
    for _ in range(steps):
        actions = [agent.act(observation, explore=True) for agent in (one, other)]
        assert torch.equal(*actions)
        step = env.step(actions[0])
        for agent in (one, other):
            agent.learn(
                Transition(observation, actions[0], step.reward, step.observation, step.terminated, step.truncated)
            )
        observation = step.observation


def one_agent_of(transition: Transition, agent: int) -> Transition:
    """The row of one agent."""
    part = slice(agent, agent + 1)
    return replace(
        transition,
        observation=transition.observation[:, part],
        action=transition.action[:, part],
        reward=transition.reward[:, part],
        next_observation=transition.next_observation[:, part],
    )
