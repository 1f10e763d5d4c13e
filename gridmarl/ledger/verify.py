"""Verification of a ledger file: every hash again, every hour replayed, and the first thing wrong located.

Forward, block by block: header fields, parent, section roots, replay of the market, state root. Where a root or parent
does not match, either side may be the corrupted one; the header chain, walked backward from the trailer's head hash
(the trailer has its own checksum), tells which (`gridmarl.ledger.locate`).
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass, field
from struct import error as StructError
from typing import TYPE_CHECKING

from gridmarl.ledger.block import CONSENSUS_CODES, VERSION, Block, Header
from gridmarl.ledger.file import Trailer
from gridmarl.ledger.hashing import balance_bytes, header_hash, section_root, state_root
from gridmarl.ledger.locate import broken_parent, broken_root
from gridmarl.ledger.location import HEADER, INPUTS, TRAILER, TRANSACTIONS, LocatedError, Location, mismatch
from gridmarl.ledger.reader import LedgerReader
from gridmarl.ledger.seal_check import SealCheck

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from gridmarl.ledger.chain_rules import BlockReplay, ChainRules


@dataclass
class Verdict:
    """Result of a verification.

    Attributes:
        ok: nothing is wrong and the file (not a store, see `may_grow`) is complete.
        blocks, transactions: verified before the error, or in all.
        residual_utok: sum over accounts after the last verified block minus the sum at the start; 0, or money was made.
        sealers: validators whose public keys the genesis names; 0 of an unsigned chain.
        signers: how many of them have signed a verified block.
        head: hash of the last verified block in hexadecimal (genesis hash if none).
        energy_totals: Wh by name over the verified blocks.
        error: the first thing wrong, None if nothing is.
        may_grow: it is a store, which a run may still append to: ok up to its head.
    """

    ok: bool = False
    blocks: int = 0
    transactions: int = 0
    residual_utok: int = 0
    sealers: int = 0
    signers: int = 0
    head: str = ""
    energy_totals: dict[str, int] = field(default_factory=dict)
    error: Location | None = None
    may_grow: bool = False

    @property
    def signed_by(self) -> str:
        """Who signed, in words."""
        if not self.sealers:
            return "unsigned"
        return f"signed by {self.signers} of {self.sealers} sealers"

    def __str__(self) -> str:
        state = ("ok up to the head of a store" if self.may_grow else "ok") if self.ok else f"NOT ok: {self.error}"
        return f"{state}; {self.blocks} blocks, {self.transactions} transactions, residual {self.residual_utok} µtok"


def verify(path: str | os.PathLike[str]) -> Verdict:
    """Verify a ledger file.

    Raises:
        LedgerError: the path is missing, not a regular file or not readable. Everything else wrong is in the verdict.
    """
    verdict = Verdict()
    try:
        with LedgerReader.open(path) as reader:
            _verify(reader, verdict)
    except LocatedError as error:
        verdict.error = error.location
    return verdict


def verify_bytes(data: bytes) -> Verdict:
    """Verify a ledger file that lies in memory; never raises on its content."""
    verdict = Verdict()
    try:
        _verify(LedgerReader(io.BytesIO(data)), verdict)
    except LocatedError as error:
        verdict.error = error.location
    return verdict


def _verify(reader: LedgerReader, verdict: Verdict) -> None:
    replay, seals = reader.rules.replay(), SealCheck(reader.rules)
    verdict.sealers = len(reader.rules.sealers)
    verdict.may_grow = reader.may_grow
    head, root = reader.genesis_hash, state_root(balance_bytes(reader.rules.initial_balances))
    verdict.head = head.hex()
    verdict.energy_totals = replay.totals
    for height in range(reader.block_count):
        block = reader.block(height)
        root = _check_block(reader, replay, seals, height, block, head)
        head = header_hash(block.header)
        seals.check_seal(reader, height, block, head)
        verdict.signers = len(seals.signers)
        verdict.blocks, verdict.head = height + 1, head.hex()
        verdict.transactions += reader.rules.transactions_per_block
        verdict.residual_utok = sum(replay.balances) - sum(reader.rules.initial_balances)
    trailer = reader.trailer()
    expected = Trailer(verdict.blocks, head, root)
    for name, right, seen in zip(Trailer._fields, expected, trailer, strict=True):
        if right != seen:
            raise mismatch(TRAILER, "differs from the blocks", block=None, field=name, expected=right, seen=seen)
    replay.finish()
    if verdict.residual_utok:
        reason = "the balances of all accounts do not add up to those of the start"
        raise LocatedError(Location(TRAILER, reason, expected="0", seen=str(verdict.residual_utok)))
    verdict.ok = True


@contextmanager
def verified(path: str | os.PathLike[str]) -> Iterator[tuple[LedgerReader, Verdict]]:
    """A reader of a file that verifies, and the verdict; what is read from it later is what was verified.

    Raises:
        LedgerError: the path is missing, not a regular file or not readable; LocatedError with the place that `verify`
            names if the file does not verify.
    """
    verdict = Verdict()
    with LedgerReader.open(path) as reader:
        _verify(reader, verdict)
        yield reader, verdict


def _check_block(
    reader: LedgerReader, replay: BlockReplay, seals: SealCheck, height: int, block: Block, head: bytes
) -> bytes:
    """Check all of one block that follows the block with hash `head` but its work and signatures; the state root."""
    header = block.parsed_header()
    _check_header(height, header, reader.rules)
    if header.parent != head:
        raise broken_parent(reader, height, header, head)
    seals.check_sealer(height, header, head)
    if section_root(block.inputs) != header.input_root:
        raise broken_root(reader, replay, height, block, INPUTS)
    if section_root(block.transactions) != header.tx_root:
        raise broken_root(reader, replay, height, block, TRANSACTIONS)
    replay.apply(height, block.inputs, block.transactions)
    try:
        root = state_root(balance_bytes(replay.balances))
    except StructError:
        raise LocatedError(Location(TRANSACTIONS, "a balance exceeds 64 bits", block=height)) from None
    if root != header.state_root:
        reason = "not the root of the balances after this block"
        raise mismatch(HEADER, reason, block=height, field="state_root", expected=root, seen=header.state_root)
    return root


def _check_header(height: int, header: Header, rules: ChainRules) -> None:
    """Every field that rules and height decide."""
    expected = header._replace(
        version=VERSION,
        consensus=CONSENSUS_CODES[rules.consensus],
        period=height % rules.blocks_per_episode,
        height=height,
        lane=rules.lane,
        tx_count=rules.transactions_per_block,
        input_count=rules.inputs_per_block,
        difficulty=rules.difficulty_bits,
        nonce=header.nonce if rules.consensus == "proof_of_work" else 0,
        reserved=bytes(len(header.reserved)),
    )
    if header != expected:
        for name, right, seen in zip(Header._fields, expected, header, strict=True):
            if right != seen:
                raise mismatch(HEADER, "not as the rules say", block=height, field=name, expected=right, seen=seen)
