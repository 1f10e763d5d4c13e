"""Compiled learners: the eager ones up to rounding, never compiled anew, and eager where nothing can compile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from gridmarl.agents.dqn import DQN
from gridmarl.agents.ppo import PPO
from gridmarl.agents.registry import make_agent
from gridmarl.compiler import missing_compiler
from gridmarl.protocols import Agent, Transition
from tests.agents.ppo_cases import FAST, AimEnv, parameter_hash
from tests.agents.test_dqn import FAST as FAST_DQN
from tests.oracles.toy_env import IdentityEnv, ToyEnv

needs_compiler = pytest.mark.skipif(missing_compiler(torch.device("cpu")) is not None, reason="no C++ compiler")


def side_by_side(env: ToyEnv, agents: list[Agent], observation: torch.Tensor, steps: int) -> torch.Tensor:
    """Each agent acts for itself; all learn from what the first one does and earns."""
    for _ in range(steps):
        actions = [agent.act(observation, explore=True) for agent in agents]
        step = env.step(actions[0])
        done = (step.terminated, step.truncated)
        samples = [agent._sample for agent in agents if isinstance(agent, PPO)]
        for agent in agents:
            if isinstance(agent, PPO):
                agent._sample = samples[0]
            agent.learn(Transition(observation, actions[0], step.reward, step.final_observation, *done))
        observation = step.observation
    return observation


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


@needs_compiler
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor's own imports
def test_compiled_ppo_equals_eager() -> None:
    """Ten updates of four gradient steps, Gaussian policy, unequal minibatches: parameters within 2e-5.

    Two graphs of the step (two sizes of minibatch), one of the actor; none after the first update.
    """
    env = AimEnv(num_envs=3)
    options: dict[str, Any] = {**FAST, "rollout_steps": 5, "minibatches": 2, "epochs": 2, "learning_rate": 1e-3}
    eager, compiled = (PPO(env.context(3, **options, agent_id=True, compile=flag)) for flag in (False, True))
    before = eager.parameters.clone()
    torch._dynamo.reset()
    counters.clear()
    observation = side_by_side(env, [eager, compiled], env.reset(1), 5)
    assert graphs() == 3
    side_by_side(env, [eager, compiled], observation, 45)
    assert graphs() == 3
    assert counters["graph_break"] == {}
    assert float((eager.parameters - before).abs().max()) > 0.02
    torch.testing.assert_close(compiled.parameters, eager.parameters, atol=2e-5, rtol=0.0)


@needs_compiler
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor's own imports
def test_compiled_dqn_equals_eager() -> None:
    """100 gradient steps: parameters within 2e-5; one graph of the loss (and its gradient), one of acting."""
    env = IdentityEnv(num_envs=4)
    options: dict[str, Any] = {**FAST_DQN, "learning_rate": 1e-3, "learning_starts": 4, "agent_id": True}
    eager, compiled = (DQN(env.context(3, **options, compile=flag)) for flag in (False, True))
    before = torch.cat([x.detach().flatten() for x in eager.online.parameters()])
    torch._dynamo.reset()
    counters.clear()
    observation = side_by_side(env, [eager, compiled], env.reset(1), 3)
    assert graphs() == 2
    side_by_side(env, [eager, compiled], observation, 97)
    assert graphs() == 2
    assert counters["graph_break"] == {}
    one, other = (torch.cat([x.detach().flatten() for x in agent.online.parameters()]) for agent in (eager, compiled))
    assert float((one - before).abs().max()) > 0.02
    torch.testing.assert_close(other, one, atol=2e-5, rtol=0.0)


@pytest.mark.parametrize("name", ["ppo", "mappo", "dqn"])
def test_without_a_compiler_it_says_so_and_learns_eagerly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    env = IdentityEnv(num_envs=4)
    options = FAST_DQN if name == "dqn" else FAST
    with pytest.warns(RuntimeWarning, match=rf"{name}: compile=True: no C\+\+ compiler \(no-such-compiler\), running"):
        agent = make_agent(name, env.context(3), **options, compile=True)
    plain = make_agent(name, env.context(3), **options)
    side_by_side(env, [plain, agent], env.reset(1), 34)
    if isinstance(agent, PPO) and isinstance(plain, PPO):
        assert parameter_hash(agent) == parameter_hash(plain)
    for one, other in zip(weights(plain), weights(agent), strict=True):
        assert torch.equal(one, other)


def weights(agent: Agent) -> list[torch.Tensor]:
    if isinstance(agent, PPO):
        return [agent.parameters]
    assert isinstance(agent, DQN)
    return [x.detach() for x in agent.online.parameters()]
