"""Random calls by random callers at random times: money is conserved, and no contract leaves its table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gridmarl.contracts.accounts import open_accounts
from gridmarl.contracts.credit import CREDIT, CreditLine
from gridmarl.contracts.deposit import DEPOSIT, open_deposits
from gridmarl.contracts.errors import ContractError
from gridmarl.contracts.escrow import ESCROW, open_escrow
from gridmarl.errors import OverdraftError

ACCOUNTS, LANES = 6, 2
OWNERS, KEEPER, PAYEE, BANK = (0, 1, 2), 3, 4, 5
CALLERS = st.integers(0, ACCOUNTS - 1)
OWN = st.sampled_from([0, 1, 2, 0, 1, 2, 4])
KEEPERS = st.sampled_from([KEEPER, KEEPER, 0])
AMOUNTS = st.lists(st.integers(-5, 120), min_size=LANES, max_size=LANES).map(torch.tensor)


class Contracts(RuleBasedStateMachine):
    """Deposits of three owners, an escrow and a line of credit share the accounts and their till."""

    @initialize(
        policy=st.sampled_from(["raise", "refuse"]),
        money=st.lists(st.lists(st.integers(0, 150), min_size=LANES, max_size=LANES), min_size=6, max_size=6),
        times=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6)),
    )
    def start(self, policy: str, money: list[list[int]], times: tuple[int, int, int]) -> None:
        start = torch.tensor(money)
        self.accounts, till = open_accounts(start, on_overdraft=policy)
        self.deposits = open_deposits(
            till, self.accounts, OWNERS, KEEPER, pay_until=times[0], settle_until=times[0] + times[1]
        )
        self.escrow = open_escrow(till, self.accounts, payer=0, payee=PAYEE, arbiter=KEEPER, release_until=times[2])
        self.line = CreditLine(till, BANK, 1, 100_000)
        self.total, self.now, self.paid_out = start.sum(0), 0, 0

    def attempt(self, name: str, call: Callable[..., Any], *arguments: Any) -> bool:
        """Call; keep the new values, or check that a refusal has changed nothing."""
        before = (self.accounts, self.accounts.balances, self.accounts.escrow)
        try:
            contract, accounts = call(self.accounts, *arguments)
        except (ContractError, OverdraftError):
            assert self.accounts is before[0]
            assert torch.equal(self.accounts.balances, before[1])
            assert torch.equal(self.accounts.escrow, before[2])
            return False
        setattr(self, name, contract)
        self.accounts = accounts
        return True

    @rule(caller=OWN, amount=AMOUNTS, least=st.integers(0, 60))
    def pay(self, caller: int, amount: torch.Tensor, least: int) -> None:
        self.attempt("deposits", self.deposits.pay, [caller], self.now, amount, least)

    @rule(caller=KEEPERS, owners=st.lists(OWN, min_size=1, max_size=2), penalty=AMOUNTS, fee=st.integers(0, 9))
    def settle(self, caller: int, owners: list[int], penalty: torch.Tensor, fee: int) -> None:
        taken = [(PAYEE, penalty), (KEEPER, fee)]
        self.attempt("deposits", self.deposits.settle, caller, self.now, owners, taken)

    @rule(owners=st.lists(OWN, min_size=1, max_size=2))
    def withdraw(self, owners: list[int]) -> None:
        self.attempt("deposits", self.deposits.withdraw, owners, self.now)

    @rule(caller=CALLERS, amount=AMOUNTS)
    def fund(self, caller: int, amount: torch.Tensor) -> None:
        self.attempt("escrow", self.escrow.fund, caller, self.now, amount)

    @rule(caller=CALLERS, call=st.sampled_from(["pay_out", "refund", "reclaim"]))
    def decide(self, caller: int, call: str) -> None:
        self.paid_out += self.attempt("escrow", getattr(self.escrow, call), caller, self.now)

    @rule(caller=CALLERS, limit=st.integers(-1, 200))
    def grant(self, caller: int, limit: int) -> None:
        self.attempt("line", self.line.grant, caller, self.now, limit)

    @rule(caller=CALLERS, call=st.sampled_from(["charge", "charge", "freeze", "thaw", "close"]))
    def bank(self, caller: int, call: str) -> None:
        self.attempt("line", getattr(self.line, call), caller, self.now)

    @rule()
    def wait(self) -> None:
        self.now += 1

    @invariant()
    def money_is_conserved(self) -> None:
        assert torch.equal(self.accounts.total_utok, self.total)

    @invariant()
    def escrow_is_what_contracts_hold(self) -> None:
        expected = torch.zeros((ACCOUNTS, LANES), dtype=torch.int64)
        for row, owner in enumerate(OWNERS):
            expected[owner] += self.deposits.held_utok[row]
        expected[self.escrow.payer] += self.escrow.held_utok
        assert torch.equal(self.accounts.escrow, expected)
        assert bool((expected >= 0).all())

    @invariant()
    def only_the_borrower_owes(self) -> None:
        others = [account for account in range(ACCOUNTS) if account != self.line.borrower]
        assert bool((self.accounts.balances[others] >= 0).all())

    @invariant()
    def states_are_legal(self) -> None:
        """What is held fits the state, and an escrow has been decided at most once."""
        for state, held in zip(self.deposits.states, self.deposits.held_utok, strict=True):
            assert isinstance(state, type(DEPOSIT.initial))
            assert state.name in ("HELD", "SETTLED") or not bool(held.any())
        assert isinstance(self.escrow.state, type(ESCROW.initial))
        assert self.escrow.state.name == "FUNDED" or not bool(self.escrow.held_utok.any())
        assert self.paid_out == (self.escrow.state.name in ("PAID", "REFUNDED"))
        assert isinstance(self.line.state, type(CREDIT.initial))
        assert self.line.next_charge <= self.now + 1


Contracts.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestContracts = Contracts.TestCase
