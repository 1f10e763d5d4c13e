"""Parameters, prices, draws and the assets' arithmetic, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gridmarl.clearing import registry
from gridmarl.clearing.book import Clearing
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.envs.aggregator_auction.assets import after, at_first, capacities, constants, spread
from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction
from gridmarl.envs.aggregator_auction.generator import bell, imbalance_prices, requests
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.settlement import energy_balance
from gridmarl.envs.aggregator_auction.state import Situation
from gridmarl.errors import ConfigError
from gridmarl.random import Purpose, lane_keys
from gridmarl.scenarios.scenario import toy_scenario
from gridmarl.testing import ConformanceError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_aggregators": 0}, "num_aggregators: 0, allowed are 1 .. 1000"),
        ({"num_prosumers": 8.0}, "num_prosumers: 8.0, allowed is one int"),
        ({"variant": "both"}, "variant: 'both', allowed are procurement, flexibility"),
        ({"payment_rule": "english"}, "payment_rule: 'english', allowed are buyers_bid, first_rejected, "),
        ({"payment_rule": 1}, "payment_rule: 1, allowed are"),
        ({"assets": "photovoltaic"}, "assets: 'photovoltaic' with variant 'procurement', allowed are mixed"),
        ({"long_factor_permille": 1201}, "long_factor_permille: 1201, allowed is at most short_factor_permille"),
        ({"load_cost_low_utok_per_wh": 16_001}, "load_cost_low_utok_per_wh: 16001, allowed is at most load_cost_high"),
        ({"portfolio_step_permille": 99_001}, "portfolio_wh: 20000 gives portfolios of up to 2000020 Wh"),
        ({"portfolio_wh": 2_000_000, "num_aggregators": 500, "portfolio_step_permille": 0}, "portfolio_wh: 2000000 "),
        ({"variant": "flexibility", "request_max_wh": 50_001}, "request_max_wh: 50001, .* all portfolios .50000 Wh"),
        ({"return_hours": 0}, "return_hours: 0, allowed are 1 .. 168"),
        ({"capacity": 1}, "capacity: unknown key, allowed are num_aggregators, "),
    ],
)
def test_bad_parameters(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        AggregatorAuctionParams.from_dict(changes)


def test_parameters_survive_a_config_file() -> None:
    params = AggregatorAuctionParams(num_prosumers=3, variant="flexibility", payment_rule="mcafee")
    assert AggregatorAuctionParams.from_dict(params.to_dict()) == params


@pytest.mark.parametrize(
    ("price", "load", "sun", "changes", "message"),
    [
        (9_000_000, 1, 1, {}, "short_factor_permille: 1200 gives prices of up to 10805000"),
        (1, 10_000_001, 1, {}, "shiftable_permille: 1000 gives up to 10000001 Wh"),
        (1, 1, 4_000_000, {"variant": "flexibility"}, "pv_scale_permille: 3000 gives up to 12000000 Wh"),
        (1, 1, 1, {"battery_power_w": 10_000_000, "num_prosumers": 301}, "num_prosumers: 301 may offer 3010000000 Wh"),
    ],
)
def test_scenarios_beyond_the_bounds(price: int, load: int, sun: int, changes: dict[str, Any], message: str) -> None:
    scenario = toy_scenario([price], [[load]], [[sun]])
    with pytest.raises(ConfigError, match=f"^{message}"):
        BatchedAggregatorAuction(AggregatorAuctionParams.from_dict(changes), scenario)


def test_environments_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="num_envs: 0"):
        BatchedAggregatorAuction(num_envs=0)
    with pytest.raises(ConfigError, match="call reset"):
        _ = BatchedAggregatorAuction().state


def test_a_plug_in_is_checked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def generous(*book: Any) -> Clearing:
        cleared = clear_uniform(*book)
        return cleared._replace(sell_fill_wh=cleared.sell_fill_wh + 1)

    monkeypatch.setitem(registry._REGISTERED, "generous", generous)
    monkeypatch.setitem(registry._REGISTERED, "fair", clear_uniform)
    BatchedAggregatorAuction(AggregatorAuctionParams(payment_rule="fair"))
    with pytest.raises(ConformanceError, match="energy"):
        BatchedAggregatorAuction(AggregatorAuctionParams(payment_rule="generous"))


def test_imbalance_prices() -> None:
    params = AggregatorAuctionParams(short_factor_permille=1_333, short_adder_utok_per_wh=7, long_factor_permille=777)
    short, long = imbalance_prices(params, torch.tensor([-500, 0, 1, 999, 10_000]))
    assert short.tolist() == [7, 7, 8, 1_338, 13_337]
    assert long.tolist() == [0, 0, 0, 776, 7_770]


def test_bells_have_the_moments_the_page_gives() -> None:
    drawn = bell(lane_keys(1, 50_000), 3, Purpose.AGGREGATOR_DEVIATION, 4).to(torch.float64)
    assert -2_000 <= float(drawn.min()) < -1_500
    assert 1_500 < float(drawn.max()) <= 2_000
    assert float(drawn.mean()) == pytest.approx(0, abs=5)
    assert float(drawn.std()) == pytest.approx(578, abs=3)


def test_requests() -> None:
    params = AggregatorAuctionParams(variant="flexibility", request_permille=300, request_max_wh=1_000)
    shares = requests(params, constants(params), lane_keys(2, 50_000), 5)
    total = shares.sum(0)
    assert bool((shares[0] * shares[1] >= 0).all()), "all shares in the direction of the request"
    assert float((total != 0).double().mean()) == pytest.approx(0.3, abs=0.01)
    assert float((total > 0).double().mean()) == pytest.approx(0.15, abs=0.01)
    assert int(total.abs().max()) == 1_000
    assert bool(((shares.abs() * 5 - total.abs() * torch.tensor([[2], [3]])).abs() < 5).all())


@pytest.mark.parametrize(
    ("surplus", "asked", "expected"),
    [
        (120, 50, (50, 0, 0, 70)),
        (20, 50, (20, 30, 0, 0)),
        (-20, 50, (0, 50, 20, 0)),
        (-20, -50, (20, 30, 0, 0)),
        (-80, -50, (50, 0, 30, 0)),
        (80, -50, (0, 50, 0, 80)),
        (-7, 0, (0, 0, 7, 0)),
        (7, 0, (0, 0, 0, 7)),
    ],
)
def test_what_a_surplus_is_for(surplus: int, asked: int, expected: tuple[int, ...]) -> None:
    """Delivered, missing, short, long; bought up 100, down 30."""
    none = torch.zeros(1, 1, dtype=torch.int64)
    now = Situation(none + 70 - surplus, none, none + asked, *(none,) * 5)
    assert tuple(int(part) for part in energy_balance(now, none + 100, none + 30)) == expected


def test_parts_of_a_rebound() -> None:
    parts = spread(torch.tensor([[0, 1, 10, 11]]), 4)
    assert parts[:, 0].T.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [2, 3, 2, 3], [2, 3, 3, 3]]


def test_a_battery_by_hand() -> None:
    params = AggregatorAuctionParams(
        num_prosumers=1, assets="battery", variant="flexibility", battery_capacity_wh=5_001, battery_power_w=2_000
    )
    held, none = constants(params), torch.zeros(1, 1, dtype=torch.int64)
    stores = at_first(params, held, 1)
    seen = []
    for up, down in ((2_000, 0), (500, 0), (0, 2_000), (0, 2_000), (0, 1_001), (0, 0), (0, 0), (0, 0)):
        can = capacities(params, held, stores, none)
        seen.append((int(stores.charge_wh), int(can.up_wh), int(can.down_wh)))
        stores = after(params, held, stores, none, none + up, none + down)
    assert seen == [
        (2_500, 2_000, 2_000), (500, 500, 2_000), (0, 0, 2_000), (2_000, 2_000, 2_000), (4_000, 2_000, 1_001),
        (5_001, 2_000, 0), (4_001, 2_000, 1_000), (3_001, 2_000, 2_000),
    ]  # fmt: skip
    assert int(stores.charge_wh) == 2_500


def test_a_load_by_hand() -> None:
    """Deferred 900 come back as 300 an hour; brought forward 700 are taken from what would run later."""
    params = AggregatorAuctionParams(
        num_prosumers=1, assets="load", variant="flexibility", return_hours=3, load_power_w=1_500
    )
    held, none = constants(params), torch.zeros(1, 1, dtype=torch.int64)
    stores = at_first(params, held, 1)
    seen = []
    plays = ((1_000, 900, 0), (1_000, 0, 0), (1_000, 700, 0), (200, 0, 700), (500, 0, 0), (1_000, 0, 0))
    for base, up, down in plays:
        can = capacities(params, held, stores, none + base)
        seen.append((int(can.up_wh), int(can.down_wh), int(stores.rebound_wh[0]), int(stores.ahead_wh)))
        stores = after(params, held, stores, none + base, none + up, none + down)
    assert seen == [
        (1_000, 500, 0, 0), (700, 200, 300, 0), (700, 200, 300, 0), (0, 767, 533, 0), (0, 1_267, 233, 700),
        (566, 466, 234, 200),
    ]  # fmt: skip
    assert int(stores.ahead_wh) == 0
