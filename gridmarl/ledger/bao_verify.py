"""Stand-alone verifier of inclusion proofs: pure Python, imports nothing of this package, can be copied and read alone.

What it shows: 64-byte record `index` is in the transaction section of the block whose header hash is known. A proof is
the 1 KiB chunk that holds the record (so up to 15 neighbours are shown too) followed by the 32-byte chaining values of
the sibling subtrees, from the chunk up to the root, as in Bao (J. O'Connor). A path authenticates an index, not a
length: the number of records is taken from the header, which is hashed first. BLAKE3 as in its paper (2020), section 2.
"""

from __future__ import annotations

import struct

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
CHUNK_START, CHUNK_END, PARENT, ROOT, CONTEXT, MATERIAL = 1, 2, 4, 8, 32, 64
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK, RECORD, HEADER = 1024, 64, 256
HEADER_CONTEXT = b"gridmarl 2025-11 ledger v1 block header"
COUNT_OFFSET, ROOT_OFFSET = 24, 64  # tx_count (u32) and tx_root in the block header
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def compress(key: tuple[int, ...], block: bytes, counter: int, flags: int) -> tuple[int, ...]:
    """First eight words of BLAKE3's compression of one block of up to 64 bytes."""
    words = struct.unpack("<16I", block.ljust(64, b"\0"))
    v = [*key, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, len(block), flags]
    for _ in range(7):
        for pair, (a, b, c, d) in enumerate(_COLUMNS + _DIAGONALS):
            for word, rotate_d, rotate_b in ((words[2 * pair], 16, 12), (words[2 * pair + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & 0xFFFFFFFF
                x = v[d] ^ v[a]
                v[d] = (x >> rotate_d | x << (32 - rotate_d)) & 0xFFFFFFFF
                v[c] = (v[c] + v[d]) & 0xFFFFFFFF
                x = v[b] ^ v[c]
                v[b] = (x >> rotate_b | x << (32 - rotate_b)) & 0xFFFFFFFF
        words = tuple(words[i] for i in PERMUTATION)
    return tuple(v[i] ^ v[i + 8] for i in range(8))


def chunk_value(data: bytes, number: int, *, root: bool, key: tuple[int, ...] = IV, mode: int = 0) -> tuple[int, ...]:
    """Chaining value of chunk `number` (up to 1,024 bytes)."""
    value = key
    last = max(len(data) - 1, 0) // 64
    for i in range(last + 1):
        flags = mode | (CHUNK_START if i == 0 else 0) | ((CHUNK_END | (ROOT if root else 0)) if i == last else 0)
        value = compress(value, data[64 * i : 64 * i + 64], number, flags)
    return value


def parent_value(left: bytes, right: bytes, *, root: bool) -> bytes:
    """Chaining value of two subtrees."""
    return to_bytes(compress(IV, left + right, 0, PARENT | (ROOT if root else 0)))


def to_bytes(value: tuple[int, ...]) -> bytes:
    """The 32 bytes of a chaining value."""
    return struct.pack("<8I", *value)


def left_chunks(chunks: int) -> int:
    """Chunks in the left subtree: the largest power of two below `chunks` (at least 2)."""
    return 1 << (chunks - 1).bit_length() - 1


def sides(chunk: int, chunks: int) -> list[bool]:
    """Path from the root down to a chunk: True where it goes right."""
    path = []
    while chunks > 1:
        left = left_chunks(chunks)
        path.append(chunk >= left)
        chunk, chunks = (chunk - left, chunks - left) if chunk >= left else (chunk, left)
    return path


def verify_record(root: bytes, count: int, index: int, proof: bytes) -> bytes:
    """Record `index` of the `count` records whose BLAKE3 hash is `root`; ValueError if the proof does not show it.

    `count` must be known from a source as good as the root's.
    """
    if not 0 <= index < count:
        raise ValueError(f"index {index}: allowed are 0 .. {count - 1}")
    chunk, within = divmod(index * RECORD, CHUNK)
    chunks = -(-count * RECORD // CHUNK)
    length = min(CHUNK, count * RECORD - chunk * CHUNK)
    path = sides(chunk, chunks)
    if len(proof) != length + 32 * len(path):
        raise ValueError(f"proof: {len(proof)} bytes; exactly {length + 32 * len(path)} are allowed")
    value = to_bytes(chunk_value(proof[:length], chunk, root=not path))
    for level, right in enumerate(reversed(path)):
        sibling = proof[length + 32 * level : length + 32 * level + 32]
        top = level == len(path) - 1
        value = parent_value(sibling, value, root=top) if right else parent_value(value, sibling, root=top)
    if value != root:
        raise ValueError(f"proof: leads to root {value.hex()}; {root.hex()} is expected")
    return proof[within : within + RECORD]


def header_hash(header: bytes) -> bytes:
    """Identity of a block: BLAKE3 in derive-key mode over its header."""
    key = chunk_value(HEADER_CONTEXT, 0, root=True, mode=CONTEXT)
    return to_bytes(chunk_value(header, 0, root=True, key=key, mode=MATERIAL))


def verify_transaction(block_hash: bytes, header: bytes, index: int, proof: bytes) -> bytes:
    """Transaction `index` of the block whose hash is known; ValueError if header or proof does not show it."""
    if len(header) != HEADER or header_hash(header) != block_hash:
        raise ValueError(f"header: its hash is not {block_hash.hex()}")
    (count,) = struct.unpack_from("<I", header, COUNT_OFFSET)
    return verify_record(header[ROOT_OFFSET : ROOT_OFFSET + 32], count, index, proof)
