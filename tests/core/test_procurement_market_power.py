"""Measures of market power against exact fractions, and against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.clearing.market_power import (
    herfindahl_hirschman_index,
    lerner_index,
    market_lerner_index,
    residual_supply_index,
)
from gridmarl.clearing.procurement import procure
from gridmarl.units import MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH
from tests.core.procurement_books import random_book
from tests.oracles.procurement import hhi, lerner, residual_supply

NAN = math.nan


def column(*values: int) -> Tensor:
    return torch.tensor(values).unsqueeze(1)


def assert_close(got: Tensor, expected: list[float]) -> None:
    """Within a few roundings of float64."""
    assert got.dtype == torch.float64
    assert got.flatten().tolist() == pytest.approx(expected, rel=1e-14, abs=1e-14, nan_ok=True)


def test_by_hand() -> None:
    assert_close(herfindahl_hirschman_index(column(7)), [10_000])
    assert_close(herfindahl_hirschman_index(column(3, 3, 3, 3)), [2_500])
    assert_close(herfindahl_hirschman_index(column(50, 30, 20)), [3_800])
    assert_close(herfindahl_hirschman_index(column(0, 0)), [NAN])
    assert_close(lerner_index(column(50, 40, 0), column(10, 10, 0), column(4, 4, 4)), [0.2, 0.0, NAN])
    assert_close(lerner_index(column(-50), column(10), column(-6)), [NAN])  # paid to be rid of it: no price to mark up
    assert_close(market_lerner_index(column(50, 40, 0), column(10, 10, 0), column(4, 4, 4)), [10 / 90])
    assert_close(residual_supply_index(column(60, 30, 20), torch.tensor([50])), [1.0, 1.6, 1.8])
    assert_close(residual_supply_index(column(60, 30, 20), torch.tensor([51])), [50 / 51, 80 / 51, 90 / 51])  # pivotal
    assert_close(residual_supply_index(column(60, 30), torch.tensor([0])), [NAN, NAN])


sellers = st.lists(
    st.tuples(
        st.integers(0, MAX_ORDER_WH),
        st.integers(-MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH),
        st.integers(0, MAX_PRICE_UTOK_PER_WH),
    ),
    min_size=1,
    max_size=30,
)


@given(sellers, st.integers(0, MAX_ORDER_WH))
def test_against_fractions(book: list[tuple[int, int, int]], demand: int) -> None:
    sold, cost = [q for q, _, _ in book], [c for _, c, _ in book]
    income = [q * (c + mark_up) for q, c, mark_up in book]
    assert_close(herfindahl_hirschman_index(column(*sold)), [hhi(sold)])
    each = [lerner(*seller) for seller in zip(income, sold, cost, strict=True)]
    assert_close(lerner_index(column(*income), column(*sold), column(*cost)), each)
    residual = [residual_supply(sold, demand, seller) for seller in range(len(sold))]
    assert_close(residual_supply_index(column(*sold), torch.tensor([demand])), residual)
    spent = sum(q * c for q, c in zip(sold, cost, strict=True))
    whole = (sum(income) - spent) / sum(income) if sum(income) > 0 else NAN
    assert_close(market_lerner_index(column(*income), column(*sold), column(*cost)), [whole])


def test_of_cleared_lanes() -> None:
    """Every lane by itself; truthful sellers under pay-as-bid mark nothing up, under VCG they do."""
    book = random_book(2, 5, 60, seed=2)
    floor, ask = book[4], torch.maximum(book[2], book[4])
    index = {}
    for rule in ("pay_as_bid", "vcg"):
        trades = procure(*book, 0, payment=rule)
        index[rule] = lerner_index(trades.income_utok, trades.sell_fill_wh, ask).nan_to_num()
        concentration = herfindahl_hirschman_index(trades.sell_fill_wh)
        residual = residual_supply_index(book[3], book[1].sum(0))
        for lane in range(60):
            assert_close(concentration[lane : lane + 1], [hhi(trades.sell_fill_wh[:, lane].tolist())])
            capacity, demand = book[3][:, lane].tolist(), int(book[1][:, lane].sum())
            assert_close(residual[:, lane], [residual_supply(capacity, demand, seller) for seller in range(5)])
    assert floor.shape == (60,)
    assert not bool(index["pay_as_bid"].any())
    assert bool((index["vcg"] >= 0).all())
    assert int((index["vcg"] > 0).sum()) > 40


def test_no_host_synchronisation() -> None:
    with FakeTensorMode():
        table = torch.ones(4, 8, dtype=torch.int64, device="cuda")
        found = [
            herfindahl_hirschman_index(table),
            lerner_index(table, table, table),
            market_lerner_index(table, table, table),
            residual_supply_index(table, table.sum(0)),
        ]
        assert [tuple(each.shape) for each in found] == [(8,), (4, 8), (8,), (4, 8)]
        assert {each.device.type for each in found} == {"cuda"}
