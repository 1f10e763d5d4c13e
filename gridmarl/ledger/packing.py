"""Records of one hour in all lanes, packed on the device of the hour's tensors (layout: `gridmarl.ledger.records`).

Words are added column by column to one buffer of zeros, through views: building them by `stack` and `cat` took several
times as long on a CPU, most of it in fetching fresh memory. `narrow`, `select` and `add_` rather than indexing and
`copy_`, which a torch without CUDA refuses for the fake CUDA tensors of the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gridmarl.ledger.records import FIELDS, PROSUMER_KINDS, RECORD_WORDS, Kind, input_count, transaction_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridmarl.ledger.hour import HourRecord

_PROSUMER_PAYS = (Kind.LOCAL_BUY, Kind.IMPORT, Kind.SHORTFALL, Kind.PENALTY)
_WITH_MARKET = (Kind.LOCAL_BUY, Kind.LOCAL_SELL)


def columns_by_word(hour: HourRecord, kind: Kind) -> dict[int, Tensor]:
    """The hour's columns `[E]` or `[P, E]` that are words of an input record, by word: 1, 2, ... without a gap."""
    return {item.word: getattr(hour, item.name) for item in FIELDS[kind] if item.word and item.name in hour._fields}


def _lane_column(hour: HourRecord, lanes: Sequence[int] | Tensor) -> Tensor:
    return torch.as_tensor(lanes, dtype=torch.int64, device=hour.price.device).unsqueeze(1)


def _write(records: Tensor, words: Sequence[Tensor]) -> None:
    """Add the leading words to records `[E, R, 8]` (or `[E, 8]`) of zeros; each word broadcasts to `[E, R]`."""
    for word, value in enumerate(words):
        records.select(-1, word).add_(value)


def _fill_inputs(out: Tensor, hour: HourRecord, lanes: Tensor) -> None:
    """`out`: `[E, 1+2P, 8]` zeros, `lanes`: `[E, 1]`."""
    prosumers = hour.buy_price.shape[0]
    index = torch.arange(prosumers, dtype=torch.int64, device=out.device)
    head = torch.zeros_like(index) + (hour.period << 32)
    order = out.narrow(1, 1, prosumers)
    meter = out.narrow(1, 1 + prosumers, prosumers)
    signals = columns_by_word(hour, Kind.SIGNAL).values()
    orders, meters = (
        [values.T for values in columns_by_word(hour, kind).values()] for kind in (Kind.ORDER, Kind.METER)
    )
    _write(out.select(1, 0), (torch.full_like(hour.price, Kind.SIGNAL | hour.period << 32), *signals))
    _write(order, (head + int(Kind.ORDER), *orders, index, lanes))
    _write(meter, (head + int(Kind.METER) + ((index & 0xFFFF) << 16), *meters))


def _payer_payee(prosumers: int, device: torch.device) -> Tensor:
    """Word 1 of all transactions of a block: `[8P + 2]`, kind-major."""
    index = torch.arange(prosumers, dtype=torch.int64, device=device)
    market, operator, upstream = prosumers, prosumers + 1, prosumers + 2
    parts = []
    for kind in range(1, PROSUMER_KINDS + 1):
        other = market if kind in _WITH_MARKET else operator
        parts.append(index | other << 32 if kind in _PROSUMER_PAYS else index << 32 | other)
    upstream_pairs = (operator | upstream << 32, upstream | operator << 32)
    parts += [torch.full((1,), pair, dtype=torch.int64, device=device) for pair in upstream_pairs]
    return torch.cat(parts)


def _count(hour: HourRecord) -> int:
    """Transactions of the hour."""
    return transaction_count(hour.buy_price.shape[0], interest=hour.has_interest)


def _fill_interest(out: Tensor, hour: HourRecord, lanes: Tensor) -> None:
    """`out`: `[E, P, 8]` zeros, `lanes`: `[E, 1]`."""
    prosumers = hour.buy_price.shape[0]
    index = torch.arange(prosumers, dtype=torch.int64, device=out.device)
    nothing = torch.zeros_like(index)
    head = nothing + (int(Kind.INTEREST) + (hour.period << 32))
    pairs, sequence = index | (prosumers + 1) << 32, index + transaction_count(prosumers)
    principal, interest = hour.debts_utok.unbind()
    _write(out, (head, pairs, nothing, nothing, interest.T, lanes, sequence, principal.T))


def _fill_transactions(out: Tensor, hour: HourRecord, lanes: Tensor) -> None:
    """`out`: zeros, `[E, 8P+2, 8]` or with interest `[E, 9P+2, 8]`; `lanes`: `[E, 1]`."""
    if hour.has_interest:
        flows = transaction_count(hour.buy_price.shape[0])
        _fill_interest(out.narrow(1, flows, hour.buy_price.shape[0]), hour, lanes)
        out = out.narrow(1, 0, flows)
    prosumers, num_lanes = hour.buy_price.shape
    count = PROSUMER_KINDS * prosumers
    sequence = torch.arange(count + 2, dtype=torch.int64, device=out.device)
    kind = torch.div(sequence.clamp_max(count), prosumers, rounding_mode="floor") + 1 + (sequence > count)
    energy, price = out.select(-1, 2), out.select(-1, 3)
    energy.narrow(1, 0, count).add_(hour.flow_wh.reshape(count, num_lanes).T)
    energy.narrow(1, count, 2).add_(hour.upstream_wh.T)
    price.narrow(1, 0, count).add_(hour.flow_price.reshape(count, num_lanes).T)
    price.select(1, count).add_(hour.import_price)
    price.select(1, count + 1).add_(hour.export_price)
    out.select(-1, 0).add_(kind + (hour.period << 32))
    out.select(-1, 1).add_(_payer_payee(prosumers, out.device))
    out.select(-1, 4).add_(energy * price)
    out.select(-1, 5).add_(lanes)
    out.select(-1, 6).add_(sequence)


def pack_inputs(hour: HourRecord, lanes: Sequence[int] | Tensor) -> Tensor:
    """Input records `[E, 1+2P, 8]` int64; `lanes` `[E]` are the lane numbers."""
    prosumers, num_lanes = hour.buy_price.shape
    out = hour.price.new_zeros((num_lanes, input_count(prosumers), RECORD_WORDS))
    _fill_inputs(out, hour, _lane_column(hour, lanes))
    return out


def pack_transactions(hour: HourRecord, lanes: Sequence[int] | Tensor) -> Tensor:
    """Transaction records int64, kind-major, `[E, 8P+2, 8]` or with interest `[E, 9P+2, 8]`; `lanes` `[E]`."""
    out = hour.price.new_zeros((hour.buy_price.shape[1], _count(hour), RECORD_WORDS))
    _fill_transactions(out, hour, _lane_column(hour, lanes))
    return out


def pack_hour(hour: HourRecord, lanes: Sequence[int] | Tensor) -> Tensor:
    """All that is hashed of an hour, one row per lane: `[E, 8(1+2P) + 8(8P+2) + P+3]` int64 (with interest 8P more).

    Inputs, transactions and balances lie one after the other, so that one copy brings them all to the host.
    """
    prosumers, num_lanes = hour.buy_price.shape
    inputs, transactions = RECORD_WORDS * input_count(prosumers), RECORD_WORDS * _count(hour)
    out = hour.price.new_zeros((num_lanes, inputs + transactions + prosumers + 3))
    column = _lane_column(hour, lanes)
    _fill_inputs(out.narrow(1, 0, inputs).unflatten(1, (-1, RECORD_WORDS)), hour, column)
    _fill_transactions(out.narrow(1, inputs, transactions).unflatten(1, (-1, RECORD_WORDS)), hour, column)
    out.narrow(1, inputs + transactions, prosumers + 3).add_(hour.balances.T)
    return out
