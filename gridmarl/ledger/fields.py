"""What the records of all markets have in common: 64 bytes, eight little-endian int64 words, fields by bits of words.

Word 0 of every record is `kind (u16) | flags (u16) << 16 | period (u32) << 32`. The kinds and layouts of a market stand
in a module of its own: `gridmarl.ledger.records` (two-stage), `gridmarl.ledger.quota_records`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

RECORD_WORDS = 8
RECORD_BYTES = 64
_U64 = (1 << 64) - 1


class Field(NamedTuple):
    """`bits` bits of word `word` from bit `shift`; 64-bit fields are signed, shorter ones are not."""

    name: str
    word: int
    shift: int = 0
    bits: int = 64

    def get(self, words: Sequence[int]) -> int:
        """Value of the field in a record of eight signed words."""
        if self.bits == 64:
            return words[self.word]
        return ((words[self.word] & _U64) >> self.shift) & ((1 << self.bits) - 1)


_HEAD = (Field("kind", 0, 0, 16), Field("flags", 0, 16, 16), Field("period", 0, 32, 32))

TRANSACTION = (
    *_HEAD,
    Field("payer", 1, 0, 32),
    Field("payee", 1, 32, 32),
    Field("energy_wh", 2),
    Field("price_utok_per_wh", 3),
    Field("amount_utok", 4),
    Field("lane", 5),
    Field("sequence", 6),
    Field("reserved", 7),
)
"""A flow of money in every market."""


def layout(*names: str) -> tuple[Field, ...]:
    """Word 0, then one whole word for each name."""
    return _HEAD + tuple(Field(name, word) for word, name in enumerate(names, start=1))
