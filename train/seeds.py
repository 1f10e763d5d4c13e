"""Several seeds of one run: one after the other in this process, or side by side in processes of their own.

A seed's numbers are those of a run with this seed alone. A worker leaves Ctrl-C to its parent, which asks all workers
to stop at a step's end and keep a checkpoint; a worker whose parent has died does so by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Literal

import torch

from gridmarl.agents.registry import registered_here
from gridmarl.errors import GridmarlError
from gridmarl.train.evaluation import Levels
from gridmarl.train.loop import TrainProgress, TrainResult
from gridmarl.train.loop_stop import StopRequest
from gridmarl.train.seeds_bar import SeedsBar
from gridmarl.train.train_options import Train, seed_folder
from gridmarl.train.train_run import SeedRun, TrainingMarket, prepare, train_seed, training_market

_POLL_S = 0.2


@dataclass(frozen=True)
class Message:
    """From a worker: how far it is, how it ended, or what went wrong."""

    seed: int
    kind: Literal["progress", "done", "refused", "failed", "killed"]
    content: Any


def worker_count(options: Train) -> int:
    """Processes for a run: as asked, else one per core and thread of torch, never more than seeds."""
    if options.workers:
        wanted = options.workers
    elif options.device != "cpu" or registered_here(options.agent):
        wanted = 1
    else:
        wanted = max(1, _cores() // options.threads)
    return min(wanted, len(options.all_seeds))


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_seeds(options: Train, market: TrainingMarket, levels: Levels | None, folder: Path) -> dict[int, TrainResult]:
    """Train every seed in its folder below `folder`; results by seed, without those that a Ctrl-C came before.

    Raises:
        GridmarlError: what training one of them raised, or that a worker was killed.
        RuntimeError: a worker that failed otherwise, with its traceback.
    """
    if worker_count(options) == 1:
        return _one_by_one(options, market, levels, folder)
    return _side_by_side(options, levels, folder, worker_count(options))


def _one_by_one(options: Train, market: TrainingMarket, levels: Levels | None, folder: Path) -> dict[int, TrainResult]:
    results = {}
    with SeedsBar(options.all_seeds, options.steps, options.progress) as bar:
        for seed in options.all_seeds:
            run = _prepare(options, market, seed, levels)
            results[seed] = train_seed(run, folder / seed_folder(seed), options.resume, bar.listener(seed))
            if results[seed].interrupted:
                break
    return results


def _prepare(options: Train, market: TrainingMarket, seed: int, levels: Levels | None) -> SeedRun:
    run = prepare(options, market, seed, levels)
    # the run's own bar shows all seeds; a bar of each would be drawn over it
    return replace(run, config=replace(run.config, progress="off"))


def _work(options: Train, seed: int, levels: Levels | None, folder: Path, messages: Any, parent: int) -> None:
    """A worker's whole life."""
    if hasattr(os, "setsid"):
        os.setsid()
    torch.set_num_threads(options.threads)

    def report(progress: TrainProgress) -> None:
        messages.put(Message(seed, "progress", (progress.env_steps, dict(progress.metrics))))
        if os.getppid() != parent:
            raise KeyboardInterrupt

    try:
        run = _prepare(options, training_market(options), seed, levels)
        messages.put(Message(seed, "done", train_seed(run, folder, options.resume, report)))
    except GridmarlError as error:
        messages.put(Message(seed, "refused", (type(error), str(error))))
    except BaseException:
        messages.put(Message(seed, "failed", traceback.format_exc()))


class _Workers:
    """Processes of a run: at most `limit` at once."""

    def __init__(self, start: Callable[[int, Any], SpawnProcess], seeds: Sequence[int], limit: int) -> None:
        self._start, self._waiting, self._limit = start, list(seeds), limit
        self.running: dict[int, SpawnProcess] = {}
        self.messages: Any = multiprocessing.get_context("spawn").Queue()

    def fill(self) -> None:
        while self._waiting and len(self.running) < self._limit:
            seed = self._waiting.pop(0)
            self.running[seed] = self._start(seed, self.messages)

    def stop(self) -> None:
        """Start no more, and ask those that run to end with a checkpoint."""
        self._waiting.clear()
        for process in self.running.values():
            process.terminate()

    def finished(self, seed: int) -> None:
        self.running.pop(seed).join()

    def next_message(self) -> Message | None:
        """The next message, or None after a while; a worker that was killed leaves one too."""
        try:
            message: Message = self.messages.get(timeout=_POLL_S)
            return message
        except queue.Empty:
            return self._from_the_dead()

    def _from_the_dead(self) -> Message | None:
        for seed, process in self.running.items():
            if process.exitcode is None:
                continue
            try:  # what it sent last may have come since
                last: Message = self.messages.get(timeout=_POLL_S)
                return last
            except queue.Empty:
                return Message(seed, "killed", process.exitcode)
        return None


def _side_by_side(options: Train, levels: Levels | None, folder: Path, limit: int) -> dict[int, TrainResult]:
    spawn = multiprocessing.get_context("spawn")

    def start(seed: int, messages: Any) -> SpawnProcess:
        place = folder / seed_folder(seed)
        process = spawn.Process(target=_work, args=(options, seed, levels, place, messages, os.getpid()))
        # Ctrl-C is the parent's: a worker starts deaf to it, and `_work` leaves the terminal's group for good
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        return process

    results: dict[int, TrainResult] = {}
    error: Exception | None = None
    workers = _Workers(start, options.all_seeds, limit)
    with SeedsBar(options.all_seeds, options.steps, options.progress) as bar, StopRequest() as stop:
        workers.fill()
        stopping = False
        while workers.running:
            if (stop.requested or error is not None) and not stopping:
                workers.stop()
                stopping = True
            message = workers.next_message()
            if message is None:
                continue
            if message.kind == "progress":
                bar.update(message.seed, *message.content)
                continue
            if message.kind == "done":
                results[message.seed] = message.content
            elif error is None and not stopping:  # asked to stop before its first step, a worker just ends
                error = _error_of(message)
            workers.finished(message.seed)
            if not stopping:
                workers.fill()
    if error is not None:
        raise error
    return results


def _error_of(message: Message) -> Exception:
    if message.kind == "refused":
        kind, text = message.content
        refused: GridmarlError = kind(text)
        return refused
    if message.kind == "killed":
        return GridmarlError(
            f"training of seed {message.seed} was killed (its process ended with exit code {message.content}; out of "
            "memory?); --resume continues all seeds from their checkpoints"
        )
    return RuntimeError(f"training of seed {message.seed} failed: {message.content}")
