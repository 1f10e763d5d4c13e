"""Deposit, escrow and credit: their calls, their amounts, and each refusal."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gridmarl.contracts.accounts import Accounts, Till, open_accounts
from gridmarl.contracts.credit import PPM, CreditLine, CreditState, interest_utok, principal_utok
from gridmarl.contracts.deposit import Deposits, DepositState, open_deposits
from gridmarl.contracts.errors import (
    AlreadyDoneError,
    ContractError,
    DepositError,
    IllegalTransitionError,
    TooEarlyError,
    TooLateError,
    WrongCallerError,
)
from gridmarl.contracts.escrow import Escrow, EscrowState, open_escrow
from gridmarl.errors import OverdraftError

KEEPER, BANK = 3, 4
START = torch.tensor([[100, 40], [100, 100], [0, 0], [0, 0], [1_000, 1_000]])


def market(policy: str = "raise") -> tuple[Accounts, Till, Deposits]:
    accounts, till = open_accounts(START, on_overdraft=policy)
    return accounts, till, open_deposits(till, accounts, (1, 0), KEEPER, pay_until=5, settle_until=8)


def test_a_deposit_from_beginning_to_end() -> None:
    """Penalty, then fee, as far as the deposit reaches; the rest goes back."""
    accounts, _, deposits = market()
    deposits, accounts = deposits.pay(accounts, [0], 0, torch.tensor([30, 40]), 30)
    deposits, accounts = deposits.pay(accounts, [1], 4, 20)
    assert accounts.escrow.tolist() == [[30, 40], [20, 20], [0, 0], [0, 0], [0, 0]]
    assert deposits.held_utok.tolist() == [[20, 20], [30, 40]]
    penalty = torch.tensor([[25, -5], [7, 50]])
    deposits, accounts = deposits.settle(accounts, KEEPER, 5, [0, 1], [(2, penalty), (KEEPER, 10)])
    assert deposits.held_utok.tolist() == [[3, 0], [0, 30]]
    assert accounts.balances[2].tolist() == [32, 20]
    assert accounts.balances[KEEPER].tolist() == [15, 10]
    deposits, accounts = deposits.withdraw(accounts, [1, 0], 6)
    assert set(deposits.states) == {DepositState.WITHDRAWN}
    assert not bool(deposits.held_utok.any())
    assert accounts.balances[:2].tolist() == [[70, 30], [83, 80]]
    assert not bool(accounts.escrow.any())
    assert torch.equal(accounts.total_utok, START.sum(0))


def test_each_deposit_walks_alone() -> None:
    accounts, _, deposits = market()
    deposits, accounts = deposits.pay(accounts, [1], 0, 5)
    assert deposits.states == (DepositState.HELD, DepositState.EMPTY)
    with pytest.raises(
        IllegalTransitionError, match=r"^contract deposit: settle by keeper in state EMPTY; allowed here"
    ):
        deposits.settle(accounts, KEEPER, 5, [1, 0], [])
    assert deposits.states == (DepositState.HELD, DepositState.EMPTY)


def test_a_keeper_that_does_not_settle_in_time_has_no_hold() -> None:
    accounts, _, deposits = market()
    deposits, accounts = deposits.pay(accounts, [0], 0, 5)
    with pytest.raises(TooEarlyError, match=r"withdraw by owner in state HELD at time 7; allowed is time 8"):
        deposits.withdraw(accounts, [0], 7)
    with pytest.raises(TooLateError, match=r"settle by keeper in state HELD at time 8; allowed is before time 8"):
        deposits.settle(accounts, KEEPER, 8, [0], [(KEEPER, 5)])
    _, accounts = deposits.withdraw(accounts, [0], 8)
    assert torch.equal(accounts.balances, START)


def test_no_deposit_call_works_twice() -> None:
    accounts, _, deposits = market()
    deposits, accounts = deposits.pay(accounts, [0], 0, 30)
    with pytest.raises(AlreadyDoneError, match=r"pay by owner in state HELD"):
        deposits.pay(accounts, [0], 1, 30)
    deposits, accounts = deposits.settle(accounts, KEEPER, 5, [0], [(2, 10)])
    with pytest.raises(AlreadyDoneError, match=r"settle by keeper in state SETTLED; allowed here: withdraw by owner$"):
        deposits.settle(accounts, KEEPER, 5, [0], [(2, 10)])
    deposits, accounts = deposits.withdraw(accounts, [0], 5)
    with pytest.raises(AlreadyDoneError, match=r"withdraw by owner in state WITHDRAWN; allowed here: nothing"):
        deposits.withdraw(accounts, [0], 5)
    assert accounts.balances[2].tolist() == [10, 10]


def test_what_deposits_refuse() -> None:
    accounts, till, deposits = market()
    with pytest.raises(TooLateError, match=r"pay by owner in state EMPTY at time 5; allowed is before time 5"):
        deposits.pay(accounts, [0], 5, 30)
    with pytest.raises(
        DepositError, match=r"pay by account 0 in state EMPTY: 29 µtok in lane 0; allowed are 30 or more$"
    ):
        deposits.pay(accounts, [0], 0, 29, torch.tensor([30, 20]))
    with pytest.raises(OverdraftError, match=r"balance of account 0, lane 1: 41 µtok asked; allowed are at most 40"):
        deposits.pay(accounts, [0], 0, 41)
    with pytest.raises(ContractError, match=r"pay for account 2; allowed are \[1, 0\]"):
        deposits.pay(accounts, [2], 0, 1)
    deposits, accounts = deposits.pay(accounts, [0], 0, 30)
    for caller in (0, 1, 2):
        with pytest.raises(WrongCallerError, match=r"settle by (owner|other) in state HELD; allowed is keeper"):
            deposits.settle(accounts, caller, 5, [0], [(caller, 30)])
    with pytest.raises(ContractError, match=r"settle for accounts \[0, 0\]; allowed is each once, at least one"):
        deposits.settle(accounts, KEEPER, 5, [0, 0], [(2, 10)])
    for owners, until in (((), 8), ((0, 0), 8), ((0,), 5)):
        with pytest.raises(ContractError, match=r"contract deposit: (owners|settle_until)"):
            open_deposits(till, accounts, owners, KEEPER, pay_until=5, settle_until=until)


def test_a_till_that_refuses_leaves_the_deposit_empty_in_that_lane() -> None:
    accounts, _, deposits = market("refuse")
    deposits, accounts = deposits.pay(accounts, [0], 0, torch.tensor([29, 41]), torch.tensor([30, 0]))
    assert deposits.held_utok.tolist() == [[0, 0], [0, 0]]
    deposits, accounts = deposits.pay(accounts, [1], 0, torch.tensor([29, 30]), 30)
    assert deposits.held_utok.tolist() == [[0, 30], [0, 0]]
    deposits, accounts = deposits.settle(accounts, KEEPER, 5, [0, 1], [(KEEPER, 4)])
    _, accounts = deposits.withdraw(accounts, [0, 1], 5)
    assert accounts.balances.tolist()[:4] == [[100, 40], [100, 96], [0, 0], [0, 4]]


def funded() -> tuple[Accounts, Escrow]:
    accounts, till = open_accounts(START)
    escrow = open_escrow(till, accounts, payer=0, payee=1, arbiter=2, release_until=9)
    escrow, accounts = escrow.fund(accounts, 0, 0, torch.tensor([60, 40]))
    return accounts, escrow


@pytest.mark.parametrize(
    ("call", "caller", "now", "row"),
    [("pay_out", 0, 8, 1), ("pay_out", 2, 0, 1), ("refund", 1, 0, 0), ("refund", 2, 8, 0), ("reclaim", 0, 9, 0)],
)
def test_escrow_pays_one_of_two(call: str, caller: int, now: int, row: int) -> None:
    accounts, escrow = funded()
    assert accounts.balances[:2].tolist() == [[40, 0], [100, 100]]
    done, after = getattr(escrow, call)(accounts, caller, now)
    assert done.state is (EscrowState.PAID if row else EscrowState.REFUNDED)
    assert after.balances[row].tolist() == ([160, 140] if row else [100, 40])
    assert not bool(after.escrow.any())
    for again, by in (("pay_out", 2), ("refund", 2), ("reclaim", 0)):
        with pytest.raises(IllegalTransitionError, match=r"allowed here: nothing, it has ended"):
            getattr(done, again)(after, by, now)


@pytest.mark.parametrize(
    ("call", "caller", "now", "error"),
    [
        ("pay_out", 1, 0, WrongCallerError),
        ("refund", 0, 0, WrongCallerError),
        ("refund", 3, 0, WrongCallerError),
        ("pay_out", 0, 9, TooLateError),
        ("refund", 2, 9, TooLateError),
        ("reclaim", 0, 8, TooEarlyError),
        ("reclaim", 1, 9, WrongCallerError),
    ],
)
def test_what_an_escrow_refuses(call: str, caller: int, now: int, error: type[ContractError]) -> None:
    accounts, escrow = funded()
    with pytest.raises(error, match=f"^contract escrow: {call} by .* in state FUNDED"):
        getattr(escrow, call)(accounts, caller, now)
    with pytest.raises(AlreadyDoneError, match=r"fund by payer in state FUNDED"):
        escrow.fund(accounts, 0, 0, 1)


def test_escrow_between_three() -> None:
    accounts, till = open_accounts(START)
    with pytest.raises(ContractError, match=r"payer 0, payee 0, arbiter 2; allowed are three accounts"):
        open_escrow(till, accounts, payer=0, payee=0, arbiter=2, release_until=9)
    escrow = open_escrow(till, accounts, payer=0, payee=1, arbiter=2, release_until=9)
    with pytest.raises(TooLateError, match=r"fund by payer in state EMPTY at time 9"):
        escrow.fund(accounts, 0, 9, 1)
    with pytest.raises(IllegalTransitionError, match=r"pay_out by payer in state EMPTY; allowed here: fund by payer$"):
        escrow.pay_out(accounts, 0, 0)


def test_credit_from_grant_to_close() -> None:
    accounts, till = open_accounts(START)
    line = CreditLine(till, BANK, 2, 50_000)
    with pytest.raises(OverdraftError):
        till.transfer(accounts, 2, 0, 1)
    line, accounts = line.grant(accounts, BANK, 7, 100)
    accounts = till.transfer(accounts, 2, 0, torch.tensor([100, 39])).accounts
    line, accounts = line.charge(accounts, BANK, 7)
    assert accounts.balances[2].tolist() == [-105, -40], "5 % of 100, and of 39 the floor of 1.95"
    assert accounts.balances[BANK].tolist() == [1_005, 1_001]
    assert accounts.credit_utok[2].tolist() == [100, 100]
    with pytest.raises(TooEarlyError, match=r"charge by bank in state OPEN at time 7; allowed is time 8"):
        line.charge(accounts, BANK, 7)
    line, accounts = line.freeze(accounts, BANK, 7)
    with pytest.raises(OverdraftError, match=r"account 2, lane 0: 1 µtok asked"):
        till.transfer(accounts, 2, 0, 1)
    with pytest.raises(ContractError, match=r"close by bank in state FROZEN: account 2 owes 105 µtok; allowed is 0"):
        line.close(accounts, BANK, 8)
    thawed, again = line.thaw(accounts, BANK, 8)
    assert till.transfer(again, 2, 0, torch.tensor([0, 60])).accounts.balances[2].tolist() == [-105, -100]
    assert thawed.state is CreditState.OPEN
    accounts = till.transfer(accounts, BANK, 2, 105).accounts
    line, accounts = line.close(accounts, BANK, 8)
    assert line.state is CreditState.CLOSED
    with pytest.raises(IllegalTransitionError, match=r"nothing, it has ended"):
        line.charge(accounts, BANK, 9)
    assert torch.equal(accounts.total_utok, START.sum(0))


def test_what_credit_refuses() -> None:
    accounts, till = open_accounts(START)
    line = CreditLine(till, BANK, 2, 0)
    with pytest.raises(WrongCallerError, match=r"grant by borrower in state NONE; allowed is bank"):
        line.grant(accounts, 2, 0, 10)
    with pytest.raises(IllegalTransitionError, match=r"charge by bank in state NONE; allowed here: grant by bank"):
        line.charge(accounts, BANK, 0)
    with pytest.raises(ContractError, match=r"grant of -1 µtok; allowed are 0"):
        line.grant(accounts, BANK, 0, -1)
    line, accounts = line.grant(accounts, BANK, 0, 10)
    with pytest.raises(AlreadyDoneError, match=r"grant by bank in state OPEN"):
        line.grant(accounts, BANK, 0, 10)
    bad: list[dict[str, Any]] = [{"bank": 2}, {"rate_ppm": -1}, {"rate_ppm": PPM + 1}]
    for changes in bad:
        with pytest.raises(ContractError, match=r"^contract credit: bank"):
            CreditLine(**{"_till": till, "bank": BANK, "borrower": 2, "rate_ppm": 0} | changes)


def test_interest_is_exact_for_any_principal() -> None:
    owed = [0, 1, 999_999, 1_000_000, 1_000_001, 10**12 + 7, 2**62, 2**63 - 1]
    for ppm in (0, 1, 333, 999_999, PPM):
        assert interest_utok(torch.tensor(owed), ppm).tolist() == [each * ppm // PPM for each in owed]
    assert principal_utok(torch.tensor([-5, 0, 5])).tolist() == [5, 0, 0]
