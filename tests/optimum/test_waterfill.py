"""Closed forms against the quadratic program and against trying every quantity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.optimum import plan
from gridmarl.optimum.waterfill import first_best_hour, outside_option
from tests.optimum.instances import FIELDS, home, random_problem

PRICES = ("import_price_utok_per_wh", "export_price_utok_per_wh")


def tensors(problem) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """Arguments of both functions; the hours of the problem are the lanes."""
    return [torch.tensor(np.asarray(getattr(problem, name))) for name in (*FIELDS, *PRICES)]


@pytest.mark.parametrize("low_price", [2_000, -9_000])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_quadratic_program(seed: int, low_price: int) -> None:
    problem = random_problem(seed, 6, 24, low_price=low_price)
    result, hours = plan(problem), first_best_hour(*tensors(problem))
    assert float(hours.welfare_utok.sum()) == pytest.approx(result.welfare_utok, rel=1e-10)
    assert hours.consumption_wh.numpy() == pytest.approx(result.consumption_wh, rel=1e-5, abs=1e-3)
    assert hours.price_utok_per_wh.numpy() == pytest.approx(result.dual_price_utok_per_wh, rel=1e-5)
    assert hours.import_wh.numpy() == pytest.approx(result.import_wh, rel=1e-6, abs=1e-3)
    assert hours.export_wh.numpy() == pytest.approx(result.export_wh, rel=1e-6, abs=1e-3)


def test_interior_hours_are_among_those_compared() -> None:
    inside = 0
    for seed in range(4):
        problem = random_problem(seed, 6, 24)
        price = first_best_hour(*tensors(problem)).price_utok_per_wh.numpy()
        imp, exp = (problem.array(name) for name in PRICES)
        inside += int(((price > exp) & (price < imp)).sum())
    assert inside >= 5


def test_each_hour_by_hand() -> None:
    problem = home(4, generation_wh=[[500, 2_500, 6_000, 0]], d_max_wh=[[5_000, 5_000, 5_000, 0]])
    hours = first_best_hour(*tensors(problem))
    assert hours.welfare_utok.tolist() == pytest.approx([25_000_000, 43_750_000, 57_800_000, 0])
    assert hours.price_utok_per_wh.tolist()[:3] == pytest.approx([10_000, 5_000, 4_000])
    assert hours.consumption_wh.tolist()[0] == pytest.approx([2_000, 2_500, 2_600, 0])


def test_price_is_the_least_where_demand_does_not_move() -> None:
    hour = first_best_hour(*tensors(home(1, d_min_wh=700, d_max_wh=700, generation_wh=700)))
    assert (hour.price_utok_per_wh.item(), hour.import_wh.item(), hour.export_wh.item()) == (4_000, 0, 0)


def test_kinks_between_whole_prices() -> None:
    # The second home saturates at 29.699 µtok/Wh: between 29 and 30 demand is no straight line.
    beta, gamma = torch.tensor([[30], [30]]), torch.tensor([[7], [1]])
    bounds = torch.tensor([[0], [0]]), torch.tensor([[5_000], [301]])
    hour = first_best_hour(beta, gamma, *bounds, torch.tensor([[400], [0]]), torch.tensor([40]), torch.tensor([0]))
    # At p = 30 - q: q*1000/7 + min(q*1000, 301) = 400 at q = 0.693: the second takes its 301, the first 99.
    assert hour.consumption_wh.ravel().tolist() == pytest.approx([99, 301])
    assert hour.price_utok_per_wh.item() == pytest.approx(30 - 0.693)


def test_no_market_is_each_prosumer_pooled_with_nobody() -> None:
    problem = random_problem(2, 5, 12)
    consumption, surplus = outside_option(*tensors(problem))
    alone = plan(problem, pooled=False)
    assert consumption.numpy() == pytest.approx(alone.consumption_wh, abs=0.5 + 1e-3)
    # Rounding to whole Wh costs at most gamma/2 * (1/2 Wh)² each, and whole µtok give at most 1 back.
    lost = alone.welfare_utok - int(surplus.sum())
    assert -consumption.numel() <= lost <= float((problem.array("gamma_ntok_per_wh2") / 8_000).sum()) + 1


def test_outside_option_is_the_best_whole_quantity() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        low = int(rng.integers(0, 20))
        high = low + int(rng.integers(0, 60))
        exp = int(rng.integers(-300, 300))
        imp = exp + int(rng.integers(0, 200))
        beta, gamma, g = int(rng.integers(-100, 1_000)), int(rng.integers(1, 40_000)), int(rng.integers(0, 80))

        def surplus(d: int, beta: int = beta, gamma: int = gamma, g: int = g, imp: int = imp, exp: int = exp) -> int:
            return beta * d - (gamma * d * d) // 2000 - imp * max(d - g, 0) + exp * max(g - d, 0)

        one = [torch.tensor([[value]]) for value in (beta, gamma, low, high, g)]
        consumption, gained = outside_option(*one, torch.tensor([imp]), torch.tensor([exp]))

        def demand(price: int, beta: int = beta, gamma: int = gamma, low: int = low, high: int = high) -> int:
            return min(max((2000 * (beta - price) + gamma) // (2 * gamma), low), high)

        d = min(max(g, demand(imp)), demand(exp))
        assert (consumption.item(), gained.item()) == (d, surplus(d))
        # The floor in the utility can favour another quantity by less than 1 µtok.
        assert max(surplus(other) for other in range(low, high + 1)) - gained.item() <= 1


def test_outside_option_stays_exact_where_floats_do_not() -> None:
    one = [torch.tensor([[value]]) for value in (90_071_993, 1, 100_000_000, 100_000_000, 1)]
    consumption, surplus = outside_option(*one, torch.tensor([7]), torch.tensor([3]))
    assert consumption.item() == 100_000_000
    assert surplus.item() == 90_071_993 * 100_000_000 - 10**16 // 2000 - 7 * 99_999_999


def test_first_best_never_loses_to_no_market() -> None:
    arguments = tensors(random_problem(9, 8, 48))
    best, (_, surplus) = first_best_hour(*arguments).welfare_utok, outside_option(*arguments)
    assert (best >= surplus.sum(dim=0) - 8).all()
    assert (best > surplus.sum(dim=0) + 1e5).any()


def test_lanes_do_not_influence_each_other() -> None:
    arguments = tensors(random_problem(4, 5, 16))
    together, (consumption, _) = first_best_hour(*arguments), outside_option(*arguments)
    for lane in (0, 7, 15):
        single = [value[..., lane : lane + 1] for value in arguments]
        # Floats are summed in an order that depends on the batch; integers cannot tell.
        assert first_best_hour(*single).welfare_utok.item() == pytest.approx(
            together.welfare_utok[lane].item(), rel=1e-13
        )
        assert torch.equal(outside_option(*single)[0], consumption[:, lane : lane + 1])


@pytest.mark.parametrize("function", [first_best_hour, outside_option])
def test_runs_on_fake_cuda_tensors(function: Callable[..., tuple[Tensor, ...]]) -> None:
    with FakeTensorMode():
        books = [torch.ones((3, 7), dtype=torch.int64, device="cuda") for _ in FIELDS]
        prices = [torch.ones(7, dtype=torch.int64, device="cuda") for _ in PRICES]
        results = function(*books, *prices)
    expected = torch.int64 if function is outside_option else torch.float64
    assert {(result.device.type, result.dtype) for result in results} == {("cuda", expected)}
