"""The uniform-price kernel against the oracle: all small books, large ones by Hypothesis; both routes, bit for bit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
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
from gridmarl.clearing.uniform import CANDIDATES_MAX_CELLS, clear_uniform
from gridmarl.errors import ConfigError, DataError
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH
from tests.oracles.clearing import Orders, assert_clearing_invariants, clear_by_rules

ROUTES = ("bisection", "candidates")
RULES = ("uniform", "marginal_pair")
Book = tuple[Tensor, Tensor, Tensor, Tensor]


def side(orders: list[Orders], part: int) -> Tensor:
    """`[orders, lanes]` limits (0) or energies (1) of one side of many books."""
    table = [[order[part] for order in book] for book in orders]
    return torch.tensor(table, dtype=torch.int64).view(len(orders), -1).t().contiguous()


def assert_equals_oracle(
    buys: list[Orders], sells: list[Orders], floor: int, cap: int, start: list[int], rule: str, route: str, k: int = 500
) -> None:
    """All books as lanes of one call."""
    book = (side(buys, 0), side(buys, 1), side(sells, 0), side(sells, 1))
    floors, caps = torch.full((len(buys),), floor), torch.full((len(buys),), cap)
    bits = (cap - floor).bit_length()
    validate_book(*book, floors, caps, price_bits=bits)
    got = clear_uniform(
        *book, floors, caps, torch.tensor(start), k_permille=k, price_rule=rule, route=route, price_bits=bits
    )
    assert_clearing_invariants(*book, floors, caps, got, price_rule=rule)
    expected = [
        clear_by_rules(b, s, floor, cap, turn, k_permille=k, price_rule=rule)
        for b, s, turn in zip(buys, sells, start, strict=True)
    ]
    assert got.price.tolist() == [book.price for book in expected]
    assert got.volume_wh.tolist() == [book.volume_wh for book in expected]
    assert got.low.tolist() == [book.low for book in expected]
    assert got.high.tolist() == [book.high for book in expected]
    assert got.buy_fill_wh.t().tolist() == [book.buy_fill_wh for book in expected]
    assert got.sell_fill_wh.t().tolist() == [book.sell_fill_wh for book in expected]


def small_books(buys: int, sells: int, prices: int, energies: int) -> Iterator[tuple[Orders, Orders]]:
    orders = list(product(range(prices), range(energies)))
    for book in product(orders, repeat=buys + sells):
        yield list(book[:buys]), list(book[buys:])


# (buys, sells, prices, energies, floor, cap): limits in 0..prices-1, so that some floors and caps exclude orders.
SMALL = [
    *[
        (b, s, 4, 4, floor, cap)
        for b, s in ((0, 0), (0, 2), (2, 0), (1, 1))
        for floor, cap in ((0, 3), (1, 2), (-1, 5))
    ],
    *[(b, s, 4, 4, floor, cap) for b, s in ((1, 2), (2, 1)) for floor, cap in ((0, 3), (1, 2), (2, 2))],
    (2, 2, 4, 3, 0, 3),
    (2, 2, 4, 3, 1, 2),
    (2, 2, 3, 3, 1, 1),
    (3, 2, 2, 3, 0, 1),
    (1, 3, 3, 3, 0, 2),
]


@pytest.mark.parametrize(("buys", "sells", "prices", "energies", "floor", "cap"), SMALL)
def test_all_small_books(buys: int, sells: int, prices: int, energies: int, floor: int, cap: int) -> None:
    books = list(small_books(buys, sells, prices, energies))
    buy_side, sell_side = [book[0] for book in books], [book[1] for book in books]
    start = [index * 7 // 3 % 4 for index in range(len(books))]
    assert_equals_oracle(buy_side, sell_side, floor, cap, start, "uniform", "bisection")
    assert_equals_oracle(buy_side, sell_side, floor, cap, start[::-1], "marginal_pair", "candidates")


@pytest.mark.slow
def test_all_two_by_two_books() -> None:
    books = list(small_books(2, 2, 4, 4))
    buys, sells = [book[0] for book in books], [book[1] for book in books]
    for (floor, cap), (rule, turn) in product(((0, 3), (1, 2)), zip(RULES, (0, 1), strict=True)):
        start = [(index + turn) % 2 for index in range(len(books))]
        assert_equals_oracle(buys, sells, floor, cap, start, rule, "candidates")


@st.composite
def large_books(draw: st.DrawFn) -> tuple[Orders, Orders, int, int]:
    """Limits from a handful of prices, so that ties, excluded orders and limits at floor and cap are common."""
    floor = draw(st.integers(-MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH))
    cap = draw(
        st.one_of(st.integers(floor, min(floor + 50, MAX_PRICE_UTOK_PER_WH)), st.integers(floor, MAX_PRICE_UTOK_PER_WH))
    )
    anywhere = st.integers(-MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH)
    prices = st.sampled_from([floor, cap, *draw(st.lists(st.one_of(st.integers(floor, cap), anywhere), max_size=5))])
    energies = st.one_of(st.integers(0, 3), st.integers(0, MAX_ORDER_WH))
    orders = st.lists(st.tuples(prices, energies), max_size=12)
    return draw(orders), draw(orders), floor, cap


@settings(max_examples=300)
@given(large_books(), st.integers(0, 30), st.sampled_from(RULES), st.integers(0, 1000))
def test_large_books(book: tuple[Orders, Orders, int, int], start: int, rule: str, k: int) -> None:
    buys, sells, floor, cap = book
    for route in ROUTES:
        assert_equals_oracle([buys], [sells], floor, cap, [start], rule, route, k)


def random_book(buys: int, sells: int, lanes: int, seed: int, prices: int = 40) -> Book:
    random = partial(torch.randint, generator=torch.Generator().manual_seed(seed))
    shapes = ((buys, lanes), (sells, lanes))
    buy_price, sell_price = (random(-prices, prices, shape) for shape in shapes)
    buy_wh, sell_wh = (random(0, 3000, shape) * random(0, 4, shape).clamp(max=1) for shape in shapes)
    return buy_price, buy_wh, sell_price, sell_wh


def assert_same(one: Clearing, other: Clearing) -> None:
    for name, left, right in zip(Clearing._fields, one, other, strict=True):
        assert torch.equal(left, right), name


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("buys", "sells"), [(10, 10), (3, 17), (20, 1)])
def test_routes_agree_bit_for_bit(buys: int, sells: int, rule: str) -> None:
    lanes = 200
    book = random_book(buys, sells, lanes, seed=buys)
    floor = torch.arange(lanes) % 50 - 60
    cap = floor + torch.arange(lanes) % 64
    start = torch.arange(lanes) % 29
    clear = partial(clear_uniform, *book, floor, cap, start, price_rule=rule)
    narrow, wide, candidates = (
        clear(route="bisection", price_bits=6),
        clear(route="bisection"),
        clear(route="candidates"),
    )
    assert_same(narrow, wide)
    assert_same(narrow, candidates)
    assert_same(narrow, clear())
    assert_clearing_invariants(*book, floor, cap, narrow, price_rule=rule)
    assert int((narrow.volume_wh > 0).sum()) > lanes // 4  # the books are not all degenerate


def test_a_lane_does_not_see_the_others() -> None:
    lanes = CANDIDATES_MAX_CELLS // (12 * 13) + 1  # the batch takes the other route than the single lane
    book = random_book(6, 6, lanes, seed=1)
    floor, cap, start = torch.full((lanes,), -30), torch.full((lanes,), 30), torch.arange(lanes) % 6
    batch = clear_uniform(*book, floor, cap, start)
    for lane in (0, 5, lanes - 1):
        one = slice(lane, lane + 1)
        alone = clear_uniform(*(part[:, one] for part in book), floor[one], cap[one], int(start[lane]))
        assert_same(alone, Clearing(*(field[..., one] for field in batch)))


def test_the_largest_book() -> None:
    orders = MAX_BOOK_WH // MAX_ORDER_WH
    buys = [(MAX_PRICE_UTOK_PER_WH, MAX_ORDER_WH)] * orders
    sells = [(MAX_PRICE_UTOK_PER_WH, MAX_ORDER_WH)] * (orders - 1) + [(MAX_PRICE_UTOK_PER_WH, MAX_ORDER_WH - 1)]
    for route in ROUTES:
        limits = (-MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH)
        assert_equals_oracle([buys], [sells], *limits, [7], "marginal_pair", route)
        assert_equals_oracle([sells], [buys], *limits, [7], "uniform", route)


@pytest.mark.parametrize("limit", [-MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH - 1, MAX_PRICE_UTOK_PER_WH])
def test_default_price_bits_cover_the_whole_range(limit: int) -> None:
    book = (torch.tensor([[limit]]), torch.tensor([[2]]), torch.tensor([[-MAX_PRICE_UTOK_PER_WH]]), torch.tensor([[1]]))
    ends = torch.tensor([-MAX_PRICE_UTOK_PER_WH]), torch.tensor([MAX_PRICE_UTOK_PER_WH])
    for route in ROUTES:
        assert clear_uniform(*book, *ends, 0, route=route).price.tolist() == [limit]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor's own imports
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_equals_eager_without_graph_breaks_or_a_graph_per_period() -> None:
    torch.compiler.reset()
    lanes = 64
    book = random_book(8, 8, lanes, seed=4)
    floor, cap = torch.full((lanes,), -30), torch.full((lanes,), 30)
    clear = partial(clear_uniform, price_rule="marginal_pair", price_bits=6, route="bisection")
    graphs = CompileCounterWithBackend("inductor")
    compiled = torch.compile(clear, fullgraph=True, backend=graphs)
    for start in range(6):
        assert_same(compiled(*book, floor, cap, start), clear(*book, floor, cap, start))
    assert graphs.frame_count <= 3  # start 0, start 1, then any start


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_permille": 1001}, "k_permille = 1001: allowed are 0 .. 1000"),
        ({"k_permille": -1}, "k_permille = -1"),
        ({"price_rule": "mean"}, "price_rule = 'mean': allowed are"),
        ({"price_bits": 31}, "price_bits = 31: allowed are 0 .. 30"),
        ({"route": "sort"}, "route = 'sort': allowed are"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    book = random_book(1, 1, 1, seed=0)
    with pytest.raises(ConfigError, match=message):
        clear_uniform(*book, torch.tensor([0]), torch.tensor([1]), 0, **options)  # type: ignore[arg-type]


BAD_BOOKS: list[tuple[dict[str, Tensor], str]] = [
    ({"buy_wh": torch.tensor([[1, -2]])}, r"buy_wh\[0, 1\] = -2: allowed are 0 .. 100000000"),
    ({"sell_wh": torch.tensor([[MAX_ORDER_WH + 1, 0]])}, r"sell_wh\[0, 0\] = 100000001"),
    ({"sell_price": torch.tensor([[0, MAX_PRICE_UTOK_PER_WH + 1]])}, r"sell_price\[0, 1\] = 10000001: allowed are -1"),
    ({"floor": torch.tensor([0, -MAX_PRICE_UTOK_PER_WH - 1])}, r"floor\[1\] = -10000001"),
    ({"floor": torch.tensor([0, 6])}, r"cap - floor\[1\] = -1: allowed are 0 .. 7"),
    ({"cap": torch.tensor([8, 5])}, r"cap - floor\[0\] = 8: allowed are 0 .. 7"),
    ({"cap": torch.tensor([5])}, r"buy_price: shape \[1, 2\]; allowed is \[orders, lanes\] with 1 lanes"),
    ({"buy_wh": torch.tensor([[1, 2], [1, 2]])}, r"buy_wh: shape \[2, 2\]; allowed is that of buy_price, \[1, 2\]"),
    ({"sell_price": torch.tensor([[0.5, 1.0]])}, r"sell_price: dtype torch.float32; allowed is torch.int64"),
    ({"cap": torch.tensor([[5, 5]])}, r"cap: shape \[1, 2\]; allowed is \[lanes\]"),
]


@pytest.mark.parametrize(("change", "message"), BAD_BOOKS)
def test_bad_books_are_named(change: dict[str, Tensor], message: str) -> None:
    row, lanes = torch.tensor([[1, 2]]), torch.tensor([0, 0])
    book = {"buy_price": row, "buy_wh": row, "sell_price": row, "sell_wh": row, "floor": lanes, "cap": lanes + 5}
    validate_book(**book, price_bits=3)
    with pytest.raises(DataError, match=message):
        validate_book(**(book | change), price_bits=3)


def test_a_side_beyond_the_bound_is_named() -> None:
    price = torch.zeros(31, 1, dtype=torch.int64)
    energy = torch.full((31, 1), MAX_ORDER_WH)
    limits = torch.tensor([0])
    validate_book(price[1:], energy[1:], price[1:], energy[1:], limits, limits)
    with pytest.raises(DataError, match=r"sum of sell_wh\[0\] = 3100000000: allowed are 0 .. 3000000000"):
        validate_book(price[1:], energy[1:], price, energy, limits, limits)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("sells", [4, 6])
def test_no_host_synchronisation(route: str, rule: str, sells: int) -> None:
    with FakeTensorMode():
        buy, sell = (torch.ones(n, 8, dtype=torch.int64, device="cuda") for n in (4, sells))
        lanes = torch.ones(8, dtype=torch.int64, device="cuda")
        for start in (3, lanes):
            got = clear_uniform(buy, buy, sell, sell, lanes, lanes, start, route=route, price_rule=rule)
            assert {field.device.type for field in got} == {"cuda"}
            assert [tuple(field.shape) for field in got] == [(8,), (4, 8), (sells, 8), (8,), (8,), (8,)]
            assert {field.dtype for field in got} == {torch.int64}
