"""Many lanes of AggregatorAuction behind one handle: gridmarl.protocols.BatchedEnv, for native trainers."""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.clearing.registry import get_mechanism, mechanism_names
from gridmarl.clearing.uniform import PRICE_RULES
from gridmarl.envs.aggregator_auction.actions import action_spec, aggregator_spec
from gridmarl.envs.aggregator_auction.assets import constants
from gridmarl.envs.aggregator_auction.generator import housed, reset
from gridmarl.envs.aggregator_auction.observe import (
    AGGREGATOR_FIELDS,
    FIELDS,
    KIND_FIELDS,
    PROSUMER_FIELDS,
    PUBLIC_FIELDS,
    observation_scales,
    observe,
)
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.state import State
from gridmarl.envs.aggregator_auction.step import Settled, step
from gridmarl.envs.base.batched import BatchedMarket
from gridmarl.envs.base.spaces import AgentType
from gridmarl.envs.base.state import StepResult
from gridmarl.scenarios.scenario import Scenario, default_scenario
from gridmarl.testing.mechanism import check_mechanism

ENV_ID = "gridmarl/AggregatorAuction-v0"


class BatchedAggregatorAuction(BatchedMarket[State, Settled]):
    """Lanes `first_lane .. first_lane + num_envs - 1` of the auction, auto-resetting at the horizon.

    Agents are the aggregators, then the prosumers. The batch has one observation and one action space for all, which a
    learner without an idea of roles can use; `roles` says what of it each role has.

    Args:
        params: constants of the market.
        scenario: prices and homes; None: the calibrated default.
        num_envs, device, first_lane, auto_reset: as `gridmarl.envs.base.batched.BatchedMarket`.

    Raises:
        ConfigError: `num_envs` is not allowed, or the scenario's loads, generation or prices are beyond the bounds.
        ConformanceError: the payment rule is a plug-in's mechanism, and breaks a rule of mechanisms.
    """

    env_id = ENV_ID
    observation_fields = FIELDS
    state_type = State
    roles: dict[str, AgentType]
    """By name, `aggregator` and `prosumer`: its agents, their rows, and of fields and actions what is theirs."""

    def __init__(
        self,
        params: AggregatorAuctionParams | None = None,
        scenario: Scenario | None = None,
        *,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        first_lane: int = 0,
        auto_reset: bool = True,
    ) -> None:
        self.params = params or AggregatorAuctionParams()
        buyers, sellers = self.params.num_aggregators, self.params.num_prosumers
        names = tuple(f"aggregator_{index}" for index in range(buyers))
        names += tuple(f"prosumer_{index}" for index in range(sellers))
        super().__init__(names, num_envs=num_envs, device=device, first_lane=first_lane, auto_reset=auto_reset)
        if self.params.payment_rule in mechanism_names() and self.params.payment_rule not in PRICE_RULES:
            check_mechanism(get_mechanism(self.params.payment_rule))
        self.scenario = housed(self.params, scenario or default_scenario()).to(self.device)
        self.action_spec = action_spec(self.params, self.device)
        self.roles = {
            "aggregator": AgentType(
                names[:buyers],
                tuple(range(buyers)),
                PUBLIC_FIELDS + AGGREGATOR_FIELDS,
                aggregator_spec(self.params, self.device),
            ),
            "prosumer": AgentType(
                names[buyers:],
                tuple(range(buyers, buyers + sellers)),
                PUBLIC_FIELDS + KIND_FIELDS + PROSUMER_FIELDS,
                self.action_spec,
            ),
        }
        self.fixed = constants(self.params, self.device)
        self._scales = observation_scales(self.device)

    def joined(self, aggregators: Tensor, prosumers: Tensor) -> Tensor:
        """Actions of all agents, as `step` takes them, from those of each role in its own space.

        Args:
            aggregators, prosumers: `[E, K]` and `[E, P]` int64, or `[E, K, 2]` and `[E, P, size]` float32.
        """
        own, all_of = self.roles["aggregator"].spec, self.action_spec
        if all_of.num_actions:
            return torch.cat((aggregators * (all_of.num_actions // own.num_actions), prosumers), 1)
        return torch.cat((torch.nn.functional.pad(aggregators, (0, all_of.size - own.size)), prosumers), 1)

    def _begin(self, seed: int, episode: int) -> State:
        lanes, first = self.num_envs, self.first_lane
        return reset(self.params, self.fixed, self.scenario, seed, lanes, first_lane=first, episode=episode)

    def _next(self, actions: Tensor) -> tuple[State, StepResult[Settled], Tensor]:
        state, result = step(self.params, self.action_spec, self.fixed, self.scenario, self.state, actions)
        return state, result, self._observe(state)

    def _observe(self, state: State) -> Tensor:
        return observe(self.params, self.fixed, state, self._scales)
