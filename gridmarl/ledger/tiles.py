"""Records of many lanes, packed some lanes at a time in buffers that stay in a cache: the fast route of a CPU.

The same words as `gridmarl.ledger.packing`, by a compiled loop (`tiles_jit`) where numba is installed and there are
enough lanes for it, else by torch's copies (`tiles_torch`). Times of both and of what was tried instead are in
docs/performance.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from gridmarl.errors import LedgerError
from gridmarl.ledger.records import PROSUMER_KINDS, RECORD_WORDS, input_count, transaction_count
from gridmarl.ledger.tiles_buffer import PartRange
from gridmarl.ledger.tiles_jit import JitTile, has_numba
from gridmarl.ledger.tiles_torch import TorchTile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from gridmarl.ledger.hour import HourRecord

_MOST_LANES = 512  # by torch's copies
_MOST_BYTES = 1 << 22
_JIT_RECORDS = 1 << 18  # of an hour; with fewer it takes thousands of hours to gain what compiling costs


def part_words(num_prosumers: int, *, interest: bool = False) -> int:
    """Words of a lane's part of an hour: inputs, transactions, balances, as in `pack_hour`."""
    records = input_count(num_prosumers) + transaction_count(num_prosumers, interest=interest)
    return RECORD_WORDS * records + num_prosumers + 3


def _lanes_of_a_tile(words: int, *, jit: bool) -> int:
    """A power of two. The compiled loop has no bound but that of bytes: a tile less is a handing over less."""
    by_bytes = 1 << max(1, _MOST_BYTES // (8 * words)).bit_length() - 1
    return by_bytes if jit else min(_MOST_LANES, by_bytes)


class _Tile(Protocol):
    """What both routes have; columns are as each of them likes them."""

    words: Tensor

    def __init__(self, part: PartRange, lanes: int) -> None: ...

    @staticmethod
    def columns(hour: HourRecord, lanes: Tensor) -> Any: ...

    def pack(self, period: int, columns: Any, first: int) -> None: ...


class _Job(NamedTuple):
    """A tile, and the position of the first lane that is packed in it."""

    tile: _Tile
    first: int


class Tiles:
    """The parts of all lanes, hour after hour, as a sequence of tiles in buffers that are used again.

    Args:
        num_prosumers: P.
        lanes: `[E]` lane numbers.
        ranges: `(first word, words)` of a part, the first word at a record's start: all lanes' words of one range come
            before those of the next.
        interest: hours end with records of interest.
        threads: with two or more, a thread packs the next tile while one is in use.
        jit: by a compiled loop; None: if numba is installed and an hour has so many records that it pays.

    Attributes:
        jit: by a compiled loop.

    Raises:
        MissingExtraError: `jit` is true and numba is not installed.
    """

    def __init__(
        self,
        num_prosumers: int,
        lanes: Sequence[int],
        ranges: Sequence[tuple[int, int]],
        *,
        interest: bool = False,
        threads: int = 1,
        jit: bool | None = None,
    ) -> None:
        self._num_prosumers, self._interest = num_prosumers, interest
        self._lanes = torch.tensor(lanes, dtype=torch.int64)
        if jit is None:
            jit = len(lanes) * part_words(num_prosumers) >= _JIT_RECORDS * RECORD_WORDS and has_numba()
        self.jit = jit
        self._kind: type[_Tile] = JitTile if jit else TorchTile
        sizes = [_lanes_of_a_tile(words, jit=jit) for _, words in ranges]
        self._ahead = threads > 1 and len(lanes) > min(sizes)
        turns = 2 if self._ahead else 1
        self._jobs: list[_Job] = []
        for (first_word, words), size in zip(ranges, sizes, strict=True):
            part = PartRange(num_prosumers, interest, first_word, words)
            buffers: dict[tuple[int, int], _Tile] = {}
            for turn, first in enumerate(range(0, len(lanes), size)):
                key = min(size, len(lanes) - first), turn % turns
                if key not in buffers:
                    buffers[key] = self._kind(part, key[0])
                self._jobs.append(_Job(buffers[key], first))

    def pack(self, hour: HourRecord) -> Iterator[tuple[int, Tensor]]:
        """`(first lane's position, words [n, words] int64)` of each tile; the words are valid until the next one.

        Raises:
            LedgerError: a tensor of the hour is not int64, or not of the shape that prosumers and lanes give it.
        """
        self._check(hour)
        columns = self._kind.columns(hour, self._lanes)

        def packed(job: _Job) -> tuple[int, Tensor]:
            job.tile.pack(hour.period, columns, job.first)
            return job.first, job.tile.words

        if not self._ahead:
            yield from map(packed, self._jobs)
            return
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(packed, self._jobs[0])
            for job in self._jobs[1:]:
                done = following.result()
                following = pool.submit(packed, job)
                yield done
            yield following.result()

    def _check(self, hour: HourRecord) -> None:
        """The compiled loop reads where it is told to, so the shapes must be right."""
        lanes = self._lanes.size(0)
        each = (self._num_prosumers, lanes)
        flows, balances = (PROSUMER_KINDS, *each), (self._num_prosumers + 3, lanes)
        shapes = [*[(lanes,)] * 7, *[each] * 11, flows, flows, (2, lanes), balances]
        debts = (2, *each) if self._interest else (0, *hour.debts_utok.shape[1:])
        for name, values, shape in zip(hour._fields[1:], hour[1:], [*shapes, debts], strict=True):
            if values.shape != shape or values.dtype != torch.int64:
                seen = f"{tuple(values.shape)} {values.dtype}"
                raise LedgerError(f"hour: {name} is {seen}; {shape} int64 is allowed")
