"""Proof of stake: the sealer is drawn at random, weighted by stake and, if wanted, by the age of its coins.

The stake is what a validator has earned in demand-response incentives so far (`gridmarl.consensus.incentives`). The
draw is a BLAKE3 hash of seed, parent block, height and attempt: everybody computes the same one, nobody knows it
before the parent is sealed. The parent's sealer could try several blocks to steer it ("grinding"); nothing here
prevents that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack
from typing import ClassVar

from blake3 import blake3

from gridmarl.consensus.confirmations import MAX_CONFIRMATIONS, delays_by_depth
from gridmarl.consensus.network import Network, check_range
from gridmarl.consensus.types import Candidate, Outcome, Seal
from gridmarl.errors import ConfigError, ConsensusError

ELECTION_CONTEXT = "gridmarl 2025-11 consensus v1 proof-of-stake election"
_DRAW_BITS = 64
MAX_AGE_BLOCKS = 10**6


def election_draw(seed: int, parent: bytes, height: int, attempt: int) -> int:
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


@dataclass(frozen=True)
class ProofOfStake:
    """Weighted election; a faulty winner's turn passes unused, and the next draw is made.

    Attributes:
        seed: of the draws, 0 .. 2**64-1.
        coin_age_cap_blocks: 0: off, the weight is the stake. Else it is stake times age, where the age counts the
            blocks since the validator last sealed (at least 1), up to this cap: whoever waits gains weight.
        confirmations: blocks that must follow until a block counts as final.

    Where nobody has a stake, everybody weighs the same.
    """

    network: Network
    seed: int = 0
    coin_age_cap_blocks: int = 0
    confirmations: int = 6
    name: ClassVar[str] = "proof_of_stake"

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, 2**64 - 1)
        check_range("coin_age_cap_blocks", self.coin_age_cap_blocks, 0, MAX_AGE_BLOCKS)
        check_range("confirmations", self.confirmations, 0, MAX_CONFIRMATIONS)

    @property
    def faults_survived(self) -> int:
        """Less than half of the stake; as a number of validators where all have the same."""
        return self.network.minority

    def seal(self, candidates: list[Candidate]) -> Outcome:
        """See `Mechanism.seal`.

        Raises:
            ConfigError: a candidate has not one stake >= 0 per validator.
            ConsensusError: faulty validators hold half of the stake, or more.
        """
        network = self.network
        ages = [1] * network.validators
        sealed_ms, seals, slot = [], [], 0
        parent = bytes(32)
        for candidate in candidates:
            weights = self._weights(candidate, ages)
            sent = draws = 0
            while True:
                sealer = elect(election_draw(self.seed, parent, candidate.height, draws), weights)
                draws += 1
                if sealer >= network.faulty:
                    break
                sent += network.wasted_turn_messages
            slot += draws
            sealed_ms.append(slot * network.block_interval_ms)
            parent = candidate.digest
            if self.coin_age_cap_blocks:
                ages = [age + 1 for age in ages]
                ages[sealer] = 1
            seals.append(
                Seal(
                    height=candidate.height,
                    digest=parent,
                    sealer=sealer,
                    final=False,
                    delay_ms=None,
                    messages=sent + network.validators - 1,
                    hashes=(draws + 1) * network.validators,
                    header=candidate.header,
                )
            )
        delays = delays_by_depth(sealed_ms, self.confirmations, network.message_delay_ms)
        done = [
            seal._replace(delay_ms=delay, final=delay is not None) for seal, delay in zip(seals, delays, strict=True)
        ]
        return network.outcome(self.name, candidates, done, slot * network.block_interval_ms, self.faults_survived)

    def _weights(self, candidate: Candidate, ages: Sequence[int]) -> list[int]:
        """Weight of every validator in the election of one block."""
        network, stakes = self.network, candidate.stakes_utok
        if len(stakes) != network.validators:
            raise ConfigError(
                f"stakes_utok of height {candidate.height}: {len(stakes)} values, "
                f"allowed is one per validator, {network.validators}"
            )
        held = list(stakes) if any(stakes) else [1] * network.validators
        faulty = sum(held[: network.faulty])
        if 2 * faulty >= sum(held):
            raise ConsensusError(
                f"{self.name}: stops at height {candidate.height}: faulty validators hold {faulty:,} of "
                f"{sum(held):,} µtok of stake, allowed is less than half"
            )
        cap = self.coin_age_cap_blocks
        return [stake * min(age, cap) for stake, age in zip(held, ages, strict=True)] if cap else held
