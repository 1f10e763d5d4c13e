"""The SQLite store: what it takes and refuses, one writer, readers, full disks, rights."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gridmarl.errors import LedgerError
from gridmarl.ledger import LedgerReader, LocatedError, SealedBlock, prove, verify, write_ledger
from gridmarl.ledger.block import Header
from gridmarl.ledger.export import export_ledger
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.stats import ledger_stats
from gridmarl.ledger.store import LedgerStore
from gridmarl.ledger.store_format import PARTS
from gridmarl.ledger.store_reader import StoreReader
from tests.ledger.builders import SMALL, honest_blocks, with_record
from tests.ledger.store_cases import BLOCKS, RULES, append_all, full_store
from tests.ledger.store_processes import EPISODES

NOBODY = 65534


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return full_store(tmp_path / "ledger.sqlite")


@pytest.mark.parametrize("sync", [False, True])
def test_a_store_reads_verifies_and_exports_like_the_file(tmp_path: Path, sync: bool) -> None:
    file = tmp_path / "whole.bin"
    write_ledger(file, RULES, BLOCKS)
    path = full_store(tmp_path / "a b#?%.sqlite", sync=sync)
    stored, filed = verify(path), verify(file)
    assert stored.ok
    assert replace(stored, may_grow=False) == filed
    assert (stored.may_grow, filed.may_grow) == (True, False)
    with LedgerReader.open(path) as reader, LedgerReader.open(file) as other:
        assert isinstance(reader, StoreReader)
        assert (reader.rules, reader.genesis_hash) == (RULES, other.genesis_hash)
        assert (reader.block_count, reader.block_bytes) == (len(BLOCKS), other.block_bytes)
        assert list(reader) == list(other) == [sealed.block for sealed in BLOCKS]
        assert [reader.header(height) for height in range(3)] == [other.header(height) for height in range(3)]
        assert reader.trailer() == other.trailer()
        for height in (-1, len(BLOCKS)):
            with pytest.raises(LocatedError, match=f"block {height}, header: no such block"):
                reader.block(height)
    out = tmp_path / "out.bin"
    for source in (path, file):
        assert export_ledger(source, out).blocks == len(BLOCKS)
        assert out.read_bytes() == file.read_bytes()
    assert prove(path, 3, 5) == prove(file, 3, 5)
    ours, theirs = ledger_stats(path), ledger_stats(file)
    assert replace(ours, file_bytes=0) == replace(theirs, file_bytes=0)
    assert ours.file_bytes >= path.stat().st_size


def test_a_store_without_blocks(tmp_path: Path) -> None:
    full_store(tmp_path / "s", [])
    verdict = verify(tmp_path / "s")
    assert (verdict.ok, verdict.blocks, verdict.head) == (True, 0, RULES.hash().hex())


def test_every_part_of_a_block_is_a_column(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        rows = connection.execute(f"SELECT height, {', '.join(PARTS)}, hash FROM blocks ORDER BY height").fetchall()
    assert rows == [(height, *sealed.block, sealed.hash) for height, sealed in enumerate(BLOCKS)]


def test_only_the_next_block_is_taken(tmp_path: Path) -> None:
    short = BLOCKS[0].block._replace(inputs=BLOCKS[0].block.inputs[:-64])
    refused = [
        (BLOCKS[1], "block 0: height is 1; 0 is allowed"),
        (BLOCKS[0]._replace(hash=BLOCKS[1].hash), "block 0: hash is [0-9a-f]{64}; [0-9a-f]{64} is allowed"),
        (SealedBlock(short, BLOCKS[0].hash), "block 0: inputs is 384; 448 is allowed"),
        (_other_parent(BLOCKS[0]), "block 0: parent is 0000"),
    ]
    with LedgerStore(tmp_path / "s", RULES) as ledger:
        for sealed, message in refused:
            with pytest.raises(LedgerError, match=message):
                ledger.append(sealed)
        assert (ledger.height, ledger.head) == (0, RULES.hash())
        ledger.append(BLOCKS[0])
        assert (ledger.height, ledger.head) == (1, BLOCKS[0].hash)


def _other_parent(sealed: SealedBlock) -> SealedBlock:
    header = sealed.block.parsed_header()._replace(parent=bytes(32)).pack()
    return SealedBlock(sealed.block._replace(header=header), header_hash(header))


def test_a_store_continues_and_takes_the_same_blocks_again_only(tmp_path: Path) -> None:
    path = full_store(tmp_path / "s", BLOCKS[:6])
    other = with_record(BLOCKS[4].block, "transactions", 7, energy_wh=12345)
    header = Header.unpack(other.header)._replace(nonce=1).pack()
    with LedgerStore(path, RULES) as ledger:
        assert (ledger.height, ledger.head) == (6, BLOCKS[5].hash)
        for sealed in BLOCKS[2:]:
            ledger.append(sealed)
        with pytest.raises(LedgerError, match=r"block 4 is there already and differs in transactions \(record 7\);"):
            ledger.append(SealedBlock(other, BLOCKS[4].hash))
        with pytest.raises(LedgerError, match=r"block 4 .* in header \(nonce\), transactions \(record 7\)"):
            ledger.append(SealedBlock(other._replace(header=header), header_hash(header)))
        assert ledger.height == len(BLOCKS)
    assert verify(path).head == BLOCKS[-1].hash.hex()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with LedgerStore(path, RULES) as first:
        for wait_s, told in ((0.0, "waited 0 s"), (0.05, "waited 0.05 s")):
            with pytest.raises(LedgerError, match=rf"another process writes it \({told}\); one at a time is allowed"):
                LedgerStore(path, RULES, wait_s=wait_s)
        first.append(BLOCKS[0])
    first.close()
    with LedgerStore(path, RULES) as second:
        assert second.height == 1


def test_readers_see_prefixes_while_another_process_writes_and_after_it_is_killed(
    tmp_path: Path, repository: Path
) -> None:
    path = tmp_path / "s.sqlite"
    rules, sealed = honest_blocks(SMALL, episodes=EPISODES)

    def start(task: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.ledger.store_processes", task, path]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=repository, env=environment, stdin=pipe, stdout=pipe, text=True)

    with start("write") as writer, start("read") as one, start("read") as other:
        for process in (writer, one, other):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (writer, one, other):
            assert process.stdin is not None
            print("go", file=process.stdin, flush=True)
        with pytest.raises(LedgerError, match="another process writes it"):
            LedgerStore(path, rules)
        seen = [reader.communicate()[0].split() for reader in (one, other)]
        assert writer.stdout is not None
        assert writer.stdout.readline() == "done\n"
        writer.send_signal(signal.SIGKILL)
    for prefix, *lengths in seen:
        assert prefix == "True"
        assert len(lengths) > 2
        assert int(lengths[-1]) == len(sealed)
    assert Path(f"{path}-wal").stat().st_size > 0
    assert verify(path).blocks == len(sealed)
    with LedgerStore(path, rules) as ledger:
        assert (ledger.height, ledger.head) == (len(sealed), sealed[-1].hash)


def test_a_reader_keeps_its_snapshot(tmp_path: Path) -> None:
    with LedgerStore(tmp_path / "s", RULES) as ledger:
        ledger.append(BLOCKS[0])
        with LedgerReader.open(tmp_path / "s") as reader:
            for sealed in BLOCKS[1:]:
                ledger.append(sealed)
            assert (reader.block_count, reader.trailer().block_count) == (1, 1)
            assert list(reader) == [BLOCKS[0].block]
        assert verify(tmp_path / "s").blocks == len(BLOCKS)


def test_reading_in_the_writer_s_process_keeps_its_locks(tmp_path: Path, repository: Path) -> None:
    """Whoever opens and closes the database by itself drops POSIX locks; another process then takes the log away."""
    path = tmp_path / "s"
    with LedgerStore(path, RULES) as ledger:
        ledger.append(BLOCKS[0])
        assert verify(path).ok
        other = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM head').fetchall()"
        subprocess.run([sys.executable, "-c", f"{other}; c.close()", path], check=True, cwd=repository)
        assert Path(f"{path}-wal").exists()
        for sealed in BLOCKS[1:]:
            ledger.append(sealed)
    assert verify(path).blocks == len(BLOCKS)


def test_a_kill_before_any_statement_leaves_whole_blocks(tmp_path: Path) -> None:
    """The files as they are when a statement begins are what a SIGKILL then would leave."""
    path, moments = tmp_path / "s", []
    with LedgerStore(path, RULES) as ledger:

        def snapshot(statement: str) -> None:
            copy = tmp_path / f"{len(moments)}"
            for end in ("", "-wal"):
                shutil.copy(f"{path}{end}", f"{copy}{end}")
            moments.append((copy, statement.split()[0], ledger.height))

        ledger.append(BLOCKS[0])
        ledger._connection.set_trace_callback(snapshot)
        append_all(ledger, BLOCKS[1:5])
        ledger._connection.set_trace_callback(None)
    assert [(first, height) for _, first, height in moments] == [
        (first, height) for height in range(1, 5) for first in ("BEGIN", "INSERT", "UPDATE", "COMMIT")
    ]
    for copy, statement, acknowledged in moments:
        verdict = verify(copy)
        assert (verdict.ok, verdict.blocks) == (True, acknowledged), statement
        with LedgerStore(copy, RULES) as continued:
            append_all(continued, BLOCKS[acknowledged:])
        assert verify(copy).head == BLOCKS[-1].hash.hex()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes beyond `size` fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("sync", [False, True])
def test_a_full_disk_keeps_what_was_acknowledged_and_goes_on_when_there_is_space(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "s"
    with LedgerStore(path, RULES, sync=sync) as ledger:
        ledger.append(BLOCKS[0])
        with largest_file(65_536):
            with pytest.raises(LedgerError, match=r"cannot be written at block \d+: .*(disk is full|disk may be full)"):
                append_all(ledger, BLOCKS[1:])
            kept = ledger.height
            assert 1 < kept < len(BLOCKS)
            with pytest.raises(LedgerError, match=f"cannot be written at block {kept}"):
                ledger.append(BLOCKS[kept])
            verdict = verify(path)
            assert (verdict.ok, verdict.blocks, verdict.head) == (True, kept, BLOCKS[kept - 1].hash.hex())
        for sealed in BLOCKS[kept:]:
            ledger.append(sealed)
    assert verify(path).blocks == len(BLOCKS)


def test_sqlite_s_own_full_is_told(tmp_path: Path) -> None:
    with LedgerStore(tmp_path / "s", RULES) as ledger:
        ledger._connection.execute("PRAGMA max_page_count = 12")
        with pytest.raises(LedgerError, match=r"cannot be written at block \d: the disk is full \(database or disk is"):
            append_all(ledger, BLOCKS)
        ledger._connection.execute("PRAGMA max_page_count = 1000")
        for sealed in BLOCKS[ledger.height :]:
            ledger.append(sealed)
    assert verify(tmp_path / "s").blocks == len(BLOCKS)


def test_an_error_inside_a_transaction_takes_it_back(tmp_path: Path) -> None:
    with LedgerStore(tmp_path / "s", RULES) as ledger:
        refuse = "CREATE TEMP TRIGGER refuse BEFORE UPDATE ON head BEGIN SELECT RAISE(ABORT, 'not now'); END"
        ledger._connection.execute(refuse)
        with pytest.raises(LedgerError, match="cannot be written at block 0: not now"):
            ledger.append(BLOCKS[0])
        ledger._connection.execute("DROP TRIGGER refuse")
        append_all(ledger, BLOCKS)
    assert verify(tmp_path / "s").blocks == len(BLOCKS)


def test_no_space_for_a_new_store_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with largest_file(4096), pytest.raises(LedgerError, match=r"cannot be created: .*disk"):
        LedgerStore(path, RULES)
    assert not path.exists()
    assert verify(full_store(path)).ok


@contextmanager
def open_to_nobody() -> Iterator[Path]:
    """A folder; inside the block this process may do what nobody may (root may write everywhere)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def give_up_rights(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


def test_a_folder_or_file_that_may_only_be_read() -> None:
    with open_to_nobody() as folder:
        path = full_store(folder / "s")
        (folder / "s-lock").unlink()
        give_up_rights(folder)
        with pytest.raises(
            LedgerError, match=r"ledger store .*/s: cannot be locked by s-lock beside it: it may not be"
        ):
            LedgerStore(path, RULES)
        with pytest.raises(LedgerError, match=r"ledger store .*/new: cannot be locked"):
            LedgerStore(folder / "new", RULES)
        assert verify(path).blocks == len(BLOCKS)
        assert sorted(found.name for found in folder.iterdir()) == ["s"]


def test_a_file_that_may_only_be_read_in_a_folder_of_one_s_own() -> None:
    with open_to_nobody() as folder:
        path = full_store(folder / "s")
        give_up_rights(folder)
        if os.geteuid() == NOBODY:
            os.seteuid(0)
            folder.chmod(0o777)
            (folder / "s-lock").chmod(0o666)
            os.seteuid(NOBODY)
        else:
            folder.chmod(0o755)
            (folder / "s-lock").chmod(0o644)
        with pytest.raises(LedgerError, match=r"ledger store .*/s: cannot be written: it may only be read"):
            LedgerStore(path, RULES)


def test_a_log_in_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    with open_to_nobody() as folder:
        with LedgerStore(tmp_path / "s", RULES) as ledger:
            ledger.append(BLOCKS[0])
            for end in ("", "-wal"):
                shutil.copy(f"{tmp_path}/s{end}", folder / f"s{end}")
        give_up_rights(folder)
        with pytest.raises(LedgerError, match="with its log s-wal it can be read from a folder of your own"):
            verify(folder / "s")


def test_no_folder_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be locked by s-lock beside it"):
        LedgerStore(tmp_path / "missing" / "s", RULES)
    with pytest.raises(LedgerError, match="cannot be opened"):
        verify(tmp_path / "s")


def test_a_leftover_of_a_creation_that_was_killed_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "s.part").write_bytes(b"half a store")
    (tmp_path / "s.part-wal").write_bytes(b"its log")
    assert verify(full_store(tmp_path / "s")).ok
    assert sorted(path.name for path in tmp_path.iterdir() if "part" in path.name) == []


def test_sync_waits_for_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watched(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        fsync(file)

    with LedgerStore(tmp_path / "s", RULES) as ledger:
        ledger.append(BLOCKS[0])
        monkeypatch.setattr(os, "fsync", watched)
        ledger.sync()
    assert synced == [str(tmp_path / "s-wal")]
