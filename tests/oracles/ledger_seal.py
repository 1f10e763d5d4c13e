"""Sealing as it is defined: records packed at once, every header by itself, every hash by one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gridmarl.ledger import Block, Header, HourRecord, SealedBlock
from gridmarl.ledger.hashing import header_hash, section_root, state_root
from gridmarl.ledger.packing import pack_inputs, pack_transactions


def seal(hour: HourRecord, parents: Sequence[bytes], heights: Sequence[int], lanes: Sequence[int]) -> list[SealedBlock]:
    """The block of every lane."""
    prosumers = hour.buy_price.shape[0]
    blocks = []
    packed = pack_inputs(hour, lanes), pack_transactions(hour, lanes), hour.balances.T.contiguous()
    for position, lane in enumerate(lanes):
        inputs, transactions, balances = (words[position].numpy().tobytes() for words in packed)
        header = Header(
            version=1,
            consensus=1,
            period=hour.period,
            height=heights[position],
            lane=lane,
            tx_count=len(transactions) // 64,
            input_count=len(inputs) // 64,
            parent=parents[position],
            tx_root=section_root(transactions),
            input_root=section_root(inputs),
            state_root=state_root(balances),
            sealer=prosumers + 1,
            difficulty=0,
            nonce=0,
        ).pack()
        blocks.append(SealedBlock(Block(header, inputs, transactions), header_hash(header)))
    return blocks


def random_hour(prosumers: int, lanes: int, seed: int, *, period: int = 0, interest: bool = False) -> HourRecord:
    """An hour of numbers that mean nothing, all 64 bits of them; amounts wrap as int64 does."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randint(-(2**63), 2**63 - 1, shape, generator=generator)

    prices = numbers(8, 1, lanes).expand(8, prosumers, lanes) if seed % 2 else numbers(8, prosumers, lanes)
    return HourRecord(
        period,
        *[numbers(lanes) for _ in range(7)],
        *[numbers(prosumers, lanes) for _ in range(11)],
        numbers(8, prosumers, lanes),
        prices,
        numbers(2, lanes),
        numbers(prosumers + 3, lanes),
        numbers(2 * interest, prosumers, lanes),
    )
