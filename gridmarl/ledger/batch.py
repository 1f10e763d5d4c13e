"""Batches: one block for all lanes of an hour (ledger level `batch`), with one BLAKE3 call over all their records.

| bytes    | field       | type | meaning                                                              |
|----------|-------------|------|----------------------------------------------------------------------|
| 0..1     | version     | u16  | 1                                                                    |
| 2..3     | consensus   | u16  | 1, proof of authority: the operator                                  |
| 4..7     | period      | u32  | hour of the episode, height mod horizon                              |
| 8..15    | height      | u64  | 0 for the first batch                                                |
| 16..23   | lanes       | u64  | E                                                                    |
| 24..27   | tx_count    | u32  | transactions of a lane                                               |
| 28..31   | input_count | u32  | inputs of a lane, 1 + 2P                                             |
| 32..63   | parent      | hash | hash of the batch before, `genesis` for batch 0                      |
| 64..95   | batch_root  | hash | BLAKE3 of the lanes' parts, see `gridmarl.ledger.batch_verify`       |
| 96..127  | genesis     | hash | derive-key BLAKE3 of the lanes' genesis hashes, in order             |
| 128..159 | state_root  | hash | derive-key BLAKE3 of all balances, `[P+3, E]` little-endian int64    |
| 160..167 | sealer      | u64  | the operator's account, P + 1                                        |
| 168..255 | reserved    |      | zero                                                                 |

A batch's identity is the derive-key BLAKE3 hash of these 256 bytes, with a context of its own. A lane's part holds what
its block of level `sealed` holds, bit for bit, and proves from the batch root (`gridmarl.ledger.batch_proof`).
"""

from __future__ import annotations

from dataclasses import replace
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from blake3 import blake3

from gridmarl.errors import LedgerError
from gridmarl.ledger.batch_tree import batch_tree
from gridmarl.ledger.batch_verify import BATCH_CONTEXT, HEADER_BYTES, pieces
from gridmarl.ledger.blake3_compress import Compress, compress
from gridmarl.ledger.block import CONSENSUS_CODES, VERSION
from gridmarl.ledger.chain import check_next
from gridmarl.ledger.packing import pack_hour
from gridmarl.ledger.records import input_count, transaction_count
from gridmarl.ledger.tiles import Tiles, part_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gridmarl.ledger.genesis import Rules
    from gridmarl.ledger.hour import HourRecord

GENESIS_CONTEXT = "gridmarl 2025-11 ledger v1 batch genesis"
STATE_CONTEXT = "gridmarl 2025-11 ledger v1 batch account balances"
_CHUNK_INT64 = 128
_HEADER = Struct("<HHIQQII32s32s32s32sQ88s")


class BatchHeader(NamedTuple):
    """The header of a batch, fields in the order of the layout."""

    version: int
    consensus: int
    period: int
    height: int
    lanes: int
    tx_count: int
    input_count: int
    parent: bytes
    batch_root: bytes
    genesis: bytes
    state_root: bytes
    sealer: int
    reserved: bytes = bytes(88)

    def pack(self) -> bytes:
        """The 256 bytes."""
        return _HEADER.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> BatchHeader:
        """Header of 256 bytes; values are not judged here.

        Raises:
            LedgerError: not 256 bytes.
        """
        if len(data) != HEADER_BYTES:
            raise LedgerError(f"batch header: {len(data)} bytes; {HEADER_BYTES} are allowed")
        return cls._make(_HEADER.unpack(data))

    def hash(self) -> bytes:
        """Identity of the batch, 32 bytes."""
        return blake3(self.pack(), derive_key_context=BATCH_CONTEXT).digest()


def batch_genesis(hashes: Iterable[bytes]) -> bytes:
    """Parent of batch 0: derive-key BLAKE3 of the genesis hashes of the lanes' rules, in the lanes' order."""
    return blake3(b"".join(hashes), derive_key_context=GENESIS_CONTEXT).digest()


class BatchRoots:
    """Roots of hours of the same lanes; buffers are kept from hour to hour.

    On a CPU records are packed tile by tile and hashed by the package while they are in a cache; elsewhere they are
    packed and hashed as tensors on their device. The two give the same root.

    Args:
        num_prosumers: P.
        lanes: `[E]` lane numbers.
        interest: hours end with records of interest.
        threads: on a CPU; with two or more, one packs ahead while one hashes (by the compiled loop: while so many
            hash); 0: as many as torch uses.
        jit: on a CPU; pack by the compiled loop, which needs numba; None: where that is installed and pays.
        compress: hash as tensors with this compression, on a CPU, too (slower there, the same root).
    """

    def __init__(
        self,
        num_prosumers: int,
        lanes: Sequence[int],
        *,
        interest: bool = False,
        threads: int = 0,
        jit: bool | None = None,
        compress: Compress | None = None,
    ) -> None:
        self._lanes, self._compress = lanes, compress
        cut = pieces(8 * part_words(num_prosumers, interest=interest))
        ranges = [(_CHUNK_INT64 * first, _CHUNK_INT64 * chunks) for first, chunks in cut]
        threads = threads or torch.get_num_threads()
        self._tiles = Tiles(num_prosumers, lanes, ranges, interest=interest, threads=threads, jit=jit)
        # Torch's copies take as long as hashing: with a thread that packs ahead, more than one would wait for it. The
        # compiled loop takes less than half of hashing's time: its thread leaves more than half of a core for that.
        self._hashing = threads if self._tiles.jit else 1

    def root(self, hour: HourRecord) -> bytes:
        """Batch root of an hour, 32 bytes."""
        if hour.price.device.type != "cpu" or self._compress is not None:
            return batch_tree(pack_hour(hour, self._lanes), self._compress or compress).root
        hasher = blake3(max_threads=self._hashing)
        for _, words in self._tiles.pack(hour):
            hasher.update(words.numpy().astype("<i8", copy=False).data.cast("B"))
        return hasher.digest()


def state_root(hour: HourRecord) -> bytes:
    """Root of the accounts of all lanes after an hour: account by account, of each the lanes in order."""
    balances = hour.balances.contiguous().cpu().numpy().astype("<i8", copy=False)
    return blake3(balances.data.cast("B"), derive_key_context=STATE_CONTEXT).digest()


class SealedBatch(NamedTuple):
    """A batch header and its identity."""

    header: bytes
    hash: bytes


class BatchChain:
    """The chain of batches of all lanes; contents are not kept, an hour's record has them all.

    Attributes:
        rules: the rules of every lane; they differ in `lane` only.
        genesis: parent of batch 0.
        heads: the hash of the last batch (or genesis), one entry.
        height: batches sealed so far.
        last: the last batch, None before the first.

    Args:
        rules: rules of the market; `lane` is set for each lane.
        lanes: lane numbers, in the order of the tensors' lanes.
        roots: computes the batch roots; None: by the fastest route there is.

    Raises:
        LedgerError: no lane, or a lane twice.
    """

    def __init__(self, rules: Rules, lanes: Sequence[int], *, roots: BatchRoots | None = None) -> None:
        self.lanes = [int(lane) for lane in lanes]
        if not self.lanes or len(set(self.lanes)) != len(self.lanes):
            raise LedgerError(f"lanes: {self.lanes}; one or more distinct lanes are allowed")
        self.rules = [replace(rules, lane=lane) for lane in self.lanes]
        self.genesis = batch_genesis(each.hash() for each in self.rules)
        self.heads = [self.genesis]
        self.height = 0
        self.last: SealedBatch | None = None
        self._roots = roots

    @property
    def transactions_per_lane(self) -> int:
        """Transactions sealed in each lane so far."""
        return self.height * self.rules[0].transactions_per_block

    def append(self, hour: HourRecord) -> SealedBatch:
        """Seal one hour in all lanes.

        Raises:
            LedgerError: the hour's period is not the next one, its number of prosumers or lanes differs, or it has
                interest where the rules have none, or none where they have it.
        """
        rules = self.rules[0]
        check_next(hour, rules, len(self.lanes), self.height)
        if self._roots is None:
            self._roots = BatchRoots(rules.num_prosumers, self.lanes, interest=rules.has_interest)
        header = BatchHeader(
            version=VERSION,
            consensus=CONSENSUS_CODES["proof_of_authority"],
            period=hour.period,
            height=self.height,
            lanes=len(self.lanes),
            tx_count=transaction_count(rules.num_prosumers, interest=rules.has_interest),
            input_count=input_count(rules.num_prosumers),
            parent=self.heads[0],
            batch_root=self._roots.root(hour),
            genesis=self.genesis,
            state_root=state_root(hour),
            sealer=rules.num_prosumers + 1,
        )
        self.last = SealedBatch(header.pack(), header.hash())
        self.heads = [self.last.hash]
        self.height += 1
        return self.last

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs."""
        last = None if self.last is None else self.last.header
        return {"lanes": list(self.lanes), "heads": list(self.heads), "height": self.height, "last": last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            LedgerError: the state is that of other lanes, or of chains of level `sealed`.
        """
        if "last" not in state:
            raise LedgerError("state: that of chains of single lanes; that of a chain of batches is allowed")
        if list(state["lanes"]) != self.lanes:
            raise LedgerError(f"lanes: {state['lanes']}; {self.lanes} are allowed")
        self.heads, self.height = list(state["heads"]), int(state["height"])
        last = state["last"]
        self.last = None if last is None else SealedBatch(last, BatchHeader.unpack(last).hash())
