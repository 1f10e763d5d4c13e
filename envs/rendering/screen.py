"""Where a frame goes: an array of pixels, a window, or text. Matplotlib is loaded by the first picture, not before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gridmarl.envs.rendering.modes import RENDER_FPS, RenderMode
from gridmarl.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]
FIGURE_INCHES = (8.0, 5.2)
DPI = 100


class Scene(Protocol):
    """What can be looked at: an environment's episode so far."""

    def draw(self, figure: Figure) -> None:
        """Replace all that the figure shows by the current state."""
        ...

    def text(self) -> str:
        """The current state in a few lines of text."""
        ...


class Screen:
    """Shows scenes in one render mode.

    Args:
        mode: "rgb_array": `show` returns pixels. "ansi": it returns text. "human": it draws in a window.
        title: of the window.
    """

    def __init__(self, mode: RenderMode, title: str = "gridmarl") -> None:
        self.mode = mode
        self._title = title
        self._figure: Figure | None = None
        self._shown_at_s = 0.0

    def show(self, scene: Scene) -> Pixels | str | None:
        """The frame as `[H, W, 3]` uint8, as text, or None where it went to the window.

        Raises:
            ConfigError: mode "human", but there is nowhere to open a window.
        """
        if self.mode == "ansi":
            return scene.text()
        if self.mode == "rgb_array":
            self._figure = self._figure or new_figure()
            scene.draw(self._figure)
            return pixels(self._figure)
        self._show_window(scene)
        return None

    def _show_window(self, scene: Scene) -> None:
        if self._figure is not None and not _is_open(self._figure):
            self._figure = None  # the user closed it
        if self._figure is None:
            self._figure = _open_window(self._title)
        scene.draw(self._figure)
        canvas: Any = self._figure.canvas
        canvas.draw()
        # The window answers while we wait for the next frame's time; the first frame is not held back.
        wait_s = 1.0 / RENDER_FPS - (time.monotonic() - self._shown_at_s)
        canvas.start_event_loop(min(max(wait_s, 1e-3), 1.0 / RENDER_FPS))
        self._shown_at_s = time.monotonic()

    def close(self) -> None:
        """Free figure and window; a later `show` makes new ones."""
        if self._figure is not None and self.mode == "human":
            from matplotlib import pyplot

            pyplot.close(self._figure)
        self._figure = None


def new_figure() -> Figure:
    """A figure of a frame's size outside pyplot, on the Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=FIGURE_INCHES, dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def pixels(figure: Figure) -> Pixels:
    """What an Agg figure shows, `[H, W, 3]` uint8; a copy."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()


def _is_open(figure: Figure) -> bool:
    from matplotlib import pyplot

    manager = figure.canvas.manager
    return manager is not None and pyplot.fignum_exists(manager.num)


def _open_window(title: str) -> Figure:
    """A window through pyplot, which knows the GUI toolkits; ConfigError where it finds none."""
    from matplotlib import pyplot

    try:
        figure = pyplot.figure(figsize=FIGURE_INCHES, dpi=DPI)
    except ImportError as error:  # a toolkit was asked for by name, and cannot be had
        raise _no_window(str(error)) from error
    # matplotlib falls back to a backend without windows where it finds no toolkit or no display
    if getattr(figure.canvas, "required_interactive_framework", None) is None:
        pyplot.close(figure)
        raise _no_window(f"matplotlib's backend here is {pyplot.get_backend()}, which has none")
    manager = figure.canvas.manager
    assert manager is not None
    manager.set_window_title(title)
    manager.show()
    return figure


def _no_window(reason: str) -> ConfigError:
    return ConfigError(
        f"render_mode: 'human' needs a window, but {' '.join(reason.split())}; install PyQt6 (or Python's tkinter) and "
        "run where there is a display, or use render_mode='rgb_array' or 'ansi'"
    )
