"""Proofs about a chain: a block or a transaction before a head, and a head that is an ancestor of a later one.

All three are a list of consecutive headers. Each header holds the hash of the one before, so whoever knows the hash of
the last one (the head) knows all of them, and with them heights, counts, section roots and state roots. That is 256
bytes per block in between. `gridmarl.ledger.bao_verify` checks the same proofs without this package; here the headers
are hashed by the `blake3` package.

| format                       | keys beside `format` | shows                                                      |
|------------------------------|----------------------|------------------------------------------------------------|
| gridmarl-transaction-proof-1 | headers, index, path | transaction `index` of the first header's block in a chain |
| gridmarl-block-proof-1       | headers              | the first header's block in a chain                        |
| gridmarl-consistency-proof-1 | headers              | the first header's block was the head once                 |

`gridmarl-inclusion-proof-1`, of a transaction in its block (`gridmarl.ledger.proof`), is read as a transaction proof of
one header.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridmarl.errors import ConfigError, LedgerError
from gridmarl.ledger import bao_verify
from gridmarl.ledger.block import HEADER_BYTES, VERSION, Header
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.proof import (
    INCLUSION_FORMAT,
    ChunkTree,
    InclusionProof,
    hex_bytes,
    proof_index,
    proof_object,
    require_keys,
)
from gridmarl.ledger.reader import LedgerReader

if TYPE_CHECKING:
    import os

TRANSACTION_FORMAT, BLOCK_FORMAT = bao_verify.TRANSACTION, bao_verify.BLOCK
CONSISTENCY_FORMAT = bao_verify.CONSISTENCY


@dataclass(frozen=True)
class Proven:
    """What a proof shows.

    Attributes:
        height: height of the block that the proof speaks of, as its header says.
        block_hash: its hash, 32 bytes.
        count: blocks of the chain up to the head.
        index: position of the transaction in the block, None if the proof speaks of the block only.
        record: the transaction, 64 bytes, None likewise.
    """

    height: int
    block_hash: bytes
    count: int
    index: int | None = None
    record: bytes | None = None


@dataclass(frozen=True)
class ChainProof:
    """A proof about a chain; which one, `format` says.

    Attributes:
        format: one of the three formats of the module's table.
        headers: 256 bytes each, from the block that the proof speaks of to the head, no height left out.
        index: position of the transaction in the first block; None without a transaction.
        path: chunk and sibling chaining values (`gridmarl.ledger.proof`); empty without a transaction.
    """

    format: str
    headers: tuple[bytes, ...]
    index: int | None = None
    path: bytes = b""

    @property
    def head(self) -> bytes:
        """Hash of the last header; to be compared with one that is trusted."""
        return header_hash(self.headers[-1])

    def verify(self, head: bytes, *, count: int | None = None, old: bytes | None = None) -> Proven:
        """What the proof shows.

        Args:
            head: hash of the last block, from a trusted source.
            count: blocks of the chain up to the head, if known from the same source.
            old: of a consistency proof, and only there: the earlier head, from a trusted source.

        Raises:
            LedgerError: it does not show it; the message begins with the place.
        """
        if (self.format == CONSISTENCY_FORMAT) != (old is not None):
            raise LedgerError("old: the earlier head is needed for a consistency proof, and for no other")
        first = _verify_headers(self.headers, head, count)
        block_hash = header_hash(self.headers[0])
        if old is not None and block_hash != old:
            raise LedgerError(f"old: {old.hex()}; the first header has hash {block_hash.hex()}")
        count = first.height + len(self.headers)
        if self.index is None:
            return Proven(first.height, block_hash, count)
        try:
            record = bao_verify.verify_record(first.tx_root, first.tx_count, self.index, self.path)
        except ValueError as error:
            raise LedgerError(str(error)) from error
        return Proven(first.height, block_hash, count, self.index, record)

    def to_json(self) -> str:
        """The proof as one line of JSON, bytes in hexadecimal."""
        content: dict[str, object] = {"format": self.format, "headers": [header.hex() for header in self.headers]}
        if self.index is not None:
            content |= {"index": self.index, "path": self.path.hex()}
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ChainProof:
        """The inverse of `to_json`; also reads the inclusion proof of a transaction in its block.

        Raises:
            LedgerError: malformed: not JSON, other keys, a key twice, another type, hexadecimal text not in lower case.
        """
        try:
            content = proof_object(text)
            if content["format"] == INCLUSION_FORMAT:
                short = InclusionProof.from_object(content)
                return cls(TRANSACTION_FORMAT, (short.header,), short.index, short.path)
            if content["format"] not in (TRANSACTION_FORMAT, BLOCK_FORMAT, CONSISTENCY_FORMAT):
                raise ValueError("format: unknown")
            of_transaction = content["format"] == TRANSACTION_FORMAT
            require_keys(content, {"format", "headers", *(("index", "path") if of_transaction else ())})
            if not isinstance(content["headers"], list):
                raise ValueError("headers, type: a list is allowed")
            index = proof_index(content) if of_transaction else None
            headers = tuple(hex_bytes(f"header {number}", each) for number, each in enumerate(content["headers"]))
            return cls(content["format"], headers, index, hex_bytes("path", content.get("path", "")))
        except ValueError as error:
            raise LedgerError(str(error)) from error


def _verify_headers(headers: tuple[bytes, ...], head: bytes, count: int | None) -> Header:
    """The first of consecutive headers that end in the head, judged from what is known to what is not."""
    if not headers:
        raise LedgerError("headers, number: 0; at least 1 is allowed")
    expected, height = head, None if count is None else count - 1
    for number, data in reversed(list(enumerate(headers))):
        if len(data) != HEADER_BYTES:
            raise LedgerError(f"header {number}, length: {len(data)} bytes; {HEADER_BYTES} are allowed")
        seen, header = header_hash(data), Header.unpack(data)
        if seen != expected:
            raise LedgerError(f"header {number}, hash: {seen.hex()}; {expected.hex()} is expected")
        if header.version != VERSION:
            raise LedgerError(f"header {number}, version: {header.version}; {VERSION} is allowed")
        if height is not None and header.height != height:
            raise LedgerError(f"header {number}, height: {header.height}; {height} is expected")
        expected, height = header.parent, header.height - 1
    return header


def _last(reader: LedgerReader, first: int, to: int | None, head: bytes | None) -> int:
    """Height of the head: given, or searched by its hash from the end, or the last block of the file."""
    last = int(reader.block_count) - 1
    if not 0 <= first <= last:
        raise ConfigError(f"block = {first}; 0 .. {last} are allowed" if last >= 0 else "the ledger has no blocks")
    if to is not None and head is not None:
        raise ConfigError(f"to = {to} and head = {head.hex()}; one of the two is allowed")
    if to is not None:
        if not first <= to <= last:
            raise ConfigError(f"to = {to}; {first} .. {last} are allowed")
        return to
    if head is None:
        return last
    for height in range(last, first - 1, -1):
        if header_hash(reader.header(height)) == head:
            return height
    raise ConfigError(f"head = {head.hex()}; the hash of a block from {first} to {last} is allowed")


def prove_in_chain(
    path: str | os.PathLike[str],
    height: int,
    index: int | None = None,
    *,
    to: int | None = None,
    head: bytes | None = None,
) -> ChainProof:
    """Proof of block `height`, or of its transaction `index`, in the chain that ends in a later block of a ledger file.

    Args:
        path: the ledger file; it need not be complete.
        height: height of the block.
        index: position of the transaction, None to prove the block.
        to: height of the head; by default the last block of the file.
        head: hash of the head, instead of `to`.

    Raises:
        ConfigError: no such block or head.
        LedgerError: the file cannot be read, there is no such transaction, or the blocks do not hang together.
    """
    with LedgerReader.open(path) as reader:
        last = _last(reader, height, to, head)
        headers = tuple(reader.header(each) for each in range(height, last + 1))
        if index is None:
            proof = ChainProof(BLOCK_FORMAT, headers)
        else:
            tree = ChunkTree(reader.block(height).transactions)
            proof = ChainProof(TRANSACTION_FORMAT, headers, index, tree.prove(index))
    proof.verify(proof.head)
    return proof


def prove_consistency(path: str | os.PathLike[str], old: int, to: int | None = None) -> ChainProof:
    """Proof that the chain that ended in block `old` of a ledger file is the beginning of the one that ends in `to`.

    Args:
        path: the ledger file; it need not be complete.
        old: height of the earlier head.
        to: height of the later head; by default the last block of the file.

    Raises:
        ConfigError: no such blocks.
        LedgerError: the file cannot be read, or the blocks do not hang together.
    """
    proof = prove_in_chain(path, old, to=to)
    return ChainProof(CONSISTENCY_FORMAT, proof.headers)


def check_proof(content: bytes, head: bytes, *, count: int | None = None, old: bytes | None = None) -> Proven:
    """What a proof file shows; arguments and errors as `ChainProof.from_json` and `verify`."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise LedgerError(f"json: {error}") from error
    return ChainProof.from_json(text).verify(head, count=count, old=old)
