"""What one half hour of charging quotas hands to the ledger: all that a replay needs, as tensors with the lane last."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from gridmarl.errors import LedgerError

if TYPE_CHECKING:
    from gridmarl.ledger.quota_genesis import QuotaRules


class HalfHourRecord(NamedTuple):
    """Inputs and outcomes of one half hour in all lanes; int64; symbols as in docs/quota-rules.md.

    `N` stations, `E` lanes. Accounts: `0..N-1` stations, `N` the DSO. Stations without an order have quantities of 0
    and any price within floor and cap.
    """

    period: int  # half hour of the episode, 0 .. T-1
    margin_wh: Tensor  # [E] M, published and allocated
    actual_margin_wh: Tensor  # [E] the margin as it came: nothing is settled by it
    tariff: Tensor  # [E] µtok/Wh
    scarce: Tensor  # [E] 0 or 1: whether there was an auction
    declared_wh: Tensor  # [N, E] d
    deposit_utok: Tensor  # [N, E] exactly the rate times d
    first_quota_wh: Tensor  # [N, E] q, of the allocation
    order_price: Tensor  # [N, E] µtok/Wh
    buy_wh: Tensor  # [N, E]
    sell_wh: Tensor  # [N, E]
    used_wh: Tensor  # [N, E] u, metered
    final_quota_wh: Tensor  # [N, E] Q, after the auction
    flow_wh: Tensor  # [5, N, E] energy of kinds 21..25, in order
    flow_utok: Tensor  # [5, N, E] amounts of kinds 21..25
    balances: Tensor  # [N+1, E] after the half hour, µtok

    @property
    def market(self) -> str:
        """Name of the market in the genesis."""
        return "ev-quota"

    def check(self, rules: QuotaRules, num_lanes: int) -> None:
        """LedgerError unless it has the stations and lanes of a chain."""
        allowed = (rules.num_stations, num_lanes)
        if tuple(self.declared_wh.shape) != allowed:
            raise LedgerError(f"half hour: [N, E] = {tuple(self.declared_wh.shape)}; {allowed} is allowed")
