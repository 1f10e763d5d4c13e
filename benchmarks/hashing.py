"""Hashing of ledger records: 64-byte records per second by every route, beside a copy of the same memory.

One hash per lane (`per_lane`: the section root of each lane's block) or one for the whole batch (`once`: each lane's
part padded to a subtree, the joined root). Routes take the layout that suits them: the package bytes with a lane's
records side by side, tensors words with lanes last. Warm-up first (compiling included); the median over repeats.

    python -m benchmarks.hashing   # some minutes; writes benchmarks/results/hashing-cpu.csv
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from blake3 import blake3
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.provenance import RESULTS, provenance, rounded, write_csv
from gridmarl.compiler import missing_compiler
from gridmarl.ledger.blake3_compress import Compress, compiled_compress, compress
from gridmarl.ledger.blake3_tensors import blake3_batch, subtree_root, subtree_values
from gridmarl.ledger.records import RECORD_BYTES, transaction_count

CHUNK_BYTES = 1024


@dataclass(frozen=True)
class Options:
    """What to measure."""

    lanes: tuple[int, ...] = (256, 4096)
    prosumers: int = 32
    """A lane's block has 8P + 2 records."""
    threads: tuple[int, ...] = (1, 2)
    repeats: int = 5
    compiled: bool = True
    device: str = "cpu"
    """Of the tensors; the package works on the host."""
    seed: int = 0
    output: Path | None = None
    """CSV to write; by default hashing-<device>.csv in benchmarks/results."""
    quick: bool = False
    """Few lanes, eager, one thread, one repeat: to see that it works."""


@dataclass(frozen=True)
class Rate:
    """One row: records hashed per second and GB of records per second, padding not counted."""

    route: str
    mode: str
    lanes: int
    records_per_lane: int
    threads_used: int
    repeats: int
    seconds: float
    fastest_s: float
    slowest_s: float

    @property
    def records_per_s(self) -> float:
        """Median."""
        return self.lanes * self.records_per_lane / self.seconds

    @property
    def gb_per_s(self) -> float:
        """Median, 10**9 bytes."""
        return self.records_per_s * RECORD_BYTES / 1e9


def measure(options: Options, work: Callable[[], Any]) -> list[float]:
    """Seconds of each repeat, after one as a warm-up."""
    cuda = torch.device(options.device).type == "cuda"
    taken = []
    for _ in range(options.repeats + 1):
        if cuda:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        if cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return taken[1:]


def routes(
    options: Options, lanes: int, threads: int, compressions: dict[str, Compress]
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Name, mode and work of every route over the same random records."""
    length = RECORD_BYTES * transaction_count(options.prosumers)
    chunks = 1 << (-(-length // CHUNK_BYTES) - 1).bit_length()
    host = np.zeros((lanes, chunks * CHUNK_BYTES // 4), np.int32)
    shape = (lanes, length // 4)
    host[:, : length // 4] = np.random.default_rng(options.seed).integers(-(2**31), 2**31, shape, dtype=np.int32)
    buffer = host.data.cast("B")
    views = [buffer[i * chunks * CHUNK_BYTES :][:length] for i in range(lanes)]
    padded = torch.from_numpy(host).to(options.device).T.contiguous()
    words = padded.narrow(0, 0, length // 4)
    target = torch.empty_like(words)
    yield "copy", "", lambda: target.copy_(words)
    yield "package_per_lane", "", lambda: [blake3(view).digest() for view in views]
    yield "package_once", "", lambda: blake3(buffer, max_threads=threads).digest()

    def per_lane(compress: Compress) -> Tensor:
        return blake3_batch(words, length, compress=compress)

    def once(compress: Compress) -> Tensor:
        return subtree_root(subtree_values(padded, compress=compress), compress=compress)

    for mode, each in compressions.items():
        assert _bytes(per_lane(each).narrow(1, lanes - 1, 1)) == blake3(views[-1]).digest()
        yield "tensors_per_lane", mode, lambda each=each: per_lane(each)
        assert _bytes(once(each)) == blake3(buffer).digest()
        yield "tensors_once", mode, lambda each=each: once(each)


def _bytes(value: Tensor) -> bytes:
    return value.contiguous().cpu().numpy().tobytes()


def rates(options: Options) -> Iterator[Rate]:
    """All rows, as they are measured."""
    compressions: dict[str, Compress] = {"eager": compress}
    if options.compiled:
        missing = missing_compiler(torch.device(options.device))
        if missing is None:
            compressions["compiled"] = compiled_compress()
        else:
            print(f"compiled: left out, {missing}", file=sys.stderr)
    before = torch.get_num_threads()
    try:
        for threads in options.threads:
            torch.set_num_threads(threads)
            for lanes in options.lanes:
                for route, mode, work in routes(options, lanes, threads, compressions):
                    taken = measure(options, work)
                    count = transaction_count(options.prosumers)
                    middle, least, most = statistics.median(taken), min(taken), max(taken)
                    yield Rate(route, mode, lanes, count, threads, len(taken), middle, least, most)
    finally:
        torch.set_num_threads(before)


def columns(row: Rate) -> dict[str, Any]:
    """A row of the CSV."""
    return rounded(row, 6) | {"records_per_s": round(row.records_per_s), "gb_per_s": round(row.gb_per_s, 3)}


def show(rows: list[Rate], origin: dict[str, object]) -> None:
    """A table on the terminal."""
    title = f"{origin['cpu']}, {origin['device']}, torch {origin['torch']}"
    table = Table(title=title, caption=f"load before: {origin['load_before']}")
    for name in ("route", "mode", "threads", "lanes", "M records/s", "ns/record", "GB/s"):
        table.add_column(name, justify="left" if name in ("route", "mode") else "right")
    for row in rows:
        numbers = (f"{row.records_per_s / 1e6:.2f}", f"{1e9 / row.records_per_s:.1f}", f"{row.gb_per_s:.2f}")
        table.add_row(row.route, row.mode, str(row.threads_used), str(row.lanes), *numbers)
    Console().print(table)


def main(options: Options, arguments: list[str]) -> list[Rate]:
    """Measure, write, show."""
    if options.quick:
        options = replace(options, lanes=(4,), prosumers=3, threads=(1,), repeats=1, compiled=False)
    origin = provenance("hashing", arguments, seed=options.seed, device=options.device)
    origin["threads"] = "as threads_used"
    rows = list(rates(options))
    name = f"hashing-{torch.device(options.device).type}.csv"
    write_csv(options.output or RESULTS / name, [columns(row) for row in rows], origin)
    show(rows, origin)
    return rows


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__), sys.argv[1:])
