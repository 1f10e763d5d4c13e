"""The pairwise auction against Algorithm 1 as printed: all small books, large ones by Hypothesis; both routes."""

from __future__ import annotations

import shutil
from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.clearing.book import Clearing, validate_book
from gridmarl.clearing.pairwise import BROADCAST_MAX_ORDERS, Pairs, Trades, clear_pairwise, match_pairs
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.errors import ConfigError
from gridmarl.testing import check_mechanism
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH
from tests.oracles.clearing import Orders
from tests.oracles.pairwise import walk

ROUTES = ("merge", "broadcast")
Book = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def column(orders: list[Orders], part: int) -> Tensor:
    """`[orders, lanes]` limits (0) or energies (1) of one side of many books."""
    table = [[order[part] for order in book] for book in orders]
    return torch.tensor(table, dtype=torch.int64).view(len(orders), -1).t().contiguous()


def as_book(buys: list[Orders], sells: list[Orders], floor: int, cap: int) -> Book:
    limits = torch.full((len(buys),), floor), torch.full((len(buys),), cap)
    return column(buys, 0), column(buys, 1), column(sells, 0), column(sells, 1), *limits


def assert_invariants(book: Book, trades: Trades) -> None:
    """Energy and money are conserved, fills lie within orders, nobody trades against its own limit."""
    buy_price, buy_wh, sell_price, sell_wh, _, _ = book
    assert all(field.dtype == torch.int64 for field in trades)
    assert torch.equal(trades.buy_fill_wh.sum(0), trades.volume_wh)
    assert torch.equal(trades.sell_fill_wh.sum(0), trades.volume_wh)
    assert torch.equal(trades.payment_utok.sum(0), trades.income_utok.sum(0))
    assert bool(((trades.buy_fill_wh >= 0) & (trades.buy_fill_wh <= buy_wh)).all())
    assert bool(((trades.sell_fill_wh >= 0) & (trades.sell_fill_wh <= sell_wh)).all())
    assert bool((trades.payment_utok <= trades.buy_fill_wh * buy_price).all())
    assert bool((trades.income_utok >= trades.sell_fill_wh * sell_price).all())


def trades_of(pairs: Pairs, lane: int) -> list[tuple[int, int, int, int]]:
    rows = zip(*(field[:, lane].tolist() for field in pairs), strict=True)
    return [row for row in rows if row[2] > 0]


def assert_equals_oracle(
    buys: list[Orders], sells: list[Orders], floor: int, cap: int, start: list[int], routes: tuple[str, ...] = ROUTES
) -> None:
    """All books as lanes of one call."""
    book = as_book(buys, sells, floor, cap)
    validate_book(*book)
    turn = torch.tensor(start)
    expected = [walk(b, s, floor, cap, t) for b, s, t in zip(buys, sells, start, strict=True)]
    for route in routes:
        got = clear_pairwise(*book, turn, route=route)
        assert_invariants(book, got)
        assert got.buy_fill_wh.t().tolist() == [each.buy_fill_wh for each in expected]
        assert got.sell_fill_wh.t().tolist() == [each.sell_fill_wh for each in expected]
        assert got.payment_utok.t().tolist() == [each.payment_utok for each in expected]
        assert got.income_utok.t().tolist() == [each.income_utok for each in expected]
    pairs = match_pairs(*book, turn)
    assert all(field.shape == (book[0].size(0) + book[2].size(0), len(buys)) for field in pairs)
    assert [trades_of(pairs, lane) for lane in range(len(buys))] == [each.pairs for each in expected]
    assert not any(bool((field * (pairs.energy_wh == 0)).any()) for field in pairs)


def small_books(buys: int, sells: int, prices: int, energies: int) -> tuple[list[Orders], list[Orders]]:
    orders = list(product(range(prices), range(energies)))
    books = list(product(orders, repeat=buys + sells))
    return [list(book[:buys]) for book in books], [list(book[buys:]) for book in books]


# (buys, sells, prices, energies, floor, cap): limits in 0..prices-1, so that some floors and caps exclude orders.
SMALL = [
    *[(b, s, 4, 4, *limits) for b, s in ((0, 0), (0, 2), (2, 0), (1, 1)) for limits in ((0, 3), (1, 2), (-1, 5))],
    *[(b, s, 4, 4, *limits) for b, s in ((1, 2), (2, 1)) for limits in ((0, 3), (1, 2))],
    (2, 2, 4, 3, 0, 3),
    (2, 2, 3, 3, 1, 1),
    (3, 2, 2, 3, 0, 1),
    (1, 3, 3, 3, 0, 2),
]


@pytest.mark.parametrize(("buys", "sells", "prices", "energies", "floor", "cap"), SMALL)
def test_all_small_books(buys: int, sells: int, prices: int, energies: int, floor: int, cap: int) -> None:
    buy_side, sell_side = small_books(buys, sells, prices, energies)
    assert_equals_oracle(buy_side, sell_side, floor, cap, [index * 7 // 3 % 4 for index in range(len(buy_side))])


@st.composite
def large_books(draw: st.DrawFn) -> tuple[Orders, Orders, int, int]:
    """Prices from a handful, so that ties and orders beyond floor and cap are common; steps that coincide, too."""
    floor = draw(st.integers(-MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH))
    cap = draw(
        st.one_of(st.integers(floor, min(floor + 50, MAX_PRICE_UTOK_PER_WH)), st.integers(floor, MAX_PRICE_UTOK_PER_WH))
    )
    anywhere = st.integers(-MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH)
    prices = st.sampled_from([floor, cap, *draw(st.lists(st.one_of(st.integers(floor, cap), anywhere), max_size=6))])
    energies = st.one_of(st.integers(0, 3), st.integers(0, MAX_ORDER_WH))
    orders = st.lists(st.tuples(prices, energies), max_size=16)
    return draw(orders), draw(orders), floor, cap


@settings(max_examples=300)
@given(large_books(), st.integers(0, 30))
def test_large_books(book: tuple[Orders, Orders, int, int], start: int) -> None:
    buys, sells, floor, cap = book
    assert_equals_oracle([buys], [sells], floor, cap, [start])


def test_the_largest_book() -> None:
    orders = MAX_BOOK_WH // MAX_ORDER_WH
    high = [(MAX_PRICE_UTOK_PER_WH, MAX_ORDER_WH)] * orders
    low = [(-MAX_PRICE_UTOK_PER_WH, MAX_ORDER_WH)] * orders
    for buys, sells in ((high, high), (low, low), (high, low), (low, high)):
        assert_equals_oracle([buys], [sells], -MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH, [7])


# (case, buys, sells, floor, cap, start, fills of buys, fills of sells, payments, incomes), as in the docstring's table.
TABLE: list[tuple[str, Orders, Orders, int, int, int, list[int], list[int], list[int], list[int]]] = [
    ("no buys", [], [(1, 5)], 0, 9, 0, [], [0], [], [0]),
    ("no sells", [(8, 5)], [], 0, 9, 0, [0], [], [0], []),
    ("zero quantities only", [(8, 0)], [(1, 0)], 0, 9, 0, [0], [0], [0], [0]),
    ("best bid below best offer", [(3, 5)], [(4, 5)], 0, 9, 0, [0], [0], [0], [0]),
    ("bid equal to offer", [(4, 5)], [(4, 3)], 0, 9, 0, [3], [3], [12], [12]),
    ("both used up", [(8, 5), (6, 2)], [(2, 5), (4, 3)], 0, 9, 0, [5, 2], [5, 2], [25, 10], [25, 10]),
    ("one bid, many offers", [(9, 6)], [(1, 1), (3, 2), (9, 4)], 0, 9, 0, [6], [1, 2, 3], [44], [5, 12, 27]),
    ("one offer, many bids", [(7, 1), (9, 2)], [(1, 9)], 0, 9, 0, [1, 2], [3], [4, 10], [14]),
    ("tie, first index first", [(6, 2), (6, 2)], [(2, 3)], 0, 9, 0, [2, 1], [3], [8, 4], [12]),
    ("tie, the index starts at 1", [(6, 2), (6, 2)], [(2, 3)], 0, 9, 1, [1, 2], [3], [4, 8], [12]),
    ("tie of offers", [(6, 3)], [(2, 2), (2, 2)], 0, 9, 1, [3], [1, 2], [12], [4, 8]),
    ("zero quantity among others", [(9, 0), (5, 2)], [(1, 0), (5, 2)], 0, 9, 0, [0, 2], [0, 2], [0, 10], [0, 10]),
    ("odd sum rounds down", [(4, 3)], [(1, 3)], 0, 9, 0, [3], [3], [6], [6]),
    ("negative odd sum rounds down", [(-2, 3)], [(-3, 3)], -9, 9, 0, [3], [3], [-9], [-9]),
    ("bid above the cap", [(99, 1)], [(1, 1)], 0, 9, 0, [1], [1], [5], [5]),
    ("offer below the floor", [(9, 1)], [(-99, 1)], 1, 9, 0, [1], [1], [5], [5]),
    ("bid below the floor", [(0, 1)], [(-5, 1)], 1, 9, 0, [0], [0], [0], [0]),
    ("offer above the cap", [(99, 1)], [(10, 1)], 0, 9, 0, [0], [0], [0], [0]),
]


@pytest.mark.parametrize("route", [*ROUTES, "auto"])
@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_degenerate_cases(
    row: tuple[str, Orders, Orders, int, int, int, list[int], list[int], list[int], list[int]], route: str
) -> None:
    _, buys, sells, floor, cap, start, *expected = row
    got = clear_pairwise(*as_book([buys], [sells], floor, cap), start, route=route)
    assert [field[:, 0].tolist() for field in got[:4]] == expected


def random_book(buys: int, sells: int, lanes: int, seed: int) -> Book:
    random = partial(torch.randint, generator=torch.Generator().manual_seed(seed))
    prices = random(-40, 40, (buys, lanes)), random(-40, 40, (sells, lanes))
    energies = random(0, 900, (buys, lanes)), random(0, 900, (sells, lanes))
    floor = random(-40, 0, (lanes,))
    return prices[0], energies[0], prices[1], energies[1], floor, floor + random(0, 64, (lanes,))


SIZES = [(8, 8), (1, 15), (21, 2), (BROADCAST_MAX_ORDERS, BROADCAST_MAX_ORDERS)]


@pytest.mark.parametrize(("buys", "sells"), SIZES)
def test_routes_agree_bit_for_bit(buys: int, sells: int) -> None:
    lanes = 200
    book, start = random_book(buys, sells, lanes, buys), torch.arange(lanes) % 29
    merge, broadcast, auto = (clear_pairwise(*book, start, route=route) for route in (*ROUTES, "auto"))
    for left, right, third in zip(merge, broadcast, auto, strict=True):
        assert torch.equal(left, right)
        assert torch.equal(left, third)
    assert_invariants(book, merge)
    assert int((merge.volume_wh > 0).sum()) > lanes // 4  # the books are not all degenerate


def test_as_much_is_traded_as_at_one_price() -> None:
    """Prices differ, the energy does not: both serve every bid that some offer left over can meet."""
    book = random_book(7, 6, 500, seed=3)
    pairwise, uniform = clear_pairwise(*book, 0), clear_uniform(*book, 0)
    assert torch.equal(pairwise.volume_wh, uniform.volume_wh)
    assert not torch.equal(pairwise.payment_utok, uniform.buy_fill_wh * uniform.price)


@pytest.mark.parametrize("route", ROUTES)
def test_a_lane_does_not_see_the_others_and_arguments_stay(route: str) -> None:
    book = random_book(6, 6, 40, seed=1)
    copies = [part.clone() for part in book]
    start = torch.arange(40) % 6
    batch = clear_pairwise(*book, start, route=route)
    assert all(torch.equal(part, copy) for part, copy in zip(book, copies, strict=True))
    for lane in (0, 5, 39):
        one = slice(lane, lane + 1)
        alone = clear_pairwise(*(part[..., one] for part in book), int(start[lane]), route=route)  # type: ignore[arg-type]
        assert all(torch.equal(left, right[..., one]) for left, right in zip(alone, batch, strict=True))


@pytest.mark.parametrize("route", ROUTES)
def test_conformance(route: str) -> None:
    """The public suite, without its checks of one price for all; the limits are checked by payment above."""

    def mechanism(*arguments: Tensor) -> Clearing:
        trades = clear_pairwise(*arguments, route=route)
        money = trades.payment_utok.sum(0)  # in place of a price, so that lanes and repeats are compared in it too
        return Clearing(money, trades.buy_fill_wh, trades.sell_fill_wh, trades.volume_wh, money, money)

    check_mechanism(mechanism, one_price=False)


def test_an_unknown_route_is_named() -> None:
    with pytest.raises(ConfigError, match=r"route = 'sort': allowed are \('auto', 'merge', 'broadcast'\)"):
        clear_pairwise(*random_book(1, 1, 1, seed=0), 0, route="sort")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("sells", [0, 4, 6])
def test_no_host_synchronisation(route: str, sells: int) -> None:
    with FakeTensorMode():
        buy, sell = (torch.ones(n, 8, dtype=torch.int64, device="cuda") for n in (4, sells))
        lanes = torch.ones(8, dtype=torch.int64, device="cuda")
        for start in (3, lanes):
            got = clear_pairwise(buy, buy, sell, sell, lanes, lanes, start, route=route)
            pairs = match_pairs(buy, buy, sell, sell, lanes, lanes, start)
            assert {field.device.type for field in (*got, *pairs)} == {"cuda"}
            assert [tuple(field.shape) for field in got] == [(4, 8), (sells, 8), (4, 8), (sells, 8), (8,)]
            assert {field.dtype for field in (*got, *pairs)} == {torch.int64}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor's own imports
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("route", ROUTES)
def test_compiled_equals_eager_without_graph_breaks_or_a_graph_per_period(route: str) -> None:
    torch.compiler.reset()
    book = random_book(8, 8, 64, seed=4)
    clear = partial(clear_pairwise, route=route)
    graphs = CompileCounterWithBackend("inductor")
    compiled = torch.compile(clear, fullgraph=True, backend=graphs)
    for start in range(6):
        for got, expected in zip(compiled(*book, start), clear(*book, start), strict=True):
            assert torch.equal(got, expected)
    assert graphs.frame_count <= 3  # start 0, start 1, then any start
