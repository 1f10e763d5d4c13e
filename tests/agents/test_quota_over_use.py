"""Stations that charge beyond their quota where it pays: the rule, to the Wh; what it earns; when it complies."""

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
from gridmarl.protocols import Agent, AgentContext

SCENARIO = ev_scenario(4, sessions_per_day_permille=9_000, conventional_peak_w=60_000, start_slot=26)
HALF_HOURS = 24
UNSERVED = 100_000
HIGHEST = 450_000 + UNSERVED - 32_000
"""No Wh is worth more: the highest value, the cost of not serving it, less the lowest tariff."""


def market(rate: int, lanes: int = 40, **params: Any) -> BatchedEVQuota:
    values = {
        "num_stations": 4,
        "horizon_half_hours": HALF_HOURS,
        "transformer_capacity_w": 50_000,
        "overuse": True,
        "penalty_rate_utok_per_wh": rate,
    }
    return BatchedEVQuota(EVQuotaParams.from_dict(values | params), SCENARIO, num_envs=lanes, auto_reset=False)


def agent(env: BatchedEVQuota, name: str, **options: Any) -> Agent:
    spec = env.action_spec
    context = AgentContext(env.num_envs, env.num_agents, env.observation_fields, spec, env.device, 0)
    return make_agent(name, context, **options)


def over_user(env: BatchedEVQuota, rate: int) -> Agent:
    return agent(env, "quota_over_use", penalty_rate_utok_per_wh=rate)


def play(env: BatchedEVQuota, player: Agent, seed: int = 1) -> list[tuple[Settled, Tensor, Tensor]]:
    """Each half hour, with sessions' energy `[M, N, E]` and the tariff to wait for `[N, E]` before it."""
    names = [item.name for item in env.observation_fields]
    column = names.index("later_tariff_utok_per_wh")
    observation, hours = env.reset(seed), []
    for _ in range(env.params.horizon_half_hours):
        before = env.state.remaining_wh
        later = (observation[..., column].T.to(torch.float64) * 2**16).round().to(torch.int64)
        observation = env.step(player.act(observation, explore=False)).observation
        observation = env.step(player.act(observation, explore=False)).observation
        assert env.settled is not None
        hours.append((env.settled, before, later))
    return hours


@pytest.mark.parametrize("rate", [0, 20_000, 60_000, 150_000, 300_000, 450_000])
def test_the_rule(rate: int) -> None:
    """What is wanted beyond the quota, what is bid for it and at which price, what is charged in the end."""
    env = market(rate)
    urgent_over = elastic_over = 0
    for played, _, later in play(env, over_user(env, rate)):
        own, declared = played.situation, played.declared
        short = (own.urgent_wh - declared.quota_wh).clamp(min=0)
        room = (own.possible_wh - declared.quota_wh).clamp(min=0)
        urgent_pays = rate < declared.short_value + UNSERVED - played.tariff
        elastic_pays = (rate < later - played.tariff) & (urgent_pays | (short == 0))
        wanted = torch.where(elastic_pays, room, torch.where(urgent_pays, short, 0))
        over = wanted > 0
        coarse = (room - 1).clamp(min=0) >> 15  # Wh that no level of the action reaches, 0 for rooms up to 32768
        worth = (rate * wanted + (later - played.tariff) * (room - wanted)).div(
            room.clamp(min=1), rounding_mode="floor"
        )
        bids = over & declared.scarce & (worth >= 0)
        missed = (wanted - played.orders.buy_wh)[bids]
        assert bool(((missed >= 0) & (missed <= coarse[bids])).all())
        assert not bool(torch.where(over & ~bids, played.orders.buy_wh + played.orders.sell_wh, 0).any())
        off = (worth.clamp(0, 600_000) - played.orders.price)[bids]
        assert bool(((off >= 0) & (off <= 600_000 >> 16)).all())
        within = torch.minimum(own.possible_wh, played.quota_wh)
        assert torch.equal(torch.where(over, within, played.used_wh), within), "who wants nothing keeps to the quota"
        assert bool((played.used_wh + coarse >= torch.where(over, declared.quota_wh + wanted, 0)).all()), (
            "all that pays"
        )
        bought = played.quota_wh - declared.quota_wh
        least = wanted - bought * wanted // room.clamp(min=1)  # a Wh bought saves wanted / room of penalty
        beyond = played.used_wh - within
        assert bool(((beyond - least).abs() <= 1 + coarse)[over].all())
        urgent_over += int((urgent_pays & (beyond > 0)).sum())
        elastic_over += int((elastic_pays & (beyond > 0)).sum())
    assert urgent_over > 0
    assert (elastic_over > 0) == (rate < 43_000), "the tariff rises by no more than 43 token/kWh"


def test_elastic_energy_comes_after_urgent_energy_only() -> None:
    """Where an urgent Wh is worth less than the penalty, and an elastic one more, nothing beyond the quota pays."""
    env = market(20_000, value_low_utok_per_wh=0, value_high_utok_per_wh=10_000, unserved_utok_per_wh=0)
    short_ones = over_used = 0
    for played, _, later in play(env, over_user(env, 20_000)):
        own, quota = played.situation, played.declared.quota_wh
        short = own.urgent_wh > quota
        tempting = short & (later - played.tariff > 20_000) & (own.possible_wh > quota)
        short_ones += int(tempting.sum())
        beyond = (played.used_wh - played.quota_wh).clamp(min=0)
        assert not bool(beyond[short].any())
        over_used += int(beyond.sum())
    assert short_ones > 0
    assert over_used > 0


@pytest.mark.parametrize("rate", [0, 100_000, 300_000, 450_000])
def test_in_no_half_hour_it_is_worse_off_than_without_it(rate: int) -> None:
    """Against keeping to the quota of the allocation: an urgent Wh counts with value, cost of not serving and tariff,
    an elastic one with what charging it later costs more."""
    env = market(rate)
    gained = 0
    for played, before, later in play(env, over_user(env, rate)):
        sessions, now, own = env.state.sessions, played.half_hour, played.situation
        kept = torch.minimum(own.possible_wh, played.declared.quota_wh)
        beyond = (played.used_wh - played.quota_wh).clamp(min=0)
        moved = played.delivered_wh - share_out(sessions, before, now, kept)
        urgent = torch.minimum(played.used_wh, own.urgent_wh) - torch.minimum(kept, own.urgent_wh)
        first = share_out(sessions, before, now, torch.minimum(played.used_wh, own.urgent_wh))
        first = first - share_out(sessions, before, now, torch.minimum(kept, own.urgent_wh))
        elastic = (moved - first).sum(0)
        assert torch.equal(first.sum(0), urgent)
        gain = (first * (sessions.value + UNSERVED - played.tariff)).sum(0) + elastic * (later - played.tariff)
        gain = gain + played.trades.income_utok - played.trades.payment_utok - beyond * rate
        over = beyond > 0
        coarse = ((own.possible_wh - played.declared.quota_wh).clamp(min=1) - 1) >> 15
        assert bool((gain + (1 + coarse) * (rate + 80_000) >= 0)[over].all()), "but for the Wh that rounding may add"
        gained += int((gain[over] > 0).sum())
    assert gained > 0


def test_from_the_highest_worth_on_it_is_a_patient_station() -> None:
    """To the last µtok; one token per kWh below what a Wh of these days is worth at most, it is not."""
    patient = market(HIGHEST)
    hours = play(patient, agent(patient, "quota_patient"))
    found = [played.declared.short_value + UNSERVED - played.tariff for played, _, _ in hours]
    short = [played.declared.short_value > 0 for played, _, _ in hours]
    highest = max(int(worth[where].max()) for worth, where in zip(found, short, strict=True) if bool(where.any()))
    assert highest <= HIGHEST
    for rate, same in ((HIGHEST, True), (highest, True), (highest - 1, False)):
        env = market(rate)
        play(env, over_user(env, rate))
        assert torch.equal(env.state.balances, patient.state.balances) == same


def test_less_is_over_used_the_more_it_costs() -> None:
    found = []
    for rate in (0, 60_000, 200_000, 400_000, HIGHEST):
        env = market(rate)
        hours = play(env, over_user(env, rate))
        found.append(sum(int(played.overload_wh.sum()) for played, _, _ in hours))
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0 < found[-2]


def test_where_over_use_is_not_allowed_it_is_a_patient_station() -> None:
    balances = []
    for name, options in (("quota_patient", {}), ("quota_over_use", {"penalty_rate_utok_per_wh": 0})):
        env = market(0, overuse=False)
        play(env, agent(env, name, **options))
        balances.append(env.state.balances)
    assert torch.equal(*balances)


def test_in_a_grid_it_takes_the_nearest_row() -> None:
    env = market(0, 6, action_space="discrete")
    player, grid = over_user(env, 0), env.action_spec.grid
    assert grid is not None
    observation, charges = env.reset(0), set()
    for step in range(2 * HALF_HOURS):
        actions = player.act(observation, explore=False)
        if step % 2:
            charges |= set(grid[actions][..., 3].unique().tolist())
        observation = env.step(actions).observation
    assert charges == {0.0, 1.0}, "the quota, or all"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"greed": 1}, "quota_over_use: unknown option 'greed'; allowed are penalty_rate_utok_per_wh"),
        ({"penalty_rate_utok_per_wh": -1}, r"quota_over_use: penalty_rate_utok_per_wh=-1; allowed is an integer 0"),
        ({"penalty_rate_utok_per_wh": 0.5}, r"penalty_rate_utok_per_wh=0\.5; allowed is an integer"),
    ],
)  # fmt: skip
def test_what_it_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        agent(market(0, 1), "quota_over_use", **options)


def test_it_plays_this_environment_only() -> None:
    assert supports("quota_over_use", "ev-quota")
    assert not supports("quota_over_use", "two-stage-dr")
