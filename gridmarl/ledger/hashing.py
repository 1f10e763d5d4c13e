"""BLAKE3 as the ledger uses it: plain for record sections, derive-key with one context per kind of object elsewhere.

A section's root is the plain BLAKE3 hash of its concatenated 64-byte records. BLAKE3 is a Merkle tree over 1 KiB chunks
(16 records), so this root serves inclusion proofs and can be recomputed with any stock tool (`b3sum`).
Source: J. O'Connor, J.-P. Aumasson, S. Neves, Z. Wilcox-O'Hearn, "BLAKE3: one function, fast everywhere" (2020).
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES = 32
HEADER_CONTEXT = "gridmarl 2025-11 ledger v1 block header"
GENESIS_CONTEXT = "gridmarl 2025-11 ledger v1 genesis"
STATE_CONTEXT = "gridmarl 2025-11 ledger v1 account balances"


def section_root(records: bytes | memoryview) -> bytes:
    """Root of a record section: plain BLAKE3 of the concatenated records."""
    return blake3(records).digest()


def header_hash(header: bytes | memoryview) -> bytes:
    """Identity of a block: derive-key BLAKE3 of its header bytes."""
    return blake3(header, derive_key_context=HEADER_CONTEXT).digest()


def genesis_hash(genesis: bytes | memoryview) -> bytes:
    """Parent of block 0: derive-key BLAKE3 of the canonical genesis bytes."""
    return blake3(genesis, derive_key_context=GENESIS_CONTEXT).digest()


def state_root(balances: bytes | memoryview) -> bytes:
    """Root of the accounts: derive-key BLAKE3 of the balances (µtok) as little-endian int64, account 0 first."""
    return blake3(balances, derive_key_context=STATE_CONTEXT).digest()


def balance_bytes(balances_utok: Sequence[int]) -> bytes:
    """Balances as little-endian int64; `struct.error` if one does not fit."""
    return pack(f"<{len(balances_utok)}q", *balances_utok)
