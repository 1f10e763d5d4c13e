"""Proofs of lanes in batches: what was sealed is shown, anything else is refused."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from gridmarl.errors import LedgerError
from gridmarl.ledger import Rules, batch_verify
from gridmarl.ledger.batch import BatchChain, BatchHeader, SealedBatch
from gridmarl.ledger.batch_proof import BatchProof, BatchProver
from gridmarl.ledger.batch_verify import batch_header_hash, pieces
from tests.oracles.ledger_seal import random_hour, seal

LANES = list(range(20, 31))


def batch_of(prosumers: int, lanes: list[int], seed: int = 0) -> tuple[SealedBatch, BatchProver]:
    rules = Rules(num_prosumers=prosumers, horizon_hours=2, initial_balances=(0,) * (prosumers + 3))
    hour = random_hour(prosumers, len(lanes), seed)
    batch = BatchChain(rules, lanes).append(hour)
    return batch, BatchProver(hour, lanes, batch.header)


@pytest.fixture(scope="module")
def proven() -> tuple[SealedBatch, BatchProver, BatchProof]:
    batch, prover = batch_of(10, LANES)  # parts of 4 + 2 + 1 chunks
    return batch, prover, prover.prove(4)


def refused(proof: BatchProof, batch_hash: bytes, message: str = "batch proof") -> None:
    with pytest.raises(LedgerError, match=message):
        proof.verify(batch_hash)


@pytest.mark.parametrize(("prosumers", "lanes"), [(1, 1), (1, 7), (2, 5), (3, 2), (10, 64), (32, 1), (32, 5), (50, 3)])
def test_every_lane_is_shown(prosumers: int, lanes: int) -> None:
    numbers = list(range(lanes))
    batch, prover = batch_of(prosumers, numbers, seed=lanes)
    hour = random_hour(prosumers, lanes, seed=lanes)
    expected = seal(hour, [b"p" * 32] * lanes, [0] * lanes, numbers)
    positions = range(lanes) if prosumers < 10 else sorted({0, lanes // 2, lanes - 1})
    for position in positions:
        proof = prover.prove(position)
        part = BatchProof.from_json(proof.to_json()).verify(batch.hash)
        assert part.sealed(BatchHeader.unpack(batch.header), b"p" * 32) == expected[position]
        assert part.balances == hour.balances[:, position].contiguous().numpy().tobytes()
        depth = (lanes * sum(piece.chunks for piece in pieces(len(proof.part)))).bit_length()
        assert len(proof.path) <= 32 * depth * len(pieces(len(proof.part)))


def test_the_hash_is_the_packages() -> None:
    header = bytes(range(256))
    assert batch_header_hash(header) == blake3(header, derive_key_context=batch_verify.BATCH_CONTEXT).digest()


def test_the_verifier_needs_only_the_compression() -> None:
    tree = ast.parse(Path(batch_verify.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules == {"__future__", "typing", "gridmarl.ledger"}
    assert plain == {"struct"}


def test_other_lanes_are_refused(proven) -> None:
    batch, prover, proof = proven
    for position in (*range(4), *range(5, len(LANES)), -1, len(LANES), 1 << 70):
        refused(replace(proof, position=position), batch.hash)
    root = BatchHeader.unpack(batch.header).batch_root
    for position in (-1000, len(LANES), 1 << 70):  # no chunk of the batch would be the part's
        refused(replace(proof, position=position, path=root), batch.hash, f"position {position}")
    refused(replace(proof, part=prover.prove(5).part), batch.hash)
    refused(replace(proof, path=prover.prove(5).path), batch.hash)


def test_changed_parts_and_paths_are_refused(proven) -> None:
    batch, _, proof = proven
    for name in ("part", "path", "header"):
        data = getattr(proof, name)
        for at in (0, 31, len(data) // 2, len(data) - 1):
            changed = bytearray(data)
            changed[at] ^= 1 << at % 8
            refused(replace(proof, **{name: bytes(changed)}), batch.hash)


def test_truncated_extended_and_reordered_proofs_are_refused(proven) -> None:
    batch, _, proof = proven
    siblings = [proof.path[at : at + 32] for at in range(0, len(proof.path), 32)]
    for path in (
        b"",
        proof.path[:-1],
        proof.path[:-32],
        proof.path[32:],
        proof.path + bytes(1),
        proof.path + bytes(32),
        b"".join(reversed(siblings)),
        b"".join([siblings[1], siblings[0], *siblings[2:]]),
    ):
        refused(replace(proof, path=path), batch.hash)
    for part in (b"", proof.part[:-8], proof.part[64:], proof.part + bytes(8), proof.part + bytes(64)):
        refused(replace(proof, part=part), batch.hash, "part: ")
    swapped = proof.part[64:128] + proof.part[:64] + proof.part[128:]
    refused(replace(proof, part=swapped), batch.hash)
    refused(replace(proof, header=proof.header[:-1]), batch.hash, "header")


def test_other_batches_and_counts_are_refused(proven) -> None:
    batch, _, proof = proven
    other, prover = batch_of(10, LANES, seed=1)
    refused(proof, other.hash)
    refused(replace(proof, header=other.header), other.hash)
    refused(replace(prover.prove(4), part=proof.part), other.hash)
    refused(replace(prover.prove(4), path=proof.path), other.hash)
    honest = BatchHeader.unpack(batch.header)
    for changes in (
        {"lanes": 10},
        {"lanes": 12},
        {"lanes": 0},
        {"tx_count": 81},
        {"tx_count": 90},
        {"input_count": 19},
    ):
        forged = honest._replace(**changes)  # a sealer that lies about its counts
        refused(replace(proof, header=forged.pack()), forged.hash())


def test_padding_is_not_content(proven) -> None:
    """Zeros after the balances are hashed, and still are no part of what is proven."""
    batch, _, proof = proven
    padded = proof.part.ljust(7 * 1024, b"\0")
    batch_verify.verify_part(BatchHeader.unpack(batch.header).batch_root, len(LANES), 4, padded, proof.path)
    refused(replace(proof, part=padded), batch.hash, "part: ")


def test_a_prover_needs_the_hour_that_was_sealed(proven) -> None:
    batch, prover, _ = proven
    with pytest.raises(LedgerError, match="batch_root"):
        BatchProver(random_hour(10, len(LANES), seed=1), LANES, batch.header)
    with pytest.raises(LedgerError, match="batch_root"):
        BatchProver(random_hour(10, len(LANES), seed=0), LANES[::-1], batch.header)
    for position in (-1, len(LANES)):
        with pytest.raises(LedgerError, match="there are 11 lanes"):
            prover.prove(position)


def test_malformed_json_is_refused(proven) -> None:
    _, _, proof = proven
    content = json.loads(proof.to_json())
    assert BatchProof.from_json(json.dumps(content | {"batch_hash": "00"})) == proof
    for changes in (
        {"format": "gridmarl-inclusion-proof-1"},
        {"position": "4"},
        {"position": True},
        {"header": "00"},
        {"part": "0"},
        {"path": None},
    ):
        with pytest.raises(LedgerError, match="malformed"):
            BatchProof.from_json(json.dumps(content | changes))
    for line in ("", "[]", "null", "[" * 100_000, json.dumps({"format": content["format"]})):
        with pytest.raises(LedgerError, match="malformed"):
            BatchProof.from_json(line)
