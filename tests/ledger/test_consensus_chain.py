"""Chains under every consensus: sealers as elected, forged seals found where they are, same keys same bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from blake3 import blake3

from gridmarl.consensus import Network, ProofOfAuthority, candidates_of
from gridmarl.errors import LedgerError
from gridmarl.ledger import Block, Header, LaneChains, LedgerWriter, Rules, verify, verify_bytes
from gridmarl.ledger.block import CONSENSUS_CODES
from gridmarl.ledger.election import ELECTION_CONTEXT
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.keys import KeyRing
from gridmarl.ledger.nonce import leading_zero_bits, search, solves
from gridmarl.ledger.records import Kind, iterate_records
from tests.ledger.builders import (
    FOUR,
    SEALINGS,
    complete,
    honest_blocks,
    honest_file,
    keys_of,
    resealed,
    signed_rules,
)
from tests.oracles.ledger_play import Play, play_records, rules_of

PLAY = replace(FOUR, H=6)
SIGNED = pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])


def chain(name: str, *, signed: bool = True, episodes: int = 1) -> tuple[Rules, list[Block]]:
    rules, sealed = honest_blocks(PLAY, 2, episodes, signed=signed, **SEALINGS[name])
    return rules, [each.block for each in sealed]


def located(rules: Rules, blocks: list[Block]) -> tuple[int | None, str, str | None, str | None, str | None]:
    error = verify_bytes(complete(rules, blocks)).error
    assert error is not None
    return error.block, error.section, error.field, error.expected, error.seen


def headers(blocks: list[Block]) -> list[Header]:
    return [block.parsed_header() for block in blocks]


@SIGNED
@pytest.mark.parametrize("name", SEALINGS)
def test_every_consensus_verifies_with_its_code_in_every_header(name, signed):
    rules, blocks = chain(name, signed=signed, episodes=2)
    verdict = verify_bytes(complete(rules, blocks))
    assert (verdict.ok, verdict.blocks, verdict.residual_utok) == (True, 12, 0)
    assert {each.consensus for each in headers(blocks)} == {CONSENSUS_CODES[rules.consensus]}
    assert {each.sealer for each in headers(blocks)} == set(rules.sealer_accounts)


def test_authorities_and_primaries_take_turns():
    for name in ("authorities", "pbft"):
        rules, blocks = chain(name)
        assert [each.sealer for each in headers(blocks)] == [height % rules.validators for height in range(6)]
    _, blocks = chain("authority")
    assert {each.sealer for each in headers(blocks)} == {PLAY.P + 1}  # the operator


def test_the_table_of_mechanisms_and_the_chain_have_the_same_turns():
    _, blocks = chain("authorities")
    outcome = ProofOfAuthority(Network(validators=3)).seal(candidates_of(blocks, PLAY.P, 3))
    assert [seal.sealer for seal in outcome.seals] == [each.sealer for each in headers(blocks)]


def test_stake_is_drawn_by_the_reductions_before():
    """By the definition: the draw of seed, parent and height falls into a validator's share of the stake."""
    rules, blocks = chain("stake", episodes=4)
    earned, seen = [0] * 4, set()
    for height, block in enumerate(blocks):
        header = block.parsed_header()
        message = rules.seed.to_bytes(8, "little") + header.parent + height.to_bytes(8, "little") + bytes(8)
        draw = int.from_bytes(blake3(message, derive_key_context=ELECTION_CONTEXT).digest(8), "little")
        weights = earned if any(earned) else [1] * 4
        mark, bounds = draw * sum(weights) / 2**64, [sum(weights[: i + 1]) for i in range(4)]
        assert header.sealer == next(i for i, bound in enumerate(bounds) if mark < bound)
        seen.add(header.sealer)
        for record in iterate_records(block.transactions):
            if record["kind"] == Kind.REDUCTION:
                earned[record["payee"]] += max(0, record["amount_utok"])
    assert len(seen) > 1
    assert sum(value > 0 for value in earned) > 1


def test_work_is_real_and_names_who_found_it():
    rules, blocks = chain("work")
    for header in headers(blocks):
        data = header.pack()
        assert leading_zero_bits(header_hash(data)) >= rules.difficulty_bits == header.difficulty
        assert header.sealer == header.nonce % rules.validators
        assert solves(data, rules.difficulty_bits)
        for nonce in range(header.nonce):
            earlier = header._replace(nonce=nonce, sealer=nonce % rules.validators).pack()
            assert not solves(earlier, rules.difficulty_bits)
    assert max(each.nonce for each in headers(blocks)) > 10


@SIGNED
@pytest.mark.parametrize("name", ["authority", "authorities", "stake", "pbft"])
def test_a_forged_sealer_who_signs_is_found(name, signed):
    """Stake grinding, too: whoever names itself and signs all that follows properly is not who was drawn."""
    rules, blocks = chain(name, signed=signed)
    for height, header in enumerate(headers(blocks)):
        others = [account for account in rules.sealer_accounts if account != header.sealer]
        for other in others:
            forged = resealed(rules, blocks, height, sealer=other)
            assert located(rules, forged) == (height, "header", "sealer", str(header.sealer), str(other))
    if not signed:
        forged = resealed(rules, blocks, 2, sealer=99)
        assert located(rules, forged)[:3] == (2, "header", "sealer")


@SIGNED
def test_forged_work_is_found(signed):
    rules, blocks = chain("work", signed=signed)
    for height, header in enumerate(headers(blocks)):
        wrong = next(
            nonce
            for nonce in range(header.sealer, 1000, 2)  # tried by the same miner
            if not solves(header._replace(nonce=nonce).pack(), rules.difficulty_bits)
        )
        block, section, field, expected, seen = located(rules, resealed(rules, blocks, height, nonce=wrong))
        assert (block, section, field) == (height, "header", "nonce")
        assert (expected, seen.split()[1:]) == ("7 zero bits or more", ["zero", "bits"])
        forged = resealed(rules, blocks, height, difficulty=0)
        assert located(rules, forged) == (height, "header", "difficulty", "7", "0")
        stolen = search(header.pack(), rules.difficulty_bits, miners=(1 - header.sealer,))
        assert stolen is not None
        thief = Header.unpack(stolen)
        if thief.nonce % 2 != thief.sealer:
            forged = resealed(rules, blocks, height, sealer=thief.sealer, nonce=thief.nonce)
            assert located(rules, forged) == (height, "header", "sealer", str(header.sealer), str(thief.sealer))


@pytest.mark.parametrize("name", ["authority", "authorities", "stake", "pbft"])
def test_difficulty_and_nonce_are_zero_without_work(name):
    rules, blocks = chain(name)
    for field in ("difficulty", "nonce"):
        assert located(rules, resealed(rules, blocks, 3, **{field: 1})) == (3, "header", field, "0", "1")


def test_another_nonce_that_solves_is_found_by_what_follows():
    """Unsigned, a header of work has a free field: its hash is named by the next block, or by the trailer."""
    rules, blocks = chain("work", signed=False)
    data = complete(rules, blocks)
    for height in (2, 5):
        header = blocks[height].parsed_header()
        other = search(header.pack(), rules.difficulty_bits, miners=rules.sealer_accounts, first_nonce=header.nonce + 1)
        assert other is not None
        verdict = verify_bytes(data.replace(header.pack(), other))
        assert not verdict.ok
        error = verdict.error
        assert (error.block, error.section, error.field, verdict.blocks) == (height, "header", "nonce", height)
        assert (error.expected, error.seen) == (header.hash().hex(), header_hash(other).hex())


@pytest.mark.parametrize("name", SEALINGS)
def test_same_keys_same_bytes_and_unsigned_by_the_seed_alone(name):
    signed, again = (honest_file(PLAY, 2, signed=True, **SEALINGS[name]) for _ in range(2))
    assert signed == again
    unsigned, again = (honest_file(PLAY, 2, **SEALINGS[name]) for _ in range(2))
    assert unsigned == again
    rules, _ = chain(name)
    assert replace(rules, sealers=(), addresses=()).hash() != rules.hash()
    assert replace(rules, addresses=()).hash() != rules.hash()


@pytest.mark.parametrize("name", SEALINGS)
def test_a_resumed_chain_seals_the_same_blocks(name):
    rules = signed_rules(Rules(**rules_of(PLAY, **SEALINGS[name])))
    hours = play_records(PLAY, [1, 2], episodes=2)

    def chains() -> LaneChains:
        return LaneChains(rules, [0, 1], keep=[1], keys=keys_of(rules))

    whole, first, second = chains(), chains(), chains()
    for hour in hours:
        whole.append(hour)
    for hour in hours[:7]:
        first.append(hour)
    second.load_state_dict(first.state_dict())
    for hour in hours[7:]:
        second.append(hour)
    assert second.blocks == whole.blocks
    assert second.heads == whole.heads


def test_only_lanes_that_are_kept_or_written_are_sealed(tmp_path):
    rules = signed_rules(Rules(**rules_of(PLAY, **SEALINGS["stake"])))
    with LedgerWriter(tmp_path / "one", replace(rules, lane=1)) as writer:
        chains = LaneChains(rules, [0, 1], writers={1: writer}, keys=keys_of(rules))
        for hour in play_records(PLAY, [1, 2]):
            assert set(chains.append(hour)) == {1}
    verdict = verify(tmp_path / "one")
    assert (verdict.ok, verdict.head) == (True, chains.heads[1].hex())
    assert verdict.signed_by.endswith(" of 4 sealers")


def test_keys_that_are_not_those_of_the_rules_are_refused(tmp_path):
    plain = Rules(**rules_of(Play(P=4, H=2), validators=2))
    signed = signed_rules(plain)
    stranger = KeyRing.derived(b"s" * 32, 7, 2)
    for rules, keys in ((signed, None), (signed, stranger), (plain, keys_of(plain))):
        with pytest.raises(LedgerError, match="keys: "):
            LaneChains(rules, [0], keep=[0], keys=keys)
    LaneChains(signed, [0])  # nothing to sign


def test_a_writer_refuses_blocks_without_their_signatures(tmp_path):
    rules, sealed = honest_blocks(PLAY, signed=True, **SEALINGS["pbft"])
    with LedgerWriter(tmp_path / "x", rules) as writer:
        for wrong in (b"", sealed[0].block.signatures[:64], sealed[0].block.signatures + bytes(64)):
            with pytest.raises(LedgerError, match="block 0: signatures"):
                writer.append(sealed[0]._replace(block=sealed[0].block._replace(signatures=wrong)))
        writer.append(sealed[0])
    assert verify(tmp_path / "x").ok
