"""Lazy reader of the canonical ledger file (layout: `gridmarl.ledger.file`); malformed input is an error, no crash."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from gridmarl.errors import LedgerError
from gridmarl.ledger.block import HEADER_BYTES, SIGNATURE_BYTES, VERSION, Block, Header
from gridmarl.ledger.chain_rules import MAX_GENESIS_BYTES
from gridmarl.ledger.file import (
    FILE_VERSION,
    MAGIC,
    PREFIX,
    TRAILER_BODY,
    TRAILER_BYTES,
    TRAILER_MAGIC,
    Trailer,
    block_bytes,
)
from gridmarl.ledger.hashing import genesis_hash, section_root
from gridmarl.ledger.location import (
    FILE,
    GENESIS,
    HEADER,
    INPUTS,
    SIGNATURES,
    TRAILER,
    TRANSACTIONS,
    LocatedError,
    Location,
    mismatch,
)
from gridmarl.ledger.markets import read_rules
from gridmarl.ledger.records import RECORD_BYTES
from gridmarl.ledger.store_format import is_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


class LedgerReader:
    """Lazy reader of a ledger file: one block in memory at a time. Hashes other than the genesis' are not judged here.

    Attributes:
        rules: the rules in the genesis.
        genesis_hash: parent of block 0.
        size: bytes of the file.
        block_bytes: bytes of one block.
        block_count: blocks that lie in full in the file.
        may_grow: whether more blocks can follow the last one (class attribute; true of a store).

    Args:
        file: a binary file that can seek; it stays open until `close`.

    Raises:
        LocatedError: magic, version or genesis is malformed.
    """

    may_grow = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        prefix = self._read(0, PREFIX.size - 4, FILE, None) + self._read(PREFIX.size - 4, 4, GENESIS, None)
        magic, version, length = PREFIX.unpack(prefix)
        if magic != MAGIC:
            raise mismatch(FILE, "not a ledger file", block=None, field="magic", expected=MAGIC, seen=magic)
        if version != FILE_VERSION:
            older = 0 < version < FILE_VERSION
            reason = "written by an earlier gridmarl: read it with that, or run again" if older else "unknown"
            raise mismatch(FILE, reason, block=None, field="version", expected=FILE_VERSION, seen=version)
        if length > MAX_GENESIS_BYTES:  # before it is read: a file with holes can be long at no cost
            allowed = f"<= {MAX_GENESIS_BYTES}"
            raise mismatch(GENESIS, "too long", block=None, field="length", expected=allowed, seen=length)
        genesis = self._read(PREFIX.size, length, GENESIS, None)
        self.genesis_hash = self._read(PREFIX.size + length, 32, GENESIS, None)
        expected = genesis_hash(genesis)
        if expected != self.genesis_hash:
            raise mismatch(
                GENESIS, "the hash differs", block=None, field="hash", expected=expected, seen=self.genesis_hash
            )
        try:
            self.rules = read_rules(genesis)
        except LedgerError as error:
            raise LocatedError(Location(GENESIS, str(error))) from error
        self._base = PREFIX.size + length + 32
        self.block_bytes = block_bytes(self.rules)
        self._inputs_start = HEADER_BYTES + SIGNATURE_BYTES * self.rules.signature_slots
        self._inputs_end = self._inputs_start + RECORD_BYTES * self.rules.inputs_per_block
        self.block_count, self._tail = divmod(self.size - self._base, self.block_bytes)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> LedgerReader:
        """Reader of a ledger file, or of a ledger store (`gridmarl.ledger.store_reader`): the magic bytes decide.

        Raises:
            LedgerError: the path is missing, not a regular file (a pipe would be waited for) or not readable;
                LocatedError as the constructor.
        """
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise LedgerError(f"ledger {os.fspath(path)}: cannot be opened (not a regular file)")
            if is_database(path):
                from gridmarl.ledger.store_reader import StoreReader  # here: it is a LedgerReader itself

                return StoreReader(path)
            file = open(path, "rb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise LedgerError(f"ledger {os.fspath(path)}: cannot be opened ({error.strerror})") from error
        try:
            return cls(file)
        except BaseException:
            file.close()
            raise

    def _read(self, offset: int, length: int, section: str, block: int | None) -> bytes:
        have = max(0, self.size - offset)
        data = b""
        if length <= have:  # never ask for more than there is: a huge length must not allocate
            try:
                self._file.seek(offset)
                data = self._file.read(length)
            except OSError as error:
                raise LocatedError(Location(section, f"cannot be read ({error.strerror})", block=block)) from error
            have = len(data)
        if have < length:
            raise LocatedError(Location(section, f"truncated: {have} of {length} bytes", block=block))
        return data

    def block(self, height: int) -> Block:
        """One block.

        Raises:
            LocatedError: there is no such block, or a trailer stands in its place (bytes follow the trailer).
        """
        if not 0 <= height < self.block_count:
            raise LocatedError(Location(HEADER, f"no such block; there are {self.block_count}", block=height))
        data = self._read(self._base + height * self.block_bytes, self.block_bytes, HEADER, height)
        if data.startswith(TRAILER_MAGIC):
            raise LocatedError(Location(TRAILER, "bytes follow the trailer"))
        start, end = self._inputs_start, self._inputs_end
        return Block(data[:HEADER_BYTES], data[start:end], data[end:], data[HEADER_BYTES:start])

    def header(self, height: int) -> bytes:
        """The 256 header bytes of one block. Errors as `block`."""
        if not 0 <= height < self.block_count:
            raise LocatedError(Location(HEADER, f"no such block; there are {self.block_count}", block=height))
        return self._read(self._base + height * self.block_bytes, HEADER_BYTES, HEADER, height)

    def __iter__(self) -> Iterator[Block]:
        return (self.block(height) for height in range(self.block_count))

    def trailer(self) -> Trailer:
        """The trailer.

        Raises:
            LocatedError: missing, truncated, followed by more bytes, or its checksum differs; or the last block is
                truncated.
        """
        offset, intact = self._base + self.block_count * self.block_bytes, f"{self.block_count} blocks precede"
        if self._tail == 0:
            raise LocatedError(Location(TRAILER, f"missing: the run was killed or still writes; {intact}"))
        data = self._read(offset, min(self._tail, TRAILER_BYTES), TRAILER, None)
        looks_like_trailer = data[:8] == TRAILER_MAGIC[: len(data)]
        if looks_like_trailer and self._tail != TRAILER_BYTES:
            reason = "bytes follow the trailer" if self._tail > TRAILER_BYTES else "truncated"
            raise LocatedError(Location(TRAILER, f"{reason}: {self._tail} bytes, {TRAILER_BYTES} allowed; {intact}"))
        if not looks_like_trailer and (self._tail != TRAILER_BYTES or self._starts_block(data)):
            ends = (HEADER_BYTES, self._inputs_start, self._inputs_end)
            section = (HEADER, SIGNATURES, INPUTS, TRANSACTIONS)[sum(self._tail >= end for end in ends)]
            reason = f"truncated: {self._tail} of {self.block_bytes} bytes of the block; {intact}"
            raise LocatedError(Location(section, reason, block=self.block_count))
        if not looks_like_trailer:
            raise mismatch(TRAILER, "not a trailer", block=None, field="magic", expected=TRAILER_MAGIC, seen=data[:8])
        expected, seen = section_root(data[: TRAILER_BODY.size]), data[TRAILER_BODY.size :]
        if expected != seen:
            raise mismatch(TRAILER, "the checksum differs", block=None, field="checksum", expected=expected, seen=seen)
        return Trailer._make(TRAILER_BODY.unpack_from(data)[1:])

    def _starts_block(self, data: bytes) -> bool:
        header = Header.unpack(data.ljust(HEADER_BYTES, b"\0"))
        return header.version == VERSION and header.height == self.block_count

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> LedgerReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
