"""Ledgers for the tests: honest ones from the slow oracle, forged ones with every hash recomputed."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from gridmarl.ledger import Block, LaneChains, LedgerReader, Rules, SealedBlock
from gridmarl.ledger.file import FILE_VERSION, MAGIC, Trailer
from gridmarl.ledger.hashing import section_root
from gridmarl.ledger.records import decode_record, encode_record
from tests.oracles.ledger_play import Play, play_records, rules_of

SMALL = Play(P=2, H=2, capacity=20, power=9, soc0=7, price_range=(5, 60))
FULL = Play(P=3, H=5, capacity=30, power=11, soc0=12, deadline=3, price_range=(-30, 40))


def honest_blocks(play: Play, seed: int = 1, episodes: int = 1, **changes: object) -> tuple[Rules, list[SealedBlock]]:
    """Rules and blocks of one lane."""
    rules = Rules(**rules_of(play, **changes))
    chains = LaneChains(rules, [rules.lane], keep=[rules.lane])
    for hour in play_records(play, [seed], episodes):
        chains.append(hour)
    return rules, chains.blocks[rules.lane]


def file_bytes(rules: Rules, blocks: list[Block], trailer: Trailer | None) -> bytes:
    """A ledger file put together here, independently of the writer."""
    genesis = rules.to_bytes()
    head = MAGIC + struct.pack("<II", FILE_VERSION, len(genesis)) + genesis + rules.hash()
    return head + b"".join(block.to_bytes() for block in blocks) + (trailer.pack() if trailer else b"")


def honest_file(play: Play, seed: int = 1, episodes: int = 1, **changes: object) -> bytes:
    """A complete honest file."""
    rules, sealed = honest_blocks(play, seed, episodes, **changes)
    return file_bytes(rules, [each.block for each in sealed], honest_trailer(sealed))


def honest_trailer(sealed: list[SealedBlock]) -> Trailer:
    return Trailer(len(sealed), sealed[-1].hash, sealed[-1].block.parsed_header().state_root)


def read_blocks(data: bytes) -> tuple[Rules, list[Block]]:
    """Rules and blocks of a file in memory."""
    reader = LedgerReader(io.BytesIO(data))
    return reader.rules, list(reader)


def rehashed(rules: Rules, blocks: list[Block], *, heights: bool = True) -> bytes:
    """A file of these blocks in which roots, parents, heights, periods and trailer are computed anew."""
    head, forged = rules.hash(), []
    header = None
    for height, block in enumerate(blocks):
        header = block.parsed_header()._replace(
            parent=head, input_root=section_root(block.inputs), tx_root=section_root(block.transactions)
        )
        if heights:
            header = header._replace(height=height, period=height % rules.horizon_hours)
        forged.append(block._replace(header=header.pack()))
        head = header.hash()
    assert header is not None
    return file_bytes(rules, forged, Trailer(len(forged), head, header.state_root))


def records_of(section: bytes) -> list[bytes]:
    return [section[at : at + 64] for at in range(0, len(section), 64)]


def with_record(block: Block, section: str, index: int, **values: int) -> Block:
    """The block with some fields of one record changed."""
    records = records_of(getattr(block, section))
    records[index] = encode_record(decode_record(records[index]) | values)
    return block._replace(**{section: b"".join(records)})


def truth(rules: Rules, blocks: int, offset: int) -> tuple[int | None, str, int | None]:
    """Block, section and record of a byte of a complete file, from the layout alone."""
    prosumers = rules.num_prosumers
    if offset < 12:
        return None, "file", None
    at = offset - 16 - len(rules.to_bytes()) - 32
    if at < 0:
        return None, "genesis", None
    inputs, transactions = 64 * (1 + 2 * prosumers), 64 * (8 * prosumers + 2)
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
