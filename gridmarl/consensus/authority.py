"""Proof of authority: known validators take turns; a block is final once a majority has built on it.

The turns are those of Aura: one validator per interval, in a fixed order. Nobody takes the turn of a faulty one, so
it costs an interval. As there, a block is final when more than half of the validators have sealed it or a block
after it. With a single validator it is final on arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gridmarl.consensus.network import Network
from gridmarl.consensus.types import Candidate, Outcome, Seal
from gridmarl.ledger.election import in_turn


@dataclass(frozen=True)
class ProofOfAuthority:
    """Round robin. Each validator hashes the header once: the sealer to sign it, the others to check it."""

    network: Network
    name: ClassVar[str] = "proof_of_authority"

    @property
    def faults_survived(self) -> int:
        """Less than half of the validators: a majority has to build on every block."""
        return self.network.minority

    def seal(self, candidates: list[Candidate]) -> Outcome:
        """See `Mechanism.seal`."""
        network = self.network
        network.require_honest_majority(self.name)
        sealers, sealed_ms, messages = [], [], []
        turn = 0
        for _ in candidates:
            sent = 0
            while in_turn(turn, network.validators) < network.faulty:
                sent += network.wasted_turn_messages
                turn += 1
            sealers.append(in_turn(turn, network.validators))
            turn += 1
            sealed_ms.append(turn * network.block_interval_ms)
            messages.append(sent + network.validators - 1)
        seals = []
        for index, candidate in enumerate(candidates):
            start_ms = sealed_ms[index - 1] if index else 0
            last = self._majority_at(sealers, index)
            delay_ms = None if last is None else sealed_ms[last] + network.message_delay_ms - start_ms
            seals.append(
                Seal(
                    height=candidate.height,
                    digest=candidate.digest,
                    sealer=sealers[index],
                    final=last is not None,
                    delay_ms=delay_ms,
                    messages=messages[index],
                    hashes=network.validators,
                    header=candidate.header,
                )
            )
        return network.outcome(self.name, candidates, seals, turn * network.block_interval_ms, self.faults_survived)

    def _majority_at(self, sealers: list[int], first: int) -> int | None:
        """Index of the block with which more than half of the validators have sealed `first` or later; None: never."""
        seen: set[int] = set()
        for index in range(first, len(sealers)):
            seen.add(sealers[index])
            if len(seen) > self.network.validators // 2:
                return index
        return None
