"""Where the columns of an hour go in the words of a lane's part (inputs, transactions, balances, as in `pack_hour`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gridmarl.ledger.packing import columns_by_word
from gridmarl.ledger.records import PROSUMER_KINDS, RECORD_WORDS, Kind, input_count, transaction_count

if TYPE_CHECKING:
    from gridmarl.ledger.hour import HourRecord

ENERGY, PRICE, AMOUNT, LANE = 2, 3, 4, 5  # words of a transaction
_ORDER_LANE, _PRINCIPAL = 6, 7


class Column(NamedTuple):
    """A column, and where its rows go: to word `base + stride * row`."""

    values: Tensor  # [1, rows, E]
    base: int
    stride: int


class Flows(NamedTuple):
    """Energy and price of transactions from record `record` of a part; their amounts and lanes follow from them."""

    energy_wh: Tensor  # [K, rows, E]
    price: Tensor  # [K, rows, E]
    record: int


class HourColumns(NamedTuple):
    """Everything of an hour that is neither constant nor its period."""

    columns: list[Column]
    flows: list[Flows]


def hour_columns(hour: HourRecord, lanes: Tensor) -> HourColumns:
    """Columns of an hour; `lanes`: `[E]` int64 lane numbers."""
    prosumers = hour.buy_price.size(0)
    inputs = input_count(prosumers)
    upstream = inputs + PROSUMER_KINDS * prosumers
    end = inputs + transaction_count(prosumers, interest=hour.has_interest)
    each_lane = lanes.expand(prosumers, -1)
    fields = [
        (1, columns_by_word(hour, Kind.ORDER) | {_ORDER_LANE: each_lane}),
        (1 + prosumers, columns_by_word(hour, Kind.METER)),
    ]
    if hour.has_interest:
        principal, interest = hour.debts_utok.unbind()
        fields.append((upstream + 2, {AMOUNT: interest, LANE: each_lane, _PRINCIPAL: principal}))
    columns = [
        Column(values.unsqueeze(0), RECORD_WORDS * record + word, RECORD_WORDS)
        for record, by_word in fields
        for word, values in by_word.items()
    ]
    signals = torch.stack(list(columns_by_word(hour, Kind.SIGNAL).values()))
    columns.append(Column(signals.unsqueeze(0), 1, 1))
    columns.append(Column(hour.balances.unsqueeze(0), RECORD_WORDS * end, 1))
    upstream_price = torch.stack((hour.import_price, hour.export_price))
    flows = [
        Flows(hour.flow_wh, hour.flow_price, inputs),
        Flows(hour.upstream_wh.unsqueeze(0), upstream_price.unsqueeze(0), upstream),
    ]
    return HourColumns(columns, flows)
