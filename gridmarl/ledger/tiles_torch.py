"""Tiles packed by torch's copies, one word of all records at a time: the route that needs nothing else.

An hour's columns are `[P, E]`, records want `[E, P]`, and rows a power of two of bytes apart share few cache sets. So
each column of a tile is copied to a buffer whose rows are eight words longer than the tile and transposed from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gridmarl.ledger.records import RECORD_WORDS
from gridmarl.ledger.tiles_buffer import SERIAL_NUMBERS, PartRange, TileBuffer, constant_hour, serial
from gridmarl.ledger.tiles_columns import AMOUNT, ENERGY, LANE, PRICE, Column, hour_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gridmarl.ledger.hour import HourRecord

_ROW_GAP_WORDS = 8
_FEW_ROWS = 8


class _Place(NamedTuple):
    """How some kinds of a column go to a tile: copied to `staged`, from there (or at once) transposed to `out`."""

    column: int
    kinds: slice
    staged: Tensor | None  # [K, rows, lanes]
    transposed: Tensor | None  # [lanes, n], a view of `staged`
    out: Tensor  # [lanes, n], a view of the buffer


def _single_columns(hour: HourRecord, lanes: Tensor) -> list[Column]:
    """All columns but amounts; a flow's energy, price and lane each for itself."""
    columns, flows = hour_columns(hour, lanes)
    for energy, price, record in flows:
        lane = lanes.expand_as(energy)
        for word, values in ((ENERGY, energy), (PRICE, price), (LANE, lane)):
            columns.append(Column(values, RECORD_WORDS * record + word, RECORD_WORDS))
    return columns


class TorchTile(TileBuffer):
    """A tile of some lanes, packed again and again; arguments and attributes as of `TileBuffer`."""

    def __init__(self, part: PartRange, lanes: int) -> None:
        super().__init__(part, lanes)
        constant, nowhere = constant_hour(part.num_prosumers, part.interest), torch.zeros(1, dtype=torch.int64)
        self._products: list[tuple[Tensor, Tensor, Tensor]] = []
        for energy, _, record in hour_columns(constant, nowhere).flows:
            count = energy.size(0) * energy.size(1)
            fields = (serial(self.field(word, record, count)) for word in (ENERGY, PRICE, AMOUNT))
            self._products += zip(*fields, strict=True)
        self._places = list(self._all_places(_single_columns(constant, nowhere), lanes))

    @staticmethod
    def columns(hour: HourRecord, lanes: Tensor) -> Sequence[Tensor]:
        """What `pack` takes of an hour of all lanes; `lanes`: `[E]` int64 lane numbers."""
        return [column.values for column in _single_columns(hour, lanes)]

    def pack(self, period: int, columns: Sequence[Tensor], first: int) -> None:
        """Set `words` to those of the lanes at positions `first`, `first + 1`, ...

        Args:
            period: hour of the episode.
            columns: those of `columns`.
            first: position of the tile's first lane.
        """
        self.set_period(period)
        lanes = slice(first, first + self.words.size(0))
        for column, kinds, staged, transposed, out in self._places:
            values = columns[column][kinds, :, lanes]
            if staged is None or transposed is None:
                out.copy_(values[0].T)
            elif values.stride(1) == 0 and (values.size(0) == 1 or values.stride(0) == 0):  # the same in all rows
                out.copy_(values[0, 0].unsqueeze(1).expand_as(out))
            else:
                staged.copy_(values)
                out.copy_(transposed)
        for energy, price, amount in self._products:
            torch.mul(energy, price, out=amount)

    def _all_places(self, columns: Sequence[Column], lanes: int) -> Iterator[_Place]:
        sizes = [column.values.size(0) * column.values.size(1) for column in columns]
        staging = torch.empty((max(sizes), lanes + _ROW_GAP_WORDS), dtype=torch.int64)
        for index, (column, size) in enumerate(zip(columns, sizes, strict=True)):
            rows = column.values.size(1)
            first, last = self.rows(column.base, column.stride, size)
            if first == last:
                continue
            out = self.view(column.base, column.stride, (first, last))
            if (first, last) == (0, rows) and rows == size <= _FEW_ROWS:
                yield _Place(index, slice(0, 1), None, None, out)
                continue
            at_once = max(1, SERIAL_NUMBERS // (rows * lanes)) * rows
            for begin in range(first - first % rows, last, at_once):
                some = max(first, begin), min(last, begin + at_once)
                kinds = slice(begin // rows, -(-some[1] // rows))
                staged = staging[: (kinds.stop - kinds.start) * rows, :lanes]
                transposed = staged[some[0] - begin : some[1] - begin].T
                out = self.view(column.base, column.stride, some)
                yield _Place(index, kinds, staged.view(-1, rows, lanes), transposed, out)
