"""Who seals a block, as everybody can compute: turns, and the draw weighted by stake.

Plain Python, one implementation for the chain, its verification and the comparison of mechanisms
(`gridmarl.consensus`). The draw is a BLAKE3 hash of seed, parent block, height and attempt: everybody computes the same
one, nobody knows it before the parent is sealed. The stake is what a prosumer has earned in demand-response reductions
in the blocks before, as in chapter 8 of the book on blockchain-based smart grids (2020); what a station has earned by
selling quota, where charging quotas are traded.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack, unpack
from typing import TYPE_CHECKING

from blake3 import blake3

from gridmarl.errors import ConfigError
from gridmarl.ledger.fields import RECORD_BYTES

if TYPE_CHECKING:
    from gridmarl.ledger.chain_rules import ChainRules

MAX_VALIDATORS = 100
MIN_PBFT_VALIDATORS = 4
MAX_CONFIRMATIONS = 10**6
ELECTION_CONTEXT = "gridmarl 2025-11 consensus v1 proof-of-stake election"
_DRAW_BITS = 64
_AMOUNT_WORD = 4


def check_range(name: str, value: int, low: int, high: int) -> None:
    """ConfigError unless `value` is an int and `low <= value <= high`."""
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{name}: {value!r}, allowed are {low} .. {high}")


def in_turn(turn: int, validators: int) -> int:
    """Whose turn it is, round robin: of the slots of proof of authority, the views of PBFT, the nonces of miners."""
    return turn % validators


def quorum(validators: int) -> int:
    """More than two thirds of the votes, 2f + 1 of 3f + 1: any two quorums share an honest validator."""
    return 2 * validators // 3 + 1


def election_draw(seed: int, parent: bytes, height: int, attempt: int = 0) -> int:
    """A number 0 .. 2**64-1 that everybody can recompute."""
    message = pack("<Q", seed) + parent + pack("<QQ", height, attempt)
    return int.from_bytes(blake3(message, derive_key_context=ELECTION_CONTEXT).digest(_DRAW_BITS // 8), "little")


def elect(draw: int, weights: Sequence[int]) -> int:
    """The validator that a draw picks: `i` with probability `weights[i] / total`, off by less than `total / 2**64`.

    Raises:
        ConfigError: a negative weight, or all of them zero.
    """
    total = 0
    for position, weight in enumerate(weights):
        if weight < 0:
            raise ConfigError(f"weights[{position}]: {weight}, allowed are integers from 0")
        total += weight
    if not total:
        raise ConfigError(f"weights: all {len(weights)} are 0, allowed is at least one above")
    mark = draw * total >> _DRAW_BITS
    for position, weight in enumerate(weights):
        mark -= weight
        if mark < 0:
            return position
    raise AssertionError("the mark lies below the total")


def held(stakes_utok: Sequence[int]) -> list[int]:
    """Weights of an election by stake: the stakes or, where nobody has one, the same for all."""
    return list(stakes_utok) if any(stakes_utok) else [1] * len(stakes_utok)


def earned_utok(transactions: bytes | memoryview, num_members: int, kind: int) -> list[int]:
    """`[P]` stake that a block adds: the amount of each member's transaction of a kind, µtok.

    A negative price of the incentive (a prosumer that pays for its reduction) earns no stake. The section is sorted by
    kind, then by member.

    Args:
        kind: position of the kind among those of the section (`ChainRules.stake_kind`).

    Raises:
        struct.error: the section has not the length of so many members.
    """
    start = kind * num_members * RECORD_BYTES
    section = transactions[start : start + num_members * RECORD_BYTES]
    words = unpack(f"<{num_members * RECORD_BYTES // 8}q", section)
    return [max(0, amount) for amount in words[_AMOUNT_WORD :: RECORD_BYTES // 8]]


class Election:
    """Who seals the blocks of one chain, one after the other; not of proof of work, where the right nonce decides.

    Attributes:
        stakes_utok: `[validators]`, earned in the blocks so far; zero unless the chain is one of proof of stake.
    """

    def __init__(self, rules: ChainRules) -> None:
        self._rules = rules
        self.stakes_utok = [0] * rules.validators

    def validator(self, height: int, parent: bytes) -> int:
        """Who seals the block at a height on a parent: the turn, or the draw (first attempt) weighted by stake."""
        if self._rules.consensus == "proof_of_stake":
            return elect(election_draw(self._rules.seed, parent, height), held(self.stakes_utok))
        return in_turn(height, self._rules.validators)

    def count(self, transactions: bytes | memoryview) -> None:
        """Add what a sealed block has earned: it counts from the next block on."""
        if self._rules.consensus == "proof_of_stake":
            earned = earned_utok(transactions, self._rules.num_members, self._rules.stake_kind)
            self.stakes_utok = [stake + more for stake, more in zip(self.stakes_utok, earned, strict=False)]
