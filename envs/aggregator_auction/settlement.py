"""Who pays whom in an hour: aggregators, prosumers, the system operator; the sum of all accounts stays what it is.

Rules: docs/aggregator-auction.md, "Settlement".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.clearing.pairwise import Trades
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.state import Situation


class Balance(NamedTuple):
    """Energy of every aggregator in an hour; int64 `[K, E]` Wh, all >= 0."""

    delivered_wh: Tensor  # of its share of the request
    missing_wh: Tensor  # of that
    short_wh: Tensor  # against schedule and delivered service
    long_wh: Tensor


class Flows(NamedTuple):
    """Money of an hour, beyond payments and incomes of the auctions; int64 `[K, E]` µtok, all >= 0."""

    service_utok: Tensor  # operator to aggregator
    penalty_utok: Tensor  # aggregator to operator
    short_utok: Tensor  # aggregator to operator
    long_utok: Tensor  # operator to aggregator

    @property
    def received_utok(self) -> Tensor:
        """What aggregators get from the operator, less what they pay to it."""
        return self.service_utok - self.penalty_utok - self.short_utok + self.long_utok


def energy_balance(now: Situation, up_wh: Tensor, down_wh: Tensor) -> Balance:
    """What of the request an aggregator's surplus over its schedule serves, and what is left of the surplus.

    Args:
        up_wh, down_wh: `[K, E]` procured.
    """
    surplus, sign, asked = up_wh - down_wh - now.deviation_wh, now.request_wh.sign(), now.request_wh.abs()
    delivered = torch.minimum((surplus * sign).clamp(min=0), asked)
    rest = surplus - sign * delivered
    return Balance(delivered, asked - delivered, (-rest).clamp(min=0), rest.clamp(min=0))


def operator_flows(params: AggregatorAuctionParams, balance: Balance, short_price: Tensor, long_price: Tensor) -> Flows:
    """Service, penalties and imbalance; prices `[E]`."""
    return Flows(
        balance.delivered_wh * params.service_price_utok_per_wh,
        balance.missing_wh * params.missing_penalty_utok_per_wh,
        balance.short_wh * short_price,
        balance.long_wh * long_price,
    )


def settled_balances(balances: Tensor, up: Trades, down: Trades, flows: Flows) -> Tensor:
    """Accounts `[K+P+1, E]` after the hour. What a mechanism leaves between payments and incomes is the operator's."""
    paid, earned = up.payment_utok + down.payment_utok, up.income_utok + down.income_utok
    operator = paid.sum(0) - earned.sum(0) - flows.received_utok.sum(0)
    return balances + torch.cat((flows.received_utok - paid, earned, operator.unsqueeze(0)))
