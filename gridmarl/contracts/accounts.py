"""Accounts: balances, money in escrow and credit of `A` accounts in `E` lanes, which only a contract's till can change.

`Accounts` is a value: what it shows are copies, and no method of it moves money. `open_accounts` hands out, once, the
`Till` that can make new values from it; contracts keep it to themselves. Every movement takes from one place what it
adds to another, so that the sum over all balances and escrows never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.contracts.errors import ContractError
from gridmarl.errors import ConfigError, OverdraftError

UNLIMITED_UTOK = 1 << 61
"""Credit of accounts without a limit. Balances stay below 2**62, so that balance plus credit fits in int64."""

Rows = int | Sequence[int]
Amount = int | Tensor
_KEY = object()


class Accounts:
    """Balances, escrows and credit limits; read-only. Made by `open_accounts` and by tills, never directly.

    Raises:
        ContractError: made directly, or changed.
    """

    __slots__ = ("_balances", "_credit", "_escrow", "_till")
    _balances: Tensor
    _credit: Tensor
    _escrow: Tensor
    _till: Till

    def __init__(self, key: object, till: Till, balances: Tensor, escrow: Tensor, credit: Tensor) -> None:
        if key is not _KEY:
            raise ContractError("accounts: made directly; allowed are open_accounts and the till of a contract")
        for name, value in (("_balances", balances), ("_escrow", escrow), ("_credit", credit), ("_till", till)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise ContractError(f"accounts: {name} set by hand; allowed are the calls of a contract")

    @property
    def balances(self) -> Tensor:
        """Free money, `[A, E]` int64 µtok; a copy."""
        return self._balances.clone()

    @property
    def escrow(self) -> Tensor:
        """Money of each account that contracts hold, `[A, E]` int64 µtok; a copy."""
        return self._escrow.clone()

    @property
    def credit_utok(self) -> Tensor:
        """How far below zero each balance may go, `[A, E]` int64 µtok; a copy."""
        return self._credit.clone()

    @property
    def total_utok(self) -> Tensor:
        """Sum over all balances and escrows, `[E]` int64 µtok; the same after every call."""
        return self._balances.sum(0) + self._escrow.sum(0)


class Moved(NamedTuple):
    """Accounts after a movement, and where it took place."""

    accounts: Accounts
    done: Tensor  # [K, E] bool: moved; false where it was refused, and nothing changed


def open_accounts(
    balances_utok: Tensor, credit_utok: Sequence[int | None] | None = None, *, on_overdraft: str = "raise"
) -> tuple[Accounts, Till]:
    """Accounts with the given balances, empty escrows, and the only till that can move their money.

    Args:
        balances_utok: `[A, E]` int64, copied; the sum over accounts of absolute values below 2**62.
        credit_utok: for each account, how far below zero its balance may go, 0 or more; None: without limit. None
            for all: no credit.
        on_overdraft: "raise": OverdraftError, which looks at the amounts on the host. "refuse": the movement is left
            out in the lanes in which it is not covered, and `Moved.done` says so; nothing leaves the device.

    Raises:
        ConfigError: wrong shape, type or credit, or an unknown `on_overdraft`.
    """
    if balances_utok.dtype != torch.int64 or balances_utok.ndim != 2:
        seen = f"{tuple(balances_utok.shape)} {balances_utok.dtype}"
        raise ConfigError(f"balances_utok: {seen}, allowed is [A, E] torch.int64")
    if on_overdraft not in ("raise", "refuse"):
        raise ConfigError(f"on_overdraft: {on_overdraft!r}, allowed are raise, refuse")
    count = balances_utok.shape[0]
    limits = [0] * count if credit_utok is None else [UNLIMITED_UTOK if each is None else each for each in credit_utok]
    if len(limits) != count or not all(0 <= each <= UNLIMITED_UTOK for each in limits):
        raise ConfigError(f"credit_utok: {credit_utok}, allowed are {count} values 0 .. {UNLIMITED_UTOK}, or None")
    credit = torch.tensor(limits, dtype=torch.int64, device=balances_utok.device).unsqueeze(1)
    till = Till(_KEY, strict=on_overdraft == "raise")
    zeros = torch.zeros_like(balances_utok)
    return Accounts(_KEY, till, balances_utok.clone(), zeros, credit.expand_as(zeros).clone()), till


class Till:
    """The right to move money of the accounts that it was opened with; made by `open_accounts` only.

    Accounts of a call are one number, or `K` of them (payers all different); amounts are `[K, E]`, `[E]` or an integer,
    int64 µtok, 0 or more.
    """

    __slots__ = ("_strict",)

    def __init__(self, key: object, *, strict: bool) -> None:
        if key is not _KEY:
            raise ContractError("till: made directly; allowed is open_accounts, which hands it out once")
        self._strict = strict

    @property
    def strict(self) -> bool:
        """Whether movements that are not covered raise (else they are left out, lane by lane)."""
        return self._strict

    def transfer(self, accounts: Accounts, payer: Rows, payee: Rows, amount_utok: Amount) -> Moved:
        """Pay from balance to balance.

        Raises:
            OverdraftError: more than balance and credit (`on_overdraft="raise"`).
            ContractError: a negative amount, accounts of another till, a payer twice, or accounts that do not exist.
        """
        self._check_lineage(accounts)
        balances, done = self._shift(
            accounts._balances, accounts._balances, payer, payee, amount_utok, accounts._credit, "balance"
        )
        return Moved(Accounts(_KEY, self, balances[0], accounts._escrow, accounts._credit), done)

    def hold(self, accounts: Accounts, owner: Rows, amount_utok: Amount) -> Moved:
        """Put money of the owners into their escrow. Raises as `transfer`."""
        self._check_lineage(accounts)
        moved, done = self._shift(
            accounts._balances, accounts._escrow, owner, owner, amount_utok, accounts._credit, "balance"
        )
        return Moved(Accounts(_KEY, self, *moved, accounts._credit), done)

    def release(self, accounts: Accounts, owner: Rows, payee: Rows, amount_utok: Amount) -> Moved:
        """Pay money from the owners' escrow into balances, their own or others'. Raises as `transfer`."""
        self._check_lineage(accounts)
        moved, done = self._shift(accounts._escrow, accounts._balances, owner, payee, amount_utok, None, "escrow")
        return Moved(Accounts(_KEY, self, moved[1], moved[0], accounts._credit), done)

    def set_credit(self, accounts: Accounts, account: int, limit_utok: Amount) -> Accounts:
        """Change how far below zero a balance may go, `[E]` or an integer."""
        self._check_lineage(accounts)
        row = self._index(accounts._credit, account)
        limit = self._amounts(accounts._credit, row, limit_utok)
        credit = accounts._credit.index_copy(0, row, limit.expand(1, -1))
        return Accounts(_KEY, self, accounts._balances, accounts._escrow, credit)

    def _check_lineage(self, accounts: Accounts) -> None:
        if accounts._till is not self:
            raise ContractError("till: accounts of another till; allowed are those that it was opened with")

    def _shift(
        self,
        source: Tensor,
        target: Tensor,
        payer: Rows,
        payee: Rows,
        amount: Amount,
        credit: Tensor | None,
        place: str,
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Source and target (the same twice, if they are one) after the movement, and where it took place."""
        payers, payees = self._index(source, payer), self._index(target, payee)
        if isinstance(payer, Sequence) and len(set(payer)) != len(payer):
            raise ContractError(f"payers: {list(payer)}; allowed is each once in a call")
        amounts = self._amounts(source, payers, amount)
        available = source.index_select(0, payers)
        if credit is not None:
            available = available + credit.index_select(0, payers)
        available = available.clamp(min=0)  # who is overdrawn can still pay nothing
        done = (amounts >= 0) & (amounts <= available)
        if self._strict and not bool(done.all()):
            self._refuse(payer, amounts, available, done, place)
        paid = amounts * done
        less = source.index_add(0, payers, -paid)
        if source is target:
            both = less.index_add(0, payees, paid)
            return (both, both), done
        return (less, target.index_add(0, payees, paid)), done

    def _index(self, table: Tensor, rows: Rows) -> Tensor:
        listed = [rows] if isinstance(rows, int) else list(rows)
        if not listed or not all(0 <= row < table.shape[0] for row in listed):
            raise ContractError(f"accounts: {listed}; allowed are 0 .. {table.shape[0] - 1}")
        return torch.tensor(listed, dtype=torch.int64, device=table.device)

    def _amounts(self, table: Tensor, rows: Tensor, amount: Amount) -> Tensor:
        """`[K, E]`."""
        shape = (rows.shape[0], table.shape[1])
        if isinstance(amount, Tensor) and amount.dtype != torch.int64:
            raise ContractError(f"amount: {amount.dtype}; allowed is torch.int64")
        value = amount if isinstance(amount, Tensor) else torch.full((), amount, dtype=torch.int64, device=table.device)
        return value.expand(shape)

    def _refuse(self, payer: Rows, amounts: Tensor, available: Tensor, done: Tensor, place: str) -> None:
        at = int(done.logical_not().flatten().to(torch.int64).argmax())
        row, lane = divmod(at, done.shape[1])
        account = payer if isinstance(payer, int) else payer[row]
        asked, there = int(amounts[row, lane]), int(available[row, lane])
        where = f"{place} of account {account}, lane {lane}"
        if asked < 0:
            raise ContractError(f"{where}: amount {asked} µtok; allowed is 0 or more")
        raise OverdraftError(f"{where}: {asked} µtok asked; allowed are at most {there} (credit included)")
