"""Conformance of a batched environment: spaces, episode ends, determinism, lanes, and a resume that continues."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gridmarl.protocols import BatchedEnv, BatchStep
from gridmarl.testing.actions import random_actions
from gridmarl.testing.errors import require

MakeEnv = Callable[[int, int], BatchedEnv]
BalanceOf = Callable[[BatchedEnv], Tensor]


def check_environment(
    make: MakeEnv,
    *,
    max_steps: int = 10_000,
    episodes: int = 2,
    lanes: int = 3,
    seed: int = 11,
    balances: BalanceOf | None = None,
) -> None:
    """Play whole episodes with random actions and check everything that `BatchedEnv` promises.

    Args:
        make: `(num_envs, first_lane)` to a new auto-resetting environment.
        max_steps: an episode longer than this counts as endless.
        balances: if given, reads integers `[A, E]` (money, or energy in and out); their sum over `A` must never change.

    Raises:
        ConformanceError: names the check and the step.
    """
    env = make(lanes, 0)
    _check_declaration(env, lanes)
    _check_episodes(env, seed, episodes, max_steps, balances)
    _check_same_run_twice(make, lanes, seed, max_steps)
    _check_lanes(make, lanes, seed, max_steps)
    _check_resume(make, lanes, seed)


def _check_declaration(env: BatchedEnv, lanes: int) -> None:
    name = "declaration"
    require(isinstance(env, BatchedEnv), name, f"{type(env).__name__} lacks members of gridmarl.protocols.BatchedEnv")
    require(env.num_envs == lanes, name, f"num_envs is {env.num_envs}, {lanes} were asked for")
    require(len(env.agent_names) == env.num_agents, name, f"{len(env.agent_names)} names for {env.num_agents} agents")
    names = [item.name for item in env.observation_fields]
    require(len(set(names)) == len(names), name, f"observation fields are not distinct: {names}")
    for item in env.observation_fields:
        require(item.low < item.high, name, f"field {item.name}: low {item.low} is not below high {item.high}")
    spec = env.action_spec
    require((spec.num_actions > 0) != (spec.size > 0), name, f"action_spec is neither discrete nor continuous: {spec}")


def _check_observation(env: BatchedEnv, observation: Tensor, where: str) -> None:
    shape = (env.num_envs, env.num_agents, len(env.observation_fields))
    require(tuple(observation.shape) == shape, "observation", f"{where}: shape {tuple(observation.shape)}, not {shape}")
    require(observation.dtype == torch.float32, "observation", f"{where}: {observation.dtype}, not float32")
    for index, item in enumerate(env.observation_fields):
        values = observation[:, :, index]
        inside = bool(((values >= item.low) & (values <= item.high)).all())  # NaN is outside
        seen = f"{float(values.min())} .. {float(values.max())}"
        require(inside, "observation", f"{where}: field {item.name} is {seen}, declared {item.low} .. {item.high}")


def _check_step(env: BatchedEnv, result: BatchStep, where: str) -> None:
    _check_observation(env, result.observation, where)
    _check_observation(env, result.final_observation, f"{where}, final observation")
    shape = (env.num_envs, env.num_agents)
    require(tuple(result.reward.shape) == shape, "reward", f"{where}: shape {tuple(result.reward.shape)}, not {shape}")
    require(result.reward.dtype == torch.float32, "reward", f"{where}: {result.reward.dtype}, not float32")
    require(bool(result.reward.isfinite().all()), "reward", f"{where}: not finite: {result.reward}")
    for name, flag in (("terminated", result.terminated), ("truncated", result.truncated)):
        fits = flag.dtype == torch.bool and tuple(flag.shape) == (env.num_envs,)
        require(fits, name, f"{where}: {flag.dtype} {tuple(flag.shape)}, not bool [{env.num_envs}]")
    ongoing = ~(result.terminated | result.truncated)
    same = (result.observation == result.final_observation).flatten(1).all(1)
    require(bool((same | ~ongoing).all()), "final observation", f"{where}: differs although the episode goes on")


def _check_episodes(env: BatchedEnv, seed: int, episodes: int, max_steps: int, balances: BalanceOf | None) -> None:
    _check_observation(env, env.reset(seed), "reset")
    spaces = (env.observation_fields, env.action_spec)
    total = None if balances is None else balances(env).sum(0)
    ended = step = 0
    while ended < episodes:
        require(step < max_steps * episodes, "end of episode", f"none after {step} steps")
        result = env.step(random_actions(env.action_spec, env.num_envs, env.num_agents, seed, step))
        where = f"step {step}"
        require((env.observation_fields, env.action_spec) == spaces, "spaces", f"{where}: changed during an episode")
        _check_step(env, result, where)
        if balances is not None and total is not None:
            now = balances(env).sum(0)
            require(bool((now == total).all()), "conservation", f"{where}: {total.tolist()} became {now.tolist()}")
        ended += int(bool((result.terminated | result.truncated)[0]))
        step += 1


def _play(env: BatchedEnv, seed: int, max_steps: int, lane: int = 0) -> list[Tensor]:
    """Everything that one episode of lane 0 shows: observations and rewards, flat."""
    shown = [env.reset(seed)]
    for step in range(max_steps):
        result = env.step(random_actions(env.action_spec, env.num_envs, env.num_agents, seed, step, lane=lane))
        shown += [result.final_observation, result.reward.unsqueeze(-1)]
        if bool((result.terminated | result.truncated)[0]):
            break
    return shown


def _check_same_run_twice(make: MakeEnv, lanes: int, seed: int, max_steps: int) -> None:
    one = _play(make(lanes, 0), seed, max_steps)
    again = make(lanes, 0)
    _play(again, seed + 1, max_steps)  # a run in between must leave no trace
    two = _play(again, seed, max_steps)
    same = len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    require(same, "determinism", f"seed {seed} gave two different episodes")


def _check_lanes(make: MakeEnv, lanes: int, seed: int, max_steps: int) -> None:
    batch = _play(make(lanes, 0), seed, max_steps)
    for lane in range(lanes):
        single = _play(make(1, lane), seed, max_steps, lane=lane)
        same = len(batch) == len(single) and all(torch.equal(a[lane], b[0]) for a, b in zip(batch, single, strict=True))
        require(same, "lanes", f"lane {lane} of a batch of {lanes} is not the single run of lane {lane}")


def _check_resume(make: MakeEnv, lanes: int, seed: int, steps: int = 5) -> None:
    first, second = make(lanes, 0), make(lanes, 0)
    first.reset(seed)
    second.reset(seed + 1)
    for step in range(steps):
        first.step(random_actions(first.action_spec, lanes, first.num_agents, seed, step))
    second.load_state_dict(first.state_dict())
    for step in range(steps, 2 * steps):
        actions = random_actions(first.action_spec, lanes, first.num_agents, seed, step)
        one, two = first.step(actions), second.step(actions)
        same = torch.equal(one.observation, two.observation) and torch.equal(one.reward, two.reward)
        require(same, "resume", f"step {step} after load_state_dict differs from the uninterrupted run")
