"""Virtual power plants: nothing beats the bound, calls are lawful, accounts and energy add up."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridmarl.agents.aggregator_heuristics import AggregatorTruthful, AggregatorZeroIntelligence
from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.state import State
from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext
from gridmarl.train.aggregator.control import (
    Episode,
    begin,
    directed,
    play_control,
    play_idle,
    play_policy,
    welfare_bound,
)
from gridmarl.train.aggregator.foresight import foresee, problem_of
from gridmarl.train.aggregator.price_signal import PRICE_STEPS, Prices, choose_prices, response, shared_by_need
from gridmarl.train.aggregator.profile import profile_of
from gridmarl.train.aggregator.rows import control_rows, cost_utok, episode_row, references
from tests.envs.aggregator_auction.configs import CONFIGS, batched, random_actions

LANES, SEED = 4, 5
SHARES = (0, 500, 1_000)


def market(name: str, lanes: int = LANES, first_lane: int = 0) -> BatchedAggregatorAuction:
    return batched(name, lanes, first_lane=first_lane, auto_reset=False)


@lru_cache(maxsize=64)
def controlled(name: str, share: int) -> Episode:
    return play_control(market(name), share, SEED)


class Anything:
    """Random orders, high bids and low offers preferred."""

    def __init__(self, env: BatchedAggregatorAuction, seed: int) -> None:
        self._env, self._rng = env, np.random.default_rng(seed)

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        return random_actions(self._env, self._rng)


def context_of(env: BatchedAggregatorAuction) -> AgentContext:
    return AgentContext(env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, 3, {})


def auctions(env: BatchedAggregatorAuction) -> list[Episode]:
    """Episodes of the auctions: truthful, zero intelligence, random."""
    kinds = (AggregatorTruthful, AggregatorZeroIntelligence)
    played = [play_policy(env, kind(context_of(env)), SEED) for kind in kinds]
    return played + [play_policy(env, Anything(env, seed), SEED) for seed in range(2)]  # type: ignore[arg-type]


def slack(least: NDArray[np.float64]) -> NDArray[np.float64]:
    """Float64 of whole µtok: one part in 10**9, and a µtok."""
    return 1.0 + 1e-9 * np.abs(least)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_no_auction_and_no_direct_control_beats_the_bound(name: str) -> None:
    """Lane by lane."""
    env = market(name)
    least = -welfare_bound(env, SEED)
    for played in (*auctions(env), controlled(name, 1_000), play_idle(env, SEED)):
        assert (cost_utok(played) >= least - slack(least)).all()


@pytest.mark.parametrize("name", ["default", "vcg", "flexibility", "loads", "wild", "large"])
def test_no_control_beats_the_bound_without_limits(name: str) -> None:
    env = market(name)
    least = -welfare_bound(env, SEED, bid_limits=False)
    assert (least <= -welfare_bound(env, SEED) + slack(least)).all()
    for share in SHARES:
        assert (cost_utok(controlled(name, share)) >= least - slack(least)).all()


@pytest.mark.parametrize("name", ["default", "uniform", "vcg", "large"])
def test_direct_control_comes_close_to_the_bound(name: str) -> None:
    """In `procurement` (and where batteries are large), where only rest and rebound are relaxed."""
    known = references(market(name), SEED)
    saved = known.none_utok - cost_utok(controlled(name, 1_000))
    assert saved.sum() >= 0.95 * (known.none_utok - known.least_utok).sum() > 0


@pytest.mark.parametrize("name", ["default", "vcg", "flexibility", "flexibility_uniform", "first_rejected", "loads"])
def test_direct_control_saves_more_than_truthful_auctions(name: str) -> None:
    env = market(name)
    auction = play_policy(env, AggregatorTruthful(context_of(env)), SEED)
    assert cost_utok(controlled(name, 1_000)).sum() < cost_utok(auction).sum()


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", ["default", "flexibility", "mcafee", "large", "one_of_each"])
def test_calls_are_lawful_and_accounts_add_up(name: str, share: int) -> None:
    env, played = market(name), controlled(name, share)
    direct = directed(env.params.kinds, share).unsqueeze(1)
    called = 0
    for hour in played.hours:
        now = hour.situation
        for trades, most, cost in (
            (hour.up, now.up_capacity_wh, now.up_cost),
            (hour.down, now.down_capacity_wh, now.down_cost),
        ):
            assert bool((trades.sell_fill_wh >= 0).all() and (trades.sell_fill_wh <= most).all())
            assert torch.equal(trades.sell_fill_wh.sum(0), trades.buy_fill_wh.sum(0))
            assert torch.equal(trades.payment_utok.sum(0), trades.income_utok.sum(0))
            private = trades.sell_fill_wh * cost
            assert torch.equal(trades.income_utok * direct, private * direct)  # dispatched: its cost
            assert bool((trades.income_utok >= private).all())  # nobody delivers at a loss
            assert bool((~direct & (trades.sell_fill_wh > 0) & (trades.sell_fill_wh < most)).logical_not().all())
            called += int(trades.volume_wh.sum())
        assert bool((hour.balances.sum(0) == 0).all())
        stored = hour.stores.charge_wh
        assert bool(((stored >= 0) & (stored <= env.params.battery_capacity_wh)).all())
    assert called > 0


@pytest.mark.parametrize("share", SHARES)
def test_a_lane_is_the_single_run_of_that_lane(share: int) -> None:
    alone = play_control(market("flexibility", 1, first_lane=2), share, SEED)
    assert torch.equal(alone.hours[-1].balances[:, 0], controlled("flexibility", share).hours[-1].balances[:, 2])


def test_foresight_is_what_happens() -> None:
    env = market("flexibility")
    known = foresee(env, begin(env, SEED))
    for hour in controlled("flexibility", 0).hours:
        now = hour.situation
        for name in ("deviation_wh", "request_wh", "need_wh", "base_wh", "up_cost", "down_cost"):
            assert np.array_equal(getattr(known, name)[hour.hour], getattr(now, name).numpy())


def expected_result(env: BatchedAggregatorAuction, state: State, lane: int, price: int, sign: int) -> int | None:
    """The rule of the page, in plain integers, for the first hour; None where nobody needs this direction."""
    params, now = env.params, state.situation
    need = [max(0, sign * int(value)) for value in now.need_wh[:, lane]]
    if not sum(need):
        return None
    capacity = (now.up_capacity_wh if sign > 0 else now.down_capacity_wh)[:, lane]
    answer = 0
    for index, kind in enumerate(params.kinds):
        low, high = params.cost_range(kind)
        answer += int(capacity[index]) * min(max(price - low, 0), high - low + 1) // (high - low + 1)
    shares = shared_by_need(torch.tensor([answer]), torch.tensor(need).unsqueeze(1), 0)[:, 0].tolist()
    total = -answer * price
    for k, share in enumerate(shares):
        surplus, asked = sign * share - int(now.forecast_wh[k, lane]), int(now.request_wh[k, lane])
        side = (asked > 0) - (asked < 0)
        served = min(max(surplus * side, 0), abs(asked))
        rest = surplus - side * served
        total += params.service_price_utok_per_wh * served - params.missing_penalty_utok_per_wh * (abs(asked) - served)
        total += int((state.long_price if rest > 0 else state.short_price)[0, lane]) * rest
    return total


@pytest.mark.parametrize("name", ["default", "flexibility"])
def test_the_price_is_the_best_of_the_grid(name: str) -> None:
    env, lanes = market(name, 12), 12
    params, state = env.params, begin(market(name, 12), SEED)
    nothing = torch.zeros_like(state.situation.deviation_wh)
    everybody = torch.ones(params.num_prosumers, dtype=torch.bool)
    prices = choose_prices(params, env.fixed, state, everybody, nothing, nothing)
    top = min(params.cap_utok_per_wh, 1 + max(params.cost_range(kind)[1] for kind in params.kinds))
    grid = [step * top // PRICE_STEPS for step in range(PRICE_STEPS + 1)]
    for sign, chosen in ((1, prices.up), (-1, prices.down)):
        for lane in range(lanes if sign > 0 or params.has_requests else 0):
            results = [expected_result(env, state, lane, price, sign) for price in grid]
            best = 0 if results[0] is None else grid[int(np.argmax(results))]  # type: ignore[arg-type]
            assert int(chosen[lane]) == best
    assert bool((prices.up > 0).any())


def test_prosumers_answer_with_all_they_can_where_the_price_beats_their_cost() -> None:
    state = begin(market("flexibility"), SEED)
    now = state.situation
    price = now.up_cost[1]  # of prosumer 1 itself: does not beat it
    up, _ = response(now, Prices(price, torch.zeros_like(price)), torch.tensor([True] * 5 + [False]))
    assert int(up[1].sum()) == 0
    assert torch.equal(up, torch.where(now.up_cost < price, now.up_capacity_wh, 0) * torch.tensor([[1]] * 5 + [[0]]))


def test_shares_by_need() -> None:
    shares = shared_by_need(torch.tensor([25, 7, 0]), torch.tensor([[6, 0, 0], [4, 0, 0]]), 0)
    assert shares.tolist() == [[15, 7, 0], [10, 0, 0]]


@pytest.mark.parametrize("name", ["loads", "default"])
def test_deferred_energy_comes_back(name: str) -> None:
    """What loads deferred has come back, or is owed at the end; batteries: what was drawn is what is held."""
    env, played = market(name), controlled(name, 0)
    profile = profile_of(env.fixed, played.hours, played.last)
    up = torch.stack([hour.up.sell_fill_wh for hour in played.hours]).sum(0)
    down = torch.stack([hour.down.sell_fill_wh for hour in played.hours]).sum(0)
    owed = (played.last.rebound_wh.sum(0) - played.last.ahead_wh).sum(0)
    charged = (played.last.charge_wh - played.hours[0].stores.charge_wh).sum(0)
    assert torch.equal(profile.drawn_wh.sum(0), profile.before_wh.sum(0) - owed + charged)
    assert int(up.sum() + down.sum()) > 0
    assert bool((profile.rebound_wh[0] == 0).all())
    assert bool((profile.rebound_wh.amax(0) > 0).any())


def test_direct_shares_are_of_every_kind() -> None:
    kinds = ("battery", "load") * 4
    assert directed(kinds, 500).tolist() == [False, False, True, True] * 2
    assert int(directed(kinds, 1_000).sum()) == 8
    assert int(directed(kinds, 0).sum()) == 0
    with pytest.raises(ConfigError, match=r"share_permille: 1001, allowed are 0 \.\. 1000"):
        directed(kinds, 1_001)


def test_rows() -> None:
    env = BatchedAggregatorAuction(
        AggregatorAuctionParams(num_prosumers=6, horizon_hours=6), num_envs=3, auto_reset=False
    )
    rows = {row.name: row for row in control_rows(env, SEED)}
    assert list(rows) == ["no control", "indirect", "mixed", "direct"]
    idle, direct = rows["no control"], rows["direct"]
    assert (idle.saved_tok, idle.up_kwh, idle.rebound_hour, idle.gains_share) == (0.0, 0.0, None, 0.0)
    assert idle.peak_kwh == idle.peak_before_kwh
    assert direct.payments_tok == pytest.approx(direct.prosumers_cost_tok)
    assert rows["indirect"].payments_tok > rows["indirect"].prosumers_cost_tok
    assert direct.gains_share is not None
    assert 0.9 < direct.gains_share <= 1.0
    for row in rows.values():
        assert row.surplus_tok == 0.0
        assert row.cost_tok == pytest.approx(row.prosumers_cost_tok - row.payments_tok - row.aggregators_tok)
        assert row.cost_tok + row.saved_tok == pytest.approx(idle.cost_tok)
    auction = play_policy(env, AggregatorTruthful(context_of(env)), SEED)
    beside = episode_row(env, "auction", auction, references(env, SEED))
    assert beside.gains_share is not None
    assert beside.gains_share <= 1.0
    assert beside.peak_before_kwh == idle.peak_before_kwh


def test_an_environment_that_resets_itself_is_refused() -> None:
    env = batched("default", 1)
    with pytest.raises(ConfigError, match="auto_reset: True, allowed is False"):
        play_policy(env, AggregatorTruthful(context_of(env)), SEED)


def test_the_problem_is_the_hour_as_it_stands() -> None:
    """In the middle of an episode: what is owed, held and allowed; of some assets; less what others deliver."""
    env = market("flexibility")
    start = begin(env, SEED)
    known, owed = foresee(env, start), 0
    for hour in controlled("flexibility", 0).hours[3:5]:
        now, lane, assets = hour.situation, 1, np.array([0, 1, 4])
        state = start.with_changes(hour=hour.hour, situation=now, stores=hour.stores)
        used = (np.array([10, 20]), np.array([3, 4]))
        made = problem_of(env, known, state, lane, assets, used)
        hours = env.params.horizon_hours - hour.hour
        due = np.zeros((3, hours), dtype=np.int64)
        due[:, : env.params.return_hours] = hour.stores.rebound_wh[:, assets, lane].numpy().T[:, :hours]
        assert np.array_equal(made.due_wh, due)
        owed += int(due.sum())
        assert np.array_equal(made.charge_wh, hour.stores.charge_wh[assets, lane].numpy())
        assert np.array_equal(made.up_capacity_wh, now.up_capacity_wh[assets, lane].numpy())
        need = now.need_wh[:, lane].numpy()
        assert np.array_equal(made.up_limit_wh[:, 0], np.maximum(2 * np.maximum(need, 0) - used[0], 0))
        assert np.array_equal(made.down_limit_wh[:, 0], np.maximum(2 * np.maximum(-need, 0) - used[1], 0))
        assert np.array_equal(made.up_limit_wh[:, 1], 2 * np.maximum(known.need_wh[hour.hour + 1, :, lane], 0))
        assert np.array_equal(made.deviation_wh[:, 0], now.deviation_wh[:, lane].numpy() - used[0] + used[1])
    assert owed > 0
