"""Markets by hand in which one prosumer moves the price."""

from __future__ import annotations

from typing import Any

from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.scenarios.scenario import Scenario, toy_scenario

# Home 0 is large. Truthful bidders buy at the import and sell at the export price, so the local price is one of these
# two, and home 0 can turn one into the other by bidding in between where it is the marginal buyer or seller.
#         hour  0: neighbours sell   1: shortage   2, 3, 4: home 0 sells a surplus   5, 6: it buys most   7: as hour 0
PRICE = [6_000, 9_000, 4_000, 3_000, 7_000, 12_000, 9_000, 5_000]
LOAD_WH = [
    [700, 300, 300],
    [600, 900, 800],
    [500, 300, 300],
    [600, 500, 400],
    [900, 300, 300],
    [2_000, 300, 300],
    [2_400, 300, 200],
    [900, 300, 300],
]
PV_WH = [
    [0, 1_300, 700],
    [1_400, 0, 0],
    [1_200, 100, 0],
    [3_000, 200, 0],
    [2_500, 0, 100],
    [100, 900, 700],
    [0, 1_100, 600],
    [0, 1_200, 900],
]
LOAD_RATIOS = (900, 1_000, 1_100)


def separable(**changes: Any) -> TwoStageDRParams:
    """No battery, shifting or forecast error; one price for both sides, as in the chapter."""
    values: dict[str, Any] = {
        "num_prosumers": 3,
        "horizon_hours": 8,
        "shift_share_permille": 0,
        "forecast_error_permille": 0,
        "pv_scale_permille": 1_000,
        "single_price": True,
        "price_levels": 5,
        "quantity_levels": 5,
    }
    return TwoStageDRParams(**{**values, **changes})


def power_market(hours: slice = slice(None), load_ratios: tuple[int, ...] = LOAD_RATIOS) -> Scenario:
    """Some of the hours above; random loads unless there is one ratio only."""
    return toy_scenario(PRICE[hours], LOAD_WH[hours], PV_WH[hours], load_ratio_permille=load_ratios)
