"""What every environment promises: lanes, resume, conservation, the GPU path, privacy; and what this one adds."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.contracts.errors import IllegalTransitionError
from gridmarl.envs.ev_quota.actions import action_spec
from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.generator import reset
from gridmarl.envs.ev_quota.observe import FIELDS, observation_scales, observe
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario
from gridmarl.envs.ev_quota.step import step
from gridmarl.scenarios.ev_days import EvStations, Wheels
from gridmarl.testing import check_environment
from tests.envs.ev_quota.configs import CONFIGS, batched, evening, random_actions

NAMES = [item.name for item in FIELDS]


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_conformance(name: str) -> None:
    check_environment(
        lambda num_envs, lane: batched(name, num_envs, first_lane=lane),
        balances=lambda env: env.state.balances,  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_episode_on_fake_cuda(name: str) -> None:
    """A hidden `.item()` or a mixed device raises. Three half hours: the first, one between, the last."""
    params = EVQuotaParams.from_dict(CONFIGS[name] | {"horizon_half_hours": 3})
    host = evening(params.num_stations)
    with FakeTensorMode():
        scenario = _fake(host)
        spec, scales = action_spec(params, "cuda:0"), observation_scales("cuda:0")
        shape = (6, params.num_stations)
        kind = torch.int64 if spec.num_actions else torch.float32
        actions = torch.zeros(shape if spec.num_actions else (*shape, spec.size), dtype=kind, device="cuda:0")
        state = reset(params, scenario, 1, 6)
        for _ in range(2 * params.horizon_half_hours):
            state, result = step(params, spec, state, actions)
            seen = observe(params, state, scales)
            assert seen.device.type == "cuda"
            assert tuple(seen.shape) == (*shape, len(FIELDS))
        assert result.closed
        assert state.balances.device.type == "cuda"


def _fake(scenario: EVScenario) -> EVScenario:
    """The scenario with every tensor replaced by a fake one on the GPU."""

    def moved(value: Any) -> Any:
        if isinstance(value, Wheels):
            return Wheels(*map(moved, value))
        return torch.empty(value.shape, dtype=value.dtype, device="cuda:0") if isinstance(value, Tensor) else value

    def all_of(item: Any) -> Any:
        return replace(item, **{field.name: moved(getattr(item, field.name)) for field in fields(item)})

    assert isinstance(scenario.sessions, EvStations)
    return replace(scenario, sessions=all_of(scenario.sessions), load=all_of(scenario.load))


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_half_hour_balances(name: str) -> None:
    """Quotas within the margin, energy with the vehicles that may take it, money with somebody."""
    env = batched(name, 20, auto_reset=False)
    env.reset(5)
    rng = np.random.default_rng(1)
    wanted, unserved = env.state.remaining_wh, torch.zeros_like(env.state.situation.urgent_wh)
    for now in range(env.params.horizon_half_hours):
        before = env.state
        env.step(random_actions(env, rng))
        env.step(random_actions(env, rng))
        played = env.settled
        assert played is not None
        declared, sessions = played.declared.declared_wh, env.state.sessions
        granted = torch.minimum(played.margin_wh, declared.sum(0))
        assert torch.equal(played.declared.quota_wh.sum(0), granted)
        assert torch.equal(played.quota_wh.sum(0), granted)
        assert bool((played.quota_wh >= 0).all())
        assert torch.equal(played.declared.scarce, declared.sum(0) > played.margin_wh)
        assert torch.equal(played.trades.payment_utok.sum(0), played.trades.income_utok.sum(0))
        assert torch.equal(played.delivered_wh.sum(0), played.used_wh)
        assert bool((played.delivered_wh >= 0).all())
        assert bool((played.delivered_wh <= sessions.max_power_w // 2).all())
        here = (sessions.arrival <= now) & (now < sessions.departure)
        assert bool((played.delivered_wh[~here] == 0).all())
        assert bool((env.state.remaining_wh >= 0).all())
        assert torch.equal(env.state.balances.sum(0), before.balances.sum(0))
        assert torch.equal(env.state.balances[:-1] - before.balances[:-1], played.received_utok)
        if not env.params.overuse:
            assert bool((played.used_wh <= played.quota_wh).all())
            assert not bool(played.charges.penalty_utok.any())
            over = (played.used_wh.sum(0) - played.margin_wh).clamp(min=0)
            assert not bool(over.any())
        unserved += played.unserved_wh
    left = env.state.remaining_wh
    gone = (env.state.sessions.departure <= env.params.horizon_half_hours) & (wanted > 0)
    assert bool((unserved >= (left * gone).sum(0)).all())
    if env.params.horizon_half_hours == 48:
        assert torch.equal(unserved, left.sum(0))


def test_a_whole_day_serves_or_counts_every_wh() -> None:
    env = BatchedEVQuota(num_envs=8, auto_reset=False)
    env.reset(3)
    wanted, rng = env.state.remaining_wh.sum(0), np.random.default_rng(2)
    used, unserved = torch.zeros_like(wanted), torch.zeros_like(wanted)
    for _ in range(48):
        env.step(random_actions(env, rng))
        env.step(random_actions(env, rng))
        assert env.settled is not None
        assert not bool(env.settled.overload_wh.any()), "forecasts are exact by default"
        used, unserved = used + env.settled.used_wh, unserved + env.settled.unserved_wh
    assert torch.equal(used + unserved, wanted)
    assert bool((used > 0).all())
    with pytest.raises(IllegalTransitionError, match=r"step in state SETTLED; allowed is after reset"):
        env.step(random_actions(env, rng))


@pytest.mark.parametrize("first_step", [True, False])
def test_privacy(first_step: bool) -> None:
    """Whatever others do, a station sees only its quota, scarcity and the last price change (and what its own energy
    then is); after a declaration not even the price.
    """
    lanes, mine = 40, 1
    env, other = batched("default", lanes, auto_reset=False), batched("default", lanes, auto_reset=False)
    env.reset(6)
    other.reset(6)
    rng = np.random.default_rng(4)
    changed: set[str] = set()
    for index in range(2 * env.params.horizon_half_hours - 2):
        same = random_actions(env, rng)
        mixed = random_actions(env, rng)
        mixed[:, mine] = same[:, mine]
        if (index % 2 == 0) == first_step:  # others differ in one kind of step only
            one, two = env.step(same), other.step(mixed)
            differs = (one.observation[:, mine] != two.observation[:, mine]).any(0)
            changed |= {name for name, seen in zip(NAMES, differs.tolist(), strict=True) if seen}
            other.load_state_dict(env.state_dict())
        else:
            env.step(same)
            other.step(same)
    if first_step:
        assert changed == {"quota_wh", "short_value_utok_per_wh", "scarce"}
    else:
        follows = {"plugged", "remaining_wh", "urgent_wh", "elastic_wh", "declaration_limit_wh", "waiting_value"}
        allowed = follows | {"last_price_utok_per_wh", "urgent_value_utok_per_wh", "elastic_value_utok_per_wh"}
        assert changed <= allowed | {"soonest_departure", "later_tariff_utok_per_wh"}
        assert "last_price_utok_per_wh" in changed


def test_private_vehicles_stay_private() -> None:
    """Other stations' vehicles change nothing that a station sees before anybody acts."""
    env = batched("default", 30)
    shown = env.reset(2)[:, 0]
    state = env.state
    others = torch.arange(env.num_agents).view(1, -1, 1) > 0
    changed = state.with_changes(
        sessions=state.sessions._replace(value=state.sessions.value + 7 * others),
        remaining_wh=state.remaining_wh + 5_000 * others,
        situation=type(state.situation)(*(part + 9 * others[0] for part in state.situation)),
    )
    seen = observe(env.params, changed, observation_scales())[:, 0]
    assert torch.equal(seen, shown)
    assert not torch.equal(observe(env.params, changed, observation_scales())[:, 1], env.reset(2)[:, 1])


def test_the_observation_says_what_the_state_holds() -> None:
    """Every field, read back as the integer it was made from."""
    env = batched("default", 5)
    env.reset(8)
    rng = np.random.default_rng(0)
    for index in range(9):
        result = env.step(random_actions(env, rng))
        state, own = env.state, env.state.situation
        read = {
            item.name: (result.observation[:, :, at].to(torch.float64) / item.scale).round().to(torch.int64).T
            for at, item in enumerate(FIELDS)
        }
        now = state.half_hour
        assert bool((read["half_hour"] == now).all())
        assert bool((read["half_hours_left"] == 10 - now).all())
        assert bool((read["stage"] == (index + 1) % 2).all())
        assert torch.equal(read["margin_wh"], state.margin_wh[now].expand(4, -1))
        assert torch.equal(read["next_margin_wh"], state.margin_wh[now + 1].expand(4, -1))
        assert bool((read["tariff_utok_per_wh"] == state.tariff[now]).all())
        assert bool((read["next_tariff_utok_per_wh"] == state.tariff[now + 1]).all())
        assert torch.equal(read["last_price_utok_per_wh"], state.last_price.expand(4, -1))
        for name in ("urgent", "elastic", "remaining"):
            assert torch.equal(read[f"{name}_wh"], getattr(own, f"{name}_wh")), name
        assert torch.equal(read["plugged"], own.plugged)
        assert torch.equal(read["soonest_departure"], own.soonest)
        for lane in range(5):
            for station in range(4):
                ahead = int(own.soonest[station, lane])
                later = state.tariff[now + 1 : now + ahead].tolist() if ahead else []
                assert int(read["later_tariff_utok_per_wh"][station, lane]) == min(
                    later, default=int(state.tariff[now])
                )
        after = state.declared
        for name in ("declared_wh", "quota_wh"):
            expected = torch.zeros_like(own.plugged) if after is None else getattr(after, name)
            assert torch.equal(read[name], expected), name
        assert torch.equal(read["declaration_limit_wh"], 2 * own.possible_wh)
