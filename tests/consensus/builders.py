"""Candidates for the tests of consensus."""

from __future__ import annotations

from collections.abc import Sequence

from gridmarl.consensus import Candidate
from gridmarl.ledger.block import Header

TX_COUNT = 82


def header(height: int, lane: int = 0) -> bytes:
    """A header; blocks that differ in height or lane differ in it."""
    zero = bytes(32)
    return Header(1, 1, height % 24, height, lane, TX_COUNT, 21, zero, zero, zero, zero, 11, 0, 0).pack()


def candidates(number: int, stakes_utok: Sequence[int] = (), lane: int = 0) -> list[Candidate]:
    """A chain of blocks with the same stakes before each."""
    return [Candidate(height, header(height, lane), TX_COUNT, tuple(stakes_utok)) for height in range(number)]
