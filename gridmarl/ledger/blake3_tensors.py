"""BLAKE3 of many messages of one length at once, on tensors that stay on their device.

Lanes (messages) come last, so that vector units and GPU threads run over them: `words[w, lane]` is the little-endian
32-bit word `w` of the lane's message, as int32. All chunks of all lanes are compressed side by side, block by block;
then the tree is joined level by level. The same bits as the `blake3` package.

A buffer of many lanes' parts has one root too: where each part is `2**m` whole chunks, it is an aligned subtree, and
`subtree_root(subtree_values(words))` is the hash of all parts, one after the other. A part proves from this root.

Records from `gridmarl.ledger.packing` lead with the lane, as int64: `packed.view(torch.int32).T.contiguous()` are the
words (a copy; every device that torch runs on is little-endian).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.errors import ConfigError
from gridmarl.ledger.blake3_compress import (
    CHUNK_END,
    CHUNK_START,
    PARENT,
    PLAIN,
    ROOT,
    Compress,
    Mode,
    compress,
    signed,
)

BLOCK_WORDS = 16
BLOCK_BYTES = 64
CHUNK_WORDS = 256
CHUNK_BYTES = 1024
_CHUNK_BLOCKS = 16
_MAX_CHUNKS = 1 << 32


def blake3_batch(words: Tensor, length_bytes: int, *, mode: Mode = PLAIN, compress: Compress = compress) -> Tensor:
    """Hashes `[8, L]` int32 of `L` messages of `length_bytes` bytes each.

    Args:
        words: `[W, L]` int32, `W = ceil(length_bytes / 4)`; bytes of the last word beyond the length do not count.
        length_bytes: 0 .. 2**42.
        mode: `PLAIN`, `keyed(key)` or `derive_key(context)` of `gridmarl.ledger.blake3_compress`.
        compress: the compression: eager, or `compiled_compress()`.

    Raises:
        ConfigError: another dtype or shape, no lane, or a length out of range.
    """
    _check_words(words)
    if not 0 <= length_bytes <= CHUNK_BYTES * _MAX_CHUNKS:
        raise ConfigError(f"length_bytes: {length_bytes}; 0 .. {CHUNK_BYTES * _MAX_CHUNKS} are allowed")
    if words.size(0) != -(-length_bytes // 4):
        raise ConfigError(f"words: {words.size(0)} a lane; {-(-length_bytes // 4)} are allowed ({length_bytes} bytes)")
    lane = words.new_zeros(words.size(1))
    blocks = _whole_blocks(words, length_bytes)
    values = _chunk_values(blocks, length_bytes, 0, lane, mode, compress, root=True)
    return _reduced(values, mode, compress, root=True)


def record_roots(records: Tensor, *, mode: Mode = PLAIN, compress: Compress = compress) -> Tensor:
    """Hash `[8, L]` of each lane's concatenated 64-byte records `[records, 16, L]` int32: the roots of its section.

    Raises:
        ConfigError: another dtype or shape.
    """
    if records.dim() != 3 or records.size(1) != BLOCK_WORDS:
        raise ConfigError(f"records: shape {tuple(records.shape)}; [records, {BLOCK_WORDS}, lanes] is allowed")
    return blake3_batch(records.flatten(0, 1), BLOCK_BYTES * records.size(0), mode=mode, compress=compress)


def subtree_values(words: Tensor, *, first_chunk: int = 0, mode: Mode = PLAIN, compress: Compress = compress) -> Tensor:
    """Chaining values `[8, L]` int32 of `L` aligned subtrees, those of the lanes' parts of one buffer.

    Args:
        words: `[256 * 2**m, L]` int32: `2**m` whole chunks a lane.
        first_chunk: chunk of the buffer with which lane 0 begins, a multiple of `2**m`; lane `i` begins `i * 2**m`
            chunks later.
        mode, compress: as in `blake3_batch`.

    Raises:
        ConfigError: another dtype or shape, no power of two of chunks, or a chunk number not aligned or beyond 2**32.
    """
    _check_words(words)
    chunks, rest = divmod(words.size(0), CHUNK_WORDS)
    if rest or chunks & (chunks - 1) or not chunks:
        raise ConfigError(f"words: {words.size(0)} a lane; {CHUNK_WORDS} times a power of two are allowed")
    if first_chunk % chunks or not 0 <= first_chunk <= _MAX_CHUNKS - chunks * words.size(1):
        most = _MAX_CHUNKS - chunks * words.size(1)
        raise ConfigError(f"first_chunk: {first_chunk}; multiples of {chunks} from 0 to {most} are allowed")
    lane = torch.arange(words.size(1), dtype=torch.int32, device=words.device) * chunks
    values = _chunk_values(words, 4 * words.size(0), first_chunk, lane, mode, compress, root=False)
    return _reduced(values, mode, compress, root=False)


def parent_cv(
    left: Tensor, right: Tensor, *, root: bool = False, mode: Mode = PLAIN, compress: Compress = compress
) -> Tensor:
    """Chaining values `[8, ...]` int32 of the subtrees over `left` and `right`, both `[8, ...]`.

    Args:
        root: nothing lies above: the result is the hash.

    Raises:
        ConfigError: another dtype, or shapes that differ or do not begin with 8.
    """
    if left.dtype != torch.int32 or right.dtype != torch.int32:
        raise ConfigError(f"left, right: {left.dtype}, {right.dtype}; {torch.int32} is allowed")
    if left.shape != right.shape or left.dim() < 2 or left.size(0) != 8:
        raise ConfigError(
            f"left, right: {tuple(left.shape)}, {tuple(right.shape)}; [8, ...], both the same, is allowed"
        )
    block = torch.cat((left, right)).view(BLOCK_WORDS, -1)
    counter = block.new_zeros(block.size(1))
    flags = mode.flags | PARENT | (ROOT if root else 0)
    return compress(_key_values(mode, counter), block, counter, BLOCK_BYTES, flags).view(left.shape)


def subtree_root(values: Tensor, *, root: bool = True, mode: Mode = PLAIN, compress: Compress = compress) -> Tensor:
    """Hash `[8]` int32 of the buffer whose equally large subtrees have the chaining values `[8, K]`, in order.

    Args:
        values: of `subtree_values`; every subtree complete, `K >= 2` (a single one: `blake3_batch`).
        root: False: the buffer is itself a subtree (`K` a power of two), and the result its chaining value.

    Raises:
        ConfigError: another dtype or shape, or too few or not a power of two of subtrees.
    """
    if values.dtype != torch.int32 or values.dim() != 2 or values.size(0) != 8 or values.size(1) < 2:
        raise ConfigError(f"values: {values.dtype} {tuple(values.shape)}; int32 [8, K >= 2] is allowed")
    if not root and values.size(1) & (values.size(1) - 1):
        raise ConfigError(f"values: {values.size(1)} subtrees; powers of two are allowed where root=False")
    return _reduced(values.unsqueeze(2), mode, compress, root=root).select(1, 0)


def _check_words(words: Tensor) -> None:
    if words.dtype != torch.int32 or words.dim() != 2 or words.size(1) == 0:
        raise ConfigError(f"words: {words.dtype} {tuple(words.shape)}; int32 [words, lanes >= 1] is allowed")


def _whole_blocks(words: Tensor, length_bytes: int) -> Tensor:
    """Zeros after the message up to whole blocks, at least one; the same tensor if there is nothing to add."""
    count, lanes = words.shape
    parts = [words]
    if length_bytes % 4:
        kept = (1 << 8 * (length_bytes % 4)) - 1
        parts = [words.narrow(0, 0, count - 1), words.narrow(0, count - 1, 1) & kept]
    if count == 0 or count % BLOCK_WORDS:
        parts.append(words.new_zeros((BLOCK_WORDS - count % BLOCK_WORDS, lanes)))
    return torch.cat(parts) if len(parts) > 1 else words


def _key_values(mode: Mode, like: Tensor) -> Tensor:
    """The key as chaining values `[8, N]` for `like` `[N]`, filled in place: no copy from the host."""
    values = like.new_empty((8, like.size(0)))
    for row, word in zip(values.unbind(0), mode.key, strict=True):
        row.fill_(signed(word))
    return values


def _chunk_values(
    words: Tensor, length_bytes: int, first_chunk: int, lane: Tensor, mode: Mode, compress: Compress, *, root: bool
) -> Tensor:
    """Chaining values `[8, n, L]` of all chunks of messages in whole blocks; `lane` `[L]` is added to chunk numbers.

    Where the last chunk is shorter than the others, it drops out after its last block.
    """
    lanes, blocks = lane.size(0), words.size(0) // BLOCK_WORDS
    chunks, last = -(-blocks // _CHUNK_BLOCKS), (blocks - 1) % _CHUNK_BLOCKS
    together = chunks == 1 or length_bytes % CHUNK_BYTES == 0
    chunk = torch.arange(chunks, dtype=torch.int32, device=words.device) + signed(first_chunk)
    counter = (chunk.unsqueeze(1) + lane).flatten()
    values = _key_values(mode, counter)
    final = None
    for index in range(min(_CHUNK_BLOCKS, blocks)):
        rest = words.narrow(0, BLOCK_WORDS * index, words.size(0) - BLOCK_WORDS * index)
        of_chunks = rest.unfold(0, BLOCK_WORDS, CHUNK_WORDS)  # [chunks that reach so far, L, 16]
        block = of_chunks.permute(2, 0, 1).flatten(1)
        flags = mode.flags | (CHUNK_START if index == 0 else 0)
        if index == last:
            size = length_bytes - BLOCK_BYTES * (blocks - 1)
            end = flags | CHUNK_END | (ROOT if root and chunks == 1 else 0)
            if together:
                return compress(values, block, counter, size, end).view(8, chunks, lanes)
            others = (chunks - 1) * lanes
            tail, tail_block, tail_counter = (item.narrow(-1, others, lanes) for item in (values, block, counter))
            final = compress(tail, tail_block, tail_counter, size, end)
            values, block, counter = (item.narrow(-1, 0, others) for item in (values, block, counter))
        flags |= CHUNK_END if index == _CHUNK_BLOCKS - 1 else 0
        values = compress(values, block, counter, BLOCK_BYTES, flags)
    assert final is not None
    return torch.cat((values, final), dim=1).view(8, chunks, lanes)


def _reduced(values: Tensor, mode: Mode, compress: Compress, *, root: bool) -> Tensor:
    """Top `[8, L]` of the trees over `[8, n, L]`: neighbours are joined, an odd one rises to the next level.

    That is BLAKE3's tree, whose left subtrees are the largest powers of two below the whole.
    """
    while values.size(1) > 1:
        count = values.size(1)
        left, right = values.narrow(1, 0, count // 2 * 2).unflatten(1, (count // 2, 2)).unbind(2)
        parents = parent_cv(left, right, root=root and count == 2, mode=mode, compress=compress)
        values = torch.cat((parents, values.narrow(1, count - 1, 1)), dim=1) if count % 2 else parents
    return values.select(1, 0)
