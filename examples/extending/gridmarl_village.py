"""A village as a gridmarl scenario: six buildings, three kinds of day, a price that is cheap or dear.

A scenario is a set of integer tables (see `gridmarl.scenarios.lanes.Scenario`) and a function without arguments that
returns them; `make_scenario` checks every entry. All numbers here are made up.
"""

from __future__ import annotations

from gridmarl.scenarios.scenario import Scenario, make_scenario

HOURS = range(24)  # hour 0 ends at 01:00

# µtok/Wh per hour, in a cheap and in a dear market; 1 µtok/Wh = 0.001 token/kWh
CHEAP = [3_000] * 6 + [5_000] * 4 + [2_000] * 5 + [5_000] * 2 + [8_000] * 4 + [4_000] * 3
DEAR = [price + 6_000 for price in CHEAP]
STAYS = 9  # of ten hours, the market stays as it is in nine

# Wh per hour
HOME = [250] * 6 + [700] * 3 + [350] * 8 + [1_200] * 5 + [500] * 2
BAKERY = [200] * 3 + [4_000] * 5 + [1_000] * 8 + [200] * 8
SUN = [max(0, 900 - 150 * abs(hour - 12)) for hour in HOURS]


def village() -> Scenario:
    """Four homes, two of them with photovoltaics, a farm with more of it, and a bakery that rests on Sundays."""
    loads = [[HOME[t], HOME[t], HOME[t], HOME[t], HOME[t], BAKERY[t]] for t in HOURS]
    sunday = [[*row[:5], 200] for row in loads]
    sun = [[SUN[t], SUN[t], 0, 0, 6 * SUN[t], 0] for t in HOURS]
    change = [
        [STAYS, 10],
        [10 - STAYS, 10],
    ]  # running totals of the weights of (cheap, dear), after cheap and after dear
    return make_scenario(
        name="village",
        attribution="none: made-up numbers",
        reference_price_utok_per_wh=sum(CHEAP + DEAR) // 48,
        price_value=list(zip(CHEAP, DEAR, strict=True)),  # [24, 2]
        price_first_cum=[1, 2],  # the first hour is cheap or dear with equal odds
        price_next_cum=[change] * 24,  # [24, 2, 2]
        load_wh=[loads, sunday],  # [2 kinds of day, 24, 6]
        pv_wh=[sun, sun],
        kind_cum=[6, 7],  # six days of the first kind, one of the second
        load_ratio_permille=[800, 900, 1_000, 1_100, 1_200],  # drawn for each building and hour
        pv_ratio_permille=[300, 1_000, 1_400],  # overcast, fair, clear: drawn for each day
        forecast_error_permille=[-1_000, 0, 1_000],
    )
