"""What chance decides: deviations, their forecasts, requests and costs; the start of an episode, and of every hour."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gridmarl.clearing.apportion import apportion
from gridmarl.envs.aggregator_auction.assets import Fixed, at_first, capacities
from gridmarl.envs.aggregator_auction.params import MAX_ASSET_WH, AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.state import Published, Situation, State, Stores
from gridmarl.errors import ConfigError
from gridmarl.preferences import floor_div
from gridmarl.random import Purpose, below, draw, lane_keys
from gridmarl.scenarios.lanes import LaneDraws, Scenario, conditions, draw_lanes
from gridmarl.units import MAX_BOOK_WH, MAX_PRICE_UTOK_PER_WH, PERMILLE

_EVEN = 1001  # values of each of the four even draws of a bell


def housed(params: AggregatorAuctionParams, scenario: Scenario) -> Scenario:
    """The scenario with one home per prosumer: those with photovoltaics to offer get homes that have them, in turn.

    Raises:
        ConfigError: an hour's load, generation or price may be beyond the bounds of a book.
    """
    device, has_sun = scenario.pv_wh.device, scenario.pv_wh.sum((0, 1)) > 0
    order = has_sun.to(torch.int64).argsort(descending=True, stable=True)
    sunny = has_sun.sum().clamp(min=1)
    solar = torch.tensor([kind == "photovoltaic" for kind in params.kinds], device=device)
    anyone = torch.arange(params.num_prosumers, device=device) % scenario.num_homes
    index = torch.where(solar, order[(solar.cumsum(0) - 1).clamp(min=0) % sunny], anyone)
    made = replace(
        scenario, load_wh=scenario.load_wh.index_select(2, index), pv_wh=scenario.pv_wh.index_select(2, index)
    )
    _check_bounds(params, made)
    return made


def _check_bounds(params: AggregatorAuctionParams, scenario: Scenario) -> None:
    load = int(scenario.load_wh.max()) * int(scenario.load_ratio_permille.max()) // PERMILLE
    sun = int(scenario.pv_wh.max()) * params.pv_scale_permille // PERMILLE
    for name, value, most in (
        ("shiftable_permille", params.shiftable_permille, load * params.shiftable_permille // PERMILLE),
        ("pv_scale_permille", params.pv_scale_permille, sun * int(scenario.pv_ratio_permille.max()) // PERMILLE),
    ):
        if most > MAX_ASSET_WH:
            raise ConfigError(f"{name}: {value} gives up to {most} Wh in an hour; allowed are {MAX_ASSET_WH}")
    most = max(load * params.shiftable_permille, sun * int(scenario.pv_ratio_permille.max())) // PERMILLE
    offered = max(most, params.battery_power_w, params.load_power_w) * params.num_prosumers
    if offered > MAX_BOOK_WH:
        raise ConfigError(
            f"num_prosumers: {params.num_prosumers} may offer {offered} Wh together; allowed are {MAX_BOOK_WH}"
        )
    highest = int(scenario.price_value.max()) * params.short_factor_permille // PERMILLE
    if highest + params.short_adder_utok_per_wh > MAX_PRICE_UTOK_PER_WH:
        raise ConfigError(
            f"short_factor_permille: {params.short_factor_permille} gives prices of up to "
            f"{highest + params.short_adder_utok_per_wh} µtok/Wh; allowed are {MAX_PRICE_UTOK_PER_WH}"
        )


def imbalance_prices(params: AggregatorAuctionParams, wholesale: Tensor) -> tuple[Tensor, Tensor]:
    """What who is short pays and who is long gets, of the same shape; the second never above the first."""
    positive = wholesale.clamp(min=0)
    short = floor_div(positive * params.short_factor_permille, PERMILLE) + params.short_adder_utok_per_wh
    return short, floor_div(positive * params.long_factor_permille, PERMILLE)


def bell(keys: Tensor, hour: int, purpose: Purpose, count: int) -> Tensor:
    """`[count, E]` integers -2000 .. 2000, mean 0, standard deviation 578: the sum of four even draws."""
    return below(draw(keys, hour, purpose, count), _EVEN).sum(0) - 2 * (_EVEN - 1)


def next_trend(params: AggregatorAuctionParams, keys: Tensor, hour: int, trend: Tensor) -> Tensor:
    """Deviations of an hour in permille of the portfolios, `[K, E]`, from those of the hour before."""
    drawn = bell(keys, hour, Purpose.AGGREGATOR_DEVIATION, params.num_aggregators)
    shock = floor_div(drawn * params.deviation_volatility_permille, PERMILLE)
    kept = floor_div(trend * params.deviation_persistence_permille, PERMILLE)
    return (kept + shock).clamp(min=-PERMILLE, max=PERMILLE)


def requests(params: AggregatorAuctionParams, fixed: Fixed, keys: Tensor, hour: int) -> Tensor:
    """Shares of the system operator's request, `[K, E]` Wh, + = up; pro rata by portfolio, cumulative floors."""
    portfolios = fixed.portfolio_wh.expand(-1, keys.shape[1])
    if not params.has_requests:
        return torch.zeros_like(portfolios)
    words = draw(keys, hour, Purpose.FLEXIBILITY_REQUEST)
    size = 1 + below(words.select(0, 1), params.request_max_wh)
    asked = size * (below(words.select(0, 0), PERMILLE) < params.request_permille)
    return apportion(asked, portfolios, hour) * (1 - 2 * below(words.select(0, 2), 2))


def base_wh(
    params: AggregatorAuctionParams, fixed: Fixed, scenario: Scenario, draws: LaneDraws, keys: Tensor, hour: int
) -> Tensor:
    """Flexible load of loads, generation of photovoltaics, `[P, E]`; the forecast of both is exact."""
    home = conditions(
        scenario,
        draws,
        keys,
        hour,
        params.num_prosumers,
        pv_scale_permille=params.pv_scale_permille,
        forecast_error_permille=0,
    )
    load = floor_div(home.load_wh * params.shiftable_permille, PERMILLE)
    return load * fixed.is_load + home.generation_wh * fixed.is_photovoltaic


def situation_at(
    params: AggregatorAuctionParams,
    fixed: Fixed,
    scenario: Scenario,
    draws: LaneDraws,
    keys: Tensor,
    hour: int,
    trend: Tensor,
    stores: Stores,
) -> Situation:
    """Everything of an hour that is not decided."""
    error = bell(keys, hour, Purpose.AGGREGATOR_FORECAST, params.num_aggregators) * params.forecast_error_permille
    deviation = floor_div(fixed.portfolio_wh * trend, PERMILLE)
    forecast = deviation + floor_div(fixed.portfolio_wh * floor_div(error, PERMILLE), PERMILLE)
    base = base_wh(params, fixed, scenario, draws, keys, hour)
    words = draw(keys, hour, Purpose.FLEXIBILITY_COST, params.num_prosumers)
    up_cost, down_cost = (fixed.cost_low + below(words.select(0, which), fixed.cost_count) for which in (0, 1))
    return Situation(
        deviation,
        forecast,
        requests(params, fixed, keys, hour),
        base,
        *capacities(params, fixed, stores, base),
        up_cost,
        down_cost * params.has_requests,
    )


def reset(
    params: AggregatorAuctionParams,
    fixed: Fixed,
    scenario: Scenario,
    seed: int,
    num_envs: int,
    *,
    first_lane: int = 0,
    episode: int = 0,
) -> State:
    """State at the start of an episode in `num_envs` lanes, on the scenario's device.

    Lane `i` of any batch equals the single run with `first_lane=i`, bit for bit.

    Args:
        scenario: as `housed` arranges it.
    """
    keys = lane_keys(seed, num_envs, first_lane=first_lane, episode=episode, device=scenario.price_value.device)
    draws = draw_lanes(scenario, keys, params.horizon_hours)
    short, long = imbalance_prices(params, draws.wholesale_utok_per_wh)
    nothing = torch.zeros_like(short.select(0, 0))
    none = nothing.expand(params.num_aggregators, -1)
    trend, stores = next_trend(params, keys, 0, none), at_first(params, fixed, num_envs)
    return State(
        keys=keys,
        balances=nothing.expand(params.num_aggregators + params.num_prosumers + 1, -1),
        clamped_actions=nothing,
        hour=0,
        draws=draws,
        short_price=short,
        long_price=long,
        trend_permille=trend,
        stores=stores,
        situation=situation_at(params, fixed, scenario, draws, keys, 0, trend, stores),
        last_deviation_wh=none,
        published=Published(nothing, nothing, nothing, nothing),
    )
