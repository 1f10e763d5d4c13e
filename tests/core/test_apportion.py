"""Pro-rata parts: exhaustively against exact fractions, and the sizes up to which products fit."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.clearing.apportion import apportion
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH
from tests.oracles.clearing import shares


@pytest.mark.parametrize("orders", [1, 2, 3, 4])
def test_all_small_cases_equal_exact_fractions(orders: int) -> None:
    cases = [
        (total, weights, start)
        for weights in product(range(4 if orders < 4 else 3), repeat=orders)
        for total in range(sum(weights) + 1)
        for start in range(orders)
    ]
    total = torch.tensor([case[0] for case in cases])
    weights = torch.tensor([case[1] for case in cases]).t()
    start = torch.tensor([case[2] for case in cases])
    parts = apportion(total, weights, start)
    assert parts.t().tolist() == [shares(t, list(w), s) for t, w, s in cases]
    assert torch.equal(parts.sum(0), total)
    assert bool(((parts >= 0) & (parts <= weights)).all())
    for turn in range(orders):
        lanes = start == turn
        assert torch.equal(apportion(total, weights, turn)[:, lanes], parts[:, lanes])
        assert torch.equal(apportion(total, weights, turn + 5 * orders)[:, lanes], parts[:, lanes])


@given(st.lists(st.integers(0, MAX_ORDER_WH), min_size=1, max_size=30), st.data())
def test_large_weights_equal_exact_fractions(weights: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(weights)))
    start = data.draw(st.integers(0, 100))
    parts = apportion(torch.tensor([total]), torch.tensor(weights).unsqueeze(1), start)
    assert parts[:, 0].tolist() == shares(total, weights, start)


def test_the_largest_book_does_not_overflow() -> None:
    weights = [MAX_ORDER_WH] * (MAX_BOOK_WH // MAX_ORDER_WH)
    for total in (MAX_BOOK_WH, MAX_BOOK_WH - 1):
        parts = apportion(torch.tensor([total]), torch.tensor(weights).unsqueeze(1), len(weights) - 1)
        assert parts[:, 0].tolist() == shares(total, weights, len(weights) - 1)


def test_no_weight_gives_zeros_and_rotation_moves_the_odd_unit() -> None:
    weights = torch.tensor([[0, 1], [0, 1], [0, 1]])
    total = torch.tensor([0, 1])
    got = [apportion(total, weights, start).tolist() for start in range(3)]
    assert all(parts[i][0] == 0 for parts in got for i in range(3))
    assert [[row[1] for row in parts] for parts in got] == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_no_host_synchronisation() -> None:
    with FakeTensorMode():
        lanes = torch.ones(8, dtype=torch.int64, device="cuda")
        for start in (3, lanes):
            assert apportion(lanes, lanes.expand(4, 8), start).device.type == "cuda"
