"""A buffer for a range of words of the parts of some lanes, with the words that no hour changes in their places.

The constant words (kinds, payers, payees, prosumers, sequence numbers, zeros) are those of `gridmarl.ledger.packing`;
they are written once per buffer, an hour's period once an hour. The rest is the affair of a tile's `pack`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gridmarl.ledger.hour import HourRecord
from gridmarl.ledger.packing import pack_hour
from gridmarl.ledger.records import PROSUMER_KINDS, RECORD_WORDS, input_count, transaction_count

if TYPE_CHECKING:
    from collections.abc import Sequence

SERIAL_NUMBERS = (1 << 15) - 1  # more at once and torch wakes its other threads, which then keep a core from hashing


class PartRange(NamedTuple):
    """Which words of the parts of a market's lanes."""

    num_prosumers: int  # P
    interest: bool  # hours end with records of interest
    first: int  # word of a part with which a row begins, at a record's start
    words: int  # of a row; beyond the part's end they are zero


def constant_hour(num_prosumers: int, interest: bool) -> HourRecord:
    """Hour 0 of one lane, in which nothing happened."""
    one, each, flows, upstream, balances = (
        torch.zeros(shape, dtype=torch.int64)
        for shape in ((1,), (num_prosumers, 1), (PROSUMER_KINDS, num_prosumers, 1), (2, 1), (num_prosumers + 3, 1))
    )
    debts = torch.zeros((2 * interest, num_prosumers, 1), dtype=torch.int64)
    return HourRecord._make((0, *[one] * 7, *[each] * 11, flows, flows, upstream, balances, debts))


def serial(field: Tensor) -> Sequence[Tensor]:
    """Some lanes of `[lanes, n]` at a time, so few that torch stays on one thread."""
    parts: Sequence[Tensor] = field.split(max(1, SERIAL_NUMBERS // max(1, field.size(1))))
    return parts


class TileBuffer:
    """Words of some lanes, constants in their places.

    Args:
        part: which words.
        lanes: how many at once.

    Attributes:
        words: `[lanes, words]` int64: what was packed last.
    """

    def __init__(self, part: PartRange, lanes: int) -> None:
        self._first, self._end = part.first, part.first + part.words
        self.words = torch.zeros((lanes, part.words), dtype=torch.int64)
        constants = pack_hour(constant_hour(part.num_prosumers, part.interest), [0])[0, self._first : self._end]
        self.words[:, : constants.size(0)] = constants
        records = input_count(part.num_prosumers) + transaction_count(part.num_prosumers, interest=part.interest)
        self._heads = serial(self.field(0, 0, records))
        self._period = 0

    def set_period(self, period: int) -> None:
        """Write the hour of the episode into every record."""
        if period != self._period:
            for heads in self._heads:
                heads.add_((period - self._period) << 32)
            self._period = period

    def rows(self, base: int, stride: int, count: int) -> tuple[int, int]:
        """First and one beyond the last of `count` rows, at words `base + stride * row`, that fall into the buffer."""
        first = max(0, -((base - self._first) // stride))
        return first, max(first, min(count, -((base - self._end) // stride)))

    def view(self, base: int, stride: int, rows: tuple[int, int]) -> Tensor:
        """`[lanes, rows]` of the buffer."""
        first = base + stride * rows[0] - self._first
        return self.words[:, first : first + stride * (rows[1] - rows[0]) : stride]

    def field(self, word: int, record: int, count: int) -> Tensor:
        """`[lanes, n]`: a word of those of `count` records from `record` that lie in the buffer."""
        base = RECORD_WORDS * record + word
        return self.view(base, RECORD_WORDS, self.rows(base, RECORD_WORDS, count))
