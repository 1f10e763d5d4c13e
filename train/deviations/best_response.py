"""Best response of one prosumer to fixed others, by exhaustive search, and the agent to compare with it: one learner
among truthful others.

Terms, for one prosumer, all in µtok over an episode:

* profit: the sum of its rewards (utility less discomfort plus what its account receives, docs/market-rules.md);
* no trade: what it would get without the market, buying at the import and selling at the export price (the observation
  field `outside_option_tok`); exact here, since generation equals its forecast;
* surplus: profit less no trade;
* best response: the greatest profit that the rows of its action grid can earn against the others' fixed bids;
* exploitability: best response less own profit, what a prosumer leaves on the table given the others (Lanctot et al.,
  "A unified game-theoretic approach to multiagent reinforcement learning", 2017, define it so). Negative only for a
  bidder that uses actions between the rows of the grid.

Hours must be separable: an hour's choice changes no other hour. Then the best response of an episode is the best row
of each hour, `T * A` trials instead of `A ** T`. It knows each hour's draws, the others' loads too, so it bounds from
above what a bidder can reach that sees its own observation only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gridmarl.agents.registry import make_agent
from gridmarl.envs.two_stage_dr.actions import action_spec
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.generator import check_bounds, reset
from gridmarl.envs.two_stage_dr.observe import FIELDS, observation_scales, observe
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import State, state_from_dict, state_to_dict
from gridmarl.envs.two_stage_dr.step import step
from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent, AgentContext, Transition
from gridmarl.scenarios.scenario import Scenario


@dataclass(frozen=True)
class BestResponse:
    """What one prosumer can earn against fixed others, per hour; int64, `T` hours, `E` lanes, `A` rows of the grid."""

    reward_utok: Tensor  # [T, A, E] of every row
    truthful_utok: Tensor  # [T, E] reward if it bids truthfully too
    no_trade_utok: Tensor  # [T, E]

    @property
    def row(self) -> Tensor:
        """The best row of each hour, `[T, E]`; the first on a tie."""
        return self.reward_utok.argmax(dim=1)

    @property
    def best_utok(self) -> Tensor:
        """Reward of the best row, `[T, E]`."""
        return self.reward_utok.amax(dim=1)

    def surplus_share(self, profit_utok: Tensor) -> float:
        """`(profit - no trade) / (best response - no trade)` over all lanes, for profits `[E]` or `[T, E]` in µtok."""
        no_trade = self.no_trade_utok.sum()
        return float((profit_utok.sum() - no_trade) / (self.best_utok.sum() - no_trade))

    def exploitability_utok(self, profit_utok: Tensor) -> Tensor:
        """Best response less profit, `[E]`, for episode profits `[E]`."""
        return self.best_utok.sum(dim=0) - profit_utok


def require_separable(params: TwoStageDRParams) -> None:
    """Raises ConfigError where an hour's choice reaches beyond the hour, or where it is more than one choice."""
    if params.has_battery:
        raise ConfigError(
            f"battery_capacity_wh: {params.battery_capacity_wh}, allowed is 0: a battery carries this hour's choice "
            "over to later hours, so hours cannot be searched one by one"
        )
    if params.has_shifting:
        raise ConfigError(
            f"shift_share_permille: {params.shift_share_permille} with shift_deadline_hours "
            f"{params.shift_deadline_hours}, allowed is 0 for one of them: shifted energy returns in a later hour, so "
            "hours cannot be searched one by one"
        )
    if params.forecast_error_permille:
        raise ConfigError(
            f"forecast_error_permille: {params.forecast_error_permille}, allowed is 0: with forecast errors the best "
            "row would depend on a deviation that no bidder can know"
        )
    if params.has_strict_finality:
        raise ConfigError(
            "finality: 'strict', allowed is 'instant': what this hour's choice costs decides which orders later hours "
            "take, so hours cannot be searched one by one"
        )
    if params.stage2 != "rule":
        raise ConfigError(
            f"stage2: {params.stage2!r}, allowed is 'rule': a learned stage 2 makes two choices in an hour, the second "
            "after the first is published"
        )


def action_grid(params: TwoStageDRParams, device: torch.device | str = "cpu") -> Tensor:
    """The continuous actions that the rows of the discrete action space stand for, `[A, size]` float32."""
    grid = action_spec(replace(params, action_space="discrete"), device).grid
    assert grid is not None
    return grid


def best_response(
    params: TwoStageDRParams,
    scenario: Scenario,
    seed: int,
    *,
    prosumer: int = 0,
    num_envs: int = 1,
    others: str = "truthful",
) -> BestResponse:
    """Try every row of a prosumer's action grid in every hour of one episode, from the same state.

    The others use the continuous action space, so that they are exactly truthful, whatever the grid. Lanes and draws
    are those of `BatchedTwoStageDR(params, scenario, num_envs=num_envs).reset(seed)`.

    Args:
        params: of a separable configuration; its `price_levels` and `quantity_levels` span the grid.
        seed: of the episode.
        prosumer: who deviates, 0 .. P-1.
        num_envs: lanes `E`, each an episode of its own.
        others: registered name of the others' policy, one that reads nothing of earlier hours and draws no random
            numbers.

    Raises:
        ConfigError: a battery, shifting, forecast errors or a learned stage 2; no such prosumer.
    """
    require_separable(params)
    if not 0 <= prosumer < params.num_prosumers:
        raise ConfigError(f"prosumer: {prosumer}, allowed are 0 .. {params.num_prosumers - 1}")
    params = replace(params, action_space="continuous")
    check_bounds(params, scenario)
    state = reset(params, scenario, seed, num_envs)
    device = state.device
    grid, spec, scales = action_grid(params, device), action_spec(params, device), observation_scales(device)
    policy = make_agent(others, AgentContext(num_envs, params.num_prosumers, FIELDS, spec, device, seed))
    trials = grid.shape[0]
    rewards, truthful, no_trade = [], [], []
    for _ in range(params.horizon_hours):
        action = policy.act(observe(params, state, scales), explore=False)
        tried = action.repeat_interleave(trials, dim=0)
        tried[:, prosumer] = grid.repeat(num_envs, 1)
        _, result = step(params, spec, scenario, repeat_lanes(state, trials), tried)
        rewards.append(result.reward_utok.select(0, prosumer).unflatten(0, (num_envs, trials)).T)
        no_trade.append(state.home.outside_utok.select(0, prosumer))
        # the next hour's state is that of the truthful path; in a separable configuration all paths offer the same
        state, result = step(params, spec, scenario, state, action)
        truthful.append(result.reward_utok.select(0, prosumer))
    return BestResponse(torch.stack(rewards), torch.stack(truthful), torch.stack(no_trade))


def repeat_lanes(state: State, copies: int) -> State:
    """Every lane `copies` times side by side: the copies of lane `e` are `e * copies .. (e + 1) * copies - 1`.

    A copy has the keys and draws of its original, so all copies meet the same conditions for ever.
    """
    return take_lanes(state, torch.arange(state.num_envs, device=state.device).repeat_interleave(copies))


def take_lanes(state: State, index: Tensor) -> State:
    """The lanes that `index` (`[N]` int64) names, in its order; a lane may be named several times."""

    def taken(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.index_select(-1, index)
        return tuple(taken(item) for item in value) if isinstance(value, tuple) else value

    return state_from_dict({name: taken(value) for name, value in state_to_dict(state).items()})


class OneLearner:
    """One learner among others of a fixed policy, as an `Agent`.

    The learner acts on the grid and is given its own observations, actions and rewards only. Others that use the
    continuous action space keep the whole of it; where they choose rows of the grid, so does the learner.

    Args:
        learner: an agent for discrete actions, built for one agent (see `learner_context`).
        others: the fixed policy, built for all prosumers; its choice for the learner's prosumer is replaced.
        grid: `[A, size]`, what the learner's choices stand for.
        prosumer: the learner's place.
    """

    name = "one_learner"
    learns = True

    def __init__(self, learner: Agent, others: Agent, grid: Tensor, prosumer: int = 0) -> None:
        self.learner, self.others, self.grid, self.prosumer = learner, others, grid, prosumer

    def _own(self, values: Tensor) -> Tensor:
        """`[E, 1, ...]` of `[E, P, ...]`."""
        return values.narrow(1, self.prosumer, 1)

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Actions `[E, P, size]` float32, or `[E, P]` int64 where that is what the others choose.

        The others do not explore: their policy is fixed.
        """
        rows = self.learner.act(self._own(observation), explore=explore).flatten()
        action = self.others.act(observation, explore=False).clone()
        action[:, self.prosumer] = self.grid.index_select(0, rows) if action.is_floating_point() else rows
        return action

    def learn(self, transition: Transition) -> dict[str, float]:
        """Pass the learner's part of a transition on to it."""
        rows = self._own(transition.action)
        if rows.is_floating_point():
            # rows of the grid differ from each other, so the nearest is the one that was chosen
            rows = (rows.unsqueeze(-2) - self.grid).square().sum(dim=-1).argmin(dim=-1)
        return self.learner.learn(
            Transition(
                observation=self._own(transition.observation),
                action=rows,
                reward=self._own(transition.reward),
                next_observation=self._own(transition.next_observation),
                terminated=transition.terminated,
                truncated=transition.truncated,
            )
        )

    def state_dict(self) -> dict[str, Any]:
        """Both parts' states."""
        return {"learner": self.learner.state_dict(), "others": self.others.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.learner.load_state_dict(state["learner"])
        self.others.load_state_dict(state["others"])


def one_learner(
    env: BatchedTwoStageDR,
    seed: int,
    *,
    prosumer: int = 0,
    others: str | Agent = "truthful",
    algorithm: str = "dqn",
    **options: Any,
) -> OneLearner:
    """A learner at `prosumer` among others of a fixed policy.

    Args:
        others: registered name, or an agent (a trained one, say) for this environment's action space and lanes.
        algorithm: registered name of the learner, one for discrete actions; `options` are its own.

    Raises:
        ConfigError: no such agent or prosumer, or a refused option.
    """
    if not 0 <= prosumer < env.num_agents:
        raise ConfigError(f"prosumer: {prosumer}, allowed are 0 .. {env.num_agents - 1}")
    discrete = action_spec(replace(env.params, action_space="discrete"), env.device)
    everyone = AgentContext(env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, seed)
    alone = replace(everyone, num_agents=1, action_spec=discrete)
    learner = make_agent(algorithm, alone, **options)
    fixed = make_agent(others, everyone) if isinstance(others, str) else others
    return OneLearner(learner, fixed, action_grid(env.params, env.device), prosumer)
