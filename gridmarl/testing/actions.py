"""Reproducible random actions for any action space."""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.protocols import ActionSpec
from gridmarl.random import Purpose, below, draw, lane_keys


def random_actions(spec: ActionSpec, num_envs: int, num_agents: int, seed: int, step: int, *, lane: int = 0) -> Tensor:
    """Actions of one step: `[E, P]` int64 or `[E, P, size]` float32 in [-1, 1], the same on every call and per lane."""
    keys = lane_keys(seed, num_envs, first_lane=lane)
    if spec.num_actions:
        return below(draw(keys, step, Purpose.EXPLORE, num_agents)[0], spec.num_actions).T.contiguous()
    entries = [draw(keys, step, Purpose.EXPLORE, num_agents, index=index)[0].T for index in range(spec.size)]
    return torch.stack(entries, -1).to(torch.float32) * (2.0 / 2**32) - 1.0
