"""Allocation and auction: contract, tensors and oracle give the same, on random books and on every degenerate case."""

from __future__ import annotations

import random

import pytest
import torch

from gridmarl.clearing.pairwise import ROUTES, clear_pairwise, match_pairs
from gridmarl.clearing.quota import allocate
from gridmarl.contracts.errors import ContractError
from gridmarl.evm.market import MAX_STATIONS, ChainMarket
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH
from tests.oracles.pairwise import walk
from tests.oracles.quota import whole_quotas

Orders = list[tuple[int, int]]  # price, quantity
Book = tuple[Orders, Orders, int]
Demands = tuple[list[int], int, int]  # demands, margin, start

RANDOM_BOOKS = 520  # for the auction, and as many for the allocation
SHARES = 4  # tests that they are shared over


def check_book(market: ChainMarket, book: Book) -> list[tuple[int, int, int, int]]:
    """Pairs in their order, fills and payments by every route; returns the pairs."""
    buys, sells, start = book
    found = [tuple(pair) for pair in market.view("clear", buys, sells, start)]
    expected = walk(buys, sells, 0, MAX_PRICE_UTOK_PER_WH, start)
    assert found == expected.pairs
    columns = [torch.tensor([order[k] for order in side], dtype=torch.int64).unsqueeze(1)
               for side in (buys, sells) for k in (0, 1)]  # fmt: skip
    given = (*columns, torch.tensor([0]), torch.tensor([MAX_PRICE_UTOK_PER_WH]), start)
    rows = torch.stack(match_pairs(*given)).squeeze(2).t().tolist()
    assert [tuple(row) for row in rows if row[2]] == found
    for route in ROUTES:
        trades = clear_pairwise(*given, route=route)
        assert trades.buy_fill_wh[:, 0].tolist() == [sum(p[2] for p in found if p[0] == i) for i in range(len(buys))]
        assert trades.income_utok[:, 0].tolist() == [
            sum(p[2] * p[3] for p in found if p[1] == i) for i in range(len(sells))
        ]
        assert trades.payment_utok[:, 0].tolist() == expected.payment_utok
    return expected.pairs


def check_demands(market: ChainMarket, demands: Demands) -> list[int]:
    """Quotas and scarcity; returns the quotas."""
    declared, margin, start = demands
    quota, scarce = market.view("allocate", declared, margin, start)
    assert list(quota) == whole_quotas(declared, max(margin, 0), start)
    outcome = allocate(torch.tensor(declared).unsqueeze(1), torch.tensor([margin]), start)
    assert list(quota) == outcome.quota[:, 0].tolist()
    assert scarce == bool(outcome.scarce[0])
    assert sum(quota) == min(sum(declared), max(margin, 0))
    return list(quota)


def random_book(dice: random.Random) -> Book:
    """Ties, zero quantities, sides that are used up together, empty sides and bounds are all frequent."""
    prices, most = dice.choice([(3, 4), (12, 9), (1_000, 50), (MAX_PRICE_UTOK_PER_WH, MAX_ORDER_WH)])

    def side() -> Orders:
        count = MAX_STATIONS if dice.random() < 0.04 else dice.randint(0, 6)
        return [(dice.randint(0, prices), dice.choice([0, dice.randint(1, most), most])) for _ in range(count)]

    return side(), side(), dice.randint(0, 40)


def random_demands(dice: random.Random) -> Demands:
    most = dice.choice([3, 50, MAX_ORDER_WH])
    declared = [dice.choice([0, dice.randint(0, most), most]) for _ in range(dice.randint(1, MAX_STATIONS))]
    margin = dice.choice([dice.randint(-3, sum(declared) + 3), sum(declared) - 1, sum(declared) // 2])
    return declared, margin, dice.randint(0, 40)


@pytest.mark.parametrize("share", range(SHARES))
def test_auctions_of_random_books(calculator: ChainMarket, share: int) -> None:
    dice, traded = random.Random(f"books {share}"), 0
    for _ in range(RANDOM_BOOKS // SHARES):
        traded += bool(check_book(calculator, random_book(dice)))
    assert traded > RANDOM_BOOKS // SHARES // 3


@pytest.mark.parametrize("share", range(SHARES))
def test_allocations_of_random_demands(calculator: ChainMarket, share: int) -> None:
    dice, shared = random.Random(f"demands {share}"), 0
    for _ in range(RANDOM_BOOKS // SHARES):
        demands = random_demands(dice)
        shared += 0 < sum(check_demands(calculator, demands)) < sum(demands[0])
    assert shared > RANDOM_BOOKS // SHARES // 3


TIES: Orders = [(5, 4), (5, 4), (5, 4)]
DEGENERATE: dict[str, tuple[Book, list[tuple[int, int, int, int]]]] = {
    "nothing at all": (([], [], 0), []),
    "no offers": (([(5, 3)], [], 1), []),
    "no bids": (([], [(5, 3)], 1), []),
    "zero quantities only": (([(9, 0), (8, 0)], [(1, 0)], 0), []),
    "zero on one side": (([(9, 4)], [(1, 0)], 0), []),
    "a zero at the best price": (([(9, 0), (7, 2)], [(0, 0), (3, 2)], 0), [(1, 1, 2, 5)]),
    "best bid below best offer": (([(4, 3)], [(5, 3)], 0), []),
    "bid equal to offer": (([(5, 3)], [(5, 2)], 0), [(0, 0, 2, 5)]),
    "all prices zero": (([(0, 3)], [(0, 3)], 0), [(0, 0, 3, 0)]),
    "odd sum, rounded down": (([(6, 1)], [(3, 1)], 0), [(0, 0, 1, 4)]),
    "ties of buyers, from the first": ((TIES, [(1, 6)], 0), [(0, 0, 4, 3), (1, 0, 2, 3)]),
    "ties of buyers, from the last": ((TIES, [(1, 6)], 2), [(2, 0, 4, 3), (0, 0, 2, 3)]),
    "ties of sellers, start beyond the side": (([(7, 6)], TIES, 4), [(0, 1, 4, 6), (0, 2, 2, 6)]),
    "ties everywhere": (([(5, 2), (5, 2)], [(5, 3), (5, 1)], 1), [(1, 1, 1, 5), (1, 0, 1, 5), (0, 0, 2, 5)]),
    "both used up at once": (([(9, 4), (8, 3)], [(1, 4), (2, 3)], 0), [(0, 0, 4, 5), (1, 1, 3, 5)]),
    "both used up at once, then no more": (([(9, 4)], [(1, 4)], 0), [(0, 0, 4, 5)]),
    "one bid meets many offers": (([(9, 5)], [(3, 1), (1, 2), (5, 9)], 0), [(0, 1, 2, 5), (0, 0, 1, 6), (0, 2, 2, 7)]),
    "many bids meet one offer": (([(3, 1), (9, 2)], [(1, 9)], 0), [(1, 0, 2, 5), (0, 0, 1, 2)]),
    "bounds": (
        ([(MAX_PRICE_UTOK_PER_WH, MAX_ORDER_WH)], [(MAX_PRICE_UTOK_PER_WH, MAX_ORDER_WH)], 0),
        [(0, 0, MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH)],
    ),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_books(calculator: ChainMarket, name: str) -> None:
    book, pairs = DEGENERATE[name]
    assert check_book(calculator, book) == pairs


def test_the_largest_books(calculator: ChainMarket) -> None:
    """Sixteen orders a side and 31 pairs, as many as there can be; and sixteen equal ones from several starts."""
    steps = [(50 + i, 10) for i in range(MAX_STATIONS)]
    shifted = [(i, 10 if i else 5) for i in range(MAX_STATIONS - 1)] + [(30, 15)]
    assert len(check_book(calculator, (steps, shifted, 0))) == 2 * MAX_STATIONS - 1
    equal = [(5, 7)] * MAX_STATIONS
    for start in (0, 1, 9, 15):
        assert check_book(calculator, (equal, equal, start))[0] == (start, start, 7, 5)


@pytest.mark.parametrize(
    ("demands", "quotas"),
    [
        pytest.param(([0], 5, 0), [0], id="one station without demand"),
        pytest.param(([0, 0, 0], 0, 1), [0, 0, 0], id="nobody declares, no margin"),
        pytest.param(([4, 6], 0, 0), [0, 0], id="margin 0"),
        pytest.param(([4, 6], -7, 1), [0, 0], id="negative margin"),
        pytest.param(([4, 6], 10, 1), [4, 6], id="exact exhaustion"),
        pytest.param(([4, 6], 11, 1), [4, 6], id="more than enough"),
        pytest.param(([2, 2, 2], 5, 0), [1, 2, 2], id="rounding from the first"),
        pytest.param(([2, 2, 2], 5, 1), [2, 1, 2], id="rounding from the second"),
        pytest.param(([1] * 16, 15, 19), [1] * 3 + [0] + [1] * 12, id="all stations, start beyond them"),
        pytest.param(([1, 0, 1], 1, 2), [1, 0, 0], id="one unit for two"),
        pytest.param(([MAX_ORDER_WH] * 16, -MAX_BOOK_WH, 0), [0] * 16, id="least margin"),
        pytest.param(([MAX_ORDER_WH] * 2, MAX_ORDER_WH, 0), [MAX_ORDER_WH // 2] * 2, id="greatest demands"),
    ],
)
def test_degenerate_allocations(calculator: ChainMarket, demands: Demands, quotas: list[int]) -> None:
    assert check_demands(calculator, demands) == quotas


def test_a_negative_price_has_no_form_on_the_chain(calculator: ChainMarket) -> None:
    """Prices there are unsigned. And the lists are bounded by sixteen."""
    with pytest.raises(ContractError, match=r"clear: arguments \(\[\(-1, 1\)\], \[\], 0\) of other types"):
        calculator.view("clear", [(-1, 1)], [], 0)
    with pytest.raises(ContractError, match=r"clear: reverted without a reason"):
        calculator.view("clear", [(1, 1)] * (MAX_STATIONS + 1), [], 0)
