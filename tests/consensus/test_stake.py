"""Proof of stake: frequencies match stakes, coin age, draws that everybody can repeat, faulty stake."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from scipy.stats import chi2

from gridmarl.consensus import Candidate, Network, ProofOfStake
from gridmarl.errors import ConfigError, ConsensusError
from gridmarl.ledger.election import elect, election_draw
from tests.consensus.builders import TX_COUNT, candidates

BLOCKS = 100_000
STAKES_UTOK = (0, 1_000_000, 2_500_000, 40_000_000_000, 7, 13_000_000_000, 5_000_000_000, 999_999_999)


def short_candidates(number: int, stakes_utok: tuple[int, ...]) -> list[Candidate]:
    """Blocks of which only the height is in the header bytes."""
    return [Candidate(height, height.to_bytes(8, "little"), TX_COUNT, stakes_utok) for height in range(number)]


def chi_squared(counts: Counter[int], weights: tuple[int, ...]) -> tuple[float, int]:
    """Statistic and degrees of freedom; validators that expect under five blocks count as one."""
    total, number = sum(weights), sum(counts.values())
    expected = {index: number * weight / total for index, weight in enumerate(weights)}
    cells = [(counts[index], mean) for index, mean in expected.items() if mean >= 5]
    rare = [index for index, mean in expected.items() if mean < 5]
    if sum(expected[index] for index in rare) >= 5:
        cells.append((sum(counts[index] for index in rare), sum(expected[index] for index in rare)))
    return sum((seen - mean) ** 2 / mean for seen, mean in cells), len(cells) - 1


def test_sealers_match_stakes_over_100_000_blocks() -> None:
    """Statistics of five independent chains add up, as their degrees of freedom do."""
    chain, network, seeds = short_candidates(BLOCKS, STAKES_UTOK), Network(validators=8), range(5)
    total = 0.0
    for seed in seeds:
        counts = Counter(seal.sealer for seal in ProofOfStake(network, seed=seed).seal(chain).seals)
        assert counts[0] == 0  # no stake, no block
        statistic, freedom = chi_squared(counts, STAKES_UTOK)
        assert freedom == 4
        total += statistic
    assert chi2.isf(0.999, 4 * len(seeds)) < total < chi2.isf(0.001, 4 * len(seeds))


def test_the_chi_squared_test_sees_stakes_that_are_a_little_off() -> None:
    """Sealers drawn with 5 % more weight of the third largest stake: what the test above must refuse."""
    off = (*STAKES_UTOK[:6], STAKES_UTOK[6] * 105 // 100, STAKES_UTOK[7])
    chain, network = short_candidates(BLOCKS, off), Network(validators=8)
    counts = Counter(seal.sealer for seal in ProofOfStake(network, seed=7).seal(chain).seals)
    statistic, freedom = chi_squared(counts, STAKES_UTOK)
    assert statistic > chi2.isf(0.001, freedom)


def test_a_draw_picks_each_validator_as_often_as_it_weighs() -> None:
    weights = (3, 0, 1, 4)
    step = 2**64 // 8
    picked = [elect(step * eighth + offset, weights) for eighth in range(8) for offset in (0, step - 1)]
    assert picked == [0] * 6 + [2] * 2 + [3] * 8


def test_draws_depend_on_seed_parent_height_and_attempt_and_can_be_repeated() -> None:
    one, other = bytes(32), bytes([1]) + bytes(31)
    draws = {
        election_draw(seed, parent, height, attempt)
        for seed in (0, 1)
        for parent in (one, other)
        for height in (0, 1)
        for attempt in (0, 1)
    }
    assert len(draws) == 16
    chain = candidates(50, STAKES_UTOK)
    first, again, another = (ProofOfStake(Network(validators=8), seed=seed).seal(chain) for seed in (5, 5, 6))
    assert first == again
    assert [seal.sealer for seal in first.seals] != [seal.sealer for seal in another.seals]
    parent = chain[6].digest
    assert first.seals[7].sealer == elect(election_draw(5, parent, 7, 0), STAKES_UTOK)


def test_coin_age_helps_those_who_wait() -> None:
    """With equal stakes, whoever has just sealed is less likely to seal again."""
    chain, network = short_candidates(5000, (1000,) * 4), Network(validators=4)

    def repeats(cap: int) -> int:
        sealers = [seal.sealer for seal in ProofOfStake(network, coin_age_cap_blocks=cap).seal(chain).seals]
        return sum(before == after for before, after in pairwise(sealers))

    assert 1100 < repeats(0) < 1400  # a quarter of 5000
    assert repeats(1) == repeats(0)  # all ages are 1
    assert repeats(10) < 800


def test_without_any_stake_everybody_weighs_the_same() -> None:
    outcome = ProofOfStake(Network(validators=5)).seal(short_candidates(5000, (0,) * 5))
    statistic, freedom = chi_squared(Counter(seal.sealer for seal in outcome.seals), (1,) * 5)
    assert statistic < chi2.isf(0.001, freedom)


def test_time_messages_and_hashes() -> None:
    network = Network(validators=4, message_delay_ms=7, block_interval_ms=100)
    outcome = ProofOfStake(network, confirmations=2).seal(candidates(5, (1, 1, 1, 1)))
    assert [seal.delay_ms for seal in outcome.seals] == [307, 307, 307, None, None]
    assert (outcome.messages, outcome.hashes, outcome.elapsed_ms) == (5 * 3, 5 * 2 * 4, 500)


def test_faulty_winners_never_seal_and_cost_time() -> None:
    network = Network(validators=4, faulty=2, block_interval_ms=100)
    outcome = ProofOfStake(network).seal(candidates(200, (10, 20, 30, 40)))
    assert {seal.sealer for seal in outcome.seals} == {2, 3}
    lost = outcome.elapsed_ms // 100 - 200
    assert 60 < lost < 120  # 3 of 7 further draws: about 86
    assert outcome.hashes == 4 * (2 * 200 + lost)


def test_half_of_the_stake_stops_it() -> None:
    network = Network(validators=4, faulty=1)
    ProofOfStake(network).seal(candidates(3, (99, 50, 25, 25)))
    with pytest.raises(ConsensusError, match="height 0: faulty validators hold 100 of 200 µtok"):
        ProofOfStake(network).seal(candidates(3, (100, 50, 25, 25)))


def test_bad_stakes_are_refused() -> None:
    with pytest.raises(ConfigError, match="stakes_utok of height 0: 3 values, allowed is one per validator, 4"):
        ProofOfStake(Network(validators=4)).seal(candidates(1, (1, 2, 3)))
    with pytest.raises(ConfigError, match=r"weights\[1\]: -2"):
        elect(0, (1, -2))
    with pytest.raises(ConfigError, match="all 2 are 0"):
        elect(0, (0, 0))
