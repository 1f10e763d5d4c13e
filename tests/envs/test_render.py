"""Frames of the environments: in which modes, without side effects; what those of TwoStageDR show."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

from gridmarl.envs.base.parallel import ParallelMarket
from gridmarl.envs.ev_quota import env as ev_quota
from gridmarl.envs.registry import environment
from gridmarl.envs.rendering.modes import RENDER_FPS
from gridmarl.envs.rendering.text import sparkline
from gridmarl.envs.two_stage_dr import env as two_stage_dr
from gridmarl.envs.two_stage_dr.env import parallel_env
from gridmarl.errors import ConfigError
from tests.envs.configs import CONFIGS
from tests.envs.ev_quota.configs import CONFIGS as QUOTA_CONFIGS
from tests.envs.ev_quota.configs import evening
from tests.envs.test_pettingzoo import sampled_actions

SIZE = (520, 800, 3)
Market = ParallelMarket[Any]


@dataclass(frozen=True)
class Case:
    """An environment, as the tests that hold for all of them need it."""

    title: str  # first word of its text
    id: str
    module: ModuleType
    horizon: str  # parameter with the number of periods
    steps: int  # per period
    fixed: dict[str, Any]

    def make(self, periods: int = 4, render_mode: str | None = None, **changes: Any) -> Market:
        """A small market of so many periods."""
        made: Market = self.module.parallel_env(**self._options(periods, render_mode, changes))
        return made

    def aec(self, periods: int, render_mode: str | None) -> Any:
        """The same as an AECEnv."""
        return self.module.env(**self._options(periods, render_mode, {}))

    def _options(self, periods: int, render_mode: str | None, changes: dict[str, Any]) -> dict[str, Any]:
        return {**self.fixed, self.horizon: periods, "render_mode": render_mode, **changes}


_LEARNED = {"num_prosumers": 3, "stage2": "learned", "stage1": "comfort"}
_EVENING = {"num_stations": 3, "transformer_capacity_w": 40_000, "scenario": evening(3)}
CASES = [
    Case("TwoStageDR", "two-stage-dr", two_stage_dr, "horizon_hours", 2, _LEARNED),
    Case("EVQuota", "ev-quota", ev_quota, "horizon_half_hours", 2, _EVENING),
]
every_market = pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)


def play(market: Market, steps: int, seed: int = 3) -> Iterator[int]:
    """Random play; yields after the reset and after every step."""
    rng = np.random.default_rng(7)
    market.reset(seed=seed)
    yield 0
    for index in range(1, steps + 1):
        market.step(sampled_actions(market, rng))
        yield index


def play_periods(case: Case, market: Market, periods: int) -> Iterator[int]:
    """Random play; yields after the reset and after every period."""
    return (index // case.steps for index in play(market, case.steps * periods) if index % case.steps == 0)


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


@every_market
def test_pettingzoo_s_own_test(case: Case, gui: type[FakeCanvas]) -> None:
    """All three modes, a window included; text has its lines, pixels their type."""
    checks = {"ansi": lambda text: case.title in text, "rgb_array": lambda frame: frame.shape == SIZE}
    render_test(lambda render_mode: case.aec(2, render_mode), checks)
    assert gui.draws > 0


KINDS: dict[str, Callable[[str], Market]] = {
    f"TwoStageDR-{name}": lambda mode, name=name: parallel_env(**CONFIGS[name], render_mode=mode)  # type: ignore[misc]
    for name in ("additive", "battery", "everything", "one_prosumer", "one_hour", "retail")
} | {
    f"EVQuota-{name}": lambda mode, name=name: ev_quota.parallel_env(  # type: ignore[misc]
        scenario=evening(QUOTA_CONFIGS[name]["num_stations"]), **QUOTA_CONFIGS[name], render_mode=mode
    )
    for name in ("discrete_overuse", "budget", "uniform", "no_capacity", "plenty", "one_station", "one_half_hour")
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_market_draws(kind: str) -> None:
    """No warning either: warnings are errors here."""
    picture, text = (KINDS[kind](mode) for mode in ("rgb_array", "ansi"))
    for played, lines in zip(play_to(picture, 6), play_to(text, 6), strict=True):
        assert played == lines
    frame, lines = picture.render(), text.render()
    assert isinstance(frame, np.ndarray)
    assert (frame.dtype, frame.shape) == (np.uint8, SIZE)
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 20
    assert isinstance(lines, str)
    assert max(map(len, lines.splitlines())) <= 100


def play_to(market: Market, steps: int) -> Iterator[int]:
    """Random play of so many steps, or to the end."""
    for index in play(market, steps):
        yield index
        if not market.agents:
            return


@every_market
def test_same_state_same_bytes(case: Case) -> None:
    """However many frames were drawn before: axes that were used before leave no trace."""
    always, seldom = (case.make(6, render_mode="rgb_array") for _ in range(2))
    frames = []
    for index, _ in zip(play_periods(case, always, 6), play_periods(case, seldom, 6), strict=True):
        frames.append(always.render())
        if index in (0, 3, 6):
            seldom.close()
            assert np.array_equal(frames[-1], seldom.render())  # type: ignore[arg-type]
            assert np.array_equal(frames[-1], always.render())  # type: ignore[arg-type]
    assert all(not np.array_equal(one, other) for one, other in pairwise(frames))  # type: ignore[arg-type]
    always.reset(seed=3)
    assert np.array_equal(always.render(), frames[0])  # type: ignore[arg-type]


@every_market
def test_a_frame_belongs_to_whoever_asked(case: Case) -> None:
    market = case.make(render_mode="rgb_array")
    market.reset(seed=1)
    first = market.render()
    assert isinstance(first, np.ndarray)
    assert first.flags.c_contiguous  # what writers of films ask for
    kept = first.copy()
    for _ in play(market, 2):
        market.render()
    assert np.array_equal(first, kept)
    first[:] = 0


@every_market
def test_drawing_changes_nothing(case: Case) -> None:
    """Observations, rewards and accounts are those of a market that nobody looks at."""
    seen, unseen = case.make(render_mode="rgb_array"), case.make()
    for _ in zip(play(seen, 4), play(unseen, 4), strict=True):
        seen.render()
        assert str(seen.lanes.state.to_dict()) == str(unseen.lanes.state.to_dict())
        assert torch.equal(seen.lanes.state.balances, unseen.lanes.state.balances)
        assert seen.agents == unseen.agents


@every_market
def test_only_windows_draw_by_themselves(case: Case, gui: type[FakeCanvas], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda canvas: drawn.append(canvas))
    for mode in ("rgb_array", "ansi", None):
        for _ in play(case.make(render_mode=mode), 3):
            pass
    assert drawn == []
    case.make(render_mode="human").reset(seed=1)
    assert len(drawn) == gui.draws == 1


@every_market
def test_the_first_step_of_a_period_shows_the_last_period(case: Case) -> None:
    market = case.make(render_mode="ansi")
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


@every_market
def test_modes_are_announced_and_others_refused(case: Case) -> None:
    metadata = case.make().metadata
    assert metadata["render_modes"] == ["human", "rgb_array", "ansi"]
    assert metadata["render_fps"] == RENDER_FPS
    assert case.aec(4, "ansi").render_mode == "ansi"
    with pytest.raises(ConfigError, match="render_mode: 'video', allowed are human, rgb_array, ansi, or None"):
        case.make(render_mode="video")


@every_market
def test_a_view_by_the_name_of_the_environment(case: Case) -> None:
    """What `gridmarl render` uses: the view of a lane of any batch, whose text is that of the single run."""
    single = case.make(render_mode="ansi")
    entry = environment(case.id)
    params = type(single.lanes.params).from_dict(single.lanes.params.to_dict())
    batch = entry.load("batched")(params, single.lanes.scenario, num_envs=3, auto_reset=False)
    view = entry.load("view")(batch, 2)
    single.reset(seed=5, options={"lane": 2})
    batch.reset(5)
    view.start(batch.state)
    rng = np.random.default_rng(1)
    while single.agents:
        assert view.text() == single.render()
        actions = sampled_actions(single, rng)
        single.step(actions)
        batch.step(torch.from_numpy(np.array([list(actions.values())] * 3)))
        if batch.settled is not None:
            view.record(batch.settled)
    assert view.text() == single.render()


@every_market
@pytest.mark.parametrize("mode", ["rgb_array", "ansi", "human"])
def test_before_the_first_reset_there_is_nothing_to_show(mode: str, case: Case, gui: type[FakeCanvas]) -> None:
    market = case.make(render_mode=mode)
    with pytest.raises(ConfigError, match=r"render: .*call reset\(\) first"):
        market.render()
    market.close()
    assert pyplot.get_fignums() == []


@every_market
def test_without_a_mode_render_warns_and_returns_none(case: Case) -> None:
    market = case.make()
    market.reset(seed=0)
    with pytest.warns(UserWarning, match="without specifying any render mode"):
        assert market.render() is None


@every_market
def test_after_the_end_the_last_period_stays(case: Case) -> None:
    market = case.make(3, render_mode="ansi")
    for _ in play_periods(case, market, 3):
        pass
    assert market.agents == []
    assert "3 of 3)" in str(market.render())
    market.close()
    market.close()


@every_market
@pytest.mark.usefixtures("no_gui")
def test_no_window_without_a_gui(case: Case) -> None:
    market = case.make(render_mode="human")
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


@every_market
def test_a_window_follows_the_market_and_closes(case: Case, gui: type[FakeCanvas]) -> None:
    market = case.make(render_mode="human")
    draws = [gui.draws for _ in play(market, 8)]
    assert draws == [1, 1, 2, 2, 3, 3, 4, 4, 5]  # one for the reset, one for each settled period
    assert len(pyplot.get_fignums()) == FakeWindow.shown == 1
    assert all(0 < wait <= 1 / RENDER_FPS for wait in gui.waits_s)
    assert gui.waits_s[0] == pytest.approx(1e-3)  # the first frame is not held back
    assert market.render() is None
    market.close()
    assert pyplot.get_fignums() == []
    market.close()


@every_market
def test_a_window_that_the_user_closed_comes_back(case: Case, gui: type[FakeCanvas]) -> None:
    market = case.make(render_mode="human")
    market.reset(seed=0)
    pyplot.close("all")
    market.render()
    assert len(pyplot.get_fignums()) == 1
    assert FakeWindow.shown == 2
    market.close()


LOADED = """
import sys
import gridmarl.envs, gridmarl.envs.rendering.curves, gridmarl.envs.rendering.auction
from gridmarl.envs.ev_quota import env as ev_quota
from gridmarl.envs.two_stage_dr import env as two_stage_dr
for mode in ("ansi", "rgb_array"):
    for module in (two_stage_dr, ev_quota):
        market = module.parallel_env(render_mode=mode)
        market.reset(seed=0)
        market.render()
        print(mode, "matplotlib" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""


def test_matplotlib_is_loaded_by_the_first_picture_and_pyplot_by_windows_only() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout
    assert shown.splitlines() == ["ansi False False"] * 2 + ["rgb_array True False"] * 2
