"""Instances of the planner's problem, and slow, obvious counterparts of it, shared by the tests of this folder."""

from __future__ import annotations

from typing import Any

import numpy as np

from gridmarl.optimum import PlanProblem

FIELDS = ("beta_utok_per_wh", "gamma_ntok_per_wh2", "d_min_wh", "d_max_wh", "generation_wh")


def home(hours: int, **fields: Any) -> PlanProblem:
    """One home; marginal utility 30,000 - 10 d µtok/Wh, 0 .. 5,000 Wh, no generation, 10,000 in and 4,000 out."""
    values: dict[str, Any] = dict(zip(FIELDS, (30_000, 10_000, 0, 5_000, 0), strict=True))
    values |= {name: fields.pop(name) for name in FIELDS if name in fields}
    shaped = {name: np.broadcast_to(value, (1, hours)) for name, value in values.items()}
    prices = {"import_price_utok_per_wh": [10_000] * hours, "export_price_utok_per_wh": [4_000] * hours}
    return PlanProblem(**shaped, **(prices | fields))


def random_problem(
    seed: int, prosumers: int = 4, hours: int = 12, *, low_price: int = 2_000, **fields: Any
) -> PlanProblem:
    """Homes of different size, some hours without load, PV for about half of them, prices from `low_price` on."""
    rng = np.random.default_rng(seed)
    shape = (prosumers, hours)
    load = rng.integers(50, 3_000, shape) * (rng.random(shape) < 0.9)
    reference, elasticity = 5_000, 400
    gamma = (2 * 10**6 * reference + elasticity * load) // (2 * elasticity * np.maximum(load, 1))
    sun = np.maximum(0, np.sin((np.arange(hours) % 24 - 6) / 12 * np.pi)) if hours > 18 else rng.random(hours)
    wholesale = rng.integers(low_price, 12_000, hours)
    values: dict[str, Any] = {
        "beta_utok_per_wh": np.full(shape, reference * (1000 + elasticity) // elasticity),
        "gamma_ntok_per_wh2": np.where(load > 0, np.maximum(gamma, 1), 1),
        "d_min_wh": load * 300 // 1000,
        "d_max_wh": load * 1500 // 1000,
        "generation_wh": (sun * rng.integers(0, 6_000, (prosumers, 1)) * (rng.random((prosumers, 1)) < 0.6)).astype(
            int
        ),
        "import_price_utok_per_wh": wholesale + 3_000,
        "export_price_utok_per_wh": wholesale - 1_500,
    }
    return PlanProblem(**(values | fields))


def flexible(**fields: Any) -> dict[str, Any]:
    """Shifting and batteries, as keyword arguments."""
    values: dict[str, Any] = {
        "shift_share_permille": 600,
        "shift_deadline_hours": 4,
        "discomfort_utok_per_wh": 300,
        "battery_capacity_wh": 4_000,
        "battery_power_w": 1_500,
        "battery_efficiency_permille": 900,
        "battery_initial_wh": 1_000,
    }
    return values | fields


def naive_welfare_utok(problem: PlanProblem, *, pooled: bool) -> float:
    """The same optimum from a textbook formulation: a flow per pair of hours, import and export apart."""
    import cvxpy as cp

    prosumers, hours = problem.shape
    unit = 1000.0  # kWh and tokens per MWh
    number = {name: problem.array(name) / unit for name in ("d_min_wh", "d_max_wh", "generation_wh")}
    beta, gamma = problem.array("beta_utok_per_wh") / unit, problem.array("gamma_ntok_per_wh2") / unit
    imp, exp = problem.array("import_price_utok_per_wh") / unit, problem.array("export_price_utok_per_wh") / unit
    share = problem.shift_share_permille / 1000
    rules, consumption, net, utility = [], [], [], 0
    for p in range(prosumers):
        n, flow = cp.Variable(hours), cp.Variable((hours, hours), nonneg=True)
        c, x, soc = (
            cp.Variable(hours, nonneg=True),
            cp.Variable(hours, nonneg=True),
            cp.Variable(hours + 1, nonneg=True),
        )
        out, back = cp.sum(flow, axis=1), cp.sum(flow, axis=0)
        low, high = number["d_min_wh"][p], number["d_max_wh"][p]
        rules += [n >= low, n <= high, out <= share * (high - n)]
        for s in range(hours):
            for t in range(hours):
                if not s < t <= s + problem.shift_deadline_hours:
                    rules.append(flow[s, t] == 0)
        capacity, power = problem.array("battery_capacity_wh")[p] / unit, problem.array("battery_power_w")[p] / unit
        initial, eff = (
            problem.array("battery_initial_wh")[p] / unit,
            problem.array("battery_efficiency_permille")[p] / 1000,
        )
        rules += [soc <= capacity, soc[0] == initial, soc[hours] == initial, soc[1:] == soc[:-1] + eff * c - x]
        rules += [c[: hours - 1] <= power, x[: hours - 1] <= power]
        utility += beta[p] @ (n + out) - cp.sum(cp.multiply(gamma[p] / 2, cp.square(n + out)))
        utility -= problem.discomfort_utok_per_wh / unit * cp.sum(out)
        consumption.append(n)
        net.append(n + back + c - x - number["generation_wh"][p])
    for load in [sum(net)] if pooled else net:
        imported, exported = cp.Variable(hours, nonneg=True), cp.Variable(hours, nonneg=True)
        rules.append(imported - exported == load)
        utility += exp @ exported - imp @ imported
    problem_ = cp.Problem(cp.Maximize(utility), rules)
    problem_.solve(solver=cp.CLARABEL)
    return float(problem_.value) * unit * unit
