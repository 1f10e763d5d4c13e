"""Stake as in demand-response contracts: what a prosumer has earned in reductions so far, read from the ledger.

Source: chapter 8 of the book on blockchain-based smart grids (2020), where the stake of a validator is the
demand-response incentives that it has earned.
"""

from __future__ import annotations

from collections.abc import Iterable

from gridmarl.consensus.network import check_range
from gridmarl.consensus.types import Candidate
from gridmarl.ledger.block import Block
from gridmarl.ledger.records import RECORD_BYTES, Kind, decode_record


def candidates_of(blocks: Iterable[Block], num_prosumers: int, validators: int) -> list[Candidate]:
    """The blocks of a ledger as candidates; validator `i` is prosumer `i`, and its stake what it earned before.

    The stake grows by the amount of each REDUCTION transaction to the prosumer, µtok. An hour's reductions count from
    the next block on: who seals a block must be known before it is built. A negative price of the incentive (a
    prosumer that pays for its reduction) earns no stake.

    Raises:
        ConfigError: more validators than prosumers, or none.
        LedgerError: a block cannot be read.
    """
    check_range("validators", validators, 1, num_prosumers)
    stakes_utok = [0] * num_prosumers
    candidates = []
    for height, block in enumerate(blocks):
        count = len(block.transactions) // RECORD_BYTES
        candidates.append(Candidate(height, block.header, count, tuple(stakes_utok[:validators])))
        for prosumer, amount_utok in enumerate(_reductions(block, num_prosumers)):
            stakes_utok[prosumer] += max(0, amount_utok)
    return candidates


def _reductions(block: Block, num_prosumers: int) -> list[int]:
    """Amount of each prosumer's REDUCTION, µtok; the section is sorted by kind, then by prosumer."""
    first = (Kind.REDUCTION - 1) * num_prosumers
    starts = ((first + prosumer) * RECORD_BYTES for prosumer in range(num_prosumers))
    return [decode_record(block.transactions[start : start + RECORD_BYTES])["amount_utok"] for start in starts]
