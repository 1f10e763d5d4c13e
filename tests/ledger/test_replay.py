"""Replay against the slow oracle, and forgeries in which every hash was computed again."""

from __future__ import annotations

import random
from itertools import product

import pytest

from gridmarl.ledger import LaneChains, Rules, verify_bytes
from gridmarl.ledger.block import Block
from gridmarl.ledger.hashing import balance_bytes, state_root
from gridmarl.ledger.records import FIELDS, decode_record, encode_record
from gridmarl.ledger.replay_rules import pro_rata, restoring_action, return_hours
from tests.ledger.builders import (
    FULL,
    SMALL,
    file_bytes,
    honest_blocks,
    honest_file,
    honest_trailer,
    read_blocks,
    records_of,
    rehashed,
    with_record,
)
from tests.oracles.ledger_play import Play, play_lane, play_records, rotated_shares, rules_of, variant

GRID = list(
    product(("uniform", "marginal_pair"), ("two_settlement", "additive"), (1000, None), ((0, 0), (30, 12)), (0, 1, 3))
)


@pytest.mark.parametrize(("price_rule", "dr", "alpha", "battery", "deadline"), GRID)
def test_honest_plays_verify_and_keep_every_token(price_rule, dr, alpha, battery, deadline):
    capacity, soc0 = battery
    play = Play(
        P=4, H=5, price_rule=price_rule, dr=dr, alpha=alpha, capacity=capacity, power=11, soc0=soc0, deadline=deadline
    )
    for seed, prices, k in ((1, (-10, 60), 500), (2, (5, 9), 0), (3, (-40, 0), 999)):
        drawn = variant(play, price_range=prices, k=k)
        verdict = verify_bytes(honest_file(drawn, seed, episodes=2))
        assert verdict.ok, (str(verdict), seed)
        hours = play_lane(drawn, seed, episodes=2)
        assert (verdict.blocks, verdict.transactions, verdict.residual_utok) == (10, 340, 0)
        totals = verdict.energy_totals
        assert totals["load_wh"] == sum(sum(hour["load_wh"]) for hour in hours)
        assert totals["upstream_import_wh"] == sum(hour["upstream_wh"][0] for hour in hours)
        assert totals["upstream_export_wh"] == sum(hour["upstream_wh"][1] for hour in hours)
        assert totals["returned_wh"] == sum(sum(hour["returned_wh"]) for hour in hours)


def test_the_plays_reach_what_they_are_to_test():
    hours = [hour for seed in range(1, 9) for hour in play_lane(FULL, seed, episodes=2)]
    assert sum(sum(hour["returned_wh"]) > 0 for hour in hours) > 10
    assert sum(hour["dr_price"] > 0 for hour in hours) > 10
    assert sum(hour["import_price"] < 0 for hour in hours) > 3
    assert sum(sum(hour["charge_wh"]) > 0 for hour in hours) > 10
    assert sum(0 < hour["volume_wh"] < sum(hour["buy_wh"]) for hour in hours) > 10
    plain = variant(FULL, capacity=0, soc0=0, deadline=0)
    hours = [hour for seed in range(1, 9) for hour in play_lane(plain, seed, episodes=2)]
    assert any(sum(hour["buy_wh"]) == 0 < sum(hour["sell_wh"]) for hour in hours)
    assert any(sum(hour["buy_wh"]) == 0 == sum(hour["sell_wh"]) for hour in hours)
    assert any(sum(hour["sell_wh"]) == 0 < sum(hour["buy_wh"]) for hour in hours)


def test_parts_of_the_rules_by_themselves():
    rng = random.Random(3)
    for _ in range(500):
        weights = [rng.choice([0, rng.randint(0, 9), 10**9]) for _ in range(rng.randint(1, 6))]
        total, start = rng.randint(0, sum(weights)), rng.randrange(len(weights))
        assert pro_rata(total, weights, start) == rotated_shares(total, weights, start)
        prices, deadline = [rng.randint(0, 3) for _ in range(rng.randint(1, 9))], rng.randint(0, 10)
        windows = [range(t + 1, min(t + deadline, len(prices) - 1) + 1) for t in range(len(prices))]
        assert return_hours(prices, deadline) == [min(w, key=lambda h: (prices[h], h), default=-1) for w in windows]
        efficiency, start_wh, now = rng.randint(1, 1000), rng.randint(0, 50), rng.randint(0, 50)
        rules = Rules(**rules_of(SMALL, battery_efficiency_permille=efficiency))
        charge, discharge = restoring_action(rules, start_wh, now)
        assert now + charge * efficiency // 1000 - discharge == start_wh
        assert charge == 0 or discharge == 0


def test_every_field_of_every_transaction_forged_and_rehashed():
    rules, blocks = read_blocks(honest_file(SMALL))
    assert rehashed(rules, blocks) == honest_file(SMALL)
    for height, block in enumerate(blocks):
        for record, data in enumerate(records_of(block.transactions)):
            values = decode_record(data)
            for item in FIELDS[values["kind"]]:
                other = 1 + values["kind"] % 10 if item.name == "kind" else values[item.name] + 1
                forged = list(blocks)
                forged[height] = with_record(block, "transactions", record, **{item.name: other})
                error = verify_bytes(rehashed(rules, forged)).error
                assert (error.block, error.section, error.record) == (height, "transactions", record)
                assert (error.field, error.expected, error.seen) == (item.name, str(values[item.name]), str(other))


def test_forged_amount_with_matching_balances_is_named():
    rules, blocks = read_blocks(honest_file(FULL))
    values = decode_record(records_of(blocks[2].transactions)[4])
    forged = with_record(blocks[2], "transactions", 4, amount_utok=values["amount_utok"] - 500)
    balances = list(play_lane(FULL, 1)[2]["balances"])
    balances[values["payer"]] += 500
    balances[values["payee"]] -= 500
    root = state_root(balance_bytes(balances))
    header = forged.parsed_header()._replace(state_root=root).pack()
    verdict = verify_bytes(rehashed(rules, [*blocks[:2], forged._replace(header=header), *blocks[3:]]))
    assert str(verdict.error).startswith(
        "block 2, transactions, record 4 (LOCAL_SELL of prosumer 1), field amount_utok"
    )
    assert verdict.error.expected == str(values["amount_utok"])
    assert verdict.error.seen == str(values["amount_utok"] - 500)
    assert verdict.blocks == 2


FREE = {"buy_price", "sell_price", "offered_wh"}  # another choice of the prosumer can be another honest history


def test_every_field_of_every_input_forged_and_rehashed():
    rules, blocks = read_blocks(honest_file(FULL))
    for height, block in enumerate(blocks):
        for record, data in enumerate(records_of(block.inputs)):
            values = decode_record(data)
            for item in FIELDS[values["kind"]]:
                changed = 101 + values["kind"] % 3 if item.name == "kind" else values[item.name] + 1
                if item.name == "kind":
                    records = records_of(block.inputs)
                    records[record] = changed.to_bytes(2, "little") + data[2:]
                    other = block._replace(inputs=b"".join(records))
                else:
                    other = with_record(block, "inputs", record, **{item.name: changed})
                verdict = verify_bytes(rehashed(rules, [*blocks[:height], other, *blocks[height + 1 :]]))
                if item.name not in FREE:
                    assert not verdict.ok, (height, record, item.name)
                    assert verdict.error.block == height
                if values["kind"] == 100 and item.name not in ("import_price", "export_price"):
                    assert (verdict.error.section, verdict.error.record) == ("inputs", 0)
                    assert (verdict.error.field, verdict.error.seen) == (item.name, str(changed))
                if item.name in ("prosumer", "lane", "reserved", "flags", "period", "kind", "load_wh"):
                    where = (verdict.error.section, verdict.error.record, verdict.error.field)
                    assert where == ("inputs", record, item.name)


def resealed(play: Play, seed: int, rules: Rules, change) -> bytes:
    """A file sealed from hours in which `change(hours)` altered the oracle's tensors; every hash is right."""
    hours = play_records(play, [seed])
    change(hours)
    chains = LaneChains(rules, [0], keep=[0])
    for hour in hours:
        chains.append(hour)
    return file_bytes(rules, [each.block for each in chains.blocks[0]], honest_trailer(chains.blocks[0]))


QUIET = Play(P=2, H=4, capacity=20, power=8, soc0=10, price_range=(10, 30), penalty=0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"battery_power_w": 1}, "charge_wh"),
        ({"battery_capacity_wh": 11}, "charge_wh"),
        ({"battery_initial_wh": 3}, None),
        ({"battery_initial_wh": None, "battery_power_w": 1}, "charge_wh"),
        ({"battery_efficiency_permille": 400}, None),
        ({"k_permille": 0}, "price"),
        ({"price_rule": "marginal_pair"}, "price"),
        ({"dr_settlement": "additive"}, "price_utok_per_wh"),
        ({"alpha_permille": 2000}, "alpha_permille"),
        ({"penalty_permille": 500}, "price_utok_per_wh"),
        ({"shift_share_permille": 100}, "returned_wh"),
        ({"shift_deadline_hours": 0}, "returned_wh"),
        ({"shift_deadline_hours": 3}, "returned_wh"),
        ({"credit_limit_utok": 0}, "balance"),
        ({"initial_balances": (1001, 999, 0, 1000, 1000)}, "state_root"),
    ],
)
def test_a_history_under_other_rules_does_not_verify(changes, field):
    fields = set()
    for seed in range(12):
        rules, sealed = honest_blocks(QUIET, seed)
        blocks = [each.block for each in sealed]
        assert verify_bytes(rehashed(rules, blocks)).ok
        verdict = verify_bytes(rehashed(Rules(**rules_of(QUIET, **changes)), blocks))
        if not verdict.ok:
            fields.add(verdict.error.field)
    assert fields
    assert field is None or field in fields


def test_unknown_initial_charge_is_allowed():
    for seed in range(6):
        assert verify_bytes(honest_file(QUIET, seed, battery_initial_wh=None)).ok


def test_charge_and_discharge_in_one_hour_are_refused():
    def both(hours):
        hours[0].charge_wh[0] += 1
        hours[0].buy_wh[0] += 1
        hours[0].discharge_wh[0] += 1
        hours[0].sell_wh[0] += 1

    error = verify_bytes(resealed(QUIET, 3, Rules(**rules_of(QUIET)), both)).error
    assert (error.block, error.section, error.record_name) == (0, "inputs", "METER of prosumer 0")
    assert "charge" in error.reason


def test_returned_energy_of_an_unfinished_episode_is_bounded():
    play = variant(FULL, deadline=2)
    found = 0
    for seed in range(30):
        rules, sealed = honest_blocks(play, seed)
        blocks = [each.block for each in sealed][:3]
        assert verify_bytes(rehashed(rules, blocks)).ok
        wrong = Rules(**rules_of(variant(play, share=100)))
        error = verify_bytes(rehashed(wrong, blocks)).error
        if error:
            assert error.field == "returned_wh"
            found += 1
    assert found


def test_reordered_dropped_and_repeated_blocks():
    rules, blocks = read_blocks(honest_file(FULL, episodes=2))
    assert verify_bytes(rehashed(rules, blocks)).ok
    orders = {
        "swapped": [0, 2, 1, *range(3, 10)], "dropped": [0, 1, *range(3, 10)], "first dropped": list(range(1, 10)),
        "repeated": [0, 1, 1, *range(2, 10)], "replayed": [*range(10), 3],
        "episodes swapped": [*range(5, 10), *range(5)],
        "hour of another day": [0, 1, 7, 3, 4, 5, 6, 7, 8, 9], "day repeated": [*range(10), *range(5, 10)],
    }  # fmt: skip
    for name, order in orders.items():
        chosen = [blocks[i] for i in order]
        for heights in (True, False):
            verdict = verify_bytes(rehashed(rules, chosen, heights=heights))
            assert not verdict.ok, name
            changed = next(i for i, j in enumerate(order) if i != j or i >= 10)
            assert verdict.error.block == changed, name


def test_reordered_dropped_and_repeated_transactions():
    rules, blocks = read_blocks(honest_file(FULL))
    records = records_of(blocks[1].transactions)
    for i in range(len(records)):
        for j in range(i + 1, len(records)):
            swapped = list(records)
            swapped[i], swapped[j] = records[j], records[i]
            repeated = [*records[:j], records[i], *records[j + 1 :]]
            dropped = [*records[:i], *records[i + 1 : j + 1], bytes(64), *records[j + 1 :]]
            for forged, first in ((swapped, i), (repeated, j), (dropped, i)):
                other = blocks[1]._replace(transactions=b"".join(forged))
                error = verify_bytes(rehashed(rules, [blocks[0], other, *blocks[2:]])).error
                assert (error.block, error.section, error.record) == (1, "transactions", first)


def test_counts_in_a_rehashed_header_are_checked():
    rules, blocks = read_blocks(honest_file(FULL))
    changes = {
        "version": 2, "consensus": 0, "lane": 1, "tx_count": 25, "input_count": 8, "sealer": 0, "difficulty": 1,
        "nonce": 1, "reserved": bytes(71) + b"\1", "state_root": bytes(32), "period": 4, "height": 3,
    }  # fmt: skip
    for field, value in changes.items():
        header = blocks[1].parsed_header()._replace(**{field: value}).pack()
        forged = [blocks[0], Block(header, *blocks[1][1:]), *blocks[2:]]
        error = verify_bytes(rehashed(rules, forged, heights=False)).error
        assert (error.block, error.section, error.field) == (1, "header", field)


def test_a_header_rewritten_without_its_successors_is_told_from_a_wrong_parent():
    rules, blocks = read_blocks(honest_file(FULL))
    trailer = honest_trailer(honest_blocks(FULL)[1])
    lower = decode_record(records_of(blocks[1].inputs)[1])
    for price in range(-10, 61):  # another limit price that changes nothing: a block that replays, under another hash
        inputs = records_of(blocks[1].inputs)
        inputs[1] = encode_record(lower | {"buy_price": price})
        changed = blocks[1]._replace(inputs=b"".join(inputs))
        if price != lower["buy_price"] and verify_bytes(rehashed(rules, [blocks[0], changed, *blocks[2:]])).ok:
            break
    else:
        raise AssertionError("the play has no such order")
    forged = read_blocks(rehashed(rules, [blocks[0], changed]))[1]
    error = verify_bytes(file_bytes(rules, [*forged, *blocks[2:]], trailer)).error
    assert (error.block, error.section, error.field) == (1, "header", "hash")
    wrong = blocks[2].parsed_header()._replace(parent=bytes(32)).pack()
    error = verify_bytes(file_bytes(rules, [*blocks[:2], Block(wrong, *blocks[2][1:]), *blocks[3:]], trailer)).error
    assert (error.block, error.section, error.field) == (2, "header", "parent")


def test_a_balance_beyond_64_bits_is_an_error():
    rules, blocks = read_blocks(honest_file(SMALL, initial_balances=(1 << 62, 0, 0, 0, 0)))
    inputs = records_of(blocks[0].inputs)
    huge = (1 << 63) - 1
    inputs[0] = encode_record(decode_record(inputs[0]) | {"import_price": huge})
    assert not verify_bytes(rehashed(rules, [blocks[0]._replace(inputs=b"".join(inputs)), blocks[1]])).ok


def input_error(rules: Rules, blocks: list[Block], height: int, *edits: tuple[int, dict[str, int]]):
    """Location of the error after some fields of input records were changed and every hash computed again."""
    block = blocks[height]
    for record, values in edits:
        block = with_record(block, "inputs", record, **values)
    return verify_bytes(rehashed(rules, [*blocks[:height], block, *blocks[height + 1 :]])).error


def test_bounds_of_single_inputs_are_checked_and_named():
    rules, blocks = read_blocks(honest_file(FULL))
    count = rules.num_prosumers
    for height, block in enumerate(blocks):
        records = [decode_record(data) for data in records_of(block.inputs)]
        signal = records[0]
        low, high = signal["export_price"], signal["import_price"]
        for i in range(count):
            order, meter = 1 + i, 1 + count + i
            energy = records[meter]
            bad = [(order, name, price) for name in ("buy_price", "sell_price") for price in (low - 1, high + 1)]
            active = signal["shortage_wh"] > 0 and signal["dr_price"] > 0
            bad += [(meter, "offered_wh", value) for value in (-1, energy["demand_wh"] * active + 1)]
            bad += [(order, "sell_wh", energy["discharge_wh"] - 1), (meter, "generation_wh", -1)]
            for record, field, value in bad:
                error = input_error(rules, blocks, height, (record, {field: value}))
                where = (error.block, error.section, error.record, error.field, error.seen)
                assert where == (height, "inputs", record, field, str(value)), str(error)
            for field in ("demand_wh", "returned_wh"):  # negative, with B = d + r + c still true
                other = {"demand_wh": "returned_wh", "returned_wh": "demand_wh"}[field]
                moved = {field: -1, other: energy[other] + energy[field] + 1}
                error = input_error(rules, blocks, height, (meter, moved))
                assert (error.block, error.record, error.field, error.seen) == (height, meter, field, "-1")


def test_a_battery_that_is_not_restored_is_named():
    found = 0
    for seed in range(20):
        rules, blocks = read_blocks(honest_file(QUIET, seed))
        for i in range(QUIET.P):
            meter = 1 + QUIET.P + i
            last = decode_record(records_of(blocks[-1].inputs)[meter])
            if last["charge_wh"]:  # charge less, consume more: B is the same
                less = {"charge_wh": last["charge_wh"] - 1, "demand_wh": last["demand_wh"] + 1}
                error = input_error(rules, blocks, QUIET.H - 1, (meter, less))
                assert (error.block, error.record, error.field) == (QUIET.H - 1, meter, "charge_wh")
                assert (error.expected, error.seen) == (str(last["charge_wh"]), str(last["charge_wh"] - 1))
                found += 1
    assert found > 5
