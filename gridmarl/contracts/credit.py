"""Credit: how far below zero a bank lets an account go, and the interest on what it owes.

| state | call | by | from | before | next |
|---|---|---|---|---|---|
| NONE | grant | bank | - | - | OPEN |
| OPEN | charge | bank | next_charge | - | OPEN |
| OPEN | freeze | bank | - | - | FROZEN |
| FROZEN | charge | bank | next_charge | - | FROZEN |
| FROZEN | thaw | bank | - | - | OPEN |
| FROZEN | close | bank | - | - | CLOSED |

`charge` moves `next_charge` on, so that no hour is charged twice. A frozen line lends nothing more; it is closed when
nothing is owed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from gridmarl.contracts.accounts import UNLIMITED_UTOK, Accounts, Till
from gridmarl.contracts.errors import ContractError
from gridmarl.contracts.machine import Machine, Transition

PPM = 1_000_000


class CreditState(Enum):
    """Where a line of credit stands."""

    NONE = 0
    OPEN = 1
    FROZEN = 2
    CLOSED = 3


CREDIT: Machine[CreditState] = Machine(
    "credit",
    CreditState.NONE,
    (
        Transition(CreditState.NONE, "grant", CreditState.OPEN, ("bank",)),
        Transition(CreditState.OPEN, "charge", CreditState.OPEN, ("bank",), opens="next_charge"),
        Transition(CreditState.OPEN, "freeze", CreditState.FROZEN, ("bank",)),
        Transition(CreditState.FROZEN, "charge", CreditState.FROZEN, ("bank",), opens="next_charge"),
        Transition(CreditState.FROZEN, "thaw", CreditState.OPEN, ("bank",)),
        Transition(CreditState.FROZEN, "close", CreditState.CLOSED, ("bank",)),
    ),
)


def principal_utok(spendable_utok: Tensor) -> Tensor:
    """What an account owes, int64 µtok: how far its spendable money is below zero, else 0."""
    return (-spendable_utok).clamp(min=0)


def interest_utok(principal: Tensor, ppm: int) -> Tensor:
    """`floor(principal * ppm / 10**6)` µtok, `0 <= ppm <= 10**6`, without overflow for any principal of 0 or more."""
    millions = torch.div(principal, PPM, rounding_mode="floor")
    rest = principal - millions * PPM
    return millions * ppm + torch.div(rest * ppm, PPM, rounding_mode="floor")


@dataclass(frozen=True, eq=False)
class CreditLine:
    """A bank's credit to one account, the same limit in all lanes; a value, replaced by every call.

    Attributes:
        bank: account that grants and earns the interest.
        borrower: account that may go below zero.
        rate_ppm: interest for one unit of time.
        limit_utok: as granted.
        next_charge: the first time that has not been charged.
    """

    _till: Till
    bank: int
    borrower: int
    rate_ppm: int
    limit_utok: int = 0
    next_charge: int = 0
    state: CreditState = CreditState.NONE

    def __post_init__(self) -> None:
        if self.bank == self.borrower or not 0 <= self.rate_ppm <= PPM:
            raise ContractError(
                f"contract credit: bank {self.bank}, borrower {self.borrower}, rate_ppm {self.rate_ppm}; allowed are "
                f"two accounts and a rate of 0 .. {PPM}"
            )

    def grant(self, accounts: Accounts, caller: int, now: int, limit_utok: int) -> tuple[CreditLine, Accounts]:
        """Lend up to a limit from now on. ContractError: not the bank, granted before, or a limit out of range."""
        state = self._after("grant", caller, now)
        if not 0 <= limit_utok <= UNLIMITED_UTOK:
            raise ContractError(f"contract credit: grant of {limit_utok} µtok; allowed are 0 .. {UNLIMITED_UTOK}")
        accounts = self._till.set_credit(accounts, self.borrower, limit_utok)
        return replace(self, state=state, limit_utok=limit_utok, next_charge=now), accounts

    def charge(self, accounts: Accounts, caller: int, now: int) -> tuple[CreditLine, Accounts]:
        """Interest of this unit of time on what is owed now. It may take the account beyond its limit.

        Raises:
            ContractError: not the bank, nothing granted, or this time has been charged (TooEarlyError).
        """
        state = self._after("charge", caller, now)
        limit = accounts.credit_utok[self.borrower]
        interest = interest_utok(principal_utok(accounts.balances[self.borrower]), self.rate_ppm)
        accounts = self._till.set_credit(accounts, self.borrower, UNLIMITED_UTOK)
        accounts = self._till.transfer(accounts, self.borrower, self.bank, interest).accounts
        accounts = self._till.set_credit(accounts, self.borrower, limit)
        return replace(self, state=state, next_charge=now + 1), accounts

    def freeze(self, accounts: Accounts, caller: int, now: int) -> tuple[CreditLine, Accounts]:
        """Lend nothing more. ContractError: not the bank, or not open."""
        state = self._after("freeze", caller, now)
        return replace(self, state=state), self._till.set_credit(accounts, self.borrower, 0)

    def thaw(self, accounts: Accounts, caller: int, now: int) -> tuple[CreditLine, Accounts]:
        """Lend again, up to the limit granted. ContractError: not the bank, or not frozen."""
        state = self._after("thaw", caller, now)
        return replace(self, state=state), self._till.set_credit(accounts, self.borrower, self.limit_utok)

    def close(self, accounts: Accounts, caller: int, now: int) -> tuple[CreditLine, Accounts]:
        """End the credit; looks at the balances on the host.

        Raises:
            ContractError: not the bank, not frozen, or money is owed in some lane.
        """
        state = self._after("close", caller, now)
        owed = int(principal_utok(accounts.balances[self.borrower]).amax())
        if owed:
            raise ContractError(
                f"contract credit: close by bank in state {self.state.name}: account {self.borrower} owes {owed} µtok; "
                "allowed is 0"
            )
        return replace(self, state=state), accounts

    def _after(self, call: str, caller: int, now: int) -> CreditState:
        role = "bank" if caller == self.bank else "borrower" if caller == self.borrower else "other"
        return CREDIT.after(self.state, call, role, now, {"next_charge": self.next_charge})
