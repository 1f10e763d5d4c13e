"""Charging stations that charge beyond their quota wherever that pays at a given penalty rate. EVQuota."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gridmarl.agents.quota_heuristics import Order, Patient, Seen, half_level_for
from gridmarl.agents.registry_options import check_integer, from_options
from gridmarl.preferences import floor_div
from gridmarl.units import MAX_PRICE_UTOK_PER_WH

_WHAT = "quota_over_use"


@dataclass(frozen=True)
class OverUseOptions:
    """Options of `OverUse`.

    Attributes:
        penalty_rate_utok_per_wh: what a Wh beyond the final quota is taken to cost; observations do not show it.
            Default: that of `EVQuotaParams`.
    """

    penalty_rate_utok_per_wh: int = 1_000_000

    def __post_init__(self) -> None:
        """Raises ConfigError naming the option, the value and what is allowed."""
        check_integer(_WHAT, "penalty_rate_utok_per_wh", self.penalty_rate_utok_per_wh, 0, MAX_PRICE_UTOK_PER_WH)


class OverUse(Patient):
    """Patient, but charges beyond its quota whatever is worth more to it than the penalty.

    With the penalty rate `r` and `room`, what its vehicles could take beyond the quota of the allocation:

    * An urgent Wh that the quota does not cover is lost if it is not charged now. The least that one is worth is
      `short_value + unserved_cost - tariff`. If `r` is below that, all of them are to be charged.
    * An elastic Wh can be charged later, before the first vehicle leaves at `later_tariff`, so that now it counts as
      worth `later_tariff - tariff` (too much where its own vehicle stays for a lower tariff). If `r` is below that,
      too, and no urgent Wh stays uncharged, all of the room is to be charged.

    Equal is not below: who is indifferent complies. The charge is chosen before the auction is cleared, as a share of
    what the vehicles could take beyond the *final* quota. The share is `wanted / room`, the least with which everything
    that is to be charged is charged whatever the auction gives. A Wh of quota then saves `wanted / room` Wh of penalty
    and charges so much less than a Wh more elastic energy; it bids for `wanted` at what that is worth,
    `(r*wanted + (later_tariff - tariff)*(room - wanted)) // room`: never more than `r`, and exactly `r` without elastic
    energy. If that is below the lowest price allowed, it does not bid. Where nothing beyond the quota pays, or over-use
    is not allowed, it does what a patient station does.
    """

    name = _WHAT

    def configure(self, options: dict[str, Any]) -> None:
        """The penalty rate."""
        self.options = from_options(OverUseOptions, options, _WHAT)

    def order(self, seen: Seen) -> Order:
        """Bids for what it would charge beyond its quota; else as a patient station."""
        patient = super().order(seen)
        wanted, room = self.wanted_beyond(seen), _room(seen)
        rate, later = self.options.penalty_rate_utok_per_wh, seen.later_tariff - seen.tariff
        worth = floor_div(rate * wanted + later * (room - wanted), room.clamp(min=1))
        over = wanted > 0
        return Order(
            torch.where(over, torch.minimum(torch.maximum(worth, seen.floor), seen.cap), patient.price),
            torch.where(over, wanted * (worth >= seen.floor), patient.buy_wh),
            torch.where(over, 0, patient.sell_wh),
        )

    def beyond_quota(self, seen: Seen) -> Tensor:
        """The least share with which all that pays is charged."""
        return half_level_for(self.wanted_beyond(seen), _room(seen))

    def wanted_beyond(self, seen: Seen) -> Tensor:
        """Energy beyond the allocation's quota that is worth more than the penalty, `[E, N]` int64 Wh."""
        if not self.can_overuse:
            return torch.zeros_like(seen.quota)
        rate = self.options.penalty_rate_utok_per_wh
        urgent, elastic = _worth_beyond(seen)
        short = (seen.urgent - seen.quota).clamp(min=0)
        return torch.where(rate < elastic, _room(seen), short * (rate < urgent))

    def complies_from(self, observation: Tensor) -> Tensor:
        """Lowest penalty rate at which nothing beyond the quota pays now, `[E, N]` int64 µtok/Wh; 0 while declaring."""
        seen = self.seen(observation)
        worth = torch.maximum(*_worth_beyond(seen)).clamp(min=0)
        return torch.where(self.is_trading(observation), worth, 0)


def _worth_beyond(seen: Seen) -> tuple[Tensor, Tensor]:
    """Of a Wh beyond the quota, µtok/Wh: the least that an urgent one is worth, and an elastic one after all of them;
    0 where there is none."""
    short, room = seen.urgent > seen.quota, _room(seen) > 0
    urgent = (seen.short_value + seen.unserved_cost - seen.tariff) * short
    elastic = (seen.later_tariff - seen.tariff) * room
    return urgent, torch.where(short, torch.minimum(elastic, urgent), elastic)


def _room(seen: Seen) -> Tensor:
    return (seen.possible - seen.quota).clamp(min=0)
