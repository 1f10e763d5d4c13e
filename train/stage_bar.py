"""A progress bar for one stage of a command (planner, evaluation): how many, how fast, how long still."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from gridmarl.train.progress import DELAY_S


@contextmanager
def stage_bar(
    label: str, total: int, unit: str, mode: str = "auto", console: Console | None = None
) -> Iterator[Callable[[], None]]:
    """Yields what to call after each of `total` parts; draws nothing before `DELAY_S` have passed.

    Args:
        label, unit: such as "central planner" and "lanes".
        mode: "auto": if the console is a terminal; "on": always and at once; "off": never.
        console: where to draw; None: standard error, which leaves standard output to results.
    """
    console = console or Console(stderr=True)
    wanted = mode == "on" or (mode == "auto" and console.is_terminal)
    delay = 0.0 if mode == "on" else DELAY_S
    started, done = time.monotonic(), 0
    task = TaskID(0)
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    bar = Progress(*columns, TimeRemainingColumn(), console=console)

    def advance() -> None:
        nonlocal done, task
        done += 1
        seconds = time.monotonic() - started
        if not wanted or seconds < delay:
            return
        if not bar.live.is_started:
            bar.start()
            task = bar.add_task(label, total=total, rate="")
        bar.update(task, completed=done, rate=f"{done / max(seconds, 1e-9):,.1f} {unit}/s")

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
