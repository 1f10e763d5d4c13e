"""A slow, obvious player of the two-stage market: random hours by docs/market-rules.md, one lane after the other.

Shares no code with the package: prices are found by trying every integer price against the definition of a clearing
price, shares by exact fractions. Use small price ranges.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

import torch

from gridmarl.ledger.hour import HourRecord


@dataclass(frozen=True)
class Play:
    """Rules and ranges of a random play; names as in the rules."""

    P: int = 3
    H: int = 4
    k: int = 500
    price_rule: str = "uniform"
    dr: str = "two_settlement"
    alpha: int | None = 1000
    penalty: int = 300
    share: int = 600
    deadline: int = 2
    capacity: int = 0
    power: int = 0
    eff: int = 900
    soc0: int = 0
    price_range: tuple[int, int] = (-10, 60)
    energy: int = 40
    finality: str = "instant"
    lag: int = 0
    credit: int | None = None
    ppm: int = 0


def rotated_shares(total, weights, start):
    order = [(start + j) % len(weights) for j in range(len(weights))]
    mass = sum(weights)
    result = [0] * len(weights)
    for position, index in enumerate(order):
        if weights[index]:
            before = sum(weights[j] for j in order[:position])
            result[index] = floor(Fraction(total * (before + weights[index]), mass)) - floor(
                Fraction(total * before, mass)
            )
    return result


def clear_by_definition(play, t, imp, exp, b, B, s, S):
    def demand(p, strict):
        return sum(q for price, q in zip(b, B, strict=True) if (price > p if strict else price >= p))

    def supply(p, strict):
        return sum(q for price, q in zip(s, S, strict=True) if (price < p if strict else price <= p))

    clearing = [
        p for p in range(exp, imp + 1) if demand(p, True) <= supply(p, False) and supply(p, True) <= demand(p, False)
    ]
    lo, hi = clearing[0], clearing[-1]
    volume = min(demand(lo, False), supply(lo, False))
    qb = [q if price > lo else 0 for price, q in zip(b, B, strict=True)]
    qs = [q if price < lo else 0 for price, q in zip(s, S, strict=True)]
    extra_b = rotated_shares(volume - sum(qb), [q if p == lo else 0 for p, q in zip(b, B, strict=True)], t % play.P)
    extra_s = rotated_shares(volume - sum(qs), [q if p == lo else 0 for p, q in zip(s, S, strict=True)], t % play.P)
    qb = [x + y for x, y in zip(qb, extra_b, strict=True)]
    qs = [x + y for x, y in zip(qs, extra_s, strict=True)]
    if sum(B) > 0 and sum(S) == 0:
        price = imp
    elif sum(S) > 0 and sum(B) == 0:
        price = exp
    elif play.price_rule == "marginal_pair" and volume > 0:
        price = floor(
            Fraction(
                min(p for p, q in zip(b, qb, strict=True) if q > 0)
                + max(p for p, q in zip(s, qs, strict=True) if q > 0),
                2,
            )
        )
    else:
        price = lo + floor(Fraction(play.k * (hi - lo), 1000))
    return price, volume, qb, qs


def draw_orders(play, rng, t, imp, exp, r, soc):
    P = play.P
    b = [rng.choice([exp, imp, rng.randint(exp, imp)]) for _ in range(P)]
    s = [rng.choice([exp, imp, rng.randint(exp, imp)]) for _ in range(P)]
    scale = play.energy * rng.choice([0, 1, 1, 1])
    other = play.energy * rng.choice([0, 1, 1, 2])
    d = [rng.randint(0, scale) for _ in range(P)]
    f = [rng.choice([0, rng.randint(0, other)]) for _ in range(P)]
    g = [max(0, v + rng.choice([0, 0, -3, 5])) for v in f]
    c, x = [0] * P, [0] * P
    for i in range(P):
        if t == play.H - 1:
            gap = play.soc0 - soc[i]
            c[i], x[i] = ceil(Fraction(max(gap, 0) * 1000, play.eff)), max(-gap, 0)
        elif rng.random() < 0.5:
            c[i] = rng.randint(0, min(play.power, floor(Fraction((play.capacity - soc[i]) * 1000, play.eff))))
        else:
            x[i] = rng.randint(0, min(play.power, soc[i]))
        soc[i] += floor(Fraction(c[i] * play.eff, 1000)) - x[i]
    B = [d[i] + r[i] + c[i] for i in range(P)]
    S = [f[i] + x[i] for i in range(P)]
    return b, B, s, S, d, f, g, c, x


def spendable(play, balances, income, i):
    """Balance less what came in with the last blocks; `income[block][i]`."""
    return balances[i] - sum(block[i] for block in income[max(0, len(income) - play.lag) :])


def play_hour(play, rng, t, prices, backlog, soc, balances, income):
    """One hour of one lane as a dictionary; `backlog[hour][i]`, `soc`, `balances` and `income` are updated."""
    P = play.P
    imp, exp = prices[t]
    r = backlog[t]
    b, B, s, S, d, f, g, c, x = draw_orders(play, rng, t, imp, exp, r, soc)
    strict, book = play.finality == "strict", list(B)
    if strict and play.credit is not None:
        for i in range(P):
            if max(0, b[i] * B[i]) > spendable(play, balances, income, i) + play.credit:
                book[i] = 0
    pi, volume, qb, qs = clear_by_definition(play, t, imp, exp, b, book, s, S)
    shortage = max(sum(B) - sum(S), 0)
    alpha = rng.choice([1000, 1500]) if play.alpha is None else play.alpha
    pi_dr = max(0, min(floor(Fraction(alpha * pi, 1000)), imp)) if shortage else 0
    o = [rng.randint(0, d[i]) if pi_dr > 0 else 0 for i in range(P)]
    a = rotated_shares(min(sum(o), shortage), o, t % P)
    rho = pi + pi_dr if play.dr == "additive" else pi_dr
    window = range(t + 1, min(t + play.deadline, play.H - 1) + 1)
    if len(window):
        hour = min(window, key=lambda h: (prices[h][0], h))
        for i in range(P):
            backlog[hour][i] += floor(Fraction(play.share * a[i], 1000))
    v = [f[i] - g[i] for i in range(P)]
    m = [d[i] - a[i] + r[i] + c[i] for i in range(P)]
    penalty = floor(Fraction(play.penalty * (abs(pi) + abs(imp)), 2000))
    flow = [qb, qs, [B[i] - qb[i] for i in range(P)], [S[i] - qs[i] for i in range(P)], a]
    flow += [[max(e, 0) for e in v], [max(-e, 0) for e in v], [abs(e) for e in v]]
    price = [pi, pi, imp, exp, rho, imp, exp, penalty]
    needed, bought, sold = sum(v) - sum(a), sum(flow[2]), sum(flow[3])
    upstream = [
        max(0, bought + min(needed, 0)) + max(0, needed - sold),
        max(0, sold - max(needed, 0)) + max(0, -needed - bought),
    ]
    assert sum(g) + sum(x) + upstream[0] == sum(m) + upstream[1]
    operator, grid = P + 1, P + 2
    other = [P, P, operator, operator, operator, operator, operator, operator]
    from_prosumer = [1, -1, 1, -1, -1, 1, -1, 1]
    income.append([0] * P)
    for kind in range(8):
        for i in range(P):
            amount = from_prosumer[kind] * flow[kind][i] * price[kind]
            balances[i] -= amount
            balances[other[kind]] += amount
            if amount < 0:
                income[-1][i] -= amount
    balances[operator] += upstream[1] * exp - upstream[0] * imp
    balances[grid] -= upstream[1] * exp - upstream[0] * imp
    assert balances[P] == 0
    bank = {}
    if strict:
        owed = [max(0, -spendable(play, balances, income, i)) for i in range(P)]
        interest = [floor(Fraction(owed[i] * play.ppm, 1_000_000)) for i in range(P)]
        for i in range(P):
            balances[i] -= interest[i]
            balances[operator] += interest[i]
        bank = {"debts_utok": [owed, interest]}
    return {
        "import_price": imp, "export_price": exp, "alpha_permille": alpha, "price": pi, "dr_price": pi_dr,
        "shortage_wh": shortage, "volume_wh": volume, "buy_price": b, "buy_wh": B, "sell_price": s, "sell_wh": S,
        "demand_wh": d, "offered_wh": o, "returned_wh": list(r), "charge_wh": c, "discharge_wh": x,
        "generation_wh": g, "load_wh": m, "flow_wh": flow, "flow_price": [[p] * P for p in price],
        "upstream_wh": upstream, "balances": list(balances), **bank,
    }  # fmt: skip


def play_lane(play, seed, episodes=1):
    """All hours of one lane, episode after episode; market balance starts at 0, the others at 1,000."""
    rng = random.Random(seed)
    balances = [1000] * play.P + [0, 1000, 1000]
    hours, income = [], []
    for _ in range(episodes):
        low, high = play.price_range
        prices = [tuple(sorted((rng.randint(low, high), rng.randint(low, high)), reverse=True)) for _ in range(play.H)]
        backlog = [[0] * play.P for _ in range(play.H)]
        soc = [play.soc0] * play.P
        hours += [play_hour(play, rng, t, prices, backlog, soc, balances, income) for t in range(play.H)]
    return hours


def play_records(play, seeds, episodes=1):
    """HourRecords of one lane per seed."""
    lanes = [play_lane(play, seed, episodes) for seed in seeds]
    records = []
    for step in range(play.H * episodes):
        stacked = {
            name: torch.stack([torch.tensor(lane[step][name], dtype=torch.int64) for lane in lanes], dim=-1)
            for name in lanes[0][step]
        }
        records.append(HourRecord(period=step % play.H, **stacked))
    return records


def rules_of(play, **changes):
    """Constructor arguments of the package's Rules."""
    values = {
        "num_prosumers": play.P, "horizon_hours": play.H, "initial_balances": (1000,) * play.P + (0, 1000, 1000),
        "k_permille": play.k, "price_rule": play.price_rule, "dr_settlement": play.dr, "alpha_permille": play.alpha,
        "penalty_permille": play.penalty, "shift_share_permille": play.share, "shift_deadline_hours": play.deadline,
        "battery_capacity_wh": play.capacity, "battery_power_w": play.power,
        "battery_efficiency_permille": play.eff, "battery_initial_wh": play.soc0,
        "finality": play.finality, "finality_lag_hours": play.lag, "local_credit_utok": play.credit,
        "credit_interest_ppm": play.ppm,
    }  # fmt: skip
    return values | changes


def variant(play, **changes):
    return replace(play, **changes)
