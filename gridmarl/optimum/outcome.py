"""What a schedule amounts to: welfare and its certificate, prices, and bills that add up to the aggregator's cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gridmarl.optimum.battery import battery_owners
from gridmarl.optimum.model import Model
from gridmarl.optimum.problem import PlanProblem
from gridmarl.optimum.quadratic import SolverError
from gridmarl.optimum.rows import FloatArray
from gridmarl.units import PERMILLE

MAX_RELATIVE_GAP = 1e-6
# An hour's net exchange below this share of its turnover is zero up to the solver's precision.
_NO_EXCHANGE = 1e-7
# Where next to nothing is at stake the gap is measured to a thousandth of the smallest unit of money, 0.001 µtok.
_LEAST_TURNOVER_UTOK = 1000.0


@dataclass(frozen=True)
class PeriodCost:
    """What the energy of some hours cost the aggregator; floats, NaN where a denominator is zero.

    Attributes:
        break_even_utok_per_wh: the one price, the same in all these hours, paid for load and paid to generators alike,
            at which it breaks even: `(imp*M - exp*X) / (load - supply)`. Ill-conditioned where load and supply nearly
            cancel.
        load_weighted_utok_per_wh: mean of the hourly break-even prices, weighted by load.
        average_cost_utok_per_wh: `(imp*M - exp*X) / load`.
    """

    break_even_utok_per_wh: float
    load_weighted_utok_per_wh: float
    average_cost_utok_per_wh: float


@dataclass(frozen=True, eq=False)
class Plan:
    """An optimal schedule of `P` prosumers over `T` hours; float64, energies in Wh, money in µtok.

    Attributes:
        welfare_utok: utility less discomfort less import cost plus export revenue.
        bound_utok: no feasible schedule has more welfare; from the solver's multipliers by Lagrangian relaxation, which
            is valid however imprecise they are.
        gap: `(bound_utok - welfare_utok)` over the sum of the amounts that make up welfare; at most
            `MAX_RELATIVE_GAP`.
        rounding_utok: by how much whole-number rounding can lift an outcome of the market above `bound_utok`: less than
            1 µtok of utility per prosumer and hour, and less than 1 Wh lost in charging, which pays at negative prices
            only.
        overlap_wh: energy that batteries charge and discharge in the same hour. Zero (but for the solver's noise): the
            plan could be carried out; else, at negative prices only, `welfare_utok` is an upper bound.
        consumption_wh: `[P, T]` in its own time, `n`.
        shifted_wh, returned_wh: `[P, T]` `o` and `r`.
        charge_wh, discharge_wh, soc_wh: `[P, T]`; `soc_wh` at the end of the hour.
        load_wh: `[P, T]` `n + r + c`.
        import_wh, export_wh: `[T]` exchange with the grid, all prosumers together.
        cost_utok: `[T]` `imp*M - exp*X`.
        dual_price_utok_per_wh: `[T]` marginal value of energy (`[P, T]` where each prosumer is alone).
        break_even_price_utok_per_wh: `[T]` internal price, paid for load and to generators alike, at which the
            aggregator breaks even in that hour: `(imp*M - exp*X) / (load - supply)`, or the dual price where nothing is
            exchanged. NaN where each prosumer is alone: there is no internal price.
        average_cost_utok_per_wh: `[T]` `cost_utok / load`, NaN where there is no load.
        bill_utok: `[P]` at the break-even prices (alone: at import and export price); adds up to the cost of exchange.
        pooled: one meter towards the grid for all.
        solver, solve_seconds: its name, and the wall-clock time of building, solving and checking.
    """

    welfare_utok: float
    utility_utok: float
    discomfort_utok: float
    import_cost_utok: float
    export_revenue_utok: float
    bound_utok: float
    gap: float
    rounding_utok: float
    overlap_wh: float
    consumption_wh: FloatArray
    shifted_wh: FloatArray
    returned_wh: FloatArray
    charge_wh: FloatArray
    discharge_wh: FloatArray
    soc_wh: FloatArray
    load_wh: FloatArray
    import_wh: FloatArray
    export_wh: FloatArray
    cost_utok: FloatArray
    dual_price_utok_per_wh: FloatArray
    break_even_price_utok_per_wh: FloatArray
    average_cost_utok_per_wh: FloatArray
    bill_utok: FloatArray
    pooled: bool
    solver: str
    solve_seconds: float

    def cost_of(self, first_hour: int = 0, end_hour: int | None = None) -> PeriodCost:
        """Cost of the hours `first_hour .. end_hour - 1`; by default of the whole horizon."""
        hours = slice(first_hour, end_hour)
        cost, load = float(self.cost_utok[hours].sum()), self.load_wh[:, hours].sum(axis=0)
        imported, exported = self.import_wh[hours].sum(), self.export_wh[hours].sum()
        net = imported - exported
        no_net = abs(net) <= _NO_EXCHANGE * max(1.0, imported + exported)
        weighted = float((self.break_even_price_utok_per_wh[hours] * load).sum())
        total = float(load.sum())
        return PeriodCost(
            break_even_utok_per_wh=float("nan") if no_net or not self.pooled else cost / float(net),
            load_weighted_utok_per_wh=weighted / total if total > 0 else float("nan"),
            average_cost_utok_per_wh=cost / total if total > 0 else float("nan"),
        )


@dataclass(frozen=True)
class Schedule:
    """A feasible schedule, `[P, T]` each, in Wh."""

    consumption: FloatArray
    shifted: FloatArray
    returned: FloatArray
    charge: FloatArray
    discharge: FloatArray
    soc: FloatArray


def account(
    model: Model, schedule: Schedule, prices: FloatArray, bound_utok: float, solver: str, solve_seconds: float
) -> Plan:
    """The plan of a feasible schedule, of marginal values `[G, T]` and of an upper bound of welfare.

    Raises:
        SolverError: the bound lies further than `MAX_RELATIVE_GAP` from the schedule's welfare, or the bills do not add
            up.
    """
    problem = model.problem
    load = schedule.consumption + schedule.returned + schedule.charge
    supply = problem.array("generation_wh") + schedule.discharge
    net = model.net_wh(load, supply)
    imported, exported = np.maximum(net, 0.0), np.maximum(-net, 0.0)
    cost = imported * model.imp - exported * model.exp
    comfort = schedule.consumption + schedule.shifted
    beta, gamma = problem.array("beta_utok_per_wh"), problem.array("gamma_ntok_per_wh2")
    utility = float((comfort * (beta - gamma / (2 * PERMILLE) * comfort)).sum())
    discomfort = float(schedule.shifted.sum() * problem.discomfort_utok_per_wh)
    welfare = utility - discomfort - float(cost.sum())
    turnover = abs(utility) + discomfort + float(np.abs(cost).sum())
    gap = (bound_utok - welfare) / max(turnover, _LEAST_TURNOVER_UTOK)
    if not abs(gap) <= MAX_RELATIVE_GAP:  # a NaN is not a proof either
        raise SolverError(
            f"{solver}: relative gap {gap:.3g} between bound and welfare, allowed is {MAX_RELATIVE_GAP:g}"
        )
    hour_cost = cost.sum(axis=0)
    break_even, bill = _prices_and_bills(model, load - supply, net, cost, prices, turnover)
    total_load = load.sum(axis=0)
    average = np.full(total_load.shape, np.nan)
    np.divide(hour_cost, total_load, out=average, where=total_load > 0)
    return Plan(
        welfare_utok=welfare,
        utility_utok=utility,
        discomfort_utok=discomfort,
        import_cost_utok=float((imported * model.imp).sum()),
        export_revenue_utok=float((exported * model.exp).sum()),
        bound_utok=bound_utok,
        gap=gap,
        rounding_utok=_rounding_utok(problem),
        overlap_wh=float(np.minimum(schedule.charge, schedule.discharge).sum()),
        consumption_wh=schedule.consumption,
        shifted_wh=schedule.shifted,
        returned_wh=schedule.returned,
        charge_wh=schedule.charge,
        discharge_wh=schedule.discharge,
        soc_wh=schedule.soc,
        load_wh=load,
        import_wh=imported.sum(axis=0),
        export_wh=exported.sum(axis=0),
        cost_utok=hour_cost,
        dual_price_utok_per_wh=prices[0] if model.pooled else prices,
        break_even_price_utok_per_wh=break_even,
        average_cost_utok_per_wh=average,
        bill_utok=bill,
        pooled=model.pooled,
        solver=solver,
        solve_seconds=solve_seconds,
    )


def _prices_and_bills(
    model: Model, own_net: FloatArray, net: FloatArray, cost: FloatArray, prices: FloatArray, turnover_utok: float
) -> tuple[FloatArray, FloatArray]:
    """Break-even prices `[T]` and bills `[P]` of the net loads `[P, T]` behind meters `[G, T]`."""
    if not model.pooled:
        return np.full(net.shape[1], np.nan), cost.sum(axis=1)
    exchanged = np.abs(net[0]) > _NO_EXCHANGE * np.maximum(1.0, np.abs(own_net).sum(axis=0))
    price = prices[0].copy()
    np.divide(cost[0], net[0], out=price, where=exchanged)
    bill = (own_net * price).sum(axis=1)
    residual = abs(float(bill.sum() - cost.sum()))
    if residual > MAX_RELATIVE_GAP * max(turnover_utok, _LEAST_TURNOVER_UTOK):
        raise SolverError(f"bills miss the aggregator's cost by {residual:.6g} µtok")
    return price, bill


def _rounding_utok(problem: PlanProblem) -> float:
    prosumers, hours = problem.shape
    owners = battery_owners(problem)
    efficiency = problem.array("battery_efficiency_permille")[owners] / PERMILLE
    dump_price = np.maximum(0.0, -problem.array("export_price_utok_per_wh"))
    return float(prosumers * hours + dump_price.sum() * (1.0 / efficiency).sum())
