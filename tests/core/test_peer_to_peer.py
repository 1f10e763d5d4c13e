"""Forms of local trade against the slow oracle; conservation; what no home may lose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gridmarl.clearing.community import SHARING_RULES, divide, internal_price, share_savings
from gridmarl.clearing.peer_to_peer import (
    Settlement,
    residuals,
    settle_alone,
    settle_auction,
    settle_central,
    settle_community,
    settle_hybrid,
)
from gridmarl.clearing.registry import get_auction
from gridmarl.errors import ConfigError
from gridmarl.units import MAX_PRICE_UTOK_PER_WH
from tests.oracles import peer_to_peer as oracle

POOL, BILATERAL = get_auction("uniform"), get_auction("pairwise")
IDLE = 7


def column(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def every_form(
    nets: Tensor, imp: Tensor, exp: Tensor, start: Tensor, sizes: list[int]
) -> dict[str, tuple[Settlement, object]]:
    """Each form of all lanes, and the oracle of one hour that says the same."""
    idle = torch.full_like(imp, IDLE)
    forms: dict[str, tuple[Settlement, object]] = {
        "alone": (settle_alone(nets, imp, exp), lambda n, i, e, s: oracle.alone(n, i, e)),
        "pool": (settle_auction(nets, imp, exp, start, POOL), oracle.pool),
        "bilateral": (settle_auction(nets, imp, exp, start, BILATERAL), oracle.bilateral),
        "central": (settle_central(nets, imp, exp, idle), lambda n, i, e, s: oracle.central(n, i, e, IDLE)),
    }
    for rule in SHARING_RULES:
        forms[f"community {rule}"] = (
            settle_community(nets, imp, exp, start, rule),
            lambda n, i, e, s, rule=rule: oracle.community(n, i, e, s, rule),
        )
        for name, auction, between in (("pool", POOL, oracle.pool), ("bilateral", BILATERAL, oracle.bilateral)):
            forms[f"hybrid {rule} {name}"] = (
                settle_hybrid(nets, imp, exp, start, sizes, rule, auction),
                lambda n, i, e, s, rule=rule, between=between: oracle.hybrid(n, i, e, s, sizes, rule, between),
            )
    return forms


def check(nets: Tensor, imp: Tensor, exp: Tensor, start: Tensor, sizes: list[int]) -> None:
    """Oracle, conservation, and no home worse off than alone in any hour."""
    alone = settle_alone(nets, imp, exp).bill_utok
    for name, (found, by_hand) in every_form(nets, imp, exp, start, sizes).items():
        for missing in residuals(found, nets, imp, exp):
            assert not missing.any(), name
        assert bool((found.bill_utok <= alone).all()), name
        assert bool((found.import_wh >= 0).all() and (found.export_wh >= 0).all()), name
        for lane in range(imp.numel()):
            numbers = (int(values[lane]) for values in (imp, exp, start))
            hour = by_hand(nets[:, lane].tolist(), *numbers)  # type: ignore[operator]
            here = oracle.Hour(
                found.bill_utok[:, lane].tolist(),
                *(int(values[lane]) for values in (found.import_wh, found.export_wh, found.local_wh, found.local_utok)),
            )
            assert here == hour, (name, lane)


def test_all_small_communities() -> None:
    """Three homes with net loads of -2 .. 2 Wh at prices of either sign, every start."""
    prices = [(imp, exp) for imp, exp in product(range(-3, 4), repeat=2) if exp <= imp]
    cases = [
        (*n, *p, s) for n in product(range(-2, 3), repeat=3) for p in prices[:: len(prices) // 9] for s in range(3)
    ]
    table = column([item for case in cases for item in case]).view(-1, 6).t().contiguous()
    check(table[:3], table[3], table[4], table[5], [1, 2])


prices = st.integers(-MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH)


@st.composite
def communities(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor, list[int]]:
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    lanes = draw(st.integers(1, 3))
    most = draw(st.sampled_from([3, 5_000, 100_000_000]))
    homes = sum(sizes)
    nets = draw(st.lists(st.integers(-most, most), min_size=homes * lanes, max_size=homes * lanes))
    pairs = [sorted(draw(st.tuples(prices, prices))) for _ in range(lanes)]
    starts = [draw(st.integers(0, 99)) for _ in range(lanes)]
    exp, imp = (column([pair[k] for pair in pairs]) for k in (0, 1))
    return column(nets).view(homes, lanes), imp, exp, column(starts), sizes


@settings(max_examples=150, deadline=None)
@given(communities())
def test_large_communities(case: tuple[Tensor, Tensor, Tensor, Tensor, list[int]]) -> None:
    check(*case)


@settings(max_examples=100, deadline=None)
@given(communities(), st.integers(0, 10**9))
def test_savings_are_the_same_for_every_home(
    case: tuple[Tensor, Tensor, Tensor, Tensor, list[int]], extra_utok: int
) -> None:
    nets, imp, exp, start, _ = case
    alone = settle_alone(nets, imp, exp).bill_utok
    cost = settle_community(nets, imp, exp, start, "mid_market").bill_utok.sum(0)
    for paid in (cost, alone.sum(0) + extra_utok):  # also where the community costs more than its homes alone
        bills = share_savings(alone, paid, start)
        assert torch.equal(bills.sum(0), paid)
        saved = alone - bills
        assert bool((saved.amax(0) - saved.amin(0) <= 1).all())
        assert bool((bills <= alone).all(0).logical_or(paid > alone.sum(0)).all())


def test_a_hybrid_of_one_community_is_a_community_and_of_single_homes_a_pool() -> None:
    nets, imp, exp, start = column([[500], [-300], [120], [-90]]), column([9]), column([2]), column([1])
    for rule in SHARING_RULES:
        one = settle_hybrid(nets, imp, exp, start, [4], rule, POOL)
        assert all(map(torch.equal, one, settle_community(nets, imp, exp, start, rule)))
        singles = settle_hybrid(nets, imp, exp, start, [1, 1, 1, 1], rule, POOL)
        assert all(map(torch.equal, singles, settle_auction(nets, imp, exp, start, POOL)))


def test_prices_of_a_worked_example() -> None:
    """600 Wh short, 400 to spare, 20 and 4 µtok/Wh: who gets what of the 400 * 16 µtok that trading saves."""
    nets, imp, exp, start = column([[450], [150], [-400]]), column([20]), column([4]), column([0])
    bills = {
        name: found.bill_utok[:, 0].tolist() for name, (found, _) in every_form(nets, imp, exp, start, [2, 1]).items()
    }
    assert bills["alone"] == [9_000, 3_000, -1_600]
    assert bills["pool"] == [9_000, 3_000, -8_000], "the short side decides: scarce energy is worth the import price"
    assert bills["bilateral"] == [450 * 20 - 400 * 8, 3_000, -4_800], "at 12, and whoever comes first"
    assert bills["community mid_market"] == [6_600, 2_200, -4_800], "at 12, and all that are short share"
    # ratio 2/3: 20 - 10 = 10 (the discount of 10.67 rounded down)
    assert bills["community supply_demand_ratio"] == [6_000, 2_000, -4_000]
    assert bills["central"] == bills["pool"]


def test_bad_input() -> None:
    one = column([1])
    with pytest.raises(ConfigError, match="sharing: 'fair', allowed are mid_market, supply_demand_ratio"):
        internal_price(one, one, one, one, "fair")
    for sizes in ([1], [2, 0], []):
        with pytest.raises(ConfigError, match="positive sizes that add up to 2 homes"):
            settle_hybrid(column([[1], [2]]), one, one, 0, sizes, "mid_market", POOL)


def test_money_divides_by_energy_to_the_last_unit() -> None:
    parts = divide(column([-10, 7]), column([[1, 0], [2, 0], [3, 7]]), column([2, 0]))
    assert parts.sum(0).tolist() == [-10, 7]
    assert parts[:, 1].tolist() == [0, 0, 7]
    assert parts[:, 0].tolist() == [-2, -3, -5], "-2 per Wh, and 2 µtok of the rest to start with the last"


def test_the_same_on_a_fake_gpu() -> None:
    """Nothing reads a tensor back to the host."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        price = torch.zeros(2, dtype=torch.int64, device="cuda")
        nets = torch.zeros((4, 2), dtype=torch.int64, device="cuda")
        for found, _ in every_form(nets, price, price, price, [1, 3]).values():
            assert found.bill_utok.device.type == "cuda"
