"""Inclusion proofs of single transactions (Bao construction over the block's own BLAKE3 tree).

The block's transaction root is the plain BLAKE3 hash of its records, so the hash's own tree of 1 KiB chunks serves as
Merkle tree. A proof shows the chunk that holds the transaction: up to 15 neighbouring records become known to whoever
receives it. `gridmarl.ledger.bao_verify` checks proofs without this package.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridmarl.errors import LedgerError
from gridmarl.ledger import bao_verify
from gridmarl.ledger.block import HEADER_BYTES
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.reader import LedgerReader
from gridmarl.ledger.records import RECORD_BYTES

if TYPE_CHECKING:
    import os

CHUNK_BYTES = bao_verify.CHUNK
_PROOF_FORMAT = "gridmarl-inclusion-proof-1"


class ChunkTree:
    """Chaining values of all chunks and subtrees of a record section; built once, proves any index.

    Args:
        records: concatenated 64-byte records.

    Raises:
        LedgerError: not a multiple of 64 bytes.
    """

    def __init__(self, records: bytes) -> None:
        if len(records) % RECORD_BYTES:
            raise LedgerError(f"records: {len(records)} bytes; a multiple of {RECORD_BYTES} is allowed")
        self._records = records
        self.count = len(records) // RECORD_BYTES
        self._chunks = max(1, -(-len(records) // CHUNK_BYTES))
        self._values: dict[tuple[int, int], bytes] = {}

    def _value(self, start: int, chunks: int) -> bytes:
        """Chaining value (not as a root) of the subtree over `chunks` chunks from `start`."""
        key = (start, chunks)
        if key not in self._values:
            if chunks == 1:
                data = self._records[start * CHUNK_BYTES : (start + 1) * CHUNK_BYTES]
                value = bao_verify.to_bytes(bao_verify.chunk_value(data, start, root=False))
            else:
                left = bao_verify.left_chunks(chunks)
                right = self._value(start + left, chunks - left)
                value = bao_verify.parent_value(self._value(start, left), right, root=False)
            self._values[key] = value
        return self._values[key]

    def prove(self, index: int) -> bytes:
        """Proof of record `index`: its chunk, then the sibling chaining values from the chunk up to the root.

        Raises:
            LedgerError: there is no such record.
        """
        if not 0 <= index < self.count:
            raise LedgerError(f"transaction {index}: there are {self.count}")
        chunk = index * RECORD_BYTES // CHUNK_BYTES
        siblings = []
        start, chunks = 0, self._chunks
        while chunks > 1:
            left = bao_verify.left_chunks(chunks)
            if chunk >= start + left:
                siblings.append(self._value(start, left))
                start, chunks = start + left, chunks - left
            else:
                siblings.append(self._value(start + left, chunks - left))
                chunks = left
        data = self._records[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]
        return data + b"".join(reversed(siblings))


@dataclass(frozen=True)
class InclusionProof:
    """Proof that a transaction stands at `index` in a block.

    Attributes:
        header: 256 header bytes of the block.
        index: position of the transaction in the block.
        path: chunk and sibling chaining values.
    """

    header: bytes
    index: int
    path: bytes

    @property
    def block_hash(self) -> bytes:
        """Identity of the block the proof speaks of; to be compared with one that is trusted."""
        return header_hash(self.header)

    def verify(self, block_hash: bytes) -> bytes:
        """The proven 64-byte record.

        Args:
            block_hash: identity of the block from a trusted source.

        Raises:
            LedgerError: the proof does not show the transaction.
        """
        try:
            return bao_verify.verify_transaction(block_hash, self.header, self.index, self.path)
        except ValueError as error:
            raise LedgerError(f"inclusion proof: {error}") from error

    def to_json(self) -> str:
        """The proof as one line of JSON, bytes in hexadecimal."""
        content = {
            "format": _PROOF_FORMAT,
            "block_hash": self.block_hash.hex(),
            "header": self.header.hex(),
            "index": self.index,
            "path": self.path.hex(),
        }
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> InclusionProof:
        """The inverse of `to_json`; the stated block hash is not believed.

        Raises:
            LedgerError: malformed.
        """
        try:
            content = json.loads(line)
            if content["format"] != _PROOF_FORMAT or type(content["index"]) is not int:
                raise ValueError("unknown format, or index not an integer")
            header = bytes.fromhex(content["header"])
            if len(header) != HEADER_BYTES:
                raise ValueError(f"header of {len(header)} bytes; {HEADER_BYTES} are allowed")
            return cls(header, content["index"], bytes.fromhex(content["path"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise LedgerError(f"inclusion proof: malformed ({error})") from error


def prove(path: str | os.PathLike[str], height: int, index: int) -> InclusionProof:
    """Inclusion proof of transaction `index` of block `height` of a ledger file.

    The file is not verified here; a corrupted block gives a proof that does not verify.

    Raises:
        LedgerError: the file cannot be read, or there is no such block or transaction.
    """
    with LedgerReader.open(path) as reader:
        block = reader.block(height)
    return InclusionProof(block.header, index, ChunkTree(block.transactions).prove(index))
