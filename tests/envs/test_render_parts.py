"""What frames are made of: market curves for any axes, panels, screens, numbers as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from gridmarl.envs.rendering.curves import MarketHour, draw_market, merit_order
from gridmarl.envs.rendering.panels import draw_balances, draw_load, draw_prices
from gridmarl.envs.rendering.screen import Screen, new_figure, pixels
from gridmarl.envs.rendering.text import number, sparkline, wrap
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.render import MarketView, market_hour
from gridmarl.errors import ConfigError


def lanes_after(hours: int, **params: Any) -> tuple[BatchedTwoStageDR, MarketView]:
    """Three lanes after some hours of random bids, and a view that follows lane 2."""
    market = BatchedTwoStageDR(TwoStageDRParams(horizon_hours=24, **params), num_envs=3, auto_reset=False)
    market.reset(5)
    view = MarketView(market.params, lane=2)
    view.start(market.state)
    generator = torch.Generator().manual_seed(1)
    for _ in range(hours):
        market.step(torch.rand(3, market.num_agents, 3, generator=generator) * 2 - 1)
        assert market.settled is not None
        view.record(market.settled)
    return market, view


def test_market_hour_is_one_lane_s() -> None:
    market, view = lanes_after(18)
    settled = market.settled
    assert settled is not None
    hours = [market_hour(settled, lane) for lane in range(3)]
    for lane, hour in enumerate(hours):
        assert hour.hour == 17
        assert np.array_equal(hour.buy_wh, settled.orders.buy_wh[:, lane].numpy())
        assert np.array_equal(hour.sell_price_utok_per_wh, settled.orders.sell_price[:, lane].numpy())
        assert hour.price_utok_per_wh == int(settled.market.price[lane])
        assert hour.reduced_wh == int(settled.accepted_wh[:, lane].sum())
        assert hour.shortage_wh == max(0, int(hour.buy_wh.sum()) - int(hour.sell_wh.sum()))
    assert len({hour.buy_wh.tobytes() for hour in hours}) == 3
    assert view.market is not None
    assert view.market.buy_wh.tobytes() == hours[2].buy_wh.tobytes()
    for lane in (-1, 3):
        with pytest.raises(ConfigError, match=f"lane: {lane}, allowed are 0 .. 2"):
            market_hour(settled, lane)


def test_curves_cross_at_the_clearing_point() -> None:
    """At the traded volume demand lies at or above the price and supply at or below it; beyond, one of them turns."""
    market, _ = lanes_after(12)
    assert market.settled is not None
    for lane in range(3):
        hour = market_hour(market.settled, lane)
        assert hour.volume_wh > 0
        demand, supply = (
            merit_order(prices, energy, dearest_first=first, end_price_utok_per_wh=end)
            for prices, energy, first, end in (
                (hour.buy_price_utok_per_wh, hour.buy_wh, True, hour.export_price_utok_per_wh),
                (hour.sell_price_utok_per_wh, hour.sell_wh, False, hour.import_price_utok_per_wh),
            )
        )
        volume, price = hour.volume_wh / 1000, hour.price_utok_per_wh / 1000
        inside = [heights[np.searchsorted(edges, volume)] for edges, heights in (demand, supply)]
        assert inside[0] >= price >= inside[1]
        beyond = [
            heights[min(np.searchsorted(edges, volume, side="right"), len(edges) - 1)]
            for edges, heights in (demand, supply)
        ]
        assert beyond[0] <= price or beyond[1] >= price


def integers(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def test_merit_order_corners() -> None:
    """By hand: an empty order is left out, equal prices keep their sequence, the end falls to the last price."""
    edges, heights = merit_order(
        integers(5000, 9000, 7000, 9000), integers(100, 300, 0, 200), dearest_first=True, end_price_utok_per_wh=4000
    )
    assert edges.tolist() == [0, 0.3, 0.3, 0.5, 0.5, 0.6, 0.6]
    assert heights.tolist() == [9, 9, 9, 9, 5, 5, 4]
    edges, heights = merit_order(
        integers(5000, 9000), integers(100, 300), dearest_first=False, end_price_utok_per_wh=13_000
    )
    assert edges.tolist() == [0, 0.1, 0.1, 0.4, 0.4]
    assert heights.tolist() == [5, 5, 9, 9, 13]
    edges, heights = merit_order(integers(), integers(), dearest_first=True, end_price_utok_per_wh=4000)
    assert (edges.tolist(), heights.tolist()) == ([0], [4])


def hour(**changes: Any) -> MarketHour:
    """Demand of 1 kWh, supply of 0.4 kWh, half of the shortage met."""
    values: dict[str, Any] = {
        "hour": 0,
        "buy_price_utok_per_wh": integers(12_000, 6_000),
        "buy_wh": integers(700, 300),
        "sell_price_utok_per_wh": integers(5_000),
        "sell_wh": integers(400),
        "import_price_utok_per_wh": 13_000,
        "export_price_utok_per_wh": 4_000,
        "price_utok_per_wh": 12_000,
        "volume_wh": 400,
        "shortage_wh": 600,
        "reduced_wh": 300,
        "dr_price_utok_per_wh": 12_500,
    }
    return MarketHour(**{**values, **changes})


@pytest.fixture
def axes() -> Axes:
    return new_figure().add_subplot()


def labels(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_market_curves_on_any_axes(axes: Axes) -> None:
    draw_market(axes, hour())
    assert labels(axes) == [
        "import at 13.00",
        "export at 4.00",
        "0.60 kWh short, 0.30 cut; DR at 12.50",
        "demand 1.00 kWh",
        "supply 0.40 kWh",
        "0.40 kWh at 12.00",
    ]
    point = next(line for line in axes.lines if line.get_marker() == "o")
    assert (list(point.get_xdata()), list(point.get_ydata())) == ([0.4], [12.0])  # type: ignore[arg-type]
    assert axes.get_xlim() == pytest.approx((0, 1.05))
    low, high = axes.get_ylim()
    assert low < 4 < 13 < high
    short, cut = (patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches)
    assert (short.x0, short.x1, cut.x0, cut.x1) == pytest.approx((0.4, 1.0, 0.7, 1.0))
    pixels(axes.figure)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"shortage_wh": 0}, 5),
        ({"reduced_wh": 0}, 6),
        ({"dr_price_utok_per_wh": 0}, 5),
        ({"buy_wh": integers(0, 0), "sell_wh": integers(0), "volume_wh": 0, "shortage_wh": 0}, 5),
        ({"import_price_utok_per_wh": 4_000, "price_utok_per_wh": 4_000}, 6),
        ({"import_price_utok_per_wh": 0, "export_price_utok_per_wh": 0, "price_utok_per_wh": 0}, 6),
        ({"export_price_utok_per_wh": -90_000, "import_price_utok_per_wh": -80_000, "price_utok_per_wh": -85_000}, 6),
        ({"buy_wh": integers(3_000_000_000, 0), "import_price_utok_per_wh": 10_000_000}, 6),
    ],
    ids=["no shortage", "nothing cut", "no DR price", "no orders", "no spread", "free", "negative", "greatest"],
)
def test_market_curves_of_odd_hours(axes: Axes, changes: dict[str, Any], shown: int) -> None:
    draw_market(axes, hour(**changes))
    assert len(labels(axes)) == shown
    pixels(axes.figure)  # type: ignore[arg-type]


def test_market_curves_take_a_common_energy_axis_and_no_legend(axes: Axes) -> None:
    draw_market(axes, hour(), energy_limit_kwh=7.5, legend=False)
    assert axes.get_xlim() == (0, 7.5)
    assert labels(axes) == []


def test_panels_before_the_first_hour_and_with_many_bars(axes: Axes) -> None:
    nothing, band = np.zeros(0), np.ones(24)
    draw_prices(axes, nothing, band * 13, band * 4, nothing)
    draw_load(axes, nothing, nothing, nothing, 24)
    draw_balances(axes, np.zeros(1), [])
    pixels(axes.figure)  # type: ignore[arg-type]
    axes.clear()
    draw_balances(axes, np.linspace(-5, 3, 1000), [("operator", 40.0)])
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    assert names[-1] == "operator"
    assert len(names) <= 26
    assert axes.get_ylim()[1] > 40
    assert len(axes.patches) == 2


def test_nothing_sticks_out_of_a_frame() -> None:
    """Text lies inside the picture, also where numbers are long."""
    market, view = lanes_after(10, num_prosumers=40, import_adder_utok_per_wh=9_000_000)
    figure = new_figure()
    view.draw(figure)
    image = pixels(figure)
    edges = (image[0], image[-1], image[:, 0], image[:, -1])
    assert all((edge == 255).all() for edge in edges)
    assert market.num_agents == 40


def test_a_screen_shows_any_scene() -> None:
    class Blank:
        def draw(self, figure: Any) -> None:
            figure.clear()

        def text(self) -> str:
            return "blank"

    frame = Screen("rgb_array").show(Blank())
    assert isinstance(frame, np.ndarray)
    assert (frame == 255).all()
    assert Screen("ansi").show(Blank()) == "blank"


def test_numbers_and_sparklines() -> None:
    assert [number(value) for value in (0.0, -0.0001, 1.2345, -12.5)] == ["0.000", "0.000", "1.234", "-12.500"]
    assert number(123456789.0) == "1.235e+08"
    assert number(-9_999_999.0, 2) == "-1.000e+07"
    assert all(len(number(sign * 10.0**power)) <= 10 for sign in (-1, 1) for power in range(-9, 15))
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([-9, 5, 99], 0, 10) == "▁▅█"  # outside its bounds a value lies at the nearer one
    assert wrap(["aa", "bb", "cc"], indent=2, width=8) == ["aa  bb", "  cc"]
    assert wrap(["a" * 20], indent=2, width=8) == ["a" * 20]
