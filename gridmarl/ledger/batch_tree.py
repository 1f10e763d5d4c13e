"""The tree of a batch's hash, on tensors: chaining values of all subtrees over the lanes' parts.

Its root is the batch root on devices that should not give their records away; its other values are what proofs need.
Order of chunks as in `gridmarl.ledger.batch_verify`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.ledger.bao_verify import CHUNK
from gridmarl.ledger.batch_verify import pieces
from gridmarl.ledger.blake3_compress import Compress, compress
from gridmarl.ledger.blake3_tensors import blake3_batch, parent_cv, subtree_values


class _Level(NamedTuple):
    """Subtrees of up to `2**k` chunks: number `first` and those after it, up to the end of the batch."""

    first: int
    values: Tensor  # [8, n] int32


class BatchTree:
    """Chaining values of the subtrees of a batch, from the smallest piece of a part upwards.

    Attributes:
        root: the batch root.
        chunks: of the whole batch.
    """

    def __init__(self, root: Tensor, levels: dict[int, _Level], chunks: int) -> None:
        self.root, self.chunks = _host_bytes(root), chunks
        self._levels = levels

    def value(self, start: int, chunks: int) -> bytes:
        """Chaining value of the subtree over `chunks` chunks from `start`.

        KeyError: pieces of no lane's part begin there, or it is the whole batch.
        """
        level = (chunks - 1).bit_length()
        first, values = self._levels[level]
        return _host_bytes(values.select(1, (start >> level) - first))


def batch_tree(parts: Tensor, compress: Compress = compress) -> BatchTree:
    """The tree over the parts of all lanes, `[E, words]` int64 (`gridmarl.ledger.packing.pack_hour`), on their device.

    Compressed with `compress`: eager, or `compiled_compress()`.
    """
    lanes = parts.size(0)
    cut = pieces(8 * parts.size(1))
    chunks = lanes * sum(piece.chunks for piece in cut)
    if lanes == len(cut) == 1:
        words = _piece_words(parts, 0, chunks)
        return BatchTree(blake3_batch(words, CHUNK * chunks, compress=compress).select(1, 0), {}, chunks)
    starts = {piece.chunks.bit_length() - 1: piece.first for piece in cut}
    levels: dict[int, _Level] = {}
    rising: _Level | None = None
    for level in range(chunks.bit_length() + 1):
        if level in starts:
            first_chunk = lanes * starts[level]
            words = _piece_words(parts, starts[level], 1 << level)
            own = subtree_values(words, first_chunk=first_chunk, compress=compress)
            values = own if rising is None else torch.cat((own, rising.values), dim=1)
            rising = _Level(first_chunk >> level, values)
        if rising is None:
            continue
        levels[level] = rising
        if rising.first == 0 and rising.values.size(1) == 1:
            break
        rising = _Level(rising.first >> 1, _joined(rising, compress))
    assert rising is not None
    return BatchTree(rising.values.select(1, 0), levels, chunks)


def _piece_words(parts: Tensor, first_chunk: int, chunks: int) -> Tensor:
    """`[256 * chunks, E]` int32: a piece of all parts, zeros where they end."""
    width = CHUNK // 8
    words = parts[:, width * first_chunk : width * (first_chunk + chunks)]
    missing = width * chunks - words.size(1)
    if missing:
        words = torch.cat((words, words.new_zeros((words.size(0), missing))), dim=1)
    return words.contiguous().view(torch.int32).T.contiguous()


def _joined(level: _Level, compress: Compress) -> Tensor:
    """`[8, ceil(n / 2)]`: neighbours joined, an odd one at the end rises. The first one's number is even."""
    count = level.values.size(1)
    if count == 1:
        return level.values
    left, right = level.values.narrow(1, 0, count // 2 * 2).unflatten(1, (count // 2, 2)).unbind(2)
    parents = parent_cv(left, right, root=level.first == 0 and count == 2, compress=compress)
    return torch.cat((parents, level.values.narrow(1, count - 1, 1)), dim=1) if count % 2 else parents


def _host_bytes(value: Tensor) -> bytes:
    return value.contiguous().cpu().numpy().astype("<i4", copy=False).tobytes()
