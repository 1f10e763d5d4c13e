"""EVQuota as a PettingZoo ParallelEnv: stations under one transformer declare, trade charging quotas, and charge.

## Description
A transformer has a capacity margin in every half hour: its capacity less the conventional load. Charging stations
declare the energy that they want and put up a deposit; the margin is shared in proportion (chapter 9, eqs. (1), (2));
where it is scarce, an auction lets stations trade their quotas; then they charge, and pay the tariff by time of use,
and a penalty for what they use beyond their final quotas. All money is exact integers. Rules: docs/quota-rules.md;
stations, vehicles and reward: docs/ev-quota.md.

## Agents
`station_0 .. station_{N-1}`.

## Steps
Two per half hour: declare; then trade and charge. The field `stage` of the observation says which comes next.

## Observation
Box float32, one entry per field of `observe.FIELDS` (name, unit, scale and meaning there; `gridmarl list` prints them):
its own vehicles, its own quota, and what is public. Nothing of others.

## Action
Box(-1, 1, (4,)) or Discrete, see `actions.py`: declare, trade, price, charge. NaN, wrong shape or out of space:
ActionError.

## Reward
In tokens, in the second step of a half hour (the first brings 0): value of the energy delivered, less tariff fees, less
auction payments, plus auction receipts, less penalties and forfeitures, less the cost of energy that vehicles leave
without.

## End
Truncation after `horizon_half_hours` (never termination). Vehicles that are still there count with what they have got,
and as unserved with what they could not get any more at maximum power.

## Arguments
The fields of `EVQuotaParams`, plus `scenario` (`gridmarl.envs.ev_quota.scenario`; None: the calibrated default).

## Rendering
`render_mode`: "rgb_array" (`[520, 800, 3]` uint8), "ansi" (text, at most 100 columns) or "human" (a window, drawn by
`reset` and by every step that settles a half hour). A frame shows the half hour settled last: its auction, what
stations declared, were allowed and charged, the transformer's load so far, what vehicles got, and the balances; see
`render.py`.

## Differences from the paper (chapter 9)
1. Demands and quotas are energy of a half hour (docs/ch9.md says why that matters).
2. Demands, orders and what is charged are decisions of agents; the chapter gives them as data for one period.
3. The chapter returns deposits in full; `forfeit_permille` can make unused quota cost something.

## Versions
v0: first version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from gridmarl.envs.base.parallel import Observation, ParallelMarket, metadata
from gridmarl.envs.ev_quota.batched import ENV_ID, BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.render import view_of
from gridmarl.envs.ev_quota.scenario import EVScenario
from gridmarl.ledger.half_hour import HalfHourRecord


class EVQuota(ParallelMarket[BatchedEVQuota]):
    """The quota market for PettingZoo; a thin adapter over one lane of the batched environment. See the module's page.

    Args:
        scenario: sessions and conventional load; None: the calibrated default.
        render_mode: "human", "rgb_array", "ansi", or None; ConfigError for any other.
        on_hour: called with each settled half hour's record (the ledger's input).
        **params: fields of `EVQuotaParams`; unknown ones raise ConfigError.
    """

    metadata: ClassVar[dict[str, Any]] = metadata(ENV_ID)

    def __init__(
        self,
        scenario: EVScenario | None = None,
        *,
        render_mode: str | None = None,
        on_hour: Callable[[HalfHourRecord], object] | None = None,
        **params: Any,
    ) -> None:
        self.params = EVQuotaParams.from_dict(params)
        lanes = BatchedEVQuota(self.params, scenario, auto_reset=False, on_hour=on_hour)
        super().__init__(lanes, view_of(lanes), render_mode)


def parallel_env(**kwargs: Any) -> EVQuota:
    """The environment as a ParallelEnv."""
    return EVQuota(**kwargs)


def env(**kwargs: Any) -> AECEnv[str, Observation, Any]:
    """The environment as an AECEnv, through PettingZoo's own conversion."""
    return parallel_to_aec(parallel_env(**kwargs))
