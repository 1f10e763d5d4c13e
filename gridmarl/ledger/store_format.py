"""The SQLite store of a ledger while it is written: schema, connections, and what SQLite's errors mean.

| table   | columns                                           | rows                                              |
|---------|---------------------------------------------------|---------------------------------------------------|
| genesis | id, rules, hash                                   | one: canonical JSON of the rules and its hash     |
| blocks  | height, one column for each part of `Block`, hash | one for each block; the hash is its header's      |
| head    | id, block_count, hash, state_root                 | one: what the trailer of a file would say by now  |

A block and the row `head` change in one transaction. `application_id` marks the file, `user_version` is the version of
the schema. The journal is a write-ahead log, `STORE-wal` beside the store, which belongs to it: until it is copied into
the store, the newest blocks are there only.
"""

from __future__ import annotations

import os
import reprlib
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gridmarl.errors import LedgerError
from gridmarl.ledger.block import HEADER_BYTES, SIGNATURE_BYTES, Block
from gridmarl.ledger.chain_rules import MAX_GENESIS_BYTES
from gridmarl.ledger.records import RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gridmarl.ledger.chain_rules import ChainRules

APPLICATION_ID = 0x474D4C53  # "GMLS"
SCHEMA_VERSION = 1
PARTS = Block._fields
BUSY_TIMEOUT_S = 10.0  # SQLite's own short locks, such as of a reader that reads a dead writer's log
SCHEMA = {
    "genesis": "CREATE TABLE genesis (id INTEGER PRIMARY KEY CHECK (id = 0), rules BLOB NOT NULL, hash BLOB NOT NULL)",
    "blocks": f"CREATE TABLE blocks (height INTEGER PRIMARY KEY, {' BLOB NOT NULL, '.join(PARTS)} BLOB NOT NULL, "
    "hash BLOB NOT NULL)",
    "head": "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 0), block_count INTEGER NOT NULL, "
    "hash BLOB NOT NULL, state_root BLOB NOT NULL)",
}
SELECT_BLOCK = f"SELECT {', '.join(PARTS)}, hash FROM blocks WHERE height = ?"
_MEANINGS = (
    ("SQLITE_FULL", "the disk is full"),
    ("SQLITE_READONLY", "it may only be read"),
    ("SQLITE_PERM", "it may not be opened"),
    ("SQLITE_CANTOPEN", "it may not be opened, or no file may be made beside it"),
    ("SQLITE_NOTADB", "not a database"),
    ("SQLITE_CORRUPT", "the database is damaged"),
    ("SQLITE_BUSY", "another process keeps it locked"),
    ("SQLITE_IOERR", "input or output failed; the disk may be full"),
)


def meaning(error: sqlite3.Error) -> str:
    """What an error of SQLite means, with SQLite's own words."""
    name = getattr(error, "sqlite_errorname", "")
    known = [text for prefix, text in _MEANINGS if name.startswith(prefix)]
    return f"{known[0]} ({error})" if known else str(error)


@contextmanager
def telling(path: Path, attempt: str) -> Iterator[None]:
    """Turns SQLite's errors into a LedgerError: "ledger store PATH: cannot be `attempt`: ..."."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"ledger store {path}: cannot be {attempt}: {meaning(error)}") from error


def connect(path: Path, mode: str, *, immutable: bool = False) -> sqlite3.Connection:
    """A connection without implicit transactions that trusts the content of the file as little as SQLite can.

    Args:
        path: the file.
        mode: "ro", "rw" or "rwc" (make it if it does not exist).
        immutable: take no locks and look for no log: for a file that nobody writes.
    """
    target = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    connection = sqlite3.connect(target, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * MAX_GENESIS_BYTES)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def is_database(path: str | os.PathLike[str]) -> bool:
    """Whether SQLite takes a file for a database that is not empty.

    SQLite itself is asked, by its magic bytes: whoever opens and closes the file of an open database drops the locks
    that SQLite holds on it in the same process (sqlite.org/howtocorrupt.html, section 2.2).
    """
    place = Path(path)
    if not os.access(place, os.R_OK) or place.stat().st_size == 0:
        return False
    try:
        connection = connect(place, "ro")
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorname", "") != "SQLITE_NOTADB"
    return True


def part_bytes(rules: ChainRules) -> dict[str, int]:
    """Length of each part of a block."""
    return {
        "header": HEADER_BYTES,
        "signatures": SIGNATURE_BYTES * rules.signature_slots,
        "inputs": RECORD_BYTES * rules.inputs_per_block,
        "transactions": RECORD_BYTES * rules.transactions_per_block,
    }


def check_schema(connection: sqlite3.Connection) -> str | None:
    """What is wrong with marks or schema, or None. Views and triggers, which could run code, are wrong, too."""
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    if mark != APPLICATION_ID:
        return f"a database, but no ledger store: application_id is {mark}; {APPLICATION_ID} is allowed"
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        return f"schema version {version}; {SCHEMA_VERSION} is allowed"
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master"))
    wrong = sorted(str(name) for name in found.keys() | SCHEMA.keys() if found.get(name) != SCHEMA.get(name))
    if wrong:
        return f"wrong schema at {reprlib.repr(wrong)}; {', '.join(SCHEMA)} as this version makes them are allowed"
    return None
