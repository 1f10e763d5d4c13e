"""Signatures: every flipped bit located; forged, moved, missing ones found at block, section and slot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gridmarl.ledger import Block, Rules, SealedBlock, verify_bytes
from gridmarl.ledger.keys import KeyRing
from gridmarl.ledger.records import decode_record
from tests.ledger.builders import (
    FOUR,
    SEALINGS,
    SMALL,
    complete,
    file_bytes,
    honest_blocks,
    honest_trailer,
    keys_of,
    records_of,
    rehashed,
    resealed,
    truth,
    with_record,
)

SLOT = 64


def chain(name: str, *, signed: bool = True) -> tuple[Rules, list[SealedBlock]]:
    """A chain of two blocks with as few prosumers as there can be."""
    sealing = SEALINGS[name] if name in ("authority", "pbft") else SEALINGS[name] | {"validators": 2}
    return honest_blocks(FOUR if name == "pbft" else SMALL, 3, signed=signed, **sealing)


def blocks_of(name: str, hours: int = 1) -> tuple[Rules, list[Block]]:
    play = replace(FOUR, H=4)
    rules, sealed = honest_blocks(play, 3, hours, signed=True, **SEALINGS[name])
    return rules, [each.block for each in sealed]


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("name", [name for name in SEALINGS if name != "authorities"])
def test_a_bit_of_every_byte_flipped_is_located(name, signed):
    """One bit of each byte; all eight of the consensus fields in headers and, of one chain, of signatures."""
    rules, sealed = chain(name, signed=signed)
    data = bytearray(file_bytes(rules, [each.block for each in sealed], honest_trailer(sealed)))
    assert verify_bytes(bytes(data)).ok
    start = len(data) - 112 - 2 * len(sealed[0].block.to_bytes())
    for offset in range(len(data)):
        block, section, record = truth(rules, len(sealed), offset)
        within = (offset - start) % len(sealed[0].block.to_bytes())
        thorough = (section == "signatures" and name == "stake") or (section == "header" and 160 <= within < 184)
        for bit in range(8) if thorough else (offset * 5 % 8,):
            data[offset] ^= 1 << bit
            verdict = verify_bytes(bytes(data))
            data[offset] ^= 1 << bit
            error = verdict.error
            assert not verdict.ok
            assert (error.block, error.section) == (block, section), (offset, bit, str(error))
            assert verdict.blocks == (2 if section == "trailer" else block or 0)
            if section == "signatures":
                assert (error.record, error.field) == (record, "signature")


def located(rules: Rules, blocks: list[Block]) -> tuple[int | None, str, int | None, str | None]:
    """Where verification finds the first thing wrong."""
    verdict = verify_bytes(complete(rules, blocks))
    assert not verdict.ok
    error = verdict.error
    assert verdict.blocks == error.block
    assert error.expected
    assert error.seen
    return error.block, error.section, error.record, error.field


def with_signature(blocks: list[Block], height: int, slot: int, signature: bytes) -> list[Block]:
    old = blocks[height].signatures
    new = old[: SLOT * slot] + signature + old[SLOT * (slot + 1) :]
    return [*blocks[:height], blocks[height]._replace(signatures=new), *blocks[height + 1 :]]


@pytest.mark.parametrize("name", SEALINGS)
def test_signatures_of_others_are_refused(name):
    rules, blocks = blocks_of(name)
    keys, stranger = keys_of(rules), KeyRing.derived(b"s" * 32, 7, rules.validators)
    assert verify_bytes(complete(rules, blocks)).ok
    for height, block in enumerate(blocks):
        identity = block.parsed_header().hash()
        sealer = rules.sealer_accounts.index(block.parsed_header().sealer)
        slots = range(rules.signature_slots)
        assert len(block.signatures) == SLOT * len(slots)
        for slot in slots:
            validator = slot if name == "pbft" else sealer
            assert block.signatures[SLOT * slot :][:SLOT] == keys.sign(validator, identity)
            where = (height, "signatures", slot, "signature")
            forged = [
                stranger.sign(validator, identity),
                keys.sign(validator, blocks[height - 1].parsed_header().parent),
            ]
            forged += [keys.sign(other, identity) for other in range(rules.validators) if other != validator]
            forged += [bytes(63) + b"\1", b"\xff" * SLOT]
            for signature in forged:
                assert located(rules, with_signature(blocks, height, slot, signature)) == where
        other = blocks[height - 1].signatures
        assert located(rules, [*blocks[:height], block._replace(signatures=other), *blocks[height + 1 :]]) == (
            height, "signatures", 0, "signature",
        )  # fmt: skip


@pytest.mark.parametrize("name", ["authority", "authorities", "stake", "work"])
def test_a_missing_signature_is_refused(name):
    rules, blocks = blocks_of(name)
    assert located(rules, with_signature(blocks, 2, 0, bytes(SLOT))) == (2, "signatures", 0, "signature")


def test_votes_of_more_than_two_thirds_are_needed():
    rules, blocks = blocks_of("pbft")
    for absent in range(4):
        fewer = with_signature(blocks, 1, absent, bytes(SLOT))
        verdict = verify_bytes(complete(rules, fewer))
        assert verdict.ok
        assert verdict.signed_by == "signed by 4 of 4 sealers"
        for second in range(4):
            if second != absent:
                too_few = with_signature(fewer, 1, second, bytes(SLOT))
                assert located(rules, too_few) == (1, "signatures", None, "votes")
    swapped = with_signature(
        with_signature(blocks, 3, 0, blocks[3].signatures[64:128]), 3, 1, blocks[3].signatures[:64]
    )
    assert located(rules, swapped) == (3, "signatures", 0, "signature")
    twice = with_signature(with_signature(blocks, 3, 0, bytes(SLOT)), 3, 1, blocks[3].signatures[128:192])
    assert located(rules, twice) == (3, "signatures", 1, "signature")


def another_bid(rules: Rules, blocks: list[Block]) -> tuple[int, list[Block]]:
    """A history in which a prosumer bids otherwise to the same effect, and its height: no replay can refuse it."""
    unsigned = replace(rules, sealers=(), addresses=())
    for height in range(1, len(blocks)):
        for record in range(1, 1 + rules.num_prosumers):
            bid = decode_record(records_of(blocks[height].inputs)[record])["buy_price"]
            for other in (bid - 1, bid + 1):
                forged = [*blocks]
                forged[height] = with_record(blocks[height], "inputs", record, buy_price=other)
                if verify_bytes(complete(unsigned, resealed(unsigned, forged))).ok:
                    return height, forged
    raise AssertionError("every bid matters")


@pytest.mark.parametrize("name", SEALINGS)
def test_a_lawful_history_that_was_not_signed_is_refused(name):
    rules, blocks = blocks_of(name)
    height, forged = another_bid(rules, blocks)
    signed = resealed(rules, forged)
    assert verify_bytes(complete(rules, signed)).ok  # by those who have the keys
    stale = [each._replace(signatures=old.signatures) for each, old in zip(signed, blocks, strict=True)]
    assert located(rules, stale)[:2] == (height, "signatures")


def test_rehashed_without_keys_the_first_header_is_refused():
    rules, blocks = blocks_of("authority")
    other = replace(rules, seed=rules.seed + 1)
    error = verify_bytes(rehashed(other, blocks)).error
    assert (error.block, error.section, error.field) == (0, "signatures", "signature")
    assert rules.sealers[0] in error.expected


def test_who_signed_is_said():
    for name, count in (("authority", 1), ("authorities", 3), ("pbft", 4)):
        rules, blocks = blocks_of(name)
        assert verify_bytes(complete(rules, blocks)).signed_by == f"signed by {count} of {count} sealers"
    rules, blocks = blocks_of("authorities")
    assert verify_bytes(complete(rules, blocks[:1])).signed_by == "signed by 1 of 3 sealers"
    rules, sealed = honest_blocks(SMALL)
    assert verify_bytes(complete(rules, [each.block for each in sealed])).signed_by == "unsigned"
