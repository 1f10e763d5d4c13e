"""The file: round trip, unfinished runs, and malformed bytes that must end in a located error."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import subprocess
import sys

import pytest

from gridmarl.errors import LedgerError
from gridmarl.ledger import LedgerReader, LedgerWriter, Rules, verify, verify_bytes, write_ledger
from gridmarl.ledger.file import FILE_VERSION, MAGIC, Trailer
from gridmarl.ledger.hashing import genesis_hash
from tests.ledger.builders import FULL, SMALL, honest_blocks, honest_file, honest_trailer, save, truth
from tests.oracles.ledger_play import rules_of


def test_round_trip_and_same_bytes(tmp_path):
    rules, sealed = honest_blocks(FULL, episodes=2)
    for name in "ab":
        write_ledger(tmp_path / name, rules, sealed)
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes() == honest_file(FULL, episodes=2)
    assert data != honest_file(FULL, seed=2, episodes=2)
    with LedgerReader.open(tmp_path / "a") as reader:
        assert (reader.rules, reader.genesis_hash, reader.block_count) == (rules, rules.hash(), 10)
        assert list(reader) == [each.block for each in sealed]
        assert reader.block(7) == sealed[7].block
        assert reader.trailer() == honest_trailer(sealed)
        for height in (-1, 10):
            with pytest.raises(LedgerError, match="no such block"):
                reader.block(height)
            with pytest.raises(LedgerError, match="no such block"):
                reader.header(height)


def test_empty_chain_is_a_complete_file(tmp_path):
    write_ledger(tmp_path / "x", Rules(**rules_of(SMALL)), [])
    verdict = verify(tmp_path / "x")
    assert verdict.ok
    assert verdict.blocks == 0


def test_writer_refuses_what_does_not_follow(tmp_path):
    rules, sealed = honest_blocks(FULL)
    with LedgerWriter(tmp_path / "x", rules, sync=True) as writer:
        with pytest.raises(LedgerError, match="block 0: height"):
            writer.append(sealed[1])
        writer.append(sealed[0])
        with pytest.raises(LedgerError, match="block 1: height"):
            writer.append(sealed[0])
        short = sealed[1]._replace(block=sealed[1].block._replace(inputs=sealed[1].block.inputs[:-64]))
        with pytest.raises(LedgerError, match="block 1: inputs"):
            writer.append(short)
        stray = sealed[1].block.parsed_header()._replace(parent=bytes(32))
        with pytest.raises(LedgerError, match="block 1: parent"):
            writer.append(sealed[1]._replace(block=sealed[1].block._replace(header=stray.pack())))
        writer.append(sealed[1])
        writer.close()
    assert verify(tmp_path / "x").ok
    with pytest.raises(LedgerError, match="cannot be created"):
        LedgerWriter(tmp_path / "x", rules)
    with pytest.raises(LedgerError, match="cannot be created"):
        LedgerWriter(tmp_path / "none" / "x", rules)


def test_an_earlier_version_is_refused_with_what_to_do():
    data = bytearray(honest_file(SMALL))
    data[8] = 1
    error = verify_bytes(bytes(data)).error
    assert (error.section, error.field, error.expected, error.seen) == ("file", "version", "2", "1")
    assert "read it with that, or run again" in error.reason
    with pytest.raises(LedgerError, match=r"genesis: version 1, 2 is allowed; .* run again"):
        Rules.from_bytes(b'{"version":1}')


def test_an_error_in_the_run_leaves_no_trailer(tmp_path):
    rules, sealed = honest_blocks(FULL)
    writer = LedgerWriter(tmp_path / "x", rules)
    with contextlib.suppress(KeyError), writer:
        writer.append(sealed[0])
        raise KeyError
    verdict = verify(tmp_path / "x")
    assert (verdict.ok, verdict.blocks, verdict.error.section) == (False, 1, "trailer")
    assert "1 blocks precede" in str(verdict)


KILLED = """
import os, sys
from gridmarl.ledger import LedgerWriter
from tests.ledger.builders import FULL, honest_blocks
rules, sealed = honest_blocks(FULL)
writer = LedgerWriter(sys.argv[1], rules)
for each in sealed[:3]:
    writer.append(each)
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_loses_no_block(tmp_path, repository):
    path = tmp_path / "x"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=repository, check=False)
    assert done.returncode == -9
    verdict = verify(path)
    assert (verdict.ok, verdict.blocks, verdict.residual_utok) == (False, 3, 0)
    assert verdict.error.section == "trailer"
    assert "3 blocks precede" in verdict.error.reason


def test_paths_that_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(LedgerError, match="cannot be opened"):
            verify(path)
    verdict = verify(save(tmp_path / "empty", b""))
    assert (verdict.ok, verdict.error.section) == (False, "file")


def test_truncation_at_every_length():
    data = honest_file(SMALL)
    rules, sealed = honest_blocks(SMALL)
    end = len(data) - 112
    start = end - 2 * len(sealed[0].block.to_bytes())
    assert verify_bytes(data).ok
    for length in range(len(data)):
        verdict = verify_bytes(data[:length])
        block, section, _ = truth(rules, len(sealed), length)
        if length in (start, (start + end) // 2):  # between two blocks: only the trailer is missing
            block, section = None, "trailer"
        assert not verdict.ok
        assert (verdict.error.block, verdict.error.section) == (block, section), length
        assert verdict.blocks == max(0, 2 * (length - start) // (end - start)), length


def test_trailing_bytes():
    data = honest_file(SMALL)
    for extra in (1, 7, 8, 111, 112, 255, 256, 1600, 1727, 1728, 1729, 4000):
        for filler in (b"\0", b"G"):
            verdict = verify_bytes(data + filler * extra)
            assert (verdict.ok, verdict.error.section, verdict.blocks) == (False, "trailer", 2), extra
    assert verify_bytes(data + data).error.section == "trailer"


def test_huge_lengths_do_not_allocate():
    for length in (1 << 20, (1 << 32) - 1):
        verdict = verify_bytes(MAGIC + struct.pack("<II", FILE_VERSION, length) + bytes(100))
        assert (verdict.ok, verdict.error.section) == (False, "genesis")
    rules = Rules(**rules_of(SMALL, horizon_hours=2_147_483_647, shift_deadline_hours=2_147_483_647))
    genesis = rules.to_bytes().replace(b'"num_prosumers":2', b'"num_prosumers":1000000')
    data = MAGIC + struct.pack("<II", FILE_VERSION, len(genesis)) + genesis + genesis_hash(genesis)
    verdict = verify_bytes(data + bytes(1000))
    assert (verdict.ok, verdict.error.section) == (False, "genesis")


def test_a_trailer_that_lies_is_found():
    data = honest_file(SMALL)
    _, sealed = honest_blocks(SMALL)
    trailer = honest_trailer(sealed)
    for change in ({"block_count": 3}, {"block_count": 1}, {"head": bytes(32)}, {"state_root": bytes(32)}):
        verdict = verify_bytes(data[:-112] + trailer._replace(**change).pack())
        assert (verdict.ok, verdict.error.section, verdict.error.field) == (False, "trailer", next(iter(change)))
    assert Trailer(*trailer) == trailer


def test_random_garbage_never_crashes():
    rng = random.Random(5)
    data = bytearray(honest_file(SMALL))
    for _ in range(300):
        assert not verify_bytes(rng.randbytes(rng.randint(0, 300))).ok
        assert not verify_bytes(MAGIC + struct.pack("<I", FILE_VERSION) + rng.randbytes(rng.randint(0, 300))).ok
        broken = bytearray(data)
        start = rng.randrange(len(data))
        broken[start : start + rng.randint(1, 2000)] = rng.randbytes(rng.randint(0, 2000))
        assert bytes(broken) == data or not verify_bytes(bytes(broken)).ok
    with pytest.raises(LedgerError):
        LedgerReader(io.BytesIO(b"garbage"))
