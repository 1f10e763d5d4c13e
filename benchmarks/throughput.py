"""Throughput of TwoStageDR: agent-steps per second of the batched environment and of the PettingZoo interface.

Random actions, prepared beforehand; whole episodes, so that automatic resets count in full; warm-up first (compiling
included); the median over repeats. One agent-step is one prosumer's part in one hour of one lane: bid, clearing,
rescheduling, settlement, next hour's draws and observation.

    python -m benchmarks.throughput                # some minutes; writes benchmarks/results/throughput-cpu.csv
    python -m benchmarks.throughput --device cuda  # throughput-cuda.csv
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.provenance import RESULTS, provenance, rounded, write_csv
from gridmarl.compiler import missing_compiler
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR, LedgerLevel
from gridmarl.envs.two_stage_dr.env import parallel_env
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams

PREPARED = 8  # different action tensors, used in turn
Mode = Literal["eager", "compiled"]


@dataclass(frozen=True)
class Options:
    """What to measure."""

    lanes: tuple[int, ...] = (1, 256, 4096)
    prosumers: int = 32
    """Of the batched environment."""
    pettingzoo_prosumers: tuple[int, ...] = (10, 32)
    ledgers: tuple[LedgerLevel, ...] = ("off", "accounts", "batch", "sealed")
    modes: tuple[Mode, ...] = ("eager", "compiled")
    repeats: int = 3
    repeat_seconds: float = 0.3
    """Least time of a repeat; it consists of whole episodes."""
    enough_seconds: float = 10.0
    """No further repeat of a figure once its repeats have taken this long."""
    threads: int = 0
    """Threads of torch; 0: as torch chooses."""
    device: str = "cpu"
    seed: int = 0
    output: Path | None = None
    """CSV to write; by default throughput-<device>.csv in benchmarks/results."""
    quick: bool = False
    """A few lanes, eager only, one short repeat: to see that it works."""


@dataclass(frozen=True)
class Rate:
    """One row: steps of all lanes per second, median and extremes over repeats."""

    interface: str
    mode: Mode
    ledger: LedgerLevel
    lanes: int
    prosumers: int
    repeats: int
    steps_per_repeat: int
    steps_per_s: float
    slowest_steps_per_s: float
    fastest_steps_per_s: float

    @property
    def agent_steps_per_s(self) -> float:
        """Median, over all lanes and prosumers."""
        return self.steps_per_s * self.lanes * self.prosumers


def measure(options: Options, episode: Callable[[], None], steps: int) -> tuple[int, list[float]]:
    """Steps in a repeat, and steps per second of each. `episode` plays one of `steps` steps; once as a warm-up."""

    def seconds(episodes: int) -> float:
        _finish(options)
        begin = time.perf_counter()
        for _ in range(episodes):
            episode()
        _finish(options)
        return time.perf_counter() - begin

    episode()
    first = seconds(1)
    episodes = max(1, round(options.repeat_seconds / first))
    taken = [first if episodes == 1 else seconds(episodes)]
    while len(taken) < options.repeats and sum(taken) < options.enough_seconds:
        taken.append(seconds(episodes))
    return episodes * steps, [episodes * steps / each for each in taken]


def _finish(options: Options) -> None:
    if torch.device(options.device).type == "cuda":
        torch.cuda.synchronize()


def _rate(interface: str, mode: Mode, ledger: LedgerLevel, lanes: int, prosumers: int, measured: Any) -> Rate:
    steps, rates = measured
    middle, least, most = statistics.median(rates), min(rates), max(rates)
    return Rate(interface, mode, ledger, lanes, prosumers, len(rates), steps, middle, least, most)


def batched_rates(options: Options, mode: Mode, lanes: int) -> Iterator[Rate]:
    """The batched environment with automatic reset, at all ledger levels."""
    params = TwoStageDRParams(num_prosumers=options.prosumers)
    if "off" in options.ledgers:
        yield _batched_rate(options, mode, "off", _batched(options, params, mode, "off", lanes))
    kept = [ledger for ledger in options.ledgers if ledger != "off"]
    if kept:  # one environment for both: what is compiled is the same, and compiling takes longest
        env = _batched(options, params, mode, "sealed", lanes)
        for ledger in kept:
            env.reset(options.seed)
            if ledger == "accounts":
                env.chains = None
            yield _batched_rate(options, mode, ledger, env)


def _batched(
    options: Options, params: TwoStageDRParams, mode: Mode, ledger: LedgerLevel, lanes: int
) -> BatchedTwoStageDR:
    compile = mode == "compiled"
    env = BatchedTwoStageDR(params, num_envs=lanes, device=options.device, ledger=ledger, compile=compile)
    env.reset(options.seed)
    return env


def _batched_rate(options: Options, mode: Mode, ledger: LedgerLevel, env: BatchedTwoStageDR) -> Rate:
    rng = np.random.default_rng(options.seed)
    shape = (PREPARED, env.num_envs, env.num_agents, env.action_spec.size)
    actions = torch.from_numpy(rng.uniform(-1, 1, shape).astype(np.float32)).to(env.device).unbind(0)
    hours = env.params.horizon_hours

    def episode() -> None:
        for step in range(hours):
            env.step(actions[step % PREPARED])

    measured = measure(options, episode, hours)
    return _rate("batched", mode, ledger, env.num_envs, env.num_agents, measured)


def pettingzoo_rate(options: Options, prosumers: int) -> Rate:
    """The PettingZoo interface: one lane, dictionaries of arrays."""
    env = parallel_env(num_prosumers=prosumers)
    rng = np.random.default_rng(options.seed)
    size = env.action_space(env.possible_agents[0]).shape
    actions = [
        {name: rng.uniform(-1, 1, size).astype(np.float32) for name in env.possible_agents} for _ in range(PREPARED)
    ]

    def episode() -> None:
        env.reset(seed=options.seed)
        step = 0
        while env.agents:
            env.step(actions[step % PREPARED])
            step += 1

    measured = measure(replace(options, device="cpu"), episode, env.params.horizon_hours)
    return _rate("pettingzoo", "eager", "accounts", 1, prosumers, measured)


def rates(options: Options) -> Iterator[Rate]:
    """All rows, as they are measured."""
    for prosumers in options.pettingzoo_prosumers:
        yield pettingzoo_rate(options, prosumers)
    for mode in options.modes:
        missing = missing_compiler(torch.device(options.device)) if mode == "compiled" else None
        if missing is not None:
            print(f"compiled: left out, {missing}", file=sys.stderr)
            continue
        for lanes in options.lanes:
            yield from batched_rates(options, mode, lanes)


def show(rows: list[Rate], origin: dict[str, object]) -> None:
    """A table on the terminal."""
    title = f"{origin['cpu']}, {origin['threads']} threads, {origin['device']}, torch {origin['torch']}"
    table = Table(title=title, caption=f"load before: {origin['load_before']}")
    for name in ("interface", "mode", "ledger", "lanes", "prosumers", "steps/s", "agent-steps/s"):
        table.add_column(name, justify="left" if name in ("interface", "mode", "ledger") else "right")
    for row in rows:
        numbers = (f"{row.steps_per_s:,.1f}", f"{row.agent_steps_per_s:,.0f}")
        table.add_row(row.interface, row.mode, row.ledger, str(row.lanes), str(row.prosumers), *numbers)
    Console().print(table)


def main(options: Options, arguments: list[str]) -> list[Rate]:
    """Measure, write, show."""
    if options.quick:
        few: tuple[int, ...] = (1, 4)
        options = replace(options, lanes=few, pettingzoo_prosumers=(3,), prosumers=4, modes=("eager",))
        options = replace(options, repeats=1, repeat_seconds=0.0)
    if options.threads:
        torch.set_num_threads(options.threads)
    origin = provenance("throughput", arguments, seed=options.seed, device=options.device)
    rows = []
    for row in rates(options):
        rows.append(row)
        line = f"{row.interface} {row.mode} {row.ledger} {row.lanes} x {row.prosumers}"
        print(f"{line}: {row.agent_steps_per_s:,.0f} agent-steps/s", file=sys.stderr, flush=True)
    name = f"throughput-{torch.device(options.device).type}.csv"
    lines = [rounded(row, 2) | {"agent_steps_per_s": round(row.agent_steps_per_s)} for row in rows]
    write_csv(options.output or RESULTS / name, lines, origin)
    show(rows, origin)
    return rows


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__), sys.argv[1:])
