"""A chain, and stores of it, for the tests of the store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from gridmarl.ledger import LedgerStore, SealedBlock
from tests.ledger.builders import FULL, honest_blocks

RULES, BLOCKS = honest_blocks(FULL, episodes=2)


def full_store(path: Path, blocks: list[SealedBlock] = BLOCKS, *, sync: bool = False) -> Path:
    with LedgerStore(path, RULES, sync=sync) as store:
        append_all(store, blocks)
    return path


def append_all(ledger: LedgerStore, blocks: list[SealedBlock]) -> None:
    for sealed in blocks:
        ledger.append(sealed)


def execute(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement, values)
