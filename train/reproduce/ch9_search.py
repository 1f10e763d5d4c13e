"""Which assumptions reproduce the printed columns of chapter 9: tried one by one, cells counted.

A cell counts as reproduced if it is what is printed when rounded to the decimals that are printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import product

from gridmarl.train.reproduce import ch9_model as model
from gridmarl.train.reproduce.ch9_printed import MARGIN_KW, RATE, STATIONS, SUM_OF_DEMANDS_KW, TARIFF, total


@dataclass(frozen=True)
class Trial:
    """One set of assumptions, and how many of the eight cells it reproduces."""

    column: str
    assumption: str
    cells: int
    stations: str  # those reproduced


def rounded(value: Fraction, like: str) -> str:
    """A number with the decimals of a printed one, halves away from zero."""
    digits = len(like.partition(".")[2])
    scaled = Decimal(value.numerator) / Decimal(value.denominator)
    text = str(scaled.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    return text.removeprefix("-") if not scaled or not Decimal(text) else text


def reproduces(value: Fraction, printed: str) -> bool:
    """Whether a number is the printed one at the printed precision; "0" is exactly zero."""
    return value == 0 if printed == "0" else rounded(value, printed) == printed


def _trial(column: str, assumption: str, ours: Mapping[str, Fraction], printed: Mapping[str, str]) -> Trial:
    found = [name for name, text in printed.items() if reproduces(ours[name], text)]
    return Trial(column, assumption, len(found), "".join(found) or "none")


def _best_first(trials: list[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda trial: -trial.cells)


PRINTED_QUOTAS = {station.name: station.quota_kw for station in STATIONS}
PRINTED_FEES = {station.name: station.fee_tok for station in STATIONS}
PRINTED_PAYMENTS = {station.name: station.payment_tok for station in STATIONS}
MARGINS = {
    f"{MARGIN_KW} kW (the text)": Fraction(MARGIN_KW),
    f"{RATE} x {SUM_OF_DEMANDS_KW} = 323.7 kW": Fraction(RATE) * SUM_OF_DEMANDS_KW,
    "323 kW": model.MARGIN_FOUND_KW,
}


def quota_trials() -> list[Trial]:
    """Table 2's quotas under each margin, best first."""
    return _best_first(
        [_trial("quota", f"margin {name}", model.quotas_kw(margin), PRINTED_QUOTAS) for name, margin in MARGINS.items()]
    )


def _margins_of(printed: Mapping[str, str], factor: Fraction) -> tuple[Fraction, Fraction]:
    """Margins `[low, high)` for which `factor * demand * margin / sum` rounds to every printed value."""
    low, high = Fraction(0), Fraction(10**9)
    for station in STATIONS:
        text = printed[station.name]
        half = Fraction(1, 2 * 10 ** len(text.partition(".")[2]))
        scale = Fraction(SUM_OF_DEMANDS_KW, station.demand_kw) / factor
        low, high = max(low, (Fraction(text) - half) * scale), min(high, (Fraction(text) + half) * scale)
    return low, high


def margins_of_quotas() -> tuple[Fraction, Fraction]:
    """Margins in kW, `[low, high)`, that reproduce all eight printed quotas; empty if low >= high."""
    return _margins_of(PRINTED_QUOTAS, Fraction(1))


def margins_of_fees() -> tuple[Fraction, Fraction]:
    """Margins in kW, `[low, high)`, that reproduce all eight printed fees at the tariff of the hour over one hour."""
    return _margins_of(PRINTED_FEES, Fraction(model.TARIFF))


def fee_trials() -> list[Trial]:
    """Table 4's fees: tariff x hours x power, best first."""
    trials = []
    powers = {f"quota at {name}": model.quotas_kw(margin) for name, margin in MARGINS.items()}
    powers["quota as printed (two decimals)"] = {name: Fraction(text) for name, text in PRINTED_QUOTAS.items()}
    powers["declared demand"] = {station.name: Fraction(station.demand_kw) for station in STATIONS}
    initial, traded = model.quotas_kw(model.MARGIN_FOUND_KW), model.auction("pairwise").bought_kwh
    powers["quota at 323 kW after trading (orders as kW)"] = {name: initial[name] + traded[name] for name in initial}
    tariffs = sorted({price for _, _, price in TARIFF}, reverse=True)
    hours = {"1 h": Fraction(1), "0.5 h": model.PERIOD_H}
    for tariff, (span, length), (name, power) in product(tariffs, hours.items(), powers.items()):
        fees = {station: tariff * length * kw for station, kw in power.items()}
        trials.append(_trial("fee", f"{tariff} token/kWh x {span} x {name}", fees, PRINTED_FEES))
    return _best_first(trials)


def _prices() -> dict[str, dict[str, Fraction]]:
    """Price per station: its own, or one for all."""
    own = {station.name: Fraction(station.price_tok_per_kwh) for station in STATIONS}
    matched = [name for name, energy in model.auction("pairwise").bought_kwh.items() if energy]
    first = model.pairs()[0]
    one_price = {
        "price of Fig. 1": model.price_tok_per_kwh("marginal_pair"),
        "k-point": model.price_tok_per_kwh("uniform"),
        "the last bid": Fraction(model.pairs()[-1].bid),
        "mean of the first pair": first.price,
        "mean of all that trade": sum((own[name] for name in matched), Fraction(0)) / len(matched),
        "mean of all orders": sum(own.values(), Fraction(0)) / len(own),
    }
    return {"own price": own} | {name: dict.fromkeys(own, price) for name, price in one_price.items()}


def payment_trials() -> list[Trial]:
    """Table 4's payments: price x quantity x hours, best first; the pairwise rule has prices per pair."""
    filled = model.auction("pairwise").bought_kwh
    whole = {station.name: station.order * (1 if station.side == "buy" else -1) for station in STATIONS}
    quantities = {
        "energy traded": filled,
        "whole orders, if traded at all": {name: whole[name] if filled[name] else Fraction(0) for name in filled},
        "whole orders, all": whole,
    }
    hours = {"": Fraction(1), ", halved": model.PERIOD_H}
    trials = []
    for suffix, length in hours.items():
        paid = {name: length * amount for name, amount in model.auction("pairwise").payment_tok.items()}
        trials.append(_trial("payment", f"Algorithm 1, pair by pair{suffix}", paid, PRINTED_PAYMENTS))
        for (rule, price), (basis, energy) in product(_prices().items(), quantities.items()):
            paid = {name: length * price[name] * energy[name] for name in energy}
            trials.append(_trial("payment", f"{rule} x {basis}{suffix}", paid, PRINTED_PAYMENTS))
    return _best_first(trials)


@dataclass(frozen=True)
class Correction:
    """The value of one payment that would balance the printed column, all others as printed."""

    station: str
    payment_tok: Fraction
    energy_kwh: Fraction  # at the printed column's price; sales are negative
    why_not: str


def single_corrections() -> list[Correction]:
    """One cell at a time; none of them is an outcome of the auction."""
    missing = -total(list(PRINTED_PAYMENTS.values()))
    price, traded = model.price_tok_per_kwh("marginal_pair"), model.auction("pairwise").bought_kwh
    found = []
    for station in STATIONS:
        payment = Fraction(station.payment_tok) + missing
        energy = payment / price
        signed = energy if station.side == "buy" else -energy
        if signed < 0:
            why = "a seller would pay"
        elif signed > station.order:
            why = f"more than its order of {station.order_kwh} kWh"
        elif abs(signed) == abs(traded[station.name]):
            why = ""
        else:
            why = f"Algorithm 1 trades {rounded(abs(traded[station.name]), '0.0')} kWh"
        found.append(Correction(station.name, payment, energy, why))
    return found


def sources_of(energy_kwh: Fraction) -> list[str]:
    """Quantities of the case that are as large as this one."""
    filled = model.auction("pairwise").bought_kwh
    found = [f"the order of {station.name}" for station in STATIONS if station.order == energy_kwh]
    rest = {station.name: station.order - abs(filled[station.name]) for station in STATIONS}
    partly = [name for name, left in rest.items() if left == energy_kwh and filled[name]]
    return found + [f"what {name} has left unsold" for name in partly]
