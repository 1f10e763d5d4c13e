"""The progress bar: steps per second, time left, last return, share of the gains from trade.

Only on a terminal, and only for runs over two seconds.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

DELAY_S = 2.0
REDRAW_S = 0.1


class ProgressBar:
    """Shows nothing until `DELAY_S` have passed, so that a short run prints no bar.

    Args:
        total: steps of the whole run.
        done: steps done before (resumed run).
        mode: "auto": if the console is a terminal; "on": always and at once; "off": never.
        console: where to draw; None: standard error, which leaves standard output to results.
    """

    def __init__(self, total: int, done: int = 0, mode: str = "auto", console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._wanted = mode == "on" or (mode == "auto" and self._console.is_terminal)
        self._total, self._first = total, done
        self._started = time.monotonic()
        self._delay = 0.0 if mode == "on" else DELAY_S
        self._next = self._started + self._delay
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def update(self, done: int, last_return: float | None, share: float | None = None) -> None:
        """Redraw, at most ten times a second; costs one clock reading otherwise."""
        now = time.monotonic()
        if not self._wanted or now < self._next:
            return
        self._next = now + REDRAW_S
        if self._bar is None:
            self._open()
        assert self._bar is not None
        rate = (done - self._first) / max(now - self._started, 1e-9)
        shown = "-" if last_return is None else f"{last_return:.4g}"
        if share is not None:
            shown += f", gains {share:.0%}"  # from trade; a bar has no room for more
        self._bar.update(self._task, completed=done, rate=f"{rate:,.0f}", last_return=shown)

    def _open(self) -> None:
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} steps/s"),
            TimeRemainingColumn(),
            TextColumn("return {task.fields[last_return]}"),
            console=self._console,
        )
        self._bar.start()
        self._task = self._bar.add_task("training", total=self._total, rate="-", last_return="-")

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
