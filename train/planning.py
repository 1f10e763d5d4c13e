"""The two benchmarks with full knowledge, per lane: no market (each alone) and first best (the central aggregator)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.errors import GridmarlError
from gridmarl.optimum.outcome import Plan
from gridmarl.optimum.planner import plan
from gridmarl.optimum.problem import PlanProblem
from gridmarl.optimum.quadratic import SolverError
from gridmarl.train.rollout import Episode


@dataclass(frozen=True)
class Benchmarks:
    """Plans of each lane of an evaluation."""

    no_market: list[Plan]
    first_best: list[Plan]


def plan_problem(params: TwoStageDRParams, episode: Episode, lane: int) -> PlanProblem:
    """The planner's problem of one lane: the same homes, prices and actual generation that the market saw."""
    gamma = episode.gamma[:, :, lane].T
    return PlanProblem(
        beta_utok_per_wh=gamma * 0 + episode.beta,
        gamma_ntok_per_wh2=gamma,
        d_min_wh=episode.d_min_wh[:, :, lane].T,
        d_max_wh=episode.d_max_wh[:, :, lane].T,
        generation_wh=episode.generation_wh[:, :, lane].T,
        import_price_utok_per_wh=episode.import_price[:, lane],
        export_price_utok_per_wh=episode.export_price[:, lane],
        shift_share_permille=params.shift_share_permille if params.has_shifting else 0,
        shift_deadline_hours=params.shift_deadline_hours if params.has_shifting else 0,
        discomfort_utok_per_wh=params.discomfort_utok_per_wh,
        battery_capacity_wh=params.battery_capacity_wh,
        battery_power_w=params.battery_power_w,
        battery_efficiency_permille=params.battery_efficiency_permille,
        battery_initial_wh=params.battery_initial_wh,
    )


def plan_benchmarks(
    params: TwoStageDRParams, episode: Episode, on_lane: Callable[[], None] | None = None
) -> Benchmarks:
    """Solve both benchmarks for every lane of an episode.

    Raises:
        GridmarlError: a lane that the solver does not solve.
        MissingExtraError: the solver is not installed.
    """
    no_market, first_best = [], []
    for lane in range(episode.price.shape[1]):
        problem = plan_problem(params, episode, lane)
        try:
            first_best.append(plan(problem, pooled=True))
            no_market.append(plan(problem, pooled=False))
        except SolverError as error:
            raise GridmarlError(f"central planner, lane {lane}: {error}") from error
        if on_lane is not None:
            on_lane()
    return Benchmarks(no_market, first_best)
