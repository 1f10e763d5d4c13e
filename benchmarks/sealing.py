"""Sealing an hour of all lanes: nanoseconds per record by every route, beside a copy of the same memory.

A block has 1 + 2P inputs and 8P + 2 transactions, and every one counts as a record. `sealed` is one block per lane,
`batch` one for all lanes: records built, hashed, headers chained. `packing` and `hashing` are their parts alone. Tiles
are packed by torch and, where it is installed, by numba. Hours are random numbers, three in turn. Warm-up first
(compiling included); the median over repeats.

    python -m benchmarks.sealing   # a minute or two; writes benchmarks/results/sealing-cpu.csv
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from blake3 import blake3
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import hashing
from benchmarks.provenance import RESULTS, provenance, rounded, write_csv
from gridmarl.compiler import missing_compiler
from gridmarl.ledger.batch import BatchChain, BatchRoots
from gridmarl.ledger.batch_verify import pieces
from gridmarl.ledger.blake3_compress import Compress, compiled_compress, compress
from gridmarl.ledger.chain import LaneChains
from gridmarl.ledger.genesis import Rules
from gridmarl.ledger.hour import HourRecord
from gridmarl.ledger.packing import pack_hour
from gridmarl.ledger.records import RECORD_BYTES, input_count, transaction_count
from gridmarl.ledger.tiles import Tiles, part_words
from gridmarl.ledger.tiles_jit import has_numba

CHUNK_BYTES = 1024
HOURS = 3  # different ones, so that none lies in a cache when its turn comes
HORIZON = 1 << 20


@dataclass(frozen=True)
class Options:
    """What to measure."""

    lanes: tuple[int, ...] = (256, 4096)
    prosumers: int = 32
    threads: tuple[int, ...] = (1, 2)
    repeats: int = 9
    tensors: bool = True
    """Hash as tensors, too; on a CPU that takes longest."""
    compiled: bool = True
    device: str = "cpu"
    """Of the hours; the package works on the host."""
    seed: int = 0
    output: Path | None = None
    """CSV to write; by default sealing-<device>.csv in benchmarks/results."""
    quick: bool = False
    """Few lanes, eager, one thread, one repeat: to see that it works."""


@dataclass(frozen=True)
class Rate:
    """One row; records and bytes of records, padding and balances not counted."""

    route: str
    mode: str
    lanes: int
    prosumers: int
    threads_used: int
    repeats: int
    seconds: float
    fastest_s: float
    slowest_s: float

    @property
    def records(self) -> int:
        """Sealed at once, in all lanes."""
        return self.lanes * (input_count(self.prosumers) + transaction_count(self.prosumers))

    @property
    def ns_per_record(self) -> float:
        """Median."""
        return 1e9 * self.seconds / self.records

    @property
    def fastest_ns_per_record(self) -> float:
        """Minimum."""
        return 1e9 * self.fastest_s / self.records


def random_hour(options: Options, lanes: int, seed: int) -> HourRecord:
    """Hour 0 with numbers of the usual size; prices of flows are one per kind and lane, as the environment's are."""
    rng = np.random.default_rng(seed)
    prosumers = options.prosumers

    def numbers(*shape: int) -> Tensor:
        return torch.from_numpy(rng.integers(-(10**6), 10**6, shape)).to(options.device)

    prices = numbers(8, 1, lanes).expand(8, prosumers, lanes)
    signals, columns = [numbers(lanes) for _ in range(7)], [numbers(prosumers, lanes) for _ in range(11)]
    return HourRecord(
        0, *signals, *columns, numbers(8, prosumers, lanes), prices, numbers(2, lanes), numbers(prosumers + 3, lanes)
    )


def routes(
    options: Options, lanes: int, threads: int, compressions: dict[str, Compress]
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Name, mode and work of every route over the same hours."""
    prosumers, numbers = options.prosumers, range(lanes)
    hours = [random_hour(options, lanes, options.seed + turn) for turn in range(HOURS)]
    turns = count()

    def next_hour(period: int = 0) -> HourRecord:
        return hours[next(turns) % HOURS]._replace(period=period)

    yield from _parts_alone(options, lanes, threads, next_hour)
    rules = Rules(num_prosumers=prosumers, horizon_hours=HORIZON, initial_balances=(0,) * (prosumers + 3))
    sealed = LaneChains(rules, numbers)
    yield "sealed", f"package{_usual_tiles(options, lanes)}", lambda: sealed.append(next_hour(sealed.height))
    chains = {
        f"package, tiles by {packer}": BatchChain(rules, numbers, roots=BatchRoots(prosumers, numbers, jit=jit))
        for packer, jit in _packers(options).items()
    }
    for mode, each in compressions.items():
        chains[f"tensors, {mode}"] = BatchChain(rules, numbers, roots=BatchRoots(prosumers, numbers, compress=each))
    assert len({chain.append(hours[0]).hash for chain in chains.values()}) <= 1
    for mode, chain in chains.items():
        yield "batch", mode, lambda chain=chain: chain.append(next_hour(chain.height))


def _packers(options: Options) -> dict[str, bool]:
    """What packs tiles, and whether that is the compiled loop; nothing where the hours are not on a CPU."""
    if torch.device(options.device).type != "cpu":
        return {}
    return {"torch": False} | ({"numba": True} if has_numba() else {})


def _usual_tiles(options: Options, lanes: int) -> str:
    """How the tiles of level `sealed` are packed, which has no choice."""
    if torch.device(options.device).type != "cpu":
        return ""
    tiles = Tiles(options.prosumers, range(lanes), [(0, part_words(options.prosumers))])
    return f", tiles by {'numba' if tiles.jit else 'torch'}"


def _parts_alone(
    options: Options, lanes: int, threads: int, next_hour: Callable[[], HourRecord]
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    prosumers, numbers = options.prosumers, range(lanes)
    inputs, transactions = RECORD_BYTES * input_count(prosumers), RECORD_BYTES * transaction_count(prosumers)
    source = torch.zeros((lanes, inputs + transactions), dtype=torch.uint8, device=options.device)
    target = torch.ones_like(source)
    yield "copy", "", lambda: target.copy_(source)
    yield "packing", "at once", lambda: pack_hour(next_hour(), numbers)
    words = part_words(prosumers)
    cut = [(128 * first, 128 * chunks) for first, chunks in pieces(8 * words)]
    for name, ranges in (("sealed", [(0, words)]), ("batch", cut)):
        for packer, jit in _packers(options).items():
            tiles = Tiles(prosumers, numbers, ranges, jit=jit)
            yield "packing", f"tiles by {packer}, {name}", lambda tiles=tiles: sum(1 for _ in tiles.pack(next_hour()))
    padded = CHUNK_BYTES * -(-8 * words // CHUNK_BYTES)
    buffer = np.full(lanes * padded, 1, np.uint8).data
    rows = [buffer[at : at + padded] for at in range(0, len(buffer), padded)]
    views = [view for row in rows for view in (row[:inputs], row[inputs : inputs + transactions])]
    yield "hashing", "package, per lane", lambda: [blake3(view).digest() for view in views]
    yield "hashing", "package, once", lambda: blake3(buffer, max_threads=threads).digest()


def rates(options: Options) -> Iterator[Rate]:
    """All rows, as they are measured."""
    compressions: dict[str, Compress] = {"eager": compress} if options.tensors else {}
    if options.tensors and options.compiled:
        missing = missing_compiler(torch.device(options.device))
        if missing is None:
            compressions["compiled"] = compiled_compress()
        else:
            print(f"compiled: left out, {missing}", file=sys.stderr)
    measured = hashing.Options(repeats=options.repeats, device=options.device)
    before = torch.get_num_threads()
    try:
        for threads in options.threads:
            torch.set_num_threads(threads)
            for lanes in options.lanes:
                for route, mode, work in routes(options, lanes, threads, compressions):
                    taken = hashing.measure(measured, work)
                    middle, least, most = statistics.median(taken), min(taken), max(taken)
                    yield Rate(route, mode, lanes, options.prosumers, threads, len(taken), middle, least, most)
    finally:
        torch.set_num_threads(before)


def columns(row: Rate) -> dict[str, Any]:
    """A row of the CSV."""
    return rounded(row, 6) | {
        "ns_per_record": round(row.ns_per_record, 2),
        "fastest_ns_per_record": round(row.fastest_ns_per_record, 2),
        "records_per_s": round(row.records / row.seconds),
        "gb_per_s": round(RECORD_BYTES * row.records / row.seconds / 1e9, 3),
    }


def show(rows: list[Rate], origin: dict[str, object]) -> None:
    """A table on the terminal."""
    title = f"{origin['cpu']}, {origin['device']}, torch {origin['torch']}"
    table = Table(title=title, caption=f"load before: {origin['load_before']}")
    for name in ("route", "mode", "threads", "lanes", "ns/record", "fastest", "M records/s", "GB/s"):
        table.add_column(name, justify="left" if name in ("route", "mode") else "right")
    for row in rows:
        rate = row.records / row.seconds
        numbers = (f"{row.ns_per_record:.1f}", f"{row.fastest_ns_per_record:.1f}", f"{rate / 1e6:.1f}")
        bytes_rate = f"{RECORD_BYTES * rate / 1e9:.2f}"
        table.add_row(row.route, row.mode, str(row.threads_used), str(row.lanes), *numbers, bytes_rate)
    Console().print(table)


def main(options: Options, arguments: list[str]) -> list[Rate]:
    """Measure, write, show."""
    if options.quick:
        options = replace(options, lanes=(4,), prosumers=3, threads=(1,), repeats=1, compiled=False)
    origin = provenance("sealing", arguments, seed=options.seed, device=options.device)
    origin["threads"] = "as threads_used"
    rows = list(rates(options))
    name = f"sealing-{torch.device(options.device).type}.csv"
    write_csv(options.output or RESULTS / name, [columns(row) for row in rows], origin)
    show(rows, origin)
    return rows


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__), sys.argv[1:])
