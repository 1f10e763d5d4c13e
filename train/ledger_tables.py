"""What `gridmarl ledger show` and `stats` print: the ledger's integers as exact decimals in kWh, token/kWh, token."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from gridmarl.ledger.block import SIGNATURE_BYTES, Block
from gridmarl.ledger.export import TransactionRow
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.reader import LedgerReader
from gridmarl.ledger.records import RECORD_BYTES, Kind, decode_record, iterate_records
from gridmarl.ledger.stats import LedgerStats
from gridmarl.ledger.verify import Verdict

_HASH_DIGITS, _MANY_HASHES = 16, 4
MANY_ACCOUNTS = 20  # more prosumers than this are summed up


def fixed(value: int, decimals: int) -> str:
    """`value / 10**decimals`, exactly, thousands separated."""
    whole, part = divmod(abs(value), 10**decimals)
    return f"{'-' if value < 0 else ''}{whole:,}.{part:0{decimals}d}"


def kwh(energy_wh: int) -> str:
    """Energy in kWh."""
    return fixed(energy_wh, 3)


def tok_per_kwh(price_utok_per_wh: int) -> str:
    """Price in token/kWh: 1 µtok/Wh is 0.001 token/kWh."""
    return fixed(price_utok_per_wh, 3)


def tok(amount_utok: int) -> str:
    """Money in token."""
    return fixed(amount_utok, 6)


def party(account: int, role: str) -> str:
    """An account by name."""
    return f"prosumer {account}" if role == "prosumer" else role


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
    for item in fields(reader.rules):  # repr: a text of the file may hold what a terminal would obey
        print(f"  {item.name}: {_shown(getattr(reader.rules, item.name))}")
    columns = ("block", "hour", "import", "export", "price", "DR price", "traded\nkWh", "shortage\nkWh", "hash")
    console.print(_table("Blocks, prices in token/kWh", columns, map(_block_line, reader), words=0))


def _shown(value: object) -> str:
    """A value of the rules, cut short: of hashes and keys the first digits, as in the table of blocks."""
    if isinstance(value, tuple) and any(isinstance(item, str) for item in value):
        more = ", ..." if len(value) > _MANY_HASHES else ""
        return ", ".join(str(item)[:_HASH_DIGITS] for item in value[:_MANY_HASHES]) + more
    return reprlib.repr(value)


def _block_line(block: Block) -> tuple[str, ...]:
    header, signal = block.parsed_header(), decode_record(block.inputs[:RECORD_BYTES])
    prices = (signal[name] for name in ("import_price", "export_price", "price", "dr_price"))
    energies = (kwh(signal[name]) for name in ("volume_wh", "shortage_wh"))
    identity = header_hash(block.header).hex()[:_HASH_DIGITS]
    return str(header.height), str(header.period), *map(tok_per_kwh, prices), *energies, identity


def print_block(console: Console, block: Block, rows: Sequence[TransactionRow]) -> None:
    """Header, orders, meter readings and transactions of one block."""
    header = block.parsed_header()
    print(f"block {header.height}, hash {header_hash(block.header).hex()}")
    for name, value in header._asdict().items():
        if name != "reserved":
            print(f"  {name}: {value.hex() if isinstance(value, bytes) else value}")
    for slot in range(len(block.signatures) // SIGNATURE_BYTES):
        signature = block.signatures[slot * SIGNATURE_BYTES :][:SIGNATURE_BYTES]
        print(f"  signature {slot}: {signature.hex()[:_HASH_DIGITS]}")
    signal, *records = iterate_records(block.inputs)
    units: dict[str, Callable[[int], str]] = {"alpha_permille": str, "shortage_wh": kwh, "volume_wh": kwh}
    print("signal (prices in token/kWh, energy in kWh)")
    for name in list(signal)[3:]:
        print(f"  {name.removesuffix('_wh')}: {units.get(name, tok_per_kwh)(signal[name])}")
    orders = [each for each in records if each["kind"] == Kind.ORDER]
    shown = (("buy_price", tok_per_kwh), ("buy_wh", kwh), ("sell_price", tok_per_kwh), ("sell_wh", kwh))
    bids = [(str(i), *(unit(each[name]) for name, unit in shown)) for i, each in enumerate(orders)]
    columns = ("prosumer", "buy at\ntoken/kWh", "buy\nkWh", "sell at\ntoken/kWh", "sell\nkWh")
    console.print(_table("Orders", columns, bids, words=0))
    meters = [each for each in records if each["kind"] == Kind.METER]
    names = [name for name in meters[0] if name.endswith("_wh")]
    readings = [(str(i), *(kwh(each[name]) for name in names)) for i, each in enumerate(meters)]
    headings = ("prosumer", *(name.removesuffix("_wh") for name in names))
    console.print(_table("Meter readings and reductions offered, kWh", headings, readings, words=0))
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
    print(f"  {energy} kWh at {price} token/kWh = {amount} token")
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
    console.print(_table("Prices over the hours, token/kWh", ("", "least", "mean", "greatest"), prices))
    console.print(_table("Final balances", ("account", "balance\ntoken"), _balances(stats)))


def _balances(stats: LedgerStats) -> list[tuple[str, str]]:
    accounts = list(zip(stats.roles, stats.balances_utok, strict=True))
    prosumers = [balance for role, balance in accounts if role == "prosumer"]
    if len(prosumers) > MANY_ACCOUNTS:
        named = (("least", min(prosumers)), ("greatest", max(prosumers)), ("all", sum(prosumers)))
        lines = [(f"{len(prosumers)} prosumers, {name}", tok(balance)) for name, balance in named]
    else:
        lines = [(f"prosumer {account}", tok(balance)) for account, balance in enumerate(prosumers)]
    return lines + [(role, tok(balance)) for role, balance in accounts if role != "prosumer"]
