"""One PBFT validator, message by message; and many under random schedules: honest ones never disagree."""

from __future__ import annotations

import random

import pytest

from gridmarl.consensus.pbft_faulty import Equivocator, twin_of
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
from gridmarl.consensus.pbft_validator import Group, Phase, Validator

GROUP = Group(4)
BLOCK, TWIN = b"a" * 32, b"b" * 32


class Recorder:
    """Keeps what is sent and which timers are set."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, Message]] = []
        self.timers: list[tuple[int, int]] = []
        self.hashes = 0

    def send(self, sender: int, receiver: int, message: Message) -> None:
        self.sent.append((sender, receiver, message))

    def set_timer(self, validator: int, view: int) -> None:
        self.timers.append((validator, view))

    def count_hash(self) -> None:
        self.hashes += 1

    def of(self, kind: type) -> list[tuple[int, int, Message]]:
        return [each for each in self.sent if isinstance(each[2], kind)]


@pytest.fixture
def port() -> Recorder:
    return Recorder()


@pytest.fixture
def backup(port: Recorder) -> Validator:
    validator = Validator(3, GROUP, 0, BLOCK, port)
    validator.start()
    return validator


def test_the_way_from_waiting_to_final(backup: Validator, port: Recorder) -> None:
    assert (backup.phase, port.timers) == (Phase.WAITING, [(3, 0)])
    backup.receive(0, PrePrepare(0, BLOCK))
    assert backup.phase is Phase.ACCEPTED
    assert len(port.of(Prepare)) == 3
    backup.receive(1, Prepare(0, BLOCK))  # with the primary's and its own: three of four
    assert backup.phase is Phase.PREPARED
    assert len(port.of(Commit)) == 3
    backup.receive(0, Commit(0, BLOCK))
    backup.receive(0, Commit(0, BLOCK))  # said twice, counted once
    assert backup.final is None
    backup.receive(2, Commit(0, BLOCK))
    assert backup.final == Votes(0, BLOCK, frozenset({0, 2, 3}))
    backup.receive(1, ViewChange(1, NO_VOTES))  # too late: it gets the proof
    assert port.sent[-1] == (3, 1, Certificate(backup.final))
    backup.on_timeout(0)
    assert backup.phase is Phase.FINAL


def test_votes_that_arrive_first_are_kept(backup: Validator) -> None:
    for sender in (0, 1, 2):
        backup.receive(sender, Commit(0, BLOCK))
    backup.receive(1, Prepare(0, BLOCK))
    assert backup.phase is Phase.WAITING
    backup.receive(0, PrePrepare(0, BLOCK))
    assert backup.phase is Phase.FINAL


def test_votes_for_another_block_do_not_count(backup: Validator) -> None:
    backup.receive(0, PrePrepare(0, BLOCK))
    backup.receive(1, Prepare(0, TWIN))
    backup.receive(2, Prepare(0, TWIN))
    backup.receive(2, Prepare(1, BLOCK))
    assert backup.phase is Phase.ACCEPTED


def test_only_the_primary_proposes_and_only_once_per_view(backup: Validator, port: Recorder) -> None:
    backup.receive(1, PrePrepare(0, TWIN))
    assert backup.phase is Phase.WAITING
    backup.receive(0, PrePrepare(0, BLOCK))
    backup.receive(0, PrePrepare(0, TWIN))
    assert {message for _, _, message in port.of(Prepare)} == {Prepare(0, BLOCK)}


def test_a_later_view_must_be_justified(backup: Validator) -> None:
    change = ViewChange(1, NO_VOTES)
    for changes in (
        (),
        ((0, change), (2, change)),
        ((0, change), (2, change), (2, change)),
        ((0, change), (2, change), (3, ViewChange(2, NO_VOTES))),
    ):
        backup.receive(1, PrePrepare(1, BLOCK, changes))
        assert backup.phase is Phase.WAITING
    backup.receive(1, PrePrepare(1, BLOCK, ((0, change), (2, change), (3, change))))
    assert (backup.phase, backup.view) == (Phase.ACCEPTED, 1)


def test_a_new_view_proposes_what_was_prepared_latest(backup: Validator) -> None:
    quorum = frozenset({0, 1, 2})
    older, newer = Votes(0, TWIN, quorum), Votes(1, BLOCK, quorum)
    unproven = Votes(1, TWIN, frozenset({0, 1}))
    changes = ((0, ViewChange(2, older)), (1, ViewChange(2, newer)), (2, ViewChange(2, unproven)))
    backup.receive(2, PrePrepare(2, TWIN, changes))
    assert backup.phase is Phase.WAITING
    backup.receive(2, PrePrepare(2, BLOCK, changes))
    assert backup.phase is Phase.ACCEPTED


def test_an_elected_primary_proposes_what_was_prepared_and_else_its_own() -> None:
    for prepared, expected in ((NO_VOTES, BLOCK), (Votes(0, TWIN, frozenset({0, 1, 2})), TWIN)):
        port = Recorder()
        primary = Validator(1, GROUP, 0, BLOCK, port)
        primary.start()
        primary.on_timeout(0)
        assert primary.phase is Phase.CHANGING
        primary.receive(2, ViewChange(1, prepared))
        assert not port.of(PrePrepare)
        primary.receive(3, ViewChange(1, NO_VOTES))
        assert {(message.view, message.digest) for _, _, message in port.of(PrePrepare)} == {(1, expected)}
        assert primary.phase is Phase.ACCEPTED


def test_it_joins_a_view_change_that_an_honest_one_wants(backup: Validator, port: Recorder) -> None:
    backup.receive(0, ViewChange(5, NO_VOTES))
    assert not port.of(ViewChange)  # the one that asks may be faulty
    backup.receive(2, ViewChange(1, NO_VOTES))
    assert (backup.view, backup.phase) == (1, Phase.CHANGING)
    assert (3, 1) in port.timers


def test_a_certificate_needs_a_quorum(backup: Validator) -> None:
    backup.receive(0, Certificate(Votes(0, TWIN, frozenset({0, 1}))))
    assert backup.final is None
    backup.receive(0, Certificate(Votes(0, BLOCK, frozenset({0, 1, 2}))))
    assert backup.final is not None


def chaos(seed: int, size: int, faulty: int) -> dict[int, Votes]:
    """Final votes by honest validator after messages in random order, some lost, and timers at random moments."""
    rng, port, group = random.Random(seed), Recorder(), Group(size)
    side = {index: rng.random() < 0.5 for index in range(size)}
    first_view = rng.randrange(size)

    def told(receiver: int, candidate: bytes) -> bytes:
        return twin_of(candidate) if side[receiver] else candidate

    everyone: dict[int, Validator | Equivocator] = {
        index: Equivocator(index, group, first_view, BLOCK, port, told)
        if index < faulty
        else Validator(index, group, first_view, BLOCK, port)
        for index in range(size)
    }
    lost = rng.choice((0.0, 0.1, 0.3))
    impatience = rng.choice((0.01, 0.05, 0.2))
    for each in everyone.values():
        each.start()
    for _ in range(60 * size * size):
        if port.timers and (not port.sent or rng.random() < impatience):
            validator, view = port.timers.pop(rng.randrange(len(port.timers)))
            everyone[validator].on_timeout(view)
        elif port.sent:
            sender, receiver, message = port.sent.pop(rng.randrange(len(port.sent)))
            if rng.random() >= lost:
                everyone[receiver].receive(sender, message)
        else:
            break
    final = {index: each.final for index, each in everyone.items() if isinstance(each, Validator)}
    return {index: votes for index, votes in final.items() if votes is not None}


@pytest.mark.parametrize(("size", "runs"), [(4, 1500), (7, 150)])
def test_honest_validators_never_disagree_whatever_the_network_does(size: int, runs: int) -> None:
    decided, blocks = 0, set()
    for seed in range(runs):
        final = chaos(seed, size, Group(size).tolerated)
        digests = {votes.digest for votes in final.values()}
        assert len(digests) <= 1, seed
        decided += bool(digests)
        blocks |= digests
    assert decided > runs // 10
    assert blocks == {BLOCK, twin_of(BLOCK)}  # either may win, never both


def test_with_one_faulty_validator_too_many_they_do_disagree() -> None:
    """So the test above can see a disagreement."""
    assert any(len({votes.digest for votes in chaos(seed, 4, 2).values()}) == 2 for seed in range(500))
