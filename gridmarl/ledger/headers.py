"""Headers of the blocks of many lanes at once: one row of 256 bytes per lane, layout as in `gridmarl.ledger.block`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from gridmarl.ledger.block import CONSENSUS_CODES, HEADER_BYTES, VERSION
from gridmarl.ledger.hashing import HASH_BYTES, HEADER_CONTEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gridmarl.ledger.packers import BlockShape

_HASH = f"V{HASH_BYTES}"
HEADER_DTYPE = np.dtype(
    [
        ("version", "<u2"),
        ("consensus", "<u2"),
        ("period", "<u4"),
        ("height", "<u8"),
        ("lane", "<u8"),
        ("tx_count", "<u4"),
        ("input_count", "<u4"),
        ("parent", _HASH),
        ("tx_root", _HASH),
        ("input_root", _HASH),
        ("state_root", _HASH),
        ("sealer", "<u8"),
        ("difficulty", "<u8"),
        ("nonce", "<u8"),
        ("reserved", "V72"),
    ]
)
_HASHER = blake3(derive_key_context=HEADER_CONTEXT)  # copied: preparing the key costs as much as hashing a header


class HeaderTable:
    """Headers of one height, one row per lane; what never changes is written once.

    Attributes:
        rows: `[E]` of `HEADER_DTYPE`.
    """

    def __init__(self, lanes: Sequence[int], shape: BlockShape) -> None:
        self.rows: NDArray[Any] = np.zeros(len(lanes), HEADER_DTYPE)
        self.rows["version"] = VERSION
        self.rows["consensus"] = CONSENSUS_CODES["proof_of_authority"]
        self.rows["lane"] = lanes
        self.rows["tx_count"] = shape.transactions
        self.rows["input_count"] = shape.inputs
        self.rows["sealer"] = shape.sealer

    def fill(self, period: int, height: int | Sequence[int], **hashes: Iterable[bytes]) -> None:
        """Set period, heights and hash fields (`parent`, `tx_root`, ...: one hash per lane, in order)."""
        self.rows["period"] = period
        self.rows["height"] = height
        for name, values in hashes.items():
            self.rows[name] = np.frombuffer(b"".join(values), _HASH)

    def packed(self, position: int) -> bytes:
        """The 256 bytes of one header."""
        return bytes(self.rows[position].tobytes())

    def hashes(self) -> list[bytes]:
        """Header hash of every lane."""
        data, copy = self.rows.view(np.uint8).data, _HASHER.copy
        return [copy().update(data[at : at + HEADER_BYTES]).digest() for at in range(0, len(data), HEADER_BYTES)]
