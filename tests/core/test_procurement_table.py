"""The tables of degenerate cases in the docstrings of `procurement` and `mcafee`, row by row; worked out by hand."""

from __future__ import annotations

import pytest

from gridmarl.clearing.mcafee import clear_mcafee
from gridmarl.clearing.procurement import PAYMENT_RULES, procure
from tests.core.procurement_books import as_book
from tests.oracles.clearing import Orders

# (case, bids, offers, start, fills of bids, fills of offers, incomes by rule in the order of PAYMENT_RULES); 0..9.
Incomes = tuple[list[int], list[int], list[int], list[int]]
PROCURED: list[tuple[str, Orders, Orders, int, list[int], list[int], Incomes]] = [
    ("no bids", [], [(1, 5)], 0, [], [0], ([0], [0], [0], [0])),
    ("no offers", [(8, 5)], [], 0, [0], [], ([], [], [], [])),
    ("zero quantities only", [(8, 0)], [(1, 0)], 0, [0], [0], ([0], [0], [0], [0])),
    ("every ask above every bid", [(3, 5)], [(4, 5)], 0, [0], [0], ([0], [0], [0], [0])),
    ("ask equal to bid", [(4, 5)], [(4, 3)], 0, [3], [3], ([12], [12], [12], [12])),
    (
        "covered, next ask rejected",
        [(8, 5)],
        [(2, 3), (3, 2), (6, 4)],
        0,
        [5],
        [3, 2, 0],
        ([6, 6, 0], [9, 6, 0], [18, 12, 0], [18, 12, 0]),
    ),
    (
        "vcg replaces by dearer and dearer",
        [(8, 5)],
        [(2, 5), (3, 2), (6, 2)],
        0,
        [5],
        [5, 0, 0],
        ([10, 0, 0], [10, 0, 0], [15, 0, 0], [26, 0, 0]),
    ),  # 2 at 3, 2 at 6, 1 goes without at 8
    ("offers short of the bids", [(8, 9)], [(2, 3), (3, 2)], 0, [5], [3, 2], ([6, 6], [9, 6], [24, 16], [24, 16])),
    (
        "two bids, the lower goes without",
        [(8, 3), (5, 2)],
        [(2, 3), (3, 1)],
        0,
        [3, 1],
        [3, 1],
        ([6, 3], [9, 3], [15, 5], [21, 5]),
    ),  # without the first: 1 at 5 and 2 at 8 go without
    ("tie of asks", [(8, 4)], [(3, 3), (3, 3)], 0, [4], [2, 2], ([6, 6], [6, 6], [6, 6], [11, 11])),
    ("tie of asks, odd, from 0", [(8, 3)], [(3, 3), (3, 3)], 0, [3], [1, 2], ([3, 6], [3, 6], [3, 6], [3, 6])),
    ("tie of asks, odd, from 1", [(8, 3)], [(3, 3), (3, 3)], 1, [3], [2, 1], ([6, 3], [6, 3], [6, 3], [6, 3])),
    ("tie of bids", [(8, 3), (8, 3)], [(3, 3)], 0, [1, 2], [3], ([9], [9], [24], [24])),
    (
        "partially accepted offer",
        [(8, 4)],
        [(1, 3), (5, 3)],
        0,
        [4],
        [3, 1],
        ([3, 5], [15, 5], [15, 5], [18, 8]),
    ),  # VCG: 2 at 5 and 1 at 8; 1 at 8
    ("bid above cap, ask below floor", [(99, 2)], [(-7, 1)], 0, [1], [1], ([0], [0], [9], [9])),
    ("bid below floor", [(-1, 2)], [(-7, 1)], 0, [0], [0], ([0], [0], [0], [0])),
    ("ask above cap", [(99, 2)], [(10, 1)], 0, [0], [0], ([0], [0], [0], [0])),
]


@pytest.mark.parametrize("row", PROCURED, ids=[row[0] for row in PROCURED])
def test_procured(row: tuple[str, Orders, Orders, int, list[int], list[int], Incomes]) -> None:
    _, bids, offers, start, bought, sold, incomes = row
    for rule, income in zip(PAYMENT_RULES, incomes, strict=True):
        got = procure(*as_book([bids], [offers], 0, 9), start, payment=rule)
        assert [got.buy_fill_wh[:, 0].tolist(), got.sell_fill_wh[:, 0].tolist()] == [bought, sold], rule
        assert got.income_utok[:, 0].tolist() == income, rule
        assert int(got.payment_utok.sum()) == sum(income), rule


def test_negative_prices() -> None:
    """Prosumers pay 3 and 1 µtok/Wh to be rid of energy; the aggregator earns what they pay."""
    book = as_book([[(2, 4)]], [[(-3, 2), (-1, 2)]], -5, 5)
    found = {rule: procure(*book, 0, payment=rule) for rule in PAYMENT_RULES}
    assert {rule: got.income_utok[:, 0].tolist() for rule, got in found.items()} == {
        "pay_as_bid": [-6, -2],
        "last_accepted": [-2, -2],
        "first_rejected": [4, 4],
        "vcg": [4, 4],
    }
    assert [int(got.payment_utok) for got in found.values()] == [-8, -4, 8, 8]


# (case, bids, offers, start, fills of bids, fills of offers, payments, incomes); floor 0, cap 9.
MCAFEE: list[tuple[str, Orders, Orders, int, list[int], list[int], list[int], list[int]]] = [
    ("no bids", [], [(1, 5)], 0, [], [0], [], [0]),
    ("no offers", [(8, 5)], [], 0, [0], [], [0], []),
    ("zero quantities only", [(8, 0)], [(1, 0)], 0, [0], [0], [0], [0]),
    ("best bid below best offer", [(3, 5)], [(4, 5)], 0, [0], [0], [0], [0]),
    ("a pair that differs in quantity", [(8, 5)], [(1, 4)], 0, [0], [0], [0], [0]),
    ("a pair of the same quantity", [(8, 5)], [(1, 5)], 0, [5], [5], [20], [20]),  # (0 + 9) // 2
    ("a pair, mean not between", [(3, 5)], [(1, 5)], 0, [0], [0], [0], [0]),
    ("mean of the next pair", [(8, 1), (3, 1)], [(2, 1), (6, 1)], 0, [1, 0], [1, 0], [4, 0], [4, 0]),
    ("margin reduced, surplus 2", [(8, 1), (5, 1)], [(1, 1), (3, 1), (9, 1)], 0, [1, 1], [1, 1, 0], [4, 4], [4, 4, 0]),
    (
        "mean above bid K",
        [(8, 1), (4, 1), (3, 1)],
        [(1, 1), (2, 1), (9, 1)],
        0,
        [1, 0, 0],
        [1, 0, 0],
        [4, 0, 0],
        [2, 0, 0],
    ),
    ("buyers rationed", [(9, 4), (8, 4), (6, 3)], [(1, 3), (2, 9)], 0, [1, 2, 0], [3, 0], [6, 12, 0], [6, 0]),
    ("sellers rationed", [(9, 3), (6, 9)], [(1, 4), (2, 4), (3, 3)], 1, [3, 0], [2, 1, 0], [18, 0], [6, 3, 0]),
    ("tie at the margin, index 1 first", [(6, 2), (6, 2)], [(1, 2), (2, 1)], 1, [0, 2], [2, 0], [0, 12], [4, 0]),
    ("zero quantity among others", [(9, 0), (8, 5)], [(0, 0), (1, 5)], 0, [0, 5], [0, 5], [0, 20], [0, 20]),
    ("bid above cap, offer below floor", [(99, 5)], [(-9, 5)], 0, [5], [5], [20], [20]),
    ("bid below floor, offer above cap", [(8, 5), (-3, 5)], [(1, 5), (12, 5)], 0, [5, 0], [5, 0], [20, 0], [20, 0]),
]


@pytest.mark.parametrize("row", MCAFEE, ids=[row[0] for row in MCAFEE])
def test_mcafee(row: tuple[str, Orders, Orders, int, list[int], list[int], list[int], list[int]]) -> None:
    _, bids, offers, start, *expected = row
    got = clear_mcafee(*as_book([bids], [offers], 0, 9), start)
    assert [field[:, 0].tolist() for field in got[:4]] == expected
