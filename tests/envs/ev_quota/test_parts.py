"""Parameters, scenarios, actions and the sharing within a station, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gridmarl.envs.ev_quota.actions import action_spec, quantise
from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario, ev_scenario, recorded_ev_scenario
from gridmarl.envs.ev_quota.state import Sessions
from gridmarl.envs.ev_quota.vehicles import share_out, short_value, situation_at, unserved_wh
from gridmarl.errors import ConfigError, DataError
from gridmarl.scenarios.ev_days import EvDay
from gridmarl.scenarios.ev_load import make_conventional_load


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_stations": 0}, "num_stations: 0, allowed are 1 .. 10000"),
        ({"num_stations": 8.0}, "num_stations: 8.0, allowed is one int"),
        ({"horizon_half_hours": 49}, "horizon_half_hours: 49, allowed are 1 .. 48"),
        ({"auction": "english"}, "auction: 'english', allowed are pairwise, uniform, marginal_pair"),
        ({"floor_utok_per_wh": 7, "cap_utok_per_wh": 6}, "floor_utok_per_wh: 7, allowed is at most cap"),
        ({"penalty_rate_utok_per_wh": -1}, "penalty_rate_utok_per_wh: -1, allowed are integers 0"),
        ({"value_low_utok_per_wh": 500_000}, "value_low_utok_per_wh: 500000, allowed is at most value_high"),
        ({"declare_factor_permille": 999}, "declare_factor_permille: 999, allowed are 1000"),
        ({"deposit_budget_utok": -1}, "deposit_budget_utok: -1, allowed are 0 .. 1000000000000000000, or null"),
        ({"deposit_budget_utok": 1.5}, "deposit_budget_utok: 1.5, allowed is an integer or null"),
        ({"overuse": 1}, "overuse: 1, allowed is one bool"),
        ({"capacity": 1}, "capacity: unknown key, allowed are num_stations, "),
    ],
)
def test_bad_parameters(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        EVQuotaParams.from_dict(changes)


def test_parameters_survive_a_config_file() -> None:
    params = EVQuotaParams(num_stations=3, overuse=True, deposit_budget_utok=5)
    assert EVQuotaParams.from_dict(params.to_dict()) == params


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs: 0, allowed is 1 or more"),
        ({"ledger": "batch"}, "ledger: 'batch', allowed are off, accounts, sealed"),
        ({"scenario": ev_scenario(3)}, "num_stations: 8, but scenario .* has 3; allowed is the same number"),
    ],
)
def test_environments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        BatchedEVQuota(EVQuotaParams(), **arguments)
    with pytest.raises(ConfigError, match="call reset"):
        _ = BatchedEVQuota().state


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_stations": 0}, "num_stations: 0, allowed are integers from 1"),
        ({"public_stations": 9}, "public_stations: 9, allowed are integers 0 .. 8"),
        ({"conventional_peak_w": -1}, "peak_w = -1"),
        ({"sessions_per_day_permille": -1}, "sessions_per_day_permille"),
    ],
)
def test_bad_scenarios(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ev_scenario(**arguments)


def test_ledger_off_is_the_same_market_without_accounts() -> None:
    params = EVQuotaParams(horizon_half_hours=20)
    kept, bare = BatchedEVQuota(params, num_envs=2), BatchedEVQuota(params, num_envs=2, ledger="off")
    assert torch.equal(kept.reset(1), bare.reset(1))
    for index in range(45):
        one, two = kept.step(torch.ones(2, 8, 4)), bare.step(torch.ones(2, 8, 4))
        assert torch.equal(one.observation, two.observation)
        assert torch.equal(one.reward, two.reward)
        assert bare.settled is None
        if kept.settled is not None:
            assert torch.equal(kept.state.balances, kept.settled.balances), "accounts live on after an episode"
            assert kept.state.half_hour == (index + 1) // 2 % 20
    assert bool(kept.state.balances.any())
    assert not bool(bare.state.balances.any())


def test_recorded_days() -> None:
    """Each lane plays one of the days, whole; over many lanes every day."""
    days = 3
    number = torch.arange(days).view(1, 1, days).expand(2, 2, days)
    recorded = EvDay(
        arrival=number * 0 + 1,
        departure=number * 0 + 9,
        energy_wh=1_000 * (number + 1),
        max_power_w=number * 0 + 7_000,
        valid=number >= 0,
        day_type=torch.tensor([0, 1, 0]),
        cut_wh=number[0] * 0,
    )
    load = make_conventional_load(10_000)
    scenario = EVScenario("three days", "made up", recorded, load, 12)
    assert (scenario.num_stations, scenario.max_sessions, scenario.max_power_w) == (2, 2, 7_000)
    env = BatchedEVQuota(EVQuotaParams(num_stations=2, horizon_half_hours=12), scenario, num_envs=60)
    env.reset(0)
    energy = env.state.remaining_wh
    assert bool((energy == energy[0, 0]).all())
    assert set(energy[0, 0].tolist()) == {1_000, 2_000, 3_000}
    single = BatchedEVQuota(env.params, scenario, first_lane=17)
    single.reset(0)
    assert torch.equal(single.state.remaining_wh[..., 0], energy[..., 17])


def test_recorded_files(tmp_path: Path) -> None:
    """Sessions of a file, grouped into stations; a lane plays one of its days, from 06:00."""
    rows = [
        "2018-03-05 08:00,2018-03-05 10:00,10.0,1,1,22.0,a",
        "2018-03-05 09:00,2018-03-05 09:30,3.0,2,1,7.0,b",
        "2018-03-06 06:10,2018-03-06 20:00,7.0,2,1,7.0,b",
    ]
    path = tmp_path / "sessions.csv"
    path.write_text("\n".join(["arrival,departure,energy_kwh,charge_point,connector,rated_kw,site", *rows]) + "\n")
    scenario = recorded_ev_scenario(path, "2018-03-05", 2, 2)
    env = BatchedEVQuota(EVQuotaParams(num_stations=2), scenario, num_envs=40)
    env.reset(1)
    days = {tuple(map(tuple, env.state.remaining_wh[..., lane].T.tolist())) for lane in range(40)}
    assert days == {((10_000,), (3_000,)), ((0,), (7_000,))}
    first = env.state.sessions.departure[:, 0].amax(0) > 0  # lanes that play the first day
    assert set(env.state.sessions.arrival[0, 0, first].tolist()) == {4}
    with pytest.raises(DataError, match="first_day"):
        recorded_ev_scenario(path, "2019-03-05", 2, 2)


def test_grid_and_levels() -> None:
    params = EVQuotaParams(
        action_space="discrete", declare_levels=2, trade_levels=3, price_levels=1, charge_levels=2, overuse=True
    )
    spec = action_spec(params)
    assert spec.names == ("declare", "trade", "price", "charge_overuse")
    assert spec.grid is not None
    assert spec.grid.tolist() == [
        [-1, -1, 0, -1], [1, -1, 0, 1], [-1, 0, 0, -1], [1, 0, 0, 1], [-1, 1, 0, -1], [1, 1, 0, 1],
    ]  # fmt: skip
    levels, clamped = quantise(spec, torch.tensor([[0, 5], [-1, 6]]))
    assert clamped.tolist() == [0, 2]
    assert levels.trade.tolist() == [[0, 0], [65_536, 65_536]]
    assert levels.price.tolist() == [[32_768, 32_768], [32_768, 32_768]]


def cars(*rows: tuple[int, int, int, int]) -> Sessions:
    """One station, one lane; rows of arrival, departure, power, value, in order of departure."""
    return Sessions(*(torch.tensor(column).view(-1, 1, 1) for column in zip(*rows, strict=True)))


def column(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1)


SESSIONS = cars((0, 3, 2_000, 50), (2, 3, 2_000, 90), (0, 4, 4_000, 20), (3, 9, 4_000, 10), (0, 9, 1_000, 70))
LEFT = column(700, 1_000, 3_500, 8_000, 400)


def test_what_a_station_sees() -> None:
    """In half hour 2 the first two are urgent, the third has 1,500 Wh that no longer fit later, the fourth is away."""
    seen = situation_at(SESSIONS, LEFT, 2)
    assert int(seen.urgent_wh) == 700 + 1_000 + 1_500
    assert int(seen.elastic_wh) == 500 + 400
    assert int(seen.remaining_wh) == 5_600
    assert (int(seen.plugged), int(seen.soonest)) == (4, 1)
    assert int(seen.urgent_value) == (700 * 50 + 1_000 * 90 + 1_500 * 20) // 3_200
    assert int(seen.elastic_value) == (500 * 20 + 400 * 70) // 900
    empty = situation_at(SESSIONS, LEFT * 0, 2)
    assert all(int(part) == 0 for part in empty)


@pytest.mark.parametrize(
    ("energy", "shares"),
    [
        (0, (0, 0, 0, 0, 0)),
        (699, (699, 0, 0, 0, 0)),
        (1_800, (700, 1_000, 100, 0, 0)),
        (3_200, (700, 1_000, 1_500, 0, 0)),
        (3_600, (700, 1_000, 1_900, 0, 0)),
        (3_800, (700, 1_000, 2_000, 0, 100)),
        (4_100, (700, 1_000, 2_000, 0, 400)),
    ],
)
def test_least_laxity_first(energy: int, shares: tuple[int, ...]) -> None:
    assert share_out(SESSIONS, LEFT, 2, torch.tensor([[energy]])).flatten().tolist() == list(shares)


@pytest.mark.parametrize(("quota", "value"), [(0, 20), (700, 20), (1_700, 20), (3_199, 20), (3_200, 0), (9_999, 0)])
def test_worth_of_what_is_short(quota: int, value: int) -> None:
    assert int(short_value(SESSIONS, LEFT, 2, torch.tensor([[quota]]))) == value


def test_worth_of_what_is_short_follows_the_order() -> None:
    rising = cars((0, 1, 2_000, 10), (0, 1, 2_000, 30))
    assert [int(short_value(rising, column(500, 500), 0, torch.tensor([[q]]))) for q in (499, 500)] == [10, 30]


def test_who_leaves_and_who_could_still_be_served() -> None:
    after = column(1, 0, 2_001, 8_000, 3_600)
    assert unserved_wh(SESSIONS, after, 2, last=False).flatten().tolist() == [1, 0, 0, 0, 0]
    # third: one more half hour of 2,000; fourth has not arrived; fifth: six more of 500
    assert unserved_wh(SESSIONS, after, 2, last=True).flatten().tolist() == [1, 0, 1, 0, 600]
