"""Playing a day of EVQuota for whoever watches it half hour by half hour."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.step import Settled
from gridmarl.protocols import Agent


def watch_day(env: BatchedEVQuota, agent: Agent, seed: int, on_half_hour: Callable[[Settled], object]) -> None:
    """One episode of a policy that does not explore; `on_half_hour` sees each settled half hour."""
    observation, ended = env.reset(seed), False
    while not ended:
        with torch.no_grad():
            result = env.step(agent.act(observation, explore=False))
        observation, ended = result.observation, bool(result.truncated[0])
        if env.settled is not None:
            on_half_hour(env.settled)
