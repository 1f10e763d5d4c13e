"""`gridmarl render`: one episode of a policy as a film, as a picture of one period, or as text."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from gridmarl.agents.registry import needs_discrete_actions, supports
from gridmarl.envs.base.parallel import View
from gridmarl.envs.registry import environment
from gridmarl.envs.rendering.modes import RENDER_FPS
from gridmarl.envs.rendering.screen import Pixels, Screen
from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent
from gridmarl.train.checkpoint import write_atomically
from gridmarl.train.contest import agent_for
from gridmarl.train.markets import market_entry
from gridmarl.train.options import MarketOptions, Settings, check_range, parse_settings
from gridmarl.train.policies import load_policies
from gridmarl.train.stage_bar import stage_bar

TRUTHFUL = "truthful"
MAX_FRAMES = 24 * 31
PALETTE_FRAMES = 8
LAST_FRAME_MS = 2000
COLOURS = 64
"""Of a film: enough for the edges of letters, and half the bytes of 256."""


@dataclass(kw_only=True)
class Render(MarketOptions):
    """Play one episode and show it: a GIF of all hours, a PNG of one, or text hour by hour (of charging stations: of
    half hours)."""

    agent: Annotated[str, tyro.conf.arg(metavar="NAME")] = TRUTHFUL
    """Policy of all agents; `gridmarl list` shows them, and `truthful` is that of the environment. One that learns
    plays untrained."""
    agent_set: Settings = ()
    """Options of the agent."""
    policy: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Folder of a training run (its first seed), or a policy saved by Stable-Baselines3 (.zip), in place of --agent."""
    mode: Literal["gif", "png", "ansi"] = "gif"
    """What to make."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """File to write; default: <env>-<agent>.<mode> in this folder, and standard output for ansi."""
    hour: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """png only: hour of the episode (of charging stations: half hour), from 0; default: the last."""
    run_dir: tyro.conf.Suppress[Path | None] = None

    def check(self) -> None:
        """See `MarketOptions.check`."""
        super().check()
        if self.hour is not None and self.mode != "png":
            raise ConfigError(f"hour: {self.hour} with --mode {self.mode}, allowed is --mode png")
        if self.out is not None and (self.out.is_dir() or not self.out.absolute().parent.is_dir()):
            raise ConfigError(f"out: {self.out}, allowed is a file in a folder that exists")

    def run(self) -> int:
        """Play, draw, write; exit code 0."""
        self.check()
        torch.set_num_threads(self.threads)
        if self.policy is not None:
            return self._show_policy(self.policy)
        entry = market_entry(self.env)
        name = entry.truthful if self.agent == TRUTHFUL else self.agent
        if not supports(name, entry.env):
            raise ConfigError(f"agent: {name!r} plays another environment; allowed: see `gridmarl list`")
        params = entry.load("parameters")(self)
        scenario = entry.load("scenario")(self, params)
        if needs_discrete_actions(name):
            params = replace(params, action_space="discrete")
        agent = agent_for(self, params, scenario, name, 1, **parse_settings(self.agent_set))
        return show_episode(self, self.make_env(params, scenario, 1, auto_reset=False), agent)

    def _show_policy(self, path: Path) -> int:
        policies = load_policies(self, [path])
        env_name = policies.options.env
        if self.env not in (MarketOptions.env, env_name):
            raise ConfigError(f"env: {self.env!r}, but {path} is of {env_name}; allowed is {env_name}")
        (contender,) = policies.contenders
        build = next(iter(contender.policies.values()))
        env = policies.options.make_env(contender.params, policies.scenario, 1, auto_reset=False)
        return show_episode(replace(self, env=env_name, agent=contender.name), env, build(1))


def show_episode(options: Render, env: Any, agent: Agent) -> int:
    """Play `options.seed`'s episode in a batched environment of one lane and write what `options.mode` asks for.

    Raises:
        ConfigError: no such hour, or more hours than a film may have.
    """
    film = Film(options, env, agent)
    name = f"{environment(options.env).name}-{options.agent}.{options.mode}"
    out = options.out or Path(name)
    if options.mode == "ansi":
        film.write_text()
        return 0
    if options.mode == "png":
        check_range("hour", options.hour or 0, 0, film.periods - 1)
        wanted = range(film.periods)[-1 if options.hour is None else options.hour]
        (frame,) = film.frames(lambda index: index == wanted)
        content = _png(frame)
    else:
        check_frames(film)
        content = _gif(film.frames(lambda _: True))
    write_atomically(out, content)
    print(f"{out}: {len(content):,} bytes")
    return 0


class Film:
    """An episode as its environment shows it, period by period."""

    def __init__(self, options: Render, env: Any, agent: Agent) -> None:
        self.options, self.env, self.agent = options, env, agent
        self.market = market_entry(options.env)
        self.periods: int = getattr(env.params, self.market.horizon)
        made = environment(options.env)
        shown = made if made.view else environment(self.market.env)  # played as that, so shown as that
        self.view: View = shown.load("view")(env)

    def play(self, on_period: Callable[[int], None]) -> None:
        """Play it; `on_period` is called with each period's index, when the view shows it."""
        shown = 0

        def record(settled: Any) -> None:
            nonlocal shown
            if shown == 0:  # the state still holds what the episode began with
                self.view.start(self.env.state)
            self.view.record(settled)
            on_period(shown)
            shown += 1

        self.market.load("play")(self.env, self.agent, self.options.seed, record)

    def frames(self, wanted: Callable[[int], bool]) -> list[Pixels]:
        """Frames `[H, W, 3]` uint8 of the wanted periods."""
        screen, frames = Screen("rgb_array"), list[Pixels]()
        with stage_bar("frames", self.periods, f"{self.market.period}s", self.options.progress) as advance:

            def on_period(index: int) -> None:
                if wanted(index):
                    frame = screen.show(self.view)
                    assert frame is not None and not isinstance(frame, str)
                    frames.append(frame)
                advance()

            self.play(on_period)
        return frames

    def write_text(self) -> None:
        """To standard output as it is played, or to the file."""
        blocks = list[str]()

        def on_period(_: int) -> None:
            block = self.view.text() + "\n"
            if self.options.out is None:
                print(block)
            else:
                blocks.append(block)

        self.play(on_period)
        if self.options.out is not None:
            write_atomically(self.options.out, "\n".join(blocks).encode())


def check_frames(film: Film) -> None:
    """ConfigError where an episode is too long for a film."""
    if film.periods > MAX_FRAMES:
        raise ConfigError(f"{film.market.horizon}: {film.periods}, allowed for a GIF are 1 .. {MAX_FRAMES}")


def _png(frame: Pixels) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _gif(frames: list[Pixels]) -> bytes:
    """A looping film that rests on its last frame; one palette for all, from frames spread over the episode."""
    from PIL import Image

    sample = np.concatenate(frames[:: -(-len(frames) // PALETTE_FRAMES)])
    palette = Image.fromarray(sample).quantize(COLOURS, Image.Quantize.MAXCOVERAGE)  # keeps white white
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    durations_ms = [*([1000 // RENDER_FPS] * (len(images) - 1)), LAST_FRAME_MS]
    images[0].save(buffer, "gif", save_all=True, append_images=images[1:], duration=durations_ms, loop=0, optimize=True)
    return buffer.getvalue()
