"""Draws per lane: exact integers, the tables' frequencies, and lane i of a batch = a single run of lane i."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.errors import DataError
from gridmarl.random import Purpose, below, draw, lane_keys
from gridmarl.scenarios.scenario import HourConditions, Scenario, conditions, default_scenario, draw_lanes, toy_scenario

LANES = 4000


def rank_correlation(one: Tensor, two: Tensor) -> float:
    return float(pd.Series(one.flatten().numpy()).rank().corr(pd.Series(two.flatten().numpy()).rank()))


def hour_of(
    scenario: Scenario, keys: Tensor, hour: int, homes: int, scale: int = 3000, error: int = 250
) -> HourConditions:
    draws = draw_lanes(scenario, keys, 48)
    return conditions(scenario, draws, keys, hour, homes, pv_scale_permille=scale, forecast_error_permille=error)


def test_shapes_and_types() -> None:
    scenario, keys = default_scenario(), lane_keys(1, 5)
    draws = draw_lanes(scenario, keys, 30)
    assert draws.wholesale_utok_per_wh.shape == (30, 5)
    assert draws.kind.shape == (5,)
    assert draws.pv_ratio_permille.shape == (2, 5)
    hour = conditions(scenario, draws, keys, 12, 17, pv_scale_permille=1000, forecast_error_permille=100)
    for tensor in (*draws, *hour):
        assert tensor.dtype == torch.int64
    assert {tensor.shape for tensor in hour} == {(17, 5)}


@pytest.mark.parametrize("persistence", [True, False])
def test_lane_of_a_batch_is_a_single_run(persistence: bool) -> None:
    scenario = default_scenario(persistence=persistence)
    batch = lane_keys(11, 9)
    drawn = draw_lanes(scenario, batch, 48)
    for lane in (0, 4, 8):
        keys = lane_keys(11, 1, first_lane=lane)
        alone = draw_lanes(scenario, keys, 48)
        for one, many in zip(alone, drawn, strict=True):
            assert torch.equal(one[..., 0], many[..., lane])
        for hour in (0, 12, 47):
            single, together = hour_of(scenario, keys, hour, 30), hour_of(scenario, batch, hour, 30)
            for one, many in zip(single, together, strict=True):
                assert torch.equal(one[:, 0], many[:, lane])


def test_horizon_and_number_of_prosumers_change_no_draw() -> None:
    scenario, keys = default_scenario(), lane_keys(2, 6)
    short, long = draw_lanes(scenario, keys, 7), draw_lanes(scenario, keys, 90)
    assert torch.equal(short.wholesale_utok_per_wh, long.wholesale_utok_per_wh[:7])
    assert torch.equal(short.pv_ratio_permille, long.pv_ratio_permille[:1])
    assert torch.equal(short.kind, long.kind)
    few, many = hour_of(scenario, keys, 13, 3), hour_of(scenario, keys, 13, 29)
    for one, two in zip(few, many, strict=True):
        assert torch.equal(one, two[:3])


def test_second_round_over_the_homes_draws_its_own_ratios() -> None:
    scenario, keys = default_scenario(), lane_keys(2, 200)
    load = hour_of(scenario, keys, 13, 24).load_wh
    assert (load[:12] != load[12:]).float().mean() > 0.9
    generation = hour_of(scenario, keys, 13, 24).generation_wh
    assert torch.equal(generation[:12], generation[12:])  # the weather is common


def test_conditions_against_plain_integers() -> None:
    """Every formula of the docstring, entry by entry in Python integers."""
    scenario, keys = default_scenario(), lane_keys(5, 3)
    draws = draw_lanes(scenario, keys, 48)
    assert len(set(draws.kind.tolist())) > 1
    for hour in (9, 12, 36):
        found = conditions(scenario, draws, keys, hour, 14, pv_scale_permille=3001, forecast_error_permille=777)
        words = draw(keys, hour, Purpose.LOAD, 14)
        for p in range(14):
            for lane in range(3):
                kind = int(draws.kind[lane])
                base = int(scenario.load_wh[kind, hour % 24, p % 12])
                pv = int(scenario.pv_wh[kind, hour % 24, p % 12])
                ratio = int(scenario.load_ratio_permille[int(below(words[0, p, lane], 64))])
                unit = int(scenario.forecast_error_permille[int(below(words[1, p, lane], 64))])
                generation = (pv * 3001 // 1000) * int(draws.pv_ratio_permille[hour // 24, lane]) // 1000
                forecast = max(0, generation * (1000 + unit * 777 // 1000) // 1000)
                assert int(found.load_wh[p, lane]) == base * ratio // 1000
                assert int(found.generation_wh[p, lane]) == generation
                assert int(found.forecast_wh[p, lane]) == forecast


def test_no_error_is_a_perfect_forecast_and_night_is_dark() -> None:
    scenario, keys = default_scenario(), lane_keys(5, 50)
    noon = hour_of(scenario, keys, 12, 12, error=0)
    assert torch.equal(noon.forecast_wh, noon.generation_wh)
    assert (noon.generation_wh > 0).any()
    assert torch.equal(noon.load_wh, hour_of(scenario, keys, 12, 12, error=250).load_wh)
    night = hour_of(scenario, keys, 23, 12, scale=1000, error=900)
    dark = night.generation_wh == 0
    assert (night.forecast_wh[dark] == 0).all()
    assert (hour_of(scenario, keys, 12, 12, error=2000).forecast_wh == 0).any()


def test_forecast_errors_have_the_size_that_was_asked_for() -> None:
    table = default_scenario().forecast_error_permille
    assert torch.equal(table, -table.flip(0))
    assert 995 <= float(table.double().square().mean().sqrt()) <= 1005
    scenario = toy_scenario([1], [[1] * 4], [[1_000_000] * 4], forecast_error_permille=table.tolist())
    keys = lane_keys(3, LANES)
    drawn = draw_lanes(scenario, keys, 1)
    hour = conditions(scenario, drawn, keys, 0, 4, pv_scale_permille=1000, forecast_error_permille=200)
    error = hour.forecast_wh.double() / 1e6 - 1
    assert abs(float(error.mean())) < 0.005
    assert 0.196 < float(error.std()) < 0.204


def test_price_frequencies() -> None:
    """The bins of every hour come up in proportion to history: chi-squared below the 99.99 % quantile (9 degrees)."""
    for persistence in (True, False):
        scenario = default_scenario(persistence=persistence)
        weights = default_scenario(persistence=False).price_next_cum[:, 0, :].diff(dim=-1, prepend=torch.zeros(24, 1))
        prices = draw_lanes(scenario, lane_keys(17, LANES), 24).wholesale_utok_per_wh
        for hour in range(24):
            values = scenario.price_value[hour]
            seen = (prices[hour][None, :] == values[:, None]).sum(dim=1).double()
            due = weights[hour].double() / weights[hour].sum() * LANES
            assert seen.sum() == LANES
            if hour == 0 or not persistence:
                assert float(((seen - due).square() / due)[due > 0].sum()) < 33.8
            else:  # the chain starts from the wheel of hour 0 and forgets the end of history's last day
                assert float((seen / LANES - due / LANES).abs().sum()) < 0.1


def test_persistence_follows_the_transition_counts() -> None:
    """Given the bin at hour 6, the share of bins at hour 7 is the row of history (three standard errors)."""
    scenario = default_scenario()
    prices = draw_lanes(scenario, lane_keys(23, 5 * LANES), 8).wholesale_utok_per_wh
    before = (prices[6][None, :] == scenario.price_value[6][:, None]).long().argmax(dim=0)
    for j in (3, 4, 5, 6):
        inside = prices[7][before == j]
        row = scenario.price_next_cum[7, j].double()
        share = row.diff(prepend=torch.zeros(1)) / row[-1]
        seen = (inside[None, :] == scenario.price_value[7][:, None]).double().mean(dim=1)
        assert ((seen - share).abs() <= 3.5 * (share * (1 - share) / len(inside)).sqrt() + 1e-9).all()


def test_persistence_of_prices() -> None:
    """History's lag-1 rank correlation is 0.869; its mean shape over the day alone explains about a quarter of that."""
    keys = lane_keys(29, LANES)
    persistent = draw_lanes(default_scenario(), keys, 48).wholesale_utok_per_wh
    independent = draw_lanes(default_scenario(persistence=False), keys, 48).wholesale_utok_per_wh
    assert 0.82 < rank_correlation(persistent[:-1], persistent[1:]) < 0.90
    # Shuffling the lanes of every hour leaves what the hour of day alone explains.
    shuffled = torch.stack([row.roll(31 * hour) for hour, row in enumerate(persistent)])
    hour_only = rank_correlation(shuffled[:-1], shuffled[1:])
    assert abs(rank_correlation(independent[:-1], independent[1:]) - hour_only) < 0.02
    assert hour_only < 0.35


def test_day_kinds_and_weather() -> None:
    scenario = default_scenario()
    draws = draw_lanes(scenario, lane_keys(31, LANES), 24)
    days = scenario.kind_cum.diff(prepend=torch.zeros(1, dtype=torch.int64)).double()
    due = days / days.sum() * LANES
    seen = torch.bincount(draws.kind, minlength=8).double()
    assert float(((seen - due).square() / due).sum()) < 31.8  # 99.99 %, 7 degrees
    assert set(draws.pv_ratio_permille.flatten().tolist()) == set(scenario.pv_ratio_permille.tolist())
    assert abs(float(draws.pv_ratio_permille.double().mean()) - 1000) < 20


def test_fixed_prices_do_not_draw() -> None:
    scenario = toy_scenario([5, -7], [[10, 20], [30, 40]], [[0, 1], [2, 0]])
    keys = lane_keys(1, 3)
    draws = draw_lanes(scenario, keys, 5)
    assert draws.wholesale_utok_per_wh.tolist() == [[5] * 3, [-7] * 3, [5] * 3, [-7] * 3, [5] * 3]
    hour = conditions(scenario, draws, keys, 3, 5, pv_scale_permille=2000, forecast_error_permille=0)
    assert hour.load_wh[:, 0].tolist() == [30, 40, 30, 40, 30]
    assert hour.generation_wh[:, 2].tolist() == [4, 0, 4, 0, 4]


def test_horizon_bounds() -> None:
    scenario = default_scenario()
    with pytest.raises(DataError, match="horizon_hours = 0"):
        draw_lanes(scenario, lane_keys(1, 1), 0)
    window = dataclasses.replace(scenario, periodic=False)
    draw_lanes(window, lane_keys(1, 1), 24)
    with pytest.raises(DataError, match=r"horizon_hours = 25.*1 \.\. 24"):
        draw_lanes(window, lane_keys(1, 1), 25)


@pytest.mark.parametrize("error", [0, 100])
def test_runs_on_fake_cuda_tensors(error: int) -> None:
    """No hidden transfer to the host and no mixed devices."""
    scenario = default_scenario()
    tables = {name: value for name, value in vars(scenario).items() if isinstance(value, Tensor)}
    with FakeTensorMode() as mode:
        scenario = dataclasses.replace(scenario, **{name: mode.from_tensor(value) for name, value in tables.items()})
        keys = torch.zeros(2, 4, dtype=torch.int64, device="cuda:0")
        moved = scenario.to("cuda:0")
        draws = draw_lanes(moved, keys, 30)
        hour = conditions(moved, draws, keys, 25, 14, pv_scale_permille=1000, forecast_error_permille=error)
        assert {tensor.device.type for tensor in (*draws, *hour)} == {"cuda"}
        assert hour.load_wh.shape == (14, 4)
