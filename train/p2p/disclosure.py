"""What homes have to tell others in each form, counted: messages, and numbers that leave a home.

The retailer's meter readings are in every form and not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gridmarl.train.p2p.homes import Homes, Ints

HOURS_PER_DAY = 24
ORDER_NUMBERS = 2  # energy, of which the sign is the side, and limit price
REPORT_NUMBERS = 1  # load less generation, before the battery
BATTERY_NUMBERS = 4  # capacity, power, efficiency, charge: once


@dataclass(frozen=True)
class Disclosure:
    """Means over hours, homes and episodes.

    Attributes:
        messages_per_hour: between homes, managers, market and aggregator, both ways, all homes together.
        numbers_per_home_day: numbers that a home discloses in a day.
        hours_ahead: for how many hours they are disclosed in advance; 1: for the hour itself.
        to: who sees them.
    """

    messages_per_hour: float
    numbers_per_home_day: float
    hours_ahead: int
    to: str

    @classmethod
    def none(cls) -> Disclosure:
        """Nothing beyond the retailer's meter."""
        return cls(0.0, 0.0, 0, "nobody")


def of_orders(net_wh: Ints, pairs: int | None = None) -> Disclosure:
    """Homes that order in a market: one message each, one back (a pool), or one to either side of each trade.

    Args:
        net_wh: `[T, P, E]`; no order without net load.
        pairs: trades between two homes in all hours and episodes; None in a pool.
    """
    hours, homes, lanes = net_wh.shape
    orders = int(np.count_nonzero(net_wh))
    messages = orders + (orders if pairs is None else 2 * pairs)
    numbers = ORDER_NUMBERS * orders / (homes * lanes * hours) * HOURS_PER_DAY
    return Disclosure(messages / (hours * lanes), numbers, 1, "the market")


def of_managers(homes: Homes, hours_ahead: int, to: str, between_wh: Ints | None = None) -> Disclosure:
    """Homes that report their net load of every hour, and get back a bill and what their battery is to do.

    Args:
        homes: whose reports.
        hours_ahead: hours reported in advance.
        to: who gets the reports.
        between_wh: `[T, K, E]` net loads of communities whose managers order in a market, one message each way.
    """
    hours, count, lanes = homes.load_wh.shape
    messages = 2.0 * count
    if between_wh is not None:
        messages += 2 * int(np.count_nonzero(between_wh)) / (hours * lanes)
    batteries = BATTERY_NUMBERS * int(homes.owners.sum()) / count / hours
    return Disclosure(messages, (REPORT_NUMBERS + batteries) * HOURS_PER_DAY, hours_ahead, to)
