"""The step as compiled graphs: one for all hours but the last, one for the last. The same bits as the eager step.

The hour goes in as a tensor, so that a graph serves every hour; what depends on its being the last one is decided on
the host, as it is in the eager step. Graphs are compiled at their first use (some ten seconds each), for one number of
lanes.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from gridmarl.envs.base.state import StepResult
from gridmarl.envs.two_stage_dr.observe import observe_at
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import State
from gridmarl.envs.two_stage_dr.step import Settled, step_at
from gridmarl.protocols import ActionSpec
from gridmarl.scenarios.scenario import Scenario


def _hour(
    params: TwoStageDRParams,
    spec: ActionSpec,
    scenario: Scenario,
    scales: Tensor,
    keep: bool,
    state: State,
    hour: Tensor,
    last: bool,
    actions: Tensor,
    alpha_permille: Tensor | None,
) -> tuple[State, StepResult[Settled], Tensor]:
    state, result = step_at(params, spec, scenario, state, hour, last, actions, alpha_permille, keep)
    observation = observe_at(params, state, hour + state.hour, scales)
    return state, result if keep else result._replace(settled=None), observation


class CompiledStep:
    """`step` and `observe` in one graph.

    Args:
        keep: update the accounts and return what happened (`StepResult.settled`); else neither.
    """

    def __init__(
        self, params: TwoStageDRParams, spec: ActionSpec, scenario: Scenario, scales: Tensor, *, keep: bool
    ) -> None:
        # torch keeps graphs by code object and gives up after eight; with a copy each environment has its own count
        own = FunctionType(_hour.__code__.replace(), _hour.__globals__, "_hour")
        self._graph: Any = torch.compile(own, fullgraph=True, dynamic=False)
        self._fixed = (params, spec, scenario, scales, keep)
        self._hours = torch.arange(params.horizon_hours, device=scales.device)

    def __call__(
        self, state: State, actions: Tensor, alpha_permille: Tensor | None
    ) -> tuple[State, StepResult[Settled], Tensor]:
        """The next state, the outcome and the observation that follows."""
        hour, hours = state.hour, self._hours.size(0)
        # graphs are guarded by every host number they read: the hour is the same one for all of them
        frozen = state.with_changes(hour=0)
        last = hour == hours - 1
        state, result, observation = self._graph(
            *self._fixed, frozen, self._hours.select(0, hour), last, actions, alpha_permille
        )
        if result.settled is not None:
            result = result._replace(settled=result.settled._replace(hour=hour))
        return state.with_changes(hour=hour + state.hour), result, observation
