"""One gradient step of PPO as a function of tensors, in place: gradient, clipping, Adam. It runs eager or compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.agents.ppo_loss import LossWeights, Rows, policy_gradient, value_gradient
from gridmarl.agents.ppo_networks import NetworkLayout, Parts, backward, evaluate, forward, piece_rows
from gridmarl.protocols import Alone, Workers

BETAS = (0.9, 0.999)
EPSILON = 1e-5  # Huang et al., 2022, detail 3


class AdamState(NamedTuple):
    """Running means of the gradient and of its square, `[N, 1, K]` each."""

    mean: Tensor
    square: Tensor


@dataclass(frozen=True)
class StepSettings:
    """Constants of a gradient step."""

    layout: NetworkLayout
    weights: LossWeights
    max_gradient_norm: float


def adam_scales(first: int, steps: int, learning_rate: float) -> Tensor:
    """Step size and epsilon of Adam's steps number `first`, `first + 1`, ... (from 1), `[steps, 2]` float32.

    With both, Adam's corrections of its running means for their start at zero (Kingma and Ba, 2015, end of section 2)
    are in two numbers a step.
    """
    count = torch.arange(first, first + steps, dtype=torch.float64)
    correction = (1.0 - BETAS[1] ** count).sqrt()
    return torch.stack((learning_rate * correction / (1.0 - BETAS[0] ** count), EPSILON * correction), 1).float()


def gradient(parts: Parts, rows: Rows, settings: StepSettings) -> Tensor:
    """Gradient of the loss at the numbers `[N, 1, K]` that `parts` views; each network's is that of its own rows.

    Large minibatches of wide networks go through in pieces; the loss is a mean over rows, so theirs add up by size.
    """
    count = rows.features.shape[1]
    agents = count // rows.seen.shape[1]  # with a shared central critic, a row of `seen` is a slot of this many rows
    size = min(piece_rows(count, layers, agents) for layers in (parts.actor, parts.critic))
    if size == count:
        return _gradient(parts, rows, settings)
    columns = [column.split(size // (count // column.shape[1]), dim=1) for column in rows]
    pieces = [Rows(*piece) for piece in zip(*columns, strict=True)]
    total = _gradient(parts, pieces[0], settings).mul_(size / count)
    for piece in pieces[1:]:
        total.add_(_gradient(parts, piece, settings), alpha=piece.features.shape[1] / count)
    return total


def _gradient(parts: Parts, rows: Rows, settings: StepSettings) -> Tensor:
    layout, weights = settings.layout, settings.weights
    actor, log_std, critic = parts
    *inputs, outputs = forward(actor, layout.activation, rows.features)
    at_outputs, at_log_std = policy_gradient(outputs, log_std, rows, weights)
    found = backward(actor, layout.activation, inputs, at_outputs)
    if at_log_std is not None:
        found.append(at_log_std)
    *inputs, values = forward(critic, layout.activation, rows.seen)
    at_values = value_gradient(values.flatten(1), rows, weights)
    found += backward(critic, layout.activation, inputs, at_values.view_as(values))
    return torch.cat(found, dim=-1)


def clip_(found: Tensor, settings: StepSettings) -> Tensor:
    """Scale gradients of actor and critic of each network down to the greatest norm, in place; norms before, `[2, N]`.

    One joint norm over all networks would let one agent's large gradient slow all others down.
    """
    parts = found.split(settings.layout.sizes, dim=-1)
    norms = torch.stack([torch.linalg.vector_norm(part, dim=(1, 2)) for part in parts])
    scales = (settings.max_gradient_norm / (norms + 1e-6)).clamp(max=1.0).unsqueeze(-1).unsqueeze(-1)
    for part, scale in zip(parts, scales, strict=True):
        part.mul_(scale)
    return norms


def adam_(flat: Tensor, found: Tensor, state: AdamState, scales: Tensor) -> None:
    """One step of Adam (Kingma and Ba, 2015) in place; `scales` is a row of `adam_scales`. Overwrites `found`.

    No temporary tensors: with wide networks, the C library would give their memory back and fetch it anew every step.
    """
    size, epsilon = scales.unbind()
    state.mean.lerp_(found, 1.0 - BETAS[0])
    state.square.mul_(BETAS[1]).addcmul_(found, found, value=1.0 - BETAS[1])
    found.copy_(state.square).sqrt_().add_(epsilon).reciprocal_().mul_(state.mean).mul_(size)
    flat.sub_(found)


def gradient_step_(
    flat: Tensor,
    parts: Parts,
    workers: Workers,
    state: AdamState,
    scales: Tensor,
    rows: Rows,
    settings: StepSettings,
    share: float = 1.0,
) -> Tensor:
    """One gradient step of all networks, in place; returns the gradient norms of actors and critics, `[2, N]`.

    Args:
        flat: numbers of all networks, `[N, 1, K]`.
        parts: views of them.
        workers: processes that take the step together, each with its rows.
        share: of the minibatch's rows that this process has; there may be none.
    """
    found = gradient(parts, rows, settings) if rows.features.shape[1] else torch.zeros_like(flat)
    if workers.size > 1:
        found = workers.add(found * share)
    norms = clip_(found, settings)
    adam_(flat, found, state, scales)
    return norms


def step_to_compile(flat: Tensor, state: AdamState, scales: Tensor, rows: Rows, settings: StepSettings) -> Tensor:
    """`gradient_step_` without views among its arguments, which a compiled graph would have to tell apart."""
    return gradient_step_(flat, settings.layout.parts(flat), Alone(), state, scales, rows, settings)


def actor_to_compile(layout: NetworkLayout, flat: Tensor, features: Tensor) -> Tensor:
    """Logits or means `[N, B, A]` of features `[N, B, F']`."""
    return evaluate(layout.parts(flat).actor, layout.activation, features)
