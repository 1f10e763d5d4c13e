"""Whole episodes against the slow oracle, every hour, every configuration, to the last Wh and µtok."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from gridmarl.clearing.pairwise import Trades
from gridmarl.envs.aggregator_auction.actions import Orders
from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction
from gridmarl.random import Purpose, draw
from gridmarl.scenarios.lanes import conditions
from tests.envs.aggregator_auction.configs import CONFIGS, batched, random_actions
from tests.oracles.aggregator_auction import Book, Hour, Market, Words

LANES = 3
SEEN: Counter[str] = Counter()


def words_of(env: BatchedAggregatorAuction, hour: int, lane: int) -> Words:
    keys = env.state.keys
    buyers, sellers = env.params.num_aggregators, env.params.num_prosumers

    def per_agent(purpose: Purpose, count: int) -> list[list[int]]:
        return draw(keys, hour, purpose, count)[:, :, lane].T.tolist()

    return Words(
        per_agent(Purpose.AGGREGATOR_DEVIATION, buyers),
        per_agent(Purpose.AGGREGATOR_FORECAST, buyers),
        draw(keys, hour, Purpose.FLEXIBILITY_REQUEST)[:, lane].tolist(),
        per_agent(Purpose.FLEXIBILITY_COST, sellers),
    )


def homes_of(env: BatchedAggregatorAuction, hour: int, lane: int) -> tuple[list[int], list[int]]:
    """Load and generation of every prosumer's home."""
    state, scale = env.state, env.params.pv_scale_permille
    home = conditions(
        env.scenario, state.draws, state.keys, hour, env.params.num_prosumers,
        pv_scale_permille=scale, forecast_error_permille=0,
    )  # fmt: skip
    return home.load_wh[:, lane].tolist(), home.generation_wh[:, lane].tolist()


def entries(env: BatchedAggregatorAuction, actions: Tensor, lane: int) -> list[list[float]]:
    grid = env.action_spec.grid
    return (actions[lane] if grid is None else grid[actions[lane]]).tolist()


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_episode_equals_the_oracle(name: str) -> None:
    env = batched(name, LANES, auto_reset=False)
    env.reset(12)
    markets = [Market(env.params.to_dict()) for _ in range(LANES)]
    rng = np.random.default_rng(3)
    for now in range(env.params.horizon_hours):
        actions, before = random_actions(env, rng), env.state
        drawn = [(words_of(env, now, lane), *homes_of(env, now, lane)) for lane in range(LANES)]
        result = env.step(actions)
        for lane, market in enumerate(markets):
            wholesale = int(before.draws.wholesale_utok_per_wh[now, lane])
            expected = market.hour(now, wholesale, *drawn[lane], entries(env, actions, lane))
            compare(env, lane, expected, before.balances)
            compare_assets(env, lane, market, now + 1)
            tokens = [each / 1e6 for each in expected.reward]
            assert result.reward[lane].tolist() == pytest.approx(tokens, rel=1e-6)
            count(expected, market)
    assert result.truncated.all()


def compare(env: BatchedAggregatorAuction, lane: int, expected: Hour, before: Tensor) -> None:
    settled = env.settled
    assert settled is not None
    own, balance = settled.situation, settled.balance
    found = {
        "short price": (settled.short_price, expected.short_price),
        "long price": (settled.long_price, expected.long_price),
        "deviation": (own.deviation_wh, expected.deviation),
        "forecast": (own.forecast_wh, expected.forecast),
        "request": (own.request_wh, expected.request),
        "up capacity": (own.up_capacity_wh, expected.up_capacity),
        "down capacity": (own.down_capacity_wh, expected.down_capacity),
        "up cost": (own.up_cost, expected.up_cost),
        "down cost": (own.down_cost, expected.down_cost),
        "delivered": (balance.delivered_wh, expected.delivered),
        "missing": (balance.missing_wh, expected.missing),
        "short": (balance.short_wh, expected.short),
        "long": (balance.long_wh, expected.long),
        "reward": (settled.reward_utok, expected.reward),
        "balances": (env.state.balances - before, expected.change),
    }
    for title, (ours, theirs) in found.items():
        assert ours[..., lane].tolist() == theirs, title
    compare_auction(settled.up_orders, settled.up, expected.up, lane)
    compare_auction(settled.down_orders, settled.down, expected.down, lane)


def compare_auction(orders: Orders, trades: Trades, expected: Book, lane: int) -> None:
    sides = ((orders.bid_price, orders.bid_wh, expected.bids), (orders.ask_price, orders.ask_wh, expected.offers))
    for price, energy, theirs in sides if expected.bids else ():
        assert list(zip(price[:, lane].tolist(), energy[:, lane].tolist(), strict=True)) == theirs
    outcome = expected.outcome
    assert trades.buy_fill_wh[:, lane].tolist() == outcome.buy_fill_wh
    assert trades.sell_fill_wh[:, lane].tolist() == outcome.sell_fill_wh
    assert trades.payment_utok[:, lane].tolist() == outcome.payment_utok
    assert trades.income_utok[:, lane].tolist() == outcome.income_utok


def compare_assets(env: BatchedAggregatorAuction, lane: int, market: Market, hour: int) -> None:
    stores, assets = env.state.stores, market.assets
    assert stores.charge_wh[:, lane].tolist() == [asset.charge for asset in assets]
    assert stores.ahead_wh[:, lane].tolist() == [asset.ahead for asset in assets]
    later = [[asset.rebound[hour + j] for asset in assets] for j in range(env.params.return_hours)]
    assert stores.rebound_wh[:, :, lane].tolist() == later


def count(expected: Hour, market: Market) -> None:
    SEEN["up"] += sum(expected.up.outcome.buy_fill_wh)
    SEEN["down"] += sum(expected.down.outcome.buy_fill_wh)
    SEEN["delivered"] += sum(expected.delivered)
    SEEN["missing"] += sum(expected.missing)
    SEEN["short"] += sum(expected.short)
    SEEN["long"] += sum(expected.long)
    SEEN["ahead"] += sum(asset.ahead for asset in market.assets)
    SEEN["due"] += sum(sum(asset.rebound.values()) for asset in market.assets)
    SEEN["surplus"] += sum(expected.up.outcome.payment_utok) - sum(expected.up.outcome.income_utok)


def test_the_episodes_had_everything() -> None:
    """Each kind of energy and money occurred above; else the comparison says little."""
    for name in sorted(CONFIGS) if not SEEN["up"] else []:
        test_episode_equals_the_oracle(name)
    assert {"up", "down", "delivered", "missing", "short", "long", "ahead", "due", "surplus"} == {
        key for key, total in SEEN.items() if total > 0
    }


def test_homes_with_photovoltaics_go_to_those_who_offer_them() -> None:
    """The scenario's homes 1 and 2 have some; prosumers 2 and 5 of six offer it."""
    env = batched("flexibility", 1)
    tables = batched("default", 1).scenario
    assert torch.equal(env.scenario.load_wh[:, :, [0, 1, 3, 4]], tables.load_wh[:, :, [0, 1, 3, 4]])
    for prosumer, home in ((2, 1), (5, 2)):
        assert torch.equal(env.scenario.pv_wh[:, :, prosumer], tables.pv_wh[:, :, home])
        assert int(env.scenario.pv_wh[:, :, prosumer].sum()) > 0
