"""What a prosumer sees depends on others' bids and private circumstances through published prices only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gridmarl.envs.two_stage_dr import batched as module
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.env import OPERATOR, OPERATOR_FIELDS, TwoStageDR
from gridmarl.envs.two_stage_dr.observe import FIELDS
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.scenarios.scenario import Scenario, toy_scenario
from tests.envs.configs import CONFIGS
from tests.envs.helpers import batched, random_actions
from tests.envs.test_pettingzoo import sampled_actions

LANES, OTHER = 60, 3
NAMES = [item.name for item in FIELDS]
PUBLISHED = {"last_price_utok_per_wh", "last_dr_price_utok_per_wh", "price_utok_per_wh", "dr_price_utok_per_wh",
             "shortage"}  # fmt: skip
# an agent's own reduction follows the published price, and with it what it has shifted itself
FOLLOWS = {"rule_reduction_wh"}
FOLLOWS_SHIFTING = FOLLOWS | {"returned_wh", "backlog_wh"}
PUBLIC = [index for index, item in enumerate(FIELDS) if item.meaning.startswith("public")]
MARKETS: dict[str, dict[str, Any]] = {
    "default": {},
    "learned": {"stage2": "learned"},
    "battery": {"battery_capacity_wh": 3_000, "battery_power_w": 1_500, "dr_settlement": "additive"},
}


def market(name: str, scenario: Scenario | None = None, **changes: Any) -> BatchedTwoStageDR:
    params = TwoStageDRParams.from_dict({"num_prosumers": 5, "horizon_hours": 12} | MARKETS[name] | changes)
    env = BatchedTwoStageDR(params, scenario, num_envs=LANES, auto_reset=False)
    env.reset(11)
    return env


def others(observation: Tensor) -> Tensor:
    """`[E, P-1, F]`: all prosumers but one."""
    keep = [index for index in range(observation.shape[1]) if index != OTHER]
    return observation[:, keep]


def differing(one: Tensor, two: Tensor) -> set[str]:
    """Fields in which any other prosumer sees something else."""
    return {NAMES[index] for index in (one != two).any(0).any(0).nonzero().flatten().tolist()}


def play_both(
    one: BatchedTwoStageDR, two: BatchedTwoStageDR, changed: list[int]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Both markets with the same actions, but for the entries `changed` of one prosumer's.

    Returns, for each step, the other prosumers' observations in both, and the lanes `[E]` whose published prices have
    been the same in both so far.
    """
    rng, other_rng = np.random.default_rng(0), np.random.default_rng(1)
    same = torch.ones(LANES, dtype=torch.bool)
    published = [NAMES.index(name) for name in sorted(PUBLISHED)]
    seen = []
    for _ in range(one.params.horizon_hours * one.params.steps_per_hour):
        actions = random_actions(one, rng)
        instead = actions.clone()
        instead[:, OTHER, changed] = random_actions(one, other_rng)[:, OTHER, changed]
        first, second = one.step(actions).observation, two.step(instead).observation
        same &= (first[:, 0, published] == second[:, 0, published]).all(-1)
        seen.append((others(first), others(second), same.clone()))
    return seen


@pytest.mark.parametrize("name", sorted(MARKETS))
def test_another_bid_that_moves_no_price_is_not_seen(name: str) -> None:
    """One prosumer bids and offers at other prices (shading, say): where the prices stand, all see the same bits."""
    one, two = market(name), market(name)
    unmoved = moved = 0
    for first, second, same in play_both(one, two, [0, 2]):
        assert torch.equal(first[same], second[same])
        unmoved, moved = unmoved + int(same.sum()), moved + int((~same).sum())
    assert min(unmoved, moved) > 50, "both kinds were played"


@pytest.mark.parametrize("name", sorted(MARKETS))
def test_another_action_is_seen_through_published_prices_only(name: str) -> None:
    """Everything in one prosumer's action differs: quantity, battery and reduction too."""
    for share, allowed in ((0, PUBLISHED | FOLLOWS), (500, PUBLISHED | FOLLOWS_SHIFTING)):
        one, two = market(name, shift_share_permille=share), market(name, shift_share_permille=share)
        seen: set[str] = set()
        for first, second, _ in play_both(one, two, list(range(one.action_spec.size))):
            seen |= differing(first, second)
        assert seen <= allowed
        assert "last_price_utok_per_wh" in seen


def neighbourhood(load: int, pv: int) -> Scenario:
    """Five homes, of which one has the given load and generation."""
    homes = [1_200, 400, 900, load, 2_000]
    suns = [0, 1_500, 300, pv, 0]
    return toy_scenario(
        [5_000, 20_000, -9_000, 8_000],
        [homes] * 4,
        [suns] * 4,
        load_ratio_permille=(500, 1000, 1500),
        pv_ratio_permille=(800, 1200),
        reference_price_utok_per_wh=6_000,
    )


@pytest.mark.parametrize("name", sorted(MARKETS))
@pytest.mark.parametrize(("load", "pv"), [(3_000, 100), (700, 2_500), (0, 0)])
def test_private_load_and_generation_are_not_seen(name: str, load: int, pv: int) -> None:
    one = market(name, neighbourhood(700, 100), shift_share_permille=0)
    two = market(name, neighbourhood(load, pv), shift_share_permille=0)
    start = [env.reset(4) for env in (one, two)]
    assert torch.equal(*map(others, start)), "nothing at all before the first clearing"
    assert not torch.equal(start[0][:, OTHER], start[1][:, OTHER])
    seen: set[str] = set()
    for first, second, same in play_both(one, two, []):
        seen |= differing(first, second)
        assert torch.equal(first[same], second[same])
    assert seen <= PUBLISHED | FOLLOWS
    assert "last_price_utok_per_wh" in seen


def test_who_takes_part_is_not_seen() -> None:
    """Whether others take part in demand response shows in nothing that a prosumer sees, its own share apart."""
    one, two = (market("default", participation_permille=share, shift_share_permille=0) for share in (0, 600))
    assert differing(*(env.reset(4) for env in (one, two))) == {"participates"}
    for first, second, _ in play_both(one, two, []):
        assert differing(first, second) <= {"participates", "rule_reduction_wh"}


@pytest.mark.parametrize("name", ["default", "learned", "everything", "battery"])
def test_public_fields_are_the_same_for_all(name: str) -> None:
    env = batched(name, 4)
    rng = np.random.default_rng(2)
    observation = env.reset(3)
    for _ in range(env.params.horizon_hours * env.params.steps_per_hour):
        public = observation[:, :, PUBLIC]
        assert torch.equal(public, public[:, :1].expand_as(public))
        result = env.step(random_actions(env, rng))
        assert result.info == {}
        observation = result.observation


def test_every_field_says_whose_it_is() -> None:
    assert all(item.meaning.startswith(("public", "private")) for item in FIELDS)
    assert {NAMES[index] for index in PUBLIC} >= PUBLISHED
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", ["default", "everything", "operator"])
def test_infos_are_empty(name: str) -> None:
    env = TwoStageDR(**CONFIGS[name])
    rng = np.random.default_rng(0)
    _, infos = env.reset(seed=1)
    while env.agents:
        assert infos == {agent: {} for agent in env.agents}
        names = list(env.agents)
        *_, infos = env.step(sampled_actions(env, rng))
        assert infos == {agent: {} for agent in names}


def test_the_operator_sees_public_fields_only() -> None:
    """All of them are among those that every prosumer sees, at the values that every prosumer sees."""
    assert all(item.meaning.startswith("public") for item in OPERATOR_FIELDS)
    shown = [NAMES.index(item.name) for item in OPERATOR_FIELDS]
    env = TwoStageDR(**CONFIGS["everything"])
    rng = np.random.default_rng(0)
    observations, _ = env.reset(seed=1)
    while env.agents:
        assert observations[OPERATOR].shape == (len(OPERATOR_FIELDS),)
        for prosumer in env.possible_agents[:-1]:
            assert (observations[OPERATOR] == observations[prosumer][shown]).all()
        observations, *_ = env.step(sampled_actions(env, rng))


def test_the_operator_does_not_see_private_load() -> None:
    seen = []
    for load in (700, 3_000):
        env = TwoStageDR(neighbourhood(load, 100), num_prosumers=5, horizon_hours=4, operator=True)
        seen.append(env.reset(seed=1)[0][OPERATOR])
    assert (seen[0] == seen[1]).all()


def test_the_comparison_sees_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: an observation with a neighbour's demand in it fails."""
    honest = vars(module)["observe"]

    def leaking(*args: Any) -> Tensor:
        observation: Tensor = honest(*args).clone()
        observation[..., NAMES.index("backlog_wh")] += observation[:, :, NAMES.index("demand_max_wh")].sum(1, True)
        return observation

    monkeypatch.setattr(module, "observe", leaking)
    one, two = (market("default", neighbourhood(load, 100), shift_share_permille=0) for load in (700, 3_000))
    assert differing(*(others(env.reset(4)) for env in (one, two))) == {"backlog_wh"}
