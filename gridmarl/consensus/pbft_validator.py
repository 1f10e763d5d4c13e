"""One validator of practical Byzantine fault tolerance at one height, as a state machine.

Source: M. Castro and B. Liskov, "Practical Byzantine fault tolerance" (OSDI 1999), one request at a time, without
checkpoints. The primary of view `v` is validator `v mod n`; its pre-prepare counts as its prepare.

    WAITING --pre-prepare--> ACCEPTED --quorum of prepares--> PREPARED --quorum of commits--> FINAL
       any but FINAL --timeout, or view changes of f + 1 others--> CHANGING --justified pre-prepare--> ACCEPTED
       any --certificate--> FINAL
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from gridmarl.consensus.pbft_messages import (
    NO_VOTES,
    Certificate,
    Commit,
    Message,
    Prepare,
    PrePrepare,
    ViewChange,
    Votes,
)
from gridmarl.ledger.election import in_turn, quorum


class Phase(Enum):
    """Where a validator stands; see the module."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    PREPARED = "prepared"
    CHANGING = "changing"
    FINAL = "final"


@dataclass(frozen=True)
class Group:
    """The validators together: votes needed and faults tolerated follow from their number."""

    size: int

    @property
    def tolerated(self) -> int:
        """f, the most faulty validators: less than a third of all."""
        return (self.size - 1) // 3

    @property
    def quorum(self) -> int:
        """More than two thirds of the votes, 2f + 1 of 3f + 1: any two quorums share an honest validator."""
        return quorum(self.size)

    def primary(self, view: int) -> int:
        """Who proposes in a view."""
        return in_turn(view, self.size)


class Port(Protocol):
    """What a validator reaches the world through."""

    def send(self, sender: int, receiver: int, message: Message) -> None:
        """One message to another validator."""
        ...

    def set_timer(self, validator: int, view: int) -> None:
        """Call `on_timeout(view)` later, the later the more views have failed; perhaps never, when all have."""
        ...

    def count_hash(self) -> None:
        """A header was hashed."""
        ...


class Validator:
    """An honest validator.

    Attributes:
        phase: see the module.
        view: the view that it is in, or is changing to.
        final: the commits by which its block is final, None before.

    Args:
        index: its number, 0 .. size - 1.
        group: all validators.
        view: the view that the height begins in.
        candidate: digest of the block that it would propose, 32 bytes.
        port: where messages go.
    """

    def __init__(self, index: int, group: Group, view: int, candidate: bytes, port: Port) -> None:
        self.index, self.group, self.view = index, group, view
        self.phase = Phase.WAITING
        self.final: Votes | None = None
        self._first_view, self._candidate, self._port = view, candidate, port
        self._proposed: set[int] = set()
        self._accepted = b""
        self._prepared = NO_VOTES
        self._prepares: defaultdict[tuple[int, bytes], set[int]] = defaultdict(set)
        self._commits: defaultdict[tuple[int, bytes], set[int]] = defaultdict(set)
        self._changes: defaultdict[int, dict[int, ViewChange]] = defaultdict(dict)

    def start(self) -> None:
        """Begin the height: the primary proposes, everybody starts a timer."""
        self._port.set_timer(self.index, self.view)
        if self.group.primary(self.view) == self.index:
            self._propose(self._candidate, ())

    def receive(self, sender: int, message: Message) -> None:
        """Take in one message; `sender` is authentic."""
        if self.phase is Phase.FINAL:
            if isinstance(message, ViewChange):
                assert self.final is not None
                self._port.send(self.index, sender, Certificate(self.final))
            return
        match message:
            case PrePrepare():
                self._on_proposal(sender, message)
            case Prepare(view, digest):
                self._prepares[view, digest].add(sender)
            case Commit(view, digest):
                self._commits[view, digest].add(sender)
            case ViewChange():
                self._on_view_change(sender, message)
            case Certificate(commits):
                if len(commits.voters) >= self.group.quorum:
                    self._port.count_hash()
                    self._finish(commits)
        self._advance()

    def on_timeout(self, view: int) -> None:
        """The timer of a view has run out; nothing happens if the block is final or the view has passed."""
        if self.phase is not Phase.FINAL and self.view == view:
            self._change_to(view + 1)

    def _broadcast(self, message: Message) -> None:
        for receiver in range(self.group.size):
            if receiver != self.index:
                self._port.send(self.index, receiver, message)

    def _propose(self, digest: bytes, changes: tuple[tuple[int, ViewChange], ...]) -> None:
        proposal = PrePrepare(self.view, digest, changes)
        self._proposed.add(self.view)
        self._broadcast(proposal)
        self._accept(self.index, proposal)
        self._advance()

    def _on_proposal(self, sender: int, message: PrePrepare) -> None:
        """Accept the first proposal of a view's primary; later views must be justified by a quorum."""
        self._port.count_hash()
        if sender != self.group.primary(message.view) or message.view < self.view:
            return
        if message.view == self.view and self.phase not in (Phase.WAITING, Phase.CHANGING):
            return
        if message.view == self._first_view or self._justified(message):
            self._accept(sender, message)

    def _accept(self, primary: int, message: PrePrepare) -> None:
        if message.view > self.view:
            self._port.set_timer(self.index, message.view)
        if primary == self.index:
            self._port.count_hash()
        self.view, self._accepted, self.phase = message.view, message.digest, Phase.ACCEPTED
        self._prepares[message.view, message.digest] |= {primary, self.index}
        if primary != self.index:
            self._broadcast(Prepare(message.view, message.digest))

    def _advance(self) -> None:
        """Go on as far as the votes allow."""
        quorum = self.group.quorum
        if self.phase is Phase.ACCEPTED:
            voters = self._prepares[self.view, self._accepted]
            if len(voters) >= quorum:
                self.phase = Phase.PREPARED
                self._prepared = Votes(self.view, self._accepted, frozenset(voters))
                self._commits[self.view, self._accepted].add(self.index)
                self._broadcast(Commit(self.view, self._accepted))
        if self.phase is not Phase.FINAL and self._prepared is not NO_VOTES:
            view, digest, _ = self._prepared
            voters = self._commits[view, digest]
            if len(voters) >= quorum:
                self._finish(Votes(view, digest, frozenset(voters)))

    def _finish(self, commits: Votes) -> None:
        self.phase, self.final = Phase.FINAL, commits

    def _change_to(self, view: int) -> None:
        """Give up all views before `view` and say so."""
        self.view, self.phase = view, Phase.CHANGING
        change = ViewChange(view, self._prepared)
        self._changes[view][self.index] = change
        self._broadcast(change)
        self._port.set_timer(self.index, view)
        self._propose_if_elected(view)

    def _on_view_change(self, sender: int, message: ViewChange) -> None:
        self._changes[message.view][sender] = message
        later = {who for view, changes in self._changes.items() if view > self.view for who in changes}
        if len(later) > self.group.tolerated:  # at least one of them is honest
            self._change_to(min(view for view, changes in self._changes.items() if view > self.view and changes))
        else:
            self._propose_if_elected(message.view)

    def _propose_if_elected(self, view: int) -> None:
        """The primary of a later view proposes once a quorum wants that view."""
        mine = self.group.primary(view) == self.index and view == self.view and view not in self._proposed
        if mine and self.phase is Phase.CHANGING and len(self._changes[view]) >= self.group.quorum:
            changes = tuple(self._changes[view].items())
            self._propose(binding_digest(self.group, changes) or self._candidate, changes)

    def _justified(self, message: PrePrepare) -> bool:
        """Whether a quorum wants the view, and the proposal is the one that an earlier quorum may have committed."""
        changes = [(sender, change) for sender, change in message.changes if change.view == message.view]
        if len({sender for sender, _ in changes}) < self.group.quorum:
            return False
        return binding_digest(self.group, changes) in (None, message.digest)


def binding_digest(group: Group, changes: Iterable[tuple[int, ViewChange]]) -> bytes | None:
    """The block that a new view has to propose: the one prepared in the latest view, if any was."""
    proven = [change.prepared for _, change in changes if len(change.prepared.voters) >= group.quorum]
    return max(proven, key=lambda votes: votes.view).digest if proven else None
