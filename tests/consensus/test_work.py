"""Proof of work: the search is real, its cost is as expected, and a seal can be checked with one hash."""

from __future__ import annotations

import pytest
from blake3 import blake3

from gridmarl.consensus import Network, ProofOfWork
from gridmarl.errors import ConfigError, ConsensusError
from gridmarl.ledger.block import Header
from gridmarl.ledger.hashing import HEADER_CONTEXT, header_hash
from gridmarl.ledger.nonce import leading_zero_bits, search, solves
from tests.consensus.builders import candidates, header


def test_leading_zero_bits() -> None:
    assert leading_zero_bits(bytes(32)) == 256
    assert leading_zero_bits(b"\x80" + bytes(31)) == 0
    assert leading_zero_bits(b"\x00\x01" + bytes(30)) == 15


@pytest.mark.parametrize("bits", [0, 1, 5, 8, 11])
def test_the_nonce_found_is_the_first_that_solves(bits: int) -> None:
    solved = search(header(3), bits)
    assert solved is not None
    fields = Header.unpack(solved)
    assert fields._replace(nonce=0, difficulty=0).pack() == header(3)
    assert fields.difficulty == bits
    for nonce in range(fields.nonce + 1):  # afresh, without the copied state
        data = solved[:176] + nonce.to_bytes(8, "little") + solved[184:]
        digest = blake3(data, derive_key_context=HEADER_CONTEXT).digest()
        right = int.from_bytes(digest, "big") >> (256 - bits) == 0
        assert right is (nonce == fields.nonce)
    assert solves(solved, bits)


def test_a_changed_header_nonce_or_difficulty_does_not_verify() -> None:
    bits = 16
    solved = search(header(1), bits)
    assert solved is not None
    assert solves(solved, bits)
    for position in range(len(solved)):
        changed = bytearray(solved)
        changed[position] ^= 1
        assert not solves(bytes(changed), bits), position
    assert not solves(solved, bits - 1)
    assert not solves(solved[:-1], bits)


def test_a_search_that_ends_early_says_so() -> None:
    solved = search(header(3), 8)
    assert solved is not None
    nonce = Header.unpack(solved).nonce
    assert search(header(3), 8, attempts=nonce) is None
    assert search(header(3), 8, first_nonce=nonce, attempts=1) == solved


@pytest.mark.parametrize("bits", [4, 8])
def test_a_block_takes_two_to_the_bits_hashes_on_average(bits: int) -> None:
    """Hashes per block are geometric with mean 2**bits, and about that much for a standard deviation."""
    number = 1000
    outcome = ProofOfWork(Network(validators=1), difficulty_bits=bits).seal(candidates(number))
    mean = outcome.hashes / number
    assert abs(mean - 2**bits) < 3 * 2**bits / number**0.5
    # and not only the mean: the share that needs more than the mean is (1 - 2**-bits) ** (2**bits)
    share = sum(seal.hashes > 2**bits for seal in outcome.seals) / number
    assert abs(share - (1 - 2**-bits) ** 2**bits) < 0.05


def test_headers_link_and_verify_and_time_follows_the_hashes() -> None:
    network = Network(validators=4, message_delay_ms=7, block_interval_ms=6400, energy_per_hash_fwh=5)
    outcome = ProofOfWork(network, difficulty_bits=6, confirmations=2).seal(candidates(8))
    tried, times_ms, now_ms = [], [0], 0
    parent = Header.unpack(header(0)).parent
    for seal in outcome.seals:
        assert solves(seal.header, 6)
        fields = Header.unpack(seal.header)
        assert fields.parent == parent
        assert seal.sealer == fields.nonce % 4
        parent = header_hash(seal.header)
        tried.append(fields.nonce + 1)
        now_ms += 100 * (fields.nonce + 1)  # 6400 / 2**6
        times_ms.append(now_ms)
    assert outcome.hashes == sum(tried) + 8 * 3
    assert outcome.energy_fwh == 5 * outcome.hashes
    assert outcome.elapsed_ms == now_ms
    expected = [times_ms[index + 3] + 7 - times_ms[index] for index in range(6)]
    assert [seal.delay_ms for seal in outcome.seals] == [*expected, None, None]


def test_miners_that_do_not_mine_make_it_slower_by_their_share() -> None:
    chain = candidates(20)
    network = {faulty: Network(validators=4, faulty=faulty, block_interval_ms=3 * 2**6) for faulty in (0, 1)}
    all_mine, three_mine = (ProofOfWork(network[faulty], difficulty_bits=6).seal(chain) for faulty in (0, 1))
    assert 3 * three_mine.elapsed_ms == 4 * all_mine.elapsed_ms
    assert {seal.sealer for seal in three_mine.seals} == {1, 2, 3}
    with pytest.raises(ConsensusError, match="2 of 4 validators are faulty, at most 1 may be"):
        ProofOfWork(Network(validators=4, faulty=2)).seal(chain)


@pytest.mark.parametrize("bits", [-1, 25, True])
def test_difficulties_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match=r"difficulty_bits: .*, allowed are 0 \.\. 24"):
        ProofOfWork(Network(), difficulty_bits=bits)
