"""Value that waits in EVQuota: what the stations see of it, and rewards that count it when it is lost."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gridmarl.agents.outside_option import OutsideOption
from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import ev_scenario
from gridmarl.protocols import AgentContext
from gridmarl.scenarios.ev_demand import lost_wh
from gridmarl.units import UTOK_PER_TOKEN

LANES, STATIONS = 3, 4
TOKENS = 0.5  # float32 of rewards and values up to 30,000 tokens, added up over 96 steps


def market() -> BatchedEVQuota:
    params = EVQuotaParams(num_stations=STATIONS, transformer_capacity_w=100_000, action_space="discrete")
    return BatchedEVQuota(params, ev_scenario(STATIONS), num_envs=LANES, auto_reset=False)


def shaping(env: BatchedEVQuota, mode: str, discount: float = 0.99) -> OutsideOption:
    context = AgentContext(LANES, STATIONS, env.observation_fields, env.action_spec, env.device, seed=0)
    return OutsideOption(context, mode, discount)


def field(env: BatchedEVQuota, observation: Tensor, name: str) -> Tensor:
    """`[E, N]` in the field's unit."""
    at = [item.name for item in env.observation_fields].index(name)
    return observation[..., at] / env.observation_fields[at].scale


def play(env: BatchedEVQuota, shaped: OutsideOption, seed: int) -> tuple[Tensor, Tensor]:
    """Returns `[E, N]` of a day of random actions, as the environment pays and as shaped."""
    generator = torch.Generator().manual_seed(seed)
    observation, ended = env.reset(5), False
    plain = changed = torch.zeros(LANES, STATIONS, dtype=torch.float64)
    while not ended:
        actions = torch.randint(env.action_spec.num_actions, (LANES, STATIONS), generator=generator)
        step = env.step(actions)
        terminal = step.truncated.unsqueeze(-1)
        reward = shaped.shape(step.reward, observation, step.final_observation, terminal)
        plain, changed = plain + step.reward, changed + reward
        observation, ended = step.observation, bool(step.truncated[0])
    return plain, changed


def test_what_is_taken_off_a_day_is_the_value_of_its_vehicles_whatever_is_done() -> None:
    env = market()
    env.reset(5)
    state = env.state
    lost = lost_wh(state.remaining_wh, state.sessions.departure, state.sessions.max_power_w, state.sessions.arrival)
    value = (state.remaining_wh - lost) * state.sessions.value - lost * env.params.unserved_utok_per_wh
    value = (value.sum(0) / UTOK_PER_TOKEN).T
    assert float(value.min()) > 1_000
    taken: list[Tensor] = []
    for seed in range(3):
        plain, changed = play(env, shaping(env, "subtract"), seed)
        taken.append(plain - changed)
        # values are whole tokens, rounded down in each half hour in which vehicles come
        assert bool((taken[-1] <= value + TOKENS).all())
        assert bool((taken[-1] >= value - 48).all())
        torch.testing.assert_close(taken[-1], taken[0], atol=TOKENS, rtol=0.0)


def test_delivering_counts_nothing_and_missing_counts_at_once() -> None:
    env = market()
    shaped = shaping(env, "subtract")
    generator = torch.Generator().manual_seed(0)
    observation, ended, missed = env.reset(5), False, 0
    while not ended:
        before = env.state
        step = env.step(torch.randint(45, (LANES, STATIONS), generator=generator))
        ended = bool(step.truncated[0])
        reward = shaped.shape(step.reward, observation, step.final_observation, step.truncated.unsqueeze(-1))
        observation = step.observation
        if env.settled is None:
            assert bool((reward == step.reward).all())  # nothing comes or goes between declaring and trading
        elif not ended:
            now, (arrival, departure, power, value) = env.settled.half_hour, before.sessions
            after = before.remaining_wh - env.settled.delivered_wh
            here = (arrival <= now) & (departure > now)
            lost = (
                lost_wh(after, departure, power, now + 1) - lost_wh(before.remaining_wh, departure, power, now)
            ) * here
            missed += int((lost > 0).sum())
            cost = (lost * (value + env.params.unserved_utok_per_wh)).sum(0)
            kept = (env.settled.received_utok - cost) / UTOK_PER_TOKEN
            torch.testing.assert_close(reward, kept.T.float(), atol=2.0, rtol=0.0)
    assert missed > 10


def test_the_fields_show_the_state_and_arrivals_in_the_first_step_only() -> None:
    env = market()
    observation, seen, doomed = env.reset(5), 0, 0
    for index in range(60):
        now, left, (arrival, departure, power, value) = env.state.half_hour, env.state.remaining_wh, env.state.sessions
        for name, came in (("waiting_value", arrival <= now), ("arrived_value", (arrival == now) & (index % 2 == 0))):
            possible = torch.minimum(left, power // 2 * (departure - now).clamp(min=0))
            worth = possible * value - (left - possible) * env.params.unserved_utok_per_wh
            total = (worth * (came & (departure > now))).sum(0) // UTOK_PER_TOKEN
            assert torch.equal(field(env, observation, name), total.T.float()), name
            seen += int((total > 0).sum())
            doomed += int((total < 0).sum())
        observation = env.step(torch.full((LANES, STATIONS), index % 45 // 3 * 3)).observation
    assert seen > 100
    assert doomed > 5


@pytest.mark.parametrize(("mode", "weight"), [("ignore", 0.0), ("potential", 1.0)])
def test_other_modes(mode: str, weight: float) -> None:
    env = market()
    shaped = shaping(env, mode, 0.9)
    observation = env.reset(5)
    for _ in range(6):
        step = env.step(torch.zeros(LANES, STATIONS, dtype=torch.int64))
        ended = torch.tensor([[False], [True], [False]])
        now, later = (field(env, x, "waiting_value") for x in (observation, step.observation))
        expected = step.reward + weight * (0.9 * later * ~ended - now)
        torch.testing.assert_close(shaped.shape(step.reward, observation, step.observation, ended), expected)
        observation = step.observation
