"""Proofs that a lane's block belongs to a batch root, and the block itself, as level `sealed` would have sealed it.

A proof shows the lane's whole part: inputs, transactions and balances. `gridmarl.ledger.batch_verify` checks proofs
without the rest of this package, without torch and without the `blake3` package.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gridmarl.errors import LedgerError
from gridmarl.json_depth import require_shallow
from gridmarl.ledger.bao_verify import left_chunks
from gridmarl.ledger.batch import BatchHeader
from gridmarl.ledger.batch_tree import batch_tree
from gridmarl.ledger.batch_verify import HEADER_BYTES, batch_header_hash, part_ranges, verify_lane
from gridmarl.ledger.block import CONSENSUS_CODES, VERSION, Block, Header, SealedBlock
from gridmarl.ledger.hashing import section_root, state_root
from gridmarl.ledger.packing import pack_hour
from gridmarl.ledger.records import RECORD_BYTES, decode_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridmarl.ledger.hour import HourRecord

_PROOF_FORMAT = "gridmarl-batch-proof-1"


class LanePart(NamedTuple):
    """What a batch holds of one lane: the sections of its block, and its balances as little-endian int64."""

    inputs: bytes
    transactions: bytes
    balances: bytes

    @property
    def lane(self) -> int:
        """Lane number that the records state."""
        return decode_record(self.inputs[RECORD_BYTES : 2 * RECORD_BYTES])["lane"]

    def sealed(self, header: BatchHeader, parent: bytes) -> SealedBlock:
        """The lane's block on `parent`, bit for bit the unsigned one of level `sealed` at the batch's height.

        Args:
            header: of the batch.
            parent: identity of the lane's block before; its rules' genesis hash at height 0.
        """
        own = Header(
            version=VERSION,
            consensus=CONSENSUS_CODES["proof_of_authority"],
            period=header.period,
            height=header.height,
            lane=self.lane,
            tx_count=header.tx_count,
            input_count=header.input_count,
            parent=parent,
            tx_root=section_root(self.transactions),
            input_root=section_root(self.inputs),
            state_root=state_root(self.balances),
            sealer=header.sealer,
            difficulty=0,
            nonce=0,
        )
        return SealedBlock(Block(own.pack(), self.inputs, self.transactions), own.hash())


@dataclass(frozen=True)
class BatchProof:
    """Proof that a part is the one at `position` of a batch.

    Attributes:
        header: 256 bytes of the batch's header.
        position: of the lane in the batch, from 0.
        part: inputs, transactions and balances of the lane.
        path: chaining values of the subtrees without any of the part's chunks, from left to right.
    """

    header: bytes
    position: int
    part: bytes
    path: bytes

    @property
    def batch_hash(self) -> bytes:
        """Identity of the batch the proof speaks of; to be compared with one that is trusted."""
        return batch_header_hash(self.header)

    def verify(self, batch_hash: bytes) -> LanePart:
        """The proven part.

        Args:
            batch_hash: identity of the batch from a trusted source.

        Raises:
            LedgerError: the proof does not show the part.
        """
        try:
            return LanePart(*verify_lane(batch_hash, self.header, self.position, self.part, self.path))
        except ValueError as error:
            raise LedgerError(f"batch proof: {error}") from error

    def to_json(self) -> str:
        """The proof as one line of JSON, bytes in hexadecimal."""
        content = {
            "format": _PROOF_FORMAT,
            "batch_hash": self.batch_hash.hex(),
            "header": self.header.hex(),
            "position": self.position,
            "part": self.part.hex(),
            "path": self.path.hex(),
        }
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> BatchProof:
        """The inverse of `to_json`; the stated batch hash is not believed.

        Raises:
            LedgerError: malformed.
        """
        try:
            require_shallow(line)
            content = json.loads(line)
            if content["format"] != _PROOF_FORMAT or type(content["position"]) is not int:
                raise ValueError("unknown format, or position not an integer")
            header, part, path = (bytes.fromhex(content[name]) for name in ("header", "part", "path"))
            if len(header) != HEADER_BYTES:
                raise ValueError(f"header of {len(header)} bytes; {HEADER_BYTES} are allowed")
            return cls(header, content["position"], part, path)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise LedgerError(f"batch proof: malformed ({error})") from error


class BatchProver:
    """Proves every lane of one batch.

    Args:
        hour: the hour that was sealed.
        lanes: `[E]` lane numbers, in the batch's order.
        header: 256 bytes of the batch's header.

    Raises:
        LedgerError: the header's root is not that of the hour and the lanes.
    """

    def __init__(self, hour: HourRecord, lanes: Sequence[int], header: bytes) -> None:
        self._parts = pack_hour(hour, lanes)
        self._tree = batch_tree(self._parts)
        self._header = header
        stated = BatchHeader.unpack(header).batch_root
        if stated != self._tree.root:
            raise LedgerError(f"batch_root: {stated.hex()}; {self._tree.root.hex()}, the hour's, is allowed")

    def prove(self, position: int) -> BatchProof:
        """Proof of the part at `position`.

        Raises:
            LedgerError: there is no such lane.
        """
        lanes = self._parts.size(0)
        if not 0 <= position < lanes:
            raise LedgerError(f"position {position}: there are {lanes} lanes")
        part = self._parts[position].cpu().numpy().astype("<i8", copy=False).tobytes()
        own = [(start, start + chunks) for start, _, chunks in part_ranges(len(part), lanes, position)]
        path: list[bytes] = []

        def walk(start: int, chunks: int) -> None:
            if not any(first < start + chunks and start < end for first, end in own):
                path.append(self._tree.value(start, chunks))
            elif not any(first <= start and start + chunks <= end for first, end in own):
                half = left_chunks(chunks)
                walk(start, half)
                walk(start + half, chunks - half)

        walk(0, self._tree.chunks)
        return BatchProof(self._header, position, part, b"".join(path))
