"""What `gridmarl ledger show` and `stats` print: the ledger's integers as exact decimals in kWh, token/kWh, token."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from gridmarl.ledger.block import SIGNATURE_BYTES, Block
from gridmarl.ledger.chain_rules import ChainRules
from gridmarl.ledger.export import TransactionRow
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.reader import LedgerReader
from gridmarl.ledger.records import RECORD_BYTES, decode_record, iterate_records
from gridmarl.ledger.stats import LedgerStats
from gridmarl.ledger.verify import Verdict
from gridmarl.train.ledger_views import VIEWS, View, kwh, tok, tok_per_kwh

_HASH_DIGITS, _MANY_HASHES = 16, 4
MANY_ACCOUNTS = 20  # more members than this are summed up
_MEMBERS = tuple(view.member for view in VIEWS.values())


def party(account: int, role: str) -> str:
    """An account by name."""
    return f"{role} {account}" if role in _MEMBERS else role


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> Table:
    """A table whose first `words` columns are text and the others numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, heading in enumerate(columns):
        table.add_column(heading, justify="left" if index < words else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def print_chain(console: Console, reader: LedgerReader, verdict: Verdict) -> None:
    """The rules and one line per block."""
    print(f"genesis {reader.genesis_hash.hex()}")
    print(f"head    {verdict.head}")
    print(f"  market: {reader.rules.market}")
    shared = [item.name for item in fields(ChainRules)]
    own = [item.name for item in fields(reader.rules) if item.name not in shared]
    for name in (*own, *shared):  # repr: a text of the file may hold what a terminal would obey
        print(f"  {name}: {_shown(getattr(reader.rules, name))}")
    view = VIEWS[reader.rules.market]
    columns = ("block", view.period, *(column.heading for column in view.block), "hash")
    lines = (_block_line(view, block) for block in reader)
    console.print(_table("Blocks, prices in token/kWh", columns, lines, words=0))


def _shown(value: object) -> str:
    """A value of the rules, cut short: of hashes and keys the first digits, as in the table of blocks."""
    if isinstance(value, tuple) and any(isinstance(item, str) for item in value):
        more = ", ..." if len(value) > _MANY_HASHES else ""
        return ", ".join(str(item)[:_HASH_DIGITS] for item in value[:_MANY_HASHES]) + more
    return reprlib.repr(value)


def _block_line(view: View, block: Block) -> tuple[str, ...]:
    header, signal = block.parsed_header(), decode_record(block.inputs[:RECORD_BYTES])
    values = (column.shown(signal[column.field]) for column in view.block)
    return str(header.height), str(header.period), *values, header_hash(block.header).hex()[:_HASH_DIGITS]


def print_block(console: Console, market: str, block: Block, rows: Sequence[TransactionRow]) -> None:
    """Header, inputs and transactions of one block."""
    header, view = block.parsed_header(), VIEWS[market]
    print(f"block {header.height}, hash {header_hash(block.header).hex()}")
    for name, value in header._asdict().items():
        if name != "reserved":
            print(f"  {name}: {value.hex() if isinstance(value, bytes) else value}")
    for slot in range(len(block.signatures) // SIGNATURE_BYTES):
        signature = block.signatures[slot * SIGNATURE_BYTES :][:SIGNATURE_BYTES]
        print(f"  signature {slot}: {signature.hex()[:_HASH_DIGITS]}")
    signal, *records = iterate_records(block.inputs)
    print("signal (prices in token/kWh, energy in kWh)")
    for name in list(signal)[3:]:
        print(f"  {name.removesuffix('_wh')}: {view.units.get(name, tok_per_kwh)(signal[name])}")
    for table in view.inputs:
        of_kind = [each for each in records if each["kind"] == table.kind]
        lines = [(str(i), *(item.shown(each[item.field]) for item in table.columns)) for i, each in enumerate(of_kind)]
        columns = (view.member, *(item.heading for item in table.columns))
        console.print(_table(table.title, columns, lines, words=0))
    traded = [_transaction_line(row) for row in rows if row.energy_wh]
    flows = ("tx", "kind", "payer", "payee", "energy\nkWh", "price\ntoken/kWh", "amount\ntoken")
    title = f"Transactions: {len(traded)} of energy, {len(rows) - len(traded)} of none not shown"
    console.print(_table(title, flows, traded, words=4))


def _transaction_line(row: TransactionRow) -> tuple[str, ...]:
    parties = party(row.payer, row.payer_role), party(row.payee, row.payee_role)
    amounts = kwh(row.energy_wh), tok_per_kwh(row.price_utok_per_wh), tok(row.amount_utok)
    return str(row.sequence), row.kind, *parties, *amounts


def print_transaction(row: TransactionRow, record: dict[str, int]) -> None:
    """One transaction: in words, then its fields as they are in the file."""
    _, kind, payer, payee, energy, price, amount = _transaction_line(row)
    print(f"block {row.block}, transaction {row.sequence}: {kind}, {payer} pays {payee}")
    priced = row.energy_wh * row.price_utok_per_wh == row.amount_utok
    print(f"  {energy} kWh at {price} token/kWh = {amount} token" if priced else f"  {energy} kWh: {amount} token")
    for name, value in record.items():
        print(f"  {name}: {value}")


def print_stats(console: Console, path: Path, stats: LedgerStats) -> None:
    """Totals of a ledger."""
    print(f"{path}: {stats.blocks:,} blocks, {stats.transactions:,} transactions, head {stats.head}")
    print(f"  {stats.file_bytes:,} bytes, {stats.block_bytes:,} per block")
    for name, energy_wh in stats.energy_wh.items():
        print(f"  {name.removesuffix('_wh')}: {kwh(energy_wh)} kWh")
    kinds = [
        (kind.name, f"{each.transactions:,}", f"{each.with_energy:,}", kwh(each.energy_wh), tok(each.amount_utok))
        for kind, each in stats.kinds.items()
    ]
    columns = ("kind", "transactions", "of energy", "energy\nkWh", "amount\ntoken")
    console.print(_table("Transactions by kind", columns, kinds))
    prices = [
        (name, tok_per_kwh(each.least), f"{each.mean / 1000:,.3f}", tok_per_kwh(each.greatest))
        for name, each in stats.prices.items()
    ]
    console.print(_table("Prices over the blocks, token/kWh", ("", "least", "mean", "greatest"), prices))
    console.print(_table("Final balances", ("account", "balance\ntoken"), _balances(stats)))


def _balances(stats: LedgerStats) -> list[tuple[str, str]]:
    accounts = list(zip(stats.roles, stats.balances_utok, strict=True))
    member = accounts[0][0]
    members = [balance for role, balance in accounts if role == member]
    if len(members) > MANY_ACCOUNTS:
        named = (("least", min(members)), ("greatest", max(members)), ("all", sum(members)))
        lines = [(f"{len(members)} {member}s, {name}", tok(balance)) for name, balance in named]
    else:
        lines = [(f"{member} {account}", tok(balance)) for account, balance in enumerate(members)]
    return lines + [(role, tok(balance)) for role, balance in accounts if role != member]
