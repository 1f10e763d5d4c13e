"""What all mechanisms share: names, options, determinism, refusals; stakes read from a ledger."""

from __future__ import annotations

import io
from typing import Any

import pytest

from gridmarl.consensus import DEFAULT, Network, candidates_of, consensus_names, make_consensus
from gridmarl.consensus.registry import blocks_to_finality
from gridmarl.errors import ConfigError
from gridmarl.ledger import LedgerReader
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.records import Kind, iterate_records
from tests.consensus.builders import candidates
from tests.ledger.builders import Play, honest_file

PROSUMERS = 5
PLAY = Play(P=PROSUMERS, H=6, capacity=30, power=11, soc0=12, deadline=3, price_range=(-30, 40))


@pytest.mark.parametrize("name", consensus_names())
def test_every_mechanism_seals_every_block_deterministically(name: str) -> None:
    chain = candidates(9, (1, 2, 3, 4))
    outcome = make_consensus(name, Network(validators=4)).seal(chain)
    assert outcome == make_consensus(name, Network(validators=4)).seal(chain)
    assert outcome.mechanism == name
    assert [seal.height for seal in outcome.seals] == list(range(9))
    assert [seal.digest for seal in outcome.seals] == [header_hash(candidate.header) for candidate in chain]
    assert {seal.sealer for seal in outcome.seals} <= set(range(4))
    assert all(seal.final == (seal.delay_ms is not None) for seal in outcome.seals)
    assert all(type(value) is int for seal in outcome.seals for value in (seal.messages, seal.hashes))
    assert type(outcome.energy_fwh) is int
    assert len(outcome.delays_ms) > 0


@pytest.mark.parametrize("name", consensus_names())
def test_an_empty_chain_costs_nothing(name: str) -> None:
    outcome = make_consensus(name, Network(validators=4)).seal([])
    assert (outcome.seals, outcome.energy_fwh, outcome.elapsed_ms, outcome.tx_per_s) == ((), 0, 0, 0.0)


@pytest.mark.parametrize("name", consensus_names())
def test_messages_cost_energy_if_told(name: str) -> None:
    chain = candidates(4, (1,) * 4)
    network = Network(validators=4, energy_per_hash_fwh=0, energy_per_message_fwh=7)
    outcome = make_consensus(name, network).seal(chain)
    assert outcome.energy_fwh == 7 * outcome.messages > 0
    assert outcome.energy_wh == outcome.energy_fwh / 1e15


def test_authority_is_the_default() -> None:
    assert DEFAULT == consensus_names()[0] == make_consensus().name == "proof_of_authority"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"validators": 0}, r"validators: 0, allowed are 1 \.\. 100"),
        ({"validators": 101}, "validators: 101"),
        ({"validators": 4, "faulty": 5}, r"faulty: 5, allowed are 0 \.\. 4"),
        ({"fault": "asleep"}, "fault: 'asleep', allowed are silent, equivocating"),
        ({"message_delay_ms": 0}, "message_delay_ms: 0"),
        ({"message_delay_ms": 1.5}, "message_delay_ms: 1.5"),
        ({"block_interval_ms": -1}, "block_interval_ms: -1"),
        ({"energy_per_hash_fwh": -1}, "energy_per_hash_fwh: -1"),
    ],
)
def test_networks_that_make_no_sense_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Network(**settings)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="consensus: 'proof_of_luck', allowed are proof_of_authority"):
        make_consensus("proof_of_luck")
    with pytest.raises(ConfigError, match=r"options of pbft: .*difficulty_bits"):
        make_consensus("pbft", difficulty_bits=3)
    with pytest.raises(ConfigError, match="confirmations: -1"):
        make_consensus("proof_of_work", confirmations=-1)


def test_the_stake_is_what_was_earned_in_reductions_before() -> None:
    reader = LedgerReader(io.BytesIO(honest_file(PLAY, seed=3, episodes=4)))
    made = candidates_of(reader, PROSUMERS, 4)
    assert len(made) == reader.block_count == 24
    earned = [0] * PROSUMERS
    for candidate, block in zip(made, reader, strict=True):
        assert candidate.stakes_utok == tuple(earned[:4])
        assert candidate.header == block.header
        records = list(iterate_records(block.transactions))
        assert candidate.tx_count == len(records)
        for record in records:
            if record["kind"] == Kind.REDUCTION and record["amount_utok"] > 0:
                earned[record["payee"]] += record["amount_utok"]
    assert sum(value > 0 for value in earned) > 1  # the play has shortages


def test_there_are_no_more_validators_than_prosumers() -> None:
    with pytest.raises(ConfigError, match=r"validators: 6, allowed are 1 \.\. 5"):
        candidates_of([], PROSUMERS, 6)


def test_blocks_to_finality_by_mechanism() -> None:
    lags = {name: blocks_to_finality(name, validators=7, confirmations=4) for name in consensus_names()}
    assert lags == {"proof_of_authority": 3, "proof_of_stake": 4, "proof_of_work": 4, "pbft": 0}
    assert blocks_to_finality("proof_of_authority", validators=1, confirmations=4) == 0
    with pytest.raises(ConfigError, match="consensus: 'gossip', allowed are proof_of_authority"):
        blocks_to_finality("gossip", validators=1, confirmations=1)
