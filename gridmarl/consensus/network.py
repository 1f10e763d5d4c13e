"""The validators and the network between them: who is faulty, how long messages take, what hashing costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gridmarl.consensus.types import Candidate, Outcome, Seal
from gridmarl.errors import ConfigError, ConsensusError
from gridmarl.ledger.election import MAX_VALIDATORS, check_range

FAULTS = ("silent", "equivocating")
MAX_MS = 10**9
MAX_FWH = 10**18


@dataclass(frozen=True)
class Network:
    """Validators `0 .. validators - 1`, of which the first `faulty` are faulty (so that they lead first).

    Attributes:
        validators: how many, 1 .. 100 (PBFT sends some 2 * validators**2 messages).
        faulty: how many of them are faulty, 0 .. validators.
        fault: "silent" (sends nothing) or "equivocating" (tells one half of the others one thing and the other half
            another).
        message_delay_ms: time that every message takes.
        block_interval_ms: time of a turn (authority, stake), or mean time between blocks (work). PBFT does not wait:
            it goes on as soon as a block is final.
        timeout_ms: how long a PBFT validator waits for its primary before it votes for the next; for each further one
            as much longer again.
        energy_per_hash_fwh: energy of one hash, femtowatt-hours. The default is 10 µJ: a core of 10 W that
            computes a million hashes per second (an assumption; measure your own).
        energy_per_message_fwh: energy of one message; 0 counts hashes only.

    Raises:
        ConfigError: a value out of range.
    """

    validators: int = 10
    faulty: int = 0
    fault: str = "silent"
    message_delay_ms: int = 100
    block_interval_ms: int = 5_000
    timeout_ms: int = 2_000
    energy_per_hash_fwh: int = 2_777_778
    energy_per_message_fwh: int = 0

    def __post_init__(self) -> None:
        check_range("validators", self.validators, 1, MAX_VALIDATORS)
        check_range("faulty", self.faulty, 0, self.validators)
        check_range("message_delay_ms", self.message_delay_ms, 1, MAX_MS)
        check_range("block_interval_ms", self.block_interval_ms, 1, MAX_MS)
        check_range("timeout_ms", self.timeout_ms, 1, MAX_MS)
        check_range("energy_per_hash_fwh", self.energy_per_hash_fwh, 0, MAX_FWH)
        check_range("energy_per_message_fwh", self.energy_per_message_fwh, 0, MAX_FWH)
        if self.fault not in FAULTS:
            raise ConfigError(f"fault: {self.fault!r}, allowed are {', '.join(FAULTS)}")

    @property
    def honest(self) -> int:
        """Validators that follow the rules."""
        return self.validators - self.faulty

    @property
    def minority(self) -> int:
        """The most validators that are less than half of all."""
        return (self.validators - 1) // 2

    @property
    def wasted_turn_messages(self) -> int:
        """What a faulty leader sends in its turn: nothing, or one of two blocks to each of the others.

        Honest validators pass headers on, so two blocks of one turn are soon known to all, and neither is taken.
        """
        others = self.validators - 1
        return 0 if self.fault == "silent" else others + others * (others - 1)

    def outcome(
        self, name: str, candidates: Sequence[Candidate], seals: Sequence[Seal], elapsed_ms: int, survived: int
    ) -> Outcome:
        """The sealed chain with its energy."""
        hashes, messages = sum(seal.hashes for seal in seals), sum(seal.messages for seal in seals)
        energy_fwh = hashes * self.energy_per_hash_fwh + messages * self.energy_per_message_fwh
        tx_count = sum(candidate.tx_count for candidate in candidates)
        return Outcome(name, tuple(seals), elapsed_ms, tx_count, energy_fwh, survived)

    def require_honest_majority(self, name: str) -> None:
        """ConsensusError where half of the validators, or more, are faulty."""
        if self.faulty > self.minority:
            raise ConsensusError(
                f"{name}: stops at height 0: {self.faulty} of {self.validators} validators are faulty, "
                f"at most {self.minority} may be"
            )
