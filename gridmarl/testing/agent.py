"""Conformance of an agent: actions within their space, reproducible, private, and a resume that continues."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gridmarl.protocols import Agent, AgentContext, BatchedEnv, Transition
from gridmarl.testing.actions import random_actions
from gridmarl.testing.errors import require

MakeAgent = Callable[[AgentContext], Agent]


def check_agent(
    make: MakeAgent,
    env: BatchedEnv,
    *,
    options: Mapping[str, Any] | None = None,
    steps: int = 40,
    seed: int = 3,
) -> None:
    """Let an agent act on what an environment shows, feed it the rewards, and check everything that `Agent` promises.

    Args:
        make: builds the agent from an `AgentContext`.
        env: any environment that the agent can act in; at least 2 lanes.
        options: options of the agent.

    Raises:
        ConformanceError: names the check.
    """
    require(env.num_envs >= 2, "declaration", f"the environment has {env.num_envs} lanes; give it at least 2")
    context = AgentContext(
        num_envs=env.num_envs,
        num_agents=env.num_agents,
        observation_fields=env.observation_fields,
        action_spec=env.action_spec,
        device=env.device,
        seed=seed,
        options=dict(options or {}),
    )
    agent = make(context)
    require(
        isinstance(agent, Agent), "declaration", f"{type(agent).__name__} lacks members of gridmarl.protocols.Agent"
    )
    seen = _watch(env, seed, 2 * steps)
    played = _play(agent, seen[:steps])
    for step, actions in enumerate(played):
        _check_actions(context, actions, f"step {step}")
    again = _play(make(context), seen[:steps])
    require(all(map(torch.equal, played, again)), "determinism", "two agents of one seed act differently")
    if agent.learns:
        _check_greedy(agent, seen[steps].observation)
        _check_privacy(agent, seen[steps].observation, seen[steps + 1].observation)
    _check_resume(make, context, seen, steps)


def _watch(env: BatchedEnv, seed: int, steps: int) -> list[Transition]:
    """Transitions of random play: observations that belong together."""
    observation = env.reset(seed)
    seen = []
    for step in range(steps):
        actions = random_actions(env.action_spec, env.num_envs, env.num_agents, seed, step)
        result = env.step(actions)
        seen.append(
            Transition(
                observation=observation,
                action=actions,
                reward=result.reward,
                next_observation=result.final_observation,
                terminated=result.terminated,
                truncated=result.truncated,
            )
        )
        observation = result.observation
    return seen


def _play(agent: Agent, seen: Sequence[Transition]) -> list[Tensor]:
    """The agent's own actions on the observations; it learns from them with the rewards that were seen."""
    played = []
    for transition in seen:
        actions = agent.act(transition.observation, explore=True)
        played.append(actions.clone())
        if agent.learns:
            agent.learn(replace(transition, action=actions))
    return played


def _check_actions(context: AgentContext, actions: Tensor, where: str) -> None:
    spec, shape = context.action_spec, (context.num_envs, context.num_agents)
    if spec.num_actions:
        fits = actions.dtype == torch.int64 and tuple(actions.shape) == shape
        require(fits, "actions", f"{where}: {actions.dtype} {tuple(actions.shape)}, not int64 {shape}")
        inside = bool(((actions >= 0) & (actions < spec.num_actions)).all())
        require(inside, "actions", f"{where}: outside 0 .. {spec.num_actions - 1}")
    else:
        fits = actions.dtype == torch.float32 and tuple(actions.shape) == (*shape, spec.size)
        require(fits, "actions", f"{where}: {actions.dtype} {tuple(actions.shape)}, not float32 {(*shape, spec.size)}")
        require(bool((actions.abs() <= 1).all()), "actions", f"{where}: outside [-1, 1], or NaN")


def _close(one: Tensor, two: Tensor) -> bool:
    """Equal, or for real numbers equal up to the rounding of matrix products of another size."""
    return torch.allclose(one, two, atol=1e-4) if one.is_floating_point() else torch.equal(one, two)


def _check_greedy(agent: Agent, observation: Tensor) -> None:
    before = copy.deepcopy(agent.state_dict())
    one, two = agent.act(observation, explore=False), agent.act(observation, explore=False)
    require(torch.equal(one, two), "greedy", "act(explore=False) differs from call to call")
    few = agent.act(observation[:1], explore=False)
    require(_close(few, one[:1]), "greedy", "act(explore=False) on fewer lanes differs")
    require(_same(before, agent.state_dict()), "greedy", "act(explore=False) changed the agent's state")


def _check_privacy(agent: Agent, observation: Tensor, other: Tensor) -> None:
    """The action of an agent may depend on its own row of observations only."""
    if observation.shape[1] < 2:
        return
    mixed = other.clone()
    mixed[:, 0] = observation[:, 0]
    one, two = agent.act(observation, explore=False), agent.act(mixed, explore=False)
    require(_close(one[:, 0], two[:, 0]), "privacy", "an agent's action depends on what other agents observe")


def _check_resume(make: MakeAgent, context: AgentContext, seen: Sequence[Transition], steps: int) -> None:
    first, second = make(context), make(context)
    _play(first, seen[:steps])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    one, two = _play(first, seen[steps:]), _play(second, seen[steps:])
    require(all(map(torch.equal, one, two)), "resume", "after load_state_dict the agent acts differently")


def _same(one: Any, two: Any) -> bool:
    """Whether two state dictionaries hold the same values."""
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return isinstance(two, (list, tuple)) and len(one) == len(two) and all(map(_same, one, two))
    return bool(one == two)
