"""Batteries: efficiency applied once, on charging; never charging and discharging at once; charge restored at the end.

"Never both" is not convex. The rows are those of its convex hull, `c + x <= power` and in the last hour one chord each:
an upper bound that is tight unless burning energy pays, which needs a negative price of energy.
"""

from __future__ import annotations

import numpy as np

from gridmarl.optimum.problem import Int64Array, PlanProblem
from gridmarl.optimum.rows import Builder, FloatArray
from gridmarl.units import PERMILLE


def battery_owners(problem: PlanProblem) -> Int64Array:
    """Indices `[B]` of the prosumers whose battery can do anything; nobody's in a horizon of one hour."""
    usable = (np.asarray(problem.battery_capacity_wh) > 0) & (np.asarray(problem.battery_power_w) > 0)
    return np.flatnonzero(usable & (problem.shape[1] > 1)).astype(np.int64)


def _fields(problem: PlanProblem) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Capacity, power, initial charge (Wh) and efficiency (ratio) of the owners, `[B]` each."""
    owners = battery_owners(problem)
    names = ("battery_capacity_wh", "battery_power_w", "battery_initial_wh", "battery_efficiency_permille")
    capacity, power, initial, efficiency = (problem.array(name)[owners] for name in names)
    return capacity, power, initial, efficiency / PERMILLE


def add_batteries(builder: Builder) -> None:
    """Adds the blocks `charge`, `discharge` and `soc` (charge at the end of the hour), `[B, T]`."""
    owners, hours = battery_owners(builder.problem), builder.problem.shape[1]
    if not owners.size:
        return
    capacity, power, initial, efficiency = _fields(builder.problem)
    shape = (owners.size, hours)
    charge_limit, discharge_limit = np.empty(shape), np.empty(shape)
    charge_limit[:] = np.minimum(power, capacity / efficiency)[:, None]
    discharge_limit[:] = np.minimum(power, capacity)[:, None]
    charge_limit[:, 0] = np.minimum(power, (capacity - initial) / efficiency)
    discharge_limit[:, 0] = np.minimum(power, initial)
    charge_limit[:, -1], discharge_limit[:, -1] = initial / efficiency, capacity - initial
    low, high = np.zeros(shape), np.repeat(capacity[:, None], hours, axis=1)
    low[:, -1] = high[:, -1] = initial
    charge, discharge = builder.new("charge", 0.0, charge_limit), builder.new("discharge", 0.0, discharge_limit)
    soc = builder.new("soc", low, high)

    gain = efficiency[:, None]
    builder.equal.add(initial, (soc[:, 0], 1.0), (charge[:, 0], -efficiency), (discharge[:, 0], 1.0))
    builder.equal.add(
        np.zeros((owners.size, hours - 1)),
        (soc[:, 1:], 1.0), (soc[:, :-1], -1.0), (charge[:, 1:], -gain), (discharge[:, 1:], 1.0),
    )  # fmt: skip
    inner, before = slice(1, hours - 1), soc[:, : hours - 2]
    builder.most.add(high[:, inner], (charge[:, inner], gain), (before, 1.0))
    builder.most.add(np.zeros_like(high[:, inner]), (discharge[:, inner], 1.0), (before, -1.0))
    both = (charge_limit[:, :-1] > 0) & (discharge_limit[:, :-1] > 0)
    limit = np.broadcast_to(power[:, None], both.shape)[both]
    builder.most.add(limit, (charge[:, :-1][both], 1.0), (discharge[:, :-1][both], 1.0))
    # Last hour: c = [initial - soc]+ / efficiency, x = [soc - initial]+, each below its chord over 0 .. capacity.
    inside = (initial > 0) & (initial < capacity)
    last, part = soc[inside, -2], initial[inside] / capacity[inside]
    restore = initial[inside] / efficiency[inside]
    builder.most.add(restore, (charge[inside, -1], 1.0), (last, restore / capacity[inside]))
    builder.most.add(np.zeros_like(restore), (discharge[inside, -1], 1.0), (last, part - 1.0))


def repair_batteries(
    problem: PlanProblem, charge_wh: FloatArray, discharge_wh: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Moves a nearly feasible schedule `[B, T]` to a feasible one: charge, discharge and charge held, `[B, T]`.

    Charging and discharging at once is netted where it burns nothing (efficiency 1) or where burning cannot pay (an
    export price that is not negative).
    """
    capacity, power, initial, efficiency = _fields(problem)
    charge, discharge = np.maximum(charge_wh, 0.0), np.maximum(discharge_wh, 0.0)
    soc = np.empty_like(charge)
    held = initial
    last = charge.shape[1] - 1
    no_gain = problem.array("export_price_utok_per_wh") >= 0
    for hour in range(last + 1):
        give = np.minimum(discharge[:, hour], held)
        if hour < last:
            give = np.minimum(give, power)
            take = np.minimum.reduce([charge[:, hour], (capacity - held) / efficiency, power - give])
            take = np.maximum(take, 0.0)
        else:
            # Any x between [held - initial]+ and its chord, and the c that then restores the charge.
            give = np.clip(give, np.maximum(held - initial, 0.0), held * (1.0 - initial / capacity))
            take = np.maximum(initial - held + give, 0.0) / efficiency
        netted = np.where((efficiency == 1.0) | no_gain[hour], np.minimum(take * efficiency, give), 0.0)
        take, give = np.maximum(take - netted / efficiency, 0.0), give - netted
        held = np.clip(held + take * efficiency - give, 0.0, capacity) if hour < last else initial
        charge[:, hour], discharge[:, hour], soc[:, hour] = take, give, held
    return charge, discharge, soc
