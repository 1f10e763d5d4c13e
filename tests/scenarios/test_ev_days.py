"""The generator of EV sessions: same bits everywhere, what its tables say, and what the files say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chi2, poisson
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.errors import ConfigError
from gridmarl.random import Purpose, draw, lane_keys
from gridmarl.scenarios import ev_days
from gridmarl.scenarios.ev_compare import arrival_distance, at_once_w, beside, describe, main
from gridmarl.scenarios.ev_days import (
    EvDay,
    draw_ev_day,
    least_max_sessions,
    make_ev_stations,
    poisson_weights,
)
from gridmarl.scenarios.ev_files import load_sessions
from gridmarl.scenarios.ev_tables import EvTables, default_ev_tables

LANES = 400
MIXED = ("public", "residential", "public")


def one_pair(**change: Any) -> dict[str, EvTables]:
    """Sessions that all arrive at 10:00 for 3 hours, take 20 kWh at 7 kW."""
    arrivals = tuple(int(slot == 20) for slot in range(48))
    table = EvTables(
        kind="x",
        attribution="made up",
        sessions_per_day_permille=1000,
        arrivals=(arrivals, arrivals),
        day_factor_permille=(1000, 1000),
        power_w=(7000,),
        class_weight=((1,),) * 8,
        stay=(((6,),) * 8,),
        energy_wh=(((20_000,),) * 8,),
    )
    return {"x": dataclasses.replace(table, **change)}


def sessions_of(day: EvDay) -> set[tuple[int, ...]]:
    return set(zip(*(part[day.valid].tolist() for part in day[:4]), strict=True))


# --- same bits


def test_a_lane_is_the_same_alone() -> None:
    stations = make_ev_stations(MIXED, 8000)
    for day in (0, 3, torch.tensor([5, 6, 7, 8, 9])):
        batch = draw_ev_day(stations, lane_keys(2**40 + 7, 5), day=day)
        for lane in range(5):
            its_day = day if isinstance(day, int) else int(day[lane])
            alone = draw_ev_day(stations, lane_keys(2**40 + 7, 1, first_lane=lane), day=its_day)
            for one, many in zip(alone, batch, strict=True):
                assert torch.equal(one, many[..., lane : lane + 1])
                assert one.dtype == (torch.bool if one is alone.valid else torch.int64)


def test_fewer_stations_and_more_sessions_change_no_draw() -> None:
    keys = lane_keys(4, 50)
    whole = draw_ev_day(make_ev_stations(MIXED, 8000, max_sessions=40), keys)
    fewer = draw_ev_day(make_ev_stations(MIXED[:2], 8000, max_sessions=40), keys)
    for few, many in zip(fewer[:5], whole[:5], strict=True):
        assert torch.equal(few, many[:, :2])
    longer = draw_ev_day(make_ev_stations(MIXED, 8000, max_sessions=60), keys)
    both = whole.valid & longer.valid[:40]
    assert int(both.sum()) > 0.99 * int(whole.valid.sum())
    for part in ("arrival", "departure", "energy_wh", "max_power_w"):
        assert torch.equal(getattr(whole, part)[both], getattr(longer, part)[:40][both])


def test_each_station_draws_from_its_own_kind() -> None:
    keys = lane_keys(4, 50)
    mixed = draw_ev_day(make_ev_stations(("public", "residential"), 8000, max_sessions=40), keys)
    for station, kind in enumerate(("public", "residential")):
        alone = draw_ev_day(make_ev_stations((kind, kind), 8000, max_sessions=40), keys)
        for one, many in zip(alone[:5], mixed[:5], strict=True):
            assert torch.equal(one[:, station], many[:, station])
        assert set(alone.max_power_w[alone.valid].tolist()) == set(default_ev_tables()[kind].power_w)


def test_days_seeds_and_stations_differ() -> None:
    stations = make_ev_stations(("public", "public"), 8000)
    first = draw_ev_day(stations, lane_keys(4, 50))
    for other in (draw_ev_day(stations, lane_keys(4, 50), day=1), draw_ev_day(stations, lane_keys(5, 50))):
        assert float((first.arrival == other.arrival)[first.valid & other.valid].double().mean()) < 0.1
    pair = first.valid[:, 0] & first.valid[:, 1]
    assert float((first.arrival[:, 0] == first.arrival[:, 1])[pair].double().mean()) < 0.1


def test_words_are_those_of_draw() -> None:
    keys = lane_keys(9, 6)
    words = ev_days._session_words(keys, 2, 3, 4)
    for m in range(4):
        due = draw(keys, 2, Purpose.EV_SESSION, 3, index=m)
        assert all(torch.equal(words[i][m], due[i]) for i in range(3))


def test_known_day() -> None:
    """Tables and streams stay as they are: the sessions of a residential station in three lanes, to the Wh."""
    day = draw_ev_day(make_ev_stations(("residential",), 3000), lane_keys(1, 3))
    assert day.valid.sum(dim=(0, 1)).tolist() == [2, 2, 1]
    assert sorted(sessions_of(day)) == [
        (19, 21, 2515, 3680),
        (24, 26, 2278, 3680),
        (25, 27, 3446, 3680),
        (27, 48, 4789, 3680),
        (34, 48, 39787, 7360),
    ]


def test_runs_on_fake_cuda_tensors() -> None:
    stations = make_ev_stations(MIXED, 2000, max_sessions=9)
    with FakeTensorMode(allow_non_fake_inputs=True):
        moved = stations.to("cuda:0")
        keys = torch.zeros(2, 4, dtype=torch.int64, device="cuda:0")
        for day in (0, torch.zeros(4, dtype=torch.int64, device="cuda:0")):
            drawn = draw_ev_day(moved, keys, day=day)
            assert {part.device.type for part in drawn} == {"cuda"}
            assert drawn.arrival.shape == (9, 3, 4)


# --- what the tables say


def test_one_kind_of_session() -> None:
    stations = make_ev_stations(["x"], 5000, tables=one_pair())
    day = draw_ev_day(stations, lane_keys(1, LANES))
    assert sessions_of(day) == {(8, 14, 20_000, 7000)}
    assert not day.cut_wh.any()
    for part in day[:4]:
        assert not part[~day.valid].any()
    assert stations.max_sessions == day.valid.size(0) == least_max_sessions(5000)


def test_the_end_of_the_day_cuts() -> None:
    """10:00 is 1 half hour before the end if the day begins at 10:30: 3.5 kWh of 20 fit."""
    day = draw_ev_day(make_ev_stations(["x"], 5000, tables=one_pair(), start_slot=21), lane_keys(1, LANES))
    assert sessions_of(day) == {(47, 48, 3500, 7000)}
    assert torch.equal(day.cut_wh, 16_500 * day.valid.sum(dim=0))
    whole = draw_ev_day(make_ev_stations(["x"], 5000, tables=one_pair(), start_slot=20), lane_keys(1, LANES))
    assert sessions_of(whole) == {(0, 6, 20_000, 7000)}


def test_every_session_is_feasible() -> None:
    for start in (0, 12, 30):
        day = draw_ev_day(make_ev_stations(MIXED, 20_000, start_slot=start), lane_keys(8, LANES))
        for part in day[:4]:
            assert not part[~day.valid].any()
        arrival, departure, energy, power = (part[day.valid] for part in day[:4])
        assert ((arrival >= 0) & (arrival < departure) & (departure <= 48)).all()
        assert ((energy > 0) & (energy <= power // 2 * (departure - arrival))).all()


def goodness(seen: Tensor, weights: Tensor) -> float:
    """Chi-squared statistic over its 99.99 % quantile; bins that expect fewer than 5 are put together."""
    due = weights.double() / weights.sum() * seen.sum()
    rare = due < 5
    seen, due = (torch.cat((x[~rare], x[rare].sum().view(1))) for x in (seen.double(), due))
    kept = due > 0
    return float(((seen - due).square() / due)[kept].sum()) / chi2.ppf(0.9999, int(kept.sum()) - 1)


@pytest.mark.parametrize("kind", ["public", "residential"])
def test_draws_follow_the_tables(kind: str) -> None:
    """Number of sessions, arrivals by type of day, power class by block: chi-squared below its 99.99 % quantile."""
    table = default_ev_tables()[kind]
    day = draw_ev_day(make_ev_stations([kind], 12_000), lane_keys(21, 6000))
    number = day.valid.sum(dim=(0, 1))
    clock = (day.arrival + 12) % 48
    for day_type in (0, 1):
        rate = 12_000 * table.day_factor_permille[day_type] // 1000
        counts = torch.bincount(number[day.day_type == day_type], minlength=day.valid.size(0) + 1)
        assert goodness(counts, torch.tensor(poisson.pmf(range(day.valid.size(0) + 1), rate / 1000))) < 1
        here = day.valid & (day.day_type == day_type)
        assert goodness(torch.bincount(clock[here], minlength=48), torch.tensor(table.arrivals[day_type])) < 1
    powers = torch.tensor(table.power_w)
    for block in range(8):
        here = day.valid & (clock // 6 == block)
        seen = (day.max_power_w[here][:, None] == powers).sum(dim=0)
        assert int(seen.sum()) == int(here.sum())
        assert goodness(seen, torch.tensor(table.class_weight[block])) < 1
    assert abs(float(day.day_type.double().mean()) - 2 / 7) < 4 * (10 / 49 / 6000) ** 0.5


def test_mean_number_of_sessions_is_the_stated_one() -> None:
    """Over the days of a week; at most 0.1 % is lost by the bound on sessions, and four standard errors are allowed."""
    rates = [500, 3000, 40_000]
    day = draw_ev_day(make_ev_stations(MIXED, rates), lane_keys(3, 6000))
    number = day.valid.sum(dim=0).double()
    for station, rate in enumerate(rates):
        error = float(number[station].var() / 6000) ** 0.5
        assert abs(float(number[station].mean()) - rate / 1000) < 4 * error + 0.002 * rate / 1000
    given = torch.ones(6000, dtype=torch.int64)
    weekend = draw_ev_day(make_ev_stations(["public"], 40_000), lane_keys(3, 6000), day_type=given)
    assert torch.equal(weekend.day_type, given)
    factor = default_ev_tables()["public"].day_factor_permille[1]
    assert abs(float(weekend.valid.sum(dim=(0, 1)).double().mean()) / (40 * factor / 1000) - 1) < 0.01


def test_poisson_weights() -> None:
    for mean, most in ((0, 3), (1, 5), (700, 20), (12_000, 40), (500_000, 700)):
        weights = poisson_weights(mean, most)
        law = poisson.pmf(range(most + 1), mean / 1000)
        total = sum(weights)
        assert 2**30 - most - 1 <= total <= 2**30
        assert max(abs(w / total - p / law.sum()) for w, p in zip(weights, law, strict=True)) < 1e-8
    for mean in (1, 700, 12_000, 500_000):
        m = least_max_sessions(mean)
        assert poisson.cdf(m - 1, mean / 1000) / poisson.cdf(m, mean / 1000) >= 0.999 - 1e-12
        assert m == 1 or poisson.cdf(m - 2, mean / 1000) / poisson.cdf(m - 1, mean / 1000) < 0.999


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], 1000), {}, r"kinds = \[\]: allowed are one or more of public, residential"),
        ((["moon"], 1000), {}, r"kinds = \['moon'\]"),
        ((["public"], -1), {}, r"sessions_per_day_permille\[0\] = -1: allowed are integers 0 \.\. 500000"),
        ((["public"], [1, 500_001]), {}, "2 entries: allowed are one, or 1"),
        ((["public", "public"], [1, 500_001]), {}, r"\[1\] = 500001"),
        ((["public"], 1.5), {}, r"\[0\] = 1\.5: allowed are integers"),
        ((["public"], 12_000), {"max_sessions": 10}, r"max_sessions = 10: allowed are integers 25 \.\. 1024"),
        ((["public"], 12_000), {"max_sessions": 1025}, "max_sessions = 1025"),
        ((["public"], 12_000), {"start_slot": 48}, r"start_slot = 48: allowed are integers 0 \.\. 47"),
        ((["public"], 12_000), {"start_slot": True}, "start_slot = True"),
    ],
)
def test_bad_arguments(arguments: tuple[Any, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_ev_stations(*arguments, **options)


# --- what the files say


def test_charging_at_once_by_hand() -> None:
    day = draw_ev_day(make_ev_stations(["x"], 5000, tables=one_pair()), lane_keys(1, 20))
    load = at_once_w(day)
    cars = day.valid.sum(dim=0)
    for slot, power in enumerate([0] * 8 + [7000] * 5 + [5000] + [0] * 34):
        assert torch.equal(load[slot], power * cars)


@pytest.mark.parametrize(
    ("name", "first_day", "days"),
    [
        ("dundee_sessions_13weeks_20180305_20180603.csv.gz", "2018-03-05", 91),
        ("norway_apartments_sessions_201812_202001.csv.gz", "2018-12-21", 406),
    ],
)
def test_generator_beside_the_file(real_data: Path, name: str, first_day: str, days: int) -> None:
    """Bounds: for what is drawn from the file's own counts, four standard errors of both samples; for what the bins of
    stay and energy smooth (32 pairs per cell), the resolution of the bins: half an hour, a tenth of the energy."""
    recorded, drawn = beside(load_sessions(real_data / "ev" / name), first_day, days, 1500, 1)
    left, right = describe(recorded), describe(drawn)
    samples = [int(day.valid.sum()) for day in (recorded, drawn)]
    inverse = 1 / samples[0] + 1 / samples[1]
    assert arrival_distance(recorded, drawn) < 2.23 * inverse**0.5  # Kolmogorov-Smirnov, 99.99 %
    for figure, part in (("energy, mean kWh", recorded.energy_wh), ("maximum power, mean kW", recorded.max_power_w)):
        deviation = float(part[recorded.valid].double().std()) / 1000
        assert abs(left[figure] - right[figure]) < 4 * deviation * inverse**0.5, figure
    stay = (recorded.departure - recorded.arrival)[recorded.valid].double() / 2
    assert abs(left["stay, mean h"] - right["stay, mean h"]) < 4 * float(stay.std()) * inverse**0.5
    for permille in (10, 25, 50):
        assert abs(left[f"stay, {permille} % quantile h"] - right[f"stay, {permille} % quantile h"]) <= 0.5
    for permille in (25, 50, 75, 90):
        figure = f"energy, {permille} % quantile kWh"
        assert abs(right[figure] / left[figure] - 1) < 0.1, figure
    figure = "charging at once: daily peak, mean kW"
    assert abs(right[figure] / left[figure] - 1) < 0.12


def test_comparison_command(real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(real_data / "ev" / "dundee_sessions_13weeks_20180305_20180603.csv.gz")
    window = ["--first-day", "2018-03-05", "--days", "14", "--lanes", "20"]
    assert main(["--sessions", file, *window]) == 0
    assert "| public, 14 days from 2018-03-05 | recorded | generator |" in capsys.readouterr().out
    assert main(["--sessions", str(tmp_path / "absent.csv"), *window]) == 2
    assert "absent.csv" in capsys.readouterr().err
