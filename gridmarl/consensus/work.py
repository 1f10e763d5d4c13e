"""Proof of work: a nonce is searched for until the header's hash has enough leading zero bits.

The search is real: every nonce tried is one BLAKE3 hash of the 256 header bytes, and is counted. Time is simulated:
the network is taken to find a block per interval on average (as difficulty adjustment would have it), so a search
of `n` hashes takes `n / 2**bits` intervals, longer where faulty miners leave their share of the nonces untried.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import pack
from typing import ClassVar

from blake3 import blake3

from gridmarl.consensus.confirmations import MAX_CONFIRMATIONS, delays_by_depth
from gridmarl.consensus.network import Network, check_range
from gridmarl.consensus.types import Candidate, Outcome, Seal
from gridmarl.errors import ConsensusError
from gridmarl.ledger.block import HEADER_BYTES, Header
from gridmarl.ledger.hashing import HEADER_CONTEXT, header_hash

MAX_DIFFICULTY_BITS = 24
_NONCE_OFFSET = 176
_NONCE_BYTES = 8


def leading_zero_bits(digest: bytes) -> int:
    """Zero bits before the first one; the digest is read as a big-endian number."""
    return 8 * len(digest) - int.from_bytes(digest, "big").bit_length()


def verify(header: bytes, difficulty_bits: int) -> bool:
    """Whether a header names this difficulty and its hash has so many leading zero bits: one hash, no search."""
    if len(header) != HEADER_BYTES or Header.unpack(header).difficulty != difficulty_bits:
        return False
    return leading_zero_bits(header_hash(header)) >= difficulty_bits


def search(header: bytes, difficulty_bits: int, *, first_nonce: int = 0, attempts: int | None = None) -> bytes | None:
    """The header with its difficulty and the first nonce that solves it; None if `attempts` nonces do not.

    The bytes before the nonce are absorbed once, then copied for each nonce.

    Raises:
        ConfigError: `difficulty_bits` out of range.
    """
    check_range("difficulty_bits", difficulty_bits, 0, MAX_DIFFICULTY_BITS)
    template = Header.unpack(header)._replace(difficulty=difficulty_bits, nonce=0).pack()
    before = blake3(template[:_NONCE_OFFSET], derive_key_context=HEADER_CONTEXT)
    after = template[_NONCE_OFFSET + _NONCE_BYTES :]
    limit = 1 << (256 - difficulty_bits)
    end = 2**64 if attempts is None else min(2**64, first_nonce + attempts)
    nonce = first_nonce
    while nonce < end:
        tail = pack("<Q", nonce) + after
        if int.from_bytes(before.copy().update(tail).digest(), "big") < limit:
            return template[:_NONCE_OFFSET] + tail
        nonce += 1
    return None


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
                    sealer=network.faulty + nonce % network.honest,
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
