"""A ledger's blocks in an embedded SQLite database while they are written (schema: `gridmarl.ledger.store_format`).

What `append` has returned for survives a killed process (SIGKILL, out of memory) always: the transaction lies in the
operating system's cache. It survives power loss with `sync=True` (synchronous=FULL: every transaction waits for the
disk), and otherwise (synchronous=NORMAL) once `sync()` has returned; what is lost then are the newest blocks, whole,
never one in the middle. `gridmarl.ledger.store_reader` reads, `gridmarl.ledger.export` writes the canonical file.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gridmarl.errors import LedgerError
from gridmarl.ledger.block import Header
from gridmarl.ledger.chain_rules import MAX_GENESIS_BYTES
from gridmarl.ledger.file import Trailer
from gridmarl.ledger.hashing import balance_bytes, header_hash, state_root
from gridmarl.ledger.location import text
from gridmarl.ledger.records import RECORD_BYTES
from gridmarl.ledger.store_format import (
    APPLICATION_ID,
    PARTS,
    SCHEMA,
    SCHEMA_VERSION,
    SELECT_BLOCK,
    check_schema,
    connect,
    is_database,
    part_bytes,
    telling,
)

if TYPE_CHECKING:
    from types import TracebackType

    from gridmarl.ledger.block import Block, SealedBlock
    from gridmarl.ledger.chain_rules import ChainRules

_INSERT = f"INSERT INTO blocks (height, {', '.join(PARTS)}, hash) VALUES (?{', ?' * (len(PARTS) + 1)})"
_UPDATE = "UPDATE head SET block_count = ?, hash = ?, state_root = ?"


class LedgerStore:
    """Writes a ledger store block by block, and continues one; a context manager.

    A block of a height that is there already is accepted if it is the same: a resumed run makes the blocks since its
    last checkpoint again. One store has one writer at a time; readers do not hinder it. A writer that dies leaves
    the log `STORE-wal` beside the store, which belongs to it.

    Attributes:
        path, rules: of the store.
        height: blocks in the store.
        head: hash of the last one, the genesis hash if there is none.

    Args:
        path: the store; it is made if it does not exist, whole or not at all.
        rules: the rules of the chain.
        sync: wait for the disk after each block.
        wait_s: how long to wait for another writer of the same store to end.

    Raises:
        LedgerError: another process writes the store; the path holds something else, a store of another version or of
            another genesis, or one that is damaged; file or folder may not be written; the disk is full; the genesis
            would be longer than `MAX_GENESIS_BYTES`.
    """

    def __init__(
        self, path: str | os.PathLike[str], rules: ChainRules, *, sync: bool = False, wait_s: float = 0.0
    ) -> None:
        self.path, self.rules = Path(path), rules
        self._lengths = part_bytes(rules)
        self._lock = _exclusive(self.path, wait_s)
        try:
            if not self.path.exists():
                _create(self.path, rules)
            self._connection = self._connect(sync)
        except BaseException:
            self._lock.close()
            raise
        try:
            self.height, self.head = self._find_head()
        except BaseException:
            self._connection.close()
            self._lock.close()
            raise

    def _connect(self, sync: bool) -> sqlite3.Connection:
        if not self.path.is_file() or not is_database(self.path):
            raise LedgerError(f"ledger store {self.path}: not a database; a ledger store or a new name is allowed")
        with telling(self.path, "opened"):
            connection = connect(self.path, "rw")
            try:
                wrong = check_schema(connection)
                if wrong is not None:
                    raise LedgerError(f"ledger store {self.path}: {wrong}")
                connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            except BaseException:
                connection.close()
                raise
        return connection

    def _find_head(self) -> tuple[int, bytes]:
        """Number of blocks and last hash, where genesis, head and last block agree; and that all may be written."""
        with telling(self.path, "written"):
            self._connection.execute("UPDATE head SET id = id WHERE id < 0")  # nothing, refused where all writing is
        with telling(self.path, "read"):
            genesis = self._connection.execute("SELECT hash FROM genesis").fetchall()
            heads = self._connection.execute("SELECT block_count, hash FROM head").fetchall()
            last = self._connection.execute("SELECT height, header, hash FROM blocks ORDER BY height DESC LIMIT 1")
            found = last.fetchone() or (-1, None, self.rules.hash())
        if genesis != [(self.rules.hash(),)]:
            seen = ", ".join(text(row[0]) for row in genesis) or "none"
            raise LedgerError(
                f"ledger store {self.path}: genesis {seen}; {self.rules.hash().hex()}, that of these rules, is allowed"
            )
        height, header, identity = found
        if heads != [(height + 1, identity)] or (header is not None and header_hash(header) != identity):
            raise LedgerError(
                f"ledger store {self.path}: damaged: head and last block (height {height}) do not agree; "
                "`gridmarl ledger verify` says more"
            )
        return height + 1, identity

    def append(self, sealed: SealedBlock) -> None:
        """Append the next block; when this returns, a SIGKILL does not lose it any more.

        After an error the store is as before, and the same block may be tried again.

        Raises:
            LedgerError: the block does not follow the last one, its parts have the wrong length, it is not the one
                that stands at its height already, or it cannot be written (the disk is full).
        """
        block, header = sealed.block, sealed.block.parsed_header()
        if header.height < self.height:
            self._check_same(header.height, block)
            return
        checks = [("height", header.height, self.height), ("parent", header.parent, self.head)]
        checks += [("hash", sealed.hash, header_hash(block.header))]
        checks += [(name, len(getattr(block, name)), length) for name, length in self._lengths.items()]
        for name, seen, allowed in checks:
            if seen != allowed:
                raise LedgerError(f"block {self.height}: {name} is {text(seen)}; {text(allowed)} is allowed")
        with telling(self.path, f"written at block {self.height}"):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute(_INSERT, (self.height, *block, sealed.hash))
                self._connection.execute(_UPDATE, Trailer(self.height + 1, sealed.hash, header.state_root))
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                with suppress(sqlite3.Error):  # SQLite has ended the transaction itself after most errors
                    self._connection.execute("ROLLBACK")
                raise
        self.height, self.head = self.height + 1, sealed.hash

    def _check_same(self, height: int, block: Block) -> None:
        with telling(self.path, f"read at block {height}"):
            row = self._connection.execute(SELECT_BLOCK, (height,)).fetchone()
        if row is None:
            raise LedgerError(f"ledger store {self.path}: damaged: block {height} is missing")
        if row[: len(PARTS)] != tuple(block):
            raise LedgerError(
                f"ledger store {self.path}: block {height} is there already and differs in "
                f"{_difference(dict(zip(PARTS, row, strict=False)), block)}; allowed are the blocks of the same run"
            )

    def sync(self) -> None:
        """Wait until every block so far is on the disk: from here on, power loss loses none of them.

        Raises:
            LedgerError: the disk refuses.
        """
        try:  # the log only: what SQLite has copied from it into the store is on the disk already
            with open(f"{self.path}-wal", "rb") as log:
                os.fsync(log.fileno())
        except FileNotFoundError:
            return
        except OSError as error:
            raise LedgerError(f"ledger store {self.path}: cannot be synchronised ({error.strerror})") from error

    def close(self) -> None:
        """Close; without readers, the log is copied into the store and goes. Closing twice does nothing."""
        self._connection.close()
        self._lock.close()

    def __enter__(self) -> LedgerStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _exclusive(path: Path, wait_s: float) -> sqlite3.Connection:
    """The lock of the one writer: an exclusive transaction in an empty database beside the store.

    The operating system frees it when the process ends, however it ends. The file stays: if it were removed, a process
    that waits for the old one and another that makes a new one could both go on.
    """
    attempt = f"locked by {path.name}-lock beside it"
    with telling(path, attempt):
        lock = connect(path.with_name(f"{path.name}-lock"), "rwc")
        try:
            lock.execute(f"PRAGMA busy_timeout = {int(1000 * wait_s)}")
            lock.execute("PRAGMA journal_mode = MEMORY")  # nothing is written: no journal beside it either
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                raise LedgerError(
                    f"ledger store {path}: another process writes it (waited {wait_s:g} s); one at a time is allowed"
                ) from error
            raise
    return lock


def _create(path: Path, rules: ChainRules) -> None:
    """A store without blocks, made under another name, so that it never exists without its genesis."""
    genesis, root = rules.to_bytes(), state_root(balance_bytes(rules.initial_balances))
    if len(genesis) > MAX_GENESIS_BYTES:
        raise LedgerError(f"genesis: {len(genesis)} bytes; {MAX_GENESIS_BYTES} are allowed")
    part = path.with_name(f"{path.name}.part")
    try:
        for leftover in (part, *(part.with_name(part.name + end) for end in ("-wal", "-shm", "-journal"))):
            leftover.unlink(missing_ok=True)
        with telling(path, "created"), closing(connect(part, "rwc")) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA.values():
                connection.execute(statement)
            connection.execute("INSERT INTO genesis VALUES (0, ?, ?)", (genesis, rules.hash()))
            connection.execute("INSERT INTO head VALUES (0, ?, ?, ?)", Trailer(0, rules.hash(), root))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
            (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if journal != "wal":
            raise LedgerError(f"ledger store {path}: cannot be created: this file system allows no write-ahead log")
        part.replace(path)
    except OSError as error:
        raise LedgerError(f"ledger store {path}: cannot be created ({error.strerror})") from error


def _difference(stored: dict[str, object], block: Block) -> str:
    """Parts in which a stored block differs from another, and what of them."""
    found = []
    for name in PARTS:
        old, new = stored[name], getattr(block, name)
        if old == new:
            continue
        if not isinstance(old, bytes) or len(old) != len(new):
            found.append(f"{name} (length)")
        elif name == "header":
            pairs = zip(Header._fields, Header.unpack(old), Header.unpack(new), strict=True)
            found.append(f"header ({', '.join(field for field, one, other in pairs if one != other)})")
        else:
            first = next(at for at, (one, other) in enumerate(zip(old, new, strict=True)) if one != other)
            found.append(f"{name} (record {first // RECORD_BYTES})")
    return ", ".join(found)
