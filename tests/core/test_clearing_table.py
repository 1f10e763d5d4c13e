"""The degenerate cases of the rules, one row each: price, fills and interval written by hand."""

from __future__ import annotations

import pytest
import torch

from gridmarl.clearing.book import Clearing
from gridmarl.clearing.uniform import clear_uniform
from tests.oracles.clearing import Orders, assert_clearing_invariants, clear_by_rules

# name: (buys, sells, floor, cap, start, (price, buy fills, sell fills, low, high), price by marginal_pair)
Row = tuple[Orders, Orders, int, int, int, tuple[int, list[int], list[int], int, int], int]
TABLE: dict[str, Row] = {
    "no supply": ([(7, 5)], [], 2, 10, 0, (10, [0], [], 7, 10), 10),
    "no supply, zero quantities": ([(7, 5)], [(3, 0)], 2, 10, 0, (10, [0], [0], 7, 10), 10),
    "no demand": ([], [(7, 5)], 2, 10, 0, (2, [], [0], 2, 7), 2),
    "no demand, zero quantities": ([(9, 0)], [(7, 5)], 2, 10, 0, (2, [0], [0], 2, 7), 2),
    "both empty": ([], [], 2, 11, 0, (6, [], [], 2, 11), 6),
    "all quantities zero": ([(3, 0)], [(4, 0)], 2, 11, 0, (6, [0], [0], 2, 11), 6),
    "no crossing": ([(4, 5)], [(7, 5)], 2, 10, 0, (5, [0], [0], 4, 7), 5),
    "no crossing, zero quantities between": (
        [(4, 5), (6, 0)],
        [(7, 5), (5, 0)],
        2,
        10,
        0,
        (5, [0, 0], [0, 0], 4, 7),
        5,
    ),
    "bid partly filled": ([(8, 5)], [(3, 2)], 2, 10, 0, (8, [2], [2], 8, 8), 5),
    "offer partly filled": ([(8, 2)], [(3, 5)], 2, 10, 0, (3, [2], [2], 3, 3), 5),
    "exact equality": ([(8, 5)], [(3, 5)], 2, 10, 0, (5, [5], [5], 3, 8), 5),
    "exact equality, next bid below": ([(8, 5), (6, 1)], [(3, 5)], 2, 10, 0, (7, [5, 0], [5], 6, 8), 5),
    "exact equality, next offer below the bid": ([(8, 5)], [(3, 5), (5, 1)], 2, 10, 0, (4, [5], [5, 0], 3, 5), 5),
    "tie of bids": ([(8, 1), (8, 1), (8, 1)], [(3, 2)], 2, 10, 1, (8, [1, 0, 1], [2], 8, 8), 5),
    "tie of offers": ([(8, 2)], [(3, 1), (3, 1), (3, 1)], 2, 10, 2, (3, [2], [1, 1, 0], 3, 3), 5),
    "tie on both sides, supply short": ([(5, 4), (5, 4)], [(5, 3), (5, 0)], 2, 10, 0, (5, [1, 2], [3, 0], 5, 5), 5),
    "tie on both sides, demand short": ([(5, 3)], [(5, 2), (5, 2)], 2, 10, 1, (5, [3], [2, 1], 5, 5), 5),
    "tie on both sides, equal": ([(5, 4)], [(5, 1), (5, 3)], 2, 10, 0, (5, [4], [1, 3], 5, 5), 5),
    "tie above and at the margin": ([(9, 3), (5, 2), (5, 2)], [(1, 4)], 0, 10, 0, (5, [3, 0, 1], [4], 5, 5), 3),
    "one bid, many offers, bid short": ([(9, 4)], [(3, 2), (5, 2), (7, 2)], 2, 10, 0, (6, [4], [2, 2, 0], 5, 7), 7),
    "one bid, many offers, bid long": ([(9, 9)], [(3, 2), (5, 2), (7, 2)], 2, 10, 0, (9, [6], [2, 2, 2], 9, 9), 8),
    "one bid, many offers, inside one": ([(9, 3)], [(3, 2), (5, 2), (7, 2)], 2, 10, 0, (5, [3], [2, 1, 0], 5, 5), 7),
    "negative prices": ([(-2, 5)], [(-7, 5)], -10, -1, 0, (-5, [5], [5], -7, -2), -5),
    "negative prices, no crossing": ([(-8, 5)], [(-3, 5)], -10, -1, 0, (-6, [0], [0], -8, -3), -6),
    "negative floor, no demand": ([], [(3, 5)], -4, 6, 0, (-4, [], [0], -4, 3), -4),
    "floor equals cap": ([(5, 3), (5, 3)], [(5, 4)], 5, 5, 0, (5, [2, 2], [4], 5, 5), 5),
    "floor equals cap, limits beyond": ([(9, 3), (4, 3)], [(1, 4), (6, 4)], 5, 5, 0, (5, [3, 0], [3, 0], 5, 5), 5),
    "bid above cap, offer below floor": ([(99, 4)], [(-99, 2)], 2, 10, 0, (10, [2], [2], 10, 10), 6),
    "bid below floor never trades": ([(1, 4)], [(1, 2)], 2, 10, 0, (2, [0], [0], 2, 2), 2),
    "offer above cap never trades": ([(11, 4)], [(11, 2)], 2, 10, 0, (10, [0], [0], 10, 10), 10),
    "only excluded orders": ([(1, 4)], [(11, 2)], 2, 10, 0, (6, [0], [0], 2, 10), 6),
    "excluded demand is not no demand": ([(1, 4)], [(5, 2)], 2, 10, 0, (3, [0], [0], 2, 5), 3),
    "excluded supply is not no supply": ([(5, 4)], [(11, 2)], 2, 10, 0, (7, [0], [0], 5, 10), 7),
    "everybody at the cap": ([(10, 3)], [(10, 3)], 2, 10, 0, (10, [3], [3], 10, 10), 10),
    "everybody at the floor": ([(2, 3)], [(2, 3)], 2, 10, 0, (2, [3], [3], 2, 2), 2),
}


def column(orders: Orders, part: int) -> torch.Tensor:
    return torch.tensor([[order[part]] for order in orders], dtype=torch.int64).view(len(orders), 1)


@pytest.mark.parametrize("route", ["bisection", "candidates"])
@pytest.mark.parametrize("name", TABLE)
def test_case(name: str, route: str) -> None:
    buys, sells, floor, cap, start, (price, buy_fill, sell_fill, low, high), pair = TABLE[name]
    for rule, expected in (("uniform", price), ("marginal_pair", pair)):
        oracle = clear_by_rules(buys, sells, floor, cap, start, price_rule=rule)
        assert (oracle.price, oracle.buy_fill_wh, oracle.sell_fill_wh) == (expected, buy_fill, sell_fill)
        assert (oracle.low, oracle.high, oracle.volume_wh) == (low, high, sum(buy_fill))
        book = (column(buys, 0), column(buys, 1), column(sells, 0), column(sells, 1))
        limits = (torch.tensor([floor]), torch.tensor([cap]))
        got = clear_uniform(*book, *limits, start, price_rule=rule, route=route)
        assert_clearing_invariants(*book, *limits, got, price_rule=rule)
        assert as_lists(got) == [[expected], buy_fill, sell_fill, [sum(buy_fill)], [low], [high]]


def as_lists(clearing: Clearing) -> list[list[int]]:
    return [field.flatten().tolist() for field in clearing]
