"""One lane of AggregatorAuction, hour by hour, in plain Python from docs/aggregator-auction.md; no code of the package.

Random words are handed in, as `gridmarl.random` draws them; everything made of them is made anew here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor as round_down
from typing import Any

from tests.oracles.clearing import Orders, clear_by_rules, shares
from tests.oracles.procurement import Bought, mcafee_by_rules, procure_by_rules


@dataclass(frozen=True)
class Words:
    """Random words of an hour, each 0 .. 2**32-1: four per aggregator, of the request, and per prosumer."""

    deviation: list[list[int]]
    forecast: list[list[int]]
    request: list[int]
    cost: list[list[int]]


@dataclass
class Asset:
    """What a prosumer has; `rebound` by the hour in which it falls due."""

    kind: str
    charge: int = 0
    ahead: int = 0
    rebound: dict[int, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True)
class Book:
    """One auction and its outcome."""

    bids: Orders
    offers: Orders
    outcome: Bought


@dataclass(frozen=True)
class Hour:
    """What an hour does."""

    short_price: int
    long_price: int
    deviation: list[int]
    forecast: list[int]
    request: list[int]
    up_capacity: list[int]
    down_capacity: list[int]
    up_cost: list[int]
    down_cost: list[int]
    up: Book
    down: Book
    delivered: list[int]
    missing: list[int]
    short: list[int]
    long: list[int]
    change: list[int]  # of all accounts
    reward: list[int]


def by_chance(word: int, count: int) -> int:
    """One of 0 .. count - 1."""
    return round_down(Fraction(word * count, 2**32))


def part(numerator: int, permille: int) -> int:
    """So many thousandths, rounded down."""
    return round_down(Fraction(numerator * permille, 1000))


def level(entry: float) -> int:
    """0 .. 65536 of an entry in [-1, 1]; the same in single precision for multiples of 1/256."""
    return round_down(Fraction(entry + 1.0) * 32768 + Fraction(1, 2))


def chosen(entry: float, high: int) -> int:
    """The integer that an entry picks of 0 .. high."""
    return round_down(Fraction(high * level(entry), 65536))


class Market:
    """One lane. `rules` are the environment's parameters by name."""

    def __init__(self, rules: dict[str, Any]) -> None:
        self.rules = rules
        self.flexible = rules["variant"] == "flexibility"
        step = rules["portfolio_step_permille"]
        self.portfolios = [part(rules["portfolio_wh"], 1000 + step * k) for k in range(rules["num_aggregators"])]
        self.trend = [0 for _ in self.portfolios]
        turns = ["battery", "load", "photovoltaic"][: 3 if self.flexible else 2]
        kinds = turns if rules["assets"] == "mixed" else [rules["assets"]]
        half = rules["battery_capacity_wh"] // 2
        self.assets = [Asset(kinds[i % len(kinds)]) for i in range(rules["num_prosumers"])]
        for asset in self.assets:
            asset.charge = half if asset.kind == "battery" else 0

    def hour(
        self,
        now: int,
        wholesale: int,
        words: Words,
        loads: list[int],
        generation: list[int],
        actions: list[list[float]],
    ) -> Hour:
        """Play an hour; `loads` are those of the homes, of which loads offer a part."""
        rules, buyers = self.rules, len(self.portfolios)
        short_price = part(max(wholesale, 0), rules["short_factor_permille"]) + rules["short_adder_utok_per_wh"]
        long_price = part(max(wholesale, 0), rules["long_factor_permille"])
        deviation, forecast = self._deviations(words)
        request = self._request(now, words.request)
        base = [self._base(asset, *home) for asset, *home in zip(self.assets, loads, generation, strict=True)]
        capacities = [self._capacities(now, asset, b) for asset, b in zip(self.assets, base, strict=True)]
        costs = [self._costs(asset, word) for asset, word in zip(self.assets, words.cost, strict=True)]
        need = [forecast[k] + request[k] for k in range(buyers)]
        up = self._auction(now, [max(n, 0) for n in need], [c[0] for c in capacities], actions, 0)
        if self.flexible:
            down = self._auction(now, [max(-n, 0) for n in need], [c[1] for c in capacities], actions, 2)
        else:
            down = Book([], [], Bought([0] * buyers, [0] * len(base), [0] * buyers, [0] * len(base)))
        bought, called_down = up.outcome, down.outcome
        energy = [
            self._balance(bought.buy_fill_wh[k] - called_down.buy_fill_wh[k] - deviation[k], request[k])
            for k in range(buyers)
        ]
        gains = []
        for k, (delivered, missing, short, long) in enumerate(energy):
            gain = delivered * rules["service_price_utok_per_wh"] - missing * rules["missing_penalty_utok_per_wh"]
            gain += long * long_price - short * short_price
            gains.append(gain - bought.payment_utok[k] - called_down.payment_utok[k])
        incomes = [a + b for a, b in zip(bought.income_utok, called_down.income_utok, strict=True)]
        spent = [
            bought.sell_fill_wh[i] * costs[i][0] + called_down.sell_fill_wh[i] * costs[i][1] for i in range(len(base))
        ]
        for i, asset in enumerate(self.assets):
            self._use(now, asset, base[i], bought.sell_fill_wh[i], called_down.sell_fill_wh[i])
        columns = [list(column) for column in zip(*energy, strict=True)]
        return Hour(
            short_price, long_price, deviation, forecast, request,
            [c[0] for c in capacities], [c[1] for c in capacities], [c[0] for c in costs], [c[1] for c in costs],
            up, down, *columns,
            change=[*gains, *incomes, -sum(gains) - sum(incomes)],
            reward=gains + [income - cost for income, cost in zip(incomes, spent, strict=True)],
        )  # fmt: skip

    def _deviations(self, words: Words) -> tuple[list[int], list[int]]:
        rules, deviation, forecast = self.rules, [], []
        for k, size in enumerate(self.portfolios):
            bell, other = (
                sum(by_chance(w, 1001) for w in drawn[k]) - 2000 for drawn in (words.deviation, words.forecast)
            )
            trend = part(self.trend[k], rules["deviation_persistence_permille"])
            trend += part(bell, rules["deviation_volatility_permille"])
            self.trend[k] = max(-1000, min(1000, trend))
            deviation.append(part(size, self.trend[k]))
            forecast.append(deviation[k] + part(size, part(other, rules["forecast_error_permille"])))
        return deviation, forecast

    def _request(self, now: int, words: list[int]) -> list[int]:
        if not self.flexible or by_chance(words[0], 1000) >= self.rules["request_permille"]:
            return [0 for _ in self.portfolios]
        size = 1 + by_chance(words[1], self.rules["request_max_wh"])
        sign = 1 if by_chance(words[2], 2) == 0 else -1
        return [sign * share for share in shares(size, self.portfolios, now)]

    def _base(self, asset: Asset, load: int, generation: int) -> int:
        if asset.kind == "load":
            return part(load, self.rules["shiftable_permille"])
        return generation if asset.kind == "photovoltaic" else 0

    def _capacities(self, now: int, asset: Asset, base: int) -> tuple[int, int]:
        rules = self.rules
        if asset.kind == "battery":
            room = rules["battery_capacity_wh"] - asset.charge
            up, down = min(asset.charge, rules["battery_power_w"]), min(room, rules["battery_power_w"])
        elif asset.kind == "photovoltaic":
            up, down = 0, base
        else:
            used = min(asset.ahead, base)
            own, due, limit = base - used, asset.rebound[now], rules["load_power_w"]
            up = max(own - due, 0)
            down = max(min(limit - own - due, limit - (asset.ahead - used)), 0)
        return up, down if self.flexible else 0

    def _costs(self, asset: Asset, words: list[int]) -> tuple[int, int]:
        low, high = (self.rules[f"{asset.kind}_cost_{end}_utok_per_wh"] for end in ("low", "high"))
        up, down = (low + by_chance(words[direction], high - low + 1) for direction in (0, 1))
        return up, down if self.flexible else 0

    def _auction(self, now: int, needs: list[int], capacities: list[int], actions: list[list[float]], at: int) -> Book:
        """`at` is where a prosumer's order for this direction begins; an aggregator has only one."""
        cap, buyers = self.rules["cap_utok_per_wh"], len(needs)
        bids = [(chosen(a[0], cap), chosen(a[1], 2 * n)) for a, n in zip(actions[:buyers], needs, strict=True)]
        offers = [
            (chosen(a[at], cap), chosen(a[at + 1], most)) for a, most in zip(actions[buyers:], capacities, strict=True)
        ]
        return Book(bids, offers, cleared(self.rules["payment_rule"], bids, offers, cap, now))

    @staticmethod
    def _balance(surplus: int, request: int) -> tuple[int, int, int, int]:
        """Delivered, missing, short and long."""
        if request > 0:
            delivered = min(max(surplus, 0), request)
            rest = surplus - delivered
        else:
            delivered = min(max(-surplus, 0), -request)
            rest = surplus + delivered
        return delivered, abs(request) - delivered, max(-rest, 0), max(rest, 0)

    def _use(self, now: int, asset: Asset, base: int, up: int, down: int) -> None:
        """Take what was called out of the asset."""
        rules = self.rules
        if asset.kind == "battery":
            half = rules["battery_capacity_wh"] // 2
            if up == down == 0:
                step = min(abs(half - asset.charge), rules["battery_return_w"])
                asset.charge += step if asset.charge < half else -step
            asset.charge += down - up
        elif asset.kind == "load":
            asset.ahead += down - min(asset.ahead, base)
            hours = rules["return_hours"]
            for j in range(1, hours + 1):
                before, after = (round_down(Fraction(up * share, hours)) for share in (j - 1, j))
                asset.rebound[now + j] += after - before


def cleared(rule: str, bids: Orders, offers: Orders, cap: int, start: int) -> Bought:
    """The oracle of the payment rule."""
    if rule == "uniform":
        merit = clear_by_rules(bids, offers, 0, cap, start)
        bought, sold = merit.buy_fill_wh, merit.sell_fill_wh
        return Bought(bought, sold, [q * merit.price for q in bought], [q * merit.price for q in sold])
    if rule == "mcafee":
        return mcafee_by_rules(bids, offers, 0, cap, start)
    return procure_by_rules(bids, offers, 0, cap, start, rule)
