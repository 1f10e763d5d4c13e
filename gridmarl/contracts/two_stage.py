"""Settlement contract of the two-stage demand-response market: demand-response price, reductions, flows of money.

Pure functions on int64 tensors, lanes last (`P` prosumers, `E` lanes); every formula as in docs/market-rules.md. The
contract moves through three phases an hour, by this table (`HOUR`):

| state | call | by | from | before | next |
|---|---|---|---|---|---|
| BIDDING | clear | market | - | - | RESCHEDULING |
| RESCHEDULING | settle | market | - | - | BIDDING |
| RESCHEDULING | close | market | - | - | CLOSED |

Only the settlement (`settle`, in the last hour `close`) moves money, and each flow has one payer and one payee:

| kind | payer -> payee | energy | price |
|---|---|---|---|
| LOCAL_BUY | prosumer -> market | bought locally | market price |
| LOCAL_SELL | market -> prosumer | sold locally | market price |
| IMPORT | prosumer -> operator | unfilled demand | import price |
| EXPORT | operator -> prosumer | unsold supply | export price |
| REDUCTION | operator -> prosumer | accepted reduction | reduction price |
| SHORTFALL | prosumer -> operator | generation short of the offer | import price |
| SURPLUS | operator -> prosumer | generation above the offer | export price |
| PENALTY | prosumer -> operator | forecast error, both ways | penalty rate |
| UPSTREAM_IMPORT | operator -> upstream | what the community draws | import price |
| UPSTREAM_EXPORT | upstream -> operator | what the community feeds in | export price |
| INTEREST | prosumer -> operator | none | none: a share of what it owes, under strict finality |
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.clearing.apportion import apportion
from gridmarl.contracts.credit import interest_utok, principal_utok
from gridmarl.contracts.errors import IllegalTransitionError
from gridmarl.contracts.machine import Machine, Transition
from gridmarl.preferences import floor_div
from gridmarl.units import MAX_PRICE_UTOK_PER_WH, PERMILLE

_INT32_WINDOW = (2**31 - 1) // (MAX_PRICE_UTOK_PER_WH + 1)  # hours whose packed prices fit in int32


class Phase(IntEnum):
    """Where an hour stands. BIDDING -> RESCHEDULING -> (settled) BIDDING of the next hour, or CLOSED at the horizon."""

    BIDDING = 0
    RESCHEDULING = 1
    CLOSED = 2


HOUR: Machine[Phase] = Machine(
    "two-stage market",
    Phase.BIDDING,
    (
        Transition(Phase.BIDDING, "clear", Phase.RESCHEDULING, ("market",)),
        Transition(Phase.RESCHEDULING, "settle", Phase.BIDDING, ("market",)),
        Transition(Phase.RESCHEDULING, "close", Phase.CLOSED, ("market",)),
    ),
)


def require_phase(seen: Phase, allowed: Phase) -> None:
    """Raise IllegalTransitionError unless the contract is in the phase that a call belongs to."""
    if seen is not allowed:
        raise IllegalTransitionError(f"contract phase: {seen.name}, allowed for this call: {allowed.name}")


def next_phase(seen: Phase, call: str) -> Phase:
    """Phase after a call of the market's: clear, settle or close; IllegalTransitionError where it does not belong."""
    return HOUR.after(seen, call, "market")


def dr_price(price: Tensor, shortage_wh: Tensor, alpha_permille: Tensor, import_price: Tensor) -> Tensor:
    """Demand-response price `[E]`, eqs. (2) and (3): 0 without shortage, else `max(0, min(alpha pi, import))`."""
    raised = torch.minimum(floor_div(alpha_permille * price, PERMILLE), import_price).clamp(min=0)
    return raised * (shortage_wh > 0)


def reduction_price(dr_settlement: str, price: Tensor, dr_price_: Tensor) -> Tensor:
    """What one reduced Wh brings, `[E]`: `pi_dr` (two_settlement) or `pi + pi_dr` (additive, eq. (5) literally)."""
    return dr_price_ if dr_settlement == "two_settlement" else price + dr_price_


def accept_reductions(offered_wh: Tensor, shortage_wh: Tensor, start: int | Tensor) -> Tensor:
    """Accepted reductions `[P, E]`: up to the shortage (the role of eq. (7)), pro rata by cumulative floors."""
    return apportion(torch.minimum(offered_wh.sum(0), shortage_wh), offered_wh, start)


def return_offset(import_price: Tensor, hour: int | Tensor, deadline_hours: int) -> Tensor:
    """Hours until shifted energy returns, `[E]`: cheapest import price in the window, earliest on a tie.

    Args:
        import_price: `[T, E]`, all hours of the episode.
        hour: not the last one; an int, or a `[]` int64 tensor.
    """
    hours = import_price.shape[0]
    width = min(deadline_hours, hours - 1 if isinstance(hour, Tensor) else hours - 1 - hour)
    steps = torch.arange(width, device=import_price.device)
    if isinstance(hour, Tensor):
        # a window that reaches beyond the horizon repeats the last hour, which comes first at its true offset
        window = import_price.index_select(0, (steps + (hour + 1)).clamp(max=hours - 1))
    else:
        window = import_price.narrow(0, hour + 1, width)
    # argmin leaves open which minimum it names, so ties are broken by packing the offset under the price
    packed = window * width + steps.unsqueeze(1)
    if width <= _INT32_WINDOW:
        packed = packed.to(torch.int32)  # torch's CPU minimum is vectorised for it, and not for int64
    return torch.remainder(packed.amin(0), width).to(torch.int64) + 1


class Flows(NamedTuple):
    """Energy and price of every flow of an hour."""

    wh: Tensor  # [8, P, E]
    price: Tensor  # [8, E], the same for all prosumers
    upstream_wh: Tensor  # [2, E]


def flows(
    *,
    buy_wh: Tensor,
    buy_fill_wh: Tensor,
    sell_wh: Tensor,
    sell_fill_wh: Tensor,
    accepted_wh: Tensor,
    deviation_wh: Tensor,
    price: Tensor,
    reduction_price_: Tensor,
    import_price: Tensor,
    export_price: Tensor,
    penalty_permille: int,
) -> Flows:
    """All flows of an hour; `deviation_wh = forecast - actual generation`; other arguments `[P, E]` or `[E]`."""
    shortfall = deviation_wh.clamp(min=0)
    surplus = shortfall - deviation_wh
    imported = buy_wh - buy_fill_wh
    exported = sell_wh - sell_fill_wh
    wh = torch.stack(
        (buy_fill_wh, sell_fill_wh, imported, exported, accepted_wh, shortfall, surplus, shortfall + surplus)
    )
    penalty_rate = floor_div(penalty_permille * (price.abs() + import_price.abs()), 2 * PERMILLE)
    prices = torch.stack(
        (price, price, import_price, export_price, reduction_price_, import_price, export_price, penalty_rate)
    )
    return Flows(wh, prices, upstream_exchange(*wh.sum(1).narrow(0, 2, 5).unbind()))


def upstream_exchange(
    imported_wh: Tensor, exported_wh: Tensor, accepted_wh: Tensor, shortfall_wh: Tensor, surplus_wh: Tensor
) -> Tensor:
    """What the community draws from and feeds into the grid, `[2, E]`, from the totals `[E]` of its flows.

    Unfilled orders go upstream one by one; what happens after the auction (forecast errors, reductions) is netted
    against them at the community's one meter.
    """
    needed = shortfall_wh - surplus_wh - accepted_wh
    drawn = (imported_wh + needed.clamp(max=0)).clamp(min=0) + (needed - exported_wh).clamp(min=0)
    fed_in = (exported_wh - needed.clamp(min=0)).clamp(min=0) + (-needed - imported_wh).clamp(min=0)
    return torch.stack((drawn, fed_in))


def prosumer_payments(flow: Flows) -> Tensor:
    """Change of each prosumer's account, `[P, E]` µtok."""
    # in one sum, multiplied flow by flow: a product of all flows at once costs more in fresh memory than in arithmetic
    buy, sell, imported, exported, reduction, shortfall, surplus, penalty = flow.wh.unbind()
    price, _, import_price, export_price, reduction_price_, _, _, penalty_rate = flow.price.unbind()
    received = (sell - buy) * price
    received += (exported + surplus) * export_price
    received += reduction * reduction_price_
    received -= (imported + shortfall) * import_price
    return received - penalty * penalty_rate


def prosumer_receipts(flow: Flows) -> Tensor:
    """What each prosumer receives in an hour, kind by kind, before it pays anything; `[P, E]` µtok, 0 or more.

    A flow whose price is negative is received by its payer.
    """
    buy, sell, imported, exported, reduction, shortfall, surplus, penalty = flow.wh.unbind()
    price, _, import_price, export_price, reduction_price_, _, _, penalty_rate = flow.price.unbind()
    received = sell * price.clamp(min=0) + buy * (-price).clamp(min=0)
    received += (exported + surplus) * export_price.clamp(min=0)
    received += (imported + shortfall) * (-import_price).clamp(min=0)
    received += reduction * reduction_price_.clamp(min=0)
    return received + penalty * (-penalty_rate).clamp(min=0)


def may_buy(price: Tensor, wh: Tensor, spendable_utok: Tensor, credit_utok: int | None) -> Tensor | None:
    """Whose buy order enters the local book, `[P, E]` bool: local buying is prepaid. None: everybody's.

    Args:
        price: limit prices `[P, E]`, at which an order costs the most.
        credit_utok: how far beyond the spendable money it may go; None: without limit.
    """
    return None if credit_utok is None else (price * wh).clamp(min=0) <= spendable_utok + credit_utok


class Credit(NamedTuple):
    """The credit bank's part of an hour under strict finality; int64 µtok."""

    receipts: Tensor  # [L, P, E] received in the last L hours, this one last
    principal_utok: Tensor  # [P, E] spendable money below zero, as a positive number
    interest_utok: Tensor  # [P, E] of it, to the operator

    @property
    def debts_utok(self) -> Tensor:
        """Principal and interest, `[2, P, E]`."""
        return torch.stack((self.principal_utok, self.interest_utok))


def charge_interest(balances: Tensor, flow: Flows, received_utok: Tensor, receipts: Tensor, ppm: int) -> Credit:
    """What prosumers owe after an hour, and the interest on it.

    Args:
        balances: before the hour, `[P+3, E]` (or those of the prosumers only).
        received_utok: `prosumer_payments(flow)`.
        receipts: of the last `L` hours before this one, `[L, P, E]`.
    """
    if receipts.shape[0]:
        newest = prosumer_receipts(flow).unsqueeze(0)
        receipts = torch.cat((receipts.narrow(0, 1, receipts.shape[0] - 1), newest))
    spendable = balances.narrow(0, 0, received_utok.shape[0]) + received_utok - receipts.sum(0)
    principal = principal_utok(spendable)
    return Credit(receipts, principal, interest_utok(principal, ppm))


def settle(
    balances: Tensor,
    flow: Flows,
    received_utok: Tensor,
    import_price: Tensor,
    export_price: Tensor,
    interest: Tensor | None = None,
) -> Tensor:
    """Balances after the hour, `[P+3, E]`; the sum over accounts is unchanged, exactly.

    Args:
        received_utok: `prosumer_payments(flow)`, less the interest where there is any.
        interest: `[P, E]`, what prosumers pay the operator as the credit bank.
    """
    amounts = flow.wh.sum(1) * flow.price  # [8, E]
    upstream_in = flow.upstream_wh.select(0, 0) * import_price - flow.upstream_wh.select(0, 1) * export_price
    buy, sell, imported, exported, reduction, shortfall, surplus, penalty = amounts.unbind()
    operator = (imported + shortfall + penalty) - (exported + reduction + surplus) - upstream_in
    if interest is not None:
        operator = operator + interest.sum(0)
    others = torch.stack((buy - sell, operator, upstream_in))
    return balances + torch.cat((received_utok, others))
