"""Chapter 9's case by our kernels: allocation under a margin, the auction under each rule, fees, gains.

Kernels work on integers: powers in mW here, so that two printed decimals of a fee are exact; orders in Wh. Results are
turned into fractions of kW, kWh and tokens for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

from gridmarl.clearing.pairwise import match_pairs
from gridmarl.clearing.quota import allocate
from gridmarl.clearing.registry import get_auction, get_mechanism
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.train.reproduce.ch9_printed import BUYERS, FIRST_HOUR, PERIOD_MINUTES, SELLERS, STATIONS, tariff_at
from gridmarl.units import UTOK_PER_TOKEN

MARGIN_FOUND_KW = Fraction(323)  # what the printed quotas and fees were computed with, see ch9_search
RULES = ("pairwise", "marginal_pair", "uniform")
PERIOD_H = Fraction(PERIOD_MINUTES, 60)
TARIFF = tariff_at(FIRST_HOUR)
_MW_PER_KW = 1_000_000
_WH_PER_KWH = 1000
_UTOK_PER_WH_PER_TOKEN_PER_KWH = 1000
_CAP_TOK_PER_KWH = 1000  # no order comes near it

Amounts = dict[str, Fraction]  # by station


@dataclass(frozen=True)
class Pair:
    """One step of Algorithm 1."""

    buyer: str
    seller: str
    energy_kwh: Fraction
    bid: int
    offer: int
    price: Fraction


@dataclass(frozen=True)
class Auction:
    """Outcome of the auction under one rule; a payment below zero is an income."""

    rule: str
    bought_kwh: Amounts  # sales are negative
    payment_tok: Amounts


def quotas_kw(margin_kw: Fraction) -> Amounts:
    """Eq. (2) under a margin, by the kernel, in whole milliwatts."""
    demand = torch.tensor([[station.demand_kw * _MW_PER_KW] for station in STATIONS])
    quota = allocate(demand, torch.tensor([int(margin_kw * _MW_PER_KW)]), 0).quota[:, 0]
    return {station.name: Fraction(mw, _MW_PER_KW) for station, mw in zip(STATIONS, quota.tolist(), strict=True)}


def book() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Table 3 as the kernels take it, one lane."""
    columns = []
    for side in (BUYERS, SELLERS):
        columns.append([[each.price_tok_per_kwh * _UTOK_PER_WH_PER_TOKEN_PER_KWH] for each in side])
        columns.append([[int(each.order * _WH_PER_KWH)] for each in side])
    buy_price, buy_wh, sell_price, sell_wh = (torch.tensor(column) for column in columns)
    floor, cap = torch.tensor([0]), torch.tensor([_CAP_TOK_PER_KWH * _UTOK_PER_WH_PER_TOKEN_PER_KWH])
    return buy_price, buy_wh, sell_price, sell_wh, floor, cap


@cache
def auction(rule: str) -> Auction:
    """The auction of Table 3's orders under one of `RULES`."""
    trades = get_auction(rule)(*book(), 0)
    bought, paid = {}, {}
    sides = (
        (BUYERS, trades.buy_fill_wh, trades.payment_utok, 1),
        (SELLERS, trades.sell_fill_wh, trades.income_utok, -1),
    )
    for stations, fill, money, sign in sides:
        for station, wh, utok in zip(stations, fill[:, 0].tolist(), money[:, 0].tolist(), strict=True):
            bought[station.name] = sign * Fraction(wh, _WH_PER_KWH)
            paid[station.name] = sign * Fraction(utok, UTOK_PER_TOKEN)
    return Auction(rule, in_order(bought), in_order(paid))


def in_order(amounts: Amounts) -> Amounts:
    """Amounts by station, A to H."""
    return {station.name: amounts[station.name] for station in STATIONS}


@cache
def price_tok_per_kwh(rule: str) -> Fraction:
    """The price of a rule that has one."""
    return Fraction(int(get_mechanism(rule)(*book(), 0).price), _UTOK_PER_WH_PER_TOKEN_PER_KWH)


@cache
def walrasian_tok_per_kwh() -> tuple[Fraction, Fraction]:
    """Lowest and highest price at which demand meets supply."""
    clearing = clear_uniform(*book(), 0)
    low, high = (Fraction(int(value), _UTOK_PER_WH_PER_TOKEN_PER_KWH) for value in (clearing.low, clearing.high))
    return low, high


@cache
def pairs() -> tuple[Pair, ...]:
    """Who trades with whom under Algorithm 1, in the order of the walk."""
    found = []
    for buyer, seller, wh, price in zip(*(column[:, 0].tolist() for column in match_pairs(*book(), 0)), strict=True):
        if wh:
            bid, offer = BUYERS[buyer], SELLERS[seller]
            found.append(
                Pair(
                    bid.name,
                    offer.name,
                    Fraction(wh, _WH_PER_KWH),
                    bid.price_tok_per_kwh,
                    offer.price_tok_per_kwh,
                    Fraction(price, _UTOK_PER_WH_PER_TOKEN_PER_KWH),
                )
            )
    return tuple(found)


def fees_tok(energy_kwh: Amounts, tariff: int = TARIFF) -> Amounts:
    """Tariff times energy."""
    return {name: tariff * energy for name, energy in energy_kwh.items()}


def final_energy_kwh(rule: str, *, orders_are_power: bool) -> Amounts:
    """What each station may charge in the half hour after the auction, under the margin of 323 kW.

    Args:
        rule: of the auction.
        orders_are_power: read Table 3's quantities as kW over the half hour, not as kWh within it.
    """
    quotas, traded = quotas_kw(MARGIN_FOUND_KW), auction(rule).bought_kwh
    return {name: quotas[name] * PERIOD_H + traded[name] * (PERIOD_H if orders_are_power else 1) for name in quotas}


def gains_tok(rule: str) -> Amounts:
    """What trading gains each station, its own price taken for the value of a kWh to it."""
    outcome = auction(rule)
    return {
        station.name: station.price_tok_per_kwh * outcome.bought_kwh[station.name] - outcome.payment_tok[station.name]
        for station in STATIONS
    }
