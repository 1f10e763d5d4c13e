"""Layout of the two-stage market's 64-byte records: eight little-endian int64 words, one BLAKE3 block.

Word 0 of every record is `kind (u16) | flags (u16) << 16 | period (u32) << 32`. Words not named are zero. Records of
all markets are encoded and decoded here; those of charging quotas are laid out in `gridmarl.ledger.quota_records`.

| word | transaction (kinds 1..11)    | SIGNAL (100)   | ORDER (101)   | METER (102)                 |
|------|------------------------------|----------------|---------------|-----------------------------|
| 0    | kind, flags 0, period        | same           | same          | flags = prosumer mod 65536  |
| 1    | payer (u32), payee (u32)<<32 | imp            | b buy price   | o reduction offered         |
| 2    | energy, Wh                   | exp            | B buy energy  | d stage-1 consumption       |
| 3    | price, µtok/Wh               | alpha permille | s sell price  | r returned (shifted) energy |
| 4    | amount = energy*price, µtok  | pi             | S sell energy | c battery charge            |
| 5    | lane                         | pi_dr          | prosumer      | x battery discharge         |
| 6    | sequence number in block     | shortage       | lane          | g generation                |
| 7    | 0 (kind 11: the principal)   | V volume       | 0             | m load                      |

Input section of a block: one SIGNAL, `P` ORDERs, `P` METERs; record `1 + P + i` is the METER of prosumer `i` (its
position decides; the flags repeat it). Transaction section: kind-major, kind 1 of prosumers `0..P-1`, ..., kind 8, then
kinds 9 and 10: `8P + 2` records, those of zero energy included. Where the rules have strict finality, `P` records of
kind 11 follow, those of zero interest included: energy and price 0, amount the interest, word 7 the principal that it
is due on. Symbols as in docs/market-rules.md.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING

from gridmarl.errors import LedgerError
from gridmarl.ledger import quota_records
from gridmarl.ledger.fields import RECORD_BYTES, RECORD_WORDS, TRANSACTION, Field, layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["RECORD_BYTES", "RECORD_WORDS", "Field"]  # those of `gridmarl.ledger.fields` that others take from here

PROSUMER_KINDS = 8
_RECORD = Struct("<8q")


class Kind(IntEnum):
    """Record kinds: 1..11 the flows of money in the rules' table, 100.. the inputs."""

    LOCAL_BUY = 1
    LOCAL_SELL = 2
    IMPORT = 3
    EXPORT = 4
    REDUCTION = 5
    SHORTFALL = 6
    SURPLUS = 7
    PENALTY = 8
    UPSTREAM_IMPORT = 9
    UPSTREAM_EXPORT = 10
    INTEREST = 11
    SIGNAL = 100
    ORDER = 101
    METER = 102


_TWO_STAGE: dict[int, tuple[Field, ...]] = dict.fromkeys(range(1, 11), TRANSACTION) | {
    Kind.INTEREST: (*TRANSACTION[:-1], Field("principal_utok", 7)),
    Kind.SIGNAL: layout(
        "import_price", "export_price", "alpha_permille", "price", "dr_price", "shortage_wh", "volume_wh"
    ),
    Kind.ORDER: layout("buy_price", "buy_wh", "sell_price", "sell_wh", "prosumer", "lane", "reserved"),
    Kind.METER: layout(
        "offered_wh", "demand_wh", "returned_wh", "charge_wh", "discharge_wh", "generation_wh", "load_wh"
    ),
}

FIELDS = _TWO_STAGE | quota_records.FIELDS
"""Fields by kind, of all markets."""

KINDS: dict[int, IntEnum] = {int(kind): kind for kind in (*Kind, *quota_records.QuotaKind)}
"""Kinds by number, of all markets."""


def input_count(num_prosumers: int) -> int:
    """Records in the input section of a block: `1 + 2P`."""
    return 1 + 2 * num_prosumers


def transaction_count(num_prosumers: int, *, interest: bool = False) -> int:
    """Records in the transaction section of a block: `8P + 2`, with interest (strict finality) `9P + 2`."""
    return (PROSUMER_KINDS + interest) * num_prosumers + 2


def input_name(index: int, num_prosumers: int) -> str:
    """Name of an input record, such as `ORDER of prosumer 3`."""
    if index == 0:
        return "SIGNAL"
    order = index <= num_prosumers
    return f"{'ORDER' if order else 'METER'} of prosumer {(index - 1) % num_prosumers}"


def transaction_name(index: int, num_prosumers: int) -> str:
    """Name of a transaction record, such as `LOCAL_BUY of prosumer 3` or `UPSTREAM_IMPORT`."""
    kind, prosumer = divmod(index, num_prosumers)
    if kind < PROSUMER_KINDS:
        return f"{Kind(kind + 1).name} of prosumer {prosumer}"
    rest = index - PROSUMER_KINDS * num_prosumers
    return Kind(9 + rest).name if rest < 2 else f"{Kind.INTEREST.name} of prosumer {rest - 2}"


def first_difference(expected: Sequence[int], seen: Sequence[int]) -> tuple[str, int, int]:
    """`(field, expected value, seen value)` of the first field that differs; the layout is that of the expected kind.

    Raises:
        LedgerError: the two records are equal.
    """
    for item in FIELDS[expected[0] & 0xFFFF]:
        if item.get(expected) != item.get(seen):
            return item.name, item.get(expected), item.get(seen)
    raise LedgerError("the records do not differ")


def decode_record(record: bytes) -> dict[str, int]:
    """Fields of one 64-byte record by name, in the order of the layout.

    Raises:
        LedgerError: not 64 bytes, or an unknown kind.
    """
    if len(record) != RECORD_BYTES:
        raise LedgerError(f"record: {len(record)} bytes; {RECORD_BYTES} are allowed")
    words = _RECORD.unpack(record)
    kind = words[0] & 0xFFFF
    if kind not in FIELDS:
        raise LedgerError(f"record: kind {kind}; allowed are {sorted(FIELDS)}")
    return {item.name: item.get(words) for item in FIELDS[kind]}


def encode_record(values: dict[str, int]) -> bytes:
    """The 64 bytes of a record given by name; the inverse of `decode_record`.

    Raises:
        LedgerError: unknown kind, a missing or unknown field, or a value that does not fit its field.
    """
    layout = FIELDS.get(values.get("kind", -1))
    if layout is None or set(values) != {item.name for item in layout}:
        names = [item.name for item in layout] if layout else "a known kind and its fields"
        raise LedgerError(f"record: fields {sorted(values)}; allowed are exactly {names}")
    words = [0] * RECORD_WORDS
    for item in layout:
        value = values[item.name]
        low, high = (-(1 << 63), 1 << 63) if item.bits == 64 else (0, 1 << item.bits)
        if not low <= value < high:
            raise LedgerError(f"record: {item.name} = {value}; allowed are {low} .. {high - 1}")
        words[item.word] |= value << item.shift
    signed = [word - (1 << 64) if word >= 1 << 63 else word for word in words]
    return _RECORD.pack(*signed)


def iterate_records(section: bytes) -> Iterator[dict[str, int]]:
    """The records of a section, decoded one by one."""
    for start in range(0, len(section), RECORD_BYTES):
        yield decode_record(section[start : start + RECORD_BYTES])
