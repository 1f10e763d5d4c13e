"""Proof of authority: turns, finality by majority, silent and equivocating validators."""

from __future__ import annotations

import pytest

from gridmarl.consensus import Network, ProofOfAuthority
from gridmarl.errors import ConsensusError
from tests.consensus.builders import TX_COUNT, candidates


def test_validators_take_turns_and_a_majority_makes_final() -> None:
    network = Network(validators=4, message_delay_ms=7, block_interval_ms=100, energy_per_hash_fwh=3)
    chain = candidates(10)
    outcome = ProofOfAuthority(network).seal(chain)
    assert [seal.sealer for seal in outcome.seals] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert [seal.digest for seal in outcome.seals] == [candidate.digest for candidate in chain]
    # 3 of 4 validators have sealed a block or one after it when the second block after it is there
    assert [seal.delay_ms for seal in outcome.seals] == [307] * 8 + [None] * 2
    assert [seal.final for seal in outcome.seals] == [True] * 8 + [False] * 2
    assert outcome.messages == 10 * 3
    assert outcome.hashes == 10 * 4
    assert outcome.energy_fwh == 3 * 40
    assert outcome.elapsed_ms == 1000
    assert outcome.tx_per_s == 10 * TX_COUNT
    assert outcome.faults_survived == 1


def test_a_single_authority_is_final_on_arrival() -> None:
    outcome = ProofOfAuthority(Network(validators=1, message_delay_ms=7, block_interval_ms=100)).seal(candidates(3))
    assert [seal.delay_ms for seal in outcome.seals] == [107] * 3
    assert outcome.messages == 0


def test_the_turns_of_faulty_validators_pass_unused() -> None:
    network = Network(validators=5, faulty=2, message_delay_ms=7, block_interval_ms=100)
    outcome = ProofOfAuthority(network).seal(candidates(6))
    assert [seal.sealer for seal in outcome.seals] == [2, 3, 4, 2, 3, 4]
    assert outcome.elapsed_ms == 100 * 10
    # the majority is 3: the two blocks after it, and two lost turns on the way, before or after the block
    assert [seal.delay_ms for seal in outcome.seals] == [507, 507, 507, 507, None, None]


def test_equivocating_validators_cost_messages_too() -> None:
    silent, two_faced = (
        ProofOfAuthority(Network(validators=5, faulty=2, fault=fault)).seal(candidates(6))
        for fault in ("silent", "equivocating")
    )
    # of ten turns four are wasted; in each, 4 headers are sent, and passed on by each of 4 to the 3 others
    assert two_faced.messages == silent.messages + 4 * (4 + 12)
    assert [seal.digest for seal in two_faced.seals] == [seal.digest for seal in silent.seals]


@pytest.mark.parametrize("validators", [1, 2, 3, 4, 5, 10])
def test_more_faults_than_it_survives_stop_it(validators: int) -> None:
    survived = ProofOfAuthority(Network(validators=validators)).faults_survived
    chain = candidates(4 * validators)
    outcome = ProofOfAuthority(Network(validators=validators, faulty=survived)).seal(chain)
    assert any(seal.final for seal in outcome.seals)
    stopped = ProofOfAuthority(Network(validators=validators, faulty=survived + 1))
    with pytest.raises(ConsensusError, match=f"{survived + 1} of {validators} validators are faulty"):
        stopped.seal(chain)
