"""What changes from step to step: frozen tensors, lanes last inside (`P` prosumers, `E` lanes, `T` hours)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from gridmarl.contracts.two_stage import Phase
from gridmarl.envs.base.state import LaneState
from gridmarl.scenarios.scenario import LaneDraws


class Home(NamedTuple):
    """The prosumers' private situation in the current hour; int64 `[P, E]`."""

    gamma: Tensor  # ntok/Wh²
    d_min_wh: Tensor
    d_max_wh: Tensor
    forecast_wh: Tensor
    generation_wh: Tensor
    at_import_wh: Tensor  # demand at the import price
    at_export_wh: Tensor  # demand at the export price
    comfort_wh: Tensor  # demand at price zero
    outside_utok: Tensor  # surplus without a market: the best against import and export prices


class Orders(NamedTuple):
    """Stage-1 decisions, quantised; int64 `[P, E]`."""

    buy_price: Tensor
    buy_wh: Tensor  # demand + returned + charge
    sell_price: Tensor
    sell_wh: Tensor  # forecast + discharge
    demand_wh: Tensor
    returned_wh: Tensor
    charge_wh: Tensor
    discharge_wh: Tensor


class Market(NamedTuple):
    """Outcome of the clearing and the demand-response price; int64."""

    price: Tensor  # [E]
    buy_fill_wh: Tensor  # [P, E]
    sell_fill_wh: Tensor  # [P, E]
    volume_wh: Tensor  # [E]
    shortage_wh: Tensor  # [E]
    dr_price: Tensor  # [E]
    reduction_price: Tensor  # [E]
    alpha_permille: Tensor  # [E]
    refused: Tensor | None = None  # [P, E] bool: a buy order that did not enter the local book; None: all entered


@dataclass(frozen=True)
class State(LaneState):
    """State between two steps; `balances` `[P+3, E]` in the order of `gridmarl.contracts.two_stage`."""

    hour: int
    phase: Phase
    beta: int  # µtok/Wh, from the reference price and the elasticity
    draws: LaneDraws
    import_price: Tensor  # [T, E]
    export_price: Tensor  # [T, E]
    participates: Tensor  # [P, E] bool
    home: Home
    backlog: Tensor  # [D, P, E] Wh that return in hour h, at index h mod D; D = 0 without shifting
    soc_wh: Tensor  # [P, E]
    last_price: Tensor  # [E]
    last_dr_price: Tensor  # [E]
    overdrawn: Tensor  # [E] bool: an account has passed its credit limit
    orders: Orders | None = None  # between the stages of an hour only
    market: Market | None = None
    # last, so that states of before load
    receipts: Tensor | None = None  # [L, P, E] µtok received in the last L blocks, latest last; None: instant finality

    @property
    def spendable_utok(self) -> Tensor:
        """Money of each prosumer that is final, `[P, E]`: its balance less what it received in the last blocks."""
        prosumers = self.soc_wh.shape[0]
        own = self.balances.narrow(0, 0, prosumers)
        return own if self.receipts is None else own - self.receipts.sum(0)


state_to_dict, state_from_dict = State.to_dict, State.from_dict
