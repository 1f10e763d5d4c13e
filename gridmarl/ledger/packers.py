"""How the periods of each market become words to hash: the writing side of a market (`gridmarl.ledger.chain_rules`).

A part is what is hashed of one lane's period: input records, transaction records, balances, as int64 words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gridmarl.ledger.genesis import Rules
from gridmarl.ledger.packing import pack_hour
from gridmarl.ledger.quota_genesis import QuotaRules
from gridmarl.ledger.quota_packing import pack_half_hour
from gridmarl.ledger.records import input_count, transaction_count
from gridmarl.ledger.tiles import Tiles, part_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from gridmarl.ledger.chain_rules import ChainRules
    from gridmarl.ledger.half_hour import HalfHourRecord
    from gridmarl.ledger.hour import HourRecord


class BlockShape(NamedTuple):
    """What all unsigned blocks of a chain have in common."""

    inputs: int  # records
    transactions: int  # records
    accounts: int  # balances
    sealer: int  # account of the operator, who seals alone

    @classmethod
    def of(cls, rules: ChainRules) -> BlockShape:
        """That of blocks under some rules."""
        return cls(rules.inputs_per_block, rules.transactions_per_block, rules.num_accounts, rules.operator_account)


class PeriodRecord(Protocol):
    """What a market hands to the ledger after a period: `HourRecord`, `HalfHourRecord`."""

    @property
    def period(self) -> int:
        """Period of the episode."""
        ...

    @property
    def market(self) -> str:
        """Name of the market in the genesis."""
        ...

    def check(self, rules: Any, num_lanes: int) -> None:
        """LedgerError unless it fits the rules of this market and the number of lanes."""
        ...


class Packer(Protocol):
    """Packs the periods of one market, one after the other.

    Attributes:
        shape: of the blocks.
    """

    shape: BlockShape

    def pack(self, record: Any) -> Iterator[tuple[int, Tensor]]:
        """`(position of the first lane, words [lanes, words of a part] int64)`; valid until the next one is asked for.

        Args:
            record: of this market.
        """
        ...


class TwoStagePacker:
    """Hours of the two-stage market: on a CPU a tile at a time, elsewhere all at once on the device."""

    def __init__(self, num_prosumers: int, lanes: Sequence[int], *, interest: bool) -> None:
        inputs, transactions = input_count(num_prosumers), transaction_count(num_prosumers, interest=interest)
        self.shape = BlockShape(inputs, transactions, num_prosumers + 3, num_prosumers + 1)
        self._lanes = lanes
        words = part_words(num_prosumers, interest=interest)
        self._tiles = Tiles(num_prosumers, lanes, [(0, words)], interest=interest)

    @classmethod
    def of(cls, rules: Rules, lanes: Sequence[int]) -> TwoStagePacker:
        """For chains under these rules."""
        return cls(rules.num_prosumers, lanes, interest=rules.has_interest)

    def pack(self, record: HourRecord) -> Iterator[tuple[int, Tensor]]:
        """See `Packer`."""
        if record.price.device.type == "cpu":
            return self._tiles.pack(record)
        return iter([(0, pack_hour(record, self._lanes).cpu())])


class QuotaPacker:
    """Half hours of charging quotas: all lanes at once, on their device."""

    def __init__(self, rules: QuotaRules, lanes: Sequence[int]) -> None:
        self.shape = BlockShape.of(rules)
        self._lanes = lanes

    def pack(self, record: HalfHourRecord) -> Iterator[tuple[int, Tensor]]:
        """See `Packer`."""
        return iter([(0, pack_half_hour(record, self._lanes).cpu())])


_PACKERS: dict[str, Callable[[Any, Sequence[int]], Packer]] = {
    Rules.market: TwoStagePacker.of,
    QuotaRules.market: QuotaPacker,
}


def packer_of(rules: ChainRules, lanes: Sequence[int]) -> Packer:
    """A packer for chains under some rules, in all lanes."""
    return _PACKERS[rules.market](rules, lanes)
