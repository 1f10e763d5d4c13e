"""The scenarios of our own that have a name and take no arguments (see `gridmarl.scenarios.registry`)."""

from __future__ import annotations

from gridmarl.scenarios.scenario import Scenario, default_scenario, toy_scenario

# One wholesale price per hour in µtok/Wh: a cheap night, a dip at noon, an evening peak.
_PRICES = [4_000] * 6 + [6_000] * 4 + [3_000] * 5 + [6_000] * 2 + [9_000] * 4 + [5_000] * 3
# Wh per hour: at night, in the morning, at noon, in the evening; the last home has a shop's day.
_NIGHT, _MORNING, _NOON, _EVENING = (200, 250, 300, 400), (500, 600, 700, 1_500), (300, 400, 500, 2_000), (900,) * 4
_LOADS = [_NIGHT] * 6 + [_MORNING] * 4 + [_NOON] * 5 + [_MORNING] * 2 + [_EVENING] * 4 + [_NIGHT] * 3
_SUN_WH = [0] * 6 + [100, 300, 500, 700, 800, 800, 700, 500, 300, 100] + [0] * 8


def default() -> Scenario:
    """The packaged calibrated scenario, with the persistence of prices."""
    return default_scenario()


def independent() -> Scenario:
    """The packaged scenario with every hour's price drawn from its own wheel, as the chapter does it."""
    return default_scenario(persistence=False)


def toy() -> Scenario:
    """A made-up day of four homes, two of them with photovoltaics; nothing but forecasts is left to chance."""
    return toy_scenario(_PRICES, _LOADS, [(wh, wh, 0, 0) for wh in _SUN_WH])
