"""Whom lying pays, by trying every lie in all small books: nobody under VCG, single units under some other rules."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gridmarl.clearing.pairwise import Trades
from gridmarl.clearing.procurement import procure
from gridmarl.clearing.procurement_regret import deviation_gains
from gridmarl.clearing.registry import Auction, get_procurement
from gridmarl.units import MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH
from tests.core.procurement_books import Book, as_book, random_book
from tests.oracles.clearing import Orders

PRICES, CAPACITIES = range(4), range(1, 4)
DEMANDS: list[Orders] = [
    [(3, 2)],
    [(4, 3)],
    [(9, 4)],
    [(2, 9)],
    [(5, 1), (2, 2)],
    [(3, 1), (1, 3)],
]


def every_offer(prices: range, energies: range) -> list[tuple[int, int]]:
    return list(product(prices, energies))


def gains(
    auction: Auction, demand: Orders, sellers: list[Orders], deviations: list[tuple[int, int]], limits: tuple[int, int]
) -> Tensor:
    """`[D, P, E]` what each seller of each book gains by each deviation, all offers true; never above capacity."""
    book = as_book([demand] * len(sellers), sellers, *limits)
    other = torch.tensor(deviations)
    price = other[:, 0].view(-1, 1, 1).expand(-1, *book[2].shape)
    energy = torch.minimum(other[:, 1].view(-1, 1, 1), book[3])
    start = torch.arange(len(sellers)) % 3
    return deviation_gains(auction, *book, start, cost_utok_per_wh=book[2], deviation_price=price, deviation_wh=energy)


THREE_SELLERS = [list(book) for book in product(every_offer(PRICES, CAPACITIES), repeat=3)]
LIES = every_offer(range(-1, 6), range(4))


@pytest.mark.parametrize("demand", DEMANDS)
@pytest.mark.parametrize("limits", [(-1, 9), (0, 2), (2, 9)])
def test_vcg_nobody_gains_by_price_or_by_withholding(demand: Orders, limits: tuple[int, int]) -> None:
    """All books of three sellers with costs 0..3 and 1 to 3 Wh, all other prices and all withheld quantities.

    The cap of 2 excludes the dearest, the floor of 2 lies above the cheapest costs.
    """
    gain = gains(get_procurement("vcg"), demand, THREE_SELLERS, LIES, limits)
    assert gain.shape == (len(LIES), 3, len(THREE_SELLERS))
    assert int(gain.max()) <= 0
    assert int(gain.min()) < 0


@settings(max_examples=60)
@given(st.integers(1, 10), st.integers(0, 2**31), st.sampled_from([3, 60, MAX_PRICE_UTOK_PER_WH]))
def test_vcg_nobody_gains_in_large_books(sellers: int, seed: int, dearest: int) -> None:
    """40 random books of up to ten sellers at a time, 12 lies each; prices from few, from some, and from all."""
    generator = torch.Generator().manual_seed(seed)
    lanes, lies = 40, 12

    def random(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator)

    limits = torch.full((lanes,), -dearest // 2), torch.full((lanes,), dearest)
    cost, capacity = random(-dearest, dearest, sellers, lanes), random(0, MAX_ORDER_WH, sellers, lanes)
    book = random(-dearest, dearest, 3, lanes), random(0, MAX_ORDER_WH, 3, lanes), cost, capacity, *limits
    other = random(-dearest, dearest, lies, sellers, lanes)
    withheld = capacity * random(0, 4, lies, 1, 1) // 4
    gain = deviation_gains(
        get_procurement("vcg"), *book, seed, cost_utok_per_wh=cost, deviation_price=other, deviation_wh=withheld
    )
    assert int(gain.max()) <= 0


@pytest.mark.parametrize(
    "rule", ["pay_as_bid", "last_accepted", "first_rejected", "buyers_bid", "k_double", "pairwise"]
)
def test_under_the_other_rules_somebody_does(rule: str) -> None:
    gain = gains(get_procurement(rule), [(4, 3)], THREE_SELLERS, LIES, (-1, 9))
    assert int(gain.max()) > 0


@pytest.mark.parametrize("rule", ["first_rejected", "buyers_bid", "vcg", "mcafee"])
@pytest.mark.parametrize("demand", DEMANDS)
def test_with_one_unit_each_these_are_truthful_too(rule: str, demand: Orders) -> None:
    units = [list(book) for book in product(every_offer(PRICES, range(1, 2)), repeat=3)]
    gain = gains(get_procurement(rule), demand, units, LIES, (-1, 9))
    assert int(gain.max()) <= 0


def test_overstating_pays_under_vcg_unless_capacity_is_enforced() -> None:
    """A seller of 1 Wh that claims 3 is paid for 3; `capacity_wh` counts one."""
    book = as_book([[(9, 3)]], [[(1, 1), (5, 3)]], 0, 9)
    lie = (book[2].unsqueeze(0), torch.tensor([[[3], [3]]]))

    def enforced(*arguments: Tensor) -> Trades:
        return procure(*arguments, payment="vcg", capacity_wh=torch.tensor([[1], [3]]).expand_as(arguments[3]))

    def gain(auction: Auction) -> list[int]:
        found = deviation_gains(
            auction, *book, 0, cost_utok_per_wh=book[2], deviation_price=lie[0], deviation_wh=lie[1]
        )
        return found[0, :, 0].tolist()  # type: ignore[no-any-return]

    assert gain(get_procurement("vcg")) == [8, 0]
    assert gain(enforced) == [0, 0]


# --- both sides of a double auction


def mirrored(auction: Auction) -> Auction:
    """Buyers as sellers: what they pay is negated, the auction that runs is the same."""

    def seen_from_the_other_side(
        buy_price: Tensor,
        buy_wh: Tensor,
        sell_price: Tensor,
        sell_wh: Tensor,
        floor: Tensor,
        cap: Tensor,
        start: int | Tensor,
        /,
    ) -> Trades:
        trades = auction(-sell_price, sell_wh, -buy_price, buy_wh, -cap, -floor, start)
        return Trades(
            trades.sell_fill_wh, trades.buy_fill_wh, -trades.income_utok, -trades.payment_utok, trades.volume_wh
        )

    return seen_from_the_other_side


def gains_of_both_sides(
    name: str, bids: list[Orders], offers: list[Orders], lies: range, limits: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """`[D, B, E]` of the buyers, `[D, S, E]` of the sellers, by all other prices."""
    auction = get_procurement(name)
    buy_price, buy_wh, sell_price, sell_wh, floor, cap = as_book(bids, offers, *limits)
    start = torch.arange(len(bids)) % 3
    other = torch.tensor(list(lies)).view(-1, 1, 1)

    def gain(kind: Auction, book: Book, sign: int) -> Tensor:
        price, energy = (sign * other).expand(-1, *book[2].shape), book[3].expand(len(lies), *book[3].shape)
        return deviation_gains(kind, *book, start, cost_utok_per_wh=book[2], deviation_price=price, deviation_wh=energy)

    of_buyers = gain(mirrored(auction), (-sell_price, sell_wh, -buy_price, buy_wh, -cap, -floor), -1)
    return of_buyers, gain(auction, (buy_price, buy_wh, sell_price, sell_wh, floor, cap), 1)


def all_books(bids: list[Orders], offers: list[Orders]) -> tuple[list[Orders], list[Orders]]:
    pairs = list(product(bids, offers))
    return [bid for bid, _ in pairs], [offer for _, offer in pairs]


def sides(orders: int, prices: range, energies: range) -> list[Orders]:
    return [list(side) for side in product(every_offer(prices, energies), repeat=orders)]


def test_mcafee_is_truthful_for_units_and_leaves_a_surplus() -> None:
    """All books of three buyers and three sellers of 1 Wh at prices 0..4, all lies of both sides."""
    one = sides(3, range(5), range(1, 2))
    bids, offers = all_books(one, one)
    of_buyers, of_sellers = gains_of_both_sides("mcafee", bids, offers, range(-1, 7), (0, 5))
    assert int(of_buyers.max()) <= 0
    assert int(of_sellers.max()) <= 0
    trades = get_procurement("mcafee")(*as_book(bids, offers, 0, 5), 0)
    surplus = trades.payment_utok.sum(0) - trades.income_utok.sum(0)
    assert int(surplus.min()) == 0
    assert int(surplus.max()) > 0


def test_mcafee_of_many_units_is_truthful_in_price() -> None:
    """Two buyers and two sellers of 1 or 2 Wh, a third offer of 1 Wh; the cap excludes the dearest."""
    two = sides(2, range(4), range(1, 3))
    offers = [[*side, (third, 1)] for side in two for third in (1, 3)]
    of_buyers, of_sellers = gains_of_both_sides("mcafee", *all_books(two, offers), range(-1, 6), (0, 3))
    assert int(of_buyers.max()) <= 0
    assert int(of_sellers.max()) <= 0


@pytest.mark.parametrize(
    ("name", "truthful"), [("buyers_bid", "sellers"), ("sellers_offer", "buyers"), ("k_double", "")]
)
def test_k_double_is_truthful_for_the_side_that_cannot_move_the_price(name: str, truthful: str) -> None:
    one = sides(2, range(5), range(1, 2))
    of_buyers, of_sellers = gains_of_both_sides(name, *all_books(one, one), range(-1, 7), (0, 5))
    assert (int(of_buyers.max()) <= 0) == (truthful == "buyers")
    assert (int(of_sellers.max()) <= 0) == (truthful == "sellers")


# --- the search itself


@pytest.mark.parametrize("name", ["pay_as_bid", "vcg", "mcafee"])
def test_gains_are_those_of_the_books_with_one_offer_replaced(name: str) -> None:
    """One book at a time, cleared twice."""
    auction, lanes, sellers = get_procurement(name), 8, 3
    book = random_book(2, sellers, lanes, seed=8)
    generator = torch.Generator().manual_seed(9)
    price = torch.randint(-20, 30, (4, sellers, lanes), generator=generator)
    energy = torch.randint(0, 300, (4, sellers, lanes), generator=generator)
    start = torch.arange(lanes) % sellers
    cost = book[2] - 3
    got = deviation_gains(auction, *book, start, cost_utok_per_wh=cost, deviation_price=price, deviation_wh=energy)
    before = auction(*book, start)
    for deviation, seller, lane in product(range(4), range(sellers), range(lanes)):
        ask, offered = book[2].clone(), book[3].clone()
        ask[seller, lane], offered[seller, lane] = price[deviation, seller, lane], energy[deviation, seller, lane]
        after = auction(*book[:2], ask, offered, *book[4:], start)
        profits = [
            int(trades.income_utok[seller, lane] - trades.sell_fill_wh[seller, lane] * cost[seller, lane])
            for trades in (after, before)
        ]
        assert int(got[deviation, seller, lane]) == profits[0] - profits[1]
    whole = deviation_gains(auction, *book, 2, cost_utok_per_wh=cost, deviation_price=price, deviation_wh=energy)
    two = torch.full((lanes,), 2)
    same = deviation_gains(auction, *book, two, cost_utok_per_wh=cost, deviation_price=price, deviation_wh=energy)
    assert torch.equal(whole, same)
