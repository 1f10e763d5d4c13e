"""Books of the procurement tests, and the kernels' outcome beside that of the plain rules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from gridmarl.clearing.book import validate_book
from gridmarl.clearing.mcafee import operator_surplus
from gridmarl.clearing.pairwise import Trades
from gridmarl.clearing.procurement import PAYMENT_RULES
from gridmarl.clearing.registry import get_procurement
from tests.oracles.clearing import Orders
from tests.oracles.procurement import Bought, mcafee_by_rules, procure_by_rules

Book = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
KERNELS = (*PAYMENT_RULES, "mcafee")


def column(orders: Sequence[Orders], part: int) -> Tensor:
    """`[orders, lanes]` limits (0) or energies (1) of one side of many books."""
    table = [[order[part] for order in book] for book in orders]
    return torch.tensor(table, dtype=torch.int64).view(len(orders), -1).t().contiguous()


def as_book(bids: Sequence[Orders], offers: Sequence[Orders], floor: int, cap: int) -> Book:
    """Books as lanes."""
    limits = torch.full((len(bids),), floor), torch.full((len(bids),), cap)
    return column(bids, 0), column(bids, 1), column(offers, 0), column(offers, 1), *limits


def small_books(bids: int, offers: int, prices: int, energies: int) -> tuple[list[Orders], list[Orders]]:
    """All of them."""
    orders = list(product(range(prices), range(energies)))
    books = list(product(orders, repeat=bids + offers))
    return [list(book[:bids]) for book in books], [list(book[bids:]) for book in books]


def by_rules(name: str, bids: Orders, offers: Orders, floor: int, cap: int, start: int) -> Bought:
    """Outcome by the oracle of that kernel."""
    if name == "mcafee":
        return mcafee_by_rules(bids, offers, floor, cap, start)
    return procure_by_rules(bids, offers, floor, cap, start, name)


def assert_invariants(name: str, book: Book, trades: Trades) -> None:
    """Feasible, conserving energy and money, and nobody against its own limit."""
    bid_price, bid_wh, ask_price, ask_wh, floor, cap = book
    assert all(field.dtype == torch.int64 for field in trades)
    assert torch.equal(trades.buy_fill_wh.sum(0), trades.volume_wh)
    assert torch.equal(trades.sell_fill_wh.sum(0), trades.volume_wh)
    assert bool(((trades.buy_fill_wh >= 0) & (trades.buy_fill_wh <= bid_wh)).all())
    assert bool(((trades.sell_fill_wh >= 0) & (trades.sell_fill_wh <= ask_wh)).all())
    assert bool((trades.payment_utok <= trades.buy_fill_wh * torch.minimum(bid_price, cap)).all())
    assert bool((trades.income_utok >= trades.sell_fill_wh * torch.maximum(ask_price, floor)).all())
    surplus = operator_surplus(trades)
    assert bool((surplus >= 0).all())
    assert name == "mcafee" or not bool(surplus.any())


def assert_equals_oracle(
    name: str, bids: Sequence[Orders], offers: Sequence[Orders], floor: int, cap: int, start: list[int]
) -> None:
    """All books as lanes of one call."""
    book = as_book(bids, offers, floor, cap)
    validate_book(*book)
    got = get_procurement(name)(*book, torch.tensor(start))
    assert_invariants(name, book, got)
    expected = [by_rules(name, b, o, floor, cap, t) for b, o, t in zip(bids, offers, start, strict=True)]
    assert got.buy_fill_wh.t().tolist() == [each.buy_fill_wh for each in expected]
    assert got.sell_fill_wh.t().tolist() == [each.sell_fill_wh for each in expected]
    assert got.payment_utok.t().tolist() == [each.payment_utok for each in expected]
    assert got.income_utok.t().tolist() == [each.income_utok for each in expected]


def random_book(bids: int, offers: int, lanes: int, seed: int) -> Book:
    """Prices close enough for ties, limits that exclude some orders."""
    generator = torch.Generator().manual_seed(seed)

    def random(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    floor = random(-20, 5, lanes)
    return (
        random(-5, 40, bids, lanes),
        random(0, 900, bids, lanes),
        random(-20, 30, offers, lanes),
        random(0, 300, offers, lanes),
        floor,
        floor + random(0, 50, lanes),
    )
