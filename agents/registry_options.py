"""Options from outside (command line, JSON) to a frozen, validated dataclass; unknown keys are errors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from gridmarl.errors import ConfigError

T = TypeVar("T")


def from_options(cls: type[T], options: Mapping[str, Any], what: str) -> T:
    """`cls(**options)`, `cls` a dataclass; lists become tuples.

    Raises:
        ConfigError: an option that `cls` does not have (names it and those there are), or a value `cls` refuses.
    """
    allowed = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    for key in options:
        if key not in allowed:
            raise ConfigError(f"{what}: unknown option {key!r}; allowed are {', '.join(allowed) or '(none)'}")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})


def check_integer(what: str, name: str, value: object, low: int, high: int | None = None) -> None:
    """`low <= value`, and `value <= high` where given, as an int (a bool is not one); ConfigError otherwise."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or value < low or (high is not None and value > high):  # type: ignore[operator]
        allowed = f"an integer >= {low}" if high is None else f"an integer {low} .. {high}"
        raise ConfigError(f"{what}: {name}={value!r}; allowed is {allowed}")


def check_number(what: str, name: str, value: object, low: float, high: float, *, above: bool = False) -> None:
    """A finite number in `[low, high]`, or `(low, high]` with `above`; ConfigError otherwise."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < low or value > high or (above and value == low):  # type: ignore[operator]
        bound = "" if high == math.inf else f" and <= {high}"
        raise ConfigError(f"{what}: {name}={value!r}; allowed is a number {'>' if above else '>='} {low}{bound}")


def check_choice(what: str, name: str, value: object, allowed: Collection[object]) -> None:
    """One of `allowed`, of the same type (so that `1` does not pass for `True`); ConfigError otherwise."""
    if not any(value == item and type(value) is type(item) for item in allowed):
        raise ConfigError(f"{what}: {name}={value!r}; allowed are {', '.join(map(repr, allowed))}")
