"""The canonical ledger file: one flat, little-endian file in which every bit is covered by a hash or fixed.

| part    | content                                                                                            |
|---------|----------------------------------------------------------------------------------------------------|
| file    | magic `GMLEDGER` (8 bytes), file version (u32)                                                     |
| genesis | length (u32), canonical JSON, genesis hash (32 bytes)                                              |
| blocks  | header (256 bytes), signatures (64 per slot), inputs and transactions (64 per record), each        |
| trailer | magic `GMLTRAIL`, block count (u64), head hash, final state root, BLAKE3 of these 80 bytes         |

All blocks of a file have the same length, which the rules in the genesis fix, so that block `i` is found without
reading the ones before and a corrupted count cannot shift what follows. A run that was killed leaves a file without
trailer, in which every block written in full is intact. A block has 1 + 2P input records and 8P + 2 transactions in the
two-stage market (under strict finality 9P + 2), 1 + 3N and 5N in that of charging quotas.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from gridmarl.errors import LedgerError
from gridmarl.ledger.block import HEADER_BYTES, SIGNATURE_BYTES, SealedBlock
from gridmarl.ledger.chain_rules import MAX_GENESIS_BYTES, ChainRules
from gridmarl.ledger.hashing import balance_bytes, section_root, state_root
from gridmarl.ledger.records import RECORD_BYTES

if TYPE_CHECKING:
    from types import TracebackType

MAGIC = b"GMLEDGER"
FILE_VERSION = 2
TRAILER_MAGIC = b"GMLTRAIL"
PREFIX = Struct("<8sII")
TRAILER_BODY = Struct("<8sQ32s32s")
TRAILER_BYTES = TRAILER_BODY.size + 32


class Trailer(NamedTuple):
    """End of a complete file."""

    block_count: int
    head: bytes
    state_root: bytes

    def pack(self) -> bytes:
        """The trailer's 112 bytes, its own BLAKE3 last."""
        body = TRAILER_BODY.pack(TRAILER_MAGIC, *self)
        return body + section_root(body)


def block_bytes(rules: ChainRules) -> int:
    """Length of one block in the file."""
    records = rules.inputs_per_block + rules.transactions_per_block
    return HEADER_BYTES + SIGNATURE_BYTES * rules.signature_slots + RECORD_BYTES * records


class LedgerWriter:
    """Writes a ledger file block by block; a context manager.

    Every block is handed to the operating system before `append` returns (with `sync=True`, to the disk), so that a
    killed process loses none. Leaving the context without an error writes the trailer; after an error there
    is none.

    Args:
        path: a file that does not exist yet.
        rules: the rules of the chain.
        sync: wait for the disk after each block.

    Raises:
        LedgerError: the file exists or cannot be written, or the genesis would be longer than `MAX_GENESIS_BYTES`.
    """

    def __init__(self, path: str | os.PathLike[str], rules: ChainRules, *, sync: bool = False) -> None:
        self.rules = rules
        self.head = rules.hash()
        self.height = 0
        self._sync = sync
        self._state_root = state_root(balance_bytes(rules.initial_balances))
        genesis = rules.to_bytes()
        if len(genesis) > MAX_GENESIS_BYTES:
            raise LedgerError(f"genesis: {len(genesis)} bytes; {MAX_GENESIS_BYTES} are allowed")
        try:
            self._file: BinaryIO = open(path, "xb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise LedgerError(f"ledger {os.fspath(path)}: cannot be created ({error.strerror})") from error
        self._write(PREFIX.pack(MAGIC, FILE_VERSION, len(genesis)) + genesis + self.head)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        if self._sync:
            os.fsync(self._file.fileno())

    def append(self, sealed: SealedBlock) -> None:
        """Append the next block.

        Raises:
            LedgerError: the block does not follow the last one, or its sections have the wrong length.
        """
        header = sealed.block.parsed_header()
        checks = (
            ("height", header.height, self.height),
            ("parent", header.parent, self.head),
            ("signatures", len(sealed.block.signatures), SIGNATURE_BYTES * self.rules.signature_slots),
            ("inputs", len(sealed.block.inputs), RECORD_BYTES * self.rules.inputs_per_block),
            ("transactions", len(sealed.block.transactions), RECORD_BYTES * self.rules.transactions_per_block),
        )
        for name, seen, allowed in checks:
            if seen != allowed:
                raise LedgerError(f"block {self.height}: {name} is {seen!r}; {allowed!r} is allowed")
        self._write(sealed.block.to_bytes())
        self.head, self._state_root = sealed.hash, header.state_root
        self.height += 1

    def close(self) -> None:
        """Write the trailer and close; the file is complete. Closing twice does nothing."""
        if not self._file.closed:
            self._write(Trailer(self.height, self.head, self._state_root).pack())
            self._file.close()

    def __enter__(self) -> LedgerWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


def write_ledger(path: str | os.PathLike[str], rules: ChainRules, blocks: list[SealedBlock]) -> None:
    """Write a complete ledger file. Errors as `LedgerWriter`."""
    with LedgerWriter(path, rules) as writer:
        for sealed in blocks:
            writer.append(sealed)
