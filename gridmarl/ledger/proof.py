"""Inclusion proofs of single transactions (Bao construction over the block's own BLAKE3 tree).

The block's transaction root is the plain BLAKE3 hash of its records, so the hash's own tree of 1 KiB chunks serves as
Merkle tree. A proof shows the chunk that holds the transaction: up to 15 neighbouring records become known to whoever
receives it. `gridmarl.ledger.bao_verify` checks proofs without this package.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gridmarl.errors import LedgerError
from gridmarl.json_depth import require_shallow
from gridmarl.ledger import bao_verify
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.reader import LedgerReader
from gridmarl.ledger.records import RECORD_BYTES

if TYPE_CHECKING:
    import os

CHUNK_BYTES = bao_verify.CHUNK
INCLUSION_FORMAT = bao_verify.INCLUSION
_HEX_DIGITS = frozenset("0123456789abcdef")
_INCLUSION_KEYS = {"format", "block_hash", "header", "index", "path"}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content


def proof_object(text: str) -> dict[str, Any]:
    """The JSON object of a proof.

    Raises:
        ValueError: no JSON, not an object with a `format`, or a key stands twice (readers differ on which counts).
    """
    try:
        require_shallow(text)
        content = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"json: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), str):
        raise ValueError("format: an object with a key `format` is allowed")
    return content


def require_keys(content: dict[str, Any], keys: set[str]) -> None:
    """ValueError if the object has not exactly these keys: what nobody checks must not stand in a proof."""
    if content.keys() != keys:
        raise ValueError(f"keys: exactly {', '.join(sorted(keys))} are allowed")


def hex_bytes(name: str, value: object) -> bytes:
    """Bytes of hexadecimal text; ValueError unless it is two lower-case digits per byte."""
    if not isinstance(value, str) or len(value) % 2 or not _HEX_DIGITS.issuperset(value):
        raise ValueError(f"{name}, text: two hexadecimal digits per byte, in lower case, are allowed")
    return bytes.fromhex(value)


def proof_index(content: dict[str, Any]) -> int:
    """The index of a transaction; ValueError if it is no integer (true and 1.0 are none)."""
    index = content["index"]
    if type(index) is not int:
        raise ValueError("index, type: an integer is allowed")
    return index


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
            "format": INCLUSION_FORMAT,
            "block_hash": self.block_hash.hex(),
            "header": self.header.hex(),
            "index": self.index,
            "path": self.path.hex(),
        }
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> InclusionProof:
        """The inverse of `to_json`; the stated block hash must be that of the header.

        Raises:
            LedgerError: malformed.
        """
        try:
            content = proof_object(line)
            if content["format"] != INCLUSION_FORMAT:
                raise ValueError(f"format: {INCLUSION_FORMAT} is allowed")
            return cls.from_object(content)
        except ValueError as error:
            raise LedgerError(f"inclusion proof: malformed ({error})") from error

    @classmethod
    def from_object(cls, content: dict[str, Any]) -> InclusionProof:
        """Proof of a JSON object of this format; ValueError if it is malformed."""
        require_keys(content, _INCLUSION_KEYS)
        index, header = proof_index(content), hex_bytes("header 0", content["header"])
        if hex_bytes("block_hash", content["block_hash"]) != header_hash(header):
            raise ValueError("block_hash: not the hash of the header")
        return cls(header, index, hex_bytes("path", content["path"]))


def prove(path: str | os.PathLike[str], height: int, index: int) -> InclusionProof:
    """Inclusion proof of transaction `index` of block `height` of a ledger file.

    The file is not verified here; a corrupted block gives a proof that does not verify.

    Raises:
        LedgerError: the file cannot be read, or there is no such block or transaction.
    """
    with LedgerReader.open(path) as reader:
        block = reader.block(height)
    return InclusionProof(block.header, index, ChunkTree(block.transactions).prove(index))
