"""What takes the blocks of a chain: a file (`gridmarl.ledger.file`) or a store (`gridmarl.ledger.store`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gridmarl.ledger.block import SealedBlock
    from gridmarl.ledger.chain_rules import ChainRules


class BlockWriter(Protocol):
    """Takes blocks one by one; a block is acknowledged when `append` returns."""

    @property
    def rules(self) -> ChainRules:
        """The rules of the chain."""
        ...

    def append(self, sealed: SealedBlock) -> None:
        """Take the next block; LedgerError if it does not follow the last one."""
        ...
