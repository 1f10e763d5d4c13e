"""Rows of a ledger give back its records and add up to what `verify` and the oracle count; a damaged file has none."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter

import pandas as pd
import pytest

from gridmarl.errors import ConfigError, LedgerError, MissingExtraError
from gridmarl.ledger import LocatedError, Rules, verify, write_ledger
from gridmarl.ledger.export import TransactionRow, export_ledger
from gridmarl.ledger.hashing import balance_bytes, state_root
from gridmarl.ledger.records import Kind
from gridmarl.ledger.stats import ledger_stats
from tests.ledger.builders import FULL, SMALL, honest_file, read_blocks, save
from tests.oracles.ledger_play import play_lane, rules_of

TOTALS = {
    "local_wh": "LOCAL_BUY",
    "reduction_wh": "REDUCTION",
    "upstream_import_wh": "UPSTREAM_IMPORT",
    "upstream_export_wh": "UPSTREAM_EXPORT",
}


@pytest.fixture
def ledger(tmp_path):
    return save(tmp_path / "ledger.bin", honest_file(FULL, episodes=2, lane=7))


def read_jsonl(path):
    return [TransactionRow(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def read_csv(path):
    texts = ("kind", "payer_role", "payee_role")
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return [TransactionRow(**{k: v if k in texts else int(v) for k, v in line.items()}) for line in lines]


def read_parquet(path):
    pytest.importorskip("pyarrow")
    frame = pd.read_parquet(path)
    numbers = frame.drop(columns=["kind", "payer_role", "payee_role"])
    assert set(numbers.dtypes.astype(str)) == {"int64"}
    return [TransactionRow(**row) for row in frame.to_dict("records")]


READERS = {"jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet}


@pytest.mark.parametrize("ending", READERS)
def test_rows_give_back_the_records_and_their_totals(ending, ledger, tmp_path):
    out = tmp_path / f"rows.{ending}"
    verdict = export_ledger(ledger, out)
    rows = READERS[ending](out)
    _, blocks = read_blocks(ledger.read_bytes())
    assert b"".join(row.to_record() for row in rows) == b"".join(block.transactions for block in blocks)
    assert [row.block for row in rows] == [height for height in range(10) for _ in range(26)]
    assert verdict == verify(ledger)
    assert len(rows) == verdict.transactions == 260
    energy = Counter()
    for row in rows:
        energy[row.kind] += row.energy_wh
    for name, kind in TOTALS.items():
        assert energy[kind] == verdict.energy_totals[name] > 0
    roles = {row.payer: row.payer_role for row in rows} | {row.payee: row.payee_role for row in rows}
    assert roles == dict(enumerate(("prosumer", "prosumer", "prosumer", "market", "operator", "upstream")))
    assert {path.name for path in tmp_path.iterdir()} == {"ledger.bin", out.name}


@pytest.mark.parametrize("ending", READERS)
def test_large_integers_and_an_empty_chain(ending, tmp_path):
    lane = (1 << 63) - 1  # beyond what a float holds
    out = tmp_path / f"rows.{ending}"
    export_ledger(save(tmp_path / "ledger.bin", honest_file(SMALL, lane=lane)), out)
    assert {row.lane for row in READERS[ending](out)} == {lane}
    write_ledger(tmp_path / "empty", Rules(**rules_of(SMALL)), [])
    assert export_ledger(tmp_path / "empty", out).blocks == 0
    assert READERS[ending](out) == []


def test_stats_are_those_of_the_oracle(ledger):
    stats, verdict, hours = ledger_stats(ledger), verify(ledger), play_lane(FULL, 1, episodes=2)
    assert (stats.blocks, stats.transactions, stats.head) == (10, 260, verdict.head)
    assert stats.energy_wh == verdict.energy_totals
    assert (stats.file_bytes, stats.block_bytes) == (ledger.stat().st_size, 256 + 64 * 7 + 64 * 26)
    assert list(stats.kinds) == [Kind(code) for code in range(1, 11)]
    for code, each in list(stats.kinds.items())[:8]:
        tables = [(hour["flow_wh"][code - 1], hour["flow_price"][code - 1]) for hour in hours]
        flows = [flow for table in tables for flow in zip(*table, strict=True)]
        assert each.transactions == len(flows) == 30
        assert each.with_energy == sum(energy > 0 for energy, _ in flows)
        assert each.energy_wh == sum(energy for energy, _ in flows)
        assert each.amount_utok == sum(energy * price for energy, price in flows)
    imported = [hour["upstream_wh"][0] * hour["import_price"] for hour in hours]
    assert stats.kinds[Kind.UPSTREAM_IMPORT].amount_utok == sum(imported)
    for name in ("import_price", "export_price", "price", "dr_price"):
        prices = [hour[name] for hour in hours]
        seen = stats.prices[name]
        assert (seen.least, seen.mean, seen.greatest) == (min(prices), sum(prices) / 10, max(prices))
    assert stats.balances_utok == hours[-1]["balances"]
    _, blocks = read_blocks(ledger.read_bytes())
    assert state_root(balance_bytes(stats.balances_utok)) == blocks[-1].parsed_header().state_root
    assert stats.roles == ["prosumer"] * 3 + ["market", "operator", "upstream"]


def test_stats_of_an_empty_chain(tmp_path):
    write_ledger(tmp_path / "empty", Rules(**rules_of(SMALL)), [])
    stats = ledger_stats(tmp_path / "empty")
    assert (stats.blocks, stats.transactions, stats.balances_utok) == (0, 0, [1000, 1000, 0, 1000, 1000])
    assert stats.prices["price"].greatest == 0


def test_damaged_files_are_refused_with_what_verify_says(tmp_path):
    data = honest_file(FULL)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for content in (bytes(flipped), data[:-1], data[: len(data) // 2], data + b"x", b""):
        path, out = save(tmp_path / "damaged", content), tmp_path / "rows.jsonl"
        out.write_text("from before")
        for read in (ledger_stats, lambda path, out=out: export_ledger(path, out)):
            with pytest.raises(LocatedError) as error:
                read(path)
            assert error.value.location == verify(path).error
        assert out.read_text() == "from before"
        assert {each.name for each in tmp_path.iterdir()} == {"damaged", "rows.jsonl"}


def test_what_cannot_be_written_is_named(ledger, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name, told in (("rows.txt", "ends in .jsonl, .parquet, .csv"), ("rows", "ends in"), ("folder.csv", "a folder"),
                       ("none/rows.csv", "no folder")):  # fmt: skip
        with pytest.raises(ConfigError, match=told) as error:
            export_ledger(ledger, tmp_path / name)
        assert name in str(error.value)


def test_parquet_without_pyarrow_says_what_to_install(ledger, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"^Parquet needs pyarrow: pip install 'gridmarl\[parquet\]'$"):
        export_ledger(ledger, tmp_path / "rows.parquet")
    assert export_ledger(ledger, tmp_path / "rows.csv").ok


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (verify, ledger_stats):
        with pytest.raises(LedgerError, match="not a regular file"):
            read(tmp_path / "pipe")
