"""Chapter 9's claim in numbers: who gains, and whether the transformer's limit holds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from gridmarl.clearing.registry import get_auction
from gridmarl.train.reproduce import ch9_model as model
from gridmarl.train.reproduce.ch9_printed import BUYERS, SELLERS, STATIONS, SUM_OF_DEMANDS_KW

_HIGHEST_STATEMENT = 40  # token/kWh; no order is above 28
LEFT_OUT = ("A", "G")  # by the claim, the stations that do not gain


@dataclass(frozen=True)
class Limit:
    """Power of all stations together in one case."""

    case: str
    total_kw: Fraction


def claim_holds(gained: model.Amounts) -> bool:
    """All but A and G gain, and these two lose nothing."""
    return all((gain == 0) if name in LEFT_OUT else (gain > 0) for name, gain in gained.items())


def printed_energy_kwh() -> model.Amounts:
    """The energy that each printed payment stands for at the price of Fig. 1; sales are negative."""
    price = model.price_tok_per_kwh("marginal_pair")
    return {station.name: Fraction(station.payment_tok) / price for station in STATIONS}


def printed_gains_tok() -> model.Amounts:
    """Gains by the printed payments and the energy that they stand for."""
    energy = printed_energy_kwh()
    return {
        station.name: station.price_tok_per_kwh * energy[station.name] - Fraction(station.payment_tok)
        for station in STATIONS
    }


def limits() -> list[Limit]:
    """Sums of declared demands, of quotas before and after trading, under either unit of the orders."""
    before = sum(model.quotas_kw(model.MARGIN_FOUND_KW).values(), Fraction(0))
    cases = [Limit("declared demands, no allocation", Fraction(SUM_OF_DEMANDS_KW)), Limit("initial quotas", before)]
    for rule, name in (("pairwise", "Algorithm 1"), ("marginal_pair", "Fig. 1")):
        for unit, power in (("kW", True), ("kWh", False)):
            energy = model.final_energy_kwh(rule, orders_are_power=power)
            total = sum(energy.values(), Fraction(0)) / model.PERIOD_H
            cases.append(Limit(f"after trading, {name}, orders as {unit}", total))
    as_printed = before + sum(printed_energy_kwh().values(), Fraction(0))
    return [*cases, Limit("after the trades as printed, orders as kW", as_printed)]


@dataclass(frozen=True)
class Statement:
    """The whole price in token/kWh that pays a station most, the others as printed, and what its own gains."""

    station: str
    own_price: int
    price: int
    gain_tok: Fraction
    truthful_tok: Fraction


def best_statements(rule: str) -> list[Statement]:
    """One station at a time; 0 .. 40 token/kWh, one price per lane. Of equal prices the one nearest to its own."""
    found = []
    stated = torch.arange(_HIGHEST_STATEMENT + 1)
    buy_price, buy_wh, sell_price, sell_wh, floor, cap = model.book()
    for stations, price in ((BUYERS, buy_price), (SELLERS, sell_price)):
        for place, station in enumerate(stations):
            others = [tensor.expand(tensor.size(0), len(stated)) for tensor in (buy_price, buy_wh, sell_price, sell_wh)]
            changed = price.expand(price.size(0), len(stated)).clone()
            changed[place] = stated * 1000
            others[0 if stations is BUYERS else 2] = changed
            limits_of_price = floor.expand(len(stated)), cap.expand(len(stated))
            trades = get_auction(rule)(others[0], others[1], others[2], others[3], *limits_of_price, 0)
            value = station.price_tok_per_kwh * 1000
            gain: Tensor = trades.buy_fill_wh * value - trades.payment_utok
            if stations is SELLERS:
                gain = trades.income_utok - trades.sell_fill_wh * value
            gains = gain[place].tolist()
            best = max(stated.tolist(), key=lambda x: (gains[x], -abs(x - station.price_tok_per_kwh)))
            own = station.price_tok_per_kwh
            found.append(Statement(station.name, own, best, Fraction(gains[best], 10**6), Fraction(gains[own], 10**6)))
    return sorted(found, key=lambda each: each.station)
