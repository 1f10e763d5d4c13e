"""Transactions of a ledger as rows: JSONL, CSV or Parquet, one row per transaction, units in the column names.

And a ledger store as the canonical file (.bin), byte for byte what LedgerWriter would have written.
Only a ledger that verifies is exported. Integers stay integers, so that a row gives back the 64 bytes of its record.

| column            | meaning                                                                                   |
|-------------------|-------------------------------------------------------------------------------------------|
| block             | height, from 0                                                                            |
| sequence          | position in the block, from 0                                                             |
| lane              | lane of the batch                                                                         |
| period            | hour (of charging quotas: half hour) of the episode                                       |
| kind              | name of the flow (docs/market-rules.md, docs/quota-rules.md), such as LOCAL_BUY           |
| payer, payee      | accounts: prosumers, market, operator, upstream grid; stations, DSO                       |
| payer_role, payee_role | prosumer, market, operator or upstream; station or dso                               |
| energy_wh         | energy                                                                                    |
| price_utok_per_wh | price; 1 µtok/Wh is 0.001 token/kWh; of quotas 0 where no whole price gives the amount    |
| amount_utok       | what the payer pays, energy times price; negative where the price is: the payee then pays |
| principal_utok    | of INTEREST, which has neither energy nor price: what it is due on; else 0                |
"""

from __future__ import annotations

import csv
import json
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gridmarl.errors import ConfigError, MissingExtraError
from gridmarl.ledger.block import SealedBlock
from gridmarl.ledger.file import LedgerWriter
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.records import FIELDS, KINDS, encode_record, iterate_records
from gridmarl.ledger.verify import Verdict, verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gridmarl.ledger.block import Block
    from gridmarl.ledger.chain_rules import ChainRules
    from gridmarl.ledger.reader import LedgerReader

FORMATS = (".jsonl", ".parquet", ".csv", ".bin")
_TEXTS = ("kind", "payer_role", "payee_role")
_KIND_BY_NAME = {kind.name: number for number, kind in KINDS.items()}


class TransactionRow(NamedTuple):
    """One transaction; columns as in the module's table."""

    block: int
    sequence: int
    lane: int
    period: int
    kind: str
    payer: int
    payee: int
    payer_role: str
    payee_role: str
    energy_wh: int
    price_utok_per_wh: int
    amount_utok: int
    principal_utok: int = 0

    def to_record(self) -> bytes:
        """The 64 bytes of the transaction in the ledger.

        Raises:
            LedgerError: a value does not fit its field.
            KeyError: an unknown kind.
        """
        values = {name: value for name, value in self._asdict().items() if name not in ("block", *_TEXTS)}
        kind = _KIND_BY_NAME[self.kind]
        values[FIELDS[kind][-1].name] = values.pop("principal_utok")
        return encode_record(values | {"kind": kind, "flags": 0})


def transaction_rows(blocks: Iterable[Block], rules: ChainRules, first: int = 0) -> Iterator[TransactionRow]:
    """Rows of verified blocks that follow each other, the first of height `first`."""
    for height, block in enumerate(blocks, first):
        for record in iterate_records(block.transactions):
            payer, payee = record["payer"], record["payee"]
            yield TransactionRow(
                block=height,
                sequence=record["sequence"],
                lane=record["lane"],
                period=record["period"],
                kind=KINDS[record["kind"]].name,
                payer=payer,
                payee=payee,
                payer_role=rules.account_role(payer),
                payee_role=rules.account_role(payee),
                energy_wh=record["energy_wh"],
                price_utok_per_wh=record["price_utok_per_wh"],
                amount_utok=record["amount_utok"],
                principal_utok=record.get("principal_utok", 0),
            )


def export_ledger(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Verdict:
    """Verify a ledger (file or store) and write it to `out`, replaced if it exists, whole or not at all.

    The ending of `out` decides the format: .jsonl, .csv, .parquet (which holds all rows in memory) have one row for
    each transaction; .bin is the canonical ledger file with all blocks and a trailer.

    Returns:
        The verdict; as many rows were written as it counts transactions.

    Raises:
        ConfigError: another ending, a folder, or no folder to write to.
        MissingExtraError: Parquet without pyarrow.
        LedgerError: the ledger cannot be read; LocatedError if it does not verify.
        OSError: `out` cannot be written.
    """
    target = Path(out)
    _check_target(target)
    part = target.with_name(target.name + ".part")
    try:
        with verified(path) as (reader, verdict):
            if target.suffix == ".bin":
                _write_canonical(part, reader)
            else:
                _WRITERS[target.suffix](part, transaction_rows(reader, reader.rules))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return verdict


def _check_target(target: Path) -> None:
    if target.suffix not in FORMATS:
        raise ConfigError(f"out = {target}; a name that ends in {', '.join(FORMATS)} is allowed")
    if target.is_dir():
        raise ConfigError(f"out = {target}: a folder; a file is allowed")
    if not target.parent.is_dir():
        raise ConfigError(f"out = {target}: there is no folder {target.parent}")
    if target.suffix == ".parquet":
        try:
            import_module("pyarrow")
        except ImportError as error:
            raise MissingExtraError("Parquet needs pyarrow: pip install 'gridmarl[parquet]'") from error


def _write_canonical(path: Path, reader: LedgerReader) -> None:
    path.unlink(missing_ok=True)
    with LedgerWriter(path, reader.rules) as writer:
        for block in reader:
            writer.append(SealedBlock(block, header_hash(block.header)))


def _write_jsonl(path: Path, rows: Iterator[TransactionRow]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row._asdict()) + "\n")


def _write_csv(path: Path, rows: Iterator[TransactionRow]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(TransactionRow._fields)
        writer.writerows(rows)


def _write_parquet(path: Path, rows: Iterator[TransactionRow]) -> None:
    from pandas import DataFrame  # here: importing gridmarl loads no pandas

    types = {name: "str" if name in _TEXTS else "int64" for name in TransactionRow._fields}
    frame = DataFrame(list(rows), columns=list(TransactionRow._fields)).astype(types)
    frame.to_parquet(path, engine="pyarrow", index=False)


_WRITERS = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}
