"""Totals of a ledger file: transactions, energy and money by kind, prices, bytes, balances at the end."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gridmarl.ledger.records import KINDS, RECORD_BYTES, decode_record, iterate_records
from gridmarl.ledger.verify import verified

if TYPE_CHECKING:
    from enum import IntEnum

    from gridmarl.ledger.reader import LedgerReader


@dataclass
class KindTotals:
    """Transactions of one kind.

    Attributes:
        transactions: all of them.
        with_energy: those of more than zero energy.
        energy_wh: their energy.
        amount_utok: money from payers to payees, amounts at negative prices counted negative.
    """

    transactions: int = 0
    with_energy: int = 0
    energy_wh: int = 0
    amount_utok: int = 0


@dataclass
class PriceRange:
    """A price over the hours, µtok/Wh; all zero without hours."""

    least: int = 0
    mean: float = 0.0
    greatest: int = 0

    @classmethod
    def of(cls, prices: list[int]) -> PriceRange:
        """Range of a list, which may be empty."""
        return cls(min(prices), sum(prices) / len(prices), max(prices)) if prices else cls()


@dataclass
class LedgerStats:
    """Totals of a ledger file.

    Attributes:
        blocks, transactions: in the file; `head`: hash of the last block in hexadecimal.
        file_bytes: of the whole file; `block_bytes`: of one block.
        kinds: by kind of transaction, all kinds.
        energy_wh: Wh by name, as `Verdict.energy_totals`.
        prices: of each block's signal by field (`ChainRules.signal_prices`).
        balances_utok: by account after the last block.
        roles: whose accounts they are.
    """

    blocks: int
    transactions: int
    head: str
    file_bytes: int
    block_bytes: int
    kinds: dict[IntEnum, KindTotals] = field(default_factory=dict)
    energy_wh: dict[str, int] = field(default_factory=dict)
    prices: dict[str, PriceRange] = field(default_factory=dict)
    balances_utok: list[int] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)


def ledger_stats(path: str | os.PathLike[str]) -> LedgerStats:
    """Totals of a ledger file that verifies.

    Raises:
        LedgerError: the file cannot be read; LocatedError if it does not verify.
    """
    with verified(path) as (reader, verdict):
        accounts = range(len(reader.rules.initial_balances))
        stats = LedgerStats(
            verdict.blocks,
            verdict.transactions,
            verdict.head,
            reader.size,
            reader.block_bytes,
            energy_wh=dict(verdict.energy_totals),
            roles=[reader.rules.account_role(account) for account in accounts],
        )
        _add_blocks(reader, stats)
    return stats


def _add_blocks(reader: LedgerReader, stats: LedgerStats) -> None:
    stats.kinds = {kind: KindTotals() for kind in reader.rules.transaction_kinds}
    stats.balances_utok = list(reader.rules.initial_balances)
    prices: dict[str, list[int]] = {name: [] for name in reader.rules.signal_prices}
    for block in reader:
        signal = decode_record(block.inputs[:RECORD_BYTES])
        for name in reader.rules.signal_prices:
            prices[name].append(signal[name])
        for record in iterate_records(block.transactions):
            totals = stats.kinds[KINDS[record["kind"]]]
            totals.transactions += 1
            totals.with_energy += record["energy_wh"] != 0
            totals.energy_wh += record["energy_wh"]
            totals.amount_utok += record["amount_utok"]
            stats.balances_utok[record["payer"]] -= record["amount_utok"]
            stats.balances_utok[record["payee"]] += record["amount_utok"]
    stats.prices = {name: PriceRange.of(values) for name, values in prices.items()}
