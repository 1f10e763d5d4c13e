"""The conventional load: shape, scale, draws and bounds."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.errors import ConfigError
from gridmarl.random import lane_keys
from gridmarl.scenarios.ev_days import draw_day_type
from gridmarl.scenarios.ev_load import capacity_margin_w, draw_load_day, make_conventional_load
from gridmarl.scenarios.scenario import default_scenario, toy_scenario

LANES = 4000


def test_half_hours_by_hand() -> None:
    """Load 4, 8, 0 ... 0 Wh, peak 28 W = 4 x (3 x 8 + 4) / 4 ... : weights (3 L + neighbour), scaled by 1."""
    toy = toy_scenario([1] * 24, [[4], [8], *[[0]] * 22])
    load = make_conventional_load(28, start_slot=0, scenario=toy)
    assert load.expected_w[0].tolist() == [12, 20, 28, 24, 8, *[0] * 42, 4]
    assert load.expected_w.shape == (8, 48)
    assert load.season_days.tolist() == [[1, 2, 3, 4]] * 2
    later = make_conventional_load(28, start_slot=2, scenario=toy)
    assert later.expected_w[5].tolist() == [28, 24, 8, *[0] * 42, 4, 12, 20]


def test_packaged_shape() -> None:
    load = make_conventional_load(600_000)
    assert int(load.expected_w.max()) == load.peak_w == 600_000
    assert int(load.expected_w.min()) > 60_000
    hourly = default_scenario().load_wh.sum(dim=2).double()
    shares = load.expected_w.double().sum(dim=1) / load.expected_w.double().sum()
    torch.testing.assert_close(shares, hourly.sum(dim=1) / hourly.sum(), atol=1e-6, rtol=0.0)


def test_draws_follow_the_tables() -> None:
    load = make_conventional_load(600_000, variation_permille=50, forecast_error_permille=20)
    keys = lane_keys(3, LANES)
    day_type = draw_day_type(keys)
    day = draw_load_day(load, keys, day_type)
    assert day.actual_w.dtype == day.forecast_w.dtype == torch.int64
    assert day.actual_w.shape == day.forecast_w.shape == (48, LANES)
    days = load.season_days.diff(prepend=torch.zeros(2, 1, dtype=torch.int64), dim=1).double()
    for kind in (0, 1):
        seen = torch.bincount(day.season[day_type == kind], minlength=4).double()
        due = days[kind] / days[kind].sum() * seen.sum()
        assert float(((seen - due).square() / due).sum()) < 21.1  # 99.99 % quantile, 3 degrees
    expected = load.expected_w[day.season * 2 + day_type].t().double()
    for ratio, deviation in ((day.actual_w / expected, 0.05), (day.forecast_w / day.actual_w, 0.02)):
        number = ratio.numel()
        assert abs(float(ratio.mean()) - 1) < 4 * deviation / number**0.5 + 1e-5  # 1e-5: floors of watts
        assert abs(float(ratio.std()) / deviation - 1) < 0.02
    errors = torch.stack((day.actual_w / expected, day.forecast_w / day.actual_w)).flatten(1)
    assert abs(float(torch.corrcoef(errors)[0, 1])) < 0.01


def test_perfect_forecast_and_no_variation() -> None:
    load = make_conventional_load(600_000, variation_permille=0, forecast_error_permille=0)
    keys = lane_keys(3, 5)
    day_type = draw_day_type(keys)
    day = draw_load_day(load, keys, day_type)
    assert torch.equal(day.forecast_w, day.actual_w)
    assert torch.equal(day.actual_w, load.expected_w[day.season * 2 + day_type].t())


def test_a_lane_is_the_same_alone_and_days_differ() -> None:
    load = make_conventional_load(600_000)
    keys = lane_keys(11, 6)
    day_type = draw_day_type(keys)
    for day in (0, 1, torch.tensor([4, 5, 6, 7, 8, 9])):
        batch = draw_load_day(load, keys, day_type, day=day)
        for lane in (0, 5):
            single = lane_keys(11, 1, first_lane=lane)
            its_day = day if isinstance(day, int) else int(day[lane])
            alone = draw_load_day(load, single, day_type[lane : lane + 1], day=its_day)
            for one, many in zip(alone, batch, strict=True):
                assert torch.equal(one, many[..., lane : lane + 1])
    assert not torch.equal(
        draw_load_day(load, keys, day_type).actual_w, draw_load_day(load, keys, day_type, day=1).actual_w
    )


def test_margin() -> None:
    assert capacity_margin_w(100, torch.tensor([0, 60, 100, 140])).tolist() == [100, 40, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peak_w": -1}, "peak_w = -1: allowed are integers 0"),
        ({"peak_w": 1.5}, r"peak_w = 1\.5"),
        ({"variation_permille": 301}, r"variation_permille = 301: allowed are integers 0 \.\. 300"),
        ({"forecast_error_permille": True}, "forecast_error_permille = True"),
        ({"start_slot": 48}, r"start_slot = 48: allowed are integers 0 \.\. 47"),
        ({"scenario": toy_scenario([1], [[1]])}, "1 day kinds and 1 hours"),
        ({"scenario": toy_scenario([1] * 24, [[0]] * 24)}, "at most 0 Wh"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_conventional_load(**({"peak_w": 1000} | change))  # type: ignore[arg-type]


def test_runs_on_fake_cuda_tensors() -> None:
    load = make_conventional_load(1000)
    with FakeTensorMode(allow_non_fake_inputs=True):
        keys = torch.zeros(2, 4, dtype=torch.int64, device="cuda:0")
        day = draw_load_day(load.to("cuda:0"), keys, draw_day_type(keys))
        assert {part.device.type for part in day} == {"cuda"}
        assert capacity_margin_w(5, day.forecast_w).shape == (48, 4)
