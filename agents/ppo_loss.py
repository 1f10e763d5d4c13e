"""PPO's loss and its gradient at the networks' outputs, for `N` networks of `B` rows each.

`policy_terms` and `value_errors` say what the loss is. The gradients are written out beside them, since a gradient step
is mostly small operations: the tests compare both with automatic differentiation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


@dataclass(frozen=True)
class LossWeights:
    """Constants of the loss; see PPOConfig."""

    clip: float
    value_clip: float
    value_weight: float
    entropy_weight: float


class Rows(NamedTuple):
    """What a gradient step learns from: `B` rows for each of `N` networks."""

    features: Tensor  # [N, B, F']: what the actor sees
    seen: Tensor  # [N, B', F'']: what the critic sees; with a shared central critic B' = B / P, with P values a row
    sample: Tensor  # [N, B] int64 or [N, B, A] float32
    log_prob: Tensor  # [N, B] of the sample, when it was drawn
    advantage: Tensor  # [N, B]
    target: Tensor  # [N, B] of the value
    value: Tensor  # [N, B] before the update


def log_prob_and_entropy(outputs: Tensor, log_std: Tensor | None, sample: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability `[N, B]` of samples, and the policy's entropy (broadcasts to `[N, B]`).

    Args:
        outputs: logits or means `[N, B, A]`.
        log_std: `[N, 1, A]` of a Gaussian; None for discrete actions.
    """
    if log_std is not None:
        return gaussian_log_prob(sample, outputs, log_std), gaussian_entropy(log_std)
    each = log_softmax(outputs, dim=-1)
    return each.gather(-1, sample.unsqueeze(-1)).squeeze(-1), -(each.exp() * each).sum(dim=-1)


def policy_terms(log_prob: Tensor, rows: Rows, clip: float) -> dict[str, Tensor]:
    """What the policy's part of the loss is made of, `[N, B]` each; `policy_loss` is to be made small.

    `-min(ratio * A, clip(ratio, 1 - c, 1 + c) * A)` (Schulman et al., 2017, eq. (7)).
    """
    ratio = (log_prob - rows.log_prob).exp()
    limited = ratio.clamp(1.0 - clip, 1.0 + clip)
    return {
        "policy_loss": -torch.minimum(ratio * rows.advantage, limited * rows.advantage),
        "approx_kl": (ratio - 1.0) - (log_prob - rows.log_prob),
        "clip_fraction": (limited != ratio).to(torch.float32),
    }


def value_errors(value: Tensor, rows: Rows, value_clip: float) -> Tensor:
    """Squared errors of the value `[N, B]`; clipped, the greater of both."""
    error = (value - rows.target).square()
    if not value_clip:
        return error
    near = rows.value + (value - rows.value).clamp(-value_clip, value_clip)
    return torch.maximum(error, (near - rows.target).square())


def policy_gradient(
    outputs: Tensor, log_std: Tensor | None, rows: Rows, weights: LossWeights
) -> tuple[Tensor, Tensor | None]:
    """Gradient of the policy's loss, mean over rows, at `outputs` `[N, B, A]` and at `log_std` `[N, 1, A]`."""
    if log_std is not None:
        return _gaussian_gradient(outputs, log_std, rows, weights)
    return _categorical_gradient(outputs, rows, weights), None


def _gaussian_gradient(mean: Tensor, log_std: Tensor, rows: Rows, weights: LossWeights) -> tuple[Tensor, Tensor]:
    inverse = (-log_std).exp()
    z = (rows.sample - mean) * inverse
    constant = log_std.sum(dim=-1) + 0.5 * math.log(2.0 * math.pi) * mean.shape[-1]
    square = z.square()
    log_ratio = torch.sub(-(rows.log_prob + constant), square.sum(dim=-1), alpha=0.5)
    weight = _log_prob_weight(log_ratio, rows.advantage, weights.clip).unsqueeze(-1)
    # d log_prob / d mean = z / std; d log_prob / d log_std = z^2 - 1; d entropy / d log_std = 1
    spread = (weight * (square - 1.0)).sum(dim=1, keepdim=True)
    if weights.entropy_weight:
        spread = spread - weights.entropy_weight
    return weight * (z * inverse), spread


def _categorical_gradient(logits: Tensor, rows: Rows, weights: LossWeights) -> Tensor:
    each = log_softmax(logits, dim=-1)
    odds = each.exp()
    chosen = rows.sample.unsqueeze(-1)
    log_ratio = each.gather(-1, chosen).squeeze(-1) - rows.log_prob
    weight = _log_prob_weight(log_ratio, rows.advantage, weights.clip).unsqueeze(-1)
    # d log_prob / d logits = one-hot of the choice - odds
    gradient = (-weight * odds).scatter_add(-1, chosen, weight)
    if weights.entropy_weight:
        # d entropy / d logits = -odds * (log odds + entropy)
        entropy = -(odds * each).sum(dim=-1, keepdim=True)
        gradient = gradient + (weights.entropy_weight / logits.shape[1]) * odds * (each + entropy)
    return gradient


def _log_prob_weight(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Gradient of the mean clipped loss at each row's log-probability, `[N, B]`: `-ratio * A / B`, 0 where clipped."""
    ratio = log_ratio.exp()
    gain = ratio * advantage
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip) * advantage
    return torch.where(gain > clipped, 0.0, gain) * (-1.0 / log_ratio.shape[1])


def value_gradient(value: Tensor, rows: Rows, weights: LossWeights) -> Tensor:
    """Gradient of `value_weight * mean squared error` at the values, `[N, B]`."""
    error = value - rows.target
    if weights.value_clip:
        change = value - rows.value
        clipped = rows.value + change.clamp(-weights.value_clip, weights.value_clip) - rows.target
        # Beyond the clip, the greater error is the clipped one's, which does not move with the value.
        still = (change.abs() > weights.value_clip) & (clipped.square() > error.square())
        error = torch.where(still, 0.0, error)
    return error * (2.0 * weights.value_weight / value.shape[1])


def gaussian_log_prob(sample: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log density of independent Gaussians at `sample` `[..., A]`, summed over `A`."""
    z = (sample - mean) * (-log_std).exp()
    return -0.5 * z.square().sum(dim=-1) - log_std.sum(dim=-1) - 0.5 * math.log(2.0 * math.pi) * sample.shape[-1]


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Differential entropy of independent Gaussians `[..., A]`, summed over `A`."""
    return log_std.sum(dim=-1) + 0.5 * (1.0 + math.log(2.0 * math.pi)) * log_std.shape[-1]
