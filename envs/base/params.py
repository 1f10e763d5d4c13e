"""Constants of a market: a frozen dataclass whose fields are checked for exact types and ranges; no unknown keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Any, Self, get_args, get_type_hints

from gridmarl.errors import ConfigError

Range = tuple[str, int, int]
"""Field, least and greatest value."""


@dataclass(frozen=True)
class MarketParams:
    """Base of an environment's parameters; fields are `int`, `int | None`, `bool`, or a `Literal` of names.

    A subclass calls `_check_fields` first in its `__post_init__`, then checks what fields must be together.
    """

    def _check_fields(self, ranges: Sequence[Range]) -> None:
        """All types, then all ranges; ConfigError names the first field at fault."""
        hints = get_type_hints(type(self))
        for item in fields(self):
            self._check_type(item.name, hints[item.name])
        for name, low, high in ranges:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name}: {value}, allowed are {low} .. {high}")

    def _check_type(self, name: str, hint: Any) -> None:
        """Exact types, since a float that slips into integer money would round silently."""
        value, allowed = getattr(self, name), get_args(hint)
        if NoneType in allowed:
            if value is not None and type(value) is not int:
                raise ConfigError(f"{name}: {value!r}, allowed is an integer or null")
        elif allowed:
            if value not in allowed:
                raise ConfigError(f"{name}: {value!r}, allowed are {', '.join(allowed)}")
        elif type(value) is not hint:
            raise ConfigError(f"{name}: {value!r}, allowed is one {hint.__name__}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Parameters from a mapping; ConfigError names the first unknown key."""
        known = [item.name for item in fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigError(f"{key}: unknown key, allowed are {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields, for config.json."""
        return asdict(self)
