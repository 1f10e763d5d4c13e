"""One progress bar for several seeds: how many steps all of them have done, and each one's last figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from gridmarl.train.loop import TrainProgress
from gridmarl.train.progress import DELAY_S


class SeedsBar:
    """A line per seed, from its first figures on; nothing before `DELAY_S` have passed.

    Args:
        seeds, steps: the run's.
        mode: "auto": if the console is a terminal; "on": always and at once; "off": never.
        console: where to draw; None: standard error, which leaves standard output to results.
    """

    def __init__(self, seeds: Sequence[int], steps: int, mode: str = "auto", console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._wanted = mode == "on" or (mode == "auto" and self._console.is_terminal)
        self._from = time.monotonic() + (0.0 if mode == "on" else DELAY_S)
        self._seeds, self._steps = tuple(seeds), steps
        self._share: dict[int, float] = {}
        self._tasks: dict[int, TaskID] = {}
        self._bar: Progress | None = None

    def listener(self, seed: int) -> Callable[[TrainProgress], None]:
        """`on_progress` of a seed's loop."""
        return lambda progress: self.update(seed, progress.env_steps, progress.metrics)

    def update(self, seed: int, env_steps: int, metrics: Mapping[str, float]) -> None:
        """A row of metrics of a seed."""
        if "eval_gains_share" in metrics:
            self._share[seed] = metrics["eval_gains_share"]
        if not self._wanted or time.monotonic() < self._from:
            return
        if self._bar is None:
            self._open()
        assert self._bar is not None
        if seed not in self._tasks:
            self._tasks[seed] = self._bar.add_task(f"seed {seed}", total=self._steps, figures="")
        shown = [f"{metrics['steps_per_s']:,.0f} steps/s"] if "steps_per_s" in metrics else []
        if "return" in metrics:
            shown.append(f"return {metrics['return']:.4g}")
        if seed in self._share:
            shown.append(f"gains {self._share[seed]:.0%}")
        self._bar.update(self._tasks[seed], completed=env_steps, figures=", ".join(shown))

    def _open(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
        )
        self._bar.start()

    def __enter__(self) -> SeedsBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
