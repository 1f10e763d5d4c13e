"""Q-networks: `N` networks of one shape in one module, evaluated by one batched matrix product per layer.

`N = 1` is a network shared by all agents, `N = P` gives every agent its own; the code is the same. Initial values come
from a private generator on the CPU, so they are equal on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class StackedLinear(nn.Module):
    """`N` affine maps side by side: `[N, B, in] -> [N, B, out]`, float32. Weights uniform in `+-1/sqrt(in)`."""

    def __init__(self, num_networks: int, in_features: int, out_features: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(in_features)
        weight = torch.empty(num_networks, in_features, out_features).uniform_(-bound, bound, generator=generator)
        bias = torch.empty(num_networks, 1, out_features).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """`x @ weight + bias` for every network at once."""
        return torch.baddbmm(self.bias, x, self.weight)


class StackedQNetwork(nn.Module):
    """`N` multilayer perceptrons with ReLU: features `[N, B, F]` to action values `[N, B, A]`, float32.

    With `dueling`, the last layer gives a state value and `A` advantages, and `Q = value + advantage - mean(advantage)`
    (Wang et al., "Dueling network architectures for deep reinforcement learning", 2016, eq. (9)).
    """

    def __init__(
        self,
        num_networks: int,
        num_features: int,
        num_actions: int,
        hidden: Sequence[int],
        dueling: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.dueling = dueling
        widths = [num_features, *hidden]
        self.layers = nn.ModuleList(StackedLinear(num_networks, a, b, generator) for a, b in pairwise(widths))
        self.head = StackedLinear(num_networks, widths[-1], num_actions + int(dueling), generator)

    def forward(self, features: Tensor) -> Tensor:
        """Action values `[N, B, A]`."""
        x = features
        for layer in self.layers:
            x = torch.relu(layer(x))
        out: Tensor = self.head(x)
        if not self.dueling:
            return out
        value, advantage = out[..., :1], out[..., 1:]
        return value + (advantage - advantage.mean(dim=-1, keepdim=True))


class ActionValueTable(nn.Module):
    """`N` tables of `A` action values, whatever the state: chapter 7's simplification "Q independent of the state".

    Takes features `[N, B, F]` (any `F`, unread) so that it can stand where a network stands; returns `[N, B, A]`.
    """

    def __init__(self, num_networks: int, num_actions: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(num_networks, 1, num_actions))

    def forward(self, features: Tensor) -> Tensor:
        """The table, once per row of the batch."""
        return self.values.expand(-1, features.shape[1], -1)


def network_gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Euclidean norm of each network's gradient, `[N]`; every parameter leads with the network."""
    squares = [p.grad.square().sum(dim=(1, 2)) for p in parameters if p.grad is not None]
    return torch.stack(squares).sum(dim=0).sqrt()


def clip_network_gradients(parameters: Sequence[nn.Parameter], max_norm: float) -> Tensor:
    """Scale each network's gradient down to `max_norm`, one network at a time; returns the norms before, `[N]`.

    One joint norm over all networks would let one agent's large gradient slow all others down.
    """
    norm = network_gradient_norm(parameters)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0).view(-1, 1, 1)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(scale)
    return norm
