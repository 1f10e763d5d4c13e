"""Frames of an environment: what they show, in which modes, without side effects."""

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
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pettingzoo.test import render_test

from gridmarl.envs.rendering.modes import RENDER_FPS
from gridmarl.envs.rendering.text import sparkline
from gridmarl.envs.two_stage_dr.env import TwoStageDR, env, parallel_env
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
    for index, _ in zip(play(always, 11), play(seldom, 11), strict=True):
        frames.append(always.render())
        if index in (0, 5, 11):
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
    assert first.flags.c_contiguous  # what writers of films ask for
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


def test_only_windows_draw_by_themselves(gui: type[FakeCanvas], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda canvas: drawn.append(canvas))
    for mode in ("rgb_array", "ansi", None):
        for _ in play(parallel_env(horizon_hours=3, render_mode=mode), 3):
            pass
    assert drawn == []
    parallel_env(horizon_hours=3, render_mode="human").reset(seed=1)
    assert len(drawn) == gui.draws == 1


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
