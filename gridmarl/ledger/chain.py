"""Sealing: one block per lane and period, and the chains of all lanes (ledger level `sealed`), of any market.

This is the one place that loops over lanes in Python: a chain is hashed lane by lane on the host. Records are packed by
the market's packer (`gridmarl.ledger.packers`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from gridmarl.errors import LedgerError
from gridmarl.ledger.block import Block, SealedBlock
from gridmarl.ledger.hashing import STATE_CONTEXT, header_hash
from gridmarl.ledger.headers import HeaderTable
from gridmarl.ledger.packers import Packer, PeriodRecord, TwoStagePacker, packer_of
from gridmarl.ledger.records import RECORD_BYTES
from gridmarl.ledger.sealing import Sealer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from gridmarl.ledger.chain_rules import ChainRules
    from gridmarl.ledger.hour import HourRecord
    from gridmarl.ledger.keys import KeyRing
    from gridmarl.ledger.writer import BlockWriter

_STATE_HASHER = blake3(derive_key_context=STATE_CONTEXT)  # copied: preparing the key costs as much as hashing


class _Drafts:
    """Unsigned blocks of all lanes of a period, of one authority each; buffers are kept from period to period."""

    def __init__(self, packer: Packer, lanes: Sequence[int]) -> None:
        self._packer, shape = packer, packer.shape
        self._table = HeaderTable(lanes, shape)
        self._inputs = RECORD_BYTES * shape.inputs
        self._records = self._inputs + RECORD_BYTES * shape.transactions
        self._row = self._records + 8 * shape.accounts

    def draft(
        self, record: PeriodRecord, parents: Iterable[bytes], height: int | Sequence[int], wanted: Collection[int]
    ) -> tuple[list[bytes], dict[int, Block]]:
        """Header hashes of all lanes, and the blocks at the wanted positions."""
        table, sections = self._table, dict[int, tuple[bytes, bytes]]()
        roots: tuple[list[bytes], list[bytes], list[bytes]] = [], [], []
        for first, words in self._packer.pack(record):
            data = words.numpy().astype("<i8", copy=False).data.cast("B")
            self._hash(data, *roots)
            for position in wanted:
                if first <= position < first + words.size(0):
                    row = data[(position - first) * self._row :]
                    sections[position] = bytes(row[: self._inputs]), bytes(row[self._inputs : self._records])
        table.fill(record.period, height, parent=parents, input_root=roots[0], tx_root=roots[1], state_root=roots[2])
        return table.hashes(), {at: Block(table.packed(at), *parts) for at, parts in sections.items()}

    def _hash(self, data: memoryview, inputs: list[bytes], transactions: list[bytes], balances: list[bytes]) -> None:
        """Append the three roots of every lane whose part is in `data`."""
        for start in range(0, len(data), self._row):
            end = start + self._records
            inputs.append(blake3(data[start : start + self._inputs]).digest())
            transactions.append(blake3(data[start + self._inputs : end]).digest())
            balances.append(_STATE_HASHER.copy().update(data[end : start + self._row]).digest())


def seal_hour(
    hour: HourRecord, parents: Sequence[bytes], heights: Sequence[int], lanes: Sequence[int]
) -> list[SealedBlock]:
    """The blocks of one hour of the two-stage market, one per lane.

    Args:
        hour: outcome of the hour in `E` lanes, on any device.
        parents: `E` header hashes (genesis hash before block 0).
        heights: `E` heights of the new blocks.
        lanes: `E` lane numbers.

    Raises:
        LedgerError: `parents`, `heights` or `lanes` has not one entry per lane.
    """
    prosumers, num_lanes = hour.buy_price.shape
    for name, values in (("parents", parents), ("heights", heights), ("lanes", lanes)):
        if len(values) != num_lanes:
            raise LedgerError(f"{name}: {len(values)} values; {num_lanes}, one per lane, are allowed")
    drafts = _Drafts(TwoStagePacker(prosumers, lanes, interest=hour.has_interest), lanes)
    hashes, blocks = drafts.draft(hour, parents, heights, range(num_lanes))
    return [SealedBlock(blocks[position], identity) for position, identity in enumerate(hashes)]


def check_next(record: PeriodRecord, rules: ChainRules, num_lanes: int, height: int) -> None:
    """Check that a record is the one that block `height` of `num_lanes` lanes needs.

    Raises:
        LedgerError: it is of another market, its period is not the next one, its number of members or lanes differs,
            or it has interest where the rules have none, or none where they have it.
    """
    if record.market != rules.market:
        raise LedgerError(f"record: of the market {record.market}; one of {rules.market} is allowed")
    expected = height % rules.blocks_per_episode
    if record.period != expected:
        raise LedgerError(f"period: {record.period}; {expected} is next")
    record.check(rules, num_lanes)


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
        rules: ChainRules,
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
        self._drafts: _Drafts | None = None
        self._sealers = {each.lane: Sealer(each, keys) for each in self.rules if each.lane in wanted}
        for lane, writer in self._writers.items():
            if writer.rules != self.rules[self.lanes.index(lane)]:
                raise LedgerError(f"writer of lane {lane}: its rules differ from those of the chain")

    @property
    def transactions_per_lane(self) -> int:
        """Transactions sealed in each lane so far."""
        return self.height * self.rules[0].transactions_per_block if self.rules else 0

    def append(self, record: PeriodRecord) -> dict[int, SealedBlock]:
        """Seal one period in all lanes; returns the blocks of the kept and written lanes.

        Args:
            record: `HourRecord` of the two-stage market, `HalfHourRecord` of charging quotas.

        Raises:
            LedgerError: as `check_next`.
        """
        check_next(record, self.rules[0], len(self.lanes), self.height)
        if self._drafts is None:
            self._drafts = _Drafts(packer_of(self.rules[0], self.lanes), self.lanes)
        chosen = [position for position, lane in enumerate(self.lanes) if lane in self._sealers]
        heads, drafts = self._drafts.draft(record, self.heads, self.height, chosen)
        taken: dict[int, SealedBlock] = {}
        for position, draft in drafts.items():
            header, signatures = self._sealers[self.lanes[position]].seal(draft.header, draft.transactions)
            heads[position] = header_hash(header)
            block = draft._replace(header=header, signatures=signatures)
            taken[self.lanes[position]] = SealedBlock(block, heads[position])
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
            LedgerError: the state is that of other lanes, or of a chain of batches.
        """
        if "blocks" not in state:
            raise LedgerError("state: that of a chain of batches; that of chains of single lanes is allowed")
        if list(state["lanes"]) != self.lanes:
            raise LedgerError(f"lanes: {state['lanes']}; {self.lanes} are allowed")
        self.heads, self.height = list(state["heads"]), int(state["height"])
        for lane, sealer in self._sealers.items():
            sealer.load_state_dict(state["sealers"][lane])
        self.blocks = {
            lane: [SealedBlock(Block(*parts), header_hash(parts[0])) for parts in blocks]
            for lane, blocks in state["blocks"].items()
        }
