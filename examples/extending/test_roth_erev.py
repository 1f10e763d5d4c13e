"""The example passes the public conformance suite, and learns."""

import pytest
import torch
from gridmarl_roth_erev import RothErev

from gridmarl.envs import make_batched
from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext, Transition
from gridmarl.testing import check_agent


def market(space="discrete", lanes=4):
    return make_batched("two-stage-dr", {"num_prosumers": 3, "horizon_hours": 6, "action_space": space}, num_envs=lanes)


def context(env, **options):
    return AgentContext(
        env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, seed=0, options=options
    )


def test_conformance():
    check_agent(RothErev, market())


def test_learns_the_row_that_pays():
    env = market(lanes=256)
    agent = RothErev(context(env))
    outside = agent.outside
    observation = env.reset(0)
    best = torch.tensor([5, 17, 40])
    for _ in range(600):
        actions = agent.act(observation, explore=True)
        reward = (actions == best).float() + observation[:, :, outside]
        over = torch.zeros(env.num_envs, dtype=torch.bool)
        agent.learn(Transition(observation, actions, reward, observation, over, over))
    assert torch.equal(agent.act(observation[:1], explore=False)[0], best)


def test_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match="discrete"):
        RothErev(context(market("continuous")))
    with pytest.raises(ConfigError, match="speed"):
        RothErev(context(market(), speed=1))
