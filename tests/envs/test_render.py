"""Frames: what they show, in which modes, without side effects; market curves for any axes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pettingzoo.test import render_test

from gridmarl.envs.rendering.curves import MarketHour, draw_market, merit_order
from gridmarl.envs.rendering.modes import RENDER_FPS
from gridmarl.envs.rendering.panels import draw_balances, draw_load, draw_prices
from gridmarl.envs.rendering.screen import Screen, new_figure, pixels
from gridmarl.envs.rendering.text import number, sparkline, wrap
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.env import TwoStageDR, env, parallel_env
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.render import MarketView, market_hour
from gridmarl.errors import ConfigError
from tests.envs.configs import CONFIGS
from tests.envs.test_pettingzoo import sampled_actions

SIZE = (520, 800, 3)


def play(market: TwoStageDR, steps: int, seed: int = 3) -> Iterator[int]:
    """Random play; yields after the reset and after every step."""
    rng = np.random.default_rng(7)
    market.reset(seed=seed)
    yield 0
    for index in range(1, steps + 1):
        market.step(sampled_actions(market, rng))
        yield index


class FakeWindow(FigureManagerBase):
    """A window that opens nowhere."""

    shown = 0

    def show(self) -> None:
        type(self).shown += 1


class FakeCanvas(FigureCanvasAgg):
    """Draws like Agg, and says that it belongs to a GUI toolkit; waiting takes no time."""

    required_interactive_framework = "headless"  # what matplotlib finds running where there is no display
    manager_class = FakeWindow
    waits_s: list[float] = []  # noqa: RUF012
    draws = 0

    def draw(self) -> None:
        type(self).draws += 1
        super().draw()

    def start_event_loop(self, timeout: float = 0) -> None:
        self.waits_s.append(timeout)


@pytest.fixture
def gui(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeCanvas]]:
    """A GUI backend for pyplot, which the machine need not have."""
    module = ModuleType("fake_gui")
    module.FigureCanvas, module.FigureManager = FakeCanvas, FakeWindow  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_gui", module)
    monkeypatch.setattr(FakeCanvas, "draws", 0)
    monkeypatch.setattr(FakeCanvas, "waits_s", [])
    monkeypatch.setattr(FakeWindow, "shown", 0)
    before = matplotlib.get_backend()
    pyplot.switch_backend("module://fake_gui")
    yield FakeCanvas
    pyplot.close("all")
    pyplot.switch_backend(before)


@pytest.fixture
def no_gui() -> Iterator[None]:
    before = matplotlib.get_backend()
    pyplot.switch_backend("agg")
    yield
    pyplot.switch_backend(before)


def test_pettingzoo_s_own_test(gui: type[FakeCanvas]) -> None:
    """All three modes, a window included; text has its lines, pixels their type."""
    checks = {"ansi": lambda text: "TwoStageDR" in text, "rgb_array": lambda frame: frame.shape == SIZE}
    render_test(lambda render_mode: env(horizon_hours=6, num_prosumers=3, render_mode=render_mode), checks)
    assert gui.draws > 0


@pytest.mark.parametrize("name", ["additive", "battery", "everything", "one_prosumer", "one_hour", "retail"])
def test_every_kind_of_market_draws(name: str) -> None:
    """No warning either: warnings are errors here."""
    picture, text = (parallel_env(**CONFIGS[name], render_mode=mode) for mode in ("rgb_array", "ansi"))
    steps = min(3, picture.params.horizon_hours) * picture.params.steps_per_hour
    for _ in zip(play(picture, steps), play(text, steps), strict=True):
        pass
    frame, lines = picture.render(), text.render()
    assert isinstance(frame, np.ndarray)
    assert (frame.dtype, frame.shape) == (np.uint8, SIZE)
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 20
    assert isinstance(lines, str)
    assert max(map(len, lines.splitlines())) <= 100


def test_same_state_same_bytes() -> None:
    """However many frames were drawn before: axes that were used before leave no trace."""
    always, seldom = (parallel_env(horizon_hours=24, stage1="comfort", render_mode="rgb_array") for _ in range(2))
    frames = []
    for index, _ in zip(play(always, 20), play(seldom, 20), strict=True):
        frames.append(always.render())
        if index in (0, 7, 13, 20):
            seldom.close()
            assert np.array_equal(frames[-1], seldom.render())  # type: ignore[arg-type]
            assert np.array_equal(frames[-1], always.render())  # type: ignore[arg-type]
    assert all(not np.array_equal(one, other) for one, other in pairwise(frames))  # type: ignore[arg-type]
    always.reset(seed=3)
    assert np.array_equal(always.render(), frames[0])  # type: ignore[arg-type]


def test_a_frame_belongs_to_whoever_asked() -> None:
    market = parallel_env(horizon_hours=4, render_mode="rgb_array")
    market.reset(seed=1)
    first = market.render()
    assert isinstance(first, np.ndarray)
    kept = first.copy()
    for _ in play(market, 2):
        market.render()
    assert np.array_equal(first, kept)
    first[:] = 0


def test_drawing_changes_nothing() -> None:
    """Observations, rewards and accounts are those of a market that nobody looks at."""
    seen, unseen = parallel_env(horizon_hours=6, render_mode="rgb_array"), parallel_env(horizon_hours=6)
    for _ in zip(play(seen, 6), play(unseen, 6), strict=True):
        seen.render()
        assert torch.equal(seen.lanes.state.balances, unseen.lanes.state.balances)
        assert seen.agents == unseen.agents


def test_the_first_stage_of_an_hour_shows_the_last_hour() -> None:
    market = parallel_env(horizon_hours=4, stage2="learned", render_mode="ansi")
    shown = [market.render() for _ in play(market, 6)]
    assert shown[0] == shown[1] != shown[2] == shown[3] != shown[4] == shown[5] != shown[6]


def test_text_says_what_happened() -> None:
    market = parallel_env(horizon_hours=24, stage1="comfort", render_mode="ansi")
    prices = []
    for index in play(market, 19):
        if index:
            assert market.lanes.settled is not None
            prices.append(int(market.lanes.settled.market.price[0]) / 1000)
    settled, text = market.lanes.settled, market.render()
    assert settled is not None
    assert isinstance(text, str)
    reduced, short = int(settled.accepted_wh.sum()) / 1000, int(settled.market.shortage_wh[0]) / 1000
    assert reduced > 0
    assert "Day 1, 18:00-19:00" in text
    assert "(hour 19 of 24)" in text
    for part in (
        f"price {prices[-1]:.2f}",
        f"import {int(settled.import_price[0]) / 1000:.2f}",
        f"DR {int(settled.market.dr_price[0]) / 1000:.2f}",
        f"short {short:.3f}  reduced {reduced:.3f}",
        f"load {int(settled.orders.buy_wh.sum()) / 1000:.3f}",
        f"after stage 2 {int(settled.load_wh.sum()) / 1000:.3f}",
        f"generation {int(settled.home.generation_wh.sum()) / 1000:.3f}",
        f"from grid {int(settled.flows.upstream_wh[0, 0]) / 1000:.3f}",
        f"{sparkline(prices)}  {min(prices):.2f} .. {max(prices):.2f}",
        f"3: {int(settled.balances[3, 0]) / 1e6:.3f}",
        f"operator: {int(settled.balances[11, 0]) / 1e6:.3f}",
    ):
        assert part in text, part


def test_text_of_a_long_episode_and_many_prosumers_stays_narrow() -> None:
    market = parallel_env(horizon_hours=100, num_prosumers=300, render_mode="ansi")
    for _ in play(market, 90):
        pass
    text = market.render()
    assert isinstance(text, str)
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 8
    balances = market.lanes.state.balances[:300, 0]
    assert f"least {int(balances.min()) / 1e6:.3f} (prosumer_{int(balances.argmin())})" in text


def test_modes_are_announced_and_others_refused() -> None:
    assert TwoStageDR.metadata["render_modes"] == ["human", "rgb_array", "ansi"]
    assert TwoStageDR.metadata["render_fps"] == RENDER_FPS
    assert env(render_mode="ansi").render_mode == "ansi"
    with pytest.raises(ConfigError, match="render_mode: 'video', allowed are human, rgb_array, ansi, or None"):
        parallel_env(render_mode="video")


@pytest.mark.parametrize("mode", ["rgb_array", "ansi", "human"])
def test_before_the_first_reset_there_is_nothing_to_show(mode: str, gui: type[FakeCanvas]) -> None:
    market = parallel_env(render_mode=mode)
    with pytest.raises(ConfigError, match=r"render: .*call reset\(\) first"):
        market.render()
    market.close()
    assert pyplot.get_fignums() == []


def test_without_a_mode_render_warns_and_returns_none() -> None:
    market = parallel_env(horizon_hours=2)
    market.reset(seed=0)
    with pytest.warns(UserWarning, match="without specifying any render mode"):
        assert market.render() is None


def test_after_the_end_the_last_hour_stays() -> None:
    market = parallel_env(horizon_hours=3, render_mode="ansi")
    for _ in play(market, 3):
        pass
    assert market.agents == []
    assert "(hour 3 of 3)" in str(market.render())
    market.close()
    market.close()


@pytest.mark.usefixtures("no_gui")
def test_no_window_without_a_gui() -> None:
    market = parallel_env(horizon_hours=2, render_mode="human")
    with pytest.raises(
        ConfigError, match=r"render_mode: 'human' needs a window, .*agg.* or use render_mode="
    ) as caught:
        market.reset(seed=0)
    assert "\n" not in str(caught.value)
    assert pyplot.get_fignums() == []


def test_no_window_where_the_toolkit_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ImportError("Cannot load backend 'QtAgg' which\nrequires the 'qt' interactive framework")

    monkeypatch.setattr(pyplot, "figure", refuse)
    with pytest.raises(ConfigError, match=r"Cannot load backend 'QtAgg' which requires the 'qt'.*; install"):
        parallel_env(horizon_hours=2, render_mode="human").reset(seed=0)


def test_a_window_follows_the_market_and_closes(gui: type[FakeCanvas]) -> None:
    market = parallel_env(horizon_hours=4, stage2="learned", render_mode="human")
    draws = [gui.draws for _ in play(market, 8)]
    assert draws == [1, 1, 2, 2, 3, 3, 4, 4, 5]  # one for the reset, one for each settled hour
    assert len(pyplot.get_fignums()) == FakeWindow.shown == 1
    assert all(0 < wait <= 1 / RENDER_FPS for wait in gui.waits_s)
    assert gui.waits_s[0] == pytest.approx(1e-3)  # the first frame is not held back
    assert market.render() is None
    market.close()
    assert pyplot.get_fignums() == []
    market.close()


def test_a_window_that_the_user_closed_comes_back(gui: type[FakeCanvas]) -> None:
    market = parallel_env(horizon_hours=4, render_mode="human")
    market.reset(seed=0)
    pyplot.close("all")
    market.render()
    assert len(pyplot.get_fignums()) == 1
    assert FakeWindow.shown == 2
    market.close()


LOADED = """
import sys
import gridmarl.envs, gridmarl.envs.two_stage_dr.env, gridmarl.envs.two_stage_dr.render, gridmarl.envs.rendering.curves
from gridmarl.envs.two_stage_dr.env import parallel_env
for mode in ("ansi", "rgb_array"):
    market = parallel_env(horizon_hours=2, num_prosumers=2, render_mode=mode)
    market.reset(seed=0)
    market.render()
    print(mode, "matplotlib" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""


def test_matplotlib_is_loaded_by_the_first_picture_and_pyplot_by_windows_only() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout
    assert shown.splitlines() == ["ansi False False", "rgb_array True False"]


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
