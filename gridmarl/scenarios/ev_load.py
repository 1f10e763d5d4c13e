"""The other load of a transformer that EV stations share, by half hour: as forecast and as it turns out.

Its shape is the mean load of the packaged homes by season, weekday or weekend, and hour, scaled so that the highest
half hour of all is a stated power. The capacity margin is what the transformer can carry beyond it.

Half hours from hours, rounded to nearest (halves up): the first of hour h is `(3 L[h] + L[h-1]) / 4`, the second
`(3 L[h] + L[h+1]) / 4`, hours in a circle.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridmarl.errors import ConfigError
from gridmarl.preferences import floor_div
from gridmarl.random import Purpose, below, draw
from gridmarl.scenarios.ev_tables import DAY_START_SLOT, DAY_TYPES, SLOTS_PER_DAY
from gridmarl.scenarios.lanes import Scenario
from gridmarl.units import PERMILLE

MAX_LOAD_W = 1_000_000_000
MAX_SPREAD_PERMILLE = 300
SEASONS = 4


@dataclass(frozen=True, eq=False)
class ConventionalLoad:
    """Tables of the conventional load; build one with `make_conventional_load`. Tensors int64."""

    attribution: str
    peak_w: int  # highest half hour of the expected load
    expected_w: Tensor  # [8, 48] by season x day type (2 * season + type) and half hour of the day
    season_days: Tensor  # [2, 4] running totals of days by day type and season (southern: summer first)
    share_permille: Tensor  # [Q] actual over expected load, equally likely, drawn per half hour
    forecast_permille: Tensor  # [Q] forecast over actual load, likewise

    def to(self, device: torch.device | str) -> ConventionalLoad:
        """The same with its tensors on a device."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **moved)


class LoadDay(NamedTuple):
    """Conventional load of one day, mean power of each half hour; int64 W."""

    forecast_w: Tensor  # [48, E] known a half hour ahead
    actual_w: Tensor  # [48, E]
    season: Tensor  # [E] 0 summer, 1 autumn, 2 winter, 3 spring (southern hemisphere)


def make_conventional_load(
    peak_w: int,
    *,
    variation_permille: int = 30,
    forecast_error_permille: int = 20,
    start_slot: int = DAY_START_SLOT,
    scenario: Scenario | None = None,
) -> ConventionalLoad:
    """Tables of the conventional load, on the CPU.

    Args:
        peak_w: highest half hour of the expected load, 0 .. 1 GW.
        variation_permille: standard deviation of the actual about the expected load, 0 .. 300.
        forecast_error_permille: standard deviation of the forecast about the actual load, 0 .. 300; 0 = perfect.
        start_slot: half hour of the clock that a day begins with, 0 .. 47, as for the stations.
        scenario: whose homes give the shape; it has 24 hours, and 8 day kinds (season x day type) or one for all.
            None = the packaged scenario.

    Raises:
        ConfigError: a number out of range, or a scenario of another form or without load.
    """
    limits: dict[str, tuple[Any, int]] = {
        "peak_w": (peak_w, MAX_LOAD_W),
        "variation_permille": (variation_permille, MAX_SPREAD_PERMILLE),
        "forecast_error_permille": (forecast_error_permille, MAX_SPREAD_PERMILLE),
        "start_slot": (start_slot, SLOTS_PER_DAY - 1),
    }
    for name, (value, most) in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise ConfigError(f"{name} = {value!r}: allowed are integers 0 .. {most}")
    if scenario is None:
        from gridmarl.scenarios.scenario import default_scenario  # reads the packaged tables

        scenario = default_scenario()
    kinds, hours, _ = scenario.load_wh.shape
    hourly = scenario.load_wh.sum(dim=2)
    if hours != 24 or kinds not in (1, SEASONS * len(DAY_TYPES)) or int(hourly.max()) == 0:
        raise ConfigError(
            f"scenario {scenario.name!r}: load of {kinds} day kinds and {hours} hours, at most {int(hourly.max())} Wh: "
            "allowed are 1 or 8 day kinds, 24 hours, and some load"
        )
    halves = torch.stack((3 * hourly + hourly.roll(1, 1), 3 * hourly + hourly.roll(-1, 1)), dim=2).flatten(1)
    highest = int(halves.max())
    expected = floor_div(2 * halves * peak_w + highest, 2 * highest).roll(-start_slot, 1)
    days = scenario.kind_cum.diff(prepend=scenario.kind_cum.new_zeros(1))
    if kinds == 1:
        expected, days = expected.expand(SEASONS * len(DAY_TYPES), -1), torch.ones(8, dtype=torch.int64)
    unit = scenario.forecast_error_permille
    return ConventionalLoad(
        attribution=scenario.attribution,
        peak_w=peak_w,
        expected_w=expected.contiguous(),
        season_days=days.view(SEASONS, len(DAY_TYPES)).t().cumsum(1),
        share_permille=_spread(unit, variation_permille),
        forecast_permille=_spread(unit, forecast_error_permille),
    )


def draw_load_day(load: ConventionalLoad, keys: Tensor, day_type: Tensor, *, day: int | Tensor = 0) -> LoadDay:
    """Draw season and load of one day in each lane.

    `actual = expected * share // 1000`, `forecast = actual * ratio // 1000`; share and ratio are drawn per half hour,
    independently.

    Args:
        load: on the device of `keys`.
        keys: `[2, E]` lane keys.
        day_type: `[E]` 0 weekday, 1 weekend, as of the sessions.
        day: day of the episode, as for the sessions.
    """
    words = draw(keys, day, Purpose.EV_DAY).select(0, 1)
    wheel = load.season_days.index_select(0, day_type)  # [E, 4]
    season = (wheel <= below(words, wheel.select(1, SEASONS - 1)).unsqueeze(1)).sum(dim=1)
    expected = load.expected_w.index_select(0, season * len(DAY_TYPES) + day_type).t()
    noise = draw(keys, day, Purpose.EV_LOAD, SLOTS_PER_DAY)
    share, ratio = (
        torch.take(table, below(noise.select(0, word), table.size(0)))
        for word, table in enumerate((load.share_permille, load.forecast_permille))
    )
    actual = floor_div(expected * share, PERMILLE)
    return LoadDay(floor_div(actual * ratio, PERMILLE), actual, season)


def capacity_margin_w(capacity_w: int | Tensor, load_w: Tensor) -> Tensor:
    """What a transformer can carry beyond its conventional load: `max(0, capacity - load)`, int64 W.

    The margin that the operator publishes follows from the forecast; whether the transformer is overloaded, from the
    actual load.
    """
    return (capacity_w - load_w).clamp(min=0)


def _spread(unit_permille: Tensor, deviation_permille: int) -> Tensor:
    """Ratios in permille, none negative; the mean stays 1000 within the rounding."""
    return (floor_div(unit_permille * deviation_permille + PERMILLE // 2, PERMILLE) + PERMILLE).clamp(min=0)
