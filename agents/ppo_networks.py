"""Networks of PPO: `N` actors and `N` critics, each a multilayer perceptron, evaluated by batched matrix products.

`N = 1` is shared by all agents, `N = P` gives every agent its own. Initial values come from a private generator on the
CPU, so they are equal on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


def tanh_(x: Tensor) -> Tensor:
    """Hyperbolic tangent in place, as 2 sigmoid(2 x) - 1: on a CPU torch's sigmoid takes a sixth of its tanh's time.

    Absolute error below 2e-7.
    """
    return x.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)


def _tanh_slope_(gradient: Tensor, y: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward.grad_input(gradient, y, grad_input=gradient)  # type: ignore[no-any-return]


def _relu_slope_(gradient: Tensor, y: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(gradient, y, 0.0, grad_input=gradient)  # type: ignore[no-any-return]


# Function of x, in place; gradient at x from that at y and y itself, in place.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "tanh": (tanh_, _tanh_slope_),
    "relu": (torch.relu_, _relu_slope_),
}


def layers_of(flat: Tensor, widths: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Weights `[N, in, out]` and biases `[N, 1, out]` of each layer, as views of `[N, 1, K]`."""
    shapes = list(pairwise(widths))
    parts = flat.split([size for a, b in shapes for size in (a * b, b)], dim=-1)
    return [(weight.view(-1, a, b), bias) for (a, b), weight, bias in zip(shapes, parts[::2], parts[1::2], strict=True)]


class _Perceptrons(torch.autograd.Function):
    """Forward and backward pass written out: matrix products and little else, all gradients in one tensor.

    With small minibatches, automatic differentiation layer by layer would take longer than the arithmetic.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, flat: Tensor, widths: Sequence[int], activation: str) -> Tensor:
        activate, ctx.slope = ACTIVATIONS[activation]
        layers = layers_of(flat, widths)
        inputs = []
        for index, (weight, bias) in enumerate(layers):
            inputs.append(x)
            x = torch.baddbmm(bias, x, weight)
            if index < len(layers) - 1:
                activate(x)
        ctx.widths = widths
        ctx.save_for_backward(flat, *inputs)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None]:
        (gradient,) = gradients
        flat, *inputs = ctx.saved_tensors
        result = torch.empty_like(flat)
        layers, slots = layers_of(flat, ctx.widths), layers_of(result, ctx.widths)
        for index in range(len(layers) - 1, -1, -1):
            x = inputs[index]
            torch.bmm(x.transpose(1, 2), gradient, out=slots[index][0])
            torch.sum(gradient, dim=1, keepdim=True, out=slots[index][1])
            if index:
                gradient = ctx.slope(torch.bmm(gradient, layers[index][0].transpose(1, 2)), x)
        return None, result, None, None


def orthogonal(num_networks: int, rows: int, columns: int, gain: float, generator: torch.Generator) -> Tensor:
    """`[N, rows, columns]` with orthonormal rows or columns times `gain` (Saxe, McClelland and Ganguli, 2014)."""
    long, short = max(rows, columns), min(rows, columns)
    normal = torch.empty(num_networks, long, short).normal_(generator=generator)
    q, r = torch.linalg.qr(normal)
    q = gain * q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)  # the sign makes the distribution uniform
    matrix: Tensor = q if rows == long else q.transpose(1, 2)
    return matrix


class StackedMLP(nn.Module):
    """`N` multilayer perceptrons of one shape: `[N, B, in] -> [N, B, out]`, float32. Inputs get no gradient.

    All numbers of a network are one row of one parameter `[N, 1, K]`, which an optimiser treats in one go. Orthogonal
    weights with gain sqrt(2) in hidden layers and `head_gain` in the last, biases zero: Huang et al., "The 37
    implementation details of proximal policy optimization", 2022, detail 2.
    """

    def __init__(
        self, num_networks: int, widths: Sequence[int], activation: str, head_gain: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.widths, self.activation = tuple(widths), activation
        flat = torch.zeros(num_networks, 1, sum(a * b + b for a, b in pairwise(widths)))
        layers = layers_of(flat, widths)
        for index, (weight, _) in enumerate(layers):
            gain = head_gain if index == len(layers) - 1 else math.sqrt(2.0)
            weight.copy_(orthogonal(num_networks, weight.shape[1], weight.shape[2], gain, generator))
        self.flat = nn.Parameter(flat)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of all networks."""
        outputs: Tensor = _Perceptrons.apply(x, self.flat, self.widths, self.activation)  # type: ignore[no-untyped-call]
        return outputs


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
