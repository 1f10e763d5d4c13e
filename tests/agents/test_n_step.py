"""Deep Q-learning over several steps: the replay memory's sums against a plain loop, resuming, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gridmarl.agents.dqn import DQN
from gridmarl.agents.replay import Batch, ReplayMemory
from gridmarl.errors import ConfigError
from gridmarl.protocols import Transition
from tests.oracles.toy_env import OppositeEnv

CPU = torch.device("cpu")
LANES, AGENTS, DISCOUNT = 3, 2, 0.8


def steps(count: int, seed: int = 0) -> tuple[list[Batch], list[Tensor]]:
    """Random steps `[E, P, ...]`; observation and action say which they are. Some end the episode, half terminally."""
    generator = torch.Generator().manual_seed(seed)
    batches, ends = [], []
    for step in range(count):
        code = torch.arange(LANES * AGENTS).view(LANES, AGENTS) + 100 * step
        ended = torch.rand(LANES, generator=generator) < 0.3
        terminal = (ended & (torch.rand(LANES, generator=generator) < 0.5)).unsqueeze(1).expand(-1, AGENTS)
        reward = torch.randn(LANES, AGENTS, generator=generator)
        observed = code.unsqueeze(-1).float()
        batches.append(Batch(observed, code, reward, observed + 0.5, terminal))
        ends.append(ended)
    return batches, ends


def expected(
    batches: list[Batch], ends: list[Tensor], step: int, lane: int, agent: int, n: int
) -> tuple[float, float, bool, float]:
    """Sum of rewards, next observation, terminal, weight of the value there: step by step."""
    total, weight = 0.0, 1.0
    for at in range(step, step + n):
        total += weight * float(batches[at].reward[lane, agent])
        weight *= DISCOUNT
        if ends[at][lane]:
            break
    last = batches[at]
    return total, float(last.next_observation[lane, agent, 0]), bool(last.terminal[lane, agent]), weight


@pytest.mark.parametrize("count", [5, 8, 9, 13, 16])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_sums_over_steps_equal_a_plain_loop(count: int, n: int) -> None:
    """Before and after the ring of eight steps is full; each usable start occurs once, and no other."""
    memory = ReplayMemory(8 * LANES, LANES, AGENTS, 1, CPU, horizon=n)
    batches, ends = steps(count)
    for batch, ended in zip(batches, ends, strict=True):
        memory.add(batch, ended)
    assert memory.usable == (min(count, 8) - n + 1) * LANES
    slot = memory.usable_slots(torch.arange(memory.usable))
    by_slot, slot_weight = memory.followed(memory.by_slot(slot), slot, None, DISCOUNT)
    found = set()
    for row in range(memory.usable):
        for agent in range(AGENTS):
            one, agents = slot[row : row + 1], torch.tensor([agent])
            alone, weight = memory.followed(memory.by_transition(one * AGENTS + agent), one, agents, DISCOUNT)
            step, code = divmod(int(alone.action), 100)
            lane = code // AGENTS
            assert code % AGENTS == agent
            found.add((step, lane))
            total, following, terminal, expected_weight = expected(batches, ends, step, lane, agent, n)
            assert float(alone.reward) == pytest.approx(total, abs=1e-6)
            assert float(alone.next_observation) == following
            assert bool(alone.terminal) == terminal
            assert float(weight) == pytest.approx(expected_weight, abs=1e-6)
            assert torch.equal(by_slot.reward[row, agent], alone.reward[0])
            assert torch.equal(by_slot.next_observation[row, agent], alone.next_observation[0])
            assert torch.equal(by_slot.terminal[row, agent], alone.terminal[0])
            assert torch.equal(slot_weight[row, agent], weight[0])
    assert found == {(step, lane) for step in range(max(count - 8, 0), count - n + 1) for lane in range(LANES)}


def test_a_memory_too_short_for_its_horizon_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"replay_capacity=11: must be at least 4 steps of 3 lanes, 12"):
        ReplayMemory(11, 3, 1, 1, CPU, horizon=4)
    with pytest.raises(ConfigError, match=r"n_step=0; allowed is an integer >= 1"):
        DQN(OppositeEnv(LANES).context(n_step=0))


def play(agent: DQN, start: int, count: int) -> None:
    """Steps of a chain whose reward depends on the action, ended every fifth step."""
    for step in range(start, start + count):
        observed = torch.full((LANES, AGENTS, 1), float(step % 5))
        action = agent.act(observed, explore=True)
        ended = torch.full((LANES,), step % 5 == 4)
        following = torch.full((LANES, AGENTS, 1), float(step % 5 + 1))
        never = torch.zeros_like(ended)
        agent.learn(Transition(observed, action, action.float(), following, never, ended))


@pytest.mark.parametrize("policy", ["shared", "independent"])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_a_resumed_agent_goes_on_as_if_never_stopped(policy: str, bootstrap: bool) -> None:
    options: dict[str, Any] = {
        "n_step": 3,
        "policy": policy,
        "bootstrap_truncation": bootstrap,
        "learning_starts": 1,
        "replay_capacity": 24,
        "batch_size": 8,
    }
    whole, first, second = (DQN(OppositeEnv(LANES).context(**options)) for _ in range(3))
    play(whole, 0, 30)
    play(first, 0, 13)
    second.load_state_dict(first.state_dict())
    play(second, 13, 17)
    for ours, theirs in zip(whole.online.parameters(), second.online.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert whole._updates == 28  # none in the first two steps, of which none is followed by two others
