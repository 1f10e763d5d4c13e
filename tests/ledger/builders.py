"""Ledgers for the tests: honest ones from the slow oracle, forged ones with every hash recomputed."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

from gridmarl.ledger import Block, Header, LaneChains, LedgerReader, QuotaRules, Rules, SealedBlock
from gridmarl.ledger.chain_rules import ChainRules
from gridmarl.ledger.file import FILE_VERSION, MAGIC, Trailer
from gridmarl.ledger.hashing import header_hash, section_root
from gridmarl.ledger.keys import KeyRing
from gridmarl.ledger.records import decode_record, encode_record
from gridmarl.ledger.sealing import Sealer
from tests.oracles.ledger_play import Play, play_records, rules_of
from tests.oracles.quota_play import QuotaPlay, quota_records

SMALL = Play(P=2, H=2, capacity=20, power=9, soc0=7, price_range=(5, 60))
FULL = Play(P=3, H=5, capacity=30, power=11, soc0=12, deadline=3, price_range=(-30, 40))
FOUR = Play(P=4, H=2, capacity=20, power=9, soc0=7, price_range=(5, 60))
SMALL_QUOTA = QuotaPlay(N=2, T=2)
FOUR_QUOTA = QuotaPlay(N=4, T=3)
SECRET = b"a secret of the tests, and so none"
SEALINGS = {  # consensus and number of validators, which four prosumers allow
    "authority": {"consensus": "proof_of_authority", "validators": 1},
    "authorities": {"consensus": "proof_of_authority", "validators": 3},
    "stake": {"consensus": "proof_of_stake", "validators": 4, "confirmations": 6},
    "work": {"consensus": "proof_of_work", "validators": 2, "difficulty_bits": 7},
    "pbft": {"consensus": "pbft", "validators": 4},
}


def keys_of(rules: ChainRules) -> KeyRing:
    """The validators' and participants' keys of the tests."""
    return KeyRing.derived(SECRET, rules.num_accounts, rules.validators)


def signed_rules(rules: ChainRules) -> ChainRules:
    """The rules with sealers and addresses."""
    keys = keys_of(rules)
    return replace(rules, sealers=keys.public_keys, addresses=keys.addresses)


def chain_rules(play: Play | QuotaPlay, **changes: object) -> ChainRules:
    """The rules of a play's market."""
    return QuotaRules(**play.rules(**changes)) if isinstance(play, QuotaPlay) else Rules(**rules_of(play, **changes))


def honest_blocks(
    play: Play | QuotaPlay, seed: int = 1, episodes: int = 1, *, signed: bool = False, **changes: object
) -> tuple[ChainRules, list[SealedBlock]]:
    """Rules and blocks of one lane."""
    rules = chain_rules(play, **changes)
    rules = signed_rules(rules) if signed else rules
    chains = LaneChains(rules, [rules.lane], keep=[rules.lane], keys=keys_of(rules) if signed else None)
    for record in (quota_records if isinstance(play, QuotaPlay) else play_records)(play, [seed], episodes):
        chains.append(record)
    return rules, chains.blocks[rules.lane]


def file_bytes(rules: ChainRules, blocks: list[Block], trailer: Trailer | None) -> bytes:
    """A ledger file put together here, independently of the writer."""
    genesis = rules.to_bytes()
    head = MAGIC + struct.pack("<II", FILE_VERSION, len(genesis)) + genesis + rules.hash()
    return head + b"".join(block.to_bytes() for block in blocks) + (trailer.pack() if trailer else b"")


def honest_file(
    play: Play | QuotaPlay, seed: int = 1, episodes: int = 1, *, signed: bool = False, **changes: object
) -> bytes:
    """A complete honest file."""
    rules, sealed = honest_blocks(play, seed, episodes, signed=signed, **changes)
    return file_bytes(rules, [each.block for each in sealed], honest_trailer(sealed))


def honest_trailer(sealed: list[SealedBlock]) -> Trailer:
    return Trailer(len(sealed), sealed[-1].hash, sealed[-1].block.parsed_header().state_root)


def read_blocks(data: bytes) -> tuple[ChainRules, list[Block]]:
    """Rules and blocks of a file in memory."""
    reader = LedgerReader(io.BytesIO(data))
    return reader.rules, list(reader)


def rehashed(rules: ChainRules, blocks: list[Block], *, heights: bool = True) -> bytes:
    """A file of these blocks in which roots, parents, heights, periods and trailer are computed anew."""
    head, forged = rules.hash(), []
    header = None
    for height, block in enumerate(blocks):
        header = block.parsed_header()._replace(
            parent=head, input_root=section_root(block.inputs), tx_root=section_root(block.transactions)
        )
        if heights:
            header = header._replace(height=height, period=height % rules.blocks_per_episode)
        forged.append(block._replace(header=header.pack()))
        head = header.hash()
    assert header is not None
    return file_bytes(rules, forged, Trailer(len(forged), head, header.state_root))


def resealed(rules: ChainRules, blocks: list[Block], height: int | None = None, **changes: object) -> list[Block]:
    """Blocks as their sealers would seal them, signed; in one of them header fields are changed, by who signs it.

    Sections stay as they are; their roots, and those of balances, must be right.
    """
    keys = keys_of(rules) if rules.sealers else None
    sealer, head, made = Sealer(rules, keys), rules.hash(), []
    for index, block in enumerate(blocks):
        draft = block.parsed_header()._replace(
            parent=head, input_root=section_root(block.inputs), tx_root=section_root(block.transactions)
        )
        header, signatures = sealer.seal(draft.pack(), block.transactions)
        if index == height:
            forged = Header.unpack(header)._replace(**changes)
            header = forged.pack()
            if keys is not None:
                named = rules.sealer_accounts.index(forged.sealer)
                signers = range(rules.validators) if rules.consensus == "pbft" else (named,)
                signatures = b"".join(keys.sign(each, header_hash(header)) for each in signers)
        made.append(block._replace(header=header, signatures=signatures))
        head = header_hash(header)
    return made


def complete(rules: ChainRules, blocks: list[Block]) -> bytes:
    """A file of these blocks as they are, with the trailer that they make."""
    last = blocks[-1].parsed_header()
    return file_bytes(rules, blocks, Trailer(len(blocks), last.hash(), last.state_root))


def records_of(section: bytes) -> list[bytes]:
    return [section[at : at + 64] for at in range(0, len(section), 64)]


def with_record(block: Block, section: str, index: int, **values: int) -> Block:
    """The block with some fields of one record changed."""
    records = records_of(getattr(block, section))
    records[index] = encode_record(decode_record(records[index]) | values)
    return block._replace(**{section: b"".join(records)})


def truth(rules: ChainRules, blocks: int, offset: int) -> tuple[int | None, str, int | None]:
    """Block, section and record of a byte of a complete file, from the layout alone."""
    if offset < 12:
        return None, "file", None
    at = offset - 16 - len(rules.to_bytes()) - 32
    if at < 0:
        return None, "genesis", None
    if isinstance(rules, QuotaRules):
        records = 1 + 3 * rules.num_stations, 5 * rules.num_stations
    else:
        records = 1 + 2 * rules.num_prosumers, 8 * rules.num_prosumers + 2
    inputs, transactions = (64 * count for count in records)
    signatures = 64 * rules.signature_slots
    block, at = divmod(at, 256 + signatures + inputs + transactions)
    if block >= blocks:
        return None, "trailer", None
    if at < 256:
        return block, "header", None
    at -= 256
    if at < signatures:
        return block, "signatures", at // 64
    at -= signatures
    if at < inputs:
        return block, "inputs", at // 64
    return block, "transactions", (at - inputs) // 64


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
