"""Spaces of agents, and the border where their actions become tensors: NaN and what lies outside is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from gridmarl.errors import ActionError
from gridmarl.protocols import ActionSpec, ObservationField

_BOOLEANS = {bool, np.bool_}


def observation_space(fields: Sequence[ObservationField]) -> spaces.Box:
    """Box float32 of the observation's fields."""
    low = np.array([item.low for item in fields], dtype=np.float32)
    high = np.array([item.high for item in fields], dtype=np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def action_space(spec: ActionSpec) -> spaces.Discrete | spaces.Box:
    """Discrete, or Box in [-1, 1]."""
    return spaces.Discrete(spec.num_actions) if spec.num_actions else spaces.Box(-1.0, 1.0, (spec.size,), np.float32)


@dataclass(frozen=True)
class AgentType:
    """Agents with the same spaces.

    Attributes:
        names: of the agents.
        rows: for each agent, the row of the batched observation that it looks at.
        fields: what they see of their row, in the batch's order.
        spec: what they do.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]
    fields: tuple[ObservationField, ...]
    spec: ActionSpec


def joint_action(kind: AgentType, actions: Mapping[str, Any]) -> torch.Tensor:
    """Actions of all agents of a type, of one lane: `[1, n]` int64 or `[1, n, size]` float32.

    Raises:
        ActionError: names the first agent whose action is NaN, has the wrong shape or lies outside its space.
    """
    values = [actions[name] for name in kind.names]
    rows = _rows(values, kind.spec)
    if rows is None:  # one by one: an action is wrong, or they only have no common type
        parts = [_row(name, value, kind.spec) for name, value in zip(kind.names, values, strict=True)]
        rows = np.concatenate(parts)
    return torch.from_numpy(rows[None])


def _row(name: str, value: Any, spec: ActionSpec) -> NDArray[Any]:
    """One agent's action, `[1]` or `[1, size]`; ActionError."""
    row = _rows([value], spec)
    if row is None:
        allowed = f"integers 0 .. {spec.num_actions - 1}" if spec.num_actions else f"{spec.size} numbers in [-1, 1]"
        raise ActionError(f"{name}: action {value!r}, allowed are {allowed}")
    return row


def _rows(values: list[Any], spec: ActionSpec) -> NDArray[Any] | None:
    """`[n]` int64 or `[n, size]` float32; None if any value is not in the space, or they have no common type."""
    return _discrete(values, spec.num_actions) if spec.num_actions else _continuous(values, spec.size)


def _discrete(values: list[Any], count: int) -> NDArray[np.int64] | None:
    try:
        rows = np.array(values)
    except (TypeError, ValueError):  # of different shapes
        return None
    whole = rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer) and _BOOLEANS.isdisjoint(map(type, values))
    return rows.astype(np.int64) if whole and rows.min() >= 0 and rows.max() < count else None


def _continuous(values: list[Any], size: int) -> NDArray[np.float32] | None:
    try:
        with np.errstate(over="ignore"):  # infinite is outside, too
            rows = np.array(values, dtype=np.float32)
    except (TypeError, ValueError):
        return None
    inside = rows.shape == (len(values), size) and bool((np.abs(rows) <= 1.0).all())  # written so that NaN fails
    return rows if inside else None
