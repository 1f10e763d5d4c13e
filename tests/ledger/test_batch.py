"""Batches: root and headers from the stock hash, parts equal to the sealed level's, resume, lanes alone."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
import torch
from blake3 import blake3

from gridmarl.errors import LedgerError
from gridmarl.ledger import LaneChains, Rules
from gridmarl.ledger.batch import (
    GENESIS_CONTEXT,
    STATE_CONTEXT,
    BatchChain,
    BatchHeader,
    BatchRoots,
    batch_genesis,
)
from gridmarl.ledger.batch_proof import BatchProver, LanePart
from gridmarl.ledger.batch_tree import batch_tree
from gridmarl.ledger.batch_verify import BATCH_CONTEXT, pieces
from gridmarl.ledger.blake3_compress import compress
from gridmarl.ledger.packing import pack_hour
from gridmarl.ledger.tiles import Tiles, part_words
from tests.oracles.ledger_play import Play, play_records, rules_of
from tests.oracles.ledger_seal import random_hour, seal

PLAY = Play(P=3, H=3, capacity=20, power=9, soc0=7)
RULES = Rules(**rules_of(PLAY))
SIZES = [(prosumers, lanes) for prosumers in (1, 2, 3, 10, 32, 50) for lanes in (1, 2, 5, 64)]


def own_rules(prosumers: int) -> Rules:
    return Rules(num_prosumers=prosumers, horizon_hours=4, initial_balances=(0,) * (prosumers + 3))


def arranged(parts: list[bytes]) -> bytes:
    """All parts in the order that `batch_verify` describes, put together here."""
    chunks = -(-len(parts[0]) // 1024)
    padded = [part.ljust(1024 * chunks, b"\0") for part in parts]
    out, first = b"", 0
    for power in (64, 32, 16, 8, 4, 2, 1):
        if chunks & power:
            out += b"".join(part[1024 * first : 1024 * (first + power)] for part in padded)
            first += power
    assert first == chunks
    return out


@pytest.mark.parametrize(("prosumers", "lanes"), SIZES)
def test_every_route_gives_the_stock_hash_of_the_sealed_sections(prosumers: int, lanes: int) -> None:
    hour = random_hour(prosumers, lanes, seed=lanes, period=2)
    numbers = list(range(3, 3 + lanes))
    blocks = seal(hour, [bytes(32)] * lanes, [0] * lanes, numbers)
    balances = hour.balances.T.contiguous().numpy()
    parts = [each.block.inputs + each.block.transactions + balances[at].tobytes() for at, each in enumerate(blocks)]
    expected = blake3(arranged(parts)).digest()
    assert BatchRoots(prosumers, numbers).root(hour) == expected
    assert batch_tree(pack_hour(hour, numbers)).root == expected


@pytest.mark.parametrize("interest", [False, True])
@pytest.mark.parametrize(("prosumers", "lanes"), [(1, 1), (3, 130), (10, 5), (32, 300)])
def test_tiles_are_the_words_packed_at_once(prosumers: int, lanes: int, interest: bool) -> None:
    numbers = [7 * lane for lane in range(lanes)]
    words = part_words(prosumers, interest=interest)
    cut = [(128 * first, 128 * chunks) for first, chunks in pieces(8 * words)]
    for ranges, threads in (([(0, words)], 1), (cut, 1), (cut, 2)):
        tiles = Tiles(prosumers, numbers, ranges, interest=interest, threads=threads)
        for seed, period in ((0, 3), (1, 3), (2, 0)):  # buffers are used again
            hour = random_hour(prosumers, lanes, seed, period=period, interest=interest)
            expected = torch.nn.functional.pad(pack_hour(hour, numbers), (0, 128))
            rows: dict[int, list[torch.Tensor]] = {}
            order = []
            for first, packed in tiles.pack(hour):
                order.append(first)
                rows.setdefault(order.count(0) - 1, []).append(packed.clone())
            assert all(after > before or after == 0 for before, after in pairwise(order))
            for (first, count), seen in zip(ranges, rows.values(), strict=True):
                assert torch.equal(torch.cat(seen), expected[:, first : first + count])


def test_threads_do_not_change_the_root() -> None:
    hour, numbers = random_hour(10, 700, seed=1), range(700)
    expected = BatchRoots(10, numbers, threads=1).root(hour)
    assert BatchRoots(10, numbers, threads=3).root(hour) == expected
    assert BatchRoots(10, numbers, compress=compress).root(hour) == expected


def test_padding_is_less_than_a_chunk() -> None:
    for prosumers in (*range(1, 70), 1000):
        size = 8 * part_words(prosumers)
        cut = pieces(size)
        assert 0 <= 1024 * sum(chunks for _, chunks in cut) - size < 1024
        assert all(chunks & (chunks - 1) == 0 and first % chunks == 0 for first, chunks in cut)
        assert all(before.chunks > after.chunks for before, after in pairwise(cut))
    assert pieces(8 * part_words(32)) == [(0, 16), (16, 4), (20, 1)]


def test_headers_are_chained_and_laid_out_as_documented() -> None:
    chain = BatchChain(RULES, [4, 9])
    genesis = b"".join(Rules(**rules_of(PLAY, lane=lane)).hash() for lane in (4, 9))
    parent = blake3(genesis, derive_key_context=GENESIS_CONTEXT).digest()
    assert chain.heads == [chain.genesis] == [parent]
    assert batch_genesis([genesis[:32], genesis[32:]]) == parent
    for height, hour in enumerate(play_records(PLAY, [1, 2], episodes=2)):
        sealed = chain.append(hour)
        root = BatchRoots(3, [4, 9]).root(hour)
        balances = blake3(hour.balances.contiguous().numpy().tobytes(), derive_key_context=STATE_CONTEXT).digest()
        head = struct.pack("<HHIQQII", 1, 1, height % 3, height, 2, 26, 7)
        assert sealed.header == head + parent + root + chain.genesis + balances + struct.pack("<Q", 4) + bytes(88)
        assert sealed.hash == blake3(sealed.header, derive_key_context=BATCH_CONTEXT).digest()
        assert BatchHeader.unpack(sealed.header).pack() == sealed.header
        parent = sealed.hash
        assert (chain.heads, chain.height, chain.last) == ([parent], height + 1, sealed)
    assert chain.transactions_per_lane == 6 * 26
    with pytest.raises(LedgerError, match="batch header: 255 bytes"):
        BatchHeader.unpack(bytes(255))


@pytest.mark.parametrize("interest", [False, True])
def test_parts_of_a_chain_of_batches_are_the_blocks_of_the_sealed_level(interest: bool) -> None:
    rules = own_rules(5)
    if interest:
        rules = Rules(num_prosumers=5, horizon_hours=4, initial_balances=(0,) * 8, finality="strict")
    lanes = [2, 0, 11]
    batches, sealed = BatchChain(rules, lanes), LaneChains(rules, lanes, keep=lanes)
    heads = [each.hash() for each in sealed.rules]
    for height in range(6):
        hour = random_hour(5, 3, seed=height, period=height % 4, interest=interest)
        blocks = sealed.append(hour)
        batch = batches.append(hour)
        prover = BatchProver(hour, lanes, batch.header)
        for position, lane in enumerate(lanes):
            part = prover.prove(position).verify(batch.hash)
            assert part.lane == lane
            assert part.sealed(BatchHeader.unpack(batch.header), heads[position]) == blocks[lane]
            heads[position] = blocks[lane].hash
    assert heads == sealed.heads


def test_a_lane_of_a_batch_is_the_lane_alone() -> None:
    lanes = [3, 1, 8]
    many, one = BatchChain(RULES, lanes), BatchChain(RULES, [1])
    for hours in zip(play_records(PLAY, [30, 10, 80]), play_records(PLAY, [10]), strict=True):
        parts: list[LanePart] = []
        for chain, hour, position in zip((many, one), hours, (1, 0), strict=True):
            batch = chain.append(hour)
            parts.append(BatchProver(hour, chain.lanes, batch.header).prove(position).verify(batch.hash))
        assert parts[0] == parts[1]
    assert many.heads != one.heads


def test_resume_continues_bit_for_bit() -> None:
    hours = play_records(PLAY, [1, 2], episodes=2)
    whole, first, second = (BatchChain(RULES, [0, 1]) for _ in range(3))
    for hour in hours:
        whole.append(hour)
    second.load_state_dict(first.state_dict())
    assert (second.height, second.last) == (0, None)
    for hour in hours[:4]:
        first.append(hour)
    second.load_state_dict(first.state_dict())
    assert second.last == first.last
    for hour in hours[4:]:
        second.append(hour)
    assert (second.heads, second.height, second.last) == (whole.heads, whole.height, whole.last)


def test_wrong_hours_lanes_and_states_are_errors() -> None:
    hours = play_records(PLAY, [1, 2])
    chain = BatchChain(RULES, [0, 1])
    with pytest.raises(LedgerError, match="period: 1; 0 is next"):
        chain.append(hours[1])
    with pytest.raises(LedgerError, match="hour"):
        BatchChain(RULES, [0, 1, 2]).append(hours[0])
    with pytest.raises(LedgerError, match="hour: interest under instant finality"):
        BatchChain(own_rules(2), [0]).append(random_hour(2, 1, 0, interest=True))
    for lanes in ([], [0, 0]):
        with pytest.raises(LedgerError, match="lanes"):
            BatchChain(RULES, lanes)
    with pytest.raises(LedgerError, match="lanes"):
        BatchChain(RULES, [0, 2]).load_state_dict(chain.state_dict())
    with pytest.raises(LedgerError, match="single lanes"):
        chain.load_state_dict(LaneChains(RULES, [0, 1]).state_dict())
    with pytest.raises(LedgerError, match="chain of batches"):
        LaneChains(RULES, [0, 1]).load_state_dict(chain.state_dict())
    assert (chain.height, chain.last) == (0, None)
