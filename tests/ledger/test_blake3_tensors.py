"""BLAKE3 on tensors against the `blake3` package: lengths, modes, subtrees, fake CUDA, compiled; its benchmark."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from blake3 import blake3
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.hashing import Options, main
from gridmarl.compiler import missing_compiler
from gridmarl.errors import ConfigError
from gridmarl.ledger import blake3_compress, hashing
from gridmarl.ledger.bao_verify import chunk_value, to_bytes
from gridmarl.ledger.blake3_compress import PLAIN, Mode, compiled_compress, derive_key, keyed
from gridmarl.ledger.blake3_tensors import blake3_batch, parent_cv, record_roots, subtree_root, subtree_values
from tests.benchmarks.test_throughput import PROVENANCE

CHUNK = 1024
# lengths, key and context of the official test vectors (test_vectors.json of the BLAKE3 repository)
VECTOR_LENGTHS = (
    *(0, 1, 2, 3, 4, 5, 6, 7, 8, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 2048, 2049, 3072, 3073, 4096, 4097),
    *(5120, 5121, 6144, 6145, 7168, 7169, 8192, 8193, 16384, 31744, 102400),
)
KEY = b"whats the Elvish word for friend"
CONTEXT = "BLAKE3 2019-12-27 16:29:52 test vectors context"
MODES: dict[str, tuple[Mode, dict[str, bytes | str]]] = {
    "plain": (PLAIN, {}),
    "keyed": (keyed(KEY), {"key": KEY}),
    "derive_key": (derive_key(CONTEXT), {"derive_key_context": CONTEXT}),
}


def words_of(messages: list[bytes]) -> Tensor:
    """`[W, L]`; the bytes of the last word beyond the message are garbage."""
    size = -(-len(messages[0]) // 4) * 4
    data = b"".join(message.ljust(size, b"\xa5") for message in messages)
    return torch.from_numpy(np.frombuffer(data, "<i4").reshape(len(messages), size // 4).T.copy())


def digests(hashes: Tensor) -> list[bytes]:
    return [lane.astype("<i4").tobytes() for lane in hashes.T.contiguous().numpy()]


def random_messages(length: int, count: int = 2) -> list[bytes]:
    rng = np.random.default_rng(length)
    return [rng.bytes(length) for _ in range(count)]


def check(length: int, count: int = 2) -> None:
    messages = random_messages(length, count)
    assert digests(blake3_batch(words_of(messages), length)) == [blake3(each).digest() for each in messages], length


def test_lengths_around_blocks_and_chunks() -> None:
    blocks = {at + off for at in range(0, 3 * CHUNK + 1, 64) for off in (-1, 0, 1)}
    chunks = {
        at + off for at in range(0, 8 * CHUNK + 1, CHUNK) for off in (-65, -64, -63, -5, -4, -3, -2, -1, 0, 1, 2, 3)
    }
    rest = set(range(0, 8 * CHUNK + 1, 64))
    for length in sorted(blocks | chunks | rest):
        if 0 <= length <= 8 * CHUNK:
            check(length)


@pytest.mark.slow
def test_every_length_of_a_chunk_and_every_seventh() -> None:
    for length in [*range(CHUNK + 70), *range(CHUNK + 70, 8 * CHUNK, 7)]:
        check(length)


@pytest.mark.parametrize("chunks", [8, 9, 31, 33, 100])
def test_random_longer_lengths(chunks: int) -> None:
    rng = np.random.default_rng(chunks)
    for length in rng.integers(chunks * CHUNK + 1, 2 * chunks * CHUNK, 4):
        check(int(length), 3)


@pytest.mark.parametrize("mode", MODES)
def test_official_vectors(mode: str) -> None:
    """The repeating pattern 0, 1, ..., 250 as the package, the vectors' reference, hashes it."""
    ours, theirs = MODES[mode]
    for length in VECTOR_LENGTHS:
        message = bytes(i % 251 for i in range(length))
        assert digests(blake3_batch(words_of([message]), length, mode=ours)) == [blake3(message, **theirs).digest()]


def test_a_digest_written_out() -> None:
    """The first official vector, so that not everything rests on the package."""
    expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digests(blake3_batch(torch.zeros((0, 1), dtype=torch.int32), 0))[0].hex() == expected


@pytest.mark.parametrize("context", [hashing.HEADER_CONTEXT, hashing.STATE_CONTEXT, "", "µ" * 512])
def test_contexts(context: str) -> None:
    (message,) = random_messages(256, 1)
    expected = blake3(message, derive_key_context=context).digest()
    assert digests(blake3_batch(words_of([message]), 256, mode=derive_key(context))) == [expected]


def test_both_layouts_of_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for threshold in (0, 1 << 62):
        monkeypatch.setattr(blake3_compress, "_WORDS_FROM", threshold)
        for length in (0, 65, 1024, 3100):
            check(length, 5)


def test_more_messages_than_the_threshold() -> None:
    lanes = blake3_compress._WORDS_FROM + 3
    words = torch.from_numpy(np.random.default_rng(0).integers(-(2**31), 2**31, (17, lanes), dtype=np.int32))
    seen = digests(blake3_batch(words, 68))
    for lane in (0, 1, lanes // 2, lanes - 1):
        assert seen[lane] == blake3(words.select(1, lane).numpy().tobytes()).digest()


def test_inputs_are_left_alone() -> None:
    words = words_of(random_messages(2000))
    before = words.clone()
    blake3_batch(words, 2000)
    blake3_batch(words, 1999)
    assert torch.equal(words, before)


def test_records_in_lanes() -> None:
    rng = np.random.default_rng(1)
    packed = torch.from_numpy(rng.integers(-(2**63), 2**63, (3, 18, 8)))  # [lanes, records, 8] int64, as packing gives
    records = packed.view(torch.int32).permute(1, 2, 0).contiguous()
    assert digests(record_roots(records)) == [hashing.section_root(lane.tobytes()) for lane in packed.numpy()]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("lanes", "chunks"), [(2, 1), (8, 1), (4, 2), (16, 4), (2, 8), (3, 2), (7, 1), (13, 4)])
def test_root_of_a_batch(lanes: int, chunks: int, mode: str) -> None:
    ours, theirs = MODES[mode]
    messages = random_messages(chunks * CHUNK, lanes)
    values = subtree_values(words_of(messages), mode=ours)
    assert digests(subtree_root(values, mode=ours).unsqueeze(1)) == [blake3(b"".join(messages), **theirs).digest()]


def test_subtrees_of_subtrees() -> None:
    """Two halves of a batch, hashed apart, join to the hash of the whole."""
    messages = random_messages(2 * CHUNK, 8)
    left = subtree_values(words_of(messages[:4]))
    right = subtree_values(words_of(messages[4:]), first_chunk=8)
    halves = [subtree_root(values, root=False).unsqueeze(1) for values in (left, right)]
    assert digests(parent_cv(*halves, root=True)) == [blake3(b"".join(messages)).digest()]
    assert digests(parent_cv(*halves)) != [blake3(b"".join(messages)).digest()]


@pytest.mark.parametrize("first", [0, 1, 2**31 - 1, 2**31, 2**32 - 2])
def test_chunk_numbers(first: int) -> None:
    """Against the plain Python of the stand-alone verifier, up to the largest number allowed."""
    messages = random_messages(CHUNK)
    expected = [to_bytes(chunk_value(each, first + i, root=False)) for i, each in enumerate(messages)]
    assert digests(subtree_values(words_of(messages), first_chunk=first)) == expected


@pytest.mark.parametrize("length", [0, 100, 2100])
def test_on_fake_cuda(length: int) -> None:
    """The GPU path without a GPU: a hidden host transfer or a mixed device raises."""
    with FakeTensorMode():
        words = torch.empty((-(-length // 4), 6), dtype=torch.int32, device="cuda:0")
        hashes = blake3_batch(words, length, mode=derive_key(CONTEXT))
        assert (hashes.device.type, hashes.shape, hashes.dtype) == ("cuda", (8, 6), torch.int32)


def test_subtrees_on_fake_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blake3_compress, "_WORDS_FROM", 2)  # the last compression has one message, the others more
    with FakeTensorMode():
        root = subtree_root(subtree_values(torch.empty((256, 2), dtype=torch.int32, device="cuda:0")))
        assert (root.device.type, root.shape) == ("cuda", (8,))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor's own imports
@pytest.mark.skipif(missing_compiler(torch.device("cpu")) is not None, reason="no C++ compiler")
def test_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compress = compiled_compress()
    for threshold in (0, 1 << 62):
        monkeypatch.setattr(blake3_compress, "_WORDS_FROM", threshold)
        for lanes, length in ((1, 0), (1, 64), (5, 65), (64, 2100), (33, 5000)):
            messages = random_messages(length, lanes)
            seen = digests(blake3_batch(words_of(messages), length, compress=compress))
            assert seen == [blake3(each).digest() for each in messages]


def int32(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int32)


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match=r"words: torch\.int64"):
        blake3_batch(int32(16, 2).long(), 64)
    with pytest.raises(ConfigError, match=r"words: .*lanes >= 1"):
        blake3_batch(int32(16, 0), 64)
    with pytest.raises(ConfigError, match=r"words: 16 a lane; 17 are allowed \(65 bytes\)"):
        blake3_batch(int32(16, 2), 65)
    with pytest.raises(ConfigError, match="length_bytes: -1"):
        blake3_batch(int32(0, 2), -1)
    with pytest.raises(ConfigError, match=r"records: shape \(2, 15, 1\)"):
        record_roots(int32(2, 15, 1))
    with pytest.raises(ConfigError, match="words: 768 a lane"):
        subtree_values(int32(768, 1))
    with pytest.raises(ConfigError, match="words: 0 a lane"):
        subtree_values(int32(0, 1))
    for first in (1, -2, 2**32 - 2):
        with pytest.raises(ConfigError, match=f"first_chunk: {first}; multiples of 2 from 0 to {2**32 - 4}"):
            subtree_values(int32(512, 2), first_chunk=first)
    with pytest.raises(ConfigError, match=r"left, right: \(8, 2\), \(8, 3\)"):
        parent_cv(int32(8, 2), int32(8, 3))
    with pytest.raises(ConfigError, match=r"left, right: torch\.int32, torch\.int64"):
        parent_cv(int32(8, 2), int32(8, 2).long())
    with pytest.raises(ConfigError, match=r"values: .*K >= 2"):
        subtree_root(int32(8, 1))
    with pytest.raises(ConfigError, match="values: 3 subtrees"):
        subtree_root(int32(8, 3), root=False)
    with pytest.raises(ConfigError, match="key: 31 bytes"):
        keyed(bytes(31))
    with pytest.raises(ConfigError, match="context: 1025 bytes"):
        derive_key("x" * 1025)


def test_benchmark_runs(tmp_path: Path) -> None:
    """Its figures say where they come from. No timing is asserted."""
    out = tmp_path / "hashing.csv"
    main(Options(output=out, quick=True), ["--quick"])
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    routes = [row["route"] for row in rows]
    assert routes == ["copy", "package_per_lane", "package_once", "tensors_per_lane", "tensors_once"]
    assert all(row[name] for row in rows for name in PROVENANCE)
    assert all(float(row["records_per_s"]) > 0 for row in rows)
    assert rows[0]["command"] == "python -m benchmarks.hashing --quick"
