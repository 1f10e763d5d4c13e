"""Charging quotas against eqs. (1) and (2) in exact fractions; auctions by name."""

from __future__ import annotations

import shutil
from itertools import product
from math import ceil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.clearing.pairwise import clear_pairwise
from gridmarl.clearing.quota import allocate, energy_in_period, trades_at_one_price, validate_demand
from gridmarl.clearing.registry import auction_names, get_auction, mechanism_names, register_mechanism
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.errors import ConfigError, DataError
from gridmarl.testing.mechanism import random_books
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH
from tests.oracles.quota import exact_quotas, satisfaction_rate, whole_quotas


def assert_equals_oracle(cases: list[tuple[list[int], int, int]]) -> None:
    """Cases of (demands, margin, start) as lanes of one call."""
    demand = torch.tensor([demands for demands, _, _ in cases]).t().contiguous()
    margin, start = torch.tensor([case[1] for case in cases]), torch.tensor([case[2] for case in cases])
    validate_demand(demand, margin)
    got = allocate(demand, margin, start)
    assert got.quota.t().tolist() == [whole_quotas(list(d), max(m, 0), s) for d, m, s in cases]
    assert torch.equal(got.quota.sum(0), got.granted)
    assert bool(((got.quota >= 0) & (got.quota <= demand)).all())
    assert bool((got.granted <= margin.clamp(min=0)).all())
    for lane, (demands, limit, _) in enumerate(cases):
        rate = satisfaction_rate(demands, max(limit, 0))
        assert int(got.granted[lane]) == rate * sum(demands)
        assert bool(got.scarce[lane]) == (rate < 1)
        exact = exact_quotas(demands, max(limit, 0))
        assert all(abs(int(q) - share) < 1 for q, share in zip(got.quota[:, lane], exact, strict=True))


@pytest.mark.parametrize("stations", [1, 2, 3])
def test_all_small_cases(stations: int) -> None:
    sizes = 5 if stations < 3 else 4
    assert_equals_oracle(
        [
            (list(demands), margin, start)
            for demands in product(range(sizes), repeat=stations)
            for margin in range(-2, sum(demands) + 2)
            for start in range(stations)
        ]
    )


@given(st.lists(st.integers(0, MAX_ORDER_WH), min_size=1, max_size=30), st.integers(0, 100), st.data())
def test_large_cases(demands: list[int], start: int, data: st.DataObject) -> None:
    near = st.integers(-1, 1).map(lambda step: sum(demands) + step)
    margin = data.draw(st.one_of(near, st.integers(-10, MAX_BOOK_WH)))
    assert_equals_oracle([(demands, min(margin, MAX_BOOK_WH), start)])


def test_rounding_to_nearest_would_exceed_the_margin() -> None:
    """Why cumulative floors: three equal stations with 5 units between them would get 2 each."""
    quota = allocate(torch.tensor([[2], [2], [2]]), torch.tensor([5]), 0).quota
    assert quota[:, 0].tolist() == [1, 2, 2]
    assert sum(round(share) for share in exact_quotas([2, 2, 2], 5)) == 6
    assert [allocate(torch.full((3, 1), 2), torch.tensor([5]), start).quota[:, 0].tolist() for start in (1, 2)] == [
        [2, 1, 2],
        [2, 2, 1],
    ]


def test_energy_of_a_power_rounds_down() -> None:
    power = torch.tensor([0, 1, 2, 3, 323_000, -1])
    assert energy_in_period(power, 30).tolist() == [0, 0, 1, 1, 161_500, -1]
    assert energy_in_period(power, 60).tolist() == power.tolist()
    parts = torch.tensor([1_001, 999, 7])
    assert int(energy_in_period(parts, 15).sum()) <= int(energy_in_period(parts.sum(), 15)) <= ceil(2_007 / 4)


ROW, LANES = torch.tensor([[1, 2]]), torch.tensor([3, 3])
BAD: list[tuple[Tensor, Tensor, str]] = [
    (torch.tensor([[1, -2]]), LANES, r"demand\[0, 1\] = -2: allowed are 0 .. 100000000"),
    (torch.tensor([[MAX_ORDER_WH + 1, 0]]), LANES, r"demand\[0, 0\] = 100000001"),
    (torch.full((31, 2), MAX_ORDER_WH), LANES, r"sum of demand\[0\] = 3100000000: allowed are 0 .. 3000000000"),
    (ROW, torch.tensor([3, MAX_BOOK_WH + 1]), r"margin\[1\] = 3000000001: allowed are -3000000000 .. 3000000000"),
    (ROW.to(torch.float32), LANES, r"demand: dtype torch.float32; allowed is torch.int64"),
    (ROW, LANES.to(torch.int32), r"margin: dtype torch.int32; allowed is torch.int64"),
    (
        ROW,
        torch.tensor([3]),
        r"demand: shape \[1, 2\]; allowed is \[stations, lanes\] with a station or more and",
    ),
    (torch.zeros(0, 2, dtype=torch.int64), LANES, r"demand: shape \[0, 2\]; allowed is"),
    (ROW, ROW, r"margin: shape \[1, 2\]; allowed is \[lanes\]"),
]


@pytest.mark.parametrize(("demand", "margin", "message"), BAD)
def test_bad_demands_are_named(demand: Tensor, margin: Tensor, message: str) -> None:
    validate_demand(ROW, LANES)
    with pytest.raises(DataError, match=message):
        validate_demand(demand, margin)


def test_no_host_synchronisation() -> None:
    with FakeTensorMode():
        lanes = torch.ones(8, dtype=torch.int64, device="cuda")
        for start in (3, lanes):
            got = allocate(lanes.expand(4, 8), lanes, start)
            assert {field.device.type for field in got} == {"cuda"}
            assert [tuple(field.shape) for field in got] == [(4, 8), (8,), (8,), (8,)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor's own imports
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_equals_eager() -> None:
    torch.compiler.reset()
    generator = torch.Generator().manual_seed(2)
    demand = torch.randint(0, 90_000, (8, 64), generator=generator)
    margin = torch.randint(-1_000, 500_000, (64,), generator=generator)
    compiled = torch.compile(allocate, fullgraph=True)
    for start in (0, 5):
        for got, expected in zip(compiled(demand, margin, start), allocate(demand, margin, start), strict=True):
            assert torch.equal(got, expected)


# --- auctions by name


def test_every_mechanism_is_an_auction_and_pairwise_is_no_mechanism() -> None:
    assert auction_names() == sorted({"pairwise", *mechanism_names()})
    assert "pairwise" not in mechanism_names()  # it has not one price, and a market of one price must not find it
    assert get_auction("pairwise") is clear_pairwise
    with pytest.raises(ConfigError, match=r"auction 'dutch': there is none; there are \['marginal_pair', 'pairwise'"):
        get_auction("dutch")
    with pytest.raises(ConfigError, match="mechanism 'pairwise': the name is in use"):
        register_mechanism("pairwise", clear_uniform)


@pytest.mark.parametrize("name", auction_names())
def test_every_auction_conserves_energy_and_money(name: str) -> None:
    book = random_books(6, 300, seed=5)
    trades = get_auction(name)(*book, 2)
    assert torch.equal(trades.buy_fill_wh.sum(0), trades.volume_wh)
    assert torch.equal(trades.sell_fill_wh.sum(0), trades.volume_wh)
    assert torch.equal(trades.payment_utok.sum(0), trades.income_utok.sum(0))
    assert bool((trades.payment_utok <= trades.buy_fill_wh * book[0]).all())
    assert bool((trades.income_utok >= trades.sell_fill_wh * book[2]).all())
    assert int((trades.volume_wh > 0).sum()) > 50


def test_one_price_is_paid_by_all() -> None:
    book = random_books(4, 50, seed=1)
    clearing = clear_uniform(*book, 0, price_rule="marginal_pair")
    trades = get_auction("marginal_pair")(*book, 0)
    assert all(torch.equal(a, b) for a, b in zip(trades, trades_at_one_price(clearing), strict=True))
    assert torch.equal(trades.payment_utok, clearing.price * clearing.buy_fill_wh)
    assert torch.equal(trades.income_utok, clearing.price * clearing.sell_fill_wh)
