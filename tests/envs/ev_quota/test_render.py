"""What frames of EVQuota show: each number against the settled half hour it was taken from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.patches import StepPatch

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.env import parallel_env
from gridmarl.envs.ev_quota.panels import clock, clock_axis, draw_day, draw_stations, draw_transformer
from gridmarl.envs.ev_quota.render import QuotaView, quota_half_hour, view_of
from gridmarl.envs.rendering import colours
from gridmarl.envs.rendering.auction import AuctionBook, draw_auction, paid_steps
from gridmarl.envs.rendering.screen import new_figure, pixels
from gridmarl.errors import ConfigError
from tests.envs.ev_quota.configs import batched, evening, random_actions


def played(name: str, half_hours: int, lane: int = 2) -> tuple[BatchedEVQuota, QuotaView]:
    """Three lanes after some half hours of random actions, and a view that follows one of them."""
    env = batched(name, 3, auto_reset=False)
    env.reset(5)
    view = view_of(env, lane)
    view.start(env.state)
    rng = np.random.default_rng(1)
    for _ in range(half_hours):
        for _ in range(2):
            env.step(random_actions(env, rng))
        assert env.settled is not None
        view.record(env.settled)
    return env, view


def integers(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


@pytest.fixture
def axes() -> Axes:
    return new_figure().add_subplot()


def labels(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def steps(axes: Axes, label: str) -> tuple[Any, Any, Any]:
    """Values, edges and baseline of the stairs of a label."""
    patch = next(patch for patch in axes.patches if patch.get_label() == label)
    assert isinstance(patch, StepPatch)
    data = patch.get_data()
    return data.values, data.edges, data.baseline


def test_a_half_hour_is_one_lane_s() -> None:
    env, view = played("overuse", 7)
    settled = env.settled
    assert settled is not None
    found = [quota_half_hour(settled, lane) for lane in range(3)]
    for lane, now in enumerate(found):
        assert now.half_hour == now.book.start == 6
        assert now.margin_wh == int(settled.margin_wh[lane])
        assert now.actual_margin_wh == int(settled.actual_margin_wh[lane])
        assert now.overload_wh == max(0, int(settled.used_wh[:, lane].sum()) - now.actual_margin_wh)
        assert now.tariff_utok_per_wh == int(settled.tariff)
        assert now.scarce == bool(settled.declared.scarce[lane])
        assert np.array_equal(now.declared_wh, settled.declared.declared_wh[:, lane])
        assert np.array_equal(now.quota_wh, settled.quota_wh[:, lane])
        assert np.array_equal(now.used_wh, settled.used_wh[:, lane])
        assert np.array_equal(now.beyond_quota_wh, (settled.used_wh - settled.quota_wh).clamp(min=0)[:, lane])
        assert np.array_equal(now.vehicles, settled.situation.plugged[:, lane])
        assert np.array_equal(now.unserved_wh, settled.unserved_wh[:, lane])
        assert now.book.volume_wh == int(settled.trades.volume_wh[lane])
        assert now.book.mean_price_utok_per_wh == int(settled.price[lane])
    assert any(now.actual_margin_wh != now.margin_wh for now in found)
    assert len({now.used_wh.tobytes() for now in found}) == 3
    assert view.last is not None
    assert view.last.used_wh.tobytes() == found[2].used_wh.tobytes()
    for lane in (-1, 3):
        with pytest.raises(ConfigError, match=f"lane: {lane}, allowed are 0 .. 2"):
            quota_half_hour(settled, lane)


@pytest.mark.parametrize("auction", ["default", "uniform", "marginal_pair"])
def test_what_buyers_paid_lies_between_the_curves(auction: str) -> None:
    """Along the traded energy bids are at or above what is paid, whose area is the money that changed hands."""
    env, _ = played(auction, 0)
    rng, seen = np.random.default_rng(4), 0
    for _ in range(20):
        env.step(random_actions(env, rng))
        if env.settled is None:
            continue
        for lane in range(3):
            book = quota_half_hour(env.settled, lane).book
            edges, paid = paid_steps(book)
            assert edges[-1] == book.volume_wh / 1000
            assert float(np.diff(edges) @ paid) == pytest.approx(book.payment_utok.sum() / 1e6)
            order = np.argsort(-book.bid_price, kind="stable")
            accepted = book.bid_price[order][book.bid_fill_wh[order] > 0] / 1000
            assert (np.sort(accepted)[::-1] >= paid - 1e-9).all()
            seen += book.volume_wh > 0
    assert seen > 5


def book(**changes: Any) -> AuctionBook:
    """By hand: 100 Wh at 9, 50 Wh at 6, 30 Wh at 6 against 120 Wh at 2 and 40 Wh at 7; ties begin with bid 3."""
    values: dict[str, Any] = {
        "bid_price": integers(6_000, 9_000, 4_000, 6_000),
        "bid_wh": integers(50, 100, 0, 30),
        "bid_fill_wh": integers(0, 100, 0, 20),
        "payment_utok": integers(0, 550_000, 0, 80_000),
        "offer_price": integers(7_000, 2_000),
        "offer_wh": integers(40, 120),
        "start": 3,
    }
    return AuctionBook(**{**values, **changes})


def test_auction_as_a_step_chart(axes: Axes) -> None:
    draw_auction(axes, book(), (1_000, 12_000))
    assert labels(axes) == ["bids 0.18 kWh", "offers 0.16 kWh", "traded 0.12 kWh", "paid, mean 5.25"]
    values, edges, _ = steps(axes, "bids 0.18 kWh")
    assert (values.tolist(), edges.tolist()) == ([9, 6, 6], [0, 0.1, 0.13, 0.18])  # bid 3 before bid 0
    values, edges, _ = steps(axes, "offers 0.16 kWh")
    assert (values.tolist(), edges.tolist()) == ([2, 7], [0, 0.12, 0.16])
    values, edges, _ = steps(axes, "paid, mean 5.25")
    assert (values.tolist(), edges.tolist()) == ([5.5, 4.0], [0, 0.1, 0.12])
    assert axes.get_ylim() == pytest.approx((1 - 0.64, 9 + 0.64))
    pixels(axes.figure)  # type: ignore[arg-type]


def test_auction_of_one_side(axes: Axes) -> None:
    none = integers(0, 0, 0, 0)
    draw_auction(axes, book(bid_wh=none, bid_fill_wh=none, payment_utok=none, offer_price=integers(0, 0)), (0, 5_000))
    assert labels(axes) == ["no bids", "offers 0.16 kWh"]
    assert axes.get_ylim() == pytest.approx((-0.4, 5.4))
    assert book(bid_wh=none, offer_wh=none).is_empty
    assert not book().is_empty


def test_transformer(axes: Axes) -> None:
    """10 kW: 3 kW of conventional load, then 12 kW, which the margin cannot tell from 10; then what is expected."""
    margin, charged, overload = integers(3_500, 0, 4_000), integers(3_600, 500), integers(100, 500)
    draw_transformer(axes, 10_000, margin, charged, overload, 33)
    assert labels(axes) == ["conventional", "charging", "overload", "capacity"]
    assert steps(axes, "conventional")[0].tolist() == [3, 10, 2]
    total, edges, foot = steps(axes, "charging")
    assert (total.tolist(), edges.tolist(), foot.tolist()) == ([10.2, 11], [0, 1, 2], [3, 10])
    total, _, foot = steps(axes, "overload")
    assert total == pytest.approx([10.2, 11])
    assert foot == pytest.approx([10, 10])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["16:30", "17:00", "17:30"]
    assert axes.get_ylim()[1] > 11
    axes.clear()
    draw_transformer(axes, 10_000, margin, integers(), integers(), 33)
    assert labels(axes) == ["conventional", "capacity"]


def test_clock() -> None:
    assert [clock(slot) for slot in (0, 13, 47, 48, 61)] == ["00:00", "06:30", "23:30", "00:00", "06:30"]


@pytest.mark.parametrize(("half_hours", "start", "first", "count"), [(48, 12, 4, 6), (48, 13, 3, 6), (1, 12, 0, 1)])
def test_clock_axis(axes: Axes, half_hours: int, start: int, first: int, count: int) -> None:
    """Full hours of the clock, wherever the day begins."""
    clock_axis(axes, half_hours, start)
    assert axes.get_xticks()[0] == first
    assert len(axes.get_xticks()) == count
    assert all(text.get_text().endswith(":00") for text in axes.get_xticklabels())


def test_stations(axes: Axes) -> None:
    draw_stations(axes, integers(9, 4), integers(6, 4), integers(8, 1), integers(3, 0), 0.02)
    assert labels(axes) == ["declared", "charged", "beyond quota", "quota"]
    assert np.array_equal(steps(axes, "declared")[0], [0.009, 0, 0.004])
    assert np.array_equal(steps(axes, "charged")[0], [0.006, 0, 0.001])
    top, edges, foot = steps(axes, "beyond quota")
    assert top == pytest.approx([0.008, 0, 0.001])
    assert foot == pytest.approx([0.006, 0, 0.001])
    assert edges == pytest.approx([-0.3, 0.3, 0.7, 1.3])
    (lines,) = axes.collections
    assert [path.vertices[0][1] for path in lines.get_paths()] == [0.006, 0.004]  # type: ignore[index]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0\n3", "1\n0"]
    assert axes.get_ylim()[1] == pytest.approx(0.0216)
    axes.clear()
    many = np.full(13, 5, dtype=np.int64)
    draw_stations(axes, many, many, many, many, 0.005)
    assert labels(axes) == ["declared", "charged", "quota"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "2", "4", "6", "8", "10", "12"]


def test_the_day_so_far(axes: Axes) -> None:
    draw_day(axes, integers(4_000, 0), integers(500, 0))
    assert steps(axes, "delivered so far")[0].tolist() == [4, 0, 0]
    top, _, foot = steps(axes, "unserved")
    assert (top.tolist(), foot.tolist()) == ([4.5, 0, 0], [4, 0, 0])
    axes.clear()
    draw_day(axes, integers(0), integers(0))
    assert axes.get_ylim() == (0, 1)


def test_the_frame_shows_the_day() -> None:
    """Panels of a frame against sums over the settled half hours."""
    env, view = played("overuse", 0)
    rng, figure = np.random.default_rng(2), new_figure()
    used_wh, missed_wh = torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    charged, overloads = [], []
    for _ in range(14):
        env.step(random_actions(env, rng))
        if env.settled is None:
            continue
        view.record(env.settled)
        used_wh += env.settled.used_wh[:, 2]
        missed_wh += env.settled.unserved_wh[:, 2]
        charged.append(int(env.settled.used_wh[:, 2].sum()))
        overloads.append(int(env.settled.overload_wh[2]))
    view.draw(figure)
    _, transformer, _, day, accounts = figure.axes
    actual, published = env.state.actual_margin_wh[:7, 2], env.state.margin_wh[7:10, 2]
    assert not torch.equal(actual, env.state.margin_wh[:7, 2])
    conventional = 50 - torch.cat((actual, published)).numpy() / 500
    assert np.array_equal(steps(transformer, "conventional")[0], conventional)
    assert np.array_equal(steps(transformer, "charging")[0], conventional[:7] + np.array(charged) / 500)
    assert any(overloads)
    top, _, foot = steps(transformer, "overload")
    assert top - foot == pytest.approx(np.array(overloads) / 500)
    assert np.array_equal(steps(day, "delivered so far")[0][::2], used_wh.numpy() / 1000)
    top, _, foot = steps(day, "unserved")
    assert (top - foot)[::2] == pytest.approx(missed_wh.numpy() / 1000)
    (bars,) = accounts.patches
    assert isinstance(bars, StepPatch)
    assert same_color(bars.get_facecolor(), colours.BALANCE)
    assert np.array_equal(bars.get_data().values[::2], env.state.balances[:-1, 2].numpy() / 1e6)
    assert accounts.get_xlabel() == f"balance of each station, token (DSO: {int(env.state.balances[-1, 2]) / 1e6:.0f})"


def test_text_says_what_happened() -> None:
    one, done = None, 2
    while one is None or not one.book.volume_wh:
        done += 1
        env, view = played("overuse", done)
        settled = env.settled
        assert settled is not None
        one = quota_half_hour(settled, 2)
    lines, price = view.text().splitlines(), f"{one.book.mean_price_utok_per_wh / 1000:.2f}"
    assert lines[0] == (
        f"EVQuota  {clock(31 + done)}-{clock(32 + done)}: {one.used_wh.sum() / 1000:.2f} kWh charged "
        f"(margin {one.actual_margin_wh / 1000:.2f}); {one.book.volume_wh / 1000:.2f} kWh traded at {price} token/kWh"
        f"  ({done} of 10)"
    )
    text = "\n".join(lines)
    for part in (
        f"margin {one.actual_margin_wh / 1000:.3f}",
        f"declared {one.declared_wh.sum() / 1000:.3f}",
        f"quotas {one.quota_wh.sum() / 1000:.3f}",
        f"charged {one.used_wh.sum() / 1000:.3f}",
        f"beyond quota {one.beyond_quota_wh.sum() / 1000:.3f}",
        f"overload {one.overload_wh / 1000:.3f}",
        f"unserved {one.unserved_wh.sum() / 1000:.3f}",
        f"tariff {one.tariff_utok_per_wh / 1000:.2f}",
        f"bids {one.book.bid_wh.sum() / 1000:.3f} kWh",
        f"offers {one.book.offer_wh.sum() / 1000:.3f} kWh",
        f"traded {one.book.volume_wh / 1000:.3f} kWh at {price}",
        f"{(50_000 - 2 * one.actual_margin_wh + 2 * one.used_wh.sum()) / 1000:.1f} of 50.0 kW",
        f"DSO: {int(settled.balances[-1, 2]) / 1e6:.3f}",
    ):
        assert part in text, part
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("station", "charged", "balance"))}
    assert rows["station"] == ["0", "1", "2", "3"]
    assert rows["charged"] == [f"{value / 1000:.3f}" for value in one.used_wh]
    assert rows["balance"] == [f"{int(value) / 1e6:.3f}" for value in settled.balances[:-1, 2]]


@pytest.mark.parametrize(("config", "words"), [("plenty", "quotas meet all demands"), ("no_capacity", "no trade")])
def test_text_without_a_trade(config: str, words: str) -> None:
    _, view = played(config, 4)
    assert words in view.text()
    assert "traded" not in view.text()


def test_scarce_without_orders() -> None:
    """Nobody wants to trade: zeros in all entries neither bid nor offer."""
    env = batched("default", 1, auto_reset=False)
    env.reset(5)
    view = view_of(env)
    view.start(env.state)
    for _ in range(14):
        env.step(torch.zeros(1, 4, 4))
        if env.settled is not None:
            view.record(env.settled)
    assert env.settled is not None
    assert bool(env.settled.declared.scarce[0])
    assert "quotas are scarce, but nobody bids or offers" in view.text()


def test_text_of_many_stations_stays_narrow() -> None:
    market = parallel_env(scenario=evening(40), num_stations=40, transformer_capacity_w=400_000, render_mode="ansi")
    market.reset(seed=1)
    for _ in range(6):
        market.step({name: np.zeros(4, np.float32) for name in market.agents})
    text = str(market.render())
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 14
    balances = market.lanes.state.balances[:-1, 0]
    assert f"least {int(balances.min()) / 1e6:.3f} (station_{int(balances.argmin())})" in text


def test_a_new_episode_forgets_the_last() -> None:
    env, view = played("default", 3)
    fresh = view_of(env, 2)
    env.reset(9)
    view.start(env.state)
    fresh.start(env.state)
    assert view.text() == fresh.text()
    assert view.last is None
