"""Play a day of EVQuota and keep what the comparison needs, as integers, half hour by half hour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.step import Settled
from gridmarl.optimum.ev_charging import ChargingPlan, ChargingProblem, plan_charging

Integers = NDArray[np.int64]
Policy = Callable[[Tensor], Tensor]


@dataclass
class QuotaEpisode:
    """One day in `E` lanes: `T` half hours, `N` stations; int64, Wh and µtok."""

    margin_wh: Integers  # [T, E] as it turned out
    scarce: Integers  # [T, E] 0 or 1
    traded_wh: Integers  # [T, E]
    overload_wh: Integers  # [T, E]
    used_wh: Integers  # [T, N, E]
    over_declared_wh: Integers  # [T, N, E] beyond what the vehicles could take
    over_used_wh: Integers  # [T, N, E] beyond the final quota
    unserved_wh: Integers  # [T, N, E]
    value_utok: Integers  # [T, N, E] of delivered energy, less the cost of what is unserved
    fee_utok: Integers  # [T, N, E]
    penalty_utok: Integers  # [T, N, E] penalties and forfeitures
    reward_utok: Integers  # [T, N, E]

    @property
    def bill_utok(self) -> Integers:
        """Of each station, `[N, E]`: fees, penalties and what it pays for quota, less what it gets for quota."""
        bill: Integers = (self.value_utok - self.reward_utok).sum(0)
        return bill

    @property
    def welfare_utok(self) -> Integers:
        """Of each lane, `[E]`: value less fees, which stand for the cost of the energy; other payments cancel out."""
        total: Integers = (self.value_utok - self.fee_utok).sum((0, 1))
        return total


def play_day(env: BatchedEVQuota, policy: Policy, seed: int) -> QuotaEpisode:
    """One episode of a policy, observations `[E, N, F]` to actions."""
    return play_on(env, env.reset(seed), policy)


def play_on(env: BatchedEVQuota, observation: Tensor, policy: Policy) -> QuotaEpisode:
    """The episode of a policy from the start of a day that `env` is at, of which it has seen the observation."""
    columns, ended = [], False
    while not ended:
        with torch.no_grad():
            result = env.step(policy(observation))
        observation, ended = result.observation, bool(result.truncated[0])
        if env.settled is not None:
            columns.append(_columns(env.settled))
    return QuotaEpisode(**{name: torch.stack([row[name] for row in columns]).cpu().numpy() for name in columns[0]})


def _columns(settled: Settled) -> dict[str, Tensor]:
    charges = settled.charges
    return {
        "margin_wh": settled.actual_margin_wh,
        "scarce": settled.declared.scarce.to(torch.int64),
        "traded_wh": settled.trades.volume_wh,
        "overload_wh": settled.overload_wh,
        "used_wh": settled.used_wh,
        "over_declared_wh": (settled.declared.declared_wh - settled.situation.possible_wh).clamp(min=0),
        "over_used_wh": (settled.used_wh - settled.quota_wh).clamp(min=0),
        "unserved_wh": settled.unserved_wh,
        "value_utok": settled.value_utok - settled.unserved_utok,
        "fee_utok": charges.fee_utok,
        "penalty_utok": charges.penalty_utok + charges.forfeit_utok,
        "reward_utok": settled.reward_utok,
    }


def coordinate(env: BatchedEVQuota, seed: int, on_lane: Callable[[], None] | None = None) -> list[ChargingPlan]:
    """The coordinator's plan for each lane of the same day: `welfare_utok` is what no policy within its quotas exceeds.

    Raises:
        SolverError: a lane that the solver does not solve.
    """
    env.reset(seed)
    state, plans = env.state, []
    horizon = env.params.horizon_half_hours
    vehicles = [part.flatten(0, 1).cpu().numpy() for part in (*state.sessions, state.remaining_wh)]
    arrival, departure, power, value, energy = vehicles
    margin, tariff = state.margin_wh.narrow(0, 0, horizon).cpu().numpy(), state.tariff.cpu().numpy()
    for lane in range(env.num_envs):
        problem = ChargingProblem(
            arrival=arrival[:, lane],
            departure=departure[:, lane],
            max_power_w=power[:, lane],
            energy_wh=energy[:, lane],
            value=value[:, lane],
            margin_wh=margin[:, lane],
            tariff=tariff,
            unserved_cost=env.params.unserved_utok_per_wh,
        )
        plans.append(plan_charging(problem))
        if on_lane is not None:
            on_lane()
    return plans
