"""One round of the charging quotas, played on the chain and on tensors, call by call, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from gridmarl.contracts.accounts import open_accounts
from gridmarl.contracts.quota import QuotaPhase, open_quota_contract
from gridmarl.contracts.quota_sums import QuotaTerms
from gridmarl.errors import ConfigError
from gridmarl.evm.chain import GasUse
from gridmarl.evm.market import ChainMarket

DECLARE_S, ORDER_S, CHARGE_S = 600, 1200, 3600  # deadlines, seconds after the round is opened


class Order(NamedTuple):
    """What a station submits if quotas are scarce."""

    side: Literal["buy", "sell"]
    price_utok_per_wh: int
    quantity_wh: int


@dataclass(frozen=True)
class Round:
    """What everybody does in one period; `N` stations.

    Attributes:
        period: number of the period, from 0; ties and roundings begin at station `period mod N`.
        margin_wh: may be negative.
        tariff_utok_per_wh: fee per Wh used.
        declared_wh: `N` demands; None does not call.
        orders: `N` orders; None does not call. They count under scarcity only.
        used_wh: `N` meter readings; None: each station uses its final quota exactly.
        withdrawing: stations that withdraw after their payment; the DSO closes the round for the others.
        deposit_extra_utok: what each pays beyond the least deposit.
    """

    period: int
    margin_wh: int
    tariff_utok_per_wh: int
    declared_wh: tuple[int | None, ...]
    orders: tuple[Order | None, ...]
    used_wh: tuple[int, ...] | None = None
    withdrawing: tuple[int, ...] = ()
    deposit_extra_utok: int = 0

    def deposit_utok(self, terms: QuotaTerms, declared_wh: int) -> int:
        """Deposit of a declaration."""
        return declared_wh * terms.deposit_rate_utok_per_wh + self.deposit_extra_utok

    def check(self, terms: QuotaTerms) -> None:
        """ConfigError: a tuple that has not one entry per station."""
        given = {"declared_wh": self.declared_wh, "orders": self.orders, "used_wh": self.used_wh}
        for name, values in given.items():
            if values is not None and len(values) != terms.num_stations:
                raise ConfigError(f"{name}: {len(values)} entries, allowed is one per station ({terms.num_stations})")


class Outcome(NamedTuple):
    """What a round has done."""

    quota_wh: list[int]  # of the allocation
    scarce: bool
    final_wh: list[int]  # after the auction
    balances_utok: list[int]  # stations, then the DSO
    escrow_utok: int  # 0 after a round
    settled: bool


def play_on_chain(market: ChainMarket, plan: Round) -> Outcome:
    """Play the round in transactions, at its deadlines.

    Raises:
        ConfigError: a plan of another number of stations.
        ContractError: the contract refuses a call.
    """
    terms, dso, chain = market.terms, market.dso, market.chain
    plan.check(terms)
    begin = chain.now
    deadlines = [begin + after for after in (DECLARE_S, ORDER_S, CHARGE_S)]
    market.call("initialize", dso, plan.period, plan.margin_wh, plan.tariff_utok_per_wh, deadlines)
    for station, declared in enumerate(plan.declared_wh):
        if declared is not None:
            market.call("demand_submit", station, declared, plan.deposit_utok(terms, declared))
    chain.travel(deadlines[0])
    market.call("pre_allocate", dso)
    quota = market.quotas_wh
    scarce = market.view("phase") == QuotaPhase.TRADING.value
    if scarce:
        for station, order in enumerate(plan.orders):
            if order is not None:
                market.call("submit", station, order.side == "sell", *order[1:])
        chain.travel(deadlines[1])
        market.call("auction", dso)
    final = market.quotas_wh
    chain.travel(deadlines[2])
    for station, used in enumerate(final if plan.used_wh is None else plan.used_wh):
        market.call("payment", dso, station, used)
    for station in plan.withdrawing:
        market.call("withdraw", station)
    if market.view("phase") != QuotaPhase.SETTLED.value:
        market.call("close", dso)
    settled = market.view("phase") == QuotaPhase.SETTLED.value
    return Outcome(quota, scarce, final, market.balances_utok, market.escrow_utok, settled)


def play_on_tensors(terms: QuotaTerms, balances_utok: Sequence[int], plan: Round) -> Outcome:
    """Play the same round by `gridmarl.contracts.quota`, in one lane.

    Raises:
        ConfigError: a plan of another number of stations.
        ContractError, OverdraftError: the contract refuses a call.
    """
    plan.check(terms)
    accounts, till = open_accounts(torch.tensor(balances_utok).unsqueeze(1))
    contract, dso = open_quota_contract(till, accounts, terms), terms.num_stations
    contract, accounts = contract.initialize(
        accounts,
        dso,
        0,
        period=plan.period,
        margin_wh=plan.margin_wh,
        tariff_utok_per_wh=plan.tariff_utok_per_wh,
        deadlines=(DECLARE_S, ORDER_S, CHARGE_S),
    )
    for station, declared in enumerate(plan.declared_wh):
        if declared is not None:
            deposit = plan.deposit_utok(terms, declared)
            contract, accounts = contract.demand_submit(accounts, station, 1, declared, deposit)
    contract, accounts = contract.pre_allocate(accounts, dso, DECLARE_S)
    quota: list[int] = contract.quota_wh[:, 0].tolist()
    scarce = contract.phase is QuotaPhase.TRADING
    if scarce:
        for station, order in enumerate(plan.orders):
            if order is not None:
                contract, accounts = contract.submit(accounts, station, DECLARE_S, *order)
        contract, accounts = contract.auction(accounts, dso, ORDER_S)
    final: list[int] = contract.quota_wh[:, 0].tolist()
    for station, used in enumerate(final if plan.used_wh is None else plan.used_wh):
        contract, accounts = contract.payment(accounts, dso, CHARGE_S, station, used)
    for station in plan.withdrawing:
        contract, accounts = contract.withdraw(accounts, station, CHARGE_S)
    if contract.phase is not QuotaPhase.SETTLED:
        contract, accounts = contract.close(accounts, dso, CHARGE_S)
    escrow = int(accounts.escrow.sum())
    settled = contract.phase is QuotaPhase.SETTLED
    return Outcome(quota, scarce, final, accounts.balances[:, 0].tolist(), escrow, settled)


class GasRow(NamedTuple):
    """Gas of all calls of one function."""

    function: str
    calls: int
    least: int
    most: int
    total: int


def gas_by_function(uses: Sequence[GasUse]) -> list[GasRow]:
    """In the order of the first calls."""
    found: dict[str, list[int]] = {}
    for use in uses:
        found.setdefault(use.function, []).append(use.gas)
    return [GasRow(name, len(gas), min(gas), max(gas), sum(gas)) for name, gas in found.items()]
