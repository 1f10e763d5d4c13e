"""The charging-quota contract: a round against the oracle, every refusal, and random calls that lose no money."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gridmarl.contracts import quota
from gridmarl.contracts.accounts import Accounts, open_accounts
from gridmarl.contracts.errors import (
    AlreadyDoneError,
    ContractError,
    DepositError,
    IllegalTransitionError,
    TooEarlyError,
    TooLateError,
    WrongCallerError,
)
from gridmarl.contracts.quota import QuotaContract, QuotaPhase, open_quota_contract
from gridmarl.contracts.quota_sums import AUCTIONS, QuotaTerms, tariff_by_half_hour
from gridmarl.errors import ConfigError, OverdraftError
from tests.oracles.ev_quota import Order, Terms, play_round

N, DSO = 3, 3
TERMS = Terms(forfeit_permille=250)
Pair = tuple[QuotaContract, Accounts]


def contract_terms(terms: Terms = TERMS, stations: int = N) -> QuotaTerms:
    return QuotaTerms(
        num_stations=stations,
        deposit_rate_utok_per_wh=terms.deposit_rate,
        penalty_rate_utok_per_wh=terms.penalty_rate,
        forfeit_permille=terms.forfeit_permille,
        floor_utok_per_wh=terms.floor,
        cap_utok_per_wh=terms.cap,
        auction=terms.auction,
    )


def opened(money: int = 1_000_000, lanes: int = 1, terms: Terms = TERMS, stations: int = N) -> Pair:
    accounts, till = open_accounts(torch.full((stations + 1, lanes), money))
    return open_quota_contract(till, accounts, contract_terms(terms, stations)), accounts


def begun(pair: Pair, margin: Any = 100, period: int = 0, now: int = 0) -> Pair:
    contract, accounts = pair
    return contract.initialize(
        accounts, contract.dso, now, period=period, margin_wh=margin, tariff_utok_per_wh=7,
        deadlines=(now + 10, now + 20, now + 30),
    )  # fmt: skip


def declared(pair: Pair, *demands: Any) -> Pair:
    contract, accounts = pair
    for station, demand in enumerate(demands):
        contract, accounts = contract.demand_submit(accounts, station, 1, demand, demand * 100)
    return contract, accounts


def at_trading() -> Pair:
    """Quotas 30, 60, 10 of a margin of 100."""
    contract, accounts = declared(begun(opened()), 60, 120, 20)
    return contract.pre_allocate(accounts, DSO, 10)


def at_charging() -> Pair:
    """Station 1 has sold 15 Wh to station 0 at 300."""
    contract, accounts = at_trading()
    contract, accounts = contract.submit(accounts, 0, 11, "buy", 400, 15)
    contract, accounts = contract.submit(accounts, 1, 12, "sell", 200, 40)
    return contract.auction(accounts, DSO, 20)


def test_a_round_from_beginning_to_end() -> None:
    contract, accounts = at_charging()
    assert contract.quota_wh[:, 0].tolist() == [45, 45, 10]
    assert accounts.balances[:, 0].tolist() == [
        1_000_000 - 6_000 - 4_500, 1_000_000 - 12_000 + 4_500, 1_000_000 - 2_000, 1_000_000,
    ]  # fmt: skip
    assert accounts.escrow[:, 0].tolist() == [6_000, 12_000, 2_000, 0]
    contract, accounts = contract.payment(accounts, DSO, 30, 1, 45)
    contract, accounts = contract.payment(accounts, DSO, 30, 0, 65)  # 20 above: 65 * 7 + 20 * 500, from 6,000 and more
    assert accounts.escrow[:, 0].tolist() == [0, 12_000 - 45 * 7, 2_000, 0]
    assert int(accounts.balances[0]) == 1_000_000 - 6_000 - 4_500 - (65 * 7 + 10_000 - 6_000)
    contract, accounts = contract.withdraw(accounts, 1, 31)
    contract, accounts = contract.payment(accounts, DSO, 31, 2, 3)  # 7 unused: 7 * 100 * 250 // 1000
    contract, accounts = contract.withdraw(accounts, 2, 31)
    assert int(accounts.balances[2]) == 1_000_000 - 21 - 175
    assert contract.phase is QuotaPhase.CHARGING
    contract, accounts = contract.withdraw(accounts, 0, 31)
    assert contract.phase is QuotaPhase.SETTLED
    assert not bool(accounts.escrow.any())
    assert int(accounts.total_utok) == 4_000_000
    again, accounts = begun((contract, accounts), now=31, period=1)
    assert not again.made
    assert not bool(again.quota_wh.any() | again.declared_wh.any() | again.bids.any() | again.offers.any())


def test_without_scarcity_there_is_no_auction() -> None:
    contract, accounts = declared(begun(opened(), margin=80), 60, 20)
    contract, accounts = contract.pre_allocate(accounts, DSO, 10)
    assert contract.phase is QuotaPhase.CHARGING
    assert contract.quota_wh[:, 0].tolist() == [60, 20, 0]
    with pytest.raises(IllegalTransitionError, match=r"submit by station in state CHARGING"):
        contract.submit(accounts, 0, 11, "buy", 1, 1)
    for station, used in enumerate((60, 0, 5)):  # who has not declared pays for what it uses, and withdraws nothing
        contract, accounts = contract.payment(accounts, DSO, 30, station, used)
    assert int(accounts.balances[2]) == 1_000_000 - 5 * 7 - 5 * 500
    contract, accounts = contract.withdraw(accounts, 2, 30)
    contract, accounts = contract.close(accounts, DSO, 30)
    assert contract.phase is QuotaPhase.SETTLED
    assert accounts.balances[:2, 0].tolist() == [1_000_000 - 60 * 7, 1_000_000 - 20 * 100 * 250 // 1000]
    assert not bool(accounts.escrow.any())


def test_lanes_differ() -> None:
    """One lane is scarce, the other is not; margins below zero leave nothing."""
    contract, accounts = begun(opened(lanes=3), margin=torch.tensor([50, 500, -4]))
    contract, accounts = declared((contract, accounts), torch.tensor([60, 60, 60]), torch.tensor([40, 40, 0]))
    contract, accounts = contract.pre_allocate(accounts, DSO, 10)
    assert contract.quota_wh.tolist() == [[30, 60, 0], [20, 40, 0], [0, 0, 0]]
    assert contract.scarce.tolist() == [True, False, True]
    with pytest.raises(ContractError, match=r"quantity in Wh: 5 in lane 1; allowed is 0, nothing is scarce$"):
        contract.submit(accounts, 0, 11, "sell", 1, 5)
    contract, accounts = contract.submit(accounts, 0, 11, "sell", 1, torch.tensor([5, 0, 0]))
    contract, accounts = contract.submit(accounts, 1, 11, "buy", 4, torch.tensor([9, 0, 9]))
    contract, accounts = contract.auction(accounts, DSO, 20)
    assert contract.quota_wh.tolist() == [[25, 60, 0], [25, 40, 0], [0, 0, 0]]
    assert (accounts.balances + accounts.escrow)[:2].tolist() == [[1_000_010, 10**6, 10**6], [999_990, 10**6, 10**6]]


REFUSED: list[tuple[str, Callable[[], Pair], str, tuple[Any, ...], type[Exception], str]] = [
    ("no declaration after the deadline", lambda: begun(opened()), "demand_submit", (0, 10, 5, 500),
     TooLateError, "at time 10; allowed is before time 10"),
    ("declared twice", lambda: declared(begun(opened()), 5), "demand_submit", (0, 2, 5, 500),
     AlreadyDoneError, "a second time for station 0; allowed is once"),
    ("the DSO declares nothing", lambda: begun(opened()), "demand_submit", (DSO, 2, 5, 500),
     WrongCallerError, "demand_submit by dso .* allowed is station"),
    ("nobody declares", lambda: begun(opened()), "demand_submit", (-1, 2, 5, 500), WrongCallerError, "by other"),
    ("no round", opened, "demand_submit", (0, 0, 5, 500), IllegalTransitionError, "in state IDLE"),
    ("deposit too small", lambda: begun(opened()), "demand_submit", (0, 2, 5, 499),
     DepositError, "499 µtok in lane 0; allowed are 500 or more"),
    ("deposit not covered", lambda: begun(opened(money=499)), "demand_submit", (0, 2, 5, 500),
     OverdraftError, "500 µtok asked; allowed are at most 499"),
    ("negative demand", lambda: begun(opened()), "demand_submit", (0, 2, -1, 0),
     ContractError, "demand in Wh: -1 in lane 0; allowed is 0"),
    ("demand of another type", lambda: begun(opened()), "demand_submit", (0, 2, torch.tensor([0.5]), 0),
     ContractError, "demand in Wh: torch.float32; allowed is torch.int64"),
    ("allocation too early", lambda: begun(opened()), "pre_allocate", (DSO, 9), TooEarlyError, "allowed is time 10"),
    ("allocation by a station", lambda: begun(opened()), "pre_allocate", (0, 10), WrongCallerError, "allowed is dso"),
    ("allocated twice", at_trading, "pre_allocate", (DSO, 10), IllegalTransitionError, "in state TRADING"),
    ("order too late", at_trading, "submit", (0, 20, "buy", 1, 1), TooLateError, "before time 20"),
    ("ordered twice", lambda: with_order(at_trading()), "submit", (0, 12, "sell", 1, 1),
     AlreadyDoneError, "submit by account 0 .* a second time"),
    ("more than the quota", at_trading, "submit", (0, 11, "sell", 1, 31),
     ContractError, "sale in Wh: 31 in lane 0; allowed is at most the quota"),
    ("above the cap", at_trading, "submit", (0, 11, "buy", 1_001, 1),
     ContractError, "price: 1001 .* allowed is 0 .. 1000"),
    ("a purchase without money", lambda: with_money(at_trading(), 0, 999), "submit", (0, 11, "buy", 1_000, 1),
     OverdraftError, "1000 µtok asked; allowed are at most 999"),
    ("no such side", at_trading, "submit", (0, 11, "short", 1, 1),
     ContractError, "side 'short'; allowed are buy, sell"),
    ("auction too early", at_trading, "auction", (DSO, 19), TooEarlyError, "allowed is time 20"),
    ("auction by a station", at_trading, "auction", (0, 20), WrongCallerError, "allowed is dso"),
    ("auction twice", at_charging, "auction", (DSO, 21), IllegalTransitionError, "in state CHARGING"),
    ("payment too early", at_charging, "payment", (DSO, 29, 0, 1), TooEarlyError, "allowed is time 30"),
    ("payment by a station", at_charging, "payment", (0, 30, 0, 1), WrongCallerError, "allowed is dso"),
    ("payment of nobody", at_charging, "payment", (DSO, 30, N, 1), ContractError, "station 3; allowed are 0 .. 2"),
    ("paid twice", lambda: with_payment(at_charging()), "payment", (DSO, 31, 0, 1), AlreadyDoneError, "a second time"),
    ("a payment that is not covered", at_charging, "payment", (DSO, 30, 0, 10_000),
     OverdraftError, "balance of account 0"),
    ("a reading below zero", at_charging, "payment", (DSO, 30, 0, -1), ContractError, "reading in Wh: -1"),
    ("withdrawn before the payment", at_charging, "withdraw", (0, 31),
     IllegalTransitionError, "the payment has not been made; allowed is after it"),
    ("withdrawn twice", lambda: with_withdrawal(with_payment(at_charging())), "withdraw", (0, 31),
     AlreadyDoneError, "a second time"),
    ("withdrawn by the DSO", at_charging, "withdraw", (DSO, 31), WrongCallerError, "allowed is station"),
    ("closed before the last payment", lambda: with_payment(at_charging()), "close", (DSO, 31),
     IllegalTransitionError, r"no payment of stations \[1, 2\]; allowed is after the last payment"),
    ("closed by a station", at_charging, "close", (0, 31), WrongCallerError, "allowed is dso"),
]  # fmt: skip


def with_order(pair: Pair) -> Pair:
    return pair[0].submit(pair[1], 0, 11, "buy", 1, 1)


def with_payment(pair: Pair) -> Pair:
    return pair[0].payment(pair[1], DSO, 30, 0, 1)


def with_withdrawal(pair: Pair) -> Pair:
    return pair[0].withdraw(pair[1], 0, 30)


def with_money(pair: Pair, station: int, money: int) -> Pair:
    """Another owner of the till takes all but that."""
    contract, accounts = pair
    spent = int(accounts.balances[station, 0]) - money
    return contract, contract._till.transfer(accounts, station, DSO, spent).accounts


@pytest.mark.parametrize(
    ("make", "call", "arguments", "error", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_is_refused_changes_nothing(
    make: Callable[[], Pair], call: str, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    contract, accounts = make()
    before = (accounts.balances, accounts.escrow, contract.phase, contract.made)
    with pytest.raises(error, match=message):
        getattr(contract, call)(accounts, *arguments)
    assert torch.equal(accounts.balances, before[0])
    assert torch.equal(accounts.escrow, before[1])
    assert (contract.phase, contract.made) == before[2:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deadlines": (10, 10, 30)}, r"deadlines \(10, 10, 30\) at time 5"),
        ({"deadlines": (5, 10, 30)}, r"deadlines \(5, 10, 30\) at time 5; allowed are rising, later times"),
        ({"period": -1}, "period -1; allowed are 0 and more"),
        ({"margin_wh": 10**10}, "margin in Wh: 10000000000"),
        ({"tariff_utok_per_wh": -1}, "tariff: -1 in lane 0"),
        ({"caller": 0}, "initialize by station in state IDLE; allowed is dso"),
    ],
)
def test_rounds_that_do_not_begin(changes: dict[str, Any], message: str) -> None:
    contract, accounts = opened()
    usual = {"caller": DSO, "period": 0, "margin_wh": 1, "tariff_utok_per_wh": 1, "deadlines": (10, 20, 30)}
    with pytest.raises(ContractError, match=message):
        contract.initialize(accounts, now=5, **(usual | changes))
    with pytest.raises(IllegalTransitionError, match=r"initialize by dso in state DECLARING"):
        begun(begun((contract, accounts)), now=1)


def test_demands_fit_into_a_book() -> None:
    terms = Terms(deposit_rate=0)
    contract, accounts = begun(opened(terms=terms, stations=40))
    for station in range(30):
        contract, accounts = contract.demand_submit(accounts, station, 1, 10**8, 0)
    with pytest.raises(ContractError, match=r"demand in Wh: 1 in lane 0; allowed is all together 3000000000"):
        contract.demand_submit(accounts, 30, 1, 1, 0)


def test_contracts_that_are_none() -> None:
    accounts, till = open_accounts(torch.zeros((3, 1), dtype=torch.int64))
    with pytest.raises(ContractError, match=r"3 accounts; allowed are 4 or more"):
        open_quota_contract(till, accounts, contract_terms())
    accounts, till = open_accounts(torch.zeros((4, 1), dtype=torch.int64), on_overdraft="refuse")
    with pytest.raises(ContractError, match=r"a till that refuses by lane; allowed is on_overdraft='raise'"):
        open_quota_contract(till, accounts, contract_terms())
    for changes, message in (
        ({"floor": 5, "cap": 4}, "floor_utok_per_wh: 5, allowed is at most cap_utok_per_wh"),
        ({"auction": "best"}, "auction: 'best', allowed are pairwise, uniform, marginal_pair"),
        ({"forfeit_permille": 1001}, "forfeit_permille: 1001, allowed are integers 0 .. 1000"),
        ({"penalty_rate": -1}, "penalty_rate_utok_per_wh: -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            contract_terms(Terms(**changes))  # type: ignore[arg-type]


def test_tariff_by_time_of_use() -> None:
    day = tariff_by_half_hour(0, 48)
    assert [day[2 * hour] for hour in (0, 5, 6, 7, 8, 10, 11, 17, 18, 21, 22, 23)] == [
        32_000, 32_000, 69_000, 69_000, 112_000, 112_000, 69_000, 69_000, 112_000, 112_000, 32_000, 32_000,
    ]  # fmt: skip
    assert day[0::2] == day[1::2]
    assert tariff_by_half_hour(13, 48) == day[13:] + day[:13]


@pytest.mark.parametrize("auction", AUCTIONS)
def test_rounds_equal_the_oracle(auction: str) -> None:
    """Random rounds, to the last µtok, ending by withdrawals or by the DSO."""
    dice = random.Random(f"quota {auction}")
    for _ in range(40):
        stations = dice.randint(1, 5)
        terms = Terms(
            dice.randint(0, 9), dice.randint(0, 50), dice.choice([0, 333, 1000]), 2, dice.randint(2, 12), auction
        )
        demands = [dice.choice([0, dice.randint(0, 40)]) for _ in range(stations)]
        margin, period, tariff = dice.randint(-5, 80), dice.randint(0, 9), dice.randint(0, 9)
        contract, accounts = opened(terms=terms, stations=stations)
        start = accounts.balances
        contract, accounts = contract.initialize(
            accounts, stations, 0, period=period, margin_wh=margin, tariff_utok_per_wh=tariff, deadlines=(1, 2, 3)
        )
        for station, demand in enumerate(demands):
            deposit = demand * terms.deposit_rate + dice.randint(0, 3)
            contract, accounts = contract.demand_submit(accounts, station, 0, demand, deposit)
        contract, accounts = contract.pre_allocate(accounts, stations, 1)
        orders: list[Order] = []
        for station in range(stations):
            side, price = dice.choice(["buy", "sell"]), dice.randint(2, terms.cap)
            most = int(contract.quota_wh[station, 0]) if side == "sell" else 30
            orders.append((side, price, dice.randint(0, most)))
        if contract.phase is QuotaPhase.TRADING:
            for station, order in enumerate(orders):
                contract, accounts = contract.submit(accounts, station, 1, *order)
            contract, accounts = contract.auction(accounts, stations, 2)
        used = [dice.randint(0, 50) for _ in range(stations)]
        expected = play_round(terms, period, margin, tariff, demands, orders, used)
        assert contract.quota_wh[:, 0].tolist() == expected.final_wh
        for station in dice.sample(range(stations), stations):
            contract, accounts = contract.payment(accounts, stations, 3, station, used[station])
            if dice.random() < 0.8:
                contract, accounts = contract.withdraw(accounts, station, 3)
        if contract.phase is not QuotaPhase.SETTLED:
            contract, accounts = contract.close(accounts, stations, 3)
        assert not bool(accounts.escrow.any())
        assert (accounts.balances - start)[:, 0].tolist() == expected.change_utok
    assert quota.ROUND.table() in str(quota.__doc__)


CALLERS = st.integers(-1, N + 1)
WH = st.integers(-1, 60)


class Rounds(RuleBasedStateMachine):
    """Random calls by anybody at random times, many rounds."""

    @initialize(auction=st.sampled_from(AUCTIONS), money=st.integers(4_000, 40_000))
    def start(self, auction: str, money: int) -> None:
        self.contract, self.accounts = opened(money, lanes=2, terms=Terms(auction=auction, forfeit_permille=500))
        self.total, self.now, self.period = self.accounts.total_utok, 0, 0

    def attempt(self, call: str, *arguments: Any, **named: Any) -> None:
        """Call; keep the new values, or check that a refusal has changed nothing."""
        before = (self.accounts.balances, self.accounts.escrow)
        try:
            self.contract, self.accounts = getattr(self.contract, call)(self.accounts, *arguments, **named)
        except (ContractError, OverdraftError):
            assert torch.equal(self.accounts.balances, before[0])
            assert torch.equal(self.accounts.escrow, before[1])

    @rule(margins=st.lists(st.integers(-5, 120), min_size=2, max_size=2), caller=st.sampled_from([DSO, DSO, DSO, 0]))
    def initialize_round(self, margins: list[int], caller: int) -> None:
        self.period += 1
        times = (self.now + 2, self.now + 4, self.now + 5)
        self.attempt(
            "initialize", caller, self.now, period=self.period, margin_wh=torch.tensor(margins),
            tariff_utok_per_wh=self.period % 3, deadlines=times,
        )  # fmt: skip

    @rule(caller=CALLERS, demands=st.tuples(WH, WH), extra=st.integers(-1, 50))
    def demand_submit(self, caller: int, demands: tuple[int, int], extra: int) -> None:
        declared = torch.tensor(demands)
        self.attempt("demand_submit", caller, self.now, declared, declared * 100 + extra)

    @rule(caller=CALLERS, side=st.sampled_from(["buy", "sell"]), price=st.integers(0, 1_001), amount=st.tuples(WH, WH))
    def submit(self, caller: int, side: str, price: int, amount: tuple[int, int]) -> None:
        quantity = torch.tensor(amount) * self.contract.scarce
        self.attempt("submit", caller, self.now, side, price, quantity)

    @rule(call=st.sampled_from(["pre_allocate", "auction", "close"]), caller=st.sampled_from([DSO, DSO, DSO, 1]))
    def operate(self, call: str, caller: int) -> None:
        self.attempt(call, caller, self.now)

    @rule(station=CALLERS, used=WH, caller=st.sampled_from([DSO, DSO, DSO, 2]))
    def payment(self, station: int, used: int, caller: int) -> None:
        self.attempt("payment", caller, self.now, station, used)

    @rule(caller=CALLERS)
    def withdraw(self, caller: int) -> None:
        self.attempt("withdraw", caller, self.now)

    @rule(demands=st.lists(st.integers(0, 60), min_size=N, max_size=N), extra=st.integers(0, 50), then=st.booleans())
    def everybody_declares(self, demands: list[int], extra: int, then: bool) -> None:
        """Calls that fit, so that rounds get on; what the random ones do between them is refused or done."""
        if self.contract.phase in (QuotaPhase.IDLE, QuotaPhase.SETTLED):
            self.get_on([])
        for station, demand in enumerate(demands):
            self.demand_submit(station, (demand, 60 - demand), extra)
        if then and self.contract.phase is QuotaPhase.DECLARING:
            self.get_on([])

    @rule(prices=st.lists(st.integers(0, 9), min_size=N, max_size=N), seller=st.integers(0, N - 1), then=st.booleans())
    def everybody_orders(self, prices: list[int], seller: int, then: bool) -> None:
        for station, price in enumerate(prices):
            side = "sell" if station == seller else "buy"
            least = int(self.contract.quota_wh[station].amin())
            self.submit(station, side, 100 * price, (least, least) if side == "sell" else (9, 30))
        if then and self.contract.phase is QuotaPhase.TRADING:
            self.get_on([])

    @rule(used=st.lists(st.integers(0, 60), min_size=N, max_size=N))
    def get_on(self, used: list[int]) -> None:
        """The operator's next call, at its time."""
        phase = self.contract.phase
        if phase in (QuotaPhase.IDLE, QuotaPhase.SETTLED):
            self.initialize_round([50, 90], DSO)
            return
        deadline = {"DECLARING": "deadline_1", "TRADING": "deadline_2"}.get(phase.name, "deadline_3")
        self.now = max(self.now, self.contract.schedule[deadline])
        if phase is not QuotaPhase.CHARGING:
            self.operate("pre_allocate" if phase is QuotaPhase.DECLARING else "auction", DSO)
            return
        for station, wh in enumerate(used):
            self.payment(station, wh, DSO)

    @rule(steps=st.integers(1, 2))
    def wait(self, steps: int) -> None:
        self.now += steps

    @invariant()
    def money_is_conserved_and_nobody_owes(self) -> None:
        assert torch.equal(self.accounts.total_utok, self.total)
        assert bool((self.accounts.balances >= 0).all())

    @invariant()
    def escrow_is_what_the_contract_holds(self) -> None:
        held = self.contract.deposits.held_utok + self.contract.hold_utok
        assert torch.equal(self.accounts.escrow[:N], held)
        assert bool((held >= 0).all())
        assert not bool(self.accounts.escrow[DSO].any())
        if self.contract.phase in (QuotaPhase.IDLE, QuotaPhase.SETTLED):
            assert not bool(held.any())

    @invariant()
    def quotas_are_never_above_the_margin(self) -> None:
        allowed = torch.minimum(self.contract.margin_wh.clamp(min=0), self.contract.declared_wh.sum(0))
        assert bool((self.contract.quota_wh >= 0).all())
        if self.contract.phase in (QuotaPhase.TRADING, QuotaPhase.CHARGING):
            assert torch.equal(self.contract.quota_wh.sum(0), allowed)


Rounds.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestRounds = Rounds.TestCase
