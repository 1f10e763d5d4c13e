"""What a surplus over the schedule is worth to an aggregator, and the smallest concave function above that."""

from __future__ import annotations

from collections.abc import Sequence


def worth_utok(
    surplus_wh: int, request_wh: int, short_price: int, long_price: int, service_price: int, missing_penalty: int
) -> int:
    """Service and long income less penalty and short cost of an hour (docs/aggregator-auction.md, "Settlement").

    Args:
        surplus_wh: bought up less bought down less deviation, `y`.
        request_wh: share of the request, + = up.
    """
    sign = (request_wh > 0) - (request_wh < 0)
    delivered = min(max(surplus_wh * sign, 0), abs(request_wh))
    rest = surplus_wh - sign * delivered
    service = service_price * delivered - missing_penalty * (abs(request_wh) - delivered)
    return service + long_price * max(rest, 0) - short_price * max(-rest, 0)


def envelope(points: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Corners of the smallest concave function above points, from left to right (Andrew's monotone chain).

    Args:
        points: (where, how much), at least one; of several at one place the highest counts.
    """
    highest: dict[int, int] = {}
    for where, value in points:
        highest[where] = max(value, highest.get(where, value))
    corners: list[tuple[int, int]] = []
    for place in sorted(highest.items()):
        while len(corners) > 1 and _below(corners[-2], corners[-1], place):
            corners.pop()
        corners.append(place)
    return corners


def _below(left: tuple[int, int], middle: tuple[int, int], right: tuple[int, int]) -> bool:
    """Whether the middle point is on or under the line between the others; whole numbers, no rounding."""
    return (middle[1] - left[1]) * (right[0] - left[0]) <= (right[1] - left[1]) * (middle[0] - left[0])
