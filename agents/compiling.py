"""torch.compile for learners: whether it can, and one graph set per learner."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch

from gridmarl.compiler import missing_compiler


def can_compile(device: torch.device, what: str) -> bool:
    """Whether torch.compile will work; if not, one line says why (RuntimeWarning)."""
    missing = missing_compiler(device)
    if missing is not None:
        warnings.warn(f"{what}: compile=True: {missing}, running eagerly", RuntimeWarning, stacklevel=3)
    return missing is None


def keep_in_place(*tensors: torch.Tensor) -> None:
    """Tell torch.compile that these never move, so that CUDA graphs may write to them."""
    for tensor in tensors:
        torch._dynamo.mark_static_address(tensor)


def compiled(function: Callable[..., Any], device: torch.device, *, graphs: bool = True) -> Callable[..., Any]:
    """`function` compiled at its first use, for each set of shapes; no graph breaks.

    Args:
        graphs: on a GPU, record CUDA graphs. A result is then overwritten by the next call.
    """
    assert isinstance(function, FunctionType)
    # torch keeps graphs by code object and gives up after eight; with a copy each learner has its own count
    own = FunctionType(function.__code__.replace(), function.__globals__, function.__name__, function.__defaults__)
    own.__kwdefaults__ = function.__kwdefaults__
    mode = "reduce-overhead" if graphs and device.type == "cuda" else None
    return torch.compile(own, fullgraph=True, dynamic=False, mode=mode)
