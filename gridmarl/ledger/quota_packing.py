"""Records of one half hour of charging quotas in all lanes, packed on the device of its tensors.

Layout: `gridmarl.ledger.quota_records`. Words are added column by column to one buffer of zeros, through views, as in
`gridmarl.ledger.packing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gridmarl.ledger.fields import RECORD_WORDS
from gridmarl.ledger.quota_records import (
    DSO_PAYS,
    INPUT_KINDS,
    STATION_KINDS,
    QuotaKind,
    quota_input_count,
    quota_transaction_count,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridmarl.ledger.half_hour import HalfHourRecord


def _write(records: Tensor, words: Sequence[Tensor | int]) -> None:
    """Add the leading words to records `[E, R, 8]` (or `[E, 8]`) of zeros; each word broadcasts to `[E, R]`."""
    for word, value in enumerate(words):
        records.select(-1, word).add_(value)


def _floor_div(total: Tensor, parts: Tensor) -> Tensor:
    """`total // parts`, 0 where there are none."""
    return torch.div(total, parts.clamp(min=1), rounding_mode="floor") * (parts > 0)


def _fill_inputs(out: Tensor, record: HalfHourRecord, lanes: Tensor) -> None:
    """`out`: `[E, 1+3N, 8]` zeros, `lanes`: `[E, 1]`."""
    stations, period = record.declared_wh.size(0), record.period << 32
    volume, paid = record.flow_wh.select(0, 0).sum(0), record.flow_utok.select(0, 0).sum(0)
    signal = (
        QuotaKind.QUOTA_SIGNAL | period,
        record.margin_wh,
        record.actual_margin_wh,
        record.tariff,
        record.first_quota_wh.sum(0),
        record.scarce,
        volume,
        _floor_div(paid, volume),
    )
    _write(out.select(1, 0), signal)
    columns = (
        (record.declared_wh, record.deposit_utok, record.first_quota_wh),
        (record.order_price, record.buy_wh, record.sell_wh),
        (record.used_wh, record.final_quota_wh),
    )
    index = torch.arange(stations, dtype=torch.int64, device=out.device)
    for section, (kind, values) in enumerate(zip(INPUT_KINDS, columns, strict=True)):
        records = out.narrow(1, 1 + section * stations, stations)
        _write(records, (kind | period, *(value.T for value in values)))
        records.select(-1, 5).add_(index)
        records.select(-1, 6).add_(lanes)


def _fill_transactions(out: Tensor, record: HalfHourRecord, lanes: Tensor) -> None:
    """`out`: `[E, 5N, 8]` zeros, `lanes`: `[E, 1]`."""
    stations = record.declared_wh.size(0)
    sequence = torch.arange(STATION_KINDS * stations, dtype=torch.int64, device=out.device)
    station = sequence % stations
    position = torch.div(sequence, stations, rounding_mode="floor")
    energy, amount = (flows.flatten(0, 1).T for flows in (record.flow_wh, record.flow_utok))
    price = _floor_div(amount, energy)
    price = price * (price * energy == amount)
    received = position == DSO_PAYS
    payer, payee = torch.where(received, stations, station), torch.where(received, station, stations)
    head = position + (int(QuotaKind.QUOTA_PAYMENT) + (record.period << 32))
    _write(out, (head, payer | payee << 32, energy, price, amount, lanes, sequence))


def pack_half_hour(record: HalfHourRecord, lanes: Sequence[int] | Tensor) -> Tensor:
    """All that is hashed of a half hour, one row per lane: `[E, 8(1+3N) + 8(5N) + N+1]` int64.

    Inputs, transactions and balances lie one after the other, so that one copy brings them all to the host.

    Args:
        lanes: `[E]` lane numbers.
    """
    stations, num_lanes = record.declared_wh.shape
    inputs = RECORD_WORDS * quota_input_count(stations)
    transactions = RECORD_WORDS * quota_transaction_count(stations)
    out = record.declared_wh.new_zeros((num_lanes, inputs + transactions + stations + 1))
    column = torch.as_tensor(lanes, dtype=torch.int64, device=out.device).unsqueeze(1)
    _fill_inputs(out.narrow(1, 0, inputs).unflatten(1, (-1, RECORD_WORDS)), record, column)
    _fill_transactions(out.narrow(1, inputs, transactions).unflatten(1, (-1, RECORD_WORDS)), record, column)
    out.narrow(1, inputs + transactions, stations + 1).add_(record.balances.T)
    return out
