"""What a station gains by deviating alone: stations in turn, each in a copy of the same lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.train.quota.episode import Integers, Policy, play_on

_MAX_LANES = 4096  # of all copies that are played at once
_WITHOUT_LANES = "tariff"


@dataclass(frozen=True)
class Alone:
    """Of each station that deviates alone, `[D, E]` int64 over the day."""

    reward_utok: Integers
    over_declared_wh: Integers


def play_alone(
    env: BatchedEVQuota,
    others: Policy,
    own: Policy,
    seed: int,
    on_station: Callable[[], None] | None = None,
    stations: Sequence[int] | None = None,
) -> Alone:
    """Each of `D` stations in turn plays `own`, the others `others`, in the lanes of `env` (which is reset).

    Args:
        stations: which ones, by index; None: all.
        on_station: called after each.
    """
    observation = env.reset(seed)
    stations, lanes = range(env.num_agents) if stations is None else stations, env.num_envs
    rewards, more = [], []
    at_once = max(1, _MAX_LANES // lanes)
    for first in range(0, len(stations), at_once):
        group = stations[first : first + at_once]
        deviator = torch.tensor(group, device=env.device).repeat_interleave(lanes)
        episode = play_on(
            in_copies(env, len(group)),
            observation.repeat(len(group), 1, 1),
            _one_deviates(others, own, deviator, env.num_agents),
        )
        for copy, station in enumerate(group):
            mine = slice(copy * lanes, (copy + 1) * lanes)
            rewards.append(episode.reward_utok[:, station, mine].sum(0))
            more.append(episode.over_declared_wh[:, station, mine].sum(0))
            if on_station is not None:
                on_station()
    return Alone(np.stack(rewards), np.stack(more))


def in_copies(env: BatchedEVQuota, copies: int) -> BatchedEVQuota:
    """The same day in `copies` times as many lanes: lane `c*E + e` is lane `e`."""
    wide = BatchedEVQuota(
        env.params, env.scenario, num_envs=copies * env.num_envs, device=env.device, auto_reset=env.auto_reset
    )
    saved = env.state_dict()
    state = {name: part if name == _WITHOUT_LANES else _repeated(part, copies) for name, part in saved["state"].items()}
    wide.load_state_dict({**saved, "state": state})
    return wide


def _repeated(part: Any, copies: int) -> Any:
    """Lanes come last."""
    if isinstance(part, Tensor):
        return part.repeat(*(1,) * (part.dim() - 1), copies)
    return tuple(_repeated(item, copies) for item in part) if isinstance(part, tuple) else part


def _one_deviates(others: Policy, own: Policy, deviator: Tensor, stations: int) -> Policy:
    """`deviator`: `[lanes]`, which station does."""
    deviates = deviator.unsqueeze(1) == torch.arange(stations, device=deviator.device)

    def act(observation: Tensor) -> Tensor:
        truthful, changed = others(observation), own(observation)
        mask = deviates if truthful.dim() == 2 else deviates.unsqueeze(-1)
        return torch.where(mask, changed, truthful)

    return act
