"""Unilateral deviations in parallel lanes: many copies of the same episodes, in each of which one prosumer deviates.

Copy `c` of lane `e` is lane `c * E + e`. All copies have the keys and draws of their lane (common random numbers), so a
difference of profits is due to the deviation alone. Money in µtok, int64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gridmarl.contracts.two_stage import Phase
from gridmarl.envs.two_stage_dr.actions import action_spec
from gridmarl.envs.two_stage_dr.generator import check_bounds, reset
from gridmarl.envs.two_stage_dr.observe import FIELDS, observation_scales, observe
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import State
from gridmarl.envs.two_stage_dr.step import step_at
from gridmarl.protocols import ActionSpec
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.deviations.best_response import action_grid, take_lanes
from gridmarl.train.deviations.policy import FrozenPolicy

MAX_LANES = 4096
"""Lanes in one call at most: larger batches are not faster on a CPU, and memory stays within some 100 MB."""

Change = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the copies' numbers `[C]`, the deviators' own actions `[C, E, size]` and their observations `[C, E, F]` to what
they do instead, `[C, E, size]`."""

_HOUR, _STAGE = ([item.name for item in FIELDS].index(name) for name in ("hour_of_day", "stage"))


def hours_of_day(observation: Tensor) -> Tensor:
    """Hour of the day 0 .. 23, `[...]` float32, of observations `[..., F]`."""
    return observation[..., _HOUR] / FIELDS[_HOUR].scale


def entries_of_stage(names: tuple[str, ...], observation: Tensor) -> Tensor:
    """1 where an entry of an action counts in the stage that is observed, `[..., size]` float32, of `[..., F]`."""
    is_reduction = torch.tensor([name == "reduction" for name in names], device=observation.device)
    return (is_reduction == (observation[..., _STAGE] == 1.0).unsqueeze(-1)).float()


@dataclass(frozen=True)
class Market:
    """One market in the continuous action space, whose episodes can be played from any state."""

    params: TwoStageDRParams
    scenario: Scenario
    seed: int
    num_lanes: int
    spec: ActionSpec
    grid: Tensor  # [A, size] float32: the rows of the discrete action space
    scales: Tensor

    @classmethod
    def of(cls, params: TwoStageDRParams, scenario: Scenario, seed: int, num_lanes: int) -> Market:
        """The market on the scenario's device.

        Raises:
            ConfigError: the scenario is too large or too dear for the parameters.
        """
        params = replace(params, action_space="continuous")
        check_bounds(params, scenario)
        device = scenario.load_wh.device
        spec, scales = action_spec(params, device), observation_scales(device, params)
        return cls(params, scenario, seed, num_lanes, spec, action_grid(params, device), scales)

    def start(self, episode: int) -> State:
        """State of the lanes at the start of an episode; that of `BatchedTwoStageDR.reset(seed, episode)`."""
        return reset(self.params, self.scenario, self.seed, self.num_lanes, episode=episode)

    def observe(self, state: State) -> Tensor:
        """Observations `[lanes, P, F]` float32."""
        return observe(self.params, state, self.scales)

    def step(self, state: State, action: Tensor) -> tuple[State, Tensor]:
        """The next state and the rewards `[P, lanes]`; accounts are not kept."""
        last = state.hour == self.params.horizon_hours - 1
        state, result = step_at(self.params, self.spec, self.scenario, state, state.hour, last, action, None, False)
        return state, result.reward_utok

    def copies(self, state: State, copies: int) -> State:
        """The lanes of a state, several times."""
        return take_lanes(state, torch.arange(state.num_envs, device=state.device).repeat(copies))

    def deviate(self, action: Tensor, deviator: Tensor, instead: Tensor) -> Tensor:
        """Actions `[C * E, P, size]` with that of prosumer `deviator[c]` in copy `c` replaced by `instead[c]`."""
        out = action.reshape(deviator.numel(), self.num_lanes, *action.shape[1:]).clone()
        out[torch.arange(deviator.numel(), device=out.device), :, deviator] = instead
        return out.flatten(0, 1)

    def own(self, values: Tensor, deviator: Tensor) -> Tensor:
        """The deviators' part `[C, E, ...]` of `[C * E, P, ...]`."""
        split = values.reshape(deviator.numel(), self.num_lanes, *values.shape[1:])
        return split[torch.arange(deviator.numel(), device=values.device), :, deviator]

    def chunks(self, copies: int, max_lanes: int = MAX_LANES) -> Iterator[Tensor]:
        """Numbers of copies that are played together, at least one."""
        device = self.scenario.load_wh.device
        yield from torch.arange(copies, device=device).split(max(1, max_lanes // self.num_lanes))


@dataclass(frozen=True)
class OwnPlay:
    """What each prosumer gets by the policy itself; int64 `[P, E]`."""

    profit_utok: Tensor
    no_trade_utok: Tensor  # by the forecasts, see the observation field outside_option_tok


def play_own(market: Market, policy: FrozenPolicy, episode: int) -> OwnPlay:
    """One episode in which nobody deviates. The policy goes on from its state and keeps the new one."""
    state = market.start(episode)
    profit = torch.zeros_like(state.soc_wh)
    no_trade = torch.zeros_like(profit)
    while state.phase is not Phase.CLOSED:
        if state.phase is Phase.BIDDING:
            no_trade = no_trade + state.home.outside_utok
        state, reward = market.step(state, policy.act(market.observe(state)))
        profit = profit + reward
    return OwnPlay(profit, no_trade)


def play_deviations(
    market: Market,
    policy: FrozenPolicy,
    episode: int,
    deviator: Tensor,
    change: Change,
    max_lanes: int = MAX_LANES,
) -> Tensor:
    """Profit of the deviators over an episode, `[C, E]` int64; the policy's state is left as it was.

    Args:
        deviator: `[C]` int64, who deviates in each copy.
        change: what the deviator does instead, in every step.
    """
    before, profits = policy.snapshot(), []
    for chunk in market.chunks(deviator.numel(), max_lanes):
        policy.restore(before)
        who = deviator[chunk]
        state = market.copies(market.start(episode), who.numel())
        profit = torch.zeros((who.numel(), market.num_lanes), dtype=torch.int64, device=state.device)
        while state.phase is not Phase.CLOSED:
            observation = market.observe(state)
            action = policy.act(observation)
            instead = change(chunk, market.own(action, who), market.own(observation, who))
            state, reward = market.step(state, market.deviate(action, who, instead))
            profit += market.own(reward.T, who)
        profits.append(profit)
    policy.restore(before)
    return torch.cat(profits)
