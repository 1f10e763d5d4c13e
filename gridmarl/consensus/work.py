"""Proof of work: a nonce is searched for until the header's hash has enough leading zero bits.

The search is real, and that of sealed chains (`gridmarl.ledger.nonce`): every nonce tried is one BLAKE3 hash of the 256
header bytes, and is counted. Time is simulated:
the network is taken to find a block per interval on average (as difficulty adjustment would have it), so a search
of `n` hashes takes `n / 2**bits` intervals, longer where faulty miners leave their share of the nonces untried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gridmarl.consensus.confirmations import delays_by_depth
from gridmarl.consensus.network import Network
from gridmarl.consensus.types import Candidate, Outcome, Seal
from gridmarl.errors import ConsensusError
from gridmarl.ledger.block import Header
from gridmarl.ledger.election import MAX_CONFIRMATIONS, check_range, in_turn
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.nonce import MAX_DIFFICULTY_BITS, search


@dataclass(frozen=True)
class ProofOfWork:
    """Honest miners share the nonces evenly; who tries the right one seals. Parents link the solved headers.

    Attributes:
        difficulty_bits: leading zero bits, 0 .. 24; a block takes `2**bits` hashes on average.
        confirmations: blocks that must follow until a block counts as final.
    """

    network: Network
    difficulty_bits: int = 12
    confirmations: int = 6
    name: ClassVar[str] = "proof_of_work"

    def __post_init__(self) -> None:
        check_range("difficulty_bits", self.difficulty_bits, 0, MAX_DIFFICULTY_BITS)
        check_range("confirmations", self.confirmations, 0, MAX_CONFIRMATIONS)

    @property
    def faults_survived(self) -> int:
        """Less than half of the miners, all with the same hash rate."""
        return self.network.minority

    def seal(self, candidates: list[Candidate]) -> Outcome:
        """See `Mechanism.seal`."""
        network = self.network
        network.require_honest_majority(self.name)
        elapsed_ms, sealed_ms, seals = 0, [], []
        parent: bytes | None = None
        for candidate in candidates:
            template = Header.unpack(candidate.header)
            if parent is not None:
                template = template._replace(parent=parent)
            solved = search(template.pack(), self.difficulty_bits)
            if solved is None:
                raise ConsensusError(f"{self.name}: stops at height {candidate.height}: no nonce solves the header")
            nonce = Header.unpack(solved).nonce
            hashes = nonce + 1
            # rounded up, so that no block takes no time
            elapsed_ms += -(
                -hashes * network.block_interval_ms * network.validators // (network.honest << self.difficulty_bits)
            )
            sealed_ms.append(elapsed_ms)
            parent = header_hash(solved)
            seals.append(
                Seal(
                    height=candidate.height,
                    digest=candidate.digest,
                    sealer=network.faulty + in_turn(nonce, network.honest),
                    final=False,
                    delay_ms=None,
                    messages=network.validators - 1,
                    hashes=hashes + network.validators - 1,
                    header=solved,
                )
            )
        delays = delays_by_depth(sealed_ms, self.confirmations, network.message_delay_ms)
        done = [
            seal._replace(delay_ms=delay, final=delay is not None) for seal, delay in zip(seals, delays, strict=True)
        ]
        return network.outcome(self.name, candidates, done, elapsed_ms, self.faults_survived)
