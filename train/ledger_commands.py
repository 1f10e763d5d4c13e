"""`gridmarl ledger`: verify, show, stats, export, prove, consistency, check and consensus.

`show`, `stats` and `export` verify the file first: one that does not verify is refused with the line that `verify`
prints, exit code 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gridmarl.errors import ConfigError, LedgerError
from gridmarl.ledger import LedgerReader, LocatedError, Verdict, prove, verify
from gridmarl.ledger.chain_proof import Proven, check_proof, prove_consistency, prove_in_chain
from gridmarl.ledger.export import export_ledger, transaction_rows
from gridmarl.ledger.hashing import HASH_BYTES
from gridmarl.ledger.proof import hex_bytes
from gridmarl.ledger.records import decode_record, iterate_records
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
        print(f"  {verdict.signed_by}")
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
        rows = list(transaction_rows([block], reader.rules, height))
        if self.tx is None:
            print_block(results_console(), reader.rules.market, block, rows)
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
    """Print a proof as JSON: of a transaction in its block, or of a block or transaction in the chain up to a head."""

    path: tyro.conf.Positional[Path]
    """The ledger file or store, or a run folder."""
    block: int
    """Height of the block, from 0."""
    tx: int | None = None
    """Index of the transaction in the block, from 0; without it the block is proven, up to the last one of the file."""
    head: str | None = None
    """Hash of the block up to which the chain is proven: 64 hexadecimal digits."""
    to: int | None = None
    """Height of the block up to which the chain is proven, instead of its hash."""

    def run(self) -> int:
        """Print the proof; exit code 0."""
        path = ledger_file(self.path)
        if self.tx is not None and self.head is None and self.to is None:
            print(prove(path, self.block, self.tx).to_json())
        else:
            head = None if self.head is None else _hash("head", self.head)
            print(prove_in_chain(path, self.block, self.tx, to=self.to, head=head).to_json())
        return 0


@dataclass
class LedgerConsistency:
    """Print a proof as JSON that the chain which ended in one block continues unchanged to a later block."""

    path: tyro.conf.Positional[Path]
    """The ledger file or store, or a run folder."""
    old: Annotated[int, tyro.conf.arg(name="from")]
    """Height of the earlier head, from 0."""
    to: int | None = None
    """Height of the later head; by default the last block of the file."""

    def run(self) -> int:
        """Print the proof; exit code 0."""
        print(prove_consistency(ledger_file(self.path), self.old, self.to).to_json())
        return 0


@dataclass
class LedgerCheck:
    """Check a proof of any kind against hashes that are known; the ledger is not needed."""

    proof: tyro.conf.Positional[Path]
    """The proof, a JSON file."""
    head: str
    """Known hash of the last block that the proof holds: 64 hexadecimal digits."""
    count: int | None = None
    """Known number of blocks up to the head."""
    old: str | None = None
    """Of a consistency proof: the hash that was the head before."""

    def run(self) -> int:
        """Print what is proven; 1, and what does not match, if the proof does not hold."""
        head, old = _hash("head", self.head), None if self.old is None else _hash("old", self.old)
        content = self.proof.read_bytes()
        try:
            proven = check_proof(content, head, count=self.count, old=old)
        except LedgerError as error:
            print(f"NOT PROVEN: {error}")
            return 1
        _print_proven(proven, consistency=old is not None)
        return 0


def _print_proven(proven: Proven, *, consistency: bool) -> None:
    subject = f"block {proven.height} ({proven.block_hash.hex()})"
    if proven.index is not None:
        subject = f"transaction {proven.index} of {subject}"
    claim = "was the head, and is" if consistency else "is"
    print(f"ok: {subject} {claim} in the chain of {proven.count} blocks that ends in the given head")
    if proven.record is not None:
        print(f"  record: {proven.record.hex()}")
        for name, value in _fields(proven.record).items():
            print(f"  {name}: {value}")


def _fields(record: bytes) -> dict[str, int]:
    """Fields of a record; none if it is of an unknown kind: that the ledger's rules hold is not what a proof shows."""
    try:
        return decode_record(record)
    except LedgerError:
        return {}


def _hash(name: str, text: str) -> bytes:
    """A hash on the command line."""
    try:
        value = hex_bytes(name, text)
    except ValueError:
        value = b""
    if len(value) != HASH_BYTES:
        raise ConfigError(f"{name} = {text!r}; {2 * HASH_BYTES} hexadecimal digits in lower case are allowed")
    return value


@dataclass
class Ledger:
    """Verify, show or export a ledger file, prove what is in it, check a proof, or compare ways to agree on blocks."""

    command: (
        Annotated[LedgerVerify, tyro.conf.subcommand("verify")]
        | Annotated[LedgerShow, tyro.conf.subcommand("show")]
        | Annotated[LedgerStats, tyro.conf.subcommand("stats")]
        | Annotated[LedgerExport, tyro.conf.subcommand("export")]
        | Annotated[LedgerProve, tyro.conf.subcommand("prove")]
        | Annotated[LedgerConsistency, tyro.conf.subcommand("consistency")]
        | Annotated[LedgerCheck, tyro.conf.subcommand("check")]
        | Annotated[LedgerConsensus, tyro.conf.subcommand("consensus")]
    )

    def run(self) -> int:
        """Run the subcommand."""
        return self.command.run()
