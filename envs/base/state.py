"""What changes from step to step: frozen tensors, lanes last (`E` lanes, `A` accounts); what a step brings about."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, Generic, NamedTuple, Self, TypeVar, get_args, get_type_hints

import torch
from torch import Tensor

Settled = TypeVar("Settled")


@dataclass(frozen=True)
class LaneState:
    """State between two steps. Built by `reset`, replaced by `step`; never changed in place.

    A subclass adds numbers, tensors, enumerations, and named tuples of tensors, any of which may be None.
    """

    keys: Tensor  # [2, E] lane keys of the random numbers
    balances: Tensor  # [A, E] µtok
    clamped_actions: Tensor  # [E] entries of actions that were NaN or out of range so far

    @property
    def num_envs(self) -> int:
        """Number of lanes."""
        return self.keys.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.keys.device

    def with_changes(self, **changes: Any) -> Self:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers and tensors only (for a checkpoint that loads with `weights_only=True`)."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        kinds = _structures(cls)
        return cls(**{name: _rebuilt(kinds.get(name), value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return tuple(value) if isinstance(value, tuple) else value


def _rebuilt(kind: Any, value: Any) -> Any:
    if kind is None or value is None:
        return value
    return kind(value) if issubclass(kind, Enum) else kind(*value)


def _structures(state_type: type[LaneState]) -> dict[str, type]:
    """By field, the enumeration or named tuple that it holds."""
    found = {}
    for name, hint in get_type_hints(state_type).items():
        for kind in get_args(hint) or (hint,):
            if isinstance(kind, type) and issubclass(kind, (Enum, tuple)):
                found[name] = kind
    return found


class StepResult(NamedTuple, Generic[Settled]):
    """Outcome of one environment step of all lanes; `P` agents."""

    reward_utok: Tensor  # [P, E]
    closed: bool  # the horizon is reached (all lanes together)
    settled: Settled | None  # what happened in the period; None after a step that settles none
