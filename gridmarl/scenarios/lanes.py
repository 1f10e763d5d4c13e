"""A scenario as tensors, and its random draws: wholesale prices, household load, PV generation and forecasts per lane.

Integers only, int64, lanes last. (`select`, `narrow` and `take` rather than `[]`: indexing needs a CUDA build even for
fake tensors.) Random words come from `gridmarl.random` and every draw ends in an integer table, so a
lane is the same on every device and in any batch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridmarl.errors import DataError
from gridmarl.preferences import floor_div
from gridmarl.random import Purpose, below, draw, roulette
from gridmarl.units import PERMILLE

_HOURS_PER_DAY = 24
_WORDS = 4  # of one random draw


@dataclass(frozen=True, eq=False)
class Scenario:
    """Tables that lanes are drawn from; build one with `make_scenario` (it validates). All tensors int64.

    `T'` is the period of the tables (24 hours, or the length of a fixed window), `B` price bins, `K` day kinds, `N`
    homes. Hour 0 is the one that ends at 01:00 of the first day. A deterministic series has `B = K = 1` and ratios
    `[1000]`.
    """

    name: str
    attribution: str
    start: str  # date of the first day of a fixed window, "" otherwise
    periodic: bool  # the tables repeat with period T'; a fixed window does not
    reference_price_utok_per_wh: int  # mean wholesale price of the history or window; may be negative
    price_value: Tensor  # [T', B] µtok/Wh
    price_first_cum: Tensor  # [B] running totals of the weights of hour 0
    price_next_cum: Tensor  # [T', B, B] of an hour's bins (last), given the bin of the hour before
    load_wh: Tensor  # [K, T', N] expected load
    pv_wh: Tensor  # [K, T', N] expected generation
    kind_cum: Tensor  # [K] running totals of the weights of day kinds, drawn once per episode
    load_ratio_permille: Tensor  # [Q] equally likely, drawn per prosumer and hour
    pv_ratio_permille: Tensor  # [Q2] equally likely, drawn per day: weather common to all prosumers
    forecast_error_permille: Tensor  # [Q3] equally likely unit errors, drawn per prosumer and hour

    @property
    def period_hours(self) -> int:
        """T', hours after which the tables repeat (or end)."""
        return self.price_value.size(0)

    @property
    def num_homes(self) -> int:
        """N, homes of the tables; prosumer p lives in home p mod N."""
        return self.load_wh.size(2)

    def to(self, device: torch.device | str) -> Scenario:
        """The same scenario with its tensors on a device."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **moved)


class LaneDraws(NamedTuple):
    """What an episode of `T` hours (`D` days begun) draws at its start; int64."""

    wholesale_utok_per_wh: Tensor  # [T, E]
    kind: Tensor  # [E] day kind
    pv_ratio_permille: Tensor  # [D, E]


class HourConditions(NamedTuple):
    """Energy of each prosumer in one hour; int64 Wh."""

    load_wh: Tensor  # [P, E] reference load
    forecast_wh: Tensor  # [P, E] generation as forecast, offered in stage 1
    generation_wh: Tensor  # [P, E] generation as metered


def at(table: Tensor, index: int | Tensor, dim: int = 0) -> Tensor:
    """One row of a table: a view for an int, a copy for a `[]` int64 tensor (the hour as a compiled graph sees it)."""
    if isinstance(index, int):
        return table.select(dim, index)
    return table.index_select(dim, index.unsqueeze(0)).squeeze(dim)


def draw_lanes(scenario: Scenario, keys: Tensor, horizon_hours: int) -> LaneDraws:
    """Draw prices, day kind and weather of one episode in each lane.

    Args:
        scenario: on the device of `keys`.
        keys: `[2, E]` lane keys.
        horizon_hours: T >= 1; at most the window's length if the scenario is a fixed window. A longer horizon only adds
            hours, it changes none.

    Raises:
        DataError: `horizon_hours` out of range.
    """
    limit = None if scenario.periodic else scenario.period_hours
    if horizon_hours < 1 or (limit is not None and horizon_hours > limit):
        allowed = "1 or more" if limit is None else f"1 .. {limit}, the hours of scenario {scenario.name!r}"
        raise DataError(f"horizon_hours = {horizon_hours}: allowed are {allowed}")
    kind = roulette(draw(keys, 0, Purpose.DAY_KIND).select(0, 0), scenario.kind_cum)
    weather = _words(keys, Purpose.PV_DAY, -(-horizon_hours // _HOURS_PER_DAY))
    ratio = _pick(scenario.pv_ratio_permille, weather)
    return LaneDraws(_wholesale(scenario, keys, horizon_hours), kind, ratio)


def conditions(
    scenario: Scenario,
    draws: LaneDraws,
    keys: Tensor,
    hour: int | Tensor,
    num_prosumers: int,
    *,
    pv_scale_permille: int,
    forecast_error_permille: int,
) -> HourConditions:
    """Load, generation and forecast of every prosumer in one hour; divisions are floors.

    * `load = base * load_ratio // 1000`
    * `generation = (pv * pv_scale // 1000) * pv_ratio // 1000`
    * `forecast = max(0, generation * (1000 + error) // 1000)`, `error = unit_error * forecast_error_permille // 1000`

    Args:
        scenario: on the device of `keys`.
        draws: of `draw_lanes` with the same keys.
        keys: `[2, E]` lane keys.
        hour: hour of the episode, 0 .. T-1; an int, or a `[]` int64 tensor.
        num_prosumers: P; prosumer p has the tables of home p mod N, and random words of its own.
        pv_scale_permille: size of the PV systems, 1000 = as in the tables.
        forecast_error_permille: standard deviation of the forecast error relative to the generation; 0 = perfect.
    """
    base, pv = (_at_hour(t, hour, num_prosumers, draws.kind) for t in (scenario.load_wh, scenario.pv_wh))
    weather = at(draws.pv_ratio_permille, hour // _HOURS_PER_DAY)
    generation = floor_div(floor_div(pv * pv_scale_permille, PERMILLE) * weather, PERMILLE)
    ratios, errors = scenario.load_ratio_permille, scenario.forecast_error_permille
    if ratios.size(0) == 1 and forecast_error_permille == 0:
        return HourConditions(floor_div(base * ratios, PERMILLE), generation, generation)
    words = draw(keys, hour, Purpose.LOAD, num_prosumers)
    load = floor_div(base * _pick(ratios, words.select(0, 0)), PERMILLE)
    if forecast_error_permille == 0:
        return HourConditions(load, generation, generation)
    share = (errors * forecast_error_permille // 1000 + 1000).clamp(min=0)  # [Q3]; clamped here, it is a small table
    forecast = floor_div(generation * _pick(share, words.select(0, 1)), PERMILLE)
    return HourConditions(load, forecast, generation)


def _words(keys: Tensor, purpose: Purpose, count: int) -> Tensor:
    """`[count, E]` random words in one draw: number `i` is word `i mod 4` of agent `i // 4`."""
    words = draw(keys, 0, purpose, -(-count // _WORDS))
    return words.transpose(0, 1).flatten(0, 1).narrow(0, 0, count)


def _pick(table: Tensor, words: Tensor) -> Tensor:
    """Entries of a table `[Q]`, all equally likely, for random words of any shape."""
    return torch.take(table, below(words, table.size(0)))


def _wholesale(scenario: Scenario, keys: Tensor, horizon_hours: int) -> Tensor:
    """Prices `[T, E]`: a walk over the wheels, each hour's given the bin of the hour before."""
    lanes, period = keys.size(1), scenario.period_hours
    hours = torch.arange(horizon_hours, device=keys.device) % period
    value = scenario.price_value.index_select(0, hours)
    if value.size(1) == 1:
        return value.expand(horizon_hours, lanes).contiguous()
    words = _words(keys, Purpose.PRICE, horizon_hours)
    bins = roulette(words.select(0, 0), scenario.price_first_cum)
    chosen = [bins]
    for hour in range(1, horizon_hours):
        wheels = scenario.price_next_cum.select(0, hour % period).index_select(0, bins)  # [E, B]
        bins = roulette(words.select(0, hour), wheels)
        chosen.append(bins)
    return value.gather(1, torch.stack(chosen))


def _at_hour(table: Tensor, hour: int | Tensor, num_prosumers: int, kind: Tensor) -> Tensor:
    """`[P, E]` of `[K, T', N]`: the hour of each lane's day kind, homes repeated as needed."""
    homes = at(table, hour % table.size(1), 1).transpose(0, 1)
    if num_prosumers > homes.size(0):
        homes = homes.repeat(-(-num_prosumers // homes.size(0)), 1)
    return homes.narrow(0, 0, num_prosumers).index_select(1, kind)
