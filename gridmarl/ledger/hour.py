"""What one market hour hands to the ledger: everything a replay needs, as tensors with the lane last."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gridmarl.errors import LedgerError

if TYPE_CHECKING:
    from gridmarl.ledger.genesis import Rules

NO_DEBTS = torch.zeros((0, 0, 0), dtype=torch.int64)


class HourRecord(NamedTuple):
    """Inputs, signals and outcomes of one hour in all lanes; int64; symbols as in docs/market-rules.md.

    `P` prosumers, `E` lanes. Accounts: `0..P-1` prosumers, `P` market, `P+1` operator, `P+2` upstream.
    """

    period: int  # hour of the episode, 0 .. H-1
    import_price: Tensor  # [E] imp
    export_price: Tensor  # [E] exp
    alpha_permille: Tensor  # [E]
    price: Tensor  # [E] pi
    dr_price: Tensor  # [E] pi_dr
    shortage_wh: Tensor  # [E]
    volume_wh: Tensor  # [E] V
    buy_price: Tensor  # [P, E] b
    buy_wh: Tensor  # [P, E] B = d + r + c
    sell_price: Tensor  # [P, E] s
    sell_wh: Tensor  # [P, E] S = f + x
    demand_wh: Tensor  # [P, E] d, stage-1 consumption
    offered_wh: Tensor  # [P, E] o, reduction offered in stage 2
    returned_wh: Tensor  # [P, E] r
    charge_wh: Tensor  # [P, E] c
    discharge_wh: Tensor  # [P, E] x
    generation_wh: Tensor  # [P, E] g, metered
    load_wh: Tensor  # [P, E] m, metered
    flow_wh: Tensor  # [8, P, E] energy of kinds 1..8, in the order of the table
    flow_price: Tensor  # [8, P, E] price of kinds 1..8
    upstream_wh: Tensor  # [2, E] M, X (kinds 9, 10)
    balances: Tensor  # [P+3, E] after settlement, µtok
    debts_utok: Tensor = NO_DEBTS  # [2, P, E] principal and interest of kind 11; [0, ...]: no such records

    @property
    def market(self) -> str:
        """Name of the market in the genesis."""
        return "two-stage-dr"

    def check(self, rules: Rules, num_lanes: int) -> None:
        """LedgerError unless it has the prosumers and lanes of a chain, and interest where the rules have it."""
        allowed = (rules.num_prosumers, num_lanes)
        if tuple(self.buy_price.shape) != allowed:
            raise LedgerError(f"hour: [P, E] = {tuple(self.buy_price.shape)}; {allowed} is allowed")
        if self.has_interest is not rules.has_interest:
            seen = "interest" if self.has_interest else "no interest"
            raise LedgerError(f"hour: {seen} under {rules.finality} finality; strict finality has some, instant none")

    @property
    def has_interest(self) -> bool:
        """Whether there are records of interest (strict finality)."""
        return self.debts_utok.shape[0] > 0
