"""Which side of a broken hash is the corrupted one, and which input record, as far as it can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridmarl.ledger.block import Block, Header
from gridmarl.ledger.hashing import header_hash, section_root
from gridmarl.ledger.location import HEADER, INPUTS, TRANSACTIONS, LocatedError, mismatch

if TYPE_CHECKING:
    from gridmarl.ledger.chain_rules import BlockReplay
    from gridmarl.ledger.reader import LedgerReader


def authentic(reader: LedgerReader, height: int) -> bool:
    """Whether the chain of hashes from the trailer (or the last block, without a trailer) back vouches for a header.

    Without a trailer nothing vouches for the last header; it is then believed.
    """
    try:
        trusted: bytes | None = reader.trailer().head
    except LocatedError:
        trusted = None
    for index in range(reader.block_count - 1, height - 1, -1):
        header = reader.header(index)
        if trusted is not None and header_hash(header) != trusted:
            return False
        trusted = Header.unpack(header).parent
    return True


def broken_parent(reader: LedgerReader, height: int, header: Header, head: bytes) -> LocatedError:
    """Error of a block whose parent field is not the hash `head` of the header before."""
    if height and authentic(reader, height) and not authentic(reader, height - 1):
        reason = "its hash is not the one that the next block names"
        return mismatch(HEADER, reason, block=height - 1, field="hash", expected=header.parent, seen=head)
    reason = "not the hash of the block before"
    return mismatch(HEADER, reason, block=height, field="parent", expected=head, seen=header.parent)


def broken_root(reader: LedgerReader, replay: BlockReplay, height: int, block: Block, section: str) -> LocatedError:
    """Error of a block of which a section does not have the root in the header."""
    header = block.parsed_header()
    content = block.inputs if section == INPUTS else block.transactions
    name, named = ("input_root", header.input_root) if section == INPUTS else ("tx_root", header.tx_root)
    root = section_root(content)
    if not authentic(reader, height):
        reason = f"not the root of the {section}"
        return mismatch(HEADER, reason, block=height, field=name, expected=root, seen=named)
    try:
        if section == TRANSACTIONS:
            replay.apply(height, block.inputs, block.transactions)
        elif section_root(block.transactions) == header.tx_root:
            replay.check_inputs(height, block)
    except LocatedError as error:
        if error.location.section == section and error.location.block == height:
            return error
    reason = "the records do not have the root in the header"
    return mismatch(section, reason, block=height, field=name, expected=named, seen=root)
