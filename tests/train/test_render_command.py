"""`gridmarl render`: a film, a picture of one hour, text hour by hour; bad input in one line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridmarl.envs.rendering.modes import RENDER_FPS
from gridmarl.envs.rendering.screen import Pixels
from gridmarl.envs.two_stage_dr.env import parallel_env
from gridmarl.train import render_command
from tests.train.command_line import TRAIN, gridmarl

SMALL = ("--set", "num_prosumers=3", "horizon_hours=4", "stage1=comfort")
RENDER = ("render", "two-stage-dr", *SMALL, "--seed", "3")


def truthful_market(mode: str) -> Any:
    """The market of RENDER for PettingZoo, played to its end by its truthful actions."""
    market = parallel_env(num_prosumers=3, horizon_hours=4, stage1="comfort", render_mode=mode)
    observations, _ = market.reset(seed=3)
    frames = []
    while observations and market.agents:
        # as the heuristic has it: buy at the import price, sell at the export price; stage1=comfort sets the quantity
        market.step(dict.fromkeys(market.agents, np.array([1, 0, -1], np.float32)))
        frames.append(market.render())
    return frames


def pictures(path: Path) -> list[Pixels]:
    with Image.open(path) as film:
        frames = []
        for index in range(getattr(film, "n_frames", 1)):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")))
    return frames


def test_text_is_that_of_the_environment(tmp_path: Path) -> None:
    expected = "\n".join(block + "\n" for block in truthful_market("ansi"))
    outcome = gridmarl(*RENDER, "--mode", "ansi")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.rstrip() == expected.rstrip()
    written = gridmarl(*RENDER, "--mode", "ansi", "--out", tmp_path / "hours.txt")
    assert (written.code, written.out) == (0, "")
    assert (tmp_path / "hours.txt").read_text(encoding="utf-8") == expected


def test_a_picture_is_the_environment_s_frame(tmp_path: Path) -> None:
    frames = truthful_market("rgb_array")
    for hour, name in ((1, "one.png"), (None, "last.png")):
        chosen = () if hour is None else ("--hour", hour)
        outcome = gridmarl(*RENDER, "--mode", "png", *chosen, "--out", tmp_path / name)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out == f"{tmp_path / name}: {(tmp_path / name).stat().st_size:,} bytes\n"
        (picture,) = pictures(tmp_path / name)
        assert np.array_equal(picture, frames[-1 if hour is None else hour])


def test_a_film_has_every_hour_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the default place; the same command gives the same bytes, and nothing but the file is left behind."""
    monkeypatch.chdir(tmp_path)
    first, second = (gridmarl(*RENDER, *more) for more in ((), ("--out", "again.gif")))
    assert (first.code, first.err, second.code) == (0, "", 0)
    assert {path.name for path in tmp_path.iterdir()} == {"two-stage-dr-truthful.gif", "again.gif"}
    content = (tmp_path / "two-stage-dr-truthful.gif").read_bytes()
    assert content == (tmp_path / "again.gif").read_bytes()
    shown, expected = pictures(tmp_path / "again.gif"), truthful_market("rgb_array")
    assert len(shown) == len(expected) == 4
    for frame, exact in zip(shown, expected, strict=True):
        assert frame.shape == exact.shape
        assert (frame[0] == 255).all()  # white stays white
        assert (np.abs(frame.astype(int) - exact) <= 8).mean() > 0.99


def test_a_film_s_time_and_palette() -> None:
    frames = [np.full((8, 8, 3), value, np.uint8) for value in (0, 80, 160, 255)]
    with Image.open(io.BytesIO(render_command._gif(frames))) as film:
        assert (film.size, film.info["loop"]) == ((8, 8), 0)
        shown, durations_ms = [], []
        for index in range(4):
            film.seek(index)
            shown.append(film.convert("RGB").getpixel((3, 3)))
            durations_ms.append(film.info["duration"])
    assert shown == [(value,) * 3 for value in (0, 80, 160, 255)]
    assert durations_ms == [1000 // RENDER_FPS] * 3 + [2000]


def test_an_agent_that_chooses_from_a_grid_gets_one() -> None:
    outcome = gridmarl(*RENDER, "--mode", "ansi", "--agent", "dqn", "--agent-set", "hidden=[8]")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count("TwoStageDR") == 4


def test_two_steps_an_hour_are_one_frame() -> None:
    outcome = gridmarl("render", *SMALL, "stage2=learned", "--mode", "ansi")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count("TwoStageDR") == 4


def test_progress_is_shown_when_asked_for(tmp_path: Path) -> None:
    outcome = gridmarl(*RENDER, "--mode", "png", "--out", tmp_path / "x.png", "--progress", "on")
    assert outcome.code == 0
    assert "frames" in outcome.err
    assert "4/4" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--mode", "png", "--hour", "48"), "hour: 48, allowed are 0 .. 47"),
        (("--mode", "png", "--hour", "-1"), "hour: -1, allowed are 0 .. 47"),
        (("--hour", "2"), "hour: 2 with --mode gif, allowed is --mode png"),
        (("--mode", "film"), "--mode"),
        (("--agent", "nobody"), "nobody"),
        (("--agent-set", "depth=3"), "depth"),
        (("--out", "."), "out: ., allowed is a file in a folder that exists"),
        (("--out", "no/such/x.gif"), "out: no/such/x.gif, allowed"),
        (("--set", "horizon_hours=745"), "horizon_hours: 745, allowed for a GIF are 1 .. 744"),
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


def test_help_names_the_options() -> None:
    outcome = gridmarl("render", "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert "--out FILE" in outcome.out
    assert "--run-dir" not in outcome.out
    assert "(default: )" not in outcome.out
    assert len(outcome.out.splitlines()) <= 70


def test_a_trained_run_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert gridmarl(*TRAIN, "--run-dir", tmp_path / "mine").code == 0
    outcome = gridmarl("render", "--policy", "mine", "--mode", "ansi")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count("hour") >= 24
    trained = outcome.out
    assert gridmarl("render", "--days", "1", "--set", "num_prosumers=3", "--mode", "ansi").out != trained
    assert gridmarl("render", "--policy", "mine", "--mode", "png").out.startswith("two-stage-dr-mine.png: ")
