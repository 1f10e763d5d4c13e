"""Records: layout, naming of fields, and packing on tensors against a plain loop."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.errors import LedgerError
from gridmarl.ledger.packing import pack_hour, pack_inputs, pack_transactions
from gridmarl.ledger.records import (
    FIELDS,
    Kind,
    decode_record,
    encode_record,
    first_difference,
    input_name,
    transaction_name,
)
from tests.oracles.ledger_play import Play, play_records, variant

PLAY = Play(P=3, H=4, capacity=20, power=9, soc0=7)
LANES = [4, 0, 9]


def tensor_bytes(words: torch.Tensor) -> bytes:
    return words.contiguous().numpy().astype("<i8").tobytes()


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_layout_covers_every_bit_once(kind):
    seen = [0] * 8
    for item in FIELDS[kind]:
        mask = ((1 << item.bits) - 1) << item.shift
        assert not seen[item.word] & mask
        seen[item.word] |= mask
    assert seen == [(1 << 64) - 1] * 8


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_encode_and_decode_are_inverse_and_name_the_difference(kind):
    values = {item.name: 7 + i for i, item in enumerate(FIELDS[kind])} | {"kind": kind}
    signed = next(item.name for item in FIELDS[kind] if item.bits == 64)
    values[signed] = -(1 << 63)
    assert decode_record(encode_record(values)) == values
    words = torch.frombuffer(bytearray(encode_record(values)), dtype=torch.int64).tolist()
    for item in FIELDS[kind]:
        changed = values | {item.name: 1 if item.bits == 64 else 65_535}
        other = torch.frombuffer(bytearray(encode_record(changed | {"kind": kind})), dtype=torch.int64).tolist()
        if item.name != "kind":
            assert first_difference(words, other) == (item.name, values[item.name], changed[item.name])


def test_malformed_records_are_errors():
    good = decode_record(encode_record(dict.fromkeys((item.name for item in FIELDS[1]), 0) | {"kind": 1}))
    for bad in (good | {"extra": 1}, good | {"kind": 77}, good | {"payer": -1}, good | {"energy_wh": 1 << 63}, {}):
        with pytest.raises(LedgerError):
            encode_record(bad)
    for data in (b"", bytes(63), bytes(65), bytes(64)):
        with pytest.raises(LedgerError):
            decode_record(data)
    with pytest.raises(LedgerError):
        first_difference([1] * 8, [1] * 8)


@pytest.mark.parametrize("prosumers", [1, 2, 3])
def test_inputs_are_those_of_a_plain_loop(prosumers):
    play = variant(PLAY, P=prosumers)
    for hour in play_records(play, [1, 2, 3]):
        packed = pack_inputs(hour, LANES)
        assert packed.shape == (3, 1 + 2 * prosumers, 8)
        for position, lane in enumerate(LANES):
            for record in range(1 + 2 * prosumers):
                values = decode_record(tensor_bytes(packed[position, record]))
                i = (record - 1) % prosumers
                names = {item.name for item in FIELDS[values["kind"]]} - {"kind", "flags", "period", "reserved"}
                flags = 0
                if record == 0:
                    kind, expected = Kind.SIGNAL, {}
                    expected = {name: int(getattr(hour, name)[position]) for name in names}
                elif record <= prosumers:
                    kind, expected = Kind.ORDER, {"prosumer": i, "lane": lane, "reserved": 0}
                    expected |= {n: int(getattr(hour, n)[i, position]) for n in names - {"prosumer", "lane"}}
                else:
                    kind, flags = Kind.METER, i
                    expected = {name: int(getattr(hour, name)[i, position]) for name in names}
                assert values == {"kind": kind, "flags": flags, "period": hour.period} | expected


@pytest.mark.parametrize("prosumers", [1, 2, 3])
def test_transactions_are_those_of_a_plain_loop(prosumers):
    P = prosumers
    play = variant(PLAY, P=P)
    market, operator, upstream = P, P + 1, P + 2
    roles = {1: market, 2: market} | dict.fromkeys(range(3, 9), operator)
    for hour in play_records(play, [1, 2, 3]):
        packed = pack_transactions(hour, torch.tensor(LANES))
        assert packed.shape == (3, 8 * P + 2, 8)
        for position, lane in enumerate(LANES):
            expected = []
            for kind in range(1, 9):
                for i in range(P):
                    pair = (i, roles[kind]) if kind in (1, 3, 6, 8) else (roles[kind], i)
                    energy, price = hour.flow_wh[kind - 1, i, position], hour.flow_price[kind - 1, i, position]
                    expected.append((kind, *pair, int(energy), int(price)))
            bought, sold = hour.upstream_wh[:, position].tolist()
            expected.append((9, operator, upstream, bought, int(hour.import_price[position])))
            expected.append((10, upstream, operator, sold, int(hour.export_price[position])))
            for sequence, (kind, payer, payee, energy, price) in enumerate(expected):
                assert decode_record(tensor_bytes(packed[position, sequence])) == {
                    "kind": kind, "flags": 0, "period": hour.period, "payer": payer, "payee": payee,
                    "energy_wh": energy, "price_utok_per_wh": price, "amount_utok": energy * price, "lane": lane,
                    "sequence": sequence, "reserved": 0,
                }  # fmt: skip


def test_names_of_records():
    assert [input_name(i, 2) for i in range(5)] == [
        "SIGNAL", "ORDER of prosumer 0", "ORDER of prosumer 1", "METER of prosumer 0", "METER of prosumer 1",
    ]  # fmt: skip
    assert transaction_name(0, 2) == "LOCAL_BUY of prosumer 0"
    assert transaction_name(15, 2) == "PENALTY of prosumer 1"
    assert [transaction_name(i, 2) for i in (16, 17)] == ["UPSTREAM_IMPORT", "UPSTREAM_EXPORT"]


def test_row_of_an_hour_is_inputs_transactions_balances():
    hour = play_records(PLAY, [1, 2, 3])[1]
    parts = [pack_inputs(hour, LANES).flatten(1), pack_transactions(hour, LANES).flatten(1), hour.balances.T]
    assert torch.equal(pack_hour(hour, LANES), torch.cat(parts, dim=1))


def test_packing_stays_on_a_cuda_device():
    hour = play_records(PLAY, [1, 2, 3])[0]
    with FakeTensorMode(allow_non_fake_inputs=False):
        fake = type(hour)(0, *(torch.empty(t.shape, dtype=t.dtype, device="cuda") for t in hour[1:]))
        row = pack_hour(fake, LANES)
        assert row.device.type == "cuda"
        assert row.shape == (3, 8 * (1 + 2 * PLAY.P) + 8 * (8 * PLAY.P + 2) + PLAY.P + 3)


def test_flags_of_a_meter_hold_the_low_bits_of_a_large_prosumer_number():
    prosumers = 65_538
    sizes = {2: (prosumers, 1), 3: (8, prosumers, 1)}
    template = play_records(PLAY, [1])[0]
    zeros = [
        torch.zeros(sizes[t.dim()] if t.shape[-2:-1] == (PLAY.P,) else t.shape, dtype=t.dtype) for t in template[1:]
    ]
    packed = pack_inputs(type(template)(0, *zeros), [0])
    values = decode_record(tensor_bytes(packed[0, 1 + prosumers + 65_537]))
    assert (values["kind"], values["flags"], values["period"]) == (Kind.METER, 1, 0)
