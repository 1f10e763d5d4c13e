"""What the contract on the chain refuses, each with its reason: roles, phases, deadlines, amounts, twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gridmarl.contracts.errors import ContractError
from gridmarl.evm.build import build
from gridmarl.evm.market import UNLIMITED, ChainMarket
from tests.evm.conftest import terms

N, DSO, NOBODY = 3, 3, 4
BEGIN = ([100, 200, 300], [0, 100, 7])  # deadlines after the opening; period, margin, tariff


class States:
    """One market, brought from state to state; a snapshot of each, to which a test goes back."""

    def __init__(self) -> None:
        self.market = ChainMarket(terms(forfeit=250), [10_000, 20_000, 2_000, 0])
        self.tester = self.market.chain._tester
        self.saved: dict[str, Any] = {}
        self.keep("IDLE")
        self.opened = self.market.chain.now
        self.market.call("initialize", DSO, *BEGIN[1], [self.opened + after for after in BEGIN[0]])
        self.market.call("demand_submit", 0, 60, 6_000)
        self.keep("DECLARING")
        self.market.call("demand_submit", 1, 120, 12_000)
        self.market.call("demand_submit", 2, 20, 2_000)
        self.at(100)
        self.market.call("pre_allocate", DSO)  # 30, 60, 10
        self.market.call("submit", 0, False, 200, 15)
        self.keep("TRADING")
        self.at(200)
        self.market.call("auction", DSO)
        self.keep("CHARGING")
        self.at(300)
        self.market.call("payment", DSO, 0, 20)
        self.market.call("payment", DSO, 1, 60)
        self.market.call("withdraw", 0)
        self.keep("PAYING")
        self.market.call("payment", DSO, 2, 0)
        self.market.call("close", DSO)
        self.keep("SETTLED")

    def at(self, after: int) -> None:
        """The next block's time, in seconds after the opening."""
        self.market.chain.travel(self.opened + after)
        assert self.market.chain.now == self.opened + after

    def keep(self, name: str) -> None:
        self.saved[name] = self.tester.take_snapshot()

    def back(self, name: str) -> ChainMarket:
        self.tester.revert_to_snapshot(self.saved[name])
        return self.market


@pytest.fixture(scope="module")
def states() -> States:
    return States()


# state, seconds after the opening (None: as it is), call, caller, arguments, reason
REFUSED: list[tuple[str, int | None, str, int, tuple[Any, ...], str]] = [
    ("IDLE", None, "initialize", 0, (0, 1, 1, [2**40, 2**41, 2**42]), "not the DSO"),
    ("IDLE", None, "initialize", NOBODY, (0, 1, 1, [2**40, 2**41, 2**42]), "not the DSO"),
    ("IDLE", None, "initialize", DSO, (0, 1, 1, [1, 2**41, 2**42]), "deadlines do not rise"),
    ("IDLE", None, "initialize", DSO, (0, 1, 1, [2**40, 2**40, 2**42]), "deadlines do not rise"),
    ("IDLE", None, "initialize", DSO, (0, 1, 1, [2**40, 2**42, 2**42]), "deadlines do not rise"),
    ("IDLE", None, "initialize", DSO, (0, 3 * 10**9 + 1, 1, [2**40, 2**41, 2**42]), "margin out of bounds"),
    ("IDLE", None, "initialize", DSO, (0, -3 * 10**9 - 1, 1, [2**40, 2**41, 2**42]), "margin out of bounds"),
    ("IDLE", None, "initialize", DSO, (0, 1, 10**7 + 1, [2**40, 2**41, 2**42]), "tariff out of bounds"),
    ("IDLE", None, "demand_submit", 0, (5, 500), "wrong phase"),
    ("IDLE", None, "pre_allocate", DSO, (), "wrong phase"),
    ("IDLE", None, "close", DSO, (), "wrong phase"),
    ("DECLARING", None, "initialize", DSO, (0, 1, 1, [2**40, 2**41, 2**42]), "wrong phase"),
    ("DECLARING", None, "demand_submit", DSO, (5, 500), "not a station"),
    ("DECLARING", None, "demand_submit", NOBODY, (5, 500), "not a station"),
    ("DECLARING", None, "demand_submit", 0, (5, 500), "done already"),
    ("DECLARING", None, "demand_submit", 1, (5, 499), "deposit too small"),
    ("DECLARING", None, "demand_submit", 1, (10**8 + 1, 10**12), "demand out of bounds"),
    ("DECLARING", None, "demand_submit", 2, (5, 2_001), "balance too small"),
    ("DECLARING", 99, "pre_allocate", DSO, (), "too early"),
    ("DECLARING", 100, "pre_allocate", 0, (), "not the DSO"),
    ("DECLARING", 100, "demand_submit", 1, (5, 500), "too late"),
    ("DECLARING", 5_000, "demand_submit", 1, (5, 500), "too late"),
    ("DECLARING", None, "submit", 1, (True, 1, 1), "wrong phase"),
    ("DECLARING", None, "auction", DSO, (), "wrong phase"),
    ("DECLARING", None, "payment", DSO, (0, 1), "wrong phase"),
    ("DECLARING", None, "withdraw", 0, (), "wrong phase"),
    ("TRADING", None, "initialize", DSO, (0, 1, 1, [2**40, 2**41, 2**42]), "wrong phase"),
    ("TRADING", None, "demand_submit", 1, (5, 500), "wrong phase"),
    ("TRADING", None, "pre_allocate", DSO, (), "wrong phase"),
    ("TRADING", None, "submit", DSO, (True, 1, 1), "not a station"),
    ("TRADING", None, "submit", 0, (False, 1, 1), "done already"),
    ("TRADING", None, "submit", 0, (True, 1, 1), "done already"),
    ("TRADING", None, "submit", 1, (True, 1, 61), "more than the quota"),
    ("TRADING", None, "submit", 1, (True, 1_001, 1), "price out of bounds"),
    ("TRADING", None, "submit", 1, (False, 1, 10**8 + 1), "quantity out of bounds"),
    ("TRADING", None, "submit", 1, (False, 1_000, 9), "balance too small"),
    ("TRADING", None, "submit", 1, (False, -1, 9), r"arguments \(False, -1, 9\) of other types"),
    ("TRADING", 199, "auction", DSO, (), "too early"),
    ("TRADING", 200, "auction", 0, (), "not the DSO"),
    ("TRADING", 200, "submit", 1, (True, 1, 1), "too late"),
    ("TRADING", None, "payment", DSO, (0, 1), "wrong phase"),
    ("TRADING", None, "withdraw", 0, (), "wrong phase"),
    ("CHARGING", None, "auction", DSO, (), "wrong phase"),
    ("CHARGING", None, "submit", 1, (True, 1, 1), "wrong phase"),
    ("CHARGING", 299, "payment", DSO, (0, 1), "too early"),
    ("CHARGING", 300, "payment", 0, (0, 1), "not the DSO"),
    ("CHARGING", 300, "payment", DSO, (3, 1), "not a station"),
    ("CHARGING", 300, "payment", DSO, (0, 10**8 + 1), "reading out of bounds"),
    ("CHARGING", 300, "payment", DSO, (0, 10_000), "balance too small"),
    ("CHARGING", None, "withdraw", 0, (), "not paid yet"),
    ("CHARGING", None, "withdraw", DSO, (), "not a station"),
    ("CHARGING", None, "close", DSO, (), "not all have paid"),
    ("PAYING", None, "payment", DSO, (0, 1), "done already"),
    ("PAYING", None, "withdraw", 0, (), "done already"),
    ("PAYING", None, "withdraw", 2, (), "not paid yet"),
    ("PAYING", None, "close", DSO, (), "not all have paid"),
    ("PAYING", None, "close", 0, (), "not the DSO"),
    ("SETTLED", None, "withdraw", 1, (), "wrong phase"),
    ("SETTLED", None, "payment", DSO, (0, 1), "wrong phase"),
    ("SETTLED", None, "demand_submit", 0, (5, 500), "wrong phase"),
]


def everything(market: ChainMarket) -> list[Any]:
    """What a refusal leaves as it is."""
    names = ("phase", "period", "has_declared", "has_ordered", "is_selling", "has_paid", "has_withdrawn", "quotas")
    stations = [(market.view("declared_of", i), market.view("deposit_utok", i), market.view("hold_of", i))
                for i in range(N)]  # fmt: skip
    return [*(market.view(name) for name in names), *stations, market.balances_utok, market.escrow_utok]


@pytest.mark.parametrize(
    ("state", "after", "call", "caller", "arguments", "reason"),
    REFUSED,
    ids=[f"{state}-{call}-{reason}-{number}" for number, (state, _, call, _, _, reason) in enumerate(REFUSED)],
)
def test_each_refusal_has_its_reason(
    states: States, state: str, after: int | None, call: str, caller: int, arguments: tuple[Any, ...], reason: str
) -> None:
    market = states.back(state)
    if after is not None:
        states.at(after)
    with pytest.raises(ContractError, match=rf"^contract on the chain: {call}: {reason}$"):
        market.call(call, caller, *arguments)


def test_a_refused_transaction_that_is_mined_changes_nothing(states: States) -> None:
    """Whoever sends without trying first pays for the gas, and that is all."""
    market = states.back("CHARGING")
    states.at(300)
    before, blocks = everything(market), market.chain._web3.eth.block_number
    bound = market.market.functions.payment(0, 10_000)
    with pytest.raises(ContractError, match=r"payment: reverted"):
        market.chain._transact("payment", bound, market.addresses[DSO])
    assert market.chain._web3.eth.block_number == blocks + 1
    assert everything(market) == before


@pytest.mark.parametrize(
    ("state", "after", "call", "caller", "arguments"),
    [
        ("DECLARING", 99, "demand_submit", 1, (5, 500)),
        ("DECLARING", 100, "pre_allocate", DSO, ()),
        ("TRADING", 199, "submit", 1, (True, 0, 60)),
        ("TRADING", 199, "submit", 1, (False, 1_000, 8)),
        ("TRADING", 200, "auction", DSO, ()),
        ("CHARGING", 300, "payment", DSO, (0, 1)),
        ("SETTLED", None, "initialize", DSO, (0, -3 * 10**9, 10**7, [2**40, 2**41, 2**42])),
    ],
)
def test_what_is_just_allowed(
    states: States, state: str, after: int | None, call: str, caller: int, arguments: tuple[Any, ...]
) -> None:
    market = states.back(state)
    if after is not None:
        states.at(after)
    before = everything(market)
    market.call(call, caller, *arguments)
    assert everything(market) != before


def test_what_the_contract_tells_of_a_round(states: States) -> None:
    market = states.back("DECLARING")
    assert everything(market)[7] == [0, 0, 0]
    assert [market.view("declared_of", i) for i in range(N)] == [60, 0, 0]
    market = states.back("TRADING")
    assert market.quotas_wh == [30, 60, 10]
    assert [market.view("hold_of", i) for i in range(N)] == [3_000, 0, 0]
    assert market.escrow_utok == 20_000 + 3_000
    market.call("submit", 1, True, 101, 5)
    states.at(200)
    receipt = market.call("auction", DSO)
    traded = market.chain.events(market.market, "QuotaTraded", receipt)
    assert traded == [{"buyer": 0, "seller": 1, "energy_wh": 5, "price": 150}]
    assert market.quotas_wh == [35, 55, 10]
    assert [market.view("hold_of", i) for i in range(N)] == [0, 0, 0]
    assert market.balances_utok == [4_000 - 750, 8_000 + 750, 0, 0]
    states.at(300)
    receipt = market.call("payment", DSO, 0, 20)
    paid = {"station": 0, "used_wh": 20, "fee_utok": 140, "penalty_utok": 0, "forfeit_utok": 15 * 100 * 250 // 1000}
    assert market.chain.events(market.market, "PaymentMade", receipt) == [paid]
    receipt = market.call("withdraw", 0)
    returned = market.chain.events(market.market, "DepositReturned", receipt)
    assert returned == [{"station": 0, "amount_utok": 6_000 - 140 - 375}]
    assert not market.chain.events(market.market, "RoundSettled", receipt)


def test_a_balance_counts_as_far_as_it_is_approved(states: States) -> None:
    market = states.back("DECLARING")
    chain, station = market.chain, market.addresses[1]
    chain.send(market.token, "approve", station, market.market.address, 999)
    with pytest.raises(ContractError, match=r"demand_submit: allowance too small$"):
        market.call("demand_submit", 1, 10, 1_000)
    chain.send(market.token, "approve", station, market.market.address, 1_000)
    market.call("demand_submit", 1, 10, 1_000)
    assert chain.view(market.token, "allowance", station, market.market.address) == 0


CONTRACT_TERMS: list[tuple[Callable[[ChainMarket], list[Any]], tuple[int, ...], str]] = [
    (lambda market: [], (1, 1, 0, 0, 1), "no stations"),
    (lambda market: [market.addresses[0]] * 2, (1, 1, 0, 0, 1), "station not distinct"),
    (lambda market: [market.addresses[DSO]], (1, 1, 0, 0, 1), "station not distinct"),
    (lambda market: ["0x" + 40 * "0"], (1, 1, 0, 0, 1), "station not distinct"),
    (lambda market: market.addresses[:1], (10**7 + 1, 1, 0, 0, 1), "rate out of bounds"),
    (lambda market: market.addresses[:1], (1, 10**7 + 1, 0, 0, 1), "rate out of bounds"),
    (lambda market: market.addresses[:1], (1, 1, 1_001, 0, 1), "permille out of bounds"),
    (lambda market: market.addresses[:1], (1, 1, 0, 2, 1), "price limits out of bounds"),
    (lambda market: market.addresses[:1], (1, 1, 0, 0, 10**7 + 1), "price limits out of bounds"),
]


@pytest.mark.parametrize(("stations", "rates", "reason"), CONTRACT_TERMS)
def test_contracts_that_are_none(
    states: States, stations: Callable[[ChainMarket], list[Any]], rates: tuple[int, ...], reason: str
) -> None:
    market = states.back("IDLE")
    artifact, operator = build("quota_market"), market.addresses[DSO]
    with pytest.raises(ContractError, match=rf"quota_market \(deployment\): {reason}$"):
        market.chain.deploy(artifact, operator, market.token.address, stations(market), *rates)


def test_the_token(states: States) -> None:
    market = states.back("IDLE")
    chain, token = market.chain, market.token
    one, two, nobody, void = market.addresses[0], market.addresses[1], market.addresses[NOBODY], "0x" + 40 * "0"
    assert [chain.view(token, name) for name in ("name", "symbol", "decimals")] == ["gridmarl token", "GRID", 6]
    assert chain.view(token, "totalSupply") == 32_000
    with pytest.raises(ContractError, match=r"mint: not the minter$"):
        chain.send(token, "mint", one, one, 1)
    with pytest.raises(ContractError, match=r"transfer: balance too small$"):
        chain.send(token, "transfer", one, two, 10_001)
    with pytest.raises(ContractError, match=r"transfer: no receiver$"):
        chain.send(token, "transfer", one, void, 1)
    with pytest.raises(ContractError, match=r"transferFrom: allowance too small$"):
        chain.send(token, "transferFrom", nobody, one, nobody, 1)
    receipt = chain.send(token, "transfer", one, one, 10_000)  # to itself
    assert chain.events(token, "Transfer", receipt) == [{"sender": one, "receiver": one, "value": 10_000}]
    chain.send(token, "transfer", one, nobody, 10_000)
    chain.send(token, "approve", nobody, two, 7)
    chain.send(token, "transferFrom", two, nobody, one, 5)
    assert [chain.view(token, "balanceOf", each) for each in (one, two, nobody)] == [5, 20_000, 9_995]
    assert chain.view(token, "allowance", nobody, two) == 2
    assert chain.view(token, "allowance", two, market.market.address) == UNLIMITED
    assert chain.view(token, "totalSupply") == 32_000
