"""Procurement and McAfee's auction against the plain rules: all small books, large ones by Hypothesis."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.clearing.mcafee import operator_surplus
from gridmarl.clearing.procurement import PAYMENT_RULES, procure, share_cost
from gridmarl.clearing.registry import get_procurement
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.errors import ConfigError
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH
from tests.core.procurement_books import (
    KERNELS,
    Book,
    assert_equals_oracle,
    assert_invariants,
    random_book,
    small_books,
)
from tests.oracles.clearing import Orders
from tests.oracles.procurement import best_welfare, welfare

# (bids, offers, prices, energies, floor, cap): limits in 0..prices-1, so that some floors and caps exclude orders.
SMALL = [
    *[(b, s, 3, 3, 0, 2) for b, s in ((0, 0), (0, 2), (2, 0), (1, 1))],
    (1, 1, 4, 4, 1, 2),
    (1, 2, 4, 4, 0, 3),
    (2, 1, 4, 3, 1, 2),
    (2, 2, 3, 3, 0, 2),
    (2, 2, 4, 2, 1, 2),
    (1, 3, 3, 3, -1, 5),
]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(("bids", "offers", "prices", "energies", "floor", "cap"), SMALL)
def test_all_small_books(name: str, bids: int, offers: int, prices: int, energies: int, floor: int, cap: int) -> None:
    bid_side, offer_side = small_books(bids, offers, prices, energies)
    turns = [index * 7 // 3 % 4 for index in range(len(bid_side))]
    assert_equals_oracle(name, bid_side, offer_side, floor, cap, turns)


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
    return (
        draw(st.lists(st.tuples(prices, energies), max_size=5)),
        draw(st.lists(st.tuples(prices, energies), max_size=12)),
        floor,
        cap,
    )


@settings(max_examples=80)
@given(large_books(), st.integers(0, 30))
@pytest.mark.parametrize("name", KERNELS)
def test_large_books(name: str, book: tuple[Orders, Orders, int, int], start: int) -> None:
    bids, offers, floor, cap = book
    assert_equals_oracle(name, [bids], [offers], floor, cap, [start])


@pytest.mark.parametrize("name", KERNELS)
def test_the_largest_books(name: str) -> None:
    """Nothing overflows at the bounds of `gridmarl.units`; one Wh short makes VCG replace across both sides."""
    most = MAX_PRICE_UTOK_PER_WH
    full = MAX_BOOK_WH // MAX_ORDER_WH
    sizes = [MAX_ORDER_WH] * (full - 1)
    high, low = ([(price, energy) for energy in [*sizes, MAX_ORDER_WH]] for price in (most, -most))
    short = [(-most, energy) for energy in [*sizes, MAX_ORDER_WH - 1]]
    mixed = [(most - (index % 2), energy) for index, energy in enumerate([*sizes, MAX_ORDER_WH])]
    cases = [(high, high), (low, low), (high, low), (low, high), (high, short), (mixed, low), (high, mixed)]
    for bids, offers in cases:
        assert_equals_oracle(name, [bids], [offers], -most, most, [7])
    few = [(most, MAX_ORDER_WH), (most, MAX_ORDER_WH - 1)]
    assert_equals_oracle(name, [few], [low], -most, most, [3])


@pytest.mark.parametrize("rule", PAYMENT_RULES)
def test_all_rules_accept_the_energy_of_merit_order(rule: str) -> None:
    """And that is the most that bids and asks are worth, by trying all numbers of Wh."""
    book = random_book(4, 9, 300, seed=2)
    trades, merit = procure(*book, 5, payment=rule), clear_uniform(*book, 5)
    assert torch.equal(trades.buy_fill_wh, merit.buy_fill_wh)
    assert torch.equal(trades.sell_fill_wh, merit.sell_fill_wh)
    for bids, offers in zip(*small_books(1, 2, 4, 3), strict=True):
        assert welfare(bids, offers, 0, 9) == best_welfare(bids, offers, least_price=0)


def test_rules_in_the_order_of_what_sellers_get() -> None:
    """The ask is the least; one price for all lies above; a seller of many Wh has VCG pay for each that it moves."""
    book = random_book(4, 9, 400, seed=3)
    income = {rule: procure(*book, 1, payment=rule).income_utok for rule in PAYMENT_RULES}
    for less, more in (("pay_as_bid", "last_accepted"), ("last_accepted", "first_rejected"), ("first_rejected", "vcg")):
        assert bool((income[less] <= income[more]).all())
        assert int((income[less] < income[more]).any(0).sum()) > 40


def test_vcg_is_the_welfare_with_a_seller_less_that_without() -> None:
    """The books without each seller, cleared as lanes of their own: another way to the same payments."""
    offers, lanes = 7, 200
    book = random_book(3, offers, lanes, seed=4)
    bid_price, bid_wh, ask_price, ask_wh, floor, cap = book
    trades = procure(*book, 0, payment="vcg")
    bid, ask = torch.minimum(bid_price, cap), torch.maximum(ask_price, floor)
    present = ~torch.eye(offers, dtype=torch.bool)

    def wide(values: torch.Tensor) -> torch.Tensor:
        return values.unsqueeze(-2).expand(*values.shape[:-1], offers, lanes).flatten(-2)

    without = (ask_wh.unsqueeze(1) * present.unsqueeze(2)).flatten(1)
    less = clear_uniform(wide(bid), wide(bid_wh), wide(ask), without, wide(floor), wide(cap), 0)
    others = (less.buy_fill_wh * wide(bid)).sum(0) - (less.sell_fill_wh * wide(ask)).sum(0)
    whole = (trades.buy_fill_wh * bid).sum(0) - (trades.sell_fill_wh * ask).sum(0)
    assert torch.equal(trades.income_utok, trades.sell_fill_wh * ask + whole - others.view(offers, lanes))
    assert int((trades.income_utok > trades.sell_fill_wh * ask).any(0).sum()) > lanes // 3


def test_capacity_limits_what_is_offered() -> None:
    book = random_book(3, 6, 100, seed=5)
    capacity = book[3] // 2 - 20
    for rule in PAYMENT_RULES:
        limited = procure(*book, 2, payment=rule, capacity_wh=capacity)
        less = (*book[:3], torch.minimum(book[3], capacity.clamp(min=0)), *book[4:])
        assert all(torch.equal(a, b) for a, b in zip(limited, procure(*less, 2, payment=rule), strict=True))
        assert bool((limited.sell_fill_wh <= capacity.clamp(min=0)).all())
    assert int((limited.sell_fill_wh > 0).sum()) > 50


def test_costs_are_shared_at_one_price_below_the_bids() -> None:
    """100 µtok over 10 Wh of each: all pay 5; a bid of 2 pays 2 and the others make up for it."""
    fill = torch.full((2, 1), 10)
    assert share_cost(torch.tensor([100]), torch.tensor([[9], [9]]), fill, 0).t().tolist() == [[50, 50]]
    assert share_cost(torch.tensor([100]), torch.tensor([[9], [2]]), fill, 0).t().tolist() == [[80, 20]]
    assert share_cost(torch.tensor([101]), torch.tensor([[9], [9]]), fill, 0).t().tolist() == [[50, 51]]
    assert share_cost(torch.tensor([101]), torch.tensor([[9], [9]]), fill, 1).t().tolist() == [[51, 50]]
    assert share_cost(torch.tensor([-30]), torch.tensor([[9], [-2]]), fill, 0).t().tolist() == [[-10, -20]]
    assert share_cost(torch.tensor([110]), torch.tensor([[9], [2]]), fill, 0).t().tolist() == [[90, 20]]


@pytest.mark.parametrize("name", KERNELS)
def test_a_lane_does_not_see_the_others_and_arguments_stay(name: str) -> None:
    clear = get_procurement(name)
    book = random_book(3, 6, 40, seed=1)
    copies = [part.clone() for part in book]
    start = torch.arange(40) % 6
    batch = clear(*book, start)
    assert_invariants(name, book, batch)
    assert all(torch.equal(part, copy) for part, copy in zip(book, copies, strict=True))
    for lane in range(0, 40, 3):
        one = slice(lane, lane + 1)
        alone = clear(*(part[..., one] for part in book), int(start[lane]))  # type: ignore[call-arg, arg-type]
        assert all(torch.equal(left, right[..., one]) for left, right in zip(alone, batch, strict=True))


def test_the_operator_keeps_what_mcafee_leaves() -> None:
    book = random_book(5, 7, 300, seed=6)
    trades = get_procurement("mcafee")(*book, 0)
    surplus = operator_surplus(trades)
    assert torch.equal(surplus, trades.payment_utok.sum(0) - trades.income_utok.sum(0))
    assert int((surplus > 0).sum()) > 40
    assert bool((trades.volume_wh <= clear_uniform(*book, 0).volume_wh).all())


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ConfigError, match=r"payment = 'dutch': allowed are \('pay_as_bid', 'last_accepted', 'first"):
        procure(*random_book(1, 1, 1, seed=0), 0, payment="dutch")


def fake_book(bids: int, offers: int) -> Book:
    bid, ask = (torch.ones(n, 8, dtype=torch.int64, device="cuda") for n in (bids, offers))
    lanes = torch.ones(8, dtype=torch.int64, device="cuda")
    return bid, bid, ask, ask, lanes, lanes


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(("bids", "offers"), [(0, 3), (2, 0), (2, 5)])
def test_no_host_synchronisation(name: str, bids: int, offers: int) -> None:
    with FakeTensorMode():
        book = fake_book(bids, offers)
        for start in (3, book[4]):
            got = get_procurement(name)(*book, start)
            assert {field.device.type for field in got} == {"cuda"}
            assert [tuple(field.shape) for field in got] == [(bids, 8), (offers, 8), (bids, 8), (offers, 8), (8,)]
            assert {field.dtype for field in got} == {torch.int64}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own imports
@pytest.mark.parametrize("name", KERNELS)
def test_one_graph_that_computes_the_same(name: str) -> None:
    """Without code generation, which takes a minute; divisions already are those of compiled code."""
    torch.compiler.reset()
    book, clear = random_book(3, 6, 200, seed=7), partial(get_procurement(name))
    graphs = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(clear, fullgraph=True, backend=graphs)
    for start in range(4):
        for got, expected in zip(compiled(*book, start), clear(*book, start), strict=True):
            assert torch.equal(got, expected)
    assert graphs.frame_count <= 3  # start 0, start 1, then any start
