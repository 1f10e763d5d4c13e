"""What is no store, and stores that were damaged or altered: an error that says where, never a false ok."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from gridmarl.errors import LedgerError
from gridmarl.ledger import LedgerReader, LocatedError, verify
from gridmarl.ledger.export import export_ledger
from gridmarl.ledger.store import LedgerStore
from gridmarl.ledger.store_format import PARTS
from tests.ledger.store_cases import BLOCKS, RULES, execute, full_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return full_store(tmp_path / "ledger.sqlite")


def test_what_is_no_store_is_refused(tmp_path: Path, store: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a database " * 20)
    empty = tmp_path / "empty"
    empty.touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (text, empty, folder):
        with pytest.raises(LedgerError, match="not a database; a ledger store or a new name is allowed"):
            LedgerStore(path, RULES)
    foreign = tmp_path / "foreign"
    execute(foreign, "CREATE TABLE blocks (height INTEGER PRIMARY KEY)")
    with pytest.raises(LedgerError, match="no ledger store: application_id is 0; 1196248147 is allowed"):
        LedgerStore(foreign, RULES)
    assert "no ledger store" in str(verify(foreign).error)
    versions = shutil.copy(store, tmp_path / "versions")
    execute(Path(versions), "PRAGMA user_version = 7")
    views = shutil.copy(store, tmp_path / "views")
    execute(Path(views), "ALTER TABLE blocks RENAME TO others")
    execute(Path(views), "CREATE VIEW blocks AS SELECT * FROM others")
    column = shutil.copy(store, tmp_path / "column")
    execute(Path(column), "ALTER TABLE head ADD COLUMN more INTEGER")
    told = ("schema version 7; 1 is allowed", "wrong schema at ['blocks', 'others']; ", "wrong schema at ['head']; ")
    for changed, message in zip((versions, views, column), told, strict=True):
        with pytest.raises(LedgerError, match=re.escape(message)):
            LedgerStore(changed, RULES)
        verdict = verify(changed)
        assert verdict.error is not None
        assert verdict.error.section == "file"
        assert message in verdict.error.reason


def test_a_store_of_another_genesis_is_refused(store: Path) -> None:
    other = replace(RULES, seed=99)
    with pytest.raises(LedgerError, match=f"genesis {RULES.hash().hex()}; {other.hash().hex()}, that of these rules"):
        LedgerStore(store, other)
    with LedgerStore(store, RULES) as ledger:
        assert ledger.height == len(BLOCKS)


def test_changed_rows_are_located(store: Path, tmp_path: Path) -> None:
    def flipped(part: bytes, at: int) -> bytes:
        return part[:at] + bytes([part[at] ^ 1]) + part[at + 1 :]

    block = BLOCKS[3].block
    set_part = "UPDATE blocks SET {} = ? WHERE height = 3"
    cases: list[tuple[str, tuple[object, ...], int | None, str]] = [
        (set_part.format("inputs"), (flipped(block.inputs, 70),), 3, "inputs"),
        (set_part.format("transactions"), (flipped(block.transactions, 300),), 3, "transactions"),
        (set_part.format("header"), (flipped(block.header, 40),), 3, "header"),
        (set_part.format("hash"), (flipped(BLOCKS[3].hash, 5),), 3, "header"),
        (set_part.format("signatures"), (b"1",), 3, "signatures"),
        (set_part.format("inputs"), (block.inputs[:-1],), 3, "inputs"),
        (set_part.format("inputs"), ("text",), 3, "inputs"),
        (set_part.format("transactions"), (7,), 3, "transactions"),
        ("DELETE FROM blocks WHERE height = 3", (), 3, "header"),
        (f"DELETE FROM blocks WHERE height = {len(BLOCKS) - 1}", (), None, "trailer"),
        ("DELETE FROM blocks", (), None, "trailer"),
        ("UPDATE blocks SET height = 99 WHERE height = 3", (), 3, "header"),
        (f"INSERT INTO blocks SELECT -5, {', '.join(PARTS)}, hash FROM blocks WHERE height = 3", (), None, "file"),
        ("UPDATE head SET block_count = 4", (), None, "trailer"),
        ("UPDATE head SET hash = x'00'", (), None, "trailer"),
        ("UPDATE head SET state_root = zeroblob(32)", (), None, "trailer"),
        ("DELETE FROM head", (), None, "trailer"),
        ("UPDATE genesis SET hash = zeroblob(32)", (), None, "genesis"),
        ("UPDATE genesis SET rules = replace(rules, '\"seed\":1', '\"seed\":2')", (), None, "genesis"),
        ("UPDATE genesis SET rules = zeroblob(1000)", (), None, "genesis"),
        ("DELETE FROM genesis", (), None, "genesis"),
    ]  # fmt: skip
    assert verify(store).ok
    for statement, values, height, section in cases:
        copy = Path(shutil.copy(store, tmp_path / "copy"))
        execute(copy, statement, *values)
        error = verify(copy).error
        assert error is not None, statement
        assert (error.block, error.section) == (height, section), statement
        with pytest.raises(LocatedError):
            export_ledger(copy, tmp_path / "out.bin")
        assert not (tmp_path / "out.bin").exists()


def test_swapped_rows_are_located(store: Path) -> None:
    for old, new in ((2, 77), (5, 2), (77, 5)):
        execute(store, f"UPDATE blocks SET height = {new} WHERE height = {old}")
    error = verify(store).error
    assert error is not None
    assert (error.block, error.section, error.field) == (2, "header", "period")


def test_a_damaged_head_is_not_continued(store: Path) -> None:
    execute(store, "DELETE FROM blocks WHERE height = 9")
    with pytest.raises(LedgerError, match=r"damaged: head and last block \(height 8\) do not agree"):
        LedgerStore(store, RULES)
    execute(store, "DELETE FROM genesis")
    with pytest.raises(LedgerError, match="genesis none; "):
        LedgerStore(store, RULES)


def test_mutated_databases_end_in_a_verdict(store: Path, tmp_path: Path) -> None:
    """Flipped bytes, garbage pages, cut ends: an error each time, or a store in which every block is as it was."""
    data, draws, path = store.read_bytes(), Random(5), tmp_path / "mutated"
    errors = 0
    for number in range(420):
        changed = bytearray(data)
        if number % 7 == 0:
            page = 4096 * draws.randrange(len(data) // 4096)
            changed[page : page + 4096] = draws.randbytes(4096)
        elif number % 7 == 1:
            del changed[draws.randrange(len(data)) :]
        else:
            at = draws.randrange(len(data)) if number % 2 else 4096 * draws.randrange(len(data) // 4096)
            at = min(len(data) - 1, at + draws.randrange(16) * (number % 2 == 0))
            changed[at] ^= 1 << draws.randrange(8)
        path.write_bytes(changed)
        verdict = verify(path)
        if verdict.ok:
            assert (verdict.blocks, verdict.head) == (len(BLOCKS), BLOCKS[-1].hash.hex())
            with LedgerReader.open(path) as reader:
                assert list(reader) == [sealed.block for sealed in BLOCKS]
        else:
            errors += 1
            assert verdict.error is not None
        with suppress(LedgerError), LedgerStore(path, RULES):
            pass
    assert errors > 210
