"""Blocks: a fixed 256-byte little-endian header, signatures, an input section and a transaction section.

| bytes    | field       | type | meaning                                                                   |
|----------|-------------|------|---------------------------------------------------------------------------|
| 0..1     | version     | u16  | 1                                                                         |
| 2..3     | consensus   | u16  | 1 proof of authority, 2 proof of stake, 3 proof of work, 4 PBFT           |
| 4..7     | period      | u32  | period of the episode (hour, half hour), height mod horizon               |
| 8..15    | height      | u64  | 0 for the first block                                                     |
| 16..23   | lane        | u64  | lane of the batch                                                         |
| 24..27   | tx_count    | u32  | records of the transaction section, such as 8P + 2 (the market's rules)   |
| 28..31   | input_count | u32  | records of the input section, such as 1 + 2P                              |
| 32..63   | parent      | hash | header hash of the block before, the genesis hash for block 0             |
| 64..95   | tx_root     | hash | BLAKE3 of the transaction section                                         |
| 96..127  | input_root  | hash | BLAKE3 of the input section                                               |
| 128..159 | state_root  | hash | derive-key BLAKE3 of the balances after the block                         |
| 160..167 | sealer      | u64  | account that sealed: the operator, or one of several members              |
| 168..175 | difficulty  | u64  | zero bits that the hash begins with under proof of work, else 0           |
| 176..183 | nonce       | u64  | solves the header under proof of work, else 0                             |
| 184..255 | reserved    |      | zero                                                                      |

The block's identity is the derive-key BLAKE3 hash of these 256 bytes. Signatures are Ed25519 over the identity
(`gridmarl.ledger.keys`), 64 bytes per slot: none in an unsigned chain, one of the sealer, or under PBFT one vote per
validator, zero where it has none (`gridmarl.ledger.chain_rules.ChainRules.signature_slots`).
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from gridmarl.errors import LedgerError
from gridmarl.ledger.hashing import header_hash

HEADER_BYTES = 256
SIGNATURE_BYTES = 64
VERSION = 1
CONSENSUS_CODES = {"proof_of_authority": 1, "proof_of_stake": 2, "proof_of_work": 3, "pbft": 4}
_RESERVED = bytes(72)
_HEADER = Struct("<HHIQQII32s32s32s32sQQQ72s")


class Header(NamedTuple):
    """A block header, fields in the order of the layout."""

    version: int
    consensus: int
    period: int
    height: int
    lane: int
    tx_count: int
    input_count: int
    parent: bytes
    tx_root: bytes
    input_root: bytes
    state_root: bytes
    sealer: int
    difficulty: int
    nonce: int
    reserved: bytes = _RESERVED

    def pack(self) -> bytes:
        """The 256 bytes."""
        return _HEADER.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """Header of 256 bytes; values are not judged here.

        Raises:
            LedgerError: not 256 bytes.
        """
        if len(data) != HEADER_BYTES:
            raise LedgerError(f"header: {len(data)} bytes; {HEADER_BYTES} are allowed")
        return cls._make(_HEADER.unpack(data))

    def hash(self) -> bytes:
        """Identity of the block, 32 bytes."""
        return header_hash(self.pack())


class Block(NamedTuple):
    """A block as bytes: header, input section, transaction section, and the signatures over the header's hash.

    In a file the signatures follow the header (`to_bytes`).
    """

    header: bytes
    inputs: bytes
    transactions: bytes
    signatures: bytes = b""

    def to_bytes(self) -> bytes:
        """The block as it stands in a file: header, signatures, inputs, transactions."""
        return b"".join((self.header, self.signatures, self.inputs, self.transactions))

    def parsed_header(self) -> Header:
        """The header's fields."""
        return Header.unpack(self.header)


class SealedBlock(NamedTuple):
    """A block together with its identity."""

    block: Block
    hash: bytes
