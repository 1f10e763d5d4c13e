"""Proof of work: a nonce is searched for until the header's hash has enough leading zero bits.

The search is real: every nonce tried is one BLAKE3 hash of the 256 header bytes. One implementation for the chain, its
verification and the comparison of mechanisms (`gridmarl.consensus`).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from blake3 import blake3

from gridmarl.ledger.block import HEADER_BYTES, Header
from gridmarl.ledger.election import check_range, in_turn
from gridmarl.ledger.hashing import HEADER_CONTEXT, header_hash

MAX_DIFFICULTY_BITS = 24
_SEALER_OFFSET = 160
_WORK = Struct("<QQQ")  # sealer, difficulty, nonce


def leading_zero_bits(digest: bytes) -> int:
    """Zero bits before the first one; the digest is read as a big-endian number."""
    return 8 * len(digest) - int.from_bytes(digest, "big").bit_length()


def solves(header: bytes, difficulty_bits: int) -> bool:
    """Whether a header names this difficulty and its hash has so many leading zero bits: one hash, no search."""
    if len(header) != HEADER_BYTES or Header.unpack(header).difficulty != difficulty_bits:
        return False
    return leading_zero_bits(header_hash(header)) >= difficulty_bits


def search(
    header: bytes,
    difficulty_bits: int,
    *,
    miners: Sequence[int] = (),
    first_nonce: int = 0,
    attempts: int | None = None,
) -> bytes | None:
    """The header with its difficulty and the first nonce that solves it; None if `attempts` nonces do not.

    The bytes before the sealer are absorbed once, then copied for each nonce.

    Args:
        miners: accounts that share the nonces: nonce `n` is tried by `miners[in_turn(n, len(miners))]`, which is
            named as the header's sealer; none: the header keeps its sealer.

    Raises:
        ConfigError: `difficulty_bits` out of range.
    """
    check_range("difficulty_bits", difficulty_bits, 0, MAX_DIFFICULTY_BITS)
    accounts = tuple(miners) or (Header.unpack(header).sealer,)
    before = blake3(header[:_SEALER_OFFSET], derive_key_context=HEADER_CONTEXT)
    after = header[_SEALER_OFFSET + _WORK.size :]
    limit = 1 << (256 - difficulty_bits)
    end = 2**64 if attempts is None else min(2**64, first_nonce + attempts)
    nonce = first_nonce
    while nonce < end:
        tail = _WORK.pack(accounts[in_turn(nonce, len(accounts))], difficulty_bits, nonce) + after
        if int.from_bytes(before.copy().update(tail).digest(), "big") < limit:
            return header[:_SEALER_OFFSET] + tail
        nonce += 1
    return None
