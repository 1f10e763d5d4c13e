"""What environments share, shown on a market of two types of agents that is made of new code only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from pettingzoo.test import parallel_api_test
from torch import Tensor

from gridmarl.envs.base.batched import BatchedMarket
from gridmarl.envs.base.parallel import ParallelMarket, metadata
from gridmarl.envs.base.params import MarketParams
from gridmarl.envs.base.spaces import AgentType, joint_action
from gridmarl.envs.base.state import LaneState, StepResult
from gridmarl.errors import ActionError, ConfigError
from gridmarl.protocols import ActionSpec, BatchStep, ObservationField
from gridmarl.random import Purpose, draw, lane_keys
from gridmarl.testing import check_environment

FIELDS = tuple(
    ObservationField(name, "-", 1.0, low, high, "-")
    for name, low, high in (("clock", 0.0, 9.0), ("own", -9.0, 9.0), ("shown", 0.0, 2.0**32))
)
SPECS = {
    "seller": ActionSpec("discrete", 4, 0, ("level",), torch.linspace(-1, 1, 4).unsqueeze(1)),
    "buyer": ActionSpec("continuous", 0, 2, ("price", "energy")),
}
HORIZON = 3


class Kind(Enum):
    EARLY = 0
    LATE = 1


class Drawn(NamedTuple):
    """Named tuples of tensors go into a checkpoint as plain tuples."""

    words: Tensor  # [P, E]


@dataclass(frozen=True)
class State(LaneState):
    """Three agents; the last three kinds of fields may be None."""

    clock: int
    kind: Kind
    drawn: Drawn
    last: Tensor | None = None
    before: Kind | None = None
    after: Drawn | None = None


class Settled(NamedTuple):
    """Odd steps settle nothing."""

    clock: int
    paid: Tensor  # [P, E]


class BatchedBazaar(BatchedMarket[State, Settled]):
    """Agents get what they ask for from a till; rows of actions are `[price, energy]` for everyone."""

    env_id = "toy/Bazaar-v0"
    observation_fields = FIELDS
    action_spec = SPECS["buyer"]
    state_type = State

    def __init__(self, num_envs: int = 1, first_lane: int = 0, auto_reset: bool = True) -> None:
        names = ("seller_0", "seller_1", "buyer_0")
        super().__init__(names, num_envs=num_envs, device="cpu", first_lane=first_lane, auto_reset=auto_reset)
        self.recorded: list[int] = []

    def _begin(self, seed: int, episode: int) -> State:
        keys = lane_keys(seed, self.num_envs, first_lane=self.first_lane, episode=episode)
        none = torch.zeros(self.num_envs, dtype=torch.int64)
        words = Drawn(draw(keys, 0, Purpose.LOAD, num_agents=3)[0])
        return State(keys, none.expand(4, -1), none, 0, Kind.EARLY, words)

    def _next(self, actions: Tensor) -> tuple[State, StepResult[Settled], Tensor]:
        state = self.state
        paid = (actions.sum(2) * 1_000_000).round().to(torch.int64).T
        state = state.with_changes(
            clock=state.clock + 1,
            kind=Kind.LATE,
            balances=state.balances + torch.cat((paid, -paid.sum(0, keepdim=True))),
        )
        settled = Settled(state.clock, paid) if state.clock % 2 == 1 else None
        return state, StepResult(paid, state.clock == HORIZON, settled), self._observe(state)

    def _observe(self, state: State) -> Tensor:
        own = state.balances[:-1] / 1_000_000
        return torch.stack((torch.full_like(own, state.clock), own.clamp(-9, 9), state.drawn.words * 1.0), -1).permute(
            1, 0, 2
        )

    def _record(self, settled: Settled) -> None:
        self.recorded.append(settled.clock)


class Words:
    """A view that tells what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self, state: State) -> None:
        self.told = [f"start {state.clock}"]

    def record(self, settled: Settled) -> None:
        self.told.append(f"settled {settled.clock}")

    def draw(self, figure: Any) -> None:
        figure.clear()

    def text(self) -> str:
        return ", ".join(self.told)


class Bazaar(ParallelMarket[BatchedBazaar]):
    """Sellers choose a level, buyers price and energy; buyers do not see their own balance."""

    metadata = metadata("toy/Bazaar-v0")

    def __init__(self, render_mode: str | None = None) -> None:
        types = (
            AgentType(("seller_0", "seller_1"), (0, 1), FIELDS, SPECS["seller"]),
            AgentType(("buyer_0",), (2,), (FIELDS[0], FIELDS[2]), SPECS["buyer"]),
        )
        super().__init__(BatchedBazaar(auto_reset=False), Words(), render_mode, types)

    def _advance(self, *actions: Tensor) -> BatchStep:
        sellers, buyers = actions
        grid = SPECS["seller"].grid
        assert grid is not None
        level = grid[sellers]
        return self._lanes.step(torch.cat((torch.cat((level, torch.zeros_like(level)), -1), buyers), 1))


def sampled(market: Bazaar, rng: np.random.Generator) -> dict[str, Any]:
    levels = {name: int(rng.integers(4)) for name in ("seller_0", "seller_1")}
    return levels | {"buyer_0": rng.uniform(-1, 1, 2).astype(np.float32)}


def test_a_new_environment_conforms() -> None:
    """Episodes, lanes, determinism, exact resume and money, all from the base."""
    check_environment(BatchedBazaar, balances=lambda env: env.state.balances)  # type: ignore[attr-defined]


def test_settled_periods_are_recorded_once_and_balances_live_on() -> None:
    env = BatchedBazaar(2)
    env.reset(1)
    for step in range(1, 2 * HORIZON + 1):
        before = env.state.balances
        env.step(torch.full((2, 3, 2), 0.25))
        assert (env.settled is None) == (step % HORIZON == 2)
        assert torch.equal(env.state.balances[:3], before[:3] + 500_000)
        assert env.state.clock == step % HORIZON
    assert env.recorded == [1, 3, 1, 3]
    env.reset(1)
    assert not bool(env.state.balances.any())
    assert env.settled is None


@pytest.mark.parametrize("auto_reset", [True, False])
def test_the_next_episode_begins_by_itself_or_not_at_all(auto_reset: bool) -> None:
    env, following = BatchedBazaar(2, auto_reset=auto_reset), BatchedBazaar(2)
    env.reset(1)
    for _ in range(HORIZON):
        result = env.step(torch.full((2, 3, 2), 0.25))
    assert result.truncated.tolist() == [True, True]
    assert result.final_observation[..., 0].unique().tolist() == [HORIZON]
    if auto_reset:
        expected = following.reset(1, episode=1)
        assert torch.equal(env.state.drawn.words, following.state.drawn.words)
        assert torch.equal(result.observation[..., [0, 2]], expected[..., [0, 2]])
    else:
        assert env.state.clock == HORIZON
        assert torch.equal(result.observation, result.final_observation)


def test_pettingzoo_s_own_test_of_two_types() -> None:
    parallel_api_test(Bazaar(), num_cycles=20)


def test_each_type_sees_its_fields_and_acts_in_its_space() -> None:
    market, batch, rng = Bazaar(), BatchedBazaar(4, auto_reset=False), np.random.default_rng(0)
    observations, _ = market.reset(seed=6, options={"lane": 3})
    together = batch.reset(6)
    while market.agents:
        rows = together[3].numpy()
        for row, name in enumerate(("seller_0", "seller_1")):
            assert np.array_equal(observations[name], rows[row])
        assert np.array_equal(observations["buyer_0"], rows[2, [0, 2]])
        assert all(market.observation_space(name).contains(seen) for name, seen in observations.items())
        actions = sampled(market, rng)
        asked = [[2 * actions[name] / 3 - 1, 0] for name in ("seller_0", "seller_1")] + [list(actions["buyer_0"])]
        result = batch.step(torch.tensor([asked] * 4, dtype=torch.float32))
        together = result.observation
        observations, rewards, *_ = market.step(actions)
        assert list(rewards) == ["seller_0", "seller_1", "buyer_0"]
        assert list(rewards.values()) == result.reward[3].tolist()
    assert market.action_space("seller_1").n == 4  # type: ignore[attr-defined]
    assert market.action_space("buyer_0").shape == (2,)


def test_views_are_told_of_settled_periods() -> None:
    market, rng = Bazaar(render_mode="ansi"), np.random.default_rng(0)
    market.reset(seed=0)
    shown = [market.render()]
    while market.agents:
        market.step(sampled(market, rng))
        shown.append(market.render())
    once = "start 0, settled 1"
    assert shown == ["start 0", once, once, f"{once}, settled 3"]


@pytest.mark.parametrize(
    ("name", "action", "message"),
    [
        ("seller_0", 4, "seller_0: action 4, allowed are integers 0 .. 3"),
        ("seller_1", -1, "seller_1: action -1, allowed are integers 0 .. 3"),
        ("seller_1", True, "seller_1: action True, allowed are integers"),
        ("seller_1", np.True_, "seller_1: action .*True.*, allowed are integers"),
        ("seller_1", 1.0, "seller_1: action 1.0, allowed are integers"),
        ("seller_1", [1], r"seller_1: action \[1\], allowed are integers"),
        ("seller_1", "left", "seller_1: action 'left', allowed are integers"),
        ("seller_1", None, "seller_1: action None, allowed are integers"),
        ("buyer_0", [0.0, np.nan], r"buyer_0: action .*nan.*, allowed are 2 numbers in \[-1, 1\]"),
        ("buyer_0", [0.0, 1.01], "buyer_0: action .*, allowed are 2 numbers"),
        ("buyer_0", np.array([0.0, 1e300]), "buyer_0: action .*, allowed are 2 numbers"),
        ("buyer_0", [0.0], "buyer_0: action .*, allowed are 2 numbers"),
        ("buyer_0", [[0.0, 0.0]], "buyer_0: action .*, allowed are 2 numbers"),
        ("buyer_0", "left", "buyer_0: action 'left', allowed are 2 numbers"),
        ("buyer_0", None, "buyer_0: action None, allowed are 2 numbers"),
        ("buyer_0", 1, "buyer_0: action 1, allowed are 2 numbers"),
    ],
)
def test_bad_actions_name_the_agent_and_change_nothing(name: str, action: Any, message: str) -> None:
    market = Bazaar()
    market.reset(seed=0)
    before = market.lanes.state
    with pytest.raises(ActionError, match=f"^{message}"):
        market.step(sampled(market, np.random.default_rng(0)) | {name: action})
    assert market.lanes.state is before


def test_integers_of_any_type_are_actions() -> None:
    """Even where NumPy has no common integer type for them."""
    kind = AgentType(("a", "b", "c"), (0, 1, 2), FIELDS, SPECS["seller"])
    for values in ((1, 2, 3), (np.uint64(1), np.int64(2), 3), (np.array(1), torch.tensor(2), np.uint8(3))):
        joint = joint_action(kind, dict(zip("abc", values, strict=True)))
        assert joint.dtype == torch.int64
        assert joint.tolist() == [[1, 2, 3]]


def test_missing_and_unknown_agents() -> None:
    market = Bazaar()
    with pytest.raises(ActionError, match=r"^step: the episode is over, call reset\(\) first"):
        market.step({})
    market.reset(seed=0)
    with pytest.raises(ActionError, match=r"^actions: missing \['buyer_0'\], unknown \['x'\]; allowed are exactly"):
        market.step({"seller_0": 0, "seller_1": 0, "x": 0})


def test_a_state_there_and_back() -> None:
    """Plain containers, tensors and numbers in between, which `torch.load(weights_only=True)` accepts."""
    env = BatchedBazaar(2)
    env.reset(1)
    for state in (
        env.state,
        replace(env.state, last=torch.ones(2), before=Kind.LATE, after=Drawn(torch.zeros(3, 2))),
    ):
        plain = state.to_dict()
        assert {type(value) for value in plain.values()} <= {int, Tensor, tuple, type(None)}
        again = State.from_dict(plain)
        assert str(again) == str(state)
        assert type(again.kind) is Kind
        assert type(again.drawn) is Drawn
        assert type(again.after) is type(state.after)
        assert type(again.before) is type(state.before)
    assert (env.state.num_envs, env.state.device.type) == (2, "cpu")


@dataclass(frozen=True)
class Params(MarketParams):
    """One field of each kind."""

    count: int = 3
    limit: int | None = None
    flag: bool = False
    rule: Literal["one", "two"] = "one"
    share: int = 5

    def __post_init__(self) -> None:
        self._check_fields((("share", 0, 10), ("count", 1, 4)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1.0}, "count: 1.0, allowed is one int"),
        ({"count": True}, "count: True, allowed is one int"),
        ({"count": None}, "count: None, allowed is one int"),
        ({"limit": 1.5}, "limit: 1.5, allowed is an integer or null"),
        ({"limit": False}, "limit: False, allowed is an integer or null"),
        ({"flag": 1}, "flag: 1, allowed is one bool"),
        ({"rule": "three"}, "rule: 'three', allowed are one, two"),
        ({"rule": None}, "rule: None, allowed are one, two"),
        ({"count": 0}, r"count: 0, allowed are 1 \.\. 4"),
        ({"count": 5, "share": 11}, r"share: 11, allowed are 0 \.\. 10"),  # in the order of the ranges
        ({"count": 5, "rule": "three"}, "rule: 'three'"),  # types come first
        ({"rule": 3, "flag": 3}, "flag: 3"),  # in the order of the fields
        ({"sahre": 1}, "sahre: unknown key, allowed are count, limit, flag, rule, share"),
    ],
)
def test_bad_parameters(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        Params.from_dict(values)


def test_parameters_there_and_back() -> None:
    params = Params.from_dict({"limit": -7, "rule": "two"})
    assert type(params) is Params
    assert params.to_dict() == {"count": 3, "limit": -7, "flag": False, "rule": "two", "share": 5}
    assert Params.from_dict(params.to_dict()) == params
