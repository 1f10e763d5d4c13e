"""Records of many lanes, packed some lanes at a time in a buffer that stays in a cache: the fast route of a CPU.

The same words as `gridmarl.ledger.packing`, which also gives the constant ones (kinds, payers, payees, prosumers,
sequence numbers, zeros): they are written once per buffer. An hour adds its period, a tile its lanes and columns.

An hour's columns are `[P, E]`, records want `[E, P]`, and rows a power of two of bytes apart share few cache sets. So
each column of a tile is copied to a buffer whose rows are eight words longer than the tile and transposed from there.
Times of this and of what was tried instead are in docs/performance.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gridmarl.ledger.hour import HourRecord
from gridmarl.ledger.packing import pack_hour
from gridmarl.ledger.records import PROSUMER_KINDS, RECORD_WORDS, input_count, transaction_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ENERGY, _PRICE, _AMOUNT, _LANE, _PRINCIPAL = 2, 3, 4, 5, 7  # words of a transaction
_ROW_GAP_WORDS = 8
_FEW_ROWS = 8
_MOST_LANES = 512
_MOST_BYTES = 1 << 22
_SERIAL_NUMBERS = (1 << 15) - 1  # more at once and torch wakes its other threads, which then keep a core from hashing


def part_words(num_prosumers: int, *, interest: bool = False) -> int:
    """Words of a lane's part of an hour: inputs, transactions, balances, as in `pack_hour`."""
    records = input_count(num_prosumers) + transaction_count(num_prosumers, interest=interest)
    return RECORD_WORDS * records + num_prosumers + 3


def _constant_hour(num_prosumers: int, interest: bool) -> HourRecord:
    """Hour 0 of one lane, in which nothing happened."""
    one, each, flows, upstream, balances = (
        torch.zeros(shape, dtype=torch.int64)
        for shape in ((1,), (num_prosumers, 1), (PROSUMER_KINDS, num_prosumers, 1), (2, 1), (num_prosumers + 3, 1))
    )
    debts = torch.zeros((2 * interest, num_prosumers, 1), dtype=torch.int64)
    return HourRecord._make((0, *[one] * 7, *[each] * 11, flows, flows, upstream, balances, debts))


class Column(NamedTuple):
    """A column of an hour, and where its rows go in a lane's part: to word `base + stride * row`."""

    values: Tensor  # [K, rows, E], K = 8 for flows, else 1
    base: int
    stride: int


def hour_columns(hour: HourRecord) -> list[Column]:
    """Everything of an hour that is neither constant nor its period nor a lane's number, nor an amount."""
    prosumers = hour.buy_price.size(0)
    inputs, upstream = input_count(prosumers), input_count(prosumers) + PROSUMER_KINDS * prosumers
    signals = (
        hour.import_price,
        hour.export_price,
        hour.alpha_permille,
        hour.price,
        hour.dr_price,
        hour.shortage_wh,
        hour.volume_wh,
    )
    orders = (hour.buy_price, hour.buy_wh, hour.sell_price, hour.sell_wh)
    meters = (
        hour.offered_wh,
        hour.demand_wh,
        hour.returned_wh,
        hour.charge_wh,
        hour.discharge_wh,
        hour.generation_wh,
        hour.load_wh,
    )
    upstream_price = torch.stack((hour.import_price, hour.export_price))
    fields = [
        *((values.unsqueeze(0), 1, word) for word, values in enumerate(orders, start=1)),
        *((values.unsqueeze(0), 1 + prosumers, word) for word, values in enumerate(meters, start=1)),
        (hour.flow_wh, inputs, _ENERGY),
        (hour.flow_price, inputs, _PRICE),
        (hour.upstream_wh.unsqueeze(0), upstream, _ENERGY),
        (upstream_price.unsqueeze(0), upstream, _PRICE),
    ]
    if hour.has_interest:
        fields.append((hour.debts_utok[1:], upstream + 2, _AMOUNT))
        fields.append((hour.debts_utok[:1], upstream + 2, _PRINCIPAL))
    columns = [Column(values, RECORD_WORDS * record + word, RECORD_WORDS) for values, record, word in fields]
    columns.append(Column(torch.stack(signals).unsqueeze(0), 1, 1))
    balances = part_words(prosumers, interest=hour.has_interest) - prosumers - 3
    columns.append(Column(hour.balances.unsqueeze(0), balances, 1))
    return columns


class _Place(NamedTuple):
    """How some kinds of a column go to a tile: copied to `staged`, from there (or at once) transposed to `out`."""

    column: int
    kinds: slice
    staged: Tensor | None  # [K, rows, lanes]
    transposed: Tensor | None  # [lanes, n], a view of `staged`
    out: Tensor  # [lanes, n], a view of the buffer


class Tile:
    """A buffer for a range of words of the parts of some lanes, packed again and again.

    Args:
        num_prosumers: P.
        lanes: how many at once.
        first_word: word of a part with which a row begins, at a record's start.
        words: words of a row; beyond the part's end they are zero.
        interest: hours end with records of interest.

    Attributes:
        words: `[lanes, words]` int64: what was packed last.
    """

    def __init__(self, num_prosumers: int, lanes: int, first_word: int, words: int, *, interest: bool = False) -> None:
        self._first, self._end = first_word, first_word + words
        self.words = torch.zeros((lanes, words), dtype=torch.int64)
        constant = _constant_hour(num_prosumers, interest)
        part = pack_hour(constant, [0])[0, first_word : self._end]
        self.words[:, : part.size(0)] = part
        inputs, transactions = input_count(num_prosumers), transaction_count(num_prosumers, interest=interest)
        self._heads = _serial(self._field(0, 0, inputs + transactions))
        self._lane_fields = (self._field(6, 1, num_prosumers), self._field(_LANE, inputs, transactions))
        flows = transaction_count(num_prosumers)
        energy, price, amount = (_serial(self._field(word, inputs, flows)) for word in (_ENERGY, _PRICE, _AMOUNT))
        self._products = list(zip(energy, price, amount, strict=True))
        self._period = 0
        self._places = list(self._all_places(hour_columns(constant), lanes))

    def pack(self, period: int, columns: Sequence[Tensor], lanes: Tensor) -> None:
        """Set `words` to those of some lanes.

        Args:
            period: hour of the episode.
            columns: those of `hour_columns`, of these lanes only.
            lanes: `[lanes]` lane numbers.
        """
        if period != self._period:
            for heads in self._heads:
                heads.add_((period - self._period) << 32)
            self._period = period
        for column, kinds, staged, transposed, out in self._places:
            values = columns[column]
            if staged is None or transposed is None:
                out.copy_(values[0].T)
            elif kinds.stop - kinds.start == 1 and values.stride(1) == 0:  # a kind's price: the same in all rows
                out.copy_(values[kinds.start, 0].unsqueeze(1).expand_as(out))
            else:
                staged.copy_(values[kinds])
                out.copy_(transposed)
        for energy, price, amount in self._products:
            torch.mul(energy, price, out=amount)
        for field in self._lane_fields:
            numbers = lanes.unsqueeze(1).expand_as(field)
            for part, values in zip(_serial(field), _serial(numbers), strict=True):
                part.copy_(values)

    def _rows(self, base: int, stride: int, count: int) -> tuple[int, int]:
        """First and one beyond the last of `count` rows that fall into the tile's words."""
        first = max(0, -((base - self._first) // stride))
        return first, max(first, min(count, -((base - self._end) // stride)))

    def _view(self, base: int, stride: int, rows: tuple[int, int]) -> Tensor:
        """`[lanes, rows]` of the buffer."""
        first = base + stride * rows[0] - self._first
        return self.words[:, first : first + stride * (rows[1] - rows[0]) : stride]

    def _field(self, word: int, record: int, count: int) -> Tensor:
        """`[lanes, n]`: a word of those of `count` records from `record` that lie in the tile."""
        base = RECORD_WORDS * record + word
        return self._view(base, RECORD_WORDS, self._rows(base, RECORD_WORDS, count))

    def _all_places(self, columns: Sequence[Column], lanes: int) -> Iterator[_Place]:
        sizes = [column.values.size(0) * column.values.size(1) for column in columns]
        staging = torch.empty((max(sizes), lanes + _ROW_GAP_WORDS), dtype=torch.int64)
        for index, (column, size) in enumerate(zip(columns, sizes, strict=True)):
            rows = column.values.size(1)
            first, last = self._rows(column.base, column.stride, size)
            if first == last:
                continue
            out = self._view(column.base, column.stride, (first, last))
            if (first, last) == (0, rows) and rows == size <= _FEW_ROWS:
                yield _Place(index, slice(0, 1), None, None, out)
                continue
            at_once = max(1, _SERIAL_NUMBERS // (rows * lanes)) * rows
            for begin in range(first - first % rows, last, at_once):
                some = max(first, begin), min(last, begin + at_once)
                kinds = slice(begin // rows, -(-some[1] // rows))
                staged = staging[: (kinds.stop - kinds.start) * rows, :lanes]
                transposed = staged[some[0] - begin : some[1] - begin].T
                out = self._view(column.base, column.stride, some)
                yield _Place(index, kinds, staged.view(-1, rows, lanes), transposed, out)


def _serial(field: Tensor) -> Sequence[Tensor]:
    """Some lanes of `[lanes, n]` at a time, so few that torch stays on one thread."""
    parts: Sequence[Tensor] = field.split(max(1, _SERIAL_NUMBERS // max(1, field.size(1))))
    return parts


class _Job(NamedTuple):
    """Some lanes and the buffer they are packed in."""

    tile: Tile
    first: int  # position of the first lane
    lanes: Tensor  # [lanes of the tile] lane numbers


class Tiles:
    """The parts of all lanes, hour after hour, as a sequence of tiles in buffers that are used again.

    Args:
        num_prosumers: P.
        lanes: `[E]` lane numbers.
        ranges: `(first word, words)` of a part, the first word at a record's start: all lanes' words of one range come
            before those of the next.
        interest: hours end with records of interest.
        threads: with two or more, a thread packs the next tile while one is in use.
    """

    def __init__(
        self,
        num_prosumers: int,
        lanes: Sequence[int],
        ranges: Sequence[tuple[int, int]],
        *,
        interest: bool = False,
        threads: int = 1,
    ) -> None:
        numbers = torch.tensor(lanes, dtype=torch.int64)
        self._ahead = threads > 1 and numbers.size(0) > _MOST_LANES
        turns = 2 if self._ahead else 1
        self._jobs: list[_Job] = []
        for first, words in ranges:
            size = min(_MOST_LANES, 1 << max(1, _MOST_BYTES // (8 * words)).bit_length() - 1)
            buffers: dict[tuple[int, int], Tile] = {}
            for turn, some in enumerate(numbers.split(size)):
                key = some.size(0), turn % turns
                if key not in buffers:
                    buffers[key] = Tile(num_prosumers, some.size(0), first, words, interest=interest)
                self._jobs.append(_Job(buffers[key], turn * size, some))

    def pack(self, hour: HourRecord) -> Iterator[tuple[int, Tensor]]:
        """`(first lane's position, words [n, words] int64)` of each tile; the words are valid until the next one."""
        columns = [column.values for column in hour_columns(hour)]

        def packed(job: _Job) -> tuple[int, Tensor]:
            end = job.first + job.lanes.size(0)
            job.tile.pack(hour.period, [values[:, :, job.first : end] for values in columns], job.lanes)
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
