"""Networks of PPO: `N` actors and `N` critics, multilayer perceptrons, forward and backward by batched matrix products.

`N = 1` is shared by all agents, `N = P` gives every agent its own. All numbers of a network are one row of one tensor
`[N, 1, K]`, so that an optimiser, a norm or a sum over processes takes them in one go. The backward pass is written
out: with small minibatches, automatic differentiation layer by layer would take longer than the arithmetic.

Initial values come from a private generator on the CPU, so they are equal on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

Layers = list[tuple[Tensor, Tensor]]

CACHED_NUMBERS = 2**18  # of one layer's values at a time on a CPU: 1 MiB


class Parts(NamedTuple):
    """Views of the networks' numbers."""

    actor: Layers
    log_std: Tensor | None  # [N, 1, A]: of the Gaussian of continuous actions, whatever the state
    critic: Layers


@dataclass(frozen=True)
class NetworkLayout:
    """Widths of actor and critic, inputs and outputs included, and where their numbers lie in `[N, 1, K]`."""

    actor: tuple[int, ...]
    critic: tuple[int, ...]
    continuous: bool
    activation: str

    @property
    def sizes(self) -> tuple[int, int]:
        """How many numbers of `K` the actor (with its deviations) and the critic have."""
        return _size(self.actor) + (self.actor[-1] if self.continuous else 0), _size(self.critic)

    def parts(self, flat: Tensor) -> Parts:
        """Views of `flat` `[N, 1, K]`."""
        body, spread = _size(self.actor), self.actor[-1] if self.continuous else 0
        actor, log_std, critic = flat.split([body, spread, _size(self.critic)], dim=-1)
        return Parts(layers_of(actor, self.actor), log_std if spread else None, layers_of(critic, self.critic))


def _size(widths: Sequence[int]) -> int:
    return sum(a * b + b for a, b in pairwise(widths))


def layers_of(flat: Tensor, widths: Sequence[int]) -> Layers:
    """Weights `[N, in, out]`, the last `[N, out, in]`, and biases `[N, 1, out]`, as views of `[N, 1, K]`.

    The last layer is narrow, and transposed its products are three to five times as fast on a CPU.
    """
    shapes = list(pairwise(widths))
    parts = flat.split([size for a, b in shapes for size in (a * b, b)], dim=-1)
    shapes[-1] = (shapes[-1][1], shapes[-1][0])
    return [(weight.view(-1, a, b), bias) for (a, b), weight, bias in zip(shapes, parts[::2], parts[1::2], strict=True)]


def piece_rows(rows: int, layers: Layers, multiple: int = 1) -> int:
    """How many of `rows` rows `[N, B, ...]` to take through the layers at a time, a multiple of `multiple`.

    On a CPU a layer's values of all rows need not fit into its caches. With two layers of 256 units and 3,840 rows, a
    gradient step in four pieces took 0.8 of the time of one piece. A GPU takes all at once.
    """
    bias = layers[0][1]
    wide = max(bias.shape[-1] for _, bias in layers) * bias.shape[0]
    if bias.device.type != "cpu" or rows * wide <= CACHED_NUMBERS:
        return rows
    pieces = -(-rows * wide // CACHED_NUMBERS)
    return min(rows, -(-rows // (pieces * multiple)) * multiple)


def evaluate(layers: Layers, activation: str, x: Tensor) -> Tensor:
    """`[N, B, in] -> [N, B, out]`, float32."""
    rows = piece_rows(x.shape[1], layers)
    if rows == x.shape[1]:
        return forward(layers, activation, x)[-1]
    return torch.cat([forward(layers, activation, piece)[-1] for piece in x.split(rows, dim=1)], dim=1)


def forward(layers: Layers, activation: str, x: Tensor) -> list[Tensor]:
    """Inputs of all layers, and the output, all `[N, B, ...]`."""
    values = [x]
    for weight, bias in layers[:-1]:
        if activation == "tanh":
            # tanh x = 2 sigmoid(2 x) - 1: torch's sigmoid takes a sixth of its tanh's time. Error below 2e-7.
            x = torch.baddbmm(bias, x, weight, beta=2.0, alpha=2.0).sigmoid_()
            x = torch.rsub(x, -1.0, alpha=-2.0)
        else:
            x = torch.baddbmm(bias, x, weight).relu_()
        values.append(x)
    weight, bias = layers[-1]
    values.append(torch.baddbmm(bias, x, weight.transpose(1, 2)))
    return values


def backward(layers: Layers, activation: str, inputs: Sequence[Tensor], gradient: Tensor) -> list[Tensor]:
    """Gradient at all weights and biases, `[N, 1, ...]` each in the order of `layers_of`.

    Args:
        inputs: of each layer, from `forward`.
        gradient: at the output, `[N, B, out]`.
    """
    found: list[Tensor] = []
    for index in range(len(layers) - 1, -1, -1):
        weight, x, last = layers[index][0], inputs[index], index == len(layers) - 1
        product = torch.bmm(gradient.transpose(1, 2), x) if last else torch.bmm(x.transpose(1, 2), gradient)
        found[:0] = [product.flatten(1).unsqueeze(1), gradient.sum(dim=1, keepdim=True)]
        if index:
            gradient = torch.bmm(gradient, weight if last else weight.transpose(1, 2))
            if activation == "tanh":
                gradient = torch.ops.aten.tanh_backward(gradient, x)
            else:
                gradient = torch.ops.aten.threshold_backward(gradient, x, 0.0)
    return found


def initial_networks(num_networks: int, layout: NetworkLayout, log_std: float, generator: torch.Generator) -> Tensor:
    """`[N, 1, K]` on the CPU: orthogonal weights with gain sqrt(2) in hidden layers, biases zero.

    The last layer has gain 0.01 in the actor, 1 in the critic: Huang et al., "The 37 implementation details of proximal
    policy optimization", 2022, detail 2.
    """
    flat = torch.zeros(num_networks, 1, sum(layout.sizes))
    parts = layout.parts(flat)
    for layers, head_gain in ((parts.actor, 0.01), (parts.critic, 1.0)):
        for index, (weight, _) in enumerate(layers):
            gain = head_gain if index == len(layers) - 1 else math.sqrt(2.0)
            weight.copy_(orthogonal(num_networks, weight.shape[1], weight.shape[2], gain, generator))
    if parts.log_std is not None:
        parts.log_std.fill_(log_std)
    return flat


def orthogonal(num_networks: int, rows: int, columns: int, gain: float, generator: torch.Generator) -> Tensor:
    """`[N, rows, columns]` with orthonormal rows or columns times `gain` (Saxe, McClelland and Ganguli, 2014)."""
    long, short = max(rows, columns), min(rows, columns)
    normal = torch.empty(num_networks, long, short).normal_(generator=generator)
    q, r = torch.linalg.qr(normal)
    q = gain * q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)  # the sign makes the distribution uniform
    matrix: Tensor = q if rows == long else q.transpose(1, 2)
    return matrix


def uniforms(words: Tensor) -> Tensor:
    """Float32 in (0, 1] from random words 0 .. 2**32-1."""
    return (words.to(torch.float32) + 0.5) * 2.0**-32


def normals(words: Tensor) -> Tensor:
    """Standard normals `[W, ...]` float32 from random words `[W, ...]`, `W` even (Box and Muller, 1958)."""
    first, second = uniforms(words).chunk(2)
    radius, angle = (-2.0 * first.log()).sqrt(), (2.0 * math.pi) * second
    return torch.cat((radius * angle.cos(), radius * angle.sin()))
