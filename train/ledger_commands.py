"""`gridmarl ledger`: verify, show, stats, export, prove and consensus.

`show`, `stats` and `export` verify the file first: one that does not verify is refused with the line that `verify`
prints, exit code 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gridmarl.errors import ConfigError
from gridmarl.ledger import LedgerReader, LocatedError, Verdict, prove, verify
from gridmarl.ledger.export import export_ledger, transaction_rows
from gridmarl.ledger.records import iterate_records
from gridmarl.ledger.stats import ledger_stats
from gridmarl.ledger.verify import verified
from gridmarl.train.consensus_command import LedgerConsensus
from gridmarl.train.ledger_store import LEDGER_STORE
from gridmarl.train.ledger_tables import print_block, print_chain, print_stats, print_transaction
from gridmarl.train.tables import results_console


def ledger_file(path: Path) -> Path:
    """The ledger of a run folder, ledger.bin or, before the run's end, ledger.sqlite; or the path itself."""
    if not path.is_dir():
        return path
    file, store = path / "ledger.bin", path / LEDGER_STORE
    return store if store.exists() and not file.exists() else file


def _or_verdict(action: Callable[[], None]) -> int:
    """0, or 1 and what is wrong with the ledger."""
    try:
        action()
    except LocatedError as error:
        print(f"NOT VERIFIED: {error}")
        return 1
    return 0


@dataclass
class LedgerVerify:
    """Re-hash a ledger, replay every hour with independent integer code, and say what is wrong, if anything."""

    path: tyro.conf.Positional[Path]
    """The ledger file or store (ledger.bin, ledger.sqlite of a run), or a run folder."""

    def run(self) -> int:
        """Print the verdict; 0 if the file verifies, 1 if not."""
        path = ledger_file(self.path)
        verdict = verify(path)
        print(f"{path}: {verdict.blocks} blocks, {verdict.transactions} transactions, head {verdict.head}")
        for name, energy_wh in verdict.energy_totals.items():
            print(f"  {name}: {energy_wh:,} Wh")
        if not verdict.ok:
            print(f"NOT VERIFIED: {verdict.error}")
            return 1
        print(f"residual {verdict.residual_utok} utok")
        if verdict.may_grow:
            print("no trailer: a store, ok up to its head; a run may append to it")
        return 0


@dataclass
class LedgerShow:
    """Show the rules and blocks of a ledger, all of one block, or one transaction."""

    path: tyro.conf.Positional[Path]
    """The ledger file or store, or a run folder."""
    block: int | None = None
    """Height of a block, from 0."""
    tx: int | None = None
    """Index of a transaction in this block, from 0."""

    def run(self) -> int:
        """Print it; 1 if the file does not verify."""
        if self.tx is not None and self.block is None:
            raise ConfigError(f"tx = {self.tx} without a block; allowed with --block N")
        return _or_verdict(self._show)

    def _show(self) -> None:
        with verified(ledger_file(self.path)) as (reader, verdict):
            if self.block is None:
                print_chain(results_console(), reader, verdict)
            else:
                _check("block", self.block, reader.block_count)
                self._show_block(reader, verdict, self.block)

    def _show_block(self, reader: LedgerReader, verdict: Verdict, height: int) -> None:
        block = reader.block(height)
        rows = list(transaction_rows([block], reader.rules.num_prosumers, height))
        if self.tx is None:
            print_block(results_console(), block, rows)
            return
        _check("tx", self.tx, len(rows))
        print_transaction(rows[self.tx], list(iterate_records(block.transactions))[self.tx])


def _check(name: str, seen: int, count: int) -> None:
    if not 0 <= seen < count:
        allowed = f"0 .. {count - 1} are allowed" if count else "the ledger has none"
        raise ConfigError(f"{name} = {seen}; {allowed}")


@dataclass
class LedgerStats:
    """Totals of a ledger: transactions, energy and money by kind, bytes, prices, balances at the end."""

    path: tyro.conf.Positional[Path]
    """The ledger file or store, or a run folder."""

    def run(self) -> int:
        """Print them; 1 if the file does not verify."""
        path = ledger_file(self.path)
        return _or_verdict(lambda: print_stats(results_console(), path, ledger_stats(path)))


@dataclass
class LedgerExport:
    """Write the transactions of a ledger as JSONL, CSV or Parquet, one row each; or a store as the canonical file."""

    path: tyro.conf.Positional[Path]
    """The ledger file or store, or a run folder."""
    out: Path
    """File to write, replaced if it exists; its ending (.jsonl, .csv, .parquet, .bin) is the format."""

    def run(self) -> int:
        """Write the file; 1, and nothing written, if the ledger does not verify."""
        return _or_verdict(self._export)

    def _export(self) -> None:
        verdict = export_ledger(ledger_file(self.path), self.out)
        print(f"{self.out}: {verdict.transactions:,} transactions of {verdict.blocks:,} blocks, head {verdict.head}")


@dataclass
class LedgerProve:
    """Print an inclusion proof of one transaction as JSON; `gridmarl.ledger.bao_verify` checks it, and nothing else."""

    path: tyro.conf.Positional[Path]
    """The ledger file or store, or a run folder."""
    block: int
    """Height of the block, from 0."""
    tx: int
    """Index of the transaction in the block, from 0."""

    def run(self) -> int:
        """Print the proof; exit code 0."""
        print(prove(ledger_file(self.path), self.block, self.tx).to_json())
        return 0


@dataclass
class Ledger:
    """Verify, show or export a ledger file, prove a transaction of it, or compare how its blocks could be agreed on."""

    command: (
        Annotated[LedgerVerify, tyro.conf.subcommand("verify")]
        | Annotated[LedgerShow, tyro.conf.subcommand("show")]
        | Annotated[LedgerStats, tyro.conf.subcommand("stats")]
        | Annotated[LedgerExport, tyro.conf.subcommand("export")]
        | Annotated[LedgerProve, tyro.conf.subcommand("prove")]
        | Annotated[LedgerConsensus, tyro.conf.subcommand("consensus")]
    )

    def run(self) -> int:
        """Run the subcommand."""
        return self.command.run()
