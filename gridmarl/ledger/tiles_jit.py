"""Tiles packed by one compiled loop (numba, the extra `fast`): a record's words one after the other, in one pass.

The loop goes four lanes at a time: their lines of a run of records, and what is read for them, fit the innermost cache
whatever the distance of rows. It holds no interpreter lock, so that another thread hashes meanwhile, and uses no
threads of numba's. It is compiled once a process, at first use; nothing is kept on disk.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from gridmarl.errors import MissingExtraError
from gridmarl.ledger.records import RECORD_WORDS
from gridmarl.ledger.tiles_buffer import PartRange, TileBuffer, constant_hour
from gridmarl.ledger.tiles_columns import ENERGY, hour_columns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import Tensor

    from gridmarl.ledger.hour import HourRecord

    _Words = NDArray[np.int64]
    _Plan = NDArray[np.uint64]

_LANES_AT_ONCE = np.uint64(4)
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)
_RECORD = np.uint64(RECORD_WORDS)


def has_numba() -> bool:
    """Whether numba is installed; it is not imported."""
    return find_spec("numba") is not None


class _Loop(Protocol):
    def __call__(
        self,
        out: _Words,
        columns: tuple[_Words, ...],
        lanes: _Words,
        fields: _Plan,
        flows: _Plan,
        first: np.uint64,
    ) -> None: ...


def _pack(out, columns, lanes, fields, flows, first):  # type: ignore[no-untyped-def]  # compiled; types are in `_Loop`
    """Write all words of `out` `[n, words]` that change from hour to hour, heads excepted.

    `columns`: arrays `[K, rows, E]`; `lanes`: `[E]`; a row of `fields`: column, word, stride, kind, row, number of
    rows; a row of `flows`: column of the energy (the price's is the next), word, kind, row, number of rows. All but
    the words is unsigned: with signed numbers every access asks whether an index is negative, which took as long as
    the rest.
    """
    num_lanes = np.uint64(out.shape[0])
    for begin in range(np.uint64(0), num_lanes, _LANES_AT_ONCE):
        some = min(_LANES_AT_ONCE, num_lanes - begin)
        for f in range(fields.shape[0]):
            values, word, stride = columns[fields[f, 0]], fields[f, 1], fields[f, 2]
            kind, row = fields[f, 3], fields[f, 4]
            for _ in range(fields[f, 5]):
                source = values[kind, row]
                for lane in range(begin, begin + some):
                    out[lane, word] = source[first + lane]
                word += stride
                row += _ONE
                if row == np.uint64(values.shape[1]):
                    kind, row = kind + _ONE, np.uint64(0)
        for f in range(flows.shape[0]):
            energies, prices, word = columns[flows[f, 0]], columns[flows[f, 0] + _ONE], flows[f, 1]
            kind, row = flows[f, 2], flows[f, 3]
            for _ in range(flows[f, 4]):
                energy_wh, price = energies[kind, row], prices[kind, row]
                for lane in range(begin, begin + some):
                    at = first + lane
                    out[lane, word] = energy_wh[at]
                    out[lane, word + _ONE] = price[at]
                    out[lane, word + _TWO] = energy_wh[at] * price[at]
                    out[lane, word + _THREE] = lanes[at]
                word += _RECORD
                row += _ONE
                if row == np.uint64(energies.shape[1]):
                    kind, row = kind + _ONE, np.uint64(0)


@cache
def _compiled(num_columns: int) -> _Loop:
    """`_pack` for so many columns; takes seconds."""
    from numba import njit, types

    words, plan = types.Array(types.int64, 2, "C"), types.Array(types.uint64, 2, "C")
    column, lanes = types.Array(types.int64, 3, "A"), types.Array(types.int64, 1, "C")
    signature = types.void(words, types.UniTuple(column, num_columns), lanes, plan, plan, types.uint64)
    loop: _Loop = njit(signature, nogil=True)(_pack)
    return loop


class JitTile(TileBuffer):
    """A tile of some lanes, packed again and again; arguments and attributes as of `TileBuffer`.

    Raises:
        MissingExtraError: numba is not installed.
    """

    def __init__(self, part: PartRange, lanes: int) -> None:
        if not has_numba():
            raise MissingExtraError("packing records by a compiled loop needs numba: pip install 'gridmarl[fast]'")
        super().__init__(part, lanes)
        nowhere = torch.zeros(1, dtype=torch.int64)
        columns, flows = hour_columns(constant_hour(part.num_prosumers, part.interest), nowhere)
        self._out = self.words.numpy()
        fields = (self._run(column.values, column.base, column.stride) for column in columns)
        self._fields = _plan(((at, word, columns[at].stride, *run) for at, (word, *run) in enumerate(fields)), 6)
        runs = (self._run(each.energy_wh, RECORD_WORDS * each.record + ENERGY, RECORD_WORDS) for each in flows)
        self._flows = _plan(((len(columns) + 2 * at, *run) for at, run in enumerate(runs)), 5)

    def _run(self, values: Tensor, base: int, stride: int) -> tuple[int, int, int, int]:
        """Word of the buffer, kind, row and number of the rows `[K, rows, E]` that fall into it."""
        kinds, rows = values.size(0), values.size(1)
        first, last = self.rows(base, stride, kinds * rows)
        return base + stride * first - self._first, first // rows, first % rows, last - first

    @staticmethod
    def columns(hour: HourRecord, lanes: Tensor) -> tuple[tuple[_Words, ...], _Words]:
        """What `pack` takes of an hour of all lanes; `lanes`: `[E]` int64 lane numbers."""
        columns, flows = hour_columns(hour, lanes)
        tensors = [column.values for column in columns]
        for each in flows:
            tensors += (each.energy_wh, each.price)
        return tuple(values.numpy() for values in tensors), lanes.numpy()

    def pack(self, period: int, columns: tuple[tuple[_Words, ...], _Words], first: int) -> None:
        """Set `words` to those of the lanes at positions `first`, `first + 1`, ...

        Args:
            period: hour of the episode.
            columns: those of `columns`.
            first: position of the tile's first lane.
        """
        self.set_period(period)
        arrays, lanes = columns
        _compiled(len(arrays))(self._out, arrays, lanes, self._fields, self._flows, np.uint64(first))


def _plan(rows: Iterable[tuple[int, ...]], width: int) -> _Plan:
    """Those rows whose last number, how many are to be copied, is not zero."""
    return np.array([row for row in rows if row[-1]], dtype=np.uint64).reshape(-1, width)
