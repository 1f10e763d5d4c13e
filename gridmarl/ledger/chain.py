"""Sealing: one block per lane and hour, and the chains of all lanes (ledger level `sealed`).

This is the one place that loops over lanes in Python: a chain is hashed lane by lane on the host, after a single copy
from the device per hour.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gridmarl.errors import LedgerError
from gridmarl.ledger.block import CONSENSUS_CODES, VERSION, Block, Header, SealedBlock
from gridmarl.ledger.hashing import header_hash, section_root, state_root
from gridmarl.ledger.packing import pack_hour
from gridmarl.ledger.records import RECORD_BYTES, input_count, transaction_count
from gridmarl.ledger.sealing import Sealer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gridmarl.ledger.genesis import Rules
    from gridmarl.ledger.hour import HourRecord
    from gridmarl.ledger.keys import KeyRing
    from gridmarl.ledger.writer import BlockWriter


def _host_bytes(hour: HourRecord, lanes: Sequence[int]) -> memoryview:
    words = pack_hour(hour, lanes).cpu().numpy()
    return words.astype("<i8", copy=False).data.cast("B")


def _seal(
    hour: HourRecord, parents: Sequence[bytes], heights: Sequence[int], lanes: Sequence[int]
) -> Iterator[tuple[bytes, bytes, memoryview, memoryview]]:
    """`(header, header hash, inputs, transactions)` of every lane, the sections as views of one buffer."""
    prosumers, num_lanes = hour.buy_price.shape
    for name, values in (("parents", parents), ("heights", heights), ("lanes", lanes)):
        if len(values) != num_lanes:
            raise LedgerError(f"{name}: {len(values)} values; {num_lanes}, one per lane, are allowed")
    inputs = input_count(prosumers)
    transactions = transaction_count(prosumers, interest=hour.has_interest)
    data = _host_bytes(hour, lanes)
    row = len(data) // num_lanes
    first, second = inputs * RECORD_BYTES, (inputs + transactions) * RECORD_BYTES
    for position, lane in enumerate(lanes):
        start = position * row
        input_view = data[start : start + first]
        tx_view = data[start + first : start + second]
        header = Header(
            version=VERSION,
            consensus=CONSENSUS_CODES["proof_of_authority"],
            period=hour.period,
            height=heights[position],
            lane=lane,
            tx_count=transactions,
            input_count=inputs,
            parent=parents[position],
            tx_root=section_root(tx_view),
            input_root=section_root(input_view),
            state_root=state_root(data[start + second : start + row]),
            sealer=prosumers + 1,
            difficulty=0,
            nonce=0,
        ).pack()
        yield header, header_hash(header), input_view, tx_view


def seal_hour(
    hour: HourRecord, parents: Sequence[bytes], heights: Sequence[int], lanes: Sequence[int]
) -> list[SealedBlock]:
    """The blocks of one hour, one per lane.

    Args:
        hour: outcome of the hour in `E` lanes, on any device.
        parents: `E` header hashes (genesis hash before block 0).
        heights: `E` heights of the new blocks.
        lanes: `E` lane numbers.

    Raises:
        LedgerError: `parents`, `heights` or `lanes` has not one entry per lane.
    """
    return [
        SealedBlock(Block(header, bytes(inputs), bytes(transactions)), identity)
        for header, identity, inputs, transactions in _seal(hour, parents, heights, lanes)
    ]


class LaneChains:
    """Heads of the chains of all lanes; blocks are kept only for chosen lanes, in memory or in a file.

    Attributes:
        rules: the rules of every lane; they differ in `lane` only.
        heads: hash of the last block (or genesis) of every lane.
        height: blocks sealed so far, the same in every lane.
        blocks: the blocks of the lanes in `keep`, by lane number.

    Args:
        rules: rules of the market; `lane` is set for each lane.
        lanes: lane numbers, in the order of the tensors' lanes.
        keep: lanes whose blocks are kept in memory.
        writers: ledger files that take the blocks of their lane.
        keys: private keys of the sealers that the rules name. Blocks of the lanes in `keep` and `writers` are sealed
            by them (`gridmarl.ledger.sealing`); other lanes go on as unsigned chains of one authority.

    Raises:
        LedgerError: a lane twice, a lane to keep or to write that does not exist, or a writer with other rules; keys
            that are not those of the rules.
    """

    def __init__(
        self,
        rules: Rules,
        lanes: Sequence[int],
        *,
        keep: Iterable[int] = (),
        writers: Mapping[int, BlockWriter] | None = None,
        keys: KeyRing | None = None,
    ) -> None:
        self.lanes = [int(lane) for lane in lanes]
        self.rules = [replace(rules, lane=lane) for lane in self.lanes]
        self.heads = [each.hash() for each in self.rules]
        self.height = 0
        self.blocks: dict[int, list[SealedBlock]] = {lane: [] for lane in keep}
        self._writers = dict(writers or {})
        wanted = set(self.blocks) | set(self._writers)
        if len(set(self.lanes)) != len(self.lanes) or not wanted <= set(self.lanes):
            raise LedgerError(f"lanes: {self.lanes}; distinct lanes that include {sorted(wanted)} are allowed")
        self._sealers = {each.lane: Sealer(each, keys) for each in self.rules if each.lane in wanted}
        for lane, writer in self._writers.items():
            if writer.rules != self.rules[self.lanes.index(lane)]:
                raise LedgerError(f"writer of lane {lane}: its rules differ from those of the chain")

    @property
    def transactions_per_lane(self) -> int:
        """Transactions sealed in each lane so far."""
        return self.height * self.rules[0].transactions_per_block if self.rules else 0

    def append(self, hour: HourRecord) -> dict[int, SealedBlock]:
        """Seal one hour in all lanes; returns the blocks of the kept and written lanes.

        Raises:
            LedgerError: the hour's period is not the next one, or its number of prosumers or lanes differs.
        """
        expected = self.height % self.rules[0].horizon_hours
        if hour.period != expected:
            raise LedgerError(f"period: {hour.period}; {expected} is next")
        if tuple(hour.buy_price.shape) != (self.rules[0].num_prosumers, len(self.lanes)):
            allowed = (self.rules[0].num_prosumers, len(self.lanes))
            raise LedgerError(f"hour: [P, E] = {tuple(hour.buy_price.shape)}; {allowed} is allowed")
        if hour.has_interest is not self.rules[0].has_interest:
            seen = "interest" if hour.has_interest else "no interest"
            raise LedgerError(
                f"hour: {seen} under {self.rules[0].finality} finality; strict finality has some, instant none"
            )
        heads: list[bytes] = []
        taken: dict[int, SealedBlock] = {}
        heights = [self.height] * len(self.lanes)
        for position, sealed in enumerate(_seal(hour, self.heads, heights, self.lanes)):
            header, identity, inputs, transactions = sealed
            sealer = self._sealers.get(self.lanes[position])
            if sealer is not None:
                header, signatures = sealer.seal(header, transactions)
                identity = header_hash(header)
                block = Block(header, bytes(inputs), bytes(transactions), signatures)
                taken[self.lanes[position]] = SealedBlock(block, identity)
            heads.append(identity)
        for lane, sealed_block in taken.items():
            if lane in self._writers:
                self._writers[lane].append(sealed_block)
            if lane in self.blocks:
                self.blocks[lane].append(sealed_block)
        self.heads = heads
        self.height += 1
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Heads, height and kept blocks: what an exact resume needs (files are the writers' affair)."""
        kept = {lane: [tuple(sealed.block) for sealed in blocks] for lane, blocks in self.blocks.items()}
        sealers = {lane: sealer.state_dict() for lane, sealer in self._sealers.items()}
        state = {"lanes": list(self.lanes), "heads": list(self.heads), "height": self.height, "blocks": kept}
        return state | {"sealers": sealers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            LedgerError: the state is that of other lanes.
        """
        if list(state["lanes"]) != self.lanes:
            raise LedgerError(f"lanes: {state['lanes']}; {self.lanes} are allowed")
        self.heads, self.height = list(state["heads"]), int(state["height"])
        for lane, sealer in self._sealers.items():
            sealer.load_state_dict(state["sealers"][lane])
        self.blocks = {
            lane: [SealedBlock(Block(*parts), header_hash(parts[0])) for parts in blocks]
            for lane, blocks in state["blocks"].items()
        }
