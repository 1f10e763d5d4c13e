"""Proof of stake: the sealer is drawn at random, weighted by stake and, if wanted, by the age of its coins.

The stake is what a validator has earned in demand-response incentives so far (`gridmarl.consensus.incentives`). Draw
and election are those of sealed chains (`gridmarl.ledger.election`). The parent's sealer could try several blocks to
steer the next draw ("grinding"); nothing here prevents that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gridmarl.consensus.confirmations import delays_by_depth
from gridmarl.consensus.network import Network
from gridmarl.consensus.types import Candidate, Outcome, Seal
from gridmarl.errors import ConfigError, ConsensusError
from gridmarl.ledger.election import MAX_CONFIRMATIONS, check_range, elect, election_draw, held

MAX_AGE_BLOCKS = 10**6


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
        weights = held(stakes)
        faulty = sum(weights[: network.faulty])
        if 2 * faulty >= sum(weights):
            raise ConsensusError(
                f"{self.name}: stops at height {candidate.height}: faulty validators hold {faulty:,} of "
                f"{sum(weights):,} µtok of stake, allowed is less than half"
            )
        cap = self.coin_age_cap_blocks
        return [stake * min(age, cap) for stake, age in zip(weights, ages, strict=True)] if cap else weights
