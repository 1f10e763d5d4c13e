"""Every printed cell of chapter 9 beside ours, under each reading, with the arithmetic behind it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gridmarl.train.reproduce import ch9_model as model
from gridmarl.train.reproduce.ch9_printed import (
    MARGIN_KW,
    RATE,
    STATIONS,
    SUM_OF_DEMANDS_KW,
    Station,
    total,
)
from gridmarl.train.reproduce.ch9_search import reproduces, rounded

FOUND, TEXT = "margin 323 kW", f"margin {MARGIN_KW} kW (text)"
ONE_HOUR, HALF_HOUR = "1 h, initial quota", "0.5 h, quota after trading"
RULE_NAMES = {"pairwise": "pairwise", "marginal_pair": "one price, Fig. 1", "uniform": "one price, k-point"}


@dataclass(frozen=True)
class Cell:
    """One printed number, and ours under one reading."""

    table: str
    station: str  # "all" for sums and rates
    quantity: str
    unit: str
    printed: str  # "" where the chapter prints none
    reading: str
    ours: str  # with the decimals of the printed value
    equal: bool
    arithmetic: str


def _cell(
    place: tuple[str, str, str, str], printed: str, reading: str, ours: Fraction, arithmetic: str, like: str = ""
) -> Cell:
    equal = bool(printed) and reproduces(ours, printed)
    shown = rounded(ours, like or printed)
    return Cell(*place, printed, reading, shown, equal, arithmetic)


def plain(value: Fraction | str, digits: int = 4) -> str:
    """A number as a reader writes it: at most so many decimals, none that are zero."""
    text = rounded(Fraction(value), "0." + "0" * digits)
    return text.rstrip("0").rstrip(".")


def quota_cells() -> list[Cell]:
    """Table 2: sum, rate, quotas, under the margin of the text and the one that was used."""
    demand = f"{' + '.join(str(station.demand_kw) for station in STATIONS)} = {SUM_OF_DEMANDS_KW}"
    summed = Fraction(sum(station.demand_kw for station in STATIONS))
    cells = [_cell(("2", "all", "sum of demands", "kW"), str(SUM_OF_DEMANDS_KW), "sum", summed, demand)]
    for reading, margin in ((FOUND, model.MARGIN_FOUND_KW), (TEXT, Fraction(MARGIN_KW))):
        rate, quotas = margin / summed, model.quotas_kw(margin)
        arithmetic = f"{margin} / {summed} = {plain(rate)}"
        cells.append(_cell(("2", "all", "satisfaction rate", ""), RATE, reading, rate, arithmetic))
        for station in STATIONS:
            quota = quotas[station.name]
            arithmetic = f"{station.demand_kw} x {margin} / {summed} = {plain(quota)}"
            cells.append(_cell(_at("2", station, "initial quota", "kW"), station.quota_kw, reading, quota, arithmetic))
        printed = plain(total([station.quota_kw for station in STATIONS]), 2)
        arithmetic = f"{margin}, the margin; printed: sum of the quotas as printed, each rounded"
        cells.append(_cell(("2", "all", "sum of quotas", "kW"), printed, reading, margin, arithmetic))
    return cells


def _at(table: str, station: Station, quantity: str, unit: str) -> tuple[str, str, str, str]:
    return table, station.name, quantity, unit


def fee_cells() -> list[Cell]:
    """Table 4, service fee: as it was computed, and as the text says."""
    quotas = model.quotas_kw(model.MARGIN_FOUND_KW)
    traded = model.auction("marginal_pair").bought_kwh
    final = model.fees_tok(model.final_energy_kwh("marginal_pair", orders_are_power=True))
    cells = []
    for station in STATIONS:
        place, kw, order = _at("4", station, "service fee", "token"), quotas[station.name], traded[station.name]
        fee = model.TARIFF * kw
        arithmetic = f"{model.TARIFF} x {plain(kw)} kW x 1 h"
        cells.append(_cell(place, station.fee_tok, ONE_HOUR, fee, arithmetic))
        sign = "-" if order < 0 else "+"
        after = f"({plain(kw)} {sign} {plain(abs(order))})" if order else plain(kw)
        arithmetic = f"{model.TARIFF} x {after} kW x 0.5 h"
        cells.append(_cell(place, station.fee_tok, HALF_HOUR, final[station.name], arithmetic))
    printed = plain(total([station.fee_tok for station in STATIONS]), 2)
    for reading, hours in ((ONE_HOUR, Fraction(1)), (HALF_HOUR, model.PERIOD_H)):
        summed = model.TARIFF * model.MARGIN_FOUND_KW * hours
        arithmetic = (
            f"{model.TARIFF} x {model.MARGIN_FOUND_KW} kW x {plain(hours)} h; printed: sum of the fees as printed"
        )
        cells.append(_cell(("4", "all", "sum of fees", "token"), printed, reading, summed, arithmetic, like="0.00"))
    return cells


def _terms(station: Station, rule: str) -> str:
    """Price times energy, pair by pair or at the one price."""
    energy = model.auction(rule).bought_kwh[station.name]
    if not energy:
        return "no trade"
    if rule != "pairwise":
        return f"{plain(abs(energy))} x {plain(model.price_tok_per_kwh(rule))}"
    steps = [pair for pair in model.pairs() if station.name in (pair.buyer, pair.seller)]
    return " + ".join(f"{plain(pair.energy_kwh)} x {plain(pair.price)}" for pair in steps)


def payment_cells() -> list[Cell]:
    """Table 4, auction payment, under each pricing rule, and the sums."""
    cells = []
    for rule in model.RULES:
        payments = model.auction(rule).payment_tok
        for station in STATIONS:
            place = _at("4", station, "auction payment", "token")
            ours = payments[station.name]
            cells.append(_cell(place, station.payment_tok, RULE_NAMES[rule], ours, _terms(station, rule), like="0.0"))
        printed = plain(total([station.payment_tok for station in STATIONS]), 1)
        place = ("4", "all", "sum of payments", "token")
        arithmetic = "buyers pay what sellers get; printed: sum of the payments as printed"
        cells.append(
            _cell(place, printed, RULE_NAMES[rule], sum(payments.values(), Fraction(0)), arithmetic, like="0.0")
        )
    return cells


def all_cells() -> list[Cell]:
    """In the order of the tables."""
    return [*quota_cells(), *fee_cells(), *payment_cells()]
