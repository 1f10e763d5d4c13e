"""What a sweep varies: grids and random draws, as they stand on the command line."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from gridmarl.errors import ConfigError
from gridmarl.train.options import parse_settings

DISTRIBUTIONS = ("uniform", "loguniform", "quniform", "qloguniform", "randint", "lograndint", "choice")
"""Samplers of Ray Tune that a draw may name; q: rounded to a multiple of the last argument."""
_GRID_RULE = "allowed is NAME=VALUE,VALUE,..., each value once"
_DRAW_RULE = f"allowed is NAME=DISTRIBUTION(NUMBER, ...), with one of {', '.join(DISTRIBUTIONS)}"


@dataclass(frozen=True)
class Draw:
    """A distribution and its arguments; `item` is the text it came from."""

    item: str
    distribution: str
    arguments: tuple[Any, ...]


def parse_grid(items: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Values by name, of items such as `hidden=[64,64],[128,128]`; values as in JSON where they parse, else text.

    Raises:
        ConfigError: names the item.
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for item in items:
        name, text = _name_and_text(item, grid, _GRID_RULE)
        values = tuple(parse_settings([f"{name}={part.strip()}"])[name] for part in _top_level_parts(text))
        written = [json.dumps(value) for value in values]
        if '""' in written or len(set(written)) < len(written):
            raise ConfigError(f"grid {item!r}: {_GRID_RULE}")
        grid[name] = values
    return grid


def parse_draws(items: Sequence[str]) -> dict[str, Draw]:
    """Distributions by name, of items such as `learning_rate=loguniform(1e-4,1e-2)`.

    Raises:
        ConfigError: names the item.
    """
    draws: dict[str, Draw] = {}
    for item in items:
        name, text = _name_and_text(item, draws, _DRAW_RULE)
        try:
            call = ast.parse(text.strip(), mode="eval").body
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.keywords:
                raise ValueError("not a call")
            arguments = tuple(ast.literal_eval(argument) for argument in call.args)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ConfigError(f"sample {item!r}: {_DRAW_RULE}") from error
        if call.func.id not in DISTRIBUTIONS or not arguments:
            raise ConfigError(f"sample {item!r}: {_DRAW_RULE}")
        draws[name] = Draw(item, call.func.id, arguments)
    return draws


def _name_and_text(item: str, seen: Mapping[str, Any], rule: str) -> tuple[str, str]:
    name, equals, text = item.partition("=")
    if not equals or not name or not text:
        raise ConfigError(f"{item!r}: {rule}")
    if name in seen:
        raise ConfigError(f"{item!r}: {name} is given twice")
    return name, text


def _top_level_parts(text: str) -> list[str]:
    """Split at the commas outside brackets and quotation marks."""
    parts, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == '"'
        depth += 0 if quoted else (letter in "[{(") - (letter in ")}]")
        if letter == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def check_apart(fixed: Mapping[str, Any], grid: Mapping[str, Any], draws: Mapping[str, Any], what: str) -> None:
    """ConfigError where a name has its values from more than one place."""
    for name in sorted((fixed.keys() & grid.keys()) | (fixed.keys() & draws.keys()) | (grid.keys() & draws.keys())):
        raise ConfigError(f"{what} {name!r}: fixed, in a grid or drawn; allowed is one of these")


def combinations(grid: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Every combination of the grid's values, the last name varying fastest; one empty without a grid."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
