"""PBFT: one chain with f faulty validators of 3f + 1, a stop or a detected split with f + 1; messages and delays."""

from __future__ import annotations

import pytest

from gridmarl.consensus import Network, Pbft
from gridmarl.consensus.pbft_validator import Group
from gridmarl.errors import ConfigError, ConsensusError
from tests.consensus.builders import candidates

TOLERATED = [1, 2, 3, 4]
FAULTS = ["silent", "equivocating"]


def network(tolerated: int, faulty: int, fault: str = "silent") -> Network:
    return Network(
        validators=3 * tolerated + 1, faulty=faulty, fault=fault, message_delay_ms=10, timeout_ms=100
    )  # fmt: skip


@pytest.mark.parametrize("tolerated", TOLERATED)
def test_without_faults_three_delays_and_two_n_times_n_minus_one_messages(tolerated: int) -> None:
    size = 3 * tolerated + 1
    outcome = Pbft(network(tolerated, 0)).seal(candidates(5))
    assert [seal.delay_ms for seal in outcome.seals] == [30] * 5
    # pre-prepare n-1, prepare (n-1)(n-1), commit n(n-1)
    assert [seal.messages for seal in outcome.seals] == [2 * size * (size - 1)] * 5
    assert [seal.hashes for seal in outcome.seals] == [size] * 5
    assert {seal.sealer for seal in outcome.seals} == {0}
    assert all(seal.final for seal in outcome.seals)
    assert outcome.faults_survived == tolerated


@pytest.mark.parametrize("tolerated", TOLERATED)
@pytest.mark.parametrize("fault", FAULTS)
def test_with_f_faulty_the_same_chain_is_final_as_without_faults(tolerated: int, fault: str) -> None:
    chain = candidates(3 * tolerated + 4)
    clean = Pbft(network(tolerated, 0)).seal(chain)
    for faulty in range(1, tolerated + 1):
        outcome = Pbft(network(tolerated, faulty, fault)).seal(chain)
        assert [seal.digest for seal in outcome.seals] == [seal.digest for seal in clean.seals]
        assert all(seal.final for seal in outcome.seals)
        assert outcome.seals[-1].sealer == faulty  # the first honest primary, and it stays
        assert outcome.seals[-1].delay_ms == 30


def test_silent_primaries_cost_one_timeout_each_and_only_once() -> None:
    outcome = Pbft(network(3, 3)).seal(candidates(3))
    # three views fail after 100, 200 and 300 ms; then view change, pre-prepare, prepare, commit
    assert [seal.delay_ms for seal in outcome.seals] == [600 + 40, 30, 30]
    # three times 7 honest validators ask for the next view; then one pre-prepare, 6 prepares, 7 commits to 9 others
    assert [seal.messages for seal in outcome.seals] == [9 * (3 * 7 + 1 + 6 + 7), 9 * 14, 9 * 14]


@pytest.mark.parametrize("tolerated", TOLERATED)
def test_with_f_plus_1_silent_it_stops_and_says_so(tolerated: int) -> None:
    stops = rf"pbft: stops at height 0: 0 of {2 * tolerated} honest .* at most {tolerated} may be"
    with pytest.raises(ConsensusError, match=stops):
        Pbft(network(tolerated, tolerated + 1)).seal(candidates(3))


@pytest.mark.parametrize("tolerated", TOLERATED)
def test_with_f_plus_1_equivocating_the_split_is_detected(tolerated: int) -> None:
    splits = rf"pbft: splits at height 0: .* {tolerated + 1} of {3 * tolerated + 1} validators are equivocating"
    with pytest.raises(ConsensusError, match=splits):
        Pbft(network(tolerated, tolerated + 1, "equivocating")).seal(candidates(3))


def test_all_faulty_stops() -> None:
    with pytest.raises(ConsensusError, match="0 of 0 honest"):
        Pbft(network(1, 4)).seal(candidates(1))


@pytest.mark.parametrize("size", range(4, 101))
def test_quorums_share_an_honest_validator_and_need_no_faulty_one(size: int) -> None:
    group = Group(size)
    assert 3 * group.tolerated < size
    assert 3 * (group.tolerated + 1) >= size
    assert 2 * group.quorum - size > group.tolerated
    assert group.quorum <= size - group.tolerated


def test_the_same_chain_gives_the_same_outcome() -> None:
    made = [Pbft(network(2, 2, "equivocating")).seal(candidates(6)) for _ in range(2)]
    assert made[0] == made[1]


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="validators: 3, allowed for pbft are 4 and more"):
        Pbft(Network(validators=3))
    with pytest.raises(ConfigError, match=r"timeout_ms: 49, allowed for pbft is at least 5 \* message_delay_ms = 50"):
        Pbft(Network(message_delay_ms=10, timeout_ms=49))
