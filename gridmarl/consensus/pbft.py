"""Practical Byzantine fault tolerance: the validators of all heights, and the clock and network between them.

Every message takes the same time; events of the same time happen in the order in which they were caused. A height
begins when all honest validators have finalised the one before, in the latest view that any of them had asked for: a
faulty primary costs one timeout, not one per block.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import ClassVar

from gridmarl.consensus.network import Network
from gridmarl.consensus.pbft_faulty import Equivocator, Silent, twin_of
from gridmarl.consensus.pbft_messages import Message, Votes
from gridmarl.consensus.pbft_validator import Group, Validator
from gridmarl.consensus.types import Candidate, Outcome, Seal
from gridmarl.errors import ConfigError, ConsensusError
from gridmarl.ledger.election import MIN_PBFT_VALIDATORS

NAME = "pbft"
_DELAYS_PER_VIEW = 5  # view change, pre-prepare, prepare, commit, and one to spare


class Height:
    """The validators at one height; a `Port` to each of them.

    Attributes:
        now_ms: simulated time since the height began.
        messages: sent so far.
        hashes: headers hashed so far.
    """

    def __init__(self, network: Network, candidate: bytes, view: int) -> None:
        self.now_ms = self.messages = self.hashes = 0
        self._network, self._first_view = network, view
        self._events: list[tuple[int, int, int, int | tuple[int, Message]]] = []
        self._order = count()
        group = Group(network.validators)
        self.honest = {
            index: Validator(index, group, view, candidate, self) for index in range(network.faulty, group.size)
        }
        self._all: dict[int, Validator | Silent | Equivocator] = dict(self.honest)
        for index in range(network.faulty):
            if network.fault == "silent":
                self._all[index] = Silent()
            else:
                self._all[index] = Equivocator(index, group, view, candidate, self, self._told)

    def send(self, sender: int, receiver: int, message: Message) -> None:
        """See `Port.send`."""
        self.messages += 1
        self._at(self.now_ms + self._network.message_delay_ms, receiver, (sender, message))

    def set_timer(self, validator: int, view: int) -> None:
        """See `Port.set_timer`: none once every validator has had its turn as primary."""
        failed = view - self._first_view
        if failed <= self._network.validators:
            self._at(self.now_ms + (failed + 1) * self._network.timeout_ms, validator, view)

    def count_hash(self) -> None:
        """See `Port.count_hash`."""
        self.hashes += 1

    def run(self) -> None:
        """Until every honest validator has a final block, or nothing happens any more."""
        for index in range(self._network.validators):
            self._all[index].start()
        while self._events and not self.done:
            self.now_ms, _, receiver, event = heappop(self._events)
            if isinstance(event, int):
                self._all[receiver].on_timeout(event)
            else:
                self._all[receiver].receive(*event)

    @property
    def done(self) -> bool:
        """Whether every honest validator has a final block."""
        return all(validator.final is not None for validator in self.honest.values())

    def _at(self, time_ms: int, receiver: int, event: int | tuple[int, Message]) -> None:
        heappush(self._events, (time_ms, next(self._order), receiver, event))

    def _told(self, receiver: int, candidate: bytes) -> bytes:
        """Equivocators show the candidate to every other honest validator and its twin to the rest."""
        return twin_of(candidate) if receiver >= self._network.faulty and self._half(receiver) else candidate

    def _half(self, receiver: int) -> int:
        return (receiver - self._network.faulty) % 2


@dataclass(frozen=True)
class Pbft:
    """Votes in three phases; final as soon as more than two thirds have committed, three message delays at best.

    Raises:
        ConfigError: fewer than four validators, or a timeout that is too short for a view to finish.
    """

    network: Network
    name: ClassVar[str] = NAME

    def __post_init__(self) -> None:
        network, least_ms = self.network, _DELAYS_PER_VIEW * self.network.message_delay_ms
        if network.validators < MIN_PBFT_VALIDATORS:
            raise ConfigError(
                f"validators: {network.validators}, allowed for {NAME} are {MIN_PBFT_VALIDATORS} and more"
            )
        if network.timeout_ms < least_ms:
            raise ConfigError(
                f"timeout_ms: {network.timeout_ms}, allowed for {NAME} is at least {_DELAYS_PER_VIEW} * "
                f"message_delay_ms = {least_ms}"
            )

    @property
    def faults_survived(self) -> int:
        """Less than a third: f of 3f + 1."""
        return Group(self.network.validators).tolerated

    def seal(self, candidates: list[Candidate]) -> Outcome:
        """See `Mechanism.seal`."""
        network, elapsed_ms, view, seals = self.network, 0, 0, []
        for candidate in candidates:
            height = Height(network, candidate.digest, view)
            height.run()
            votes = self._agreed(candidate.height, height)
            elapsed_ms += height.now_ms
            seals.append(
                Seal(
                    height=candidate.height,
                    digest=votes.digest,
                    sealer=Group(network.validators).primary(votes.view),
                    final=True,
                    delay_ms=height.now_ms,
                    messages=height.messages,
                    hashes=height.hashes,
                    header=candidate.header,
                )
            )
            view = max(validator.view for validator in height.honest.values())
        return network.outcome(self.name, candidates, seals, elapsed_ms, self.faults_survived)

    def _agreed(self, number: int, height: Height) -> Votes:
        """The votes by which the height is final, the latest view's if validators hold different ones.

        Raises:
            ConsensusError: honest validators finalised different blocks, or some of them none.
        """
        network = self.network
        who = f"{network.faulty} of {network.validators} validators are {network.fault}"
        allowed = f"at most {self.faults_survived} may be"
        final = [validator.final for validator in height.honest.values() if validator.final is not None]
        if len({votes.digest for votes in final}) > 1:
            raise ConsensusError(
                f"{NAME}: splits at height {number}: honest validators finalised different blocks; {who}, {allowed}"
            )
        if not height.done or not final:
            raise ConsensusError(
                f"{NAME}: stops at height {number}: {len(final)} of {network.honest} honest validators finalised; "
                f"{who}, {allowed} ({Group(network.validators).quorum} votes are needed)"
            )
        return max(final, key=lambda votes: votes.view)
