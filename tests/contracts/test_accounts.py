"""Accounts: what a till can do, what nobody else can, and what each refusal says."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.contracts.accounts import UNLIMITED_UTOK, Accounts, Till, open_accounts
from gridmarl.contracts.errors import ContractError
from gridmarl.errors import ConfigError, OverdraftError

START = torch.tensor([[100, 50], [10, 0], [0, 7]])


def opened(policy: str = "raise", credit: Any = (0, 20, None)) -> tuple[Accounts, Till]:
    return open_accounts(START, credit, on_overdraft=policy)


def test_movements_and_their_sum() -> None:
    accounts, till = opened()
    total = accounts.total_utok
    accounts = till.transfer(accounts, 0, 1, torch.tensor([60, 1])).accounts
    accounts = till.hold(accounts, 1, torch.tensor([70, 2])).accounts
    accounts = till.release(accounts, 1, 2, 2).accounts
    accounts = till.transfer(accounts, [0, 2], [2, 2], torch.tensor([[1, 2], [3, 4]])).accounts
    assert accounts.balances.tolist() == [[39, 47], [0, -1], [3, 11]]
    assert accounts.escrow.tolist() == [[0, 0], [68, 0], [0, 0]]
    assert torch.equal(accounts.total_utok, total)


def test_credit_is_the_limit() -> None:
    accounts, till = opened()
    spent = till.transfer(accounts, 1, 0, torch.tensor([30, 20])).accounts
    assert spent.balances[1].tolist() == [-20, -20]
    with pytest.raises(
        OverdraftError,
        match=r"^balance of account 1, lane 1: 21 µtok asked; allowed are at most 20 \(credit included\)$",
    ):
        till.transfer(accounts, 1, 0, 21)
    assert till.transfer(accounts, 2, 0, UNLIMITED_UTOK).accounts.balances[2].tolist() == [
        -UNLIMITED_UTOK,
        7 - UNLIMITED_UTOK,
    ]
    more = till.set_credit(accounts, 1, 21)
    assert more.credit_utok.tolist() == [[0, 0], [21, 21], [UNLIMITED_UTOK, UNLIMITED_UTOK]]
    assert till.transfer(more, 1, 0, 21).accounts.balances[1].tolist() == [-11, -21]


def test_escrow_has_no_credit() -> None:
    accounts, till = opened()
    held = till.hold(accounts, 1, 20).accounts
    with pytest.raises(OverdraftError, match=r"^escrow of account 1, lane 0: 21 µtok asked; allowed are at most 20"):
        till.release(held, 1, 0, 21)


def test_refusing_lane_by_lane() -> None:
    """Where it is not covered nothing moves, the other lanes go on, and the mask says which."""
    accounts, till = opened("refuse")
    moved = till.transfer(accounts, [0, 1], [2, 2], torch.tensor([[100, 51], [-1, 20]]))
    assert moved.done.tolist() == [[True, False], [False, True]]
    assert moved.accounts.balances.tolist() == [[0, 50], [10, -20], [100, 27]]
    assert torch.equal(moved.accounts.total_utok, START.sum(0))


def test_nobody_else_moves_money() -> None:
    accounts, till = opened()
    for shown in (accounts.balances, accounts.escrow, accounts.credit_utok):
        shown += 1_000
    assert torch.equal(accounts.balances, START)
    assert not bool(accounts.escrow.any())
    taken = START.clone()
    other = open_accounts(taken)[0]
    taken += 1
    assert torch.equal(other.balances, START), "not even through the tensor it was opened with"
    with pytest.raises(ContractError, match=r"^accounts: made directly; allowed are open_accounts and the till"):
        Accounts(object(), till, START + 1, START, START)
    with pytest.raises(ContractError, match=r"^till: made directly; allowed is open_accounts"):
        Till(object(), strict=False)
    with pytest.raises(ContractError, match=r"^accounts: _balances set by hand; allowed are the calls of a contract"):
        accounts._balances = START + 1
    with pytest.raises(ContractError, match=r"^accounts: balances set by hand"):
        accounts.balances = START + 1  # type: ignore[misc]
    with pytest.raises(ContractError, match=r"set by hand"):
        copy.copy(accounts)
    assert not [name for name in dir(accounts) if not name.startswith("_") and callable(getattr(accounts, name))]


def test_a_till_is_for_its_own_accounts() -> None:
    accounts, till = opened()
    _, other = opened()
    for call in (other.transfer, other.release):
        with pytest.raises(ContractError, match=r"^till: accounts of another till"):
            call(accounts, 0, 1, 1)
    with pytest.raises(ContractError, match=r"^till: accounts of another till"):
        other.hold(accounts, 0, 1)
    with pytest.raises(ContractError, match=r"^till: accounts of another till"):
        other.set_credit(accounts, 0, 1)
    assert till.strict


@pytest.mark.parametrize(
    ("payer", "payee", "amount", "message"),
    [
        (0, 1, -1, "balance of account 0, lane 0: amount -1 µtok; allowed is 0 or more"),
        ([0, 0], [1, 1], 1, r"payers: \[0, 0\]; allowed is each once in a call"),
        (3, 0, 1, r"accounts: \[3\]; allowed are 0 .. 2"),
        (0, -1, 1, r"accounts: \[-1\]; allowed are 0 .. 2"),
        ([], [], 1, r"accounts: \[\]; allowed are 0 .. 2"),
        (0, 1, torch.tensor(0.5), "amount: torch.float32; allowed is torch.int64"),
    ],
)
def test_what_is_no_payment(payer: Any, payee: Any, amount: int | Tensor, message: str) -> None:
    accounts, till = opened()
    with pytest.raises(ContractError, match=f"^{message}"):
        till.transfer(accounts, payer, payee, amount)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balances_utok": START.float()}, r"balances_utok: \(3, 2\) torch.float32, allowed is \[A, E\] torch.int64"),
        ({"balances_utok": START[0]}, r"balances_utok: \(2,\) torch.int64"),
        ({"credit_utok": [0, 1]}, "credit_utok: "),
        ({"credit_utok": [0, 1, -1]}, "credit_utok: "),
        ({"on_overdraft": "ignore"}, "on_overdraft: 'ignore', allowed are raise, refuse"),
    ],
)
def test_accounts_that_cannot_be_opened(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        open_accounts(**{"balances_utok": START} | changes)


def test_refusing_leaves_nothing_on_the_host() -> None:
    with FakeTensorMode():
        accounts, till = open_accounts(torch.ones((3, 5), dtype=torch.int64, device="cuda:0"), on_overdraft="refuse")
        accounts = till.transfer(accounts, [0, 1], [2, 2], torch.ones(5, dtype=torch.int64, device="cuda:0")).accounts
        accounts = till.release(till.hold(accounts, 2, 1).accounts, 2, 0, 1).accounts
        assert accounts.balances.device.type == "cuda"
