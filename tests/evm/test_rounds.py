"""Whole rounds in transactions: chain, tensors and oracle end with the same quotas and the same money."""

from __future__ import annotations

import random

import pytest

from gridmarl.contracts.quota_sums import QuotaTerms
from gridmarl.errors import ConfigError
from gridmarl.evm.market import MAX_STATIONS, ChainMarket, check_terms
from gridmarl.evm.play import Order, Outcome, Round, play_on_chain, play_on_tensors
from tests.evm.conftest import terms
from tests.oracles import ev_quota

MONEY = 1_000_000


def check_round(market: ChainMarket, plan: Round) -> Outcome:
    """Play by all three, from the balances that the chain's last round has left."""
    before = market.balances_utok
    outcome = play_on_chain(market, plan)
    assert outcome == play_on_tensors(market.terms, before, plan)
    none = Order("buy", market.terms.floor_utok_per_wh, 0)
    expected = ev_quota.play_round(
        ev_quota.Terms(
            market.terms.deposit_rate_utok_per_wh,
            market.terms.penalty_rate_utok_per_wh,
            market.terms.forfeit_permille,
            market.terms.floor_utok_per_wh,
            market.terms.cap_utok_per_wh,
        ),
        plan.period,
        plan.margin_wh,
        plan.tariff_utok_per_wh,
        [declared or 0 for declared in plan.declared_wh],
        [tuple(order or none) for order in plan.orders],  # type: ignore[misc]
        list(outcome.final_wh if plan.used_wh is None else plan.used_wh),
    )
    assert (outcome.quota_wh, outcome.scarce, outcome.final_wh) == (
        expected.quota_wh, expected.scarce, expected.final_wh,
    )  # fmt: skip
    assert [after - money for after, money in zip(outcome.balances_utok, before, strict=True)] == expected.change_utok
    assert outcome.escrow_utok == 0
    assert outcome.settled
    assert sum(outcome.balances_utok) == sum(before)
    return outcome


def random_round(dice: random.Random, stations: int, period: int) -> Round:
    """Not everybody declares or orders; some use more than their quota, and some withdraw."""
    declared = [dice.choice([None, 0, dice.randint(1, 40), dice.randint(1, 40)]) for _ in range(stations)]
    demands = [each or 0 for each in declared]
    margin = dice.choice([sum(demands) // 2, dice.randint(-5, sum(demands) + 2)])
    quota = ev_quota.play_round(
        ev_quota.Terms(), period, margin, 0, demands, [("buy", 0, 0)] * stations, [0] * stations
    ).quota_wh
    orders: list[Order | None] = []
    for station in range(stations):
        buys = dice.random() < 0.5
        amount = dice.randint(0, 25 if buys else quota[station])
        order = Order("buy" if buys else "sell", dice.choice([5, dice.randint(0, 1_000)]), amount)
        orders.append(None if dice.random() < 0.15 else order)
    used = tuple(max(0, each + dice.randint(-20, 20)) for each in quota)
    withdrawing = tuple(dice.sample(range(stations), dice.choice([0, stations // 2, stations])))
    extra = dice.choice([0, dice.randint(0, 500)])
    return Round(period, margin, dice.randint(0, 300), tuple(declared), tuple(orders), used, withdrawing, extra)


@pytest.mark.parametrize(
    ("stations", "forfeit", "rounds"), [(1, 1_000, 2), (3, 333, 8), (5, 0, 3)], ids=["one", "three", "five"]
)
def test_random_rounds_one_after_another(stations: int, forfeit: int, rounds: int) -> None:
    """On one contract, so that what a round leaves behind would show in the next."""
    dice = random.Random(f"rounds {stations}")
    market = ChainMarket(terms(stations, forfeit=forfeit), [MONEY] * stations + [0])
    outcomes = [check_round(market, random_round(dice, stations, period)) for period in range(rounds)]
    assert stations == 1 or any(outcome.final_wh != outcome.quota_wh for outcome in outcomes)
    assert any(outcome.scarce for outcome in outcomes)


SELL, BUY = Order("sell", 200, 5), Order("buy", 400, 5)
NO_ORDERS = (None, None, None)
EVERYBODY = (0, 1, 2)
DEGENERATE = {
    "nobody declares": Round(0, 50, 7, (None, None, None), NO_ORDERS, (0, 0, 3)),
    "nobody declares, no margin": Round(1, 0, 7, (None, 0, None), NO_ORDERS, None, EVERYBODY),
    "margin 0": Round(2, 0, 7, (10, 20, 30), (BUY, None, BUY), None, EVERYBODY),
    "negative margin": Round(3, -3_000_000_000, 7, (10, 20, 30), (BUY, BUY, BUY), None, EVERYBODY),
    "exact exhaustion": Round(4, 60, 7, (10, 20, 30), (SELL, BUY, SELL), None, (2,)),
    "no orders": Round(5, 30, 7, (10, 20, 30), NO_ORDERS, None, EVERYBODY),
    "one side": Round(6, 30, 7, (10, 20, 30), (SELL, SELL, SELL), None, EVERYBODY),
    "zero quantities": Round(7, 30, 7, (10, 20, 30), (BUY._replace(quantity_wh=0), SELL, BUY), None),
    "equal prices": Round(8, 31, 7, (20, 20, 20), (SELL._replace(price_utok_per_wh=400), BUY, BUY), None, (0, 1)),
    "bid below offer": Round(9, 30, 7, (10, 20, 30), (Order("buy", 199, 5), SELL, SELL), None, EVERYBODY),
    "all sold, all bought": Round(10, 30, 0, (20, 20, 20), (Order("sell", 0, 10), Order("buy", 1_000, 10), None)),
    "above the quota": Round(11, 30, 7, (20, 20, 20), NO_ORDERS, (200, 11, 0), EVERYBODY),
    "deposits used up exactly": Round(12, 30, 100, (10, 10, 10), NO_ORDERS, (10, 10, 10), EVERYBODY),
    "a deposit beyond the least": Round(13, 15, 100, (10, 10, 10), NO_ORDERS, (5, 9, 0), (1,), 77),
    "period of many digits": Round(2**63 - 1, 30, 7, (20, 21, 22), (SELL, BUY, BUY), None, EVERYBODY),
}


def test_degenerate_rounds_one_after_another() -> None:
    market = ChainMarket(terms(3, forfeit=500), [MONEY] * 3 + [0])
    traded = {name: check_round(market, plan) for name, plan in DEGENERATE.items()}
    for name in ("margin 0", "negative margin"):
        assert traded[name].quota_wh == [0, 0, 0]
        assert traded[name].scarce
    assert not traded["exact exhaustion"].scarce
    assert traded["equal prices"].final_wh == [5, 11, 15]
    assert traded["all sold, all bought"].final_wh == [0, 20, 10]


def test_a_round_of_sixteen_stations() -> None:
    dice = random.Random("sixteen")
    market = ChainMarket(terms(MAX_STATIONS, forfeit=1), [MONEY] * MAX_STATIONS + [5])
    declared = tuple(dice.randint(5, 40) for _ in range(MAX_STATIONS))
    orders = tuple(
        Order("sell", dice.randint(0, 5), 3) if station % 2 else Order("buy", dice.randint(3, 9), dice.randint(1, 6))
        for station in range(MAX_STATIONS)
    )
    plan = Round(11, sum(declared) - 1, 3, declared, tuple(Order(*each) for each in orders), withdrawing=(15,))
    assert check_round(market, plan).final_wh != list(declared)


def test_largest_amounts_fit() -> None:
    """Every amount at its bound: no product overflows, on the chain or on tensors."""
    rate, most = 10**7, 10**8
    market = ChainMarket(QuotaTerms(3, rate, rate, 1_000, 0, rate), [10**17] * 3 + [0])
    orders = (Order("sell", rate, most // 2), Order("buy", rate, most), Order("buy", rate, most))
    check_round(market, Round(0, most * 3 // 2, rate, (most, most, most), orders, (most, 0, most), EVERYBODY))


def test_what_does_not_fit_on_a_chain() -> None:
    with pytest.raises(ConfigError, match=r"num_stations: 17, allowed on a chain are 1 \.\. 16"):
        check_terms(terms(17))
    with pytest.raises(ConfigError, match=r"auction: 'uniform', allowed on a chain is 'pairwise'"):
        check_terms(QuotaTerms(3, 1, 1, 0, 0, 1, "uniform"))
    with pytest.raises(ConfigError, match=r"balances_utok: \[1, 2\], allowed are 4 integers from 0"):
        ChainMarket(terms(3), [1, 2])
    with pytest.raises(ConfigError, match=r"orders: 1 entries, allowed is one per station \(3\)"):
        Round(0, 0, 0, (1, 2, 3), (None,)).check(terms(3))
