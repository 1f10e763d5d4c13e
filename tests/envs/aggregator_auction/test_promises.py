"""What every environment promises: lanes, resume, conservation, the GPU path, privacy; and what this one adds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.clearing.registry import get_procurement
from gridmarl.contracts.errors import IllegalTransitionError
from gridmarl.envs.aggregator_auction.actions import Orders, action_spec, pick, quantise
from gridmarl.envs.aggregator_auction.assets import constants
from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction
from gridmarl.envs.aggregator_auction.generator import housed, reset
from gridmarl.envs.aggregator_auction.observe import FIELDS, observation_scales, observe
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.step import Settled, clear, step
from gridmarl.scenarios.lanes import LaneDraws, Scenario
from gridmarl.scenarios.scenario import default_scenario
from gridmarl.testing import check_environment
from tests.envs.aggregator_auction.configs import CONFIGS, batched, random_actions, scenario

NAMES = [item.name for item in FIELDS]


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_conformance(name: str) -> None:
    check_environment(
        lambda num_envs, lane: batched(name, num_envs, first_lane=lane),
        lanes=2,
        balances=lambda env: env.state.balances,  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize(
    "name", ["default", "flexibility_vcg", "flexibility_uniform", "discrete_flexibility", "mcafee"]
)
def test_episode_on_fake_cuda(name: str) -> None:
    """A hidden `.item()` or a mixed device raises. Two hours: the first and the last."""
    params = AggregatorAuctionParams.from_dict(CONFIGS[name] | {"horizon_hours": 2})
    host = housed(params, default_scenario())
    with FakeTensorMode():
        moved = _fake(host)
        spec, scales, held = action_spec(params, "cuda:0"), observation_scales("cuda:0"), constants(params, "cuda:0")
        shape = (5, params.num_aggregators + params.num_prosumers)
        kind = torch.int64 if spec.num_actions else torch.float32
        actions = torch.zeros(shape if spec.num_actions else (*shape, spec.size), dtype=kind, device="cuda:0")
        state = reset(params, held, moved, 1, 5)
        for _ in range(params.horizon_hours):
            state, result = step(params, spec, held, moved, state, actions)
            seen = observe(params, held, state, scales)
            assert seen.device.type == "cuda"
            assert tuple(seen.shape) == (*shape, len(FIELDS))
        assert result.closed
        assert state.balances.device.type == "cuda"
        assert state.stores.rebound_wh.device.type == "cuda"


def _fake(host: Scenario) -> Scenario:
    """The scenario with every tensor replaced by a fake one on the GPU."""
    tensors = {name: value for name, value in vars(host).items() if isinstance(value, Tensor)}
    return replace(host, **{name: torch.empty(v.shape, dtype=v.dtype, device="cuda:0") for name, v in tensors.items()})  # type: ignore[arg-type]


def adversarial(env: BatchedAggregatorAuction, rng: np.random.Generator) -> Tensor:
    """NaN, infinities, numbers out of range, corners; discrete: indices beyond the grid."""
    shape = (env.num_envs, env.num_agents)
    if env.action_spec.num_actions:
        return torch.from_numpy(rng.integers(-3, env.action_spec.num_actions + 3, shape))
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), -1.0, 1.0, 1.0, 0.999, 7.5, 1e-30])
    return values[torch.from_numpy(rng.integers(len(values), size=(*shape, env.action_spec.size)))]


@pytest.mark.parametrize("hostile", [False, True])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_hour_balances(name: str, hostile: bool) -> None:
    """Energy and money go from somebody to somebody, and no asset does what it cannot."""
    env = batched(name, 20, auto_reset=False)
    env.reset(5)
    rng = np.random.default_rng(1)
    for _ in range(env.params.horizon_hours):
        before = env.state
        env.step(adversarial(env, rng) if hostile else random_actions(env, rng))
        played = env.settled
        assert played is not None
        check_money(env, played, before.balances)
        check_energy(env, played)
        check_assets(env, played)
    assert bool((env.state.clamped_actions > 0).all()) == hostile


def check_money(env: BatchedAggregatorAuction, played: Settled, before: Tensor) -> None:
    buyers = env.params.num_aggregators
    change = env.state.balances - before
    assert not bool(change.sum(0).any())
    assert torch.equal(change[:buyers], played.reward_utok[:buyers])
    incomes = played.up.income_utok + played.down.income_utok
    assert torch.equal(change[buyers:-1], incomes)
    assert torch.equal(played.reward_utok[buyers:], incomes - played.cost_utok)
    assert all(bool((part >= 0).all()) for part in (*played.flows, incomes, played.cost_utok))
    if env.params.payment_rule != "mcafee":
        assert not bool(played.surplus_utok.any())
    assert bool((played.surplus_utok >= 0).all())
    for orders, trades in ((played.up_orders, played.up), (played.down_orders, played.down)):
        assert bool((trades.payment_utok <= trades.buy_fill_wh * orders.bid_price).all())
        assert bool((trades.income_utok >= trades.sell_fill_wh * orders.ask_price).all())
        assert bool(((orders.bid_price >= 0) & (orders.bid_price <= env.params.cap_utok_per_wh)).all())
        assert bool(((orders.ask_price >= 0) & (orders.ask_price <= env.params.cap_utok_per_wh)).all())


def check_energy(env: BatchedAggregatorAuction, played: Settled) -> None:
    now, balance, up, down = played.situation, played.balance, played.up, played.down
    surplus = up.buy_fill_wh - down.buy_fill_wh - now.deviation_wh
    assert torch.equal(surplus, now.request_wh.sign() * balance.delivered_wh + balance.long_wh - balance.short_wh)
    assert torch.equal(balance.delivered_wh + balance.missing_wh, now.request_wh.abs())
    assert not bool((balance.long_wh * balance.short_wh).any())
    assert all(bool((part >= 0).all()) for part in balance)
    for trades, capacity in ((up, now.up_capacity_wh), (down, now.down_capacity_wh)):
        assert torch.equal(trades.buy_fill_wh.sum(0), trades.sell_fill_wh.sum(0))
        assert bool((trades.sell_fill_wh <= capacity).all())
    for orders, sign in ((played.up_orders, 1), (played.down_orders, -1)):
        assert bool((orders.bid_wh <= 2 * (sign * now.need_wh).clamp(min=0)).all())
    if not env.params.has_requests:
        assert not bool(torch.cat((down.sell_fill_wh, now.down_capacity_wh, now.down_cost)).any())
        assert not bool(now.request_wh.any())


def check_assets(env: BatchedAggregatorAuction, played: Settled) -> None:
    """Before and after the hour: every Wh of a store is accounted for, within what the asset can do."""
    params, kinds, before, after = env.params, env.fixed, played.stores, env.state.stores
    up, down, base = played.up.sell_fill_wh, played.down.sell_fill_wh, played.situation.base_wh
    assert bool((after.charge_wh >= 0).all())
    assert bool((after.charge_wh <= params.battery_capacity_wh).all())
    returned = after.charge_wh - before.charge_wh + (up - down) * kinds.is_battery
    assert bool((returned.abs() <= params.battery_return_w).all())
    assert not bool((returned * (up + down)).any())
    far = (before.charge_wh - params.battery_capacity_wh // 2).abs() * kinds.is_battery
    idle = up + down == 0
    assert torch.equal(returned.abs(), torch.minimum(far, torch.tensor(params.battery_return_w)) * idle)
    due, used = before.rebound_wh[0], before.ahead_wh + down * kinds.is_load - after.ahead_wh
    deferred = after.rebound_wh.sum(0) - before.rebound_wh.sum(0) + due
    assert torch.equal(deferred, up * kinds.is_load)
    assert torch.equal(used, torch.minimum(before.ahead_wh, base))
    consumption = (base - used + due - up + down) * kinds.is_load
    assert bool((consumption >= 0).all())
    assert bool((consumption[down * kinds.is_load > 0] <= params.load_power_w).all())
    assert bool((after.ahead_wh <= params.load_power_w).all())
    assert bool((after.rebound_wh >= 0).all())
    assert not bool((up * kinds.is_photovoltaic).any())
    assert bool((down * kinds.is_photovoltaic <= base).all())


def test_accounts_live_on_and_the_day_does_not() -> None:
    env = batched("loads", 3)
    env.reset(1)
    rng = np.random.default_rng(0)
    for _ in range(8):
        env.step(random_actions(env, rng))
    state, settled = env.state, env.settled
    assert settled is not None
    assert torch.equal(state.balances, settled.balances)
    assert bool(state.balances.any())
    assert state.hour == 0
    assert not bool(state.stores.rebound_wh.any())
    alone = batched("loads", 3)
    alone.reset(1, episode=1)
    assert torch.equal(alone.state.trend_permille, state.trend_permille)


def test_no_step_after_the_end() -> None:
    env = batched("one_of_each", 2, auto_reset=False)
    env.reset(0)
    for _ in range(3):
        result = env.step(torch.zeros(2, 2, 4))
    own = [NAMES.index(name) for name in ("forecast_need_wh", "up_capacity_wh", "up_cost_utok_per_wh", "hours_left")]
    assert not bool(result.observation[:, :, own].any())
    with pytest.raises(IllegalTransitionError, match=r"step after hour 3; allowed is after reset"):
        env.step(torch.zeros(2, 2, 4))


ROLE_PRIVATE = {
    "forecast_deviation_wh", "own_request_wh", "forecast_need_wh", "last_deviation_wh", "up_capacity_wh",
    "up_cost_utok_per_wh", "down_capacity_wh", "down_cost_utok_per_wh", "charge_wh", "due_wh", "deferred_wh",
    "ahead_wh",
}  # fmt: skip


@pytest.mark.parametrize("mine", [0, 2, 3])
def test_what_others_do_shows_in_published_numbers_only(mine: int) -> None:
    """An aggregator, a battery and a load: all others play otherwise; its own store follows its own sales."""
    env, other = batched("flexibility", 40, auto_reset=False), batched("flexibility", 40, auto_reset=False)
    env.reset(6)
    other.reset(6)
    rng = np.random.default_rng(4)
    changed: set[str] = set()
    for _ in range(env.params.horizon_hours - 1):
        same, mixed = random_actions(env, rng), random_actions(env, rng)
        mixed[:, mine] = same[:, mine]
        one, two = env.step(same), other.step(mixed)
        differs = (one.observation[:, mine] != two.observation[:, mine]).any(0)
        changed |= {name for name, seen in zip(NAMES, differs.tolist(), strict=True) if seen}
        other.load_state_dict(env.state_dict())
    published = {"last_up_price_utok_per_wh", "last_up_wh", "last_down_price_utok_per_wh", "last_down_wh"}
    stores = {0: set(), 2: {"charge_wh"}, 3: {"due_wh", "deferred_wh", "ahead_wh"}}[mine]
    capacities = {"up_capacity_wh", "down_capacity_wh"} if stores else set()
    assert changed == published | stores | capacities


def test_private_situations_stay_private() -> None:
    """Others' needs, capacities, costs and stores change nothing that one sees before anybody acts."""
    env = batched("flexibility", 30)
    shown = env.reset(2)
    state, own = env.state, env.state.situation
    for mine in range(env.num_agents):
        aggregators = torch.arange(env.num_agents).view(-1, 1)[:2] != mine
        prosumers = torch.arange(env.num_agents).view(-1, 1)[2:] != mine
        changed = state.with_changes(
            situation=own._replace(
                deviation_wh=own.deviation_wh + 7,
                forecast_wh=own.forecast_wh + 5 * aggregators,
                up_capacity_wh=own.up_capacity_wh + 5 * prosumers,
                up_cost=own.up_cost + 5 * prosumers,
                down_capacity_wh=own.down_capacity_wh + 5 * prosumers,
                down_cost=own.down_cost + 5 * prosumers,
            ),
            stores=type(state.stores)(*(part + 3 * prosumers for part in state.stores)),
            last_deviation_wh=state.last_deviation_wh + 9 * aggregators,
            trend_permille=state.trend_permille + 1,
        )
        seen = observe(env.params, env.fixed, changed, observation_scales())
        assert torch.equal(seen[:, mine], shown[:, mine])
        assert bool((seen != shown).any(2)[:, [i for i in range(env.num_agents) if i != mine]].all())


def test_the_observation_says_what_the_state_holds() -> None:
    """Every field, read back as the integer it was made from; 0 for the other role."""
    env = batched("flexibility", 5)
    env.reset(8)
    rng = np.random.default_rng(0)
    for hour in range(1, 8):
        result = env.step(random_actions(env, rng))
        state, own, stores, played = env.state, env.state.situation, env.state.stores, env.settled
        assert played is not None
        read = {
            item.name: (result.observation[:, :, at].to(torch.float64) / item.scale).round().to(torch.int64).T
            for at, item in enumerate(FIELDS)
        }
        public = {
            "hour_of_day": hour, "hours_left": 8 - hour,
            "short_price_utok_per_wh": state.short_price[hour], "long_price_utok_per_wh": state.long_price[hour],
            "cap_utok_per_wh": 30_000, "service_price_utok_per_wh": 15_000, "missing_penalty_utok_per_wh": 10_000,
            "request_wh": own.request_wh.sum(0), "last_up_wh": played.up.volume_wh,
            "last_down_wh": played.down.volume_wh, "last_up_price_utok_per_wh": state.published.up_price,
            "last_down_price_utok_per_wh": state.published.down_price,
        }  # fmt: skip
        for name, value in public.items():
            assert bool((read[name] == value).all()), name
        for name, of_aggregators in {
            "is_aggregator": torch.ones(2, 5), "portfolio_wh": torch.tensor([[15_000], [22_500]]),
            "forecast_deviation_wh": own.forecast_wh, "own_request_wh": own.request_wh,
            "forecast_need_wh": own.forecast_wh + own.request_wh, "last_deviation_wh": played.situation.deviation_wh,
        }.items():  # fmt: skip
            assert bool((read[name][:2] == of_aggregators).all()), name
            assert not bool(read[name][2:].any()), name
        kinds = {f"is_{kind}": torch.arange(6).view(-1, 1) % 3 == at
                 for at, kind in enumerate(("battery", "load", "photovoltaic"))}  # fmt: skip
        for name, of_prosumers in (kinds | {
            "up_capacity_wh": own.up_capacity_wh, "up_cost_utok_per_wh": own.up_cost,
            "down_capacity_wh": own.down_capacity_wh, "down_cost_utok_per_wh": own.down_cost,
            "charge_wh": stores.charge_wh, "due_wh": stores.rebound_wh[0], "deferred_wh": stores.rebound_wh.sum(0),
            "ahead_wh": stores.ahead_wh,
        }).items():  # fmt: skip
            assert bool((read[name][2:] == of_prosumers).all()), name
            assert not bool(read[name][:2].any()), name
        assert set(public) | {"is_aggregator"} | ROLE_PRIVATE | set(kinds) | {"portfolio_wh"} == set(NAMES)


def test_vcg_rewards_no_other_offer_within_an_hour() -> None:
    """Every price and quantity that an entry can pick on a grid of 17 by 9, against the truth, for every prosumer."""
    env = batched("flexibility_vcg", 60, auto_reset=False)
    env.reset(3)
    rng = np.random.default_rng(5)
    prices, shares = torch.linspace(-1, 1, 17), torch.linspace(-1, 1, 9)
    gained = 0
    for _ in range(2):
        env.step(random_actions(env, rng))
        played = env.settled
        assert played is not None
        now, orders = played.situation, played.up_orders
        others = random_actions(env, rng)
        levels = quantise(env.action_spec, others)[0][:, env.params.num_aggregators :]
        asks = pick(levels[0], env.params.cap_utok_per_wh), pick(levels[1], now.up_capacity_wh)
        for seller in (0, 1, 3, 4):
            truth = _reward(env, orders, asks, now.up_cost, seller, now.up_cost[seller], now.up_capacity_wh[seller])
            for price in prices:
                for share in shares:
                    ask = (pick(((price + 1) * 32_768).long(), env.params.cap_utok_per_wh).expand(60),
                           pick(((share + 1) * 32_768).long(), now.up_capacity_wh[seller]))  # fmt: skip
                    lied = _reward(env, orders, asks, now.up_cost, seller, *ask)
                    assert bool((lied <= truth).all())
                    gained += int((truth - lied).sum())
    assert gained > 0


def _reward(
    env: BatchedAggregatorAuction,
    orders: Orders,
    asks: tuple[Tensor, Tensor],
    cost: Tensor,
    seller: int,
    price: Tensor,
    energy: Tensor,
) -> Tensor:
    ask_price, ask_wh = asks[0].clone(), asks[1].clone()
    ask_price[seller], ask_wh[seller] = price, energy
    trades = clear(env.params, orders._replace(ask_price=ask_price, ask_wh=ask_wh), 0)
    return trades.income_utok[seller] - trades.sell_fill_wh[seller] * cost[seller]


def test_any_mechanism_of_the_registry_clears() -> None:
    """A mechanism at one price, by its name."""
    params = AggregatorAuctionParams(payment_rule="sellers_offer", num_prosumers=4)
    env = BatchedAggregatorAuction(params, scenario(), num_envs=4)
    env.reset(0)
    env.step(torch.ones(4, 6, 2))
    assert env.settled is not None
    orders = env.settled.up_orders
    cap = torch.full((4,), params.cap_utok_per_wh)
    again = get_procurement("sellers_offer")(*orders, torch.zeros_like(cap), cap, 0)
    assert all(map(torch.equal, again, env.settled.up))


def test_states_survive_a_checkpoint() -> None:
    env = batched("loads", 2)
    env.reset(4)
    rng = np.random.default_rng(2)
    for _ in range(3):
        env.step(random_actions(env, rng))
    kept = env.state_dict()["state"]
    assert isinstance(type(env.state).from_dict(kept).draws, LaneDraws)
    flat = [part for value in kept.values() for part in (value if isinstance(value, tuple) else (value,))]
    assert all(isinstance(part, (Tensor, int)) for part in flat)
