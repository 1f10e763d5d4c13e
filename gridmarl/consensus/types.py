"""What goes into a consensus mechanism and what comes out; one vocabulary for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gridmarl.ledger.hashing import header_hash

FWH_PER_WH = 10**15
"""Femtowatt-hours per Wh: fine enough for one hash of a mining chip (some 8 fWh), and still an integer."""


class Candidate(NamedTuple):
    """A block that waits to be sealed.

    Attributes:
        height: 0 for the first block.
        header: the 256 header bytes as proposed (`gridmarl.ledger.block`).
        tx_count: transactions in the block.
        stakes_utok: stake of every validator before this block, µtok; may be empty where no mechanism asks for it.
    """

    height: int
    header: bytes
    tx_count: int
    stakes_utok: tuple[int, ...] = ()

    @property
    def digest(self) -> bytes:
        """Identity of the proposed block, 32 bytes."""
        return header_hash(self.header)


class Seal(NamedTuple):
    """How one block was sealed.

    Attributes:
        height: of the block.
        digest: identity of the candidate that was sealed, 32 bytes.
        sealer: validator that sealed it, from 0.
        final: whether it became final before the chain ended.
        delay_ms: from the moment in which the block is next in line (the one before it was sealed) until it is
            final everywhere, in simulated network time; None where it is not final.
        messages: sent from one validator to another, those of faulty validators included.
        hashes: hashes of headers and of election draws, computed by all validators together.
        header: the header bytes that the seal vouches for: the candidate's own, or under proof of work those with
            parent, difficulty and nonce filled in.
    """

    height: int
    digest: bytes
    sealer: int
    final: bool
    delay_ms: int | None
    messages: int
    hashes: int
    header: bytes


@dataclass(frozen=True)
class Outcome:
    """A sealed chain.

    Attributes:
        mechanism: name of the mechanism.
        seals: one per candidate, in order.
        elapsed_ms: simulated time until the last block was sealed.
        tx_count: transactions in all blocks.
        energy_fwh: energy of all hashes and messages, femtowatt-hours.
        faults_survived: faulty validators under which the mechanism still promises progress and one chain.
    """

    mechanism: str
    seals: tuple[Seal, ...]
    elapsed_ms: int
    tx_count: int
    energy_fwh: int
    faults_survived: int

    @property
    def messages(self) -> int:
        """Messages of all blocks."""
        return sum(seal.messages for seal in self.seals)

    @property
    def hashes(self) -> int:
        """Hashes of all blocks."""
        return sum(seal.hashes for seal in self.seals)

    @property
    def energy_wh(self) -> float:
        """Energy of all blocks in Wh, for display."""
        return self.energy_fwh / FWH_PER_WH

    @property
    def delays_ms(self) -> tuple[int, ...]:
        """Delays to finality of the blocks that are final."""
        return tuple(seal.delay_ms for seal in self.seals if seal.delay_ms is not None)

    @property
    def tx_per_s(self) -> float:
        """Transactions sealed per second of simulated time."""
        return 1000 * self.tx_count / self.elapsed_ms if self.elapsed_ms else 0.0


class Mechanism(Protocol):
    """Seals chains. Deterministic: the same candidates, network and seed give the same outcome, bit for bit."""

    @property
    def name(self) -> str:
        """As in the registry."""
        ...

    @property
    def faults_survived(self) -> int:
        """Faulty validators under which it still promises progress and one chain."""
        ...

    def seal(self, candidates: list[Candidate]) -> Outcome:
        """Seal a chain, block after block.

        Raises:
            ConsensusError: with so many faulty validators nothing more becomes final, or the chain splits.
        """
        ...
