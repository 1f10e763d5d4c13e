"""Charging stations that do not learn: what they mean is what the market plays, and trading truthfully hurts nobody."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gridmarl.agents.registry import make_agent, supports
from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import ev_scenario
from gridmarl.envs.ev_quota.step import Settled
from gridmarl.envs.ev_quota.vehicles import share_out
from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext

SCENARIO = ev_scenario(4, sessions_per_day_permille=9_000, conventional_peak_w=60_000, start_slot=32)


def market(lanes: int, **params: Any) -> BatchedEVQuota:
    values = {"num_stations": 4, "horizon_half_hours": 16, "transformer_capacity_w": 50_000} | params
    return BatchedEVQuota(EVQuotaParams.from_dict(values), SCENARIO, num_envs=lanes, auto_reset=False)


def context(env: BatchedEVQuota, **options: Any) -> AgentContext:
    spec = env.action_spec
    return AgentContext(env.num_envs, env.num_agents, env.observation_fields, spec, env.device, 0, options)


def play(env: BatchedEVQuota, name: str, seed: int = 1) -> list[tuple[Settled, Tensor, Tensor]]:
    """Each half hour, with sessions' energy before it, and rewards `[N, E]` of it."""
    agent, observation, hours = make_agent(name, context(env)), env.reset(seed), []
    for _ in range(env.params.horizon_half_hours):
        before = env.state.remaining_wh
        observation = env.step(agent.act(observation, explore=False)).observation
        result = env.step(agent.act(observation, explore=False))
        observation = result.observation
        assert env.settled is not None
        hours.append((env.settled, before, result.reward.T))
    return hours


def reward(env: BatchedEVQuota, name: str) -> float:
    return float(sum(rewards.sum() for _, _, rewards in play(env, name)))


def test_what_each_means() -> None:
    """Declarations, orders and use are exactly the intended integers: no level is off by one."""
    for name, factor in (("quota_truthful", 1), ("quota_no_trade", 1), ("quota_over_declare", 2)):
        traded = 0
        for played, _, _ in play(market(50), name):
            own, declared = played.situation, played.declared
            assert torch.equal(declared.declared_wh, factor * own.possible_wh), name
            assert torch.equal(played.used_wh, torch.minimum(own.possible_wh, played.quota_wh))
            short = (own.urgent_wh - declared.quota_wh).clamp(min=0) * declared.scarce
            spare = (declared.quota_wh - own.urgent_wh).clamp(min=0) * declared.scarce
            trades = name != "quota_no_trade"
            assert torch.equal(played.orders.buy_wh, short * trades)
            assert torch.equal(played.orders.sell_wh, spare * trades)
            worth = (declared.short_value + 100_000 - played.tariff).clamp(max=600_000)
            off = (worth - played.orders.price)[short > 0] if trades else worth.new_zeros(0)
            assert bool(((off >= 0) & (off <= 600_000 >> 16)).all()), "a bid never exceeds what the energy is worth"
            traded += int(played.trades.volume_wh.sum())
        assert (traded > 0) == (name != "quota_no_trade")


def test_over_use() -> None:
    """Where it is allowed the uncoordinated station charges all it can, the others keep to their quotas."""
    for name, over in (("quota_uncoordinated", True), ("quota_truthful", False)):
        hours = [played for played, _, _ in play(market(30, overuse=True), name)]
        for played in hours:
            limit = played.situation.possible_wh
            expected = limit if over else torch.minimum(limit, played.quota_wh)
            assert torch.equal(played.used_wh, expected)
        assert any(bool(played.overload_wh.any()) for played in hours) == over
    kept = [played for played, _, _ in play(market(30), "quota_uncoordinated")]
    assert not any(bool(played.overload_wh.any()) for played in kept)


@pytest.mark.parametrize("auction", ["pairwise", "uniform", "marginal_pair"])
def test_no_truthful_station_is_worse_off_than_without_trading(auction: str) -> None:
    """Over 10,000 scarce periods: what a station pays or earns outweighs the energy it gets or gives away.

    An urgent Wh counts with its vehicle's value, the cost of not serving it, and the tariff; an elastic Wh with what
    charging it later costs more (0 if it costs less).
    """
    env = market(1_500, auction=auction)
    periods = traded = 0
    for played, before, _ in play(env, "quota_truthful"):
        sessions, now = env.state.sessions, played.half_hour
        alone = share_out(sessions, before, now, torch.minimum(played.situation.possible_wh, played.declared.quota_wh))
        moved = played.delivered_wh - alone
        short = played.declared.short_value > 0
        urgent = (moved * (sessions.value + 100_000 - played.tariff)).sum(0)
        offer = torch.where(short, 0, played.orders.price)  # of a seller: what its elastic energy is worth to it
        gain = played.trades.income_utok - played.trades.payment_utok
        gain = gain + torch.where(short, urgent, -offer * played.trades.sell_fill_wh)
        assert bool((gain >= 0).all())
        assert bool((gain[played.trades.buy_fill_wh > 0] > 0).any()) or int(played.trades.volume_wh.sum()) == 0
        periods += int(played.declared.scarce.sum())
        traded += int((played.trades.volume_wh > 0).sum())
    assert periods > 10_000
    assert traded > 1_000


def test_trading_serves_more_than_not_trading() -> None:
    """A figure of the day as a whole, which prices of single half hours do not promise."""
    found = [reward(market(60, horizon_half_hours=48), f"quota_{name}") for name in ("patient", "truthful", "no_trade")]
    assert found == sorted(found, reverse=True)


def test_patience() -> None:
    """Elastic energy is declared unless a later tariff is lower, urgent energy always."""
    waited = asked = 0
    env = market(40)
    agent, observation = make_agent("quota_patient", context(env)), env.reset(3)
    names = [item.name for item in env.observation_fields]
    now, later = (names.index(f"{name}_utok_per_wh") for name in ("tariff", "later_tariff"))
    for _ in range(env.params.horizon_half_hours):
        cheaper = (observation[..., later] < observation[..., now]).T
        env.step(agent.act(observation, explore=False))
        own, declared = env.state.situation, env.state.declared
        assert declared is not None
        wanted = torch.where(cheaper, own.urgent_wh, own.possible_wh)
        assert torch.equal(declared.declared_wh, wanted)
        waited, asked = waited + int(cheaper.sum()), asked + int((own.elastic_wh * ~cheaper > 0).sum())
        observation = env.step(agent.act(observation, explore=False)).observation
    assert waited > 0
    assert asked > 0


def test_declaring_more_alone_pays_and_forfeiture_stops_it() -> None:
    """One station that declares twice what it can use, among truthful ones: it gains while deposits come back."""

    def gain(**params: Any) -> float:
        returns = []
        for liar in (False, True):
            env = market(300, **params)
            truthful, other = (make_agent(name, context(env)) for name in ("quota_truthful", "quota_over_declare"))
            observation, total = env.reset(5), 0.0
            for _ in range(2 * env.params.horizon_half_hours):
                actions = truthful.act(observation, explore=False)
                if liar:
                    actions[:, 0] = other.act(observation, explore=False)[:, 0]
                result = env.step(actions)
                observation, total = result.observation, total + float(result.reward[:, 0].sum())
            returns.append(total)
        return returns[1] - returns[0]

    assert gain() > 0
    assert gain(forfeit_permille=1000, deposit_rate_utok_per_wh=400_000) < gain()


def test_in_a_grid_they_take_the_nearest_row() -> None:
    env = market(6, action_space="discrete")
    agent, observation = make_agent("quota_truthful", context(env)), env.reset(0)
    grid = env.action_spec.grid
    assert grid is not None
    for step in range(8):
        actions = agent.act(observation, explore=False)
        rows = grid[actions]
        assert not bool((rows[..., 3] < 1).any()) or step % 2 == 0, "all of the quota"
        observation = env.step(actions).observation


def test_what_they_refuse() -> None:
    env = market(1)
    with pytest.raises(ConfigError, match=r"quota_truthful: unknown option 'greed'; it has no options"):
        make_agent("quota_truthful", context(env), greed=1)
    with pytest.raises(ConfigError, match=r"truthful: cannot fill the action entry 'declare'"):
        make_agent("truthful", context(env))
    assert supports("quota_truthful", "ev-quota")
    assert not supports("quota_truthful", "two-stage-dr")
    assert supports("truthful", "two-stage-dr")
    assert not supports("truthful", "ev-quota")
    assert supports("ppo", "ev-quota")
