"""The settlement contract by hand: demand-response price, acceptance, flows, meters and accounts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gridmarl.contracts import two_stage as contract
from gridmarl.contracts.two_stage import Phase, require_phase
from gridmarl.errors import LedgerError


def lane(*values: int) -> Tensor:
    return torch.tensor(values)


def column(*values: int) -> Tensor:
    return torch.tensor(values).unsqueeze(1)


@pytest.mark.parametrize(
    ("price", "shortage", "alpha", "cap", "expected"),
    [
        (10_000, 5, 1200, 20_000, 12_000),  # eq. (2)
        (10_000, 0, 1200, 20_000, 0),  # eq. (3): no shortage
        (10_000, 1, 1200, 11_000, 11_000),  # never above the import price
        (10_001, 5, 1500, 20_000, 15_001),  # 15,001.5 rounded down
        (-1_000, 5, 1200, 20_000, 0),  # nobody pays for being asked to consume less
        (-1_000, 5, 1200, -500, 0),
        (0, 5, 1200, 20_000, 0),
        (10_000, 5, 1000, 10_000, 10_000),
    ],
)
def test_demand_response_price(price: int, shortage: int, alpha: int, cap: int, expected: int) -> None:
    assert contract.dr_price(*map(lane, (price, shortage, alpha, cap))).tolist() == [expected]


def test_price_of_a_reduction() -> None:
    assert contract.reduction_price("two_settlement", lane(9_000), lane(10_800)).tolist() == [10_800]
    assert contract.reduction_price("additive", lane(9_000), lane(10_800)).tolist() == [19_800]


@pytest.mark.parametrize(
    ("offered", "shortage", "start", "accepted"),
    [
        ((100, 200, 300), 600, 0, [100, 200, 300]),
        ((100, 200, 300), 1000, 1, [100, 200, 300]),
        ((100, 200, 300), 0, 1, [0, 0, 0]),
        ((0, 0, 0), 50, 2, [0, 0, 0]),
        # 100 over 100, 200, 300: floors of 16.67, 50, 100, then their differences
        ((100, 200, 300), 100, 0, [16, 34, 50]),
        # from prosumer 1: floors of 33.3, 83.3, 100
        ((100, 200, 300), 100, 1, [17, 33, 50]),
        ((1, 1, 1), 1, 0, [0, 0, 1]),
        ((1, 1, 1), 1, 1, [1, 0, 0]),
    ],
)
def test_acceptance(offered: tuple[int, ...], shortage: int, start: int, accepted: list[int]) -> None:
    result = contract.accept_reductions(column(*offered), lane(shortage), start)
    assert result.squeeze(1).tolist() == accepted


@pytest.mark.parametrize(
    ("prices", "hour", "deadline", "offset"),
    [
        ((5, 9, 7, 6, 8), 0, 4, 3),
        ((5, 9, 7, 6, 8), 0, 2, 2),
        ((5, 9, 7, 6, 8), 0, 1, 1),
        ((5, 9, 7, 6, 6), 2, 6, 1),  # earliest on a tie; the window ends with the episode
        ((5, 7, 7, 7, 7), 0, 4, 1),
        ((5, -9, -10, -10, 0), 0, 4, 2),
        ((0, -10_000_000, 10_000_000, -10_000_000, 3), 0, 4, 1),
        ((1, 2), 0, 168, 1),
    ],
)
def test_hour_of_return(prices: tuple[int, ...], hour: int, deadline: int, offset: int) -> None:
    assert contract.return_offset(column(*prices), hour, deadline).tolist() == [offset]


@given(
    st.lists(st.integers(-10_000_000, 10_000_000) | st.integers(-2, 2), min_size=2, max_size=30),
    st.integers(0, 28),
    st.integers(1, 168),
)
def test_hour_of_return_is_the_first_cheapest(prices: list[int], hour: int, deadline: int) -> None:
    hour = min(hour, len(prices) - 2)
    window = prices[hour + 1 : hour + 1 + deadline]
    offset = contract.return_offset(column(*prices), hour, min(deadline, len(prices) - 1 - hour))
    assert offset.tolist() == [1 + window.index(min(window))]


@pytest.mark.parametrize(
    ("imported", "exported", "accepted", "short", "surplus", "drawn", "fed_in"),
    [
        (100, 0, 0, 0, 0, 100, 0),
        (0, 70, 0, 0, 0, 0, 70),
        (100, 70, 0, 0, 0, 100, 70),  # orders go upstream one by one, as they would without a market
        (100, 0, 30, 0, 0, 70, 0),  # a reduction spares import
        (20, 0, 30, 0, 0, 0, 10),  # more than was imported: the rest is exported
        (20, 5, 30, 0, 0, 0, 15),
        (0, 70, 0, 50, 0, 0, 20),  # a shortfall is met from what would have been exported
        (0, 70, 0, 90, 0, 20, 0),
        (10, 70, 0, 90, 0, 30, 0),
        (10, 0, 0, 0, 40, 0, 30),
        (50, 60, 20, 30, 10, 50, 60),  # 30 - 10 - 20: nothing left over
    ],
)
def test_one_meter_of_the_community(
    imported: int, exported: int, accepted: int, short: int, surplus: int, drawn: int, fed_in: int
) -> None:
    result = contract.upstream_exchange(*map(lane, (imported, exported, accepted, short, surplus)))
    assert result.squeeze(1).tolist() == [drawn, fed_in]
    assert drawn - fed_in == imported - exported + short - surplus - accepted


def _hour(rho: int, price: int = 10_000, imp: int = 15_000, exp: int = 6_000) -> contract.Flows:
    """Prosumer 0 buys 1,000 Wh (800 filled) and reduces 150; prosumer 1 sells 900 (800 filled) and falls 40 short;

    prosumer 2 has 25 Wh more than it offered.
    """
    return contract.flows(
        buy_wh=column(1_000, 0, 0),
        buy_fill_wh=column(800, 0, 0),
        sell_wh=column(0, 900, 0),
        sell_fill_wh=column(0, 800, 0),
        accepted_wh=column(150, 0, 0),
        deviation_wh=column(0, 40, -25),
        price=lane(price),
        reduction_price_=lane(rho),
        import_price=lane(imp),
        export_price=lane(exp),
        penalty_permille=100,
    )


def test_flows_by_hand() -> None:
    """`penalty = 100 * (10,000 + 15,000) // 2000 = 1,250`.

    Upstream: 200 Wh unfilled, 100 unsold; after the auction `40 - 25 - 150 = -135` Wh are needed, so 65 of the 200 are
    drawn and 100 are fed in. Energy: `900 - 40 + 25 + 65 = 850 + 100`.
    """
    flow = _hour(12_000)
    assert flow.wh.squeeze(2).tolist() == [
        [800, 0, 0],
        [0, 800, 0],
        [200, 0, 0],
        [0, 100, 0],
        [150, 0, 0],
        [0, 40, 0],
        [0, 0, 25],
        [0, 40, 25],
    ]
    assert flow.price.squeeze(1).tolist() == [10_000, 10_000, 15_000, 6_000, 12_000, 15_000, 6_000, 1_250]
    assert flow.upstream_wh.squeeze(1).tolist() == [65, 100]


@pytest.mark.parametrize(
    ("settlement", "rho", "first", "operator"),
    [
        # 150 Wh at 12,000 (two_settlement) or at 10,000 + 12,000 (additive)
        ("two_settlement", 12_000, -9_200_000, 756_250),
        ("additive", 22_000, -7_700_000, -743_750),
    ],
)
def test_accounts_by_hand(settlement: str, rho: int, first: int, operator: int) -> None:
    """Prosumer 0: `-800*10,000 - 200*15,000 + 150*rho`. Prosumer 1: `800*10,000 + 100*6,000 - 40*15,000 - 40*1,250`.

    Prosumer 2: `25*6,000 - 25*1,250`. Upstream: `65*15,000 - 100*6,000`. Operator: what comes in (3,000,000 + 600,000 +
    50,000 + 31,250), less what goes out (600,000 + 150*rho + 150,000), less upstream.
    """
    assert contract.reduction_price(settlement, lane(10_000), lane(12_000)).tolist() == [rho]
    flow = _hour(rho)
    received = contract.prosumer_payments(flow)
    assert received.squeeze(1).tolist() == [first, 7_950_000, 118_750]
    before = column(5, -7, 11, 0, 100, -109)
    after = contract.settle(before, flow, received, lane(15_000), lane(6_000))
    changes = [first, 7_950_000, 118_750, 0, operator, 375_000]
    assert (after - before).squeeze(1).tolist() == changes
    assert sum(changes) == 0


def test_negative_prices_turn_the_money_round() -> None:
    """`pi = -3,000`, `imp = -1,000`, `exp = -8,000`, no demand-response price: buyers are paid, sellers pay.

    `penalty = 100 * (3,000 + 1,000) // 2000 = 200`, positive all the same. Prosumer 0: `800*3,000 + 200*1,000`.
    Prosumer 1: `-800*3,000 - 100*8,000 + 40*1,000 - 40*200`. Prosumer 2: `-25*8,000 - 25*200`. Upstream: `-65*1,000 +
    100*8,000`.
    """
    flow = _hour(0, -3_000, -1_000, -8_000)
    received = contract.prosumer_payments(flow)
    assert received.squeeze(1).tolist() == [2_600_000, -3_168_000, -205_000]
    after = contract.settle(column(0, 0, 0, 0, 0, 0), flow, received, lane(-1_000), lane(-8_000))
    assert after.squeeze(1).tolist() == [2_600_000, -3_168_000, -205_000, 0, 38_000, 735_000]


@pytest.mark.parametrize(("price", "imp", "rate"), [(1, 0, 0), (10, 10, 1), (-10, 10, 1), (19, 20, 1), (20, 20, 2)])
def test_rate_of_the_penalty_rounds_down(price: int, imp: int, rate: int) -> None:
    assert _hour(0, price, imp, -100).price[7].tolist() == [rate]


def test_lanes_have_nothing_in_common() -> None:
    rng = np.random.default_rng(0)
    buy, sell = (torch.from_numpy(rng.integers(0, 1_000, (4, 5))) for _ in range(2))
    filled, accepted, deviation = buy // 3, buy // 5, buy - 500
    price, imp, exp = (torch.from_numpy(rng.integers(-9_000, 9_000, 5)) for _ in range(3))
    together = contract.flows(
        buy_wh=buy, buy_fill_wh=filled, sell_wh=sell, sell_fill_wh=sell // 2, accepted_wh=accepted,
        deviation_wh=deviation, price=price, reduction_price_=price, import_price=imp, export_price=exp,
        penalty_permille=70,
    )  # fmt: skip
    balances = contract.settle(torch.zeros(7, 5, dtype=torch.int64), together,
                               contract.prosumer_payments(together), imp, exp)  # fmt: skip
    for k in range(5):
        one = slice(k, k + 1)
        alone = contract.flows(
            buy_wh=buy[:, one], buy_fill_wh=filled[:, one], sell_wh=sell[:, one], sell_fill_wh=sell[:, one] // 2,
            accepted_wh=accepted[:, one], deviation_wh=deviation[:, one], price=price[one],
            reduction_price_=price[one], import_price=imp[one], export_price=exp[one], penalty_permille=70,
        )  # fmt: skip
        received = contract.prosumer_payments(alone)
        single = contract.settle(torch.zeros(7, 1, dtype=torch.int64), alone, received, imp[one], exp[one])
        assert torch.equal(single[:, 0], balances[:, k])


def test_phases() -> None:
    for phase in Phase:
        require_phase(phase, phase)
    with pytest.raises(LedgerError, match=r"^contract phase: CLOSED, allowed for this call: BIDDING$"):
        require_phase(Phase.CLOSED, Phase.BIDDING)
    with pytest.raises(LedgerError, match=r"^contract phase: BIDDING, allowed for this call: RESCHEDULING$"):
        require_phase(Phase.BIDDING, Phase.RESCHEDULING)
