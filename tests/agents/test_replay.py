"""The replay ring and the running moments."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gridmarl.agents.replay import Batch, ReplayMemory, RunningMoments
from gridmarl.errors import ConfigError
from gridmarl.protocols import Alone

CPU = torch.device("cpu")


def step_of(number: int, lanes: int, agents: int) -> Batch:
    """Transitions that carry (step, lane, agent) in every field."""
    lane = torch.arange(lanes).view(-1, 1).expand(-1, agents)
    agent = torch.arange(agents).expand(lanes, -1)
    code = number * 10_000 + lane * 100 + agent
    values = torch.stack((code, code + 0.5), dim=-1).float()
    return Batch(values, code, code.float(), values + 1.0, code % 2 == 0)


@given(lanes=st.integers(1, 4), agents=st.integers(1, 3), capacity=st.integers(4, 20), steps=st.integers(0, 15))
def test_ring_holds_the_last_whole_steps(lanes: int, agents: int, capacity: int, steps: int) -> None:
    memory = ReplayMemory(capacity, lanes, agents, 2, CPU)
    for number in range(steps):
        memory.add(step_of(number, lanes, agents))
    kept = min(steps, capacity // lanes)
    assert memory.size == kept * lanes
    found = memory.by_slot(torch.arange(memory.size))
    expected = sorted(
        number * 10_000 + lane * 100 + agent
        for number in range(steps - kept, steps)
        for lane in range(lanes)
        for agent in range(agents)
    )
    assert sorted(found.action.flatten().tolist()) == expected
    for agent in range(agents):
        assert bool((found.action[:, agent] % 100 == agent).all())
    assert torch.equal(found.observation[..., 0], found.reward)
    assert torch.equal(found.next_observation, found.observation + 1.0)
    assert torch.equal(found.terminal, found.action % 2 == 0)


def test_transitions_are_slots_laid_out_agent_by_agent() -> None:
    memory = ReplayMemory(8, 2, 3, 2, CPU)
    for number in range(3):
        memory.add(step_of(number, 2, 3))
    index = torch.arange(memory.size * 3)
    flat, slots = memory.by_transition(index), memory.by_slot(torch.arange(memory.size))
    assert torch.equal(flat.action % 100, index % 3)
    assert torch.equal(flat.observation, slots.observation.flatten(0, 1))


def test_saved_ring_continues_where_it_was() -> None:
    memory, copy = ReplayMemory(6, 2, 1, 2, CPU), ReplayMemory(6, 2, 1, 2, CPU)
    for number in range(4):
        memory.add(step_of(number, 2, 1))
    copy.load_state_dict(memory.state_dict())
    for ring in (memory, copy):
        ring.add(step_of(9, 2, 1))
    everything = torch.arange(6)
    for one, other in zip(memory.by_slot(everything), copy.by_slot(everything), strict=True):
        assert torch.equal(one, other)


def test_refuses_too_small_and_other_memories() -> None:
    with pytest.raises(ConfigError, match="replay_capacity=3: must be at least the number of lanes, 4"):
        ReplayMemory(3, 4, 1, 2, CPU)
    saved = ReplayMemory(4, 2, 1, 2, CPU).state_dict()
    with pytest.raises(ConfigError, match="holds 4 slots"):
        ReplayMemory(6, 2, 1, 2, CPU).load_state_dict(saved)
    with pytest.raises(ConfigError, match=r"observation has shape \(1, 2\)"):
        ReplayMemory(4, 2, 1, 3, CPU).load_state_dict(saved)


def test_moments_equal_those_of_all_samples() -> None:
    generator = torch.Generator().manual_seed(5)
    samples = torch.randn(30, 2, 3, generator=generator) * 4.0 + 100.0
    moments = RunningMoments((2, 3), CPU, Alone())
    for part in samples.split([1, 4, 25]):
        moments.update(part)
    expected = (samples.double() - samples.double().mean(0)) / samples.double().std(0, correction=0)
    torch.testing.assert_close(moments.normalise(samples).double(), expected, atol=1e-5, rtol=1e-5)
    copy = RunningMoments((2, 3), CPU, Alone())
    copy.load_state_dict(moments.state_dict())
    assert torch.equal(copy.normalise(samples), moments.normalise(samples))


def test_constant_entries_normalise_to_zero_and_outliers_are_clamped() -> None:
    moments = RunningMoments((2,), CPU, Alone())
    moments.update(torch.tensor([[3.0, -1.0], [3.0, 1.0]]))
    seen = moments.normalise(torch.tensor([[3.0, 1e6]]))
    assert seen.tolist() == [[0.0, 10.0]]
    assert moments.scale(torch.tensor([[2.0, 2.0]])).tolist() == [[2.0, 2.0]]
