"""Deposits: money that owners put into escrow, from which a keeper takes penalties and fees; the rest goes back.

Each owner's deposit walks through this table by itself:

| state | call | by | from | before | next |
|---|---|---|---|---|---|
| EMPTY | pay | owner | - | pay_until | HELD |
| HELD | settle | keeper | pay_until | settle_until | SETTLED |
| HELD | withdraw | owner | settle_until | - | WITHDRAWN |
| SETTLED | withdraw | owner | - | - | WITHDRAWN |

All that is taken is taken in the one call `settle`, so nobody pays a penalty twice; and a keeper that does not settle
in time cannot keep the money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from gridmarl.contracts.accounts import Accounts, Amount, Till
from gridmarl.contracts.errors import ContractError, DepositError
from gridmarl.contracts.machine import Machine, Transition


class DepositState(Enum):
    """Where a deposit stands."""

    EMPTY = 0
    HELD = 1
    SETTLED = 2
    WITHDRAWN = 3


DEPOSIT: Machine[DepositState] = Machine(
    "deposit",
    DepositState.EMPTY,
    (
        Transition(DepositState.EMPTY, "pay", DepositState.HELD, ("owner",), closes="pay_until"),
        Transition(
            DepositState.HELD, "settle", DepositState.SETTLED, ("keeper",), opens="pay_until", closes="settle_until"
        ),
        Transition(DepositState.HELD, "withdraw", DepositState.WITHDRAWN, ("owner",), opens="settle_until"),
        Transition(DepositState.SETTLED, "withdraw", DepositState.WITHDRAWN, ("owner",)),
    ),
)


@dataclass(frozen=True, eq=False)
class Deposits:
    """Deposits of `K` owners in `E` lanes; a value, replaced by every call. Begin with `open_deposits`.

    Attributes:
        owners: `K` accounts, all different.
        keeper: account that settles.
        schedule: times `pay_until` and `settle_until`.
        states: `K` states, the same in all lanes.
        held_utok: `[K, E]` int64, what each deposit holds; part of the owner's escrow.
    """

    _till: Till
    owners: tuple[int, ...]
    keeper: int
    schedule: Mapping[str, int]
    states: tuple[DepositState, ...]
    held_utok: Tensor

    def pay(
        self, accounts: Accounts, callers: Sequence[int], now: int, amount_utok: Amount, least_utok: int | Tensor = 0
    ) -> tuple[Deposits, Accounts]:
        """Owners pay their own deposits.

        Args:
            callers: the owners that pay, all different.
            amount_utok: `[len(callers), E]`, `[E]` or an integer.
            least_utok: what the deposit has to be at least, shaped alike.

        Raises:
            ContractError: not the owner, paid before, or too late.
            DepositError: less than `least_utok` (a till that refuses leaves it out, and the deposit holds nothing).
            OverdraftError: more than the account has.
        """
        rows, states = self._after("pay", callers, callers, now)
        shape = (len(rows), self.held_utok.shape[1])
        amount, least = (_wide(value, shape, self.held_utok) for value in (amount_utok, least_utok))
        enough = amount >= least
        if self._till.strict and not bool(enough.all()):
            row, lane = divmod(int(enough.logical_not().flatten().to(torch.int64).argmax()), shape[1])
            raise DepositError(
                f"contract deposit: pay by account {callers[row]} in state EMPTY: {int(amount[row, lane])} µtok in "
                f"lane {lane}; allowed are {int(least[row, lane])} or more"
            )
        moved = self._till.hold(accounts, callers, amount * enough)
        held = self.held_utok.index_add(0, self._tensor(rows), amount * enough * moved.done)
        return replace(self, states=states, held_utok=held), moved.accounts

    def settle(
        self, accounts: Accounts, caller: int, now: int, owners: Sequence[int], taken: Sequence[tuple[int, Amount]]
    ) -> tuple[Deposits, Accounts]:
        """The keeper takes penalties and fees from the deposits of some owners, in order, as far as they reach.

        Args:
            owners: whose deposits are settled, all different.
            taken: `(payee, amount)` with amounts `[len(owners), E]`, `[E]` or an integer; negative ones count as 0.

        Raises:
            ContractError: not the keeper, nothing held, settled before, too early or too late.
        """
        rows, states = self._after("settle", [caller] * len(owners), owners, now)
        index = self._tensor(rows)
        left = self.held_utok.index_select(0, index)
        for payee, amount in taken:
            part = torch.minimum(_wide(amount, tuple(left.shape), left).clamp(min=0), left)
            accounts = self._till.release(accounts, owners, [payee] * len(owners), part).accounts
            left = left - part
        return replace(self, states=states, held_utok=self.held_utok.index_copy(0, index, left)), accounts

    def withdraw(self, accounts: Accounts, callers: Sequence[int], now: int) -> tuple[Deposits, Accounts]:
        """Owners take back what is left of their own deposits.

        Raises:
            ContractError: not the owner, nothing held, withdrawn before, or too early.
        """
        rows, states = self._after("withdraw", callers, callers, now)
        index = self._tensor(rows)
        accounts = self._till.release(accounts, callers, callers, self.held_utok.index_select(0, index)).accounts
        held = self.held_utok.index_fill(0, index, 0)
        return replace(self, states=states, held_utok=held), accounts

    def _after(
        self, call: str, callers: Sequence[int], owners: Sequence[int], now: int
    ) -> tuple[list[int], tuple[DepositState, ...]]:
        """Rows of the owners, and all states after the call; raises before anything has changed."""
        if not owners or len(set(owners)) != len(owners):
            raise ContractError(
                f"contract deposit: {call} for accounts {list(owners)}; allowed is each once, at least one"
            )
        states, rows = list(self.states), []
        for caller, owner in zip(callers, owners, strict=True):
            if owner not in self.owners:
                raise ContractError(f"contract deposit: {call} for account {owner}; allowed are {list(self.owners)}")
            row = self.owners.index(owner)
            role = "keeper" if call == "settle" and caller == self.keeper else "owner" if caller == owner else "other"
            states[row] = DEPOSIT.after(states[row], call, role, now, self.schedule)
            rows.append(row)
        return rows, tuple(states)

    def _tensor(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(rows, dtype=torch.int64, device=self.held_utok.device)


def open_deposits(
    till: Till, accounts: Accounts, owners: Sequence[int], keeper: int, *, pay_until: int, settle_until: int
) -> Deposits:
    """Empty deposits of some accounts.

    Args:
        pay_until: first time at which deposits are no longer taken, and may be settled.
        settle_until: first time at which they may no longer be settled, and owners may withdraw them in full.

    Raises:
        ContractError: an owner twice, none, or `settle_until` not after `pay_until`.
    """
    if not owners or len(set(owners)) != len(owners):
        raise ContractError(f"contract deposit: owners {list(owners)}; allowed is each once, at least one")
    if settle_until <= pay_until:
        raise ContractError(f"contract deposit: settle_until {settle_until}; allowed is after pay_until ({pay_until})")
    schedule = {"pay_until": pay_until, "settle_until": settle_until}
    held = torch.zeros_like(accounts.balances[: len(owners)])
    return Deposits(till, tuple(owners), keeper, schedule, (DepositState.EMPTY,) * len(owners), held)


def _wide(value: Amount, shape: tuple[int, ...], like: Tensor) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.full((), value, dtype=torch.int64, device=like.device)
    return tensor.expand(shape)
