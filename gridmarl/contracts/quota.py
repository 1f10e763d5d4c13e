"""Contract of the charging quotas: declare with a deposit, allocate, trade, charge, pay. Rules: docs/quota-rules.md.

Stations `0..N-1` and their operator, the DSO (account `N`); one round per half hour, all lanes together:

| state | call | by | from | before | next |
|---|---|---|---|---|---|
| IDLE | initialize | dso | - | - | DECLARING |
| SETTLED | initialize | dso | - | - | DECLARING |
| DECLARING | demand_submit | station | - | deadline_1 | DECLARING |
| DECLARING | pre_allocate | dso | deadline_1 | - | CHARGING |
| DECLARING | pre_allocate_scarce | dso | deadline_1 | - | TRADING |
| TRADING | submit | station | - | deadline_2 | TRADING |
| TRADING | auction | dso | deadline_2 | - | CHARGING |
| CHARGING | payment | dso | deadline_3 | - | CHARGING |
| CHARGING | withdraw | station | - | - | CHARGING |
| CHARGING | withdraw_last | station | - | - | SETTLED |
| CHARGING | close | dso | - | - | SETTLED |

`pre_allocate_scarce` is what `pre_allocate` does where demand exceeds the margin in some lane, `withdraw_last` the
`withdraw` after which nothing is left to do. What each station may do once is kept beside the table.

| money | payer -> payee |
|---|---|
| auction | buyer's hold -> seller |
| fee, penalty, forfeiture | station's deposit, then its balance -> DSO |
| rest of the deposit, rest of the hold | back to the station |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NoReturn

import torch
from torch import Tensor

from gridmarl.clearing.quota import allocate
from gridmarl.clearing.registry import get_auction
from gridmarl.contracts.accounts import Accounts, Amount, Till
from gridmarl.contracts.deposit import Deposits, DepositState, open_deposits
from gridmarl.contracts.errors import AlreadyDoneError, ContractError, IllegalTransitionError
from gridmarl.contracts.machine import Machine, Transition
from gridmarl.contracts.quota_sums import QuotaTerms, auction_book, deposit_due, final_quota, round_charges
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH

SIDES = ("buy", "sell")
_NEVER = 2**62


class QuotaPhase(Enum):
    """Where a round stands."""

    IDLE = 0
    DECLARING = 1
    TRADING = 2
    CHARGING = 3
    SETTLED = 4


ROUND: Machine[QuotaPhase] = Machine(
    "quota",
    QuotaPhase.IDLE,
    (
        Transition(QuotaPhase.IDLE, "initialize", QuotaPhase.DECLARING, ("dso",)),
        Transition(QuotaPhase.SETTLED, "initialize", QuotaPhase.DECLARING, ("dso",)),
        Transition(QuotaPhase.DECLARING, "demand_submit", QuotaPhase.DECLARING, ("station",), closes="deadline_1"),
        Transition(QuotaPhase.DECLARING, "pre_allocate", QuotaPhase.CHARGING, ("dso",), opens="deadline_1"),
        Transition(QuotaPhase.DECLARING, "pre_allocate_scarce", QuotaPhase.TRADING, ("dso",), opens="deadline_1"),
        Transition(QuotaPhase.TRADING, "submit", QuotaPhase.TRADING, ("station",), closes="deadline_2"),
        Transition(QuotaPhase.TRADING, "auction", QuotaPhase.CHARGING, ("dso",), opens="deadline_2"),
        Transition(QuotaPhase.CHARGING, "payment", QuotaPhase.CHARGING, ("dso",), opens="deadline_3"),
        Transition(QuotaPhase.CHARGING, "withdraw", QuotaPhase.CHARGING, ("station",)),
        Transition(QuotaPhase.CHARGING, "withdraw_last", QuotaPhase.SETTLED, ("station",)),
        Transition(QuotaPhase.CHARGING, "close", QuotaPhase.SETTLED, ("dso",)),
    ),
)


@dataclass(frozen=True, eq=False)
class QuotaContract:
    """One transformer's contract in `E` lanes; a value, replaced by every call. Begin with `open_quota_contract`.

    Calls return the contract and the accounts after them, or raise and change nothing. Who calls is an account:
    stations are `0..N-1`, the DSO is `N`. Amounts are `[E]` int64 or an integer for all lanes.

    Attributes:
        terms: what is fixed when the contract is made.
        phase: state of the round, the same in all lanes.
        schedule: `deadline_1`, `deadline_2`, `deadline_3` of the round.
        period: number of the round; ties and roundings begin at station `period mod N`.
        margin_wh, tariff_utok_per_wh: `[E]`.
        deposits: of the stations, for this round.
        declared_wh: `[N, E]`.
        quota_wh: `[N, E]`, of the allocation, after `auction` the final one.
        scarce: `[E]` bool, lanes in which quotas can be traded.
        bids, offers: `[2, N, E]` price and quantity of purchases and of sales.
        hold_utok: `[N, E]` put up for purchases.
        made: calls that stations have made, or that were made for them, in this round.
    """

    _till: Till
    terms: QuotaTerms
    phase: QuotaPhase
    schedule: Mapping[str, int]
    period: int
    margin_wh: Tensor
    tariff_utok_per_wh: Tensor
    deposits: Deposits
    declared_wh: Tensor
    quota_wh: Tensor
    scarce: Tensor
    bids: Tensor
    offers: Tensor
    hold_utok: Tensor
    made: frozenset[tuple[str, int]]

    @property
    def dso(self) -> int:
        """Account of the operator."""
        return self.terms.num_stations

    def initialize(
        self,
        accounts: Accounts,
        caller: int,
        now: int,
        *,
        period: int,
        margin_wh: Amount,
        tariff_utok_per_wh: Amount,
        deadlines: tuple[int, int, int],
    ) -> tuple[QuotaContract, Accounts]:
        """The DSO begins a round.

        Raises:
            ContractError: not the DSO, a round is open, `now < deadlines` does not rise, or an amount out of bounds.
        """
        phase = self._after("initialize", caller, now)
        if not now < deadlines[0] < deadlines[1] < deadlines[2]:
            self._refuse("initialize", caller, f"deadlines {deadlines} at time {now}; allowed are rising, later times")
        if period < 0:
            self._refuse("initialize", caller, f"period {period}; allowed are 0 and more")
        margin = self._amount("initialize", caller, "margin in Wh", margin_wh, -MAX_BOOK_WH, MAX_BOOK_WH)
        tariff = self._amount("initialize", caller, "tariff", tariff_utok_per_wh, 0, MAX_PRICE_UTOK_PER_WH)
        begun = replace(_blank(self._till, self.terms, accounts, deadlines[0]), phase=phase, period=period)
        schedule = dict(zip(("deadline_1", "deadline_2", "deadline_3"), deadlines, strict=True))
        return replace(begun, schedule=schedule, margin_wh=margin, tariff_utok_per_wh=tariff), accounts

    def demand_submit(
        self, accounts: Accounts, caller: int, now: int, declared_wh: Amount, deposit_utok: Amount
    ) -> tuple[QuotaContract, Accounts]:
        """A station declares its demand and pays the deposit for it.

        Raises:
            ContractError: not a station, the wrong state, too late, a second time, or a demand out of bounds.
            DepositError: less than `deposit_rate_utok_per_wh * declared_wh`.
            OverdraftError: more than the station has.
        """
        phase, made = self._once("demand_submit", caller, caller, now)
        declared = self._amount("demand_submit", caller, "demand in Wh", declared_wh, 0, MAX_ORDER_WH)
        room = MAX_BOOK_WH - self.declared_wh.sum(0)
        self._require(
            "demand_submit", caller, "demand in Wh", declared, declared <= room, f"all together {MAX_BOOK_WH}"
        )
        deposits, accounts = self.deposits.pay(accounts, [caller], now, deposit_utok, deposit_due(declared, self.terms))
        return (
            replace(
                self, phase=phase, made=made, deposits=deposits, declared_wh=_put(self.declared_wh, caller, declared)
            ),
            accounts,
        )

    def pre_allocate(self, accounts: Accounts, caller: int, now: int) -> tuple[QuotaContract, Accounts]:
        """The DSO allocates; without scarcity in any lane there is no auction. ContractError: see `initialize`."""
        phase = self._after("pre_allocate", caller, now)
        outcome = allocate(self.declared_wh, self.margin_wh, self.period)
        if bool(outcome.scarce.any()):
            phase = self._after("pre_allocate_scarce", caller, now)
        return replace(self, phase=phase, quota_wh=outcome.quota, scarce=outcome.scarce), accounts

    def submit(
        self, accounts: Accounts, caller: int, now: int, side: str, price_utok_per_wh: Amount, quantity_wh: Amount
    ) -> tuple[QuotaContract, Accounts]:
        """A station orders: "buy" or "sell" quota. In lanes where nothing is scarce the quantity has to be 0.

        Raises:
            ContractError: not a station, the wrong state, too late, a second time, an unknown side, a price outside
                floor and cap, a quantity out of bounds or above the quota that is sold.
            OverdraftError: a purchase that the station cannot pay.
        """
        phase, made = self._once("submit", caller, caller, now)
        if side not in SIDES:
            self._refuse("submit", caller, f"side {side!r}; allowed are {', '.join(SIDES)}")
        terms = self.terms
        price = self._amount(
            "submit", caller, "price", price_utok_per_wh, terms.floor_utok_per_wh, terms.cap_utok_per_wh
        )
        quantity = self._amount("submit", caller, "quantity in Wh", quantity_wh, 0, MAX_ORDER_WH)
        self._require(
            "submit", caller, "quantity in Wh", quantity, (quantity == 0) | self.scarce, "0, nothing is scarce"
        )
        order = torch.stack((price, quantity))
        if side == "sell":
            quota = self.quota_wh.select(0, caller)
            self._require("submit", caller, "sale in Wh", quantity, quantity <= quota, "at most the quota")
            return replace(self, phase=phase, made=made, offers=_put(self.offers, caller, order, 1)), accounts
        hold = price * quantity
        accounts = self._till.hold(accounts, caller, hold).accounts
        bids, holds = _put(self.bids, caller, order, 1), _put(self.hold_utok, caller, hold)
        return replace(self, phase=phase, made=made, bids=bids, hold_utok=holds), accounts

    def auction(self, accounts: Accounts, caller: int, now: int) -> tuple[QuotaContract, Accounts]:
        """The DSO clears the orders: buyers pay sellers out of their holds, whose rest returns. ContractError: see
        `initialize`.
        """
        phase = self._after("auction", caller, now)
        terms, stations = self.terms, range(self.terms.num_stations)
        trades = get_auction(terms.auction)(*auction_book(self.bids, self.offers, terms), self.period)
        # the DSO's account passes each total on, since an auction says what everybody pays and gets, not who pays whom
        accounts = self._till.release(
            accounts, list(stations), [self.dso] * len(stations), trades.payment_utok
        ).accounts
        rest = self.hold_utok - trades.payment_utok
        accounts = self._till.release(accounts, list(stations), list(stations), rest).accounts
        for station, income in zip(stations, trades.income_utok.unbind(), strict=True):
            accounts = self._till.transfer(accounts, self.dso, station, income).accounts
        quota = final_quota(self.quota_wh, trades)
        return replace(self, phase=phase, quota_wh=quota, hold_utok=torch.zeros_like(rest)), accounts

    def payment(
        self, accounts: Accounts, caller: int, now: int, station: int, used_wh: Amount
    ) -> tuple[QuotaContract, Accounts]:
        """The DSO, who reads the meter, charges fee, penalty and forfeiture: from the deposit, then from the balance.

        Raises:
            ContractError: not the DSO, the wrong state, too early, a second time for the station, an unknown station,
                or a reading out of bounds.
            OverdraftError: deposit and balance do not suffice.
        """
        phase, made = self._once("payment", caller, station, now)
        used = self._amount("payment", caller, "reading in Wh", used_wh, 0, MAX_ORDER_WH)
        quota = self.quota_wh.select(0, station)
        due = round_charges(used, quota, self.tariff_utok_per_wh, self.terms).total_utok
        deposits = self.deposits
        if deposits.states[station] is DepositState.HELD:
            held = deposits.held_utok.select(0, station)
            deposits, accounts = deposits.settle(accounts, caller, now, [station], [(self.dso, due)])
            due = (due - held).clamp(min=0)
        accounts = self._till.transfer(accounts, station, self.dso, due).accounts
        return replace(self, phase=phase, made=made, deposits=deposits), accounts

    def withdraw(self, accounts: Accounts, caller: int, now: int) -> tuple[QuotaContract, Accounts]:
        """A station takes back what is left of its deposit; the last one ends the round.

        Raises:
            ContractError: not a station, the wrong state, before its payment, or a second time.
        """
        phase, made = self._once("withdraw", caller, caller, now)
        if ("payment", caller) not in self.made:
            raise IllegalTransitionError(
                f"{self._says('withdraw', caller)}: the payment has not been made; allowed is after it"
            )
        if len([call for call, _ in made if call == "withdraw"]) == self.terms.num_stations:
            phase = self._after("withdraw_last", caller, now)
        deposits, accounts = self._give_back(accounts, [caller], now)
        return replace(self, phase=phase, made=made, deposits=deposits), accounts

    def close(self, accounts: Accounts, caller: int, now: int) -> tuple[QuotaContract, Accounts]:
        """The DSO ends the round after the last payment; deposits that were not withdrawn go back.

        Raises:
            ContractError: not the DSO, the wrong state, or some station has not paid.
        """
        phase = self._after("close", caller, now)
        unpaid = [each for each in range(self.terms.num_stations) if ("payment", each) not in self.made]
        if unpaid:
            raise IllegalTransitionError(
                f"{self._says('close', caller)}: no payment of stations {unpaid}; allowed is after the last payment"
            )
        left = [each for each in range(self.terms.num_stations) if ("withdraw", each) not in self.made]
        deposits, accounts = self._give_back(accounts, left, now)
        return replace(self, phase=phase, deposits=deposits), accounts

    def _give_back(self, accounts: Accounts, stations: list[int], now: int) -> tuple[Deposits, Accounts]:
        """Who has not declared has no deposit to return."""
        owners = [each for each in stations if self.deposits.states[each] is DepositState.SETTLED]
        return self.deposits.withdraw(accounts, owners, now) if owners else (self.deposits, accounts)

    def _role(self, account: int) -> str:
        return "dso" if account == self.dso else "station" if 0 <= account < self.dso else "other"

    def _after(self, call: str, caller: int, now: int) -> QuotaPhase:
        return ROUND.after(self.phase, call, self._role(caller), now, self.schedule)

    def _once(self, call: str, caller: int, station: int, now: int) -> tuple[QuotaPhase, frozenset[tuple[str, int]]]:
        """State after a call that each station (or the DSO for it) makes once, and all that have been made."""
        phase = self._after(call, caller, now)
        if self._role(station) != "station":
            self._refuse(call, caller, f"station {station}; allowed are 0 .. {self.dso - 1}")
        if (call, station) in self.made:
            raise AlreadyDoneError(f"{self._says(call, caller)}: a second time for station {station}; allowed is once")
        return phase, self.made | {(call, station)}

    def _says(self, call: str, caller: int) -> str:
        return f"contract quota: {call} by account {caller} in state {self.phase.name}"

    def _refuse(self, call: str, caller: int, why: str) -> NoReturn:
        raise ContractError(f"{self._says(call, caller)}: {why}")

    def _amount(self, call: str, caller: int, name: str, value: Amount, low: int, high: int) -> Tensor:
        """`[E]` int64 within bounds; reads the values back."""
        if isinstance(value, Tensor) and value.dtype != torch.int64:
            self._refuse(call, caller, f"{name}: {value.dtype}; allowed is torch.int64")
        lanes = self.declared_wh.shape[1]
        wide = self.declared_wh.new_tensor(value) if isinstance(value, int) else value
        wide = wide.expand(lanes)
        self._require(call, caller, name, wide, (wide >= low) & (wide <= high), f"{low} .. {high}")
        return wide

    def _require(self, call: str, caller: int, name: str, value: Tensor, fits: Tensor, allowed: str) -> None:
        if not bool(fits.all()):
            lane = int(fits.logical_not().to(torch.int64).argmax())
            self._refuse(call, caller, f"{name}: {int(value[lane])} in lane {lane}; allowed is {allowed}")


def open_quota_contract(till: Till, accounts: Accounts, terms: QuotaTerms) -> QuotaContract:
    """A contract without a round, on accounts of which the first `N` are the stations and the next is the DSO.

    Raises:
        ContractError: fewer accounts, or a till that leaves out what is not covered (a call here does all or nothing).
    """
    if accounts.balances.shape[0] <= terms.num_stations:
        raise ContractError(
            f"contract quota: {accounts.balances.shape[0]} accounts; allowed are {terms.num_stations + 1} or more, for "
            "the stations and the DSO"
        )
    if not till.strict:
        raise ContractError("contract quota: a till that refuses by lane; allowed is on_overdraft='raise'")
    return _blank(till, terms, accounts, 0)


def _blank(till: Till, terms: QuotaTerms, accounts: Accounts, pay_until: int) -> QuotaContract:
    stations = terms.num_stations
    none = torch.zeros_like(accounts.balances[:stations])
    orders = none.expand(2, *none.shape)
    values: dict[str, Any] = {
        "margin_wh": none[0],
        "tariff_utok_per_wh": none[0],
        "declared_wh": none,
        "quota_wh": none,
        "scarce": none[0] > 0,
        "bids": orders,
        "offers": orders,
        "hold_utok": none,
    }
    deposits = open_deposits(till, accounts, range(stations), stations, pay_until=pay_until, settle_until=_NEVER)
    return QuotaContract(till, terms, QuotaPhase.IDLE, {}, period=0, deposits=deposits, made=frozenset(), **values)


def _put(table: Tensor, row: int, value: Tensor, dim: int = 0) -> Tensor:
    """The table with one row (of a dimension) replaced."""
    index = torch.tensor([row], dtype=torch.int64, device=table.device)
    return table.index_copy(dim, index, value.unsqueeze(dim))
