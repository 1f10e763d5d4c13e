"""Sums of the charging-quota contract: deposits, charges, final quotas, tariff. Rules: docs/quota-rules.md, "Contract".

Pure functions on int64 tensors, lanes last (`N` stations, `E` lanes), for the contract (`gridmarl.contracts.quota`) and
for the environment that plays many of its rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.clearing.pairwise import Trades
from gridmarl.clearing.uniform import PRICE_RULES
from gridmarl.errors import ConfigError
from gridmarl.preferences import floor_div
from gridmarl.units import MAX_PRICE_UTOK_PER_WH, PERMILLE

AUCTIONS = ("pairwise", *PRICE_RULES)
"""Names of `gridmarl.clearing.registry.get_auction`."""

HALF_HOURS_PER_DAY = 48
_LOW, _MIDDLE, _HIGH = 32_000, 69_000, 112_000
TARIFF_UTOK_PER_WH = tuple(
    _HIGH if 8 <= hour < 11 or 18 <= hour < 22 else _MIDDLE if 6 <= hour < 18 else _LOW for hour in range(24)
)
"""Tariff by hour of the clock: 112 token/kWh from 8 to 11 and 18 to 22 h, 69 from 6 to 8 and 11 to 18, else 32."""


@dataclass(frozen=True)
class QuotaTerms:
    """What is fixed when a contract is made; prices and rates in µtok/Wh, 0 .. `MAX_PRICE_UTOK_PER_WH`.

    Attributes:
        num_stations: 1 or more.
        deposit_rate_utok_per_wh: least deposit per declared Wh.
        penalty_rate_utok_per_wh: per Wh used above the final quota.
        forfeit_permille: share of the deposit rate that an unused Wh of quota costs; 0: none, as in the chapter.
        floor_utok_per_wh, cap_utok_per_wh: limits of prices in the auction.
        auction: one of `AUCTIONS`; mechanisms of plug-ins would have to be checked every round, as markets do.

    Raises:
        ConfigError: a value that is not allowed.
    """

    num_stations: int
    deposit_rate_utok_per_wh: int
    penalty_rate_utok_per_wh: int
    forfeit_permille: int
    floor_utok_per_wh: int
    cap_utok_per_wh: int
    auction: str = "pairwise"

    def __post_init__(self) -> None:
        rates = ("deposit_rate_utok_per_wh", "penalty_rate_utok_per_wh", "floor_utok_per_wh", "cap_utok_per_wh")
        bounds = [("num_stations", 1, 100_000), ("forfeit_permille", 0, PERMILLE)]
        bounds += [(name, 0, MAX_PRICE_UTOK_PER_WH) for name in rates]
        for name, low, high in bounds:
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ConfigError(f"{name}: {value!r}, allowed are integers {low} .. {high}")
        if self.floor_utok_per_wh > self.cap_utok_per_wh:
            raise ConfigError(
                f"floor_utok_per_wh: {self.floor_utok_per_wh}, allowed is at most cap_utok_per_wh "
                f"({self.cap_utok_per_wh})"
            )
        if self.auction not in AUCTIONS:
            raise ConfigError(f"auction: {self.auction!r}, allowed are {', '.join(AUCTIONS)}")


class Charges(NamedTuple):
    """What a station owes the DSO for a round; int64 µtok."""

    fee_utok: Tensor
    penalty_utok: Tensor
    forfeit_utok: Tensor

    @property
    def total_utok(self) -> Tensor:
        """The sum of the three."""
        return self.fee_utok + self.penalty_utok + self.forfeit_utok


def deposit_due(declared_wh: Tensor, terms: QuotaTerms) -> Tensor:
    """Least deposit, µtok."""
    return declared_wh * terms.deposit_rate_utok_per_wh


def auction_book(
    bids: Tensor, offers: Tensor, terms: QuotaTerms
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Buy prices and quantities, sell prices and quantities `[N, E]`, floor and cap `[E]`, as auctions take them.

    Args:
        bids, offers: `[2, N, E]` price and quantity, quantity 0 for stations without such an order.
    """
    (buy_price, buy_wh), (sell_price, sell_wh) = bids.unbind(), offers.unbind()
    zero = torch.zeros_like(buy_price.select(0, 0))
    limits = (zero + terms.floor_utok_per_wh, zero + terms.cap_utok_per_wh)
    return (buy_price, buy_wh, sell_price, sell_wh, *limits)


def final_quota(quota_wh: Tensor, trades: Trades) -> Tensor:
    """Quotas after the auction, `[N, E]`; their sum is that of the allocation."""
    return quota_wh + trades.buy_fill_wh - trades.sell_fill_wh


def round_charges(used_wh: Tensor, quota_wh: Tensor, tariff_utok_per_wh: Tensor, terms: QuotaTerms) -> Charges:
    """Fee, penalty for use above the final quota, forfeiture for quota that was not used.

    Args:
        used_wh, quota_wh: `[N, E]`, or `[E]` for one station.
        tariff_utok_per_wh: `[E]`.
    """
    over = (used_wh - quota_wh).clamp(min=0)
    unused = over - (used_wh - quota_wh)
    forfeit = floor_div(unused * terms.deposit_rate_utok_per_wh * terms.forfeit_permille, PERMILLE)
    return Charges(used_wh * tariff_utok_per_wh, over * terms.penalty_rate_utok_per_wh, forfeit)


def round_balances(balances_utok: Tensor, trades: Trades, charges: Charges) -> Tensor:
    """Balances `[N+1, E]` (stations, then the DSO) after a whole round; their sum is unchanged, exactly.

    Deposits and holds are not in it: within a round they leave the balance and come back.
    """
    owed = charges.total_utok
    stations = trades.income_utok - trades.payment_utok - owed
    return balances_utok + torch.cat((stations, owed.sum(0, keepdim=True)))


def tariff_by_half_hour(start_slot: int, half_hours: int) -> list[int]:
    """Tariff, µtok/Wh, of consecutive half hours; `start_slot` is the first one's of the clock (0 = 00:00)."""
    return [TARIFF_UTOK_PER_WH[(start_slot + step) % HALF_HOURS_PER_DAY // 2] for step in range(half_hours)]
