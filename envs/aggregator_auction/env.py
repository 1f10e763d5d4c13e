"""AggregatorAuction as a PettingZoo ParallelEnv: aggregators buy flexible energy from prosumers, hour by hour.

## Description
Aggregators have promised a schedule and deviate from it; with `variant="flexibility"` a system operator also asks them
for energy, up or down. They bid for it, prosumers offer what their batteries, loads and photovoltaics can do at a cost
that only they know; the cheapest offers below the bids are accepted and paid by the payment rule (chapter 5, fig. 5.4;
docs/procurement-rules.md). What stays uncovered settles at the imbalance price. All money is exact integers. Rules:
docs/aggregator-auction.md.

## Agents
`aggregator_0 .. aggregator_{K-1}`, `prosumer_0 .. prosumer_{P-1}`, each role with its own spaces.

## Observation
Box float32, one entry per field of the role: `observe.PUBLIC_FIELDS`, then `AGGREGATOR_FIELDS` of an aggregator,
`KIND_FIELDS` and `PROSUMER_FIELDS` of a prosumer. Nothing of others but the last auctions' mean price and energy.

## Action
Aggregator: Box(-1, 1, (2,)) or Discrete: limit price and quantity of its bid. Prosumer: the same of its offer up; with
`flexibility` Box(-1, 1, (4,)) or Discrete: of an offer up and one down. See `actions.py`. NaN, wrong shape or out of
space: ActionError.

## Reward
In tokens. Aggregator: service income, less penalties, payments and imbalance. Prosumer: income, less the private cost
of what was accepted.

## End
Truncation after `horizon_hours` (never termination). What batteries hold then, and loads owe, is not valued.

## Arguments
The fields of `AggregatorAuctionParams`, plus `scenario` (`gridmarl.scenarios`; None: the calibrated default).

## Rendering
`render_mode`: "rgb_array" (`[520, 800, 3]` uint8), "ansi" (text) or "human" (a window): the auctions of the hour
settled last, and the balances.

## Differences from the book (chapter 5)
1. The chapter says which offers are selected, not what is paid: the payment rule is a parameter.
2. Deviations, requests, assets and costs are a model of ours; the chapter has none.

## Versions
v0: first version.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from gridmarl.envs.aggregator_auction.batched import ENV_ID, BatchedAggregatorAuction
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.render import view_of
from gridmarl.envs.base.parallel import Observation, ParallelMarket, metadata
from gridmarl.protocols import BatchStep
from gridmarl.scenarios.scenario import Scenario


class AggregatorAuction(ParallelMarket[BatchedAggregatorAuction]):
    """The auction for PettingZoo; a thin adapter over one lane of the batched environment. See the module's page.

    Args:
        scenario: prices and homes; None: the calibrated default.
        render_mode: "human", "rgb_array", "ansi", or None; ConfigError for any other.
        **params: fields of `AggregatorAuctionParams`; unknown ones raise ConfigError.
    """

    metadata: ClassVar[dict[str, Any]] = metadata(ENV_ID)

    def __init__(self, scenario: Scenario | None = None, *, render_mode: str | None = None, **params: Any) -> None:
        self.params = AggregatorAuctionParams.from_dict(params)
        lanes = BatchedAggregatorAuction(self.params, scenario, auto_reset=False)
        super().__init__(lanes, view_of(lanes), render_mode, tuple(lanes.roles.values()))

    def _advance(self, *actions: torch.Tensor) -> BatchStep:
        return self._lanes.step(self._lanes.joined(*actions))


def parallel_env(**kwargs: Any) -> AggregatorAuction:
    """The environment as a ParallelEnv."""
    return AggregatorAuction(**kwargs)


def env(**kwargs: Any) -> AECEnv[str, Observation, Any]:
    """The environment as an AECEnv, through PettingZoo's own conversion."""
    return parallel_to_aec(parallel_env(**kwargs))
