"""What chapter 9 prints: charging demands and quotas (Table 2), orders (Table 3), fees and payments (Table 4).

The book is the one named in the README. Numbers stand as printed, units included; money in tokens (0.01 CNY). The
values of Fig. 3 are those of Table 3: the figure draws the auction of these orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal


@dataclass(frozen=True)
class Station:
    """A row of Tables 2, 3 and 4."""

    name: str
    demand_kw: int
    quota_kw: str
    side: Literal["buy", "sell"]
    order_kwh: str
    price_tok_per_kwh: int
    fee_tok: str
    payment_tok: str  # a minus is an income

    @property
    def order(self) -> Fraction:
        """Ordered quantity, exact."""
        return Fraction(self.order_kwh)


STATIONS = (
    Station("A", 36, "29.82", "sell", "3.2", 25, "3339.32", "0"),
    Station("B", 48, "39.75", "buy", "6.5", 24, "4452.43", "73.6"),
    Station("C", 42, "34.78", "sell", "9.8", 22, "3895.88", "-225.4"),
    Station("D", 66, "54.66", "buy", "10.9", 26, "6122.09", "250.7"),
    Station("E", 30, "24.85", "buy", "3.2", 28, "2782.77", "73.6"),
    Station("F", 66, "54.66", "sell", "7.2", 19, "6122.09", "-165.6"),
    Station("G", 54, "44.72", "buy", "5.4", 20, "5008.98", "0"),
    Station("H", 48, "39.75", "sell", "6.8", 16, "4452.43", "-156.4"),
)
BUYERS = tuple(station for station in STATIONS if station.side == "buy")
SELLERS = tuple(station for station in STATIONS if station.side == "sell")

MARGIN_KW = 343  # the text
RATE = "0.83"
SUM_OF_DEMANDS_KW = 390
PERIOD_MINUTES = 30  # the case trades in 18:00-18:30
FIRST_HOUR = 18
# hours [from, to) -> token/kWh
TARIFF = ((22, 24, 32), (0, 6, 32), (6, 8, 69), (8, 11, 112), (11, 18, 69), (18, 22, 112))


def tariff_at(hour: int) -> int:
    """Tariff in token/kWh of an hour of the day, 0 .. 23."""
    return next(price for begin, end, price in TARIFF if begin <= hour < end)


def total(values: list[str]) -> Fraction:
    """Exact sum of printed numbers."""
    return sum((Fraction(value) for value in values), Fraction(0))
