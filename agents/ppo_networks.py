"""Networks of PPO: `N` actors and `N` critics, each a multilayer perceptron, evaluated by batched matrix products.

`N = 1` is shared by all agents, `N = P` gives every agent its own. Initial values come from a private generator on the
CPU, so they are equal on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gridmarl.agents.networks import StackedLinear


class _Tanh(torch.autograd.Function):
    """tanh(x) = 2 sigmoid(2 x) - 1, in place: on a CPU torch's sigmoid takes a sixth of its tanh's time.

    Absolute error below 2e-7.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        gradient: Tensor = torch.ops.aten.tanh_backward(gradients[0], y)
        return gradient


def tanh_(x: Tensor) -> Tensor:
    """Hyperbolic tangent, overwriting `x` (an intermediate result, never a parameter)."""
    y: Tensor = _Tanh.apply(x)
    return y


ACTIVATIONS = {"tanh": tanh_, "relu": torch.relu_}


def orthogonal(num_networks: int, rows: int, columns: int, gain: float, generator: torch.Generator) -> Tensor:
    """`[N, rows, columns]` with orthonormal rows or columns times `gain` (Saxe, McClelland and Ganguli, 2014)."""
    long, short = max(rows, columns), min(rows, columns)
    normal = torch.empty(num_networks, long, short).normal_(generator=generator)
    q, r = torch.linalg.qr(normal)
    q = q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)  # makes the distribution uniform
    return gain * (q if rows == long else q.transpose(1, 2))


class StackedMLP(nn.Module):
    """`N` multilayer perceptrons of one shape: `[N, B, in] -> [N, B, out]`, float32.

    Orthogonal weights with gain sqrt(2) in hidden layers and `head_gain` in the last, biases zero: Huang et al., "The 37
    implementation details of proximal policy optimization", 2022, detail 2.
    """

    def __init__(
        self, num_networks: int, widths: Sequence[int], activation: str, head_gain: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(StackedLinear(num_networks, a, b, generator) for a, b in pairwise(widths))
        self._activate = ACTIVATIONS[activation]
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, StackedLinear)
            gain = head_gain if index == len(self.layers) - 1 else math.sqrt(2.0)
            layer.weight.data.copy_(orthogonal(*layer.weight.shape, gain, generator))
            layer.bias.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of all networks."""
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index < last:
                x = self._activate(x)
        return x


class Actor(nn.Module):
    """`N` policies: features `[N, B, F]` to logits (discrete) or means (continuous), `[N, B, A]` float32.

    `log_std` `[N, 1, A]`: of the continuous policy's Gaussian, whatever the state; None for discrete actions.
    """

    def __init__(
        self,
        num_networks: int,
        widths: Sequence[int],
        activation: str,
        log_std: float | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.body = StackedMLP(num_networks, widths, activation, 0.01, generator)
        self.log_std: nn.Parameter | None = None
        if log_std is not None:
            self.log_std = nn.Parameter(torch.full((num_networks, 1, widths[-1]), log_std))

    def forward(self, features: Tensor) -> Tensor:
        """Logits or means."""
        outputs: Tensor = self.body(features)
        return outputs


def gaussian_log_prob(sample: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log density of independent Gaussians at `sample` `[..., A]`, summed over `A`."""
    z = (sample - mean) * (-log_std).exp()
    return -0.5 * z.square().sum(dim=-1) - log_std.sum(dim=-1) - 0.5 * math.log(2.0 * math.pi) * sample.shape[-1]


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Differential entropy of independent Gaussians `[..., A]`, summed over `A`."""
    return log_std.sum(dim=-1) + 0.5 * (1.0 + math.log(2.0 * math.pi)) * log_std.shape[-1]


def uniforms(words: Tensor) -> Tensor:
    """Float32 in (0, 1] from random words 0 .. 2**32-1."""
    return (words.to(torch.float32) + 0.5) * 2.0**-32


def normals(words: Tensor) -> Tensor:
    """Standard normals `[W, ...]` float32 from random words `[W, ...]`, `W` even (Box and Muller, 1958)."""
    first, second = uniforms(words).chunk(2)
    radius, angle = (-2.0 * first.log()).sqrt(), (2.0 * math.pi) * second
    return torch.cat((radius * angle.cos(), radius * angle.sin()))
