"""BLAKE3's compression of one 64-byte block in many messages at once, on int32 tensors of any device.

A word is an int32 whose 32 bits are those of the unsigned word: additions wrap, and a rotation is two shifts and a mask
(an arithmetic shift to the right drags the sign along). Nothing is copied from or to the host.
Source: J. O'Connor, J.-P. Aumasson, S. Neves, Z. Wilcox-O'Hearn, "BLAKE3: one function, fast everywhere" (2020),
sections 2.1 to 2.3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import FunctionType
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from gridmarl.errors import ConfigError
from gridmarl.ledger import bao_verify

CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64
IV = bao_verify.IV
_ROUNDS = 7
_WORDS_FROM = 65_536  # messages from which calls cost less than copies

Quarter: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], None]
Compress: TypeAlias = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]


class Mode(NamedTuple):
    """What sets hashes of one kind apart: eight key words (0 .. 2**32-1) and the flags of every compression."""

    key: tuple[int, ...]
    flags: int


PLAIN = Mode(IV, 0)


def keyed(key: bytes) -> Mode:
    """Keyed hash.

    Raises:
        ConfigError: the key has not 32 bytes.
    """
    if len(key) != 32:
        raise ConfigError(f"key: {len(key)} bytes; 32 are allowed")
    return Mode(tuple(int.from_bytes(key[at : at + 4], "little") for at in range(0, 32, 4)), KEYED)


@cache
def derive_key(context: str) -> Mode:
    """Derive-key mode with a context such as those of `gridmarl.ledger.hashing`.

    Raises:
        ConfigError: the context has more than 1,024 bytes in UTF-8.
    """
    data = context.encode()
    if len(data) > bao_verify.CHUNK:
        raise ConfigError(f"context: {len(data)} bytes; up to {bao_verify.CHUNK} are allowed")
    return Mode(bao_verify.chunk_value(data, 0, root=True, mode=CONTEXT), MATERIAL)


def signed(word: int) -> int:
    """The int32 with the bits of an unsigned word."""
    return word - (1 << 32) if word >> 31 else word


def _schedule() -> tuple[tuple[int, ...], ...]:
    """Which of the 16 message words each round takes, in order."""
    rounds = [tuple(range(16))]
    for _ in range(_ROUNDS - 1):
        rounds.append(tuple(rounds[-1][position] for position in bao_verify.PERMUTATION))
    return tuple(rounds)


_SCHEDULE = _schedule()


def _rotate_(x: Tensor, right: int) -> None:
    low = (x >> right).bitwise_and_((1 << (32 - right)) - 1)
    x.bitwise_left_shift_(32 - right).bitwise_or_(low)


def _quarter_(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, y: Tensor) -> None:
    """BLAKE3's function G on the state words a, b, c, d, in place, with message words x and y.

    No argument should be a view: torch.compile makes another graph for every kind of view.
    """
    for word, rotate_d, rotate_b in ((x, 16, 12), (y, 8, 7)):
        a.add_(b).add_(word)
        _rotate_(d.bitwise_xor_(a), rotate_d)
        c.add_(d)
        _rotate_(b.bitwise_xor_(c), rotate_b)


def _rounds_by_word(state: list[Tensor], words: list[Tensor], quarter: Quarter) -> list[Tensor]:
    """One call per quarter round: no copies between them."""
    state, words = ([row.clone() for row in rows] for rows in (state, words))  # no views, see `_quarter_`
    for order in _SCHEDULE:
        for step in range(8):
            column, shift = step % 4, step // 4
            a, b, c, d = (state[4 * row + (column + shift * row) % 4] for row in range(4))
            quarter(a, b, c, d, words[order[2 * step]], words[order[2 * step + 1]])
    return state


def _rounds_by_row(state: list[Tensor], words: list[Tensor], quarter: Quarter) -> list[Tensor]:
    """One call per four quarter rounds, with copies between them: fewer calls, which decides for few messages."""
    count = state[0].size(0)
    a, b, c, d = (torch.cat(state[row : row + 4]) for row in (0, 4, 8, 12))
    for order in _SCHEDULE:
        for first in (0, 8):
            if first:
                b, c, d = b.roll(-count, 0), c.roll(-2 * count, 0), d.roll(-3 * count, 0)
            x = torch.cat([words[order[first + i]] for i in (0, 2, 4, 6)])
            y = torch.cat([words[order[first + i]] for i in (1, 3, 5, 7)])
            quarter(a, b, c, d, x, y)
            if first:
                b, c, d = b.roll(count, 0), c.roll(2 * count, 0), d.roll(3 * count, 0)
    return [row for four in (a, b, c, d) for row in four.view(4, count).unbind(0)]


def compress(
    value: Tensor, block: Tensor, counter: Tensor, length: int, flags: int, *, quarter: Quarter = _quarter_
) -> Tensor:
    """First eight words `[8, N]` int32 of the compression of one block of `N` messages; nothing given is changed.

    Args:
        value: `[8, N]` int32, chaining values.
        block: `[16, N]` int32, message words.
        counter: `[N]` int32, the counter's lower word; its upper word is 0.
        length: bytes in the block.
        flags: as in the paper, table 3.
        quarter: BLAKE3's function G, in place.
    """
    constants = [torch.full_like(counter, signed(word)) for word in IV[:4]]
    sizes = [torch.full_like(counter, number) for number in (0, length, flags)]
    rounds = _rounds_by_word if counter.size(0) >= _WORDS_FROM else _rounds_by_row
    state = rounds([*value.unbind(0), *constants, counter, *sizes], list(block.unbind(0)), quarter)
    return torch.stack([low ^ high for low, high in zip(state[:8], state[8:], strict=True)])


@cache
def compiled_compress() -> Compress:
    """`compress` with its quarter round through torch.compile, for any number of messages.

    Compiled at its first use, for which a CPU needs a C++ compiler and a GPU Triton. The quarter round and not the
    whole: its graph is 56 times as long, and torch takes minutes for it.
    """
    # torch keeps graphs by code object; the eager function stays as it is
    own = FunctionType(_quarter_.__code__.replace(), _quarter_.__globals__, "_quarter_")
    return partial(compress, quarter=torch.compile(own, fullgraph=True, dynamic=True))
