"""`gridmarl render`: one episode of a policy as a film, as a picture of one hour, or as text."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from gridmarl.agents.registry import needs_discrete_actions
from gridmarl.envs.registry import environment
from gridmarl.envs.rendering.modes import RENDER_FPS
from gridmarl.envs.rendering.screen import Pixels, Screen
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.render import MarketView
from gridmarl.envs.two_stage_dr.step import Settled
from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent
from gridmarl.train.checkpoint import write_atomically
from gridmarl.train.contest import agent_for
from gridmarl.train.options import MarketOptions, Settings, check_range, parse_settings
from gridmarl.train.policies import load_policies
from gridmarl.train.rollout import play
from gridmarl.train.stage_bar import stage_bar

MAX_FRAMES = 24 * 31
PALETTE_FRAMES = 8
LAST_FRAME_MS = 2000
COLOURS = 64
"""Of a film: enough for the edges of letters, and half the bytes of 256."""


@dataclass(kw_only=True)
class Render(MarketOptions):
    """Play one episode and show it: a GIF of all hours, a PNG of one, or text hour by hour."""

    agent: Annotated[str, tyro.conf.arg(metavar="NAME")] = "truthful"
    """Policy of the prosumers; `gridmarl list` shows them. One that learns plays untrained."""
    agent_set: Settings = ()
    """Options of the agent."""
    policy: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Folder of a training run (its first seed), or a policy saved by Stable-Baselines3 (.zip), in place of --agent."""
    mode: Literal["gif", "png", "ansi"] = "gif"
    """What to make."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """File to write; default: <env>-<agent>.<mode> in this folder, and standard output for ansi."""
    hour: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """png only: hour of the episode, from 0; default: the last."""
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
        params, scenario = self.parameters(), self.scenario()
        if needs_discrete_actions(self.agent):
            params = replace(params, action_space="discrete")
        agent = agent_for(self, params, scenario, self.agent, 1, **parse_settings(self.agent_set))
        return show_episode(self, self.batched(params, scenario, 1, auto_reset=False), agent)

    def _show_policy(self, path: Path) -> int:
        policies = load_policies(self, [path])
        (contender,) = policies.contenders
        build = next(iter(contender.policies.values()))
        env = policies.options.batched(contender.params, policies.scenario, 1, auto_reset=False)
        return show_episode(replace(self, env=policies.options.env, agent=contender.name), env, build(1))


def show_episode(options: Render, env: BatchedTwoStageDR, agent: Agent) -> int:
    """Play `options.seed`'s episode in an environment of one lane and write what `options.mode` asks for."""
    hours = env.params.horizon_hours
    name = f"{environment(options.env).name}-{options.agent}.{options.mode}"
    out = options.out or Path(name)
    if options.mode == "ansi":
        _write_text(options, env, agent)
        return 0
    if options.mode == "png":
        check_range("hour", options.hour or 0, 0, hours - 1)
        wanted = range(hours)[-1 if options.hour is None else options.hour]
        (frame,) = _frames(options, env, agent, lambda hour: hour == wanted)
        content = _png(frame)
    else:
        if hours > MAX_FRAMES:
            raise ConfigError(f"horizon_hours: {hours}, allowed for a GIF are 1 .. {MAX_FRAMES}")
        content = _gif(_frames(options, env, agent, lambda _: True))
    write_atomically(out, content)
    print(f"{out}: {len(content):,} bytes")
    return 0


def _frames(options: Render, env: BatchedTwoStageDR, agent: Agent, wanted: Callable[[int], bool]) -> list[Pixels]:
    """Frames `[H, W, 3]` uint8 of the wanted hours."""
    view, screen, frames = MarketView(env.params), Screen("rgb_array"), list[Pixels]()
    with stage_bar("frames", env.params.horizon_hours, "hours", options.progress) as advance:

        def on_hour(settled: Settled) -> None:
            _follow(view, env, settled)
            if wanted(settled.hour):
                frame = screen.show(view)
                assert frame is not None and not isinstance(frame, str)
                frames.append(frame)
            advance()

        play(env, agent, options.seed, on_hour=on_hour)
    return frames


def _follow(view: MarketView, env: BatchedTwoStageDR, settled: Settled) -> None:
    """Record an hour; with the first one the episode begins, whose prices the state still holds."""
    if settled.hour == 0:
        view.start(env.state)
    view.record(settled)


def _write_text(options: Render, env: BatchedTwoStageDR, agent: Agent) -> None:
    view, blocks = MarketView(env.params), list[str]()

    def on_hour(settled: Settled) -> None:
        _follow(view, env, settled)
        block = view.text() + "\n"
        if options.out is None:
            print(block)
        else:
            blocks.append(block)

    play(env, agent, options.seed, on_hour=on_hour)
    if options.out is not None:
        write_atomically(options.out, "\n".join(blocks).encode())


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
