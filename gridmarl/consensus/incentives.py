"""Stake as in demand-response contracts: what a prosumer has earned in reductions so far, read from the ledger.

Source: chapter 8 of the book on blockchain-based smart grids (2020), where the stake of a validator is the
demand-response incentives that it has earned.
"""

from __future__ import annotations

from collections.abc import Iterable

from gridmarl.consensus.types import Candidate
from gridmarl.ledger.block import Block
from gridmarl.ledger.election import check_range, earned_utok
from gridmarl.ledger.genesis import Rules
from gridmarl.ledger.records import RECORD_BYTES


def candidates_of(
    blocks: Iterable[Block], num_prosumers: int, validators: int, stake_kind: int = Rules.stake_kind
) -> list[Candidate]:
    """The blocks of a ledger as candidates; validator `i` is prosumer `i`, and its stake what it earned before.

    The stake grows by the amount of each REDUCTION transaction to the prosumer, µtok. An hour's reductions count from
    the next block on: who seals a block must be known before it is built. A negative price of the incentive (a
    prosumer that pays for its reduction) earns no stake.

    Args:
        stake_kind: what counts as stake (`ChainRules.stake_kind`), of other markets than the two-stage one.

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
        earned = earned_utok(block.transactions, num_prosumers, stake_kind)
        stakes_utok = [stake + more for stake, more in zip(stakes_utok, earned, strict=True)]
    return candidates
