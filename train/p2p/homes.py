"""The homes of a comparison: loads, generation and retail prices of every hour, drawn as the environments draw them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gridmarl.envs.two_stage_dr.generator import check_bounds, outside_prices
from gridmarl.optimum.storage import Storage
from gridmarl.random import lane_keys
from gridmarl.scenarios.scenario import Scenario, conditions, draw_lanes
from gridmarl.train.p2p.params import P2PParams

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Homes:
    """`P` homes in `E` episodes of `T` hours; int64, Wh and µtok/Wh.

    Attributes:
        load_wh, generation_wh: `[T, P, E]`, fixed.
        import_price, export_price: `[T, E]`.
        owners: `[P]` bool, who has a battery; nobody without `storage`.
        storage: the battery.
    """

    load_wh: Ints
    generation_wh: Ints
    import_price: Ints
    export_price: Ints
    owners: NDArray[np.bool_]
    storage: Storage | None

    @property
    def net_wh(self) -> Ints:
        """Load less generation before batteries, `[T, P, E]`."""
        net: Ints = self.load_wh - self.generation_wh
        return net


def draw_homes(params: P2PParams, scenario: Scenario, lanes: int, seed: int, *, windows: bool) -> Homes:
    """Draw the episodes of a comparison.

    Without `windows`, episode `i` is lane `i` of that seed: the homes, weather and prices that the market environment
    of the same seed sees. With `windows` the scenario is one series of recorded days; the episodes follow each other.

    Raises:
        ConfigError: homes, prices or batteries beyond the bounds of the market, or an import below the export price.
        DataError: the scenario has fewer hours.
    """
    market, hours = params.market, params.market.horizon_hours
    check_bounds(market, scenario)
    total, drawn_lanes = (hours * lanes, 1) if windows else (hours, lanes)
    keys = lane_keys(seed, drawn_lanes)
    draws = draw_lanes(scenario, keys, total)
    prices = outside_prices(market, draws.wholesale_utok_per_wh)
    load, generation = [], []
    for hour in range(total):
        drawn = conditions(
            scenario,
            draws,
            keys,
            hour,
            market.num_prosumers,
            pv_scale_permille=market.pv_scale_permille,
            forecast_error_permille=0,
        )
        load.append(drawn.load_wh.numpy())
        generation.append(drawn.generation_wh.numpy())

    def episodes(series: Ints) -> Ints:
        """`[T * E, ..., 1]` as `[T, ..., E]` where the episodes follow each other."""
        if not windows:
            return series
        return np.moveaxis(series[..., 0].reshape(lanes, hours, *series.shape[1:-1]), 0, -1)

    import_price, export_price = (episodes(price.numpy()) for price in prices)
    return Homes(
        episodes(np.stack(load)),
        episodes(np.stack(generation)),
        import_price,
        export_price,
        _owners(params, scenario),
        params.storage,
    )


def _owners(params: P2PParams, scenario: Scenario) -> NDArray[np.bool_]:
    homes = np.arange(params.market.num_prosumers) % scenario.num_homes
    if params.storage is None:
        return np.zeros(homes.size, dtype=np.bool_)
    if params.battery_homes == "all":
        return np.ones(homes.size, dtype=np.bool_)
    generates: Tensor = scenario.pv_wh.sum((0, 1)) > 0
    owned: NDArray[np.bool_] = generates.numpy()[homes]
    return owned
