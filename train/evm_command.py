"""`gridmarl evm`: a trading period through the contract on an EVM, its gas, and whether it agrees with tensors."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from gridmarl.clearing.quota import allocate
from gridmarl.contracts.quota_sums import QuotaTerms, tariff_by_half_hour
from gridmarl.errors import ConfigError
from gridmarl.evm.build import build
from gridmarl.evm.market import MAX_STATIONS, ChainMarket
from gridmarl.evm.play import GasRow, Order, Outcome, Round, gas_by_function, play_on_chain, play_on_tensors
from gridmarl.train.options import check_range
from gridmarl.train.reproduce.ch9_printed import FIRST_HOUR, MARGIN_KW, PERIOD_MINUTES, STATIONS
from gridmarl.train.tables import results_console
from gridmarl.units import tokens

HALF_HOUR = 2 * FIRST_HOUR  # of the clock, also the number of the period
WH_PER_KW = 1000 * PERIOD_MINUTES // 60
BALANCE_UTOK = 10_000 * 10**6  # of every station, before
MAX_MARGIN_KW = 1_000_000


@dataclass
class EvmRun:
    """Play one period through the contract in Vyper, on an Ethereum virtual machine within this process: gas per
    function, balances, and whether the same period on tensors ends the same. Exit code 1 if it does not."""

    case: Literal["ch9", "random"] = "ch9"
    """ch9: the eight stations of chapter 9, 18:00-18:30, each using its final quota, none selling more than it has;
    random: drawn from the seed."""
    stations: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Stations of a random period, 1 .. 16; default: 8."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Seed of a random period; default: 0."""
    margin_kw: Annotated[int | None, tyro.conf.arg(metavar="KW", help_behavior_hint="")] = None
    """Capacity margin; default: 343 (ch9), 80 % of the demand (random). May be negative."""
    deposit_rate: Annotated[int, tyro.conf.arg(metavar="UTOK")] = 50_000
    """Deposit per declared Wh."""
    penalty_rate: Annotated[int, tyro.conf.arg(metavar="UTOK")] = 1_000_000
    """Penalty per Wh used above the final quota."""
    forfeit_permille: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Share of the deposit rate that an unused Wh of quota costs."""
    json: bool = False
    """Print everything as JSON."""

    def run(self) -> int:
        """Print tables or JSON; exit code 0, or 1 where chain and tensors differ."""
        terms, plan = self._plan()
        balances = [BALANCE_UTOK] * terms.num_stations + [0]
        expected = play_on_tensors(terms, balances, plan)
        market = ChainMarket(terms, balances)
        begun = len(market.chain.gas)
        outcome = play_on_chain(market, plan)
        gas = {
            "setting up": gas_by_function(market.chain.gas[:begun]),
            "the period": gas_by_function(market.chain.gas[begun:]),
        }
        if self.json:
            print(json.dumps(_as_json(terms, plan, gas, outcome, expected), indent=2))
        else:
            _show(results_console(), plan, gas, outcome, expected)
        return 0 if outcome == expected else 1

    def _plan(self) -> tuple[QuotaTerms, Round]:
        """Terms and period that the options ask for; ConfigError where they do not fit."""
        if self.case == "ch9" and (self.stations is not None or self.seed is not None):
            raise ConfigError(f"stations, seed: {self.stations}, {self.seed}; allowed are with --case random only")
        stations = len(STATIONS) if self.stations is None else self.stations
        check_range("stations", stations, 1, MAX_STATIONS)
        if self.margin_kw is not None:
            check_range("margin_kw", self.margin_kw, -MAX_MARGIN_KW, MAX_MARGIN_KW)
        terms = QuotaTerms(
            num_stations=stations,
            deposit_rate_utok_per_wh=self.deposit_rate,
            penalty_rate_utok_per_wh=self.penalty_rate,
            forfeit_permille=self.forfeit_permille,
            floor_utok_per_wh=0,
            cap_utok_per_wh=600_000,
        )
        margin_wh = None if self.margin_kw is None else self.margin_kw * WH_PER_KW
        if self.case == "ch9":
            return terms, chapter_period(MARGIN_KW * WH_PER_KW if margin_wh is None else margin_wh)
        return terms, random_period(terms, random.Random(self.seed or 0), margin_wh)


def chapter_period(margin_wh: int) -> Round:
    """Chapter 9's eight stations: demands of Table 2 for half an hour, orders of Table 3."""
    declared = [each.demand_kw * WH_PER_KW for each in STATIONS]
    orders = []
    for each, quota in zip(STATIONS, _quotas_wh(declared, margin_wh), strict=True):
        quantity = int(each.order * 1000)
        quantity = min(quantity, quota) if each.side == "sell" else quantity
        orders.append(Order(each.side, each.price_tok_per_kwh * 1000, quantity))
    return _period(declared, orders, margin_wh, None)


def random_period(terms: QuotaTerms, dice: random.Random, margin_wh: int | None) -> Round:
    """Demands up to 40 kWh, orders of either side, meter readings around the quotas; half of the stations withdraw."""
    everyone = range(terms.num_stations)
    declared = [dice.randint(0, 40_000) for _ in everyone]
    margin = sum(declared) * 4 // 5 if margin_wh is None else margin_wh
    quotas = _quotas_wh(declared, margin)
    orders = []
    for quota in quotas:
        side: Literal["buy", "sell"] = "buy" if dice.random() < 0.5 else "sell"
        price = dice.randint(terms.floor_utok_per_wh, terms.cap_utok_per_wh // 4)
        orders.append(Order(side, price, dice.randint(0, quota if side == "sell" else 10_000)))
    used = tuple(max(0, quota + dice.randint(-2_000, 500)) for quota in quotas)
    withdrawing = tuple(sorted(dice.sample(everyone, terms.num_stations // 2)))
    return _period(declared, orders, margin, used, withdrawing)


def _period(
    declared: list[int],
    orders: list[Order],
    margin_wh: int,
    used: tuple[int, ...] | None,
    withdrawing: tuple[int, ...] | None = None,
) -> Round:
    return Round(
        period=HALF_HOUR,
        margin_wh=margin_wh,
        tariff_utok_per_wh=tariff_by_half_hour(HALF_HOUR, 1)[0],
        declared_wh=tuple(declared),
        orders=tuple(orders),
        used_wh=used,
        withdrawing=tuple(range(len(declared))) if withdrawing is None else withdrawing,
    )


def _quotas_wh(declared: list[int], margin_wh: int) -> list[int]:
    """What a station can sell."""
    outcome = allocate(torch.tensor(declared).unsqueeze(1), torch.tensor([margin_wh]), HALF_HOUR)
    quotas: list[int] = outcome.quota[:, 0].tolist()
    return quotas


def _as_json(
    terms: QuotaTerms, plan: Round, gas: dict[str, list[GasRow]], outcome: Outcome, expected: Outcome
) -> dict[str, Any]:
    """Everything, amounts as integers."""
    return {
        "terms": asdict(terms),
        "round": asdict(plan),
        "balances_before_utok": [BALANCE_UTOK] * terms.num_stations + [0],
        "gas": {part: [row._asdict() for row in rows] for part, rows in gas.items()},
        "gas_total": {part: _total(rows) for part, rows in gas.items()},
        "chain": outcome._asdict(),
        "tensors": expected._asdict(),
        "equal": outcome == expected,
    }


def _total(rows: list[GasRow]) -> int:
    return sum(row.total for row in rows)


def _show(console: Console, plan: Round, gas: dict[str, list[GasRow]], outcome: Outcome, expected: Outcome) -> None:
    for part, rows in gas.items():
        table = _table(f"Gas, {part}", "function", ("calls", "least", "most", "total"))
        for row in rows:
            table.add_row(row.function, *(f"{value:,}" for value in row[1:]))
        table.add_row("total", f"{sum(row.calls for row in rows):,}", "", "", f"{_total(rows):,}")
        console.print(table)
    table = _table(
        f"Stations; margin {_kwh(plan.margin_wh)} kWh", "", ("declared", "quota", "after trade", "balance, tokens")
    )
    energies = (plan.declared_wh, outcome.quota_wh, outcome.final_wh)
    for number, (*energy, balance) in enumerate(zip(*energies, outcome.balances_utok[:-1], strict=True)):
        table.add_row(str(number), *(_kwh(wh or 0) for wh in energy), f"{tokens(balance - BALANCE_UTOK):+,.3f}")
    table.add_row("DSO", "", "", "", f"{tokens(outcome.balances_utok[-1]):+,.3f}")
    console.print(table)
    console.print("energies in kWh; balances: change by the period. The payments add up to 0.", style="dim")
    if outcome == expected:
        console.print("chain and tensors agree: quotas, final quotas and balances are equal to the last µtok")
    else:
        console.print(f"chain and tensors DIFFER:\n  chain   {outcome}\n  tensors {expected}", highlight=False)


def _kwh(energy_wh: int) -> str:
    return f"{energy_wh / 1000:,.3f}"


def _table(title: str, first: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


@dataclass
class EvmBuild:
    """Compile the contracts for a chain of your own: token.json and quota_market.json, each with ABI and bytecode."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder to write to."""

    def run(self) -> int:
        """Write the files and name them; exit code 0."""
        if self.out.exists() and not self.out.is_dir():
            raise ConfigError(f"out: {self.out} is a file, allowed is a folder")
        artifacts = [build(name) for name in ("token", "quota_market")]
        self.out.mkdir(parents=True, exist_ok=True)
        for artifact in artifacts:
            path = self.out / f"{artifact.name}.json"
            content = {"contractName": artifact.name, "abi": artifact.abi, "bytecode": artifact.bytecode}
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            print(f"{path}: {artifact.runtime_bytes:,} bytes of code when deployed")
        return 0


@dataclass
class Evm:
    """The charging-quota contract on an Ethereum virtual machine: play a period, or compile it."""

    command: Annotated[EvmRun, tyro.conf.subcommand("run")] | Annotated[EvmBuild, tyro.conf.subcommand("build")]

    def run(self) -> int:
        """Run the subcommand."""
        return self.command.run()
