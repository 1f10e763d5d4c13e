"""Reader of a ledger store (`gridmarl.ledger.store_format`), also while it is written; the interface of LedgerReader.

What it reads is one snapshot: the blocks that were there when it was opened, however long it takes and whatever is
appended meanwhile. A damaged database is a LocatedError, no crash.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridmarl.errors import LedgerError
from gridmarl.ledger.block import Block
from gridmarl.ledger.file import Trailer
from gridmarl.ledger.hashing import genesis_hash, header_hash
from gridmarl.ledger.location import FILE, GENESIS, HEADER, TRAILER, LocatedError, Location, mismatch
from gridmarl.ledger.markets import read_rules
from gridmarl.ledger.reader import LedgerReader
from gridmarl.ledger.store_format import PARTS, SELECT_BLOCK, check_schema, connect, meaning, part_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridmarl.ledger.chain_rules import ChainRules


class StoreReader(LedgerReader):
    """Reads a store; attributes as of LedgerReader, `size` counts the store and its log.

    The row `head` stands in for the trailer: it says which blocks must be there, not that no others will follow.

    Args:
        path: the store. While it is written, or after its writer died, its folder must allow files beside it, or hold
            the writer's.

    Raises:
        LedgerError: it cannot be opened.
        LocatedError: no ledger store, one of another version, or its genesis is malformed.
    """

    may_grow = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._connection = _open(self._path)
        try:
            self._begin()
        except BaseException:
            self._connection.close()
            raise

    def _begin(self) -> None:
        self._select("BEGIN", FILE)
        try:
            wrong = check_schema(self._connection)  # its first statement fixes the snapshot
        except sqlite3.Error as error:
            raise LocatedError(Location(FILE, meaning(error))) from error
        if wrong is not None:
            raise LocatedError(Location(FILE, wrong))
        self.rules, self.genesis_hash = self._genesis()
        self._lengths = part_bytes(self.rules)
        self.block_bytes = sum(self._lengths.values())
        ((last,),) = self._select("SELECT max(height) FROM blocks", FILE)
        self.block_count = 0 if last is None else max(0, last + 1)
        log = Path(f"{self._path}-wal")
        self.size = self._path.stat().st_size + (log.stat().st_size if log.exists() else 0)

    def _genesis(self) -> tuple[ChainRules, bytes]:
        rows = self._select("SELECT rules, hash FROM genesis", GENESIS)
        if len(rows) != 1 or not all(isinstance(value, bytes) for value in rows[0]):
            raise LocatedError(Location(GENESIS, f"{len(rows)} rows of bytes are found; 1 is allowed"))
        content, named = rows[0]
        if genesis_hash(content) != named:
            expected = genesis_hash(content)
            raise mismatch(GENESIS, "the hash differs", block=None, field="hash", expected=expected, seen=named)
        try:
            return read_rules(content), named
        except LedgerError as error:
            raise LocatedError(Location(GENESIS, str(error))) from error

    def _select(self, statement: str, section: str, values: Sequence[int] = (), block: int | None = None) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise LocatedError(Location(section, f"cannot be read: {meaning(error)}", block=block)) from error

    def _check_height(self, height: int) -> None:
        if not 0 <= height < self.block_count:
            raise LocatedError(Location(HEADER, f"no such block; there are {self.block_count}", block=height))

    def block(self, height: int) -> Block:
        """One block.

        Raises:
            LocatedError: there is no such block, its row is missing or damaged, a part has the wrong length, or the
                hash beside it is not that of its header.
        """
        self._check_height(height)
        rows = self._select(SELECT_BLOCK, HEADER, (height,), height)
        if len(rows) != 1:
            raise LocatedError(Location(HEADER, "the row is missing in the store", block=height))
        block, named = Block(*rows[0][: len(PARTS)]), rows[0][-1]
        for name, length in self._lengths.items():
            part = getattr(block, name)
            if not isinstance(part, bytes) or len(part) != length:
                seen = f"{len(part)} bytes" if isinstance(part, bytes) else type(part).__name__
                raise LocatedError(Location(name, f"{seen}; {length} bytes are allowed", block=height))
        identity = header_hash(block.header)
        if identity != named:
            reason = "the hash beside the header is not its hash"
            raise mismatch(HEADER, reason, block=height, field="hash", expected=identity, seen=named)
        return block

    def header(self, height: int) -> bytes:
        """The header bytes of one block. Errors as `block`, without those of other parts."""
        self._check_height(height)
        rows = self._select("SELECT header FROM blocks WHERE height = ?", HEADER, (height,), height)
        if len(rows) != 1 or not isinstance(rows[0][0], bytes) or len(rows[0][0]) != self._lengths["header"]:
            raise LocatedError(Location(HEADER, "the row is missing in the store, or damaged", block=height))
        header: bytes = rows[0][0]
        return header

    def trailer(self) -> Trailer:
        """What the row `head` says.

        Raises:
            LocatedError: it is missing or damaged, or there are rows besides those of the blocks.
        """
        rows = self._select("SELECT block_count, hash, state_root FROM head", TRAILER)
        if len(rows) != 1 or [type(value) for value in rows[0]] != [int, bytes, bytes]:
            raise LocatedError(Location(TRAILER, "the row `head` is missing or damaged"))
        ((count,),) = self._select("SELECT count(*) FROM blocks", FILE)
        if count != self.block_count:
            reason = f"{count} rows of blocks, with heights up to {self.block_count - 1}"
            raise LocatedError(Location(FILE, reason))
        return Trailer(*rows[0])

    def close(self) -> None:
        """Close the store."""
        self._connection.close()


def _open(path: Path) -> sqlite3.Connection:
    """Where no file can be made beside the store, it can be read as long as it has no log."""
    log = Path(f"{path}-wal")
    for immutable in (False, True):
        try:
            connection = connect(path, "ro", immutable=immutable)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except BaseException:
                connection.close()
                raise
            return connection
        except sqlite3.Error as error:
            refused = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
            if refused and not immutable and not (log.exists() and log.stat().st_size):
                continue
            told = f"ledger {path}: cannot be opened: {meaning(error)}"
            if refused:
                raise LedgerError(
                    f"{told}; with its log {log.name} it can be read from a folder of your own"
                ) from error
            raise LocatedError(Location(FILE, meaning(error))) from error
    raise AssertionError("not reached")
