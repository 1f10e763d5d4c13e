"""Heuristics' actions come out of the environment's integer map as the integers that were meant."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gridmarl.agents.heuristics_actions import entry_of, level_for, offset_of
from gridmarl.agents.registry import make_agent
from gridmarl.errors import ConfigError
from gridmarl.protocols import ActionSpec, Agent, AgentContext, ObservationField

ENERGY, PRICE = 2.0**-10, 2.0**-13
SCALES = {
    "export_price_utok_per_wh": PRICE,
    "import_price_utok_per_wh": PRICE,
    "demand_min_wh": ENERGY,
    "demand_max_wh": ENERGY,
    "demand_at_import_wh": ENERGY,
    "comfort_demand_wh": ENERGY,
    "forecast_wh": ENERGY,
    "returned_wh": ENERGY,
    "beta_utok_per_wh": PRICE,
    "gamma_ntok_per_wh2": 2.0**-14,
    "stage": 1.0,
    "stage1_demand_wh": ENERGY,
    "rule_reduction_wh": ENERGY,
}
FIELDS = tuple(ObservationField(name, "", scale, -1e9, 1e9, "") for name, scale in SCALES.items())
HOME: dict[str, Any] = {
    "export_price_utok_per_wh": -700,
    "import_price_utok_per_wh": 30_011,
    "demand_min_wh": 103,
    "demand_max_wh": 5_021,
    "demand_at_import_wh": 1_777,
    "comfort_demand_wh": 4_999,
    "forecast_wh": 900,
    "returned_wh": 0,
    "beta_utok_per_wh": 90_000,
    "gamma_ntok_per_wh2": 40_000,
    "stage": 0,
    "stage1_demand_wh": 0,
    "rule_reduction_wh": 0,
}
TWO_PRICES = ("buy_price", "quantity", "sell_price")


def observe(lanes: int = 4, agents: int = 3, **changes: int) -> Tensor:
    home = {**HOME, **changes}
    row = torch.tensor([home[name] for name in SCALES]).float() * torch.tensor(list(SCALES.values()))
    return row.expand(lanes, agents, -1)


def agent_for(name: str, names: tuple[str, ...] = TWO_PRICES, grid: Tensor | None = None, seed: int = 0) -> Agent:
    spec = ActionSpec("continuous", 0, len(names), names)
    if grid is not None:
        spec = ActionSpec("discrete", len(grid), 0, names, grid)
    return make_agent(name, AgentContext(4, 3, FIELDS, spec, torch.device("cpu"), seed))


def environment_level(action: Tensor) -> Tensor:
    """The environment's own quantisation, written out again."""
    return torch.floor((action + 1.0) * 32768 + 0.5).to(torch.int64).clamp(0, 65536)


def decode(action: Tensor, names: tuple[str, ...] = TWO_PRICES, **changes: int) -> dict[str, Tensor]:
    home = {**HOME, **changes}
    low, high = home["export_price_utok_per_wh"], home["import_price_utok_per_wh"]
    ranges = dict.fromkeys(("buy_price", "sell_price", "price"), (low, high))
    ranges["quantity"] = (home["demand_min_wh"], home["demand_max_wh"])
    ranges["reduction"] = (0, home["stage1_demand_wh"] - home["demand_min_wh"])
    level = environment_level(action)
    out = {}
    for index, name in enumerate(names):
        if name in ranges:
            low, high = ranges[name]
            out[name] = low + (((high - low) * level[..., index]) >> 16)
        else:
            out[name] = level[..., index] - 32768
    return out


def only(values: Tensor) -> int:
    (value,) = values.unique().tolist()
    return int(value)


@given(span=st.integers(0, 65_536), share=st.floats(0.0, 1.0))
def test_inverse_is_exact_up_to_65536(span: int, share: float) -> None:
    offset = torch.tensor(round(span * share))
    level = environment_level(entry_of(level_for(offset, torch.tensor(span))))
    assert int((span * level) >> 16) == int(offset)


@given(span=st.integers(65_537, 20_000_000), share=st.floats(0.0, 1.0))
def test_inverse_of_a_wide_range_is_the_greatest_reachable_value_below(span: int, share: float) -> None:
    offset = round(span * share)
    level = int(level_for(torch.tensor(offset), torch.tensor(span)))
    assert (span * level) >> 16 <= offset
    assert level == 65_536 or (span * (level + 1)) >> 16 > offset


def test_inverse_of_every_integer_of_some_ranges() -> None:
    for span in (0, 1, 2, 3, 1000, 4095, 65_535, 65_536):
        offset = torch.arange(span + 1)
        assert torch.equal(offset_of(level_for(offset, torch.tensor(span)), torch.tensor(span)), offset)


def test_offsets_outside_the_range_are_clamped_to_it() -> None:
    assert level_for(torch.tensor([-5, 15]), torch.tensor(10)).tolist() == [0, 65_536]


@pytest.mark.parametrize(
    ("name", "buy", "sell", "quantity"),
    [
        ("truthful", 30_011, -700, 1_777),
        ("always_cap", 30_011, 30_011, 1_777),
        ("inflate", 30_011, -700, 5_021),
        ("comfort", 30_011, -700, 4_999),
    ],
)
def test_bids_arrive_as_meant(name: str, buy: int, sell: int, quantity: int) -> None:
    names = (*TWO_PRICES, "battery", "reduction")
    action = agent_for(name, names).act(observe(), explore=False)
    assert action.shape == (4, 3, 5)
    assert action.dtype == torch.float32
    seen = decode(action, names)
    assert [only(seen[key]) for key in ("buy_price", "sell_price", "quantity", "battery")] == [buy, sell, quantity, 0]


@given(
    low=st.integers(-5_000, 20_000),
    width=st.integers(0, 65_536),
    minimum=st.integers(0, 100_000),
    room=st.integers(0, 65_536),
    data=st.data(),
)
def test_truthful_is_exact_whatever_the_ranges(
    low: int, width: int, minimum: int, room: int, data: st.DataObject
) -> None:
    wanted = data.draw(st.integers(minimum, minimum + room))
    changes = {
        "export_price_utok_per_wh": low,
        "import_price_utok_per_wh": low + width,
        "demand_min_wh": minimum,
        "demand_max_wh": minimum + room,
        "demand_at_import_wh": wanted,
    }
    seen = decode(agent_for("truthful").act(observe(**changes), explore=False), **changes)
    assert (only(seen["buy_price"]), only(seen["sell_price"]), only(seen["quantity"])) == (low + width, low, wanted)


@pytest.mark.parametrize(("forecast", "returned", "price"), [(1_777, 0, 30_011), (1_778, 0, -700), (1_778, 1, 30_011)])
def test_one_price_follows_the_net_position(forecast: int, returned: int, price: int) -> None:
    agent = agent_for("truthful", ("price", "quantity"))
    action = agent.act(observe(forecast_wh=forecast, returned_wh=returned), explore=False)
    assert only(decode(action, ("price", "quantity"))["price"]) == price


@pytest.mark.parametrize("name", ["truthful", "inflate", "comfort", "always_cap", "zero_intelligence"])
def test_second_stage_offers_the_rule_s_reduction(name: str) -> None:
    names = (*TWO_PRICES, "reduction")
    changes = {"stage": 1, "stage1_demand_wh": 3_000, "rule_reduction_wh": 1_234}
    action = agent_for(name, names).act(observe(**changes), explore=False)
    assert only(decode(action, names, **changes)["reduction"]) == 1_234


def test_discrete_actions_are_the_nearest_row_of_what_counts_in_the_stage() -> None:
    names = ("buy_price", "reduction")
    grid = torch.tensor([[-1.0, 1.0], [0.9, 1.0], [1.0, -1.0], [0.0, -0.25], [0.0, 0.0]])
    agent = agent_for("truthful", names, grid)
    assert only(agent.act(observe(), explore=False)) == 2
    # 0.41 of the range is -0.19 as an action.
    changes = {"stage": 1, "stage1_demand_wh": 1_103, "rule_reduction_wh": 410}
    action = agent.act(observe(**changes), explore=False)
    assert only(action) == 3
    assert action.shape == (4, 3)
    assert action.dtype == torch.int64


def test_zero_intelligence_stays_within_its_limit_and_covers_it() -> None:
    agent = agent_for("zero_intelligence")
    drawn = [decode(agent.act(observe(), explore=False)) for _ in range(300)]
    buy, sell, quantity = (
        torch.stack([one[name] for one in drawn]).flatten() for name in ("buy_price", "sell_price", "quantity")
    )
    limit = ((2000 * (90_000 - buy) + 40_000) // 80_000).clamp(103, 5_021)
    assert bool((quantity >= 103).all())
    assert bool((quantity <= limit).all())
    for price in (buy, sell):
        assert int(price.min()) < 0
        assert int(price.max()) > 29_500
        assert float(price.double().mean()) == pytest.approx(14_655, rel=0.03)
    share = (quantity - 103) / (limit - 103)
    assert float(share.mean()) == pytest.approx(0.5, abs=0.02)
    assert abs(float(torch.corrcoef(torch.stack((buy.double(), sell.double())))[0, 1])) < 0.06


def test_zero_intelligence_repeats_and_resumes() -> None:
    first, second, other = (agent_for("zero_intelligence", seed=seed) for seed in (1, 1, 2))
    for _ in range(3):
        assert torch.equal(first.act(observe(), explore=True), second.act(observe(), explore=False))
    other.act(observe(), explore=True)
    resumed = agent_for("zero_intelligence", seed=1)
    resumed.load_state_dict(first.state_dict())
    following = resumed.act(observe(), explore=True)
    assert torch.equal(first.act(observe(), explore=True), following)
    assert not torch.equal(other.act(observe(), explore=True), following)


def test_refusals_name_what_is_missing() -> None:
    context = AgentContext(1, 1, FIELDS[:3], ActionSpec("continuous", 0, 3, TWO_PRICES), torch.device("cpu"), 0)
    with pytest.raises(ConfigError, match=r"truthful: needs observation fields \['demand_max_wh', 'demand_at_import"):
        make_agent("truthful", context)
    with pytest.raises(ConfigError, match="comfort: cannot fill the action entry 'quota'"):
        agent_for("comfort", ("quota",))
    with pytest.raises(ConfigError, match="inflate: unknown option 'x'"):
        make_agent("inflate", AgentContext(1, 1, FIELDS, context.action_spec, torch.device("cpu"), 0), x=1)
    with pytest.raises(ConfigError, match=r"needs ActionSpec\.grid"):
        make_agent(
            "inflate",
            AgentContext(1, 1, FIELDS, ActionSpec("discrete", 2, 0, TWO_PRICES), torch.device("cpu"), 0),
        )
