"""Faulty validators: silent ones, and equivocating ones that tell two halves of the others two things."""

from __future__ import annotations

from collections.abc import Callable

from blake3 import blake3

from gridmarl.consensus.pbft_messages import Commit, Message, Prepare, PrePrepare, ViewChange
from gridmarl.consensus.pbft_validator import Group, Port

TWIN_CONTEXT = "gridmarl 2025-11 consensus v1 second block of an equivocating validator"


def twin_of(digest: bytes) -> bytes:
    """Digest of another block at the same height, which an equivocating primary proposes to half of the others."""
    return blake3(digest, derive_key_context=TWIN_CONTEXT).digest()


class Silent:
    """Sends nothing, whatever happens."""

    def start(self) -> None:
        """Nothing."""

    def receive(self, sender: int, message: Message) -> None:
        """Nothing."""

    def on_timeout(self, view: int) -> None:
        """Nothing."""


class Equivocator:
    """Backs the candidate to one half of the validators and its twin to the other half, in every view and phase.

    As a primary it proposes both blocks; as a backup it votes for both, commits included, without waiting for a
    quorum. It cannot forge the votes of others, and it never asks for a change of view.

    Args:
        index: its number.
        group: all validators.
        view: the view that the height begins in.
        candidate: digest of the block to be sealed.
        port: where messages go.
        told: which digest it backs to a validator, given the validator's number and the candidate.
    """

    def __init__(
        self, index: int, group: Group, view: int, candidate: bytes, port: Port, told: Callable[[int, bytes], bytes]
    ) -> None:
        self._index, self._group, self._first_view, self._port = index, group, view, port
        self._candidate, self._told = candidate, told
        self._voted: set[int] = set()
        self._changes: dict[int, dict[int, ViewChange]] = {}

    def start(self) -> None:
        """As primary, propose both blocks."""
        if self._group.primary(self._first_view) == self._index:
            self._propose(self._first_view, ())

    def receive(self, sender: int, message: Message) -> None:
        """Vote in each view in which somebody proposes; propose in each view of its own that a quorum wants."""
        if isinstance(message, PrePrepare):
            self._vote(message.view)
        elif isinstance(message, ViewChange) and self._group.primary(message.view) == self._index:
            changes = self._changes.setdefault(message.view, {})
            changes[sender] = message
            if len(changes) == self._group.quorum:
                self._propose(message.view, tuple(changes.items()))

    def on_timeout(self, view: int) -> None:
        """Nothing: it is in no hurry."""

    def _propose(self, view: int, changes: tuple[tuple[int, ViewChange], ...]) -> None:
        self._port.count_hash()
        self._port.count_hash()
        self._to_each(lambda digest: PrePrepare(view, digest, changes))
        self._vote(view)

    def _vote(self, view: int) -> None:
        if view in self._voted:
            return
        self._voted.add(view)
        if self._group.primary(view) != self._index:
            self._to_each(lambda digest: Prepare(view, digest))
        self._to_each(lambda digest: Commit(view, digest))

    def _to_each(self, message: Callable[[bytes], Message]) -> None:
        for receiver in range(self._group.size):
            if receiver != self._index:
                self._port.send(self._index, receiver, message(self._told(receiver, self._candidate)))
