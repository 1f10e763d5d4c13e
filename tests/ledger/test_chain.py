"""Sealing: roots from the stock hash, lanes independent of each other, chains of all lanes."""

from __future__ import annotations

import pytest
from blake3 import blake3

from gridmarl.errors import LedgerError
from gridmarl.ledger import Header, LaneChains, LedgerWriter, Rules, seal_hour, verify
from gridmarl.ledger.hashing import GENESIS_CONTEXT, HEADER_CONTEXT, STATE_CONTEXT
from gridmarl.ledger.packing import pack_inputs, pack_transactions
from tests.oracles.ledger_play import Play, play_records, rules_of
from tests.oracles.ledger_seal import random_hour, seal

PLAY = Play(P=3, H=3, capacity=20, power=9, soc0=7)
RULES = Rules(**rules_of(PLAY))


def test_contexts_differ():
    assert len({GENESIS_CONTEXT, HEADER_CONTEXT, STATE_CONTEXT}) == 3


def test_header_layout_is_fixed():
    values = [0x0102, 0x0304, 5, 6, 7, 8, 9, b"p" * 32, b"t" * 32, b"i" * 32, b"s" * 32, 10, 11, 12]
    data = Header(*values).pack()
    assert len(data) == 256
    assert Header.unpack(data) == Header(*values)
    assert data[:32].hex() == "0201040305000000060000000000000007000000000000000800000009000000"
    assert data[32:160] == b"p" * 32 + b"t" * 32 + b"i" * 32 + b"s" * 32
    assert data[160:184] == b"\x0a" + bytes(7) + b"\x0b" + bytes(7) + b"\x0c" + bytes(7)
    assert data[184:] == bytes(72)
    for length in (0, 255, 257):
        with pytest.raises(LedgerError):
            Header.unpack(bytes(length))


def test_roots_are_those_of_the_stock_hash():
    hour = play_records(PLAY, [1, 2])[2]
    parents, heights, lanes = [b"a" * 32, b"b" * 32], [2, 5], [10, 20]
    for position, sealed in enumerate(seal_hour(hour, parents, heights, lanes)):
        inputs = pack_inputs(hour, lanes)[position].numpy().tobytes()
        transactions = pack_transactions(hour, lanes)[position].numpy().tobytes()
        balances = hour.balances[:, position].contiguous().numpy().tobytes()
        header = sealed.block.parsed_header()
        assert (sealed.block.inputs, sealed.block.transactions) == (inputs, transactions)
        assert header.input_root == blake3(inputs).digest()
        assert header.tx_root == blake3(transactions).digest()
        assert header.state_root == blake3(balances, derive_key_context=STATE_CONTEXT).digest()
        assert sealed.hash == blake3(sealed.block.header, derive_key_context=HEADER_CONTEXT).digest()
        assert (header.parent, header.height, header.lane) == (parents[position], heights[position], lanes[position])
        assert (header.period, header.sealer, header.tx_count, header.input_count) == (2, PLAY.P + 1, 26, 7)


@pytest.mark.parametrize(
    "bad", [([b"a" * 32], [0, 0], [0, 1]), ([b"a" * 32] * 2, [0], [0, 1]), ([b"a"] * 2, [0] * 2, [0])]
)
def test_one_entry_per_lane_is_required(bad):
    with pytest.raises(LedgerError):
        seal_hour(play_records(PLAY, [1, 2])[0], *bad)


def test_a_lane_is_the_same_alone_and_in_a_batch():
    lanes = [3, 1, 8]
    batch = LaneChains(RULES, lanes, keep=[1])
    alone = LaneChains(RULES, [1], keep=[1])
    for hour in play_records(PLAY, [30, 10, 80], episodes=2):
        batch.append(hour)
    for hour in play_records(PLAY, [10], episodes=2):
        alone.append(hour)
    assert batch.blocks[1] == alone.blocks[1]
    assert batch.heads[1] == alone.heads[0]
    assert len(set(batch.heads)) == 3
    assert (batch.height, batch.transactions_per_lane) == (6, 6 * 26)


@pytest.mark.parametrize("interest", [False, True])
def test_many_lanes_are_sealed_as_each_by_itself(interest):
    strict = {"finality": "strict"} if interest else {}
    rules = Rules(num_prosumers=10, horizon_hours=2, initial_balances=(0,) * 13, **strict)
    lanes, kept = [3 * lane for lane in range(300)], [0, 384, 387, 897]  # in three tiles
    chains = LaneChains(rules, lanes, keep=kept)
    heads = list(chains.heads)
    for height in range(3):
        hour = random_hour(10, 300, seed=height, period=height % 2, interest=interest)
        expected = seal(hour, heads, [height] * 300, lanes)
        assert seal_hour(hour, heads, [height] * 300, lanes) == expected
        assert chains.append(hour) == {lane: expected[lane // 3] for lane in kept}
        heads = [each.hash for each in expected]
        assert chains.heads == heads


def test_only_chosen_lanes_are_kept_or_written(tmp_path):
    rules = [Rules(**rules_of(PLAY, lane=lane)) for lane in range(3)]
    with LedgerWriter(tmp_path / "two", rules[2]) as writer:
        chains = LaneChains(RULES, range(3), keep=[0], writers={2: writer})
        for hour in play_records(PLAY, [1, 2, 3]):
            assert set(chains.append(hour)) == {0, 2}
    assert set(chains.blocks) == {0}
    verdict = verify(tmp_path / "two")
    assert verdict.ok
    assert verdict.head == chains.heads[2].hex()


def test_resume_continues_bit_for_bit():
    hours = play_records(PLAY, [1, 2], episodes=2)
    whole = LaneChains(RULES, [0, 1], keep=[1])
    first = LaneChains(RULES, [0, 1], keep=[1])
    for hour in hours:
        whole.append(hour)
    for hour in hours[:4]:
        first.append(hour)
    second = LaneChains(RULES, [0, 1], keep=[1])
    second.load_state_dict(first.state_dict())
    for hour in hours[4:]:
        second.append(hour)
    assert (second.heads, second.height, second.blocks) == (whole.heads, whole.height, whole.blocks)
    with pytest.raises(LedgerError, match="lanes"):
        LaneChains(RULES, [0, 2]).load_state_dict(first.state_dict())


def test_wrong_hours_lanes_and_writers_are_errors(tmp_path):
    hours = play_records(PLAY, [1, 2])
    with pytest.raises(LedgerError, match="period"):
        LaneChains(RULES, [0, 1]).append(hours[1])
    with pytest.raises(LedgerError, match="hour"):
        LaneChains(RULES, [0, 1, 2]).append(hours[0])
    with pytest.raises(LedgerError, match="hour"):
        LaneChains(Rules(**rules_of(Play(P=2, H=3))), [0, 1]).append(hours[0])
    for lanes, keep in (([0, 0], []), ([0, 1], [2])):
        with pytest.raises(LedgerError, match="lanes"):
            LaneChains(RULES, lanes, keep=keep)
    with LedgerWriter(tmp_path / "x", RULES) as writer, pytest.raises(LedgerError, match="writer of lane 1"):
        LaneChains(RULES, [0, 1], writers={1: writer})
