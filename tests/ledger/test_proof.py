"""Inclusion proofs: every size, and proofs that must not hold."""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path

import pytest
from blake3 import blake3

from gridmarl.errors import LedgerError
from gridmarl.ledger import InclusionProof, bao_verify, prove
from gridmarl.ledger.block import Header
from gridmarl.ledger.hashing import HEADER_CONTEXT, header_hash
from gridmarl.ledger.proof import ChunkTree
from tests.ledger.builders import honest_blocks, honest_file, save
from tests.oracles.ledger_play import Play

DATA = random.Random(1).randbytes(64 * 3000)
PLAY = Play(P=9, H=2)  # 74 transactions: five chunks, the last one short


def root_of(count: int) -> bytes:
    return blake3(DATA[: 64 * count]).digest()


@pytest.mark.parametrize("first", range(0, 201, 50))
def test_every_small_size(first):
    for count in range(first, min(first + 50, 201)):
        tree = ChunkTree(DATA[: 64 * count])
        assert tree.count == count
        for index in {0, count // 2, count - 16, count - 1} & set(range(count)):
            record = bao_verify.verify_record(root_of(count), count, index, tree.prove(index))
            assert record == DATA[64 * index : 64 * index + 64]
        for index in (-1, count):
            with pytest.raises(LedgerError):
                tree.prove(index)
            with pytest.raises(ValueError, match="index"):
                bao_verify.verify_record(root_of(count), count, index, DATA[:64])


@pytest.mark.parametrize("count", [257, 511, 512, 513, 1000, 1025, 2048, 3000])
def test_large_sizes(count):
    tree = ChunkTree(DATA[: 64 * count])
    for index in (0, 15, 16, count // 2, count - 17, count - 1):
        assert bao_verify.verify_record(root_of(count), count, index, tree.prove(index)) == DATA[64 * index :][:64]


def test_every_index_of_one_size():
    tree = ChunkTree(DATA[: 64 * 83])
    for index in range(83):
        assert bao_verify.verify_record(root_of(83), 83, index, tree.prove(index)) == DATA[64 * index :][:64]


def test_every_single_bit_of_a_proof_matters():
    tree, root = ChunkTree(DATA[: 64 * 35]), root_of(35)
    proof = bytearray(tree.prove(33))
    assert len(proof) == 3 * 64 + 32
    for offset in range(len(proof)):
        proof[offset] ^= 1 << offset % 8
        with pytest.raises(ValueError, match="path, root"):
            bao_verify.verify_record(root, 35, 33, bytes(proof))
        proof[offset] ^= 1 << offset % 8


def test_invalid_proofs():
    count, index = 74, 37
    tree, root = ChunkTree(DATA[: 64 * count]), root_of(count)
    proof = tree.prove(index)
    path = [proof[at : at + 32] for at in range(1024, len(proof), 32)]
    assert len(path) == 3
    invalid = {
        "truncated": proof[:-32], "one byte less": proof[:-1], "extended": proof + bytes(32), "empty": b"",
        "reordered": proof[:1024] + path[1] + path[0] + path[2], "without chunk": b"".join(path),
        "records swapped": proof[64:128] + proof[:64] + proof[128:],
        "other path": proof[:1024] + tree.prove(0)[1024:], "other chunk": tree.prove(0)[:1024] + proof[1024:],
        "other block": ChunkTree(DATA[64 : 64 * (count + 1)]).prove(index),
    }  # fmt: skip
    for name, bad in invalid.items():
        with pytest.raises(ValueError, match="path, "):
            raise AssertionError(name, bao_verify.verify_record(root, count, index, bad))
    for other in set(range(count)) - set(range(32, 48)):
        with pytest.raises(ValueError, match="path, "):
            bao_verify.verify_record(root, count, other, proof)
    for other in range(32, 48):  # the same chunk: the neighbours are shown, each as itself
        assert bao_verify.verify_record(root, count, other, proof) == DATA[64 * other :][:64]
    for wrong in (38, 47, 64, 129, 3000):  # counts that give the chunk another length or place
        with pytest.raises(ValueError, match="path, "):
            bao_verify.verify_record(root, wrong, index, proof)


def test_a_chaining_value_is_no_record():
    """A parent's two children, passed off as records, do not lead to the root."""
    tree, root = ChunkTree(DATA[: 64 * 32]), root_of(32)
    left, right = tree.prove(16)[1024:], tree.prove(0)[1024:]
    with pytest.raises(ValueError, match="path, "):
        bao_verify.verify_record(root, 1, 0, left + right)


def test_header_hash_is_that_of_the_stock_hash():
    for header in (bytes(256), DATA[:256]):
        expected = blake3(header, derive_key_context=HEADER_CONTEXT).digest()
        assert bao_verify.header_hash(header) == header_hash(header) == expected
    assert HEADER_CONTEXT.encode() == bao_verify.HEADER_CONTEXT


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1023, 1024])
def test_compression_is_that_of_the_stock_hash(length):
    assert bao_verify.to_bytes(bao_verify.chunk_value(DATA[:length], 0, root=True)) == blake3(DATA[:length]).digest()


def test_proof_from_a_file(tmp_path):
    _, sealed = honest_blocks(PLAY)
    path = save(tmp_path / "x", honest_file(PLAY))
    for index in (0, 40, 73):
        proof = InclusionProof.from_json(prove(path, 1, index).to_json())
        assert proof == prove(path, 1, index)
        assert proof.verify(sealed[1].hash) == sealed[1].block.transactions[64 * index :][:64]
        with pytest.raises(LedgerError, match="header"):
            proof.verify(sealed[0].hash)
        with pytest.raises(LedgerError, match="inclusion proof: path, "):
            InclusionProof(proof.header, (index + 16) % 74, proof.path).verify(sealed[1].hash)
        with pytest.raises(LedgerError, match="inclusion proof: path, "):
            InclusionProof(sealed[0].block.header, index, proof.path).verify(sealed[0].hash)
        forged = Header.unpack(proof.header)._replace(tx_count=75).pack()
        with pytest.raises(LedgerError, match="header"):
            InclusionProof(forged, index, proof.path).verify(sealed[1].hash)
    for height, index in ((2, 0), (-1, 0), (0, 74), (0, -1)):
        with pytest.raises(LedgerError):
            prove(path, height, index)


MALFORMED = [
    {"format": "gridmarl-block-proof-1"}, {"index": "1"}, {"index": True}, {"header": "00"}, {"path": "zz"},
    {"path": "0A"}, {"note": 1}, {"block_hash": "0" * 64},
]  # fmt: skip


@pytest.mark.parametrize("change", MALFORMED)
def test_malformed_json(tmp_path, change):
    content = json.loads(prove(save(tmp_path / "x", honest_file(PLAY)), 0, 3).to_json())
    with pytest.raises(LedgerError, match="malformed"):
        InclusionProof.from_json(json.dumps(content | change))
    for line in ("", "[]", "{}", "[" * 100_000):
        with pytest.raises(LedgerError, match="malformed"):
            InclusionProof.from_json(line)


def test_a_header_of_another_length_proves_nothing(tmp_path):
    content = json.loads(prove(save(tmp_path / "x", honest_file(PLAY)), 0, 3).to_json())
    for header in ("", content["header"][:-2], content["header"] + "00"):
        known = header_hash(bytes.fromhex(header))
        proof = InclusionProof.from_json(json.dumps(content | {"header": header, "block_hash": known.hex()}))
        with pytest.raises(LedgerError, match="header 0, length"):
            proof.verify(known)


def test_the_verifier_needs_only_the_standard_library():
    tree = ast.parse(Path(bao_verify.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "argparse", "json", "struct", "sys", "typing"}
