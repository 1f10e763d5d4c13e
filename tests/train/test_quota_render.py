"""`gridmarl render ev-quota`: the environment's frames and text, of heuristics and of trained runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridmarl.envs.ev_quota.env import parallel_env
from tests.train.command_line import gridmarl
from tests.train.test_quota_runs import DQN, MARKET
from tests.train.test_render_command import pictures

STATIONS = {
    "num_stations": 3,
    "transformer_capacity_w": 30_000,
    "horizon_half_hours": 8,
    "declare_factor_permille": 1000,
}
RENDER = ("render", "ev-quota", "--set", *(f"{name}={value}" for name, value in STATIONS.items()), "--seed", "5")
NO_TRADE = (*RENDER, "--agent", "quota_no_trade")


def frames_of(mode: str) -> list[Any]:
    """What the environment shows of stations that trade nothing: they declare and charge all that they may."""
    market = parallel_env(**STATIONS, render_mode=mode)
    market.reset(seed=5)
    frames = []
    for step in range(16):
        market.step(dict.fromkeys(market.agents, np.array([1, 0, 0, 1], np.float32)))
        if step % 2:
            frames.append(market.render())
    assert not market.agents
    return frames


def test_text_is_that_of_the_environment(tmp_path: Path) -> None:
    expected = "\n".join(block + "\n" for block in frames_of("ansi"))
    outcome = gridmarl(*NO_TRADE, "--mode", "ansi")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.rstrip() == expected.rstrip()
    written = gridmarl(*NO_TRADE, "--mode", "ansi", "--out", tmp_path / "day.txt")
    assert (written.code, written.out) == (0, "")
    assert (tmp_path / "day.txt").read_text(encoding="utf-8") == expected


def test_a_picture_is_the_environment_s_frame(tmp_path: Path) -> None:
    frames = frames_of("rgb_array")
    for chosen, index in ((("--hour", "4"), 4), ((), -1)):
        assert gridmarl(*NO_TRADE, "--mode", "png", *chosen, "--out", tmp_path / "x.png").code == 0
        (picture,) = pictures(tmp_path / "x.png")
        assert np.array_equal(picture, frames[index])


def test_a_film_has_every_half_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = gridmarl(*RENDER, "--progress", "on")
    assert outcome.code == 0
    assert "8/8" in outcome.err
    frames = pictures(tmp_path / "ev-quota-truthful.gif")
    assert len(frames) == 8
    assert all((frame != 255).any() for frame in frames)
    assert gridmarl(*RENDER, "--mode", "png", "--hour", "4", "--out", "one.png").code == 0
    (picture,) = pictures(tmp_path / "one.png")
    assert picture.shape == frames[4].shape
    assert (np.abs(frames[4].astype(int) - picture) <= 8).mean() > 0.99


def test_truthful_is_that_of_the_environment() -> None:
    texts = [gridmarl(*RENDER, "--mode", "ansi", "--agent", agent) for agent in ("truthful", "quota_truthful")]
    assert texts[0].code == 0
    assert texts[0].out == texts[1].out


def test_a_trained_run_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert gridmarl(*DQN, "--run-dir", tmp_path / "mine").code == 0
    trained = gridmarl("render", "--policy", "mine", "--mode", "ansi")
    assert (trained.code, trained.err) == (0, "")
    assert trained.out.count("EVQuota  ") == 48
    assert gridmarl("render", "ev-quota", "--policy", "mine", "--mode", "ansi").out == trained.out
    heuristic = gridmarl("render", "ev-quota", *MARKET, "--mode", "ansi")
    assert heuristic.code == 0
    assert heuristic.out != trained.out
    assert gridmarl("render", "--policy", "mine", "--mode", "png").out.startswith("ev-quota-mine.png: ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("ev-quota", "--mode", "png", "--hour", "48"), "hour: 48, allowed are 0 .. 47"),
        (("ev-quota", "--agent", "inflate"), "agent: 'inflate' plays another environment"),
        (("two-stage-dr", "--agent", "quota_truthful"), "agent: 'quota_truthful' plays another environment"),
        (("ev-quota", "--days", "2"), "--days with ev-quota"),
        (("ev-quota", "--set", "num_prosumers=3"), "num_prosumers: unknown key"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = gridmarl("render", *arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert named in outcome.err
    assert list(tmp_path.iterdir()) == []
