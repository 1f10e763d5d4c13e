"""Who decides on batteries in each form, and what whole Wh come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gridmarl.errors import GridmarlError
from gridmarl.optimum.planner import plan
from gridmarl.optimum.problem import PlanProblem
from gridmarl.optimum.quadratic import SolverError
from gridmarl.optimum.storage import Storage, follow, plan_charge, self_consume
from gridmarl.train.p2p.homes import Homes, Ints


def by_groups(homes: Homes, sizes: Sequence[int], dispatch: str) -> Ints:
    """What each home's battery charges (negative: discharges), `[T, P, E]`, one decision maker for each group.

    Args:
        homes: homes of a group follow each other.
        sizes: homes of each group; all 1: every home decides alone.
        dispatch: "plan" (perfect knowledge of the group's horizon, HiGHS) or "rule" (no foresight).

    Raises:
        GridmarlError: a plan that the solver does not find.
    """
    energy = np.zeros_like(homes.load_wh)
    if homes.storage is None:
        return energy
    first = 0
    for size in sizes:
        members = np.arange(first, first + size)
        owners = members[homes.owners[members]]
        first += size
        if owners.size:
            net = homes.net_wh[:, members].sum(1)
            each = _planned(homes, net, owners.size) if dispatch == "plan" else None
            each = self_consume(net, homes.storage, owners.size) if each is None else each
            energy[:, owners] = each[:, None]
    return energy


def _planned(homes: Homes, net_wh: Ints, batteries: int) -> Ints:
    """The same energy for each battery of a group, `[T, E]`."""
    assert homes.storage is not None
    columns = []
    for lane in range(net_wh.shape[1]):
        prices = homes.import_price[:, lane], homes.export_price[:, lane]
        try:
            found = plan_charge(net_wh[:, lane], *prices, homes.storage, batteries)
        except SolverError as error:
            raise GridmarlError(f"batteries, episode {lane}: {error}") from error
        columns.append(follow(found.held_wh, homes.storage))
    return np.stack(columns, axis=1)


def by_aggregator(homes: Homes, on_lane: Callable[[], None] | None = None) -> tuple[Ints, Ints, Ints]:
    """The central planner (`gridmarl.optimum`): it knows everything and owns no meter but the common one.

    Returns:
        Energy of the batteries as `by_groups` has it; `[T, E]` marginal value of energy, whole µtok/Wh; `[E]` a lower
        bound of the cost in µtok that no form can undercut, by weak duality, rounded down.

    Raises:
        GridmarlError: an episode that the solver does not solve.
        MissingExtraError: the solver is not installed.
    """
    energy, value, least = np.zeros_like(homes.load_wh), np.zeros_like(homes.import_price), []
    none = Storage(0, 0, 1000, 0)
    storage = homes.storage or none
    for lane in range(homes.load_wh.shape[2]):
        load = homes.load_wh[:, :, lane].T
        problem = PlanProblem(
            beta_utok_per_wh=np.zeros_like(load),
            gamma_ntok_per_wh2=np.ones_like(load),
            d_min_wh=load,
            d_max_wh=load,
            generation_wh=homes.generation_wh[:, :, lane].T,
            import_price_utok_per_wh=homes.import_price[:, lane],
            export_price_utok_per_wh=homes.export_price[:, lane],
            battery_capacity_wh=storage.capacity_wh * homes.owners,
            battery_power_w=storage.power_w * homes.owners,
            battery_efficiency_permille=storage.efficiency_permille,
            battery_initial_wh=storage.initial_wh * homes.owners,
        )
        try:
            found = plan(problem)
        except SolverError as error:
            raise GridmarlError(f"central planner, episode {lane}: {error}") from error
        for home in np.flatnonzero(homes.owners):
            energy[:, home, lane] = follow(found.soc_wh[home], storage)
        value[:, lane] = np.floor(found.dual_price_utok_per_wh)
        least.append(int(np.floor(found.utility_utok - found.bound_utok)))
        if on_lane is not None:
            on_lane()
    return energy, value, np.array(least, dtype=np.int64)
