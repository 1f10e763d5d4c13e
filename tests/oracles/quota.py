"""Eqs. (1) and (2) of chapter 9 in exact fractions, and what every allocation keeps; no code of the package."""

from __future__ import annotations

from fractions import Fraction
from math import floor as round_down


def satisfaction_rate(demands: list[int], margin: int) -> Fraction:
    """Eq. (1): 1 if the demands fit into the margin, else margin / sum of demands."""
    return Fraction(1) if sum(demands) <= margin else Fraction(margin, sum(demands))


def exact_quotas(demands: list[int], margin: int) -> list[Fraction]:
    """Eq. (2): rate times demand, unrounded."""
    return [satisfaction_rate(demands, margin) * demand for demand in demands]


def whole_quotas(demands: list[int], margin: int, start: int) -> list[int]:
    """Eq. (2), its running totals from station `start` on rounded down; a quota is what its total adds."""
    order = [(start + step) % len(demands) for step in range(len(demands))]
    exact, result = exact_quotas(demands, margin), [0] * len(demands)
    running, handed_out = Fraction(0), 0
    for station in order:
        running += exact[station]
        result[station] = round_down(running) - handed_out
        handed_out += result[station]
    return result
