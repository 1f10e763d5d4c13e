"""Processes of their own for the tests of the store: one that writes, and others that read meanwhile.

Arguments: write or read, store. Each says "ready" and starts when it is told to.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from gridmarl.ledger import LedgerReader, Rules, SealedBlock
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.store import LedgerStore
from tests.ledger.builders import SMALL, honest_blocks

EPISODES = 30
PATIENCE_S = 60.0


def wait() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def write(path: Path, rules: Rules, sealed: list[SealedBlock]) -> None:
    """Append all blocks slowly, say so, and wait to be killed."""
    with LedgerStore(path, rules) as store:
        wait()
        for each in sealed:
            store.append(each)
            time.sleep(0.02)
        print("done", flush=True)
        time.sleep(600)


def read(path: Path, sealed: list[SealedBlock]) -> None:
    """Open the store until all blocks are there; print whether each reading was a prefix of the chain, and lengths."""
    wait()
    until, lengths, prefix = time.monotonic() + PATIENCE_S, set(), True
    while time.monotonic() < until and len(sealed) not in lengths:
        with LedgerReader.open(path) as reader:
            hashes = [header_hash(block.header) for block in reader]
            trailer = reader.trailer()
        prefix &= hashes == [each.hash for each in sealed[: len(hashes)]]
        prefix &= trailer.block_count == len(hashes) and (not hashes or trailer.head == hashes[-1])
        lengths.add(len(hashes))
    print(prefix, *sorted(lengths), flush=True)


def main() -> None:
    task, path = sys.argv[1], Path(sys.argv[2])
    rules, sealed = honest_blocks(SMALL, episodes=EPISODES)
    if task == "write":
        write(path, rules, sealed)
    else:
        read(path, sealed)


if __name__ == "__main__":
    main()
