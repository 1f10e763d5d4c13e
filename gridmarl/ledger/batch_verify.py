"""Verifier of a lane's part of a batch: pure Python on the compression of `gridmarl.ledger.bao_verify`, nothing else.

A lane's part of an hour is its block's inputs and transactions and its balances (int64), the last record filled up
with zeros. The batch root is the plain BLAKE3 hash of the parts of all lanes, in this order of 1 KiB chunks: a part of
`n` chunks is cut into pieces of powers of two, largest first, which are the binary digits of `n`; first come the first
pieces of all lanes, then the second ones of all lanes, and so on. So every piece is a whole subtree of the hash's tree,
and a part is padded by less than one chunk. Example: 32 prosumers have 323 records and 35 balances, 20.5 chunks: pieces
of 16, 4 and 1 chunks, 0.5 chunks (2.4 %) of padding; in one piece it would be 32 chunks, 36 % padding.

A proof is the part and the chaining values of the subtrees without any of its chunks, from left to right.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from gridmarl.ledger import bao_verify

BATCH_CONTEXT = "gridmarl 2025-11 ledger v1 batch header"
HEADER_BYTES = 256
_COUNTS = struct.Struct("<QII")  # lanes, tx_count, input_count
_COUNTS_OFFSET, _ROOT_OFFSET = 16, 64


class Piece(NamedTuple):
    """Chunks `first .. first + chunks - 1` of a part; `chunks` is a power of two that divides `first`."""

    first: int
    chunks: int


def pieces(num_bytes: int) -> list[Piece]:
    """The pieces of a part of so many bytes."""
    chunks, first, out = max(1, -(-num_bytes // bao_verify.CHUNK)), 0, []
    for digit in reversed(range(chunks.bit_length())):
        if chunks >> digit & 1:
            out.append(Piece(first, 1 << digit))
            first += 1 << digit
    return out


class Part(NamedTuple):
    """Sizes of the three sections of a lane's part, in bytes."""

    inputs: int
    transactions: int
    balances: int

    @classmethod
    def of(cls, input_count: int, tx_count: int) -> Part:
        """Sizes by the counts of the header; there are `P + 3` balances and `1 + 2P` inputs."""
        return cls(input_count * bao_verify.RECORD, tx_count * bao_verify.RECORD, 8 * ((input_count - 1) // 2 + 3))


def part_ranges(num_bytes: int, lanes: int, position: int) -> list[tuple[int, int, int]]:
    """`(first chunk in the batch, first chunk in the part, chunks)` of every piece of one lane's part."""
    return [(lanes * first + position * chunks, first, chunks) for first, chunks in pieces(num_bytes)]


def batch_header_hash(header: bytes) -> bytes:
    """Identity of a batch: BLAKE3 in derive-key mode over its header."""
    key = bao_verify.chunk_value(BATCH_CONTEXT.encode(), 0, root=True, mode=bao_verify.CONTEXT)
    return bao_verify.to_bytes(bao_verify.chunk_value(header, 0, root=True, key=key, mode=bao_verify.MATERIAL))


def verify_part(root: bytes, lanes: int, position: int, part: bytes, path: bytes) -> None:
    """ValueError if the proof does not show that `part` is the one at `position` of `lanes` in the batch of this root.

    `lanes` and the part's length must be known from a source as good as the root's.
    """
    if not 0 <= position < lanes:
        raise ValueError(f"position {position}: allowed are 0 .. {lanes - 1}")
    ranges = part_ranges(len(part), lanes, position)
    data = part.ljust(bao_verify.CHUNK * sum(chunks for _, _, chunks in ranges), b"\0")
    left = path

    def value(start: int, count: int, top: bool) -> bytes:
        nonlocal left
        own = [(at, first) for at, first, chunks in ranges if at < start + count and start < at + chunks]
        if not own:
            sibling, left = left[:32], left[32:]
            if len(sibling) < 32:
                raise ValueError(f"path: {len(path)} bytes are too few")
            return sibling
        if count == 1:
            at = bao_verify.CHUNK * (start - own[0][0] + own[0][1])
            return bao_verify.to_bytes(bao_verify.chunk_value(data[at : at + bao_verify.CHUNK], start, root=top))
        half = bao_verify.left_chunks(count)
        below = value(start, half, False), value(start + half, count - half, False)
        return bao_verify.parent_value(*below, root=top)

    computed = value(0, len(data) // bao_verify.CHUNK * lanes, True)
    if left:
        raise ValueError(f"path: {len(path)} bytes; {len(path) - len(left)} are allowed")
    if computed != root:
        raise ValueError(f"part and path lead to root {computed.hex()}; {root.hex()} is expected")


def verify_lane(
    batch_hash: bytes, header: bytes, position: int, part: bytes, path: bytes
) -> tuple[bytes, bytes, bytes]:
    """Inputs, transactions and balances of the lane at `position` of the batch whose hash is known.

    ValueError if header, part or path does not show it.
    """
    if len(header) != HEADER_BYTES or batch_header_hash(header) != batch_hash:
        raise ValueError(f"header: its hash is not {batch_hash.hex()}")
    lanes, tx_count, input_count = _COUNTS.unpack_from(header, _COUNTS_OFFSET)
    sizes = Part.of(input_count, tx_count)
    if len(part) != sum(sizes):
        raise ValueError(f"part: {len(part)} bytes; {sum(sizes)} are allowed")
    verify_part(header[_ROOT_OFFSET : _ROOT_OFFSET + 32], lanes, position, part, path)
    end = sizes.inputs + sizes.transactions
    return part[: sizes.inputs], part[sizes.inputs : end], part[end:]
