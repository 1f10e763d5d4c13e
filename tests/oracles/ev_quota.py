"""A whole round of the charging quotas, one lane, in plain Python from docs/quota-rules.md; no code of the package."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor as round_down
from typing import Any

from tests.oracles.clearing import clear_by_rules
from tests.oracles.pairwise import walk
from tests.oracles.quota import whole_quotas

Order = tuple[str, int, int]  # side, price, quantity


@dataclass(frozen=True)
class Terms:
    """What is fixed; µtok/Wh."""

    deposit_rate: int = 100
    penalty_rate: int = 500
    forfeit_permille: int = 0
    floor: int = 0
    cap: int = 1_000
    auction: str = "pairwise"


@dataclass(frozen=True)
class Round:
    """What a round does to each station."""

    quota_wh: list[int]
    scarce: bool
    final_wh: list[int]
    payment_utok: list[int]
    income_utok: list[int]
    fee_utok: list[int]
    penalty_utok: list[int]
    forfeit_utok: list[int]
    change_utok: list[int]  # of balances: stations, then the DSO
    volume_wh: int


def trade(terms: Terms, orders: list[Order], start: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Bought, sold, paid and earned of each station."""
    buys = [(price, quantity if side == "buy" else 0) for side, price, quantity in orders]
    sells = [(price, quantity if side == "sell" else 0) for side, price, quantity in orders]
    if terms.auction == "pairwise":
        walked = walk(buys, sells, terms.floor, terms.cap, start)
        return walked.buy_fill_wh, walked.sell_fill_wh, walked.payment_utok, walked.income_utok
    cleared = clear_by_rules(buys, sells, terms.floor, terms.cap, start, price_rule=terms.auction)
    bought, sold = cleared.buy_fill_wh, cleared.sell_fill_wh
    return bought, sold, [wh * cleared.price for wh in bought], [wh * cleared.price for wh in sold]


def play_round(
    terms: Terms, period: int, margin: int, tariff: int, declared: list[int], orders: list[Order], used: list[int]
) -> Round:
    """The section "Contract", from the declarations to the last withdrawal; orders count under scarcity only."""
    stations = range(len(declared))
    start = period % len(declared)
    limit = max(margin, 0)
    quota = whole_quotas(declared, limit, start)
    scarce = sum(declared) > limit
    nothing = [0 for _ in stations]
    bought, sold, paid, earned = trade(terms, orders, start) if scarce else (nothing, nothing, nothing, nothing)
    final = [quota[i] + bought[i] - sold[i] for i in stations]
    fee = [used[i] * tariff for i in stations]
    penalty = [max(used[i] - final[i], 0) * terms.penalty_rate for i in stations]
    lost = [Fraction(max(final[i] - used[i], 0) * terms.deposit_rate * terms.forfeit_permille, 1000) for i in stations]
    forfeit = [round_down(amount) for amount in lost]
    owed = [fee[i] + penalty[i] + forfeit[i] for i in stations]
    change = [earned[i] - paid[i] - owed[i] for i in stations]
    return Round(quota, scarce, final, paid, earned, fee, penalty, forfeit, [*change, sum(owed)], sum(bought))


@dataclass
class Vehicle:
    """One session; `left` Wh still to charge."""

    arrival: int
    departure: int
    power_w: int
    value: int
    left: int

    def needs(self, now: int) -> tuple[int, int]:
        """Urgent and elastic energy of a half hour: docs/ev-quota.md, "What vehicles need"."""
        if not self.arrival <= now < self.departure:
            return 0, 0
        at_most = self.power_w // 2
        possible = min(self.left, at_most)
        fits_later = sum(at_most for _ in range(now + 1, self.departure))
        urgent = min(possible, max(0, self.left - fits_later))
        return urgent, possible - urgent


@dataclass(frozen=True)
class HalfHour:
    """What a half hour does: the round of the contract, and each station's reward in µtok."""

    declared_wh: list[int]
    round: Round
    used_wh: list[int]
    unserved_wh: list[int]
    reward_utok: list[int]


class Market:
    """One lane of the environment, from docs/ev-quota.md; `stations` are lists of vehicles in the order of their index.

    Args:
        rules: the environment's parameters, by name.
        margins, tariffs: of every half hour.
    """

    def __init__(self, rules: dict[str, Any], stations: list[list[Vehicle]], margins: list[int], tariffs: list[int]):
        self.rules, self.stations, self.margins, self.tariffs = rules, stations, margins, tariffs
        self.terms = Terms(
            rules["deposit_rate_utok_per_wh"],
            rules["penalty_rate_utok_per_wh"],
            rules["forfeit_permille"],
            rules["floor_utok_per_wh"],
            rules["cap_utok_per_wh"],
            rules["auction"],
        )

    def declare(self, now: int, actions: list[list[float]]) -> list[int]:
        """First step: what everybody declares."""
        budget, rate = self.rules["deposit_budget_utok"], self.rules["deposit_rate_utok_per_wh"]
        declared = []
        for vehicles, action in zip(self.stations, actions, strict=True):
            urgent, elastic = self._needs(vehicles, now)
            most = (urgent + elastic) * self.rules["declare_factor_permille"] // 1000
            if budget is not None and rate > 0:
                most = min(most, budget // rate)
            least = min(urgent, most)
            declared.append(least + ((most - least) * level(action[0]) >> 16))
        return declared

    def half_hour(self, now: int, first: list[list[float]], second: list[list[float]]) -> HalfHour:
        """Both steps; vehicles are charged."""
        rules, terms = self.rules, self.terms
        declared = self.declare(now, first)
        margin, tariff, everyone = self.margins[now], self.tariffs[now], range(len(self.stations))
        quota = whole_quotas(declared, max(margin, 0), now % len(declared))
        possible = [sum(self._needs(vehicles, now)) for vehicles in self.stations]
        orders: list[Order] = []
        for i in everyone:
            wish = level(second[i][1]) - 32768
            price = terms.floor + ((terms.cap - terms.floor) * level(second[i][2]) >> 16)
            most = max(possible[i] - quota[i], 0) if wish > 0 else quota[i]
            orders.append(("buy" if wish > 0 else "sell", price, most * abs(wish) >> 15))
        final = play_round(terms, now, margin, tariff, declared, orders, [0 for _ in everyone]).final_wh
        used = [self._used(second[i][3], possible[i], final[i]) for i in everyone]
        played = play_round(terms, now, margin, tariff, declared, orders, used)
        value = [self._charge(self.stations[i], now, used[i]) for i in everyone]
        last = now == rules["horizon_half_hours"] - 1
        unserved = [sum(self._unserved(vehicle, now, last) for vehicle in vehicles) for vehicles in self.stations]
        cost = rules["unserved_utok_per_wh"]
        reward = [value[i] - unserved[i] * cost + played.change_utok[i] for i in everyone]
        return HalfHour(declared, played, used, unserved, reward)

    def _needs(self, vehicles: list[Vehicle], now: int) -> tuple[int, int]:
        each = [vehicle.needs(now) for vehicle in vehicles]
        return sum(urgent for urgent, _ in each), sum(elastic for _, elastic in each)

    def _used(self, action: float, possible: int, quota: int) -> int:
        within = min(possible, quota)
        if not self.rules["overuse"]:
            return within * level(action) >> 16
        wish = level(action) - 32768
        if wish <= 0:
            return within * (32768 + wish) >> 15
        return within + ((possible - within) * wish >> 15)

    def _charge(self, vehicles: list[Vehicle], now: int, energy: int) -> int:
        """Urgent energy first, then elastic, each by departure, then by index; returns the value delivered."""
        order = sorted(range(len(vehicles)), key=lambda i: (vehicles[i].departure, i))
        needs = {i: vehicles[i].needs(now) for i in order}
        value = 0
        for part in (0, 1):
            for i in order:
                given = min(energy, needs[i][part])
                energy -= given
                vehicles[i].left -= given
                value += given * vehicles[i].value
        assert energy == 0
        return value

    def _unserved(self, vehicle: Vehicle, now: int, last: bool) -> int:
        if vehicle.departure == now + 1:
            return vehicle.left
        if last and vehicle.arrival <= now < vehicle.departure:
            return max(0, vehicle.left - sum(vehicle.power_w // 2 for _ in range(now + 1, vehicle.departure)))
        return 0


def level(action: float) -> int:
    """Level 0 .. 65536 of an entry in [-1, 1]; the same in single precision for multiples of 1/256."""
    return round_down(Fraction(action + 1.0) * 32768 + Fraction(1, 2))
