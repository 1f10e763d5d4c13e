"""TwoStageDR as a PettingZoo ParallelEnv: prosumers of a local market bid, a shortage is met by demand response, all
settles.

## Description
Each hour has two stages. Stage 1: prosumers bid for their consumption and offer their forecast generation; a
merit-order auction clears the local book at one price between export and import price. Stage 2: if demand exceeds
local supply, taking part prosumers reduce consumption at the demand-response price `pi_DR = min(alpha * pi, import
price)`. Then everything settles in exact integer money. All rules with every rounding: docs/market-rules.md.

## Agents
`prosumer_0 .. prosumer_{P-1}`; with `operator=True` also `operator`, who chooses alpha each hour.

## Observation
Prosumer: Box float32, one entry per field of `observe.FIELDS` (name, unit, scale and meaning there; `gridmarl list`
prints them), with `finality="strict"` one more: its spendable money. Operator: Box float32 of `OPERATOR_FIELDS`: public
prices and totals only.

## Action
Prosumer: Box(-1, 1) or Discrete, see `actions.py`. Operator: Box(-1, 1, (1,)): alpha from 1 to `alpha_max_permille`.
NaN, wrong shape or out of space: ActionError.

## Reward
Prosumer: `u(d) - discomfort - payments + revenue + reduction payments - penalties - interest` of the hour, in tokens.
Operator: social welfare of the hour in tokens (it is non-profit). With `stage2="learned"` the first step of an hour
brings 0.

## End
Truncation after `horizon_hours` (never termination). Backlog returns and batteries are restored by then.

## Arguments
The fields of `TwoStageDRParams`, plus `scenario` (None: the calibrated default).

## Rendering
`render_mode`: "rgb_array" (`[520, 800, 3]` uint8), "ansi" (text, at most 100 columns) or "human" (a window, drawn by
`reset` and by every step that settles an hour). A frame shows the hour settled last: supply and demand curves with the
clearing point, prices and load so far, and the balances; see `render.py`.

## Differences from the paper (chapter 7)
1. Read literally, the final settlement (5)-(8) maximises `sum(pi rho' + pi_DR d_DR' - pi d_new')` with each variable
   free between 0 and its bound and nothing tying them together. Its optimum for positive prices is `rho' = rho`,
   `d_DR' = d_DR`, `d_new' = 0`: sell all, take all rewards, and serve nobody. We settle with the power balance
   instead: local supply + import = demand + export.
2. Additive reading of (5): `d_new` pays `pi` and `d_DR` earns `pi_DR` on top, so a reduced Wh is worth `pi + pi_DR`,
   up to twice the import price; curtailment goes too far. `dr_settlement="two_settlement"` (default) buys the stage-1
   quantity at `pi` and sells the reduction back at `pi_DR`. Both are implemented and compared
   (docs/decisions/dr-settlement.md).
3. The price is clamped to [export, import] and the reductions to the shortage; without local supply the price is the
   import price.
4. The chapter moves funds "from the accounts of the sellers to those of buyers"; here buyers pay sellers.
5. Shifted energy has a return hour (the cheapest published import price before its deadline) and a discomfort cost;
   the chapter leaves both open. The penalty for a forecast error is a share of the mean of local and upstream price,
   both ways.
6. The chapter's printed algorithm writes the market price's symbol for the discount factor and max for argmax; we use
   Q-learning's.

## Versions
v0: first version.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from gridmarl.envs.base.parallel import Observation, ParallelMarket, everyone, metadata
from gridmarl.envs.base.spaces import AgentType
from gridmarl.envs.two_stage_dr.batched import ENV_ID, BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.observe import FIELDS
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.render import view_of
from gridmarl.errors import OverdraftError
from gridmarl.protocols import ActionSpec, BatchStep
from gridmarl.scenarios.scenario import Scenario
from gridmarl.units import PERMILLE, UTOK_PER_TOKEN

OPERATOR = "operator"
OPERATOR_FIELDS = FIELDS[:6] + tuple(item for item in FIELDS if item.name == "stage")
_OPERATOR_TYPE = AgentType((OPERATOR,), (0,), OPERATOR_FIELDS, ActionSpec("continuous", 0, 1, ("alpha",)))


class TwoStageDR(ParallelMarket[BatchedTwoStageDR]):
    """The market for PettingZoo; a thin adapter over one lane of the batched environment. See the module's page.

    Args:
        scenario: prices and homes; None: the calibrated default.
        render_mode: "human", "rgb_array", "ansi", or None; ConfigError for any other.
        on_hour: called with each settled hour's record (the ledger's input).
        **params: fields of `TwoStageDRParams`; unknown ones raise ConfigError.
    """

    metadata: ClassVar[dict[str, Any]] = metadata(ENV_ID)

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        render_mode: str | None = None,
        on_hour: Any = None,
        **params: Any,
    ) -> None:
        self.params = TwoStageDRParams.from_dict(params)
        lanes = BatchedTwoStageDR(self.params, scenario, auto_reset=False, on_hour=on_hour)
        operator = (_OPERATOR_TYPE,) if self.params.operator else ()
        super().__init__(lanes, view_of(lanes), render_mode, (everyone(lanes), *operator))

    def _advance(self, *actions: torch.Tensor) -> BatchStep:
        """One step of the hour; OverdraftError past the credit limit."""
        prosumers, *operator = actions
        result = self._lanes.step(prosumers, self._alpha_permille(*operator) if operator else None)
        if self.params.credit_limit_utok is not None and bool(self._lanes.state.overdrawn.any()):
            raise OverdraftError(f"an account fell below -{self.params.credit_limit_utok} µtok (credit_limit_utok)")
        return result

    def _alpha_permille(self, action: torch.Tensor) -> torch.Tensor:
        """The operator's choice, `[1]`, from its action `[1, 1, 1]`."""
        span = self.params.alpha_max_permille - PERMILLE
        return torch.tensor([PERMILLE + int((float(action) + 1.0) / 2.0 * span)], dtype=torch.int64)

    def _rewards(self, result: BatchStep) -> dict[str, float]:
        rewards = super()._rewards(result)
        return rewards | {OPERATOR: self._welfare_tokens()} if self.params.operator else rewards

    def _welfare_tokens(self) -> float:
        settled = self._lanes.settled
        if settled is None:
            return 0.0
        flow = settled.flows
        upstream = flow.upstream_wh[0] * settled.import_price - flow.upstream_wh[1] * settled.export_price
        return int(settled.comfort_utok.sum() - upstream.sum()) / UTOK_PER_TOKEN


def parallel_env(**kwargs: Any) -> TwoStageDR:
    """The environment as a ParallelEnv."""
    return TwoStageDR(**kwargs)


def env(**kwargs: Any) -> AECEnv[str, Observation, Any]:
    """The environment as an AECEnv, through PettingZoo's own conversion."""
    return parallel_to_aec(parallel_env(**kwargs))
