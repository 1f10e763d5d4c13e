"""Episode returns, kept on the device until somebody asks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent, BatchedEnv, Workers


class ReturnTracker:
    """Sums rewards per lane and agent; at an episode's end adds them to the totals that `take` reads."""

    def __init__(self, num_envs: int, num_agents: int, device: torch.device) -> None:
        self._running = torch.zeros(num_envs, num_agents, dtype=torch.float64, device=device)
        self._finished = torch.zeros(num_agents, dtype=torch.float64, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, reward: Tensor, done: Tensor) -> None:
        """Rewards `[E, P]` of one step, and which lanes ended with it, `[E]` bool."""
        self._running += reward
        ended = done.unsqueeze(-1)
        self._finished += torch.where(ended, self._running, 0.0).sum(dim=0)
        self._count += done.sum()
        self._running.masked_fill_(ended, 0.0)

    def take(self, workers: Workers) -> tuple[int, list[float]]:
        """Episodes ended since the last call in all processes, and each agent's mean return over them (empty if none).

        Waits for the device.
        """
        *totals, count = workers.add(torch.cat((self._finished, self._count.unsqueeze(0)))).tolist()
        self._finished.zero_()
        self._count.zero_()
        return int(count), [total / count for total in totals] if count else []

    def state_dict(self) -> dict[str, Any]:
        """Unfinished and not yet read returns."""
        return {"running": self._running.clone(), "finished": self._finished.clone(), "count": self._count.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._running.copy_(state["running"])
        self._finished.copy_(state["finished"])
        self._count.copy_(state["count"])


@torch.no_grad()
def evaluation_return(env: BatchedEnv, agent: Agent, seed: int) -> float:
    """Mean return per agent, in tokens, of one greedy episode in every lane."""
    observation = env.reset(seed)
    total = torch.zeros(env.num_envs, env.num_agents, dtype=torch.float64, device=env.device)
    alive = torch.ones(env.num_envs, 1, dtype=torch.bool, device=env.device)
    while bool(alive.any()):
        step = env.step(agent.act(observation, explore=False))
        total += step.reward * alive
        alive &= ~(step.terminated | step.truncated).unsqueeze(-1)
        observation = step.observation
    return float(total.mean())


def check_same_spaces(env: BatchedEnv, other: BatchedEnv) -> None:
    """An evaluation environment must fit the agent that was built for the training environment; lanes may differ.

    Raises:
        ConfigError: names what differs.
    """
    for name in ("num_agents", "observation_fields", "device"):
        ours, theirs = getattr(env, name), getattr(other, name)
        if ours != theirs:
            raise ConfigError(
                f"evaluation environment: {name}={theirs!r}; allowed is the training environment's {ours!r}"
            )
