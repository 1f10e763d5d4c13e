"""Render modes by name, as Gymnasium and PettingZoo use them."""

from __future__ import annotations

from typing import Literal, get_args

from gridmarl.errors import ConfigError

RenderMode = Literal["human", "rgb_array", "ansi"]
RENDER_MODES: tuple[RenderMode, ...] = get_args(RenderMode)
RENDER_FPS = 4
"""Frames per second of a window or a film: a day of hourly frames takes six seconds."""


def checked_render_mode(mode: str | None) -> RenderMode | None:
    """The mode itself; ConfigError if there is no such mode."""
    if mode is not None and mode not in RENDER_MODES:
        raise ConfigError(f"render_mode: {mode!r}, allowed are {', '.join(RENDER_MODES)}, or None")
    return mode
