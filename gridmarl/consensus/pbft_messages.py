"""Messages of practical Byzantine fault tolerance, and the certificates that travel in them.

A set of voters stands for their signatures: what carries a quorum of voters cannot be forged, since faulty validators
cannot sign for others.
"""

from __future__ import annotations

from typing import NamedTuple

NO_VIEW = -1


class Votes(NamedTuple):
    """Who voted for one digest in one view."""

    view: int
    digest: bytes
    voters: frozenset[int]


NO_VOTES = Votes(NO_VIEW, b"", frozenset())


class ViewChange(NamedTuple):
    """A validator wants to go to `view`; `prepared` is the block that it last was ready to commit, with the proof."""

    view: int
    prepared: Votes


class PrePrepare(NamedTuple):
    """The primary of a view proposes a block; after a change of view with the quorum of view changes by sender."""

    view: int
    digest: bytes
    changes: tuple[tuple[int, ViewChange], ...] = ()


class Prepare(NamedTuple):
    """A validator has accepted the primary's proposal."""

    view: int
    digest: bytes


class Commit(NamedTuple):
    """A validator has seen a quorum accept the proposal."""

    view: int
    digest: bytes


class Certificate(NamedTuple):
    """A quorum of commits: whoever has it takes the block as final. Answers a view change that comes too late."""

    commits: Votes


Message = PrePrepare | Prepare | Commit | ViewChange | Certificate
