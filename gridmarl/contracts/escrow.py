"""Escrow: a payment that a payer puts up for a payee, until an arbiter decides or its time is over.

| state | call | by | from | before | next |
|---|---|---|---|---|---|
| EMPTY | fund | payer | - | release_until | FUNDED |
| FUNDED | pay_out | payer or arbiter | - | release_until | PAID |
| FUNDED | refund | payee or arbiter | - | release_until | REFUNDED |
| FUNDED | reclaim | payer | release_until | - | REFUNDED |

PAID and REFUNDED are ends: what has been settled cannot be settled again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from gridmarl.contracts.accounts import Accounts, Amount, Till
from gridmarl.contracts.errors import ContractError
from gridmarl.contracts.machine import Machine, Transition


class EscrowState(Enum):
    """Where an escrow stands."""

    EMPTY = 0
    FUNDED = 1
    PAID = 2
    REFUNDED = 3


ESCROW: Machine[EscrowState] = Machine(
    "escrow",
    EscrowState.EMPTY,
    (
        Transition(EscrowState.EMPTY, "fund", EscrowState.FUNDED, ("payer",), closes="release_until"),
        Transition(EscrowState.FUNDED, "pay_out", EscrowState.PAID, ("payer", "arbiter"), closes="release_until"),
        Transition(EscrowState.FUNDED, "refund", EscrowState.REFUNDED, ("payee", "arbiter"), closes="release_until"),
        Transition(EscrowState.FUNDED, "reclaim", EscrowState.REFUNDED, ("payer",), opens="release_until"),
    ),
)


@dataclass(frozen=True, eq=False)
class Escrow:
    """One payment in `E` lanes; a value, replaced by every call. Begin with `open_escrow`.

    Attributes:
        schedule: time `release_until`, from which only the payer can have the money (back).
        held_utok: `[E]` int64; part of the payer's escrow.
    """

    _till: Till
    payer: int
    payee: int
    arbiter: int
    schedule: Mapping[str, int]
    state: EscrowState
    held_utok: Tensor

    def fund(self, accounts: Accounts, caller: int, now: int, amount_utok: Amount) -> tuple[Escrow, Accounts]:
        """Put `[E]` µtok up.

        Raises:
            ContractError: not the payer, funded before, or too late.
            OverdraftError: more than the payer has (a till that refuses leaves it out; the escrow then holds nothing).
        """
        state = self._after("fund", caller, now)
        moved = self._till.hold(accounts, self.payer, amount_utok)
        held = self.held_utok + amount_utok * moved.done.select(0, 0)
        return replace(self, state=state, held_utok=held), moved.accounts

    def pay_out(self, accounts: Accounts, caller: int, now: int) -> tuple[Escrow, Accounts]:
        """Pay the payee. ContractError: not payer or arbiter, nothing funded, decided before, or too late."""
        return self._release("pay_out", accounts, caller, now, self.payee)

    def refund(self, accounts: Accounts, caller: int, now: int) -> tuple[Escrow, Accounts]:
        """Pay back. ContractError: not payee or arbiter, nothing funded, decided before, or too late."""
        return self._release("refund", accounts, caller, now, self.payer)

    def reclaim(self, accounts: Accounts, caller: int, now: int) -> tuple[Escrow, Accounts]:
        """Take the money back after its time. ContractError: not the payer, nothing funded, decided, or too early."""
        return self._release("reclaim", accounts, caller, now, self.payer)

    def _release(self, call: str, accounts: Accounts, caller: int, now: int, payee: int) -> tuple[Escrow, Accounts]:
        state = self._after(call, caller, now)
        moved = self._till.release(accounts, self.payer, payee, self.held_utok)
        return replace(self, state=state, held_utok=torch.zeros_like(self.held_utok)), moved.accounts

    def _after(self, call: str, caller: int, now: int) -> EscrowState:
        roles = {self.payer: "payer", self.payee: "payee", self.arbiter: "arbiter"}
        return ESCROW.after(self.state, call, roles.get(caller, "other"), now, self.schedule)


def open_escrow(till: Till, accounts: Accounts, *, payer: int, payee: int, arbiter: int, release_until: int) -> Escrow:
    """An empty escrow; ContractError unless payer, payee and arbiter are three accounts."""
    if len({payer, payee, arbiter}) != 3:
        raise ContractError(
            f"contract escrow: payer {payer}, payee {payee}, arbiter {arbiter}; allowed are three accounts"
        )
    held = torch.zeros_like(accounts.balances.select(0, 0))
    return Escrow(till, payer, payee, arbiter, {"release_until": release_until}, EscrowState.EMPTY, held)
