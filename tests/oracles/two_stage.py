"""A slow, obvious player of whole episodes, one lane of the two-stage market: docs/market-rules.md in plain Python.

Shares no code with the package; the auction is that of `tests.oracles.clearing`. What nature draws (prices, loads,
generation, who takes part) is given. Results carry the names that the environment's state and settled hours have.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

from tests.oracles.clearing import clear_by_rules, shares

MARKET, OPERATOR, UPSTREAM = 0, 1, 2  # accounts after those of the prosumers
BIDDING, RESCHEDULING, CLOSED = 0, 1, 2
_PAYERS = (True, False, True, False, False, True, False, True)  # kinds 1..8: does the prosumer pay?
_OTHERS = (MARKET, MARKET, OPERATOR, OPERATOR, OPERATOR, OPERATOR, OPERATOR, OPERATOR)

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Nature:
    """What nobody decides, for one lane: `[T]` or `[T][P]`."""

    wholesale: list[int]
    load: list[list[int]]
    forecast: list[list[int]]
    generation: list[list[int]]
    participates: list[bool]
    mean_wholesale: int


def half_up(value: Fraction) -> int:
    """Nearest integer, halves up."""
    return math.floor(value + Fraction(1, 2))


def calibrate(load: int, p0: int, e: int) -> tuple[int, int]:
    """`beta` and `gamma`."""
    beta = math.floor(Fraction(p0 * (1000 + e), e))
    return beta, max(1, half_up(Fraction(1_000_000 * p0, e * load))) if load else 1


def demand(price: int, beta: int, gamma: int, d_min: int, d_max: int) -> int:
    """Eq. (1)."""
    return max(d_min, min(d_max, half_up(Fraction(1000 * (beta - price), gamma))))


def utility(d: int, beta: int, gamma: int) -> int:
    """`u(d)`."""
    return beta * d - math.floor(Fraction(gamma * d * d, 2000))


def single_precision(value: float) -> float:
    """The nearest float32."""
    result: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return result


def level(entry: float) -> int:
    """`floor((a + 1) * 32768 + 1/2)` in single precision; out of range is clamped, NaN counts as -1."""
    a = -1.0 if math.isnan(entry) else max(-1.0, min(1.0, entry))
    return math.floor(single_precision(single_precision(single_precision(a) + 1) * 32768 + 0.5))


def point(step: int, low: int, high: int) -> int:
    """The integer at a level 0 .. 65536 of a range."""
    return low + math.floor(Fraction((high - low) * step, 65536))


def spread(count: int) -> list[float]:
    """`count` points from -1 to 1."""
    return [0.0] if count == 1 else [-1 + 2 * i / (count - 1) for i in range(count)]


class Player:
    """One lane. `rules` are the environment's parameters as a dictionary; `numbers()` is the state by name."""

    def __init__(self, rules: Numbers, nature: Nature) -> None:
        self.rules, self.nature = rules, nature
        self.P, self.H = rules["num_prosumers"], rules["horizon_hours"]
        self.deadline = rules["shift_deadline_hours"] if rules["shift_share_permille"] else 0
        self.initial = rules["battery_capacity_wh"] * rules["battery_initial_permille"] // 1000
        retail, feed_in = rules["import_form"] == "retail", rules["export_form"] == "feed_in"
        imp, exp = rules["retail_price_utok_per_wh"], rules["feed_in_tariff_utok_per_wh"]
        self.imp = [imp if retail else w + rules["import_adder_utok_per_wh"] for w in nature.wholesale]
        self.exp = [exp if feed_in else w - rules["export_margin_utok_per_wh"] for w in nature.wholesale]
        mean = imp if retail else nature.mean_wholesale + rules["import_adder_utok_per_wh"]
        self.p0 = rules["reference_price_utok_per_wh"] or max(1, mean)
        self.t, self.phase, self.clamped, self.overdrawn = 0, BIDDING, 0, False
        self.due = [[0] * self.P for _ in range(self.H)]
        self.soc = [self.initial] * self.P
        self.balances = [rules["initial_balance_utok"]] * self.P + [0, 0, 0]
        self.strict, self.lag = rules["finality"] == "strict", rules["finality_lag_hours"]
        self.income: list[list[int]] = [[0] * self.P for _ in range(self.lag)]  # block by block, from the first
        self.last_price = self.last_dr = 0
        self.orders: Numbers | None = None
        self.market: Numbers | None = None
        self.welfare = 0
        self.home = self._homes()

    def _homes(self) -> Numbers:
        rules, t = self.rules, self.t
        columns: dict[str, list[int]] = {}
        drawn = self.nature
        for L, f, g in zip(drawn.load[t], drawn.forecast[t], drawn.generation[t], strict=True):
            self.beta, gamma = calibrate(L, self.p0, rules["elasticity_permille"])
            low, high = (L * rules[name] // 1000 for name in ("demand_min_permille", "demand_max_permille"))
            curve = (self.beta, gamma, low, high)
            one = {"gamma": gamma, "d_min_wh": low, "d_max_wh": high, "forecast_wh": f, "generation_wh": g}
            one |= {"at_import_wh": demand(self.imp[t], *curve), "at_export_wh": demand(self.exp[t], *curve)}
            one |= {"comfort_wh": demand(0, *curve), "outside_utok": self._alone(f, *curve)}
            for name, value in one.items():
                columns.setdefault(name, []).append(value)
        return columns

    def _alone(self, f: int, beta: int, gamma: int, low: int, high: int) -> int:
        """Best surplus against the outside prices: at a kink, a bound or where one of the two prices leads."""
        imp, exp = self.imp[self.t], self.exp[self.t]
        tries = {low, high, max(low, min(high, f)), *(demand(p, beta, gamma, low, high) for p in (imp, exp))}
        return max(utility(d, beta, gamma) - int(imp) * max(d - f, 0) + int(exp) * max(f - d, 0) for d in tries)

    def entries(self, action: Any) -> dict[str, int]:
        """Levels of one prosumer's action by name, counting what had to be clamped."""
        rules = self.rules
        names = ["price", "quantity"] if rules["single_price"] else ["buy_price", "quantity", "sell_price"]
        names += ["battery"] * (rules["battery_capacity_wh"] > 0)
        if rules["action_space"] == "discrete":
            levels: dict[str, int] = {"quantity": 1 if rules["stage1"] == "comfort" else rules["quantity_levels"]}
            levels["battery"] = rules["battery_levels"]
            grid = list(product(*(spread(levels[name] if name in levels else rules["price_levels"]) for name in names)))
            reductions = spread(rules["reduction_levels"]) if rules["stage2"] == "learned" else []
            inside = max(0, min(max(len(grid), len(reductions)) - 1, action))
            self.clamped += inside != action
            values = dict(zip(names, grid[inside % len(grid)], strict=True))
            if reductions:
                values["reduction"] = reductions[inside % len(reductions)]
        else:
            names += ["reduction"] * (rules["stage2"] == "learned")
            values = dict(zip(names, action, strict=True))
            self.clamped += sum(not -1 <= value <= 1 for value in values.values())
        return {name: level(value) for name, value in values.items()}

    def step(self, actions: list[Any], alpha: int | None = None) -> Numbers | None:
        """One step with `[P]` actions; the settled hour, or None after the first step of an hour with two."""
        entries = [self.entries(action) for action in actions]
        if self.phase == BIDDING:
            self._collect(entries)
            self._clear(self.rules["alpha_permille"] if alpha is None else alpha)
            self.phase = RESCHEDULING
            if self.rules["stage2"] == "learned":
                return None
        return self._settle(self._offers(entries))

    def _collect(self, entries: list[dict[str, int]]) -> None:
        exp, imp, t = self.exp[self.t], self.imp[self.t], self.t
        columns: dict[str, list[int]] = {}
        for i, entry in enumerate(entries):
            own = {name: values[i] for name, values in self.home.items()}
            d = point(entry["quantity"], own["d_min_wh"], own["d_max_wh"])
            d = own["comfort_wh"] if self.rules["stage1"] == "comfort" else d
            c, x = self._battery(self.soc[i], entry.get("battery", 32768))
            b, s = (point(entry.get(name, entry.get("price", 0)), exp, imp) for name in ("buy_price", "sell_price"))
            r = self.due[t][i]
            order = {"buy_price": b, "buy_wh": d + r + c, "sell_price": s, "sell_wh": own["forecast_wh"] + x}
            order |= {"demand_wh": d, "returned_wh": r, "charge_wh": c, "discharge_wh": x}
            for name, value in order.items():
                columns.setdefault(name, []).append(value)
        self.orders = columns

    def _battery(self, soc: int, step: int) -> tuple[int, int]:
        rules, eff = self.rules, self.rules["battery_efficiency_permille"]
        if self.t == self.H - 1:
            deficit = self.initial - soc
            return (math.ceil(Fraction(deficit * 1000, eff)), 0) if deficit > 0 else (0, -deficit)
        wish = rules["battery_power_w"] * abs(step - 32768) // 32768
        if step > 32768:
            return min(wish, (rules["battery_capacity_wh"] - soc) * 1000 // eff), 0
        return 0, min(wish, soc)

    def _clear(self, alpha: int) -> None:
        assert self.orders is not None
        o, imp, exp = self.orders, self.imp[self.t], self.exp[self.t]
        book, refused = list(o["buy_wh"]), None
        if self.strict and self.rules["local_credit_utok"] is not None:
            refused = []
            for i, (b, B) in enumerate(zip(o["buy_price"], o["buy_wh"], strict=True)):
                dear = max(0, b * B) > self.spendable(i) + self.rules["local_credit_utok"]
                book[i] = 0 if dear else B
                refused.append(dear and B > 0)
        out = clear_by_rules(
            list(zip(o["buy_price"], book, strict=True)), list(zip(o["sell_price"], o["sell_wh"], strict=True)),
            exp, imp, self.t % self.P, k_permille=self.rules["k_permille"], price_rule=self.rules["price_rule"],
        )  # fmt: skip
        shortage = max(0, sum(o["buy_wh"]) - sum(o["sell_wh"]))
        dr = max(0, min(math.floor(Fraction(alpha * out.price, 1000)), imp)) if shortage else 0
        rho = dr if self.rules["dr_settlement"] == "two_settlement" else out.price + dr
        self.market = {"price": out.price, "buy_fill_wh": out.buy_fill_wh, "sell_fill_wh": out.sell_fill_wh,
                       "volume_wh": out.volume_wh, "shortage_wh": shortage, "dr_price": dr, "reduction_price": rho,
                       "alpha_permille": alpha, "refused": refused}  # fmt: skip

    def _offers(self, entries: list[dict[str, int]]) -> list[int]:
        assert self.orders is not None
        assert self.market is not None
        offers = []
        for i, d in enumerate(self.orders["demand_wh"]):
            low, high, gamma = (self.home[name][i] for name in ("d_min_wh", "d_max_wh", "gamma"))
            if self.rules["stage2"] == "learned":
                wish = point(entries[i]["reduction"], 0, d - low)
            else:
                wish = max(0, d - demand(self.market["reduction_price"], self.beta, gamma, low, high))
            takes_part = self.nature.participates[i] and self.market["shortage_wh"] > 0 and self.market["dr_price"] > 0
            offers.append(wish if takes_part else 0)
        return offers

    def _settle(self, offered: list[int]) -> Numbers:
        assert self.orders is not None
        assert self.market is not None
        o, m, t, imp, exp = self.orders, self.market, self.t, self.imp[self.t], self.exp[self.t]
        a = shares(min(sum(offered), m["shortage_wh"]), offered, t % self.P)
        last = min(t + self.deadline, self.H - 1)
        h = [self.rules["shift_share_permille"] * each // 1000 if t < last else 0 for each in a]
        if t < last:
            back = min(range(t + 1, last + 1), key=lambda hour: (self.imp[hour], hour))
            self.due[back] = [x + y for x, y in zip(self.due[back], h, strict=True)]
        v = [f - g for f, g in zip(self.home["forecast_wh"], self.home["generation_wh"], strict=True)]
        left_b, left_s = (
            [q - fill for q, fill in zip(o[f"{side}_wh"], m[f"{side}_fill_wh"], strict=True)]
            for side in ("buy", "sell")
        )
        penalty = math.floor(Fraction(self.rules["penalty_permille"] * (abs(m["price"]) + abs(imp)), 2000))
        wh = [m["buy_fill_wh"], m["sell_fill_wh"], left_b, left_s, a]
        wh += [[max(x, 0) for x in v], [max(-x, 0) for x in v], [abs(x) for x in v]]
        prices = [m["price"], m["price"], imp, exp, m["reduction_price"], imp, exp, penalty]
        U, N, A = sum(left_b), sum(left_s), sum(v) - sum(a)
        M, X = max(U + min(A, 0), 0) + max(A - N, 0), max(N - max(A, 0), 0) + max(-A - U, 0)
        before = list(self.balances)
        income = [0] * self.P
        for energies, price, pays, other in zip(wh, prices, _PAYERS, _OTHERS, strict=True):
            for i, energy in enumerate(energies):
                payer, payee = (i, self.P + other) if pays else (self.P + other, i)
                self._pay(payer, payee, energy * price)
                if (price < 0) == pays:
                    income[i] += abs(energy * price)
        credit: Numbers = {"credit": None}
        if self.strict:
            self.income.append(income)
            owed = [max(0, -self.spendable(i)) for i in range(self.P)]
            interest = [math.floor(Fraction(x * self.rules["credit_interest_ppm"], 10**6)) for x in owed]
            for i, amount in enumerate(interest):
                self._pay(i, self.P + OPERATOR, amount)
            credit = {
                "credit.receipts": self.receipts(),
                "credit.principal_utok": owed,
                "credit.interest_utok": interest,
            }
        self._pay(self.P + OPERATOR, self.P + UPSTREAM, M * imp)
        self._pay(self.P + UPSTREAM, self.P + OPERATOR, X * exp)
        received = [now - then for now, then in zip(self.balances, before, strict=True)]
        comfort = [
            utility(d - x + y, self.beta, gamma) - self.rules["discomfort_utok_per_wh"] * y
            for d, x, y, gamma in zip(o["demand_wh"], a, h, self.home["gamma"], strict=True)
        ]
        load = [q - x for q, x in zip(o["buy_wh"], a, strict=True)]
        assert sum(self.home["generation_wh"]) + sum(o["discharge_wh"]) + M == sum(load) + X
        assert received[self.P + MARKET] == 0
        assert sum(received) == 0
        rewards = [x + y for x, y in zip(comfort, received[: self.P], strict=True)]
        assert sum(rewards) + received[self.P + OPERATOR] == sum(comfort) - M * imp + X * exp
        self.welfare += sum(rewards) + received[self.P + OPERATOR]
        settled: Numbers = {"hour": t, "import_price": imp, "export_price": exp, "offered_wh": offered}
        for name, part in (("home", self.home), ("orders", o), ("market", m)):
            settled |= {f"{name}.{key}": value for key, value in part.items()}
        settled |= {"accepted_wh": a, "shifted_wh": h, "flows.wh": wh, "flows.price": prices}
        settled |= {"flows.upstream_wh": [M, X], "received_utok": received[: self.P], "comfort_utok": comfort}
        settled |= {"balances": list(self.balances), "reward_utok": rewards, "load_wh": load}
        settled |= credit
        self._advance()
        return settled

    def receipts(self) -> list[list[int]]:
        """Income of the last blocks, those that are not final."""
        return self.income[len(self.income) - self.lag :]

    def spendable(self, i: int) -> int:
        """Money that is final."""
        return int(self.balances[i] - sum(hour[i] for hour in self.receipts()))

    def _pay(self, payer: int, payee: int, amount: int) -> None:
        self.balances[payer] -= amount
        self.balances[payee] += amount

    def _advance(self) -> None:
        assert self.orders is not None
        assert self.market is not None
        charged = zip(self.soc, self.orders["charge_wh"], self.orders["discharge_wh"], strict=True)
        self.soc = [s + c * self.rules["battery_efficiency_permille"] // 1000 - x for s, c, x in charged]
        limit = self.rules["credit_limit_utok"]
        self.overdrawn |= limit is not None and min(self.balances[: self.P]) < -limit
        self.last_price, self.last_dr = self.market["price"], self.market["dr_price"]
        self.orders = self.market = None
        self.t += 1
        self.phase = CLOSED if self.t == self.H else BIDDING
        if self.phase == BIDDING:
            self.home = self._homes()

    def numbers(self) -> Numbers:
        """The state by the names of the environment's; energy that returns in hour `h` is in slot `h mod deadline`."""
        slots: list[list[int]] = [[0] * self.P for _ in range(self.deadline)]
        for hour in range(self.t, min(self.t + self.deadline, self.H)):
            slots[hour % self.deadline] = self.due[hour]
        state: Numbers = {"hour": self.t, "phase": self.phase, "beta": self.beta, "import_price": self.imp,
                          "export_price": self.exp, "participates": self.nature.participates, "backlog": slots,
                          "soc_wh": self.soc, "balances": self.balances, "last_price": self.last_price,
                          "last_dr_price": self.last_dr, "clamped_actions": self.clamped,
                          "overdrawn": self.overdrawn,
                          "receipts": self.receipts() if self.strict else None}  # fmt: skip
        for name, part in (("home", self.home), ("orders", self.orders), ("market", self.market)):
            state |= {name: None} if part is None else {f"{name}.{key}": value for key, value in part.items()}
        return state
