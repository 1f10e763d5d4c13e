"""What PPO keeps of a rollout, and the advantages that it estimates from it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rollout(NamedTuple):
    """What was seen in `T` steps of all lanes."""

    observation: Tensor  # [T, E, P, F] float32
    sample: Tensor  # [T, E, P] int64, or [T, E, P, A] float32: before it is clamped to [-1, 1]
    reward: Tensor  # [T, E, P] float32, shaped
    terminal: Tensor  # [T, E, 1] bool: nothing is worth anything afterwards
    ended: Tensor  # [T, E, 1] bool: the next step belongs to another episode
    following: Tensor  # next observation, [T, E, P, F], or of the last step only, [1, E, P, F]


def empty_rollout(
    steps: int, shape: tuple[int, int], num_features: int, action_size: int | None, keep: int, device: torch.device
) -> Rollout:
    """Zeros. `shape` is `(E, P)`; `action_size` None for discrete actions; `keep` of the next observations."""
    kind = torch.int64 if action_size is None else torch.float32
    size = () if action_size is None else (action_size,)
    return Rollout(
        observation=torch.zeros(steps, *shape, num_features, device=device),
        sample=torch.zeros(steps, *shape, *size, dtype=kind, device=device),
        reward=torch.zeros(steps, *shape, device=device),
        terminal=torch.zeros(steps, shape[0], 1, dtype=torch.bool, device=device),
        ended=torch.zeros(steps, shape[0], 1, dtype=torch.bool, device=device),
        following=torch.zeros(keep, *shape, num_features, device=device),
    )


def generalised_advantage(
    reward: Tensor,
    value: Tensor,
    later: Tensor,
    terminal: Tensor,
    ended: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Generalised advantage estimates `[T, ...]` (Schulman et al., 2016, eq. (16)), float32.

    `A_t = delta_t + discount * lambda * A_(t+1)` within an episode and `delta_t` at its end, with
    `delta_t = r_t + discount * V_(t+1) - V_t`, where `V_(t+1)` counts 0 after a terminal step.

    Args:
        reward, value: `[T, ...]`.
        later: value of the next observation, `[T, ...]`.
        terminal, ended: `[T, ...]` bool, broadcast; see `Rollout`.
    """
    delta = reward + discount * later.masked_fill(terminal, 0.0) - value
    carry = (~ended).to(torch.float32) * (discount * gae_lambda)
    advantage = torch.empty_like(delta)
    ahead = torch.zeros_like(delta[0])
    for step in range(delta.shape[0] - 1, -1, -1):
        ahead = torch.addcmul(delta[step], carry[step], ahead, out=advantage[step])
    return advantage
