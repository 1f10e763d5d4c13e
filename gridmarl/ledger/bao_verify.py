"""Stand-alone verifier of the ledger's proofs: pure Python, standard library only, to be copied and read alone.

    python bao_verify.py PROOF.json --head HASH [--count BLOCKS] [--old HASH]

A proof is JSON: `headers`, from the block it speaks of to the block whose hash is known (the head), each holding the
hash of the one before; a transaction proof also has `index` and `path`: the 1 KiB chunk of the transaction section that
holds 64-byte record `index` (so up to 15 neighbours are shown too), then the 32-byte chaining values of the sibling
subtrees, from the chunk up to the root, as in Bao (J. O'Connor). A path authenticates an index, not a length: the
number of records is taken from the header, which is hashed first. BLAKE3 as in its paper (2020), section 2.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from typing import Any

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
CHUNK_START, CHUNK_END, PARENT, ROOT, CONTEXT, MATERIAL = 1, 2, 4, 8, 32, 64
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK, RECORD, HEADER, VERSION = 1024, 64, 256, 1
HEADER_CONTEXT = b"gridmarl 2025-11 ledger v1 block header"
MOST_BRACKETS = 100
FIELDS = struct.Struct("<H6xQ8xI4x32s32s")  # version, height, tx_count, parent, tx_root: start of a block header
INCLUSION, TRANSACTION = "gridmarl-inclusion-proof-1", "gridmarl-transaction-proof-1"
BLOCK, CONSISTENCY = "gridmarl-block-proof-1", "gridmarl-consistency-proof-1"
KEYS = {
    INCLUSION: {"format", "block_hash", "header", "index", "path"},
    TRANSACTION: {"format", "headers", "index", "path"},
    BLOCK: {"format", "headers"},
    CONSISTENCY: {"format", "headers"},
}
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
        raise ValueError(f"index: {index}; 0 .. {count - 1} are allowed")
    chunk, within = divmod(index * RECORD, CHUNK)
    chunks = -(-count * RECORD // CHUNK)
    length = min(CHUNK, count * RECORD - chunk * CHUNK)
    path = sides(chunk, chunks)
    if len(proof) != length + 32 * len(path):
        raise ValueError(f"path, length: {len(proof)} bytes; exactly {length + 32 * len(path)} are allowed")
    value = to_bytes(chunk_value(proof[:length], chunk, root=not path))
    for level, right in enumerate(reversed(path)):
        sibling = proof[length + 32 * level : length + 32 * level + 32]
        top = level == len(path) - 1
        value = parent_value(sibling, value, root=top) if right else parent_value(value, sibling, root=top)
    if value != root:
        raise ValueError(f"path, root: {value.hex()}; {root.hex()} is expected")
    return proof[within : within + RECORD]


_HEADER_KEY = chunk_value(HEADER_CONTEXT, 0, root=True, mode=CONTEXT)


def header_hash(header: bytes) -> bytes:
    """Identity of a block: BLAKE3 in derive-key mode over its header."""
    return to_bytes(chunk_value(header, 0, root=True, key=_HEADER_KEY, mode=MATERIAL))


def verify_chain(headers: list[bytes], head: bytes, count: int | None = None) -> tuple[int, bytes]:
    """Height and hash of the first of consecutive headers, the last of which has hash `head` (and height count - 1)."""
    if not headers:
        raise ValueError("headers, number: 0; at least 1 is allowed")
    expected, height = head, None if count is None else count - 1
    for number in reversed(range(len(headers))):  # from what is known to what is not
        header = headers[number]
        if len(header) != HEADER:
            raise ValueError(f"header {number}, length: {len(header)} bytes; {HEADER} are allowed")
        seen = header_hash(header)
        if seen != expected:
            raise ValueError(f"header {number}, hash: {seen.hex()}; {expected.hex()} is expected")
        version, at, _, parent, _ = FIELDS.unpack_from(header)
        if version != VERSION:
            raise ValueError(f"header {number}, version: {version}; {VERSION} is allowed")
        if height is not None and at != height:
            raise ValueError(f"header {number}, height: {at}; {height} is expected")
        expected, height = parent, at - 1
    return at, seen


def verify_transaction(block_hash: bytes, header: bytes, index: int, proof: bytes) -> bytes:
    """Transaction `index` of the block whose hash is known; ValueError if header or proof does not show it."""
    verify_chain([header], block_hash)
    _, _, count, _, root = FIELDS.unpack_from(header)
    return verify_record(root, count, index, proof)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def unhex(name: str, value: object) -> bytes:
    """Bytes of hexadecimal text, two lower-case digits each; ValueError otherwise."""
    if not isinstance(value, str) or set(value) - set("0123456789abcdef") or len(value) % 2:
        raise ValueError(f"{name}, text: two hexadecimal digits per byte, in lower case, are allowed")
    return bytes.fromhex(value)


def read_proof(text: str) -> dict[str, Any]:
    """A proof, bytes decoded, in every format with a list `headers`; ValueError if it is not just as it should be."""
    if text.count("[") + text.count("{") > MOST_BRACKETS:  # json recurses, and a deep stack would end the process
        raise ValueError(f"json: at most {MOST_BRACKETS} brackets are allowed")
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"json: {error}") from error
    form = content.get("format") if isinstance(content, dict) else None
    if not isinstance(form, str) or form not in KEYS:
        raise ValueError(f"format: allowed are {', '.join(KEYS)}")
    if set(content) != KEYS[form]:
        raise ValueError(f"keys: exactly {', '.join(sorted(KEYS[form]))} are allowed")
    headers = [content["header"]] if form == INCLUSION else content["headers"]
    if not isinstance(headers, list):
        raise ValueError("headers, type: a list is allowed")
    if "index" in content and type(content["index"]) is not int:
        raise ValueError("index, type: an integer is allowed")
    content["headers"] = [unhex(f"header {number}", header) for number, header in enumerate(headers)]
    if form == INCLUSION and unhex("block_hash", content["block_hash"]) != header_hash(content["headers"][0]):
        raise ValueError("block_hash: not the hash of the header")
    content["path"] = unhex("path", content.get("path", ""))
    return dict(content)


def verify_proof(text: str, head: bytes, count: int | None = None, old: bytes | None = None) -> tuple[int, bytes]:
    """Height of the proven block, and the proven record (empty if it is a block's proof); ValueError if it proves none.

    `head` is the hash of the last block, `count` the number of blocks up to it, `old` the hash that was the head once.
    """
    proof = read_proof(text)
    if (proof["format"] == CONSISTENCY) != (old is not None):
        raise ValueError("old: the earlier head is needed for a consistency proof, and for no other")
    height, first = verify_chain(proof["headers"], head, count)
    if old is not None and first != old:
        raise ValueError(f"old: {old.hex()}; the first header has hash {first.hex()}")
    if "index" not in proof:
        return height, b""
    return height, verify_transaction(first, proof["headers"][0], proof["index"], proof["path"])


def main() -> int:
    """Command line: 0 and what is proven, or 1 and what is wrong."""
    parser = argparse.ArgumentParser(description="Verify a proof of a gridmarl ledger.")
    parser.add_argument("proof")
    parser.add_argument("--head", type=lambda text: unhex("head", text), required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument("--old", type=lambda text: unhex("old", text))
    given = parser.parse_args()
    try:
        with open(given.proof, encoding="utf-8") as file:
            height, record = verify_proof(file.read(), given.head, given.count, given.old)
    except OSError as error:
        parser.error(str(error))
    except ValueError as error:
        print(f"NOT PROVEN: {error}")
        return 1
    print(f"ok: block {height}" + (f", record {record.hex()}" if record else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
