"""The run that `benchmarks.kill_ledger` kills: says which blocks were acknowledged, and when a chosen moment has come.

Nothing of the package is changed but from outside, in this process: `append` is followed by a write to a side file, and
SQLite's trace of statements, the writing of a checkpoint and the closing of the store can say so, or end the process.

    python -m benchmarks.kill_ledger_run SIDE_FILE MOMENT NTH PIPE train two-stage-dr ...
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Any

import gridmarl.ledger.store as store_module
import gridmarl.train.loop as loop_module
from gridmarl.ledger.block import SealedBlock
from gridmarl.ledger.store import LedgerStore

ACKNOWLEDGED = Struct("<Q32s")
"""A line of the side file: height and hash."""
MOMENTS = ("any", "start", "statement", "transaction", "checkpoint", "end")
STATEMENTS = ("BEGIN IMMEDIATE", "INSERT INTO blocks", "UPDATE head", "COMMIT")


def record(side_file: Path) -> None:
    """From now on every block that `append` has returned for is written to a side file, which a SIGKILL leaves."""
    target = os.open(side_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    original = LedgerStore.append

    def append(self: LedgerStore, sealed: SealedBlock) -> None:
        original(self, sealed)
        os.write(target, ACKNOWLEDGED.pack(sealed.block.parsed_header().height, sealed.hash))

    LedgerStore.append = append  # type: ignore[method-assign]


def arm(moment: str, nth: int, pipe: int) -> None:
    """At the nth such moment, write a byte to `pipe`; at a "statement", inside a transaction, die there and then.

    Args:
        moment: "statement" and "transaction" count statements of SQLite, "checkpoint" checkpoints; "end" is the closing
            of the store; the others are the parent's affair.
        nth: from 0.
        pipe: file descriptor.
    """
    seen = -1

    def count(action: Callable[[], Any]) -> None:
        nonlocal seen
        seen += 1
        if seen == nth:
            action()

    def announce() -> None:
        os.write(pipe, b"!")

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if moment in ("statement", "transaction"):
        wanted = STATEMENTS[nth % len(STATEMENTS)] if moment == "statement" else "COMMIT"
        _trace(lambda text: count(die if moment == "statement" else announce) if text.startswith(wanted) else None)
    elif moment == "checkpoint":
        save = loop_module.save_checkpoint

        def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
            count(announce)
            save(path, state)

        loop_module.save_checkpoint = save_checkpoint
    elif moment == "end":
        close = LedgerStore.close

        def announced(self: LedgerStore) -> None:
            announce()
            close(self)

        LedgerStore.close = announced  # type: ignore[method-assign]


def _trace(callback: Callable[[str], None]) -> None:
    """Call back before every statement of a connection that opens a store to write."""
    connect = store_module.connect

    def traced(path: Path, mode: str, *, immutable: bool = False) -> sqlite3.Connection:
        connection = connect(path, mode, immutable=immutable)
        if mode == "rw":
            connection.set_trace_callback(callback)
        return connection

    store_module.connect = traced


def main() -> int:
    """Run gridmarl with the arguments after the first four."""
    from gridmarl.cli import main as gridmarl

    side_file, moment, nth, pipe, *arguments = sys.argv[1:]
    record(Path(side_file))
    arm(moment, int(nth), int(pipe))
    return gridmarl(arguments)


if __name__ == "__main__":
    sys.exit(main())
