"""Deep Q-learning reaches known optima, keeps agents apart, and repeats itself bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from blake3 import blake3
from torch import Tensor

from gridmarl.agents.dqn import DQN
from gridmarl.errors import ConfigError
from gridmarl.protocols import ActionSpec, Agent, ObservationField, Transition
from tests.agents.side_by_side import continue_alike, one_agent_of
from tests.oracles.toy_env import ChainEnv, IdentityEnv, OppositeEnv, ToyEnv

FAST: dict[str, Any] = {
    "hidden": (32,),
    "batch_size": 64,
    "learning_starts": 64,
    "learning_rate": 5e-3,
    "replay_capacity": 2_000,
    "target_interval": 20,
    "exploration_steps": 2_000,
    "log_every": 50,
}


def run(env: ToyEnv, steps: int, seed: int = 3, **options: Any) -> DQN:
    agent = DQN(env.context(seed, **{**FAST, **options}))
    observation = env.reset(seed)
    for _ in range(steps):
        action = agent.act(observation, explore=True)
        step = env.step(action)
        agent.learn(
            Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
        )
        observation = step.observation
    return agent


def parameter_hash(agent: DQN) -> str:
    state = blake3()
    for name, value in sorted(agent.online.state_dict().items()):
        state.update(name.encode())
        state.update(value.contiguous().numpy().tobytes())
    return state.hexdigest()


def greedy_share(env: IdentityEnv, agent: DQN) -> float:
    hits = 0.0
    observation = env.reset(99)
    for _ in range(env.horizon):
        step = env.step(agent.act(observation, explore=False))
        hits += float(step.reward.mean())
        observation = step.observation
    return hits / env.horizon


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "shared", "agent_id": True},
        {"policy": "independent"},
        {"policy": "independent", "double": False, "dueling": False, "loss": "mse"},
        {"policy": "shared", "agent_id": True, "target_interval": 1, "target_mix": 0.05},
    ],
)
def test_learns_what_to_do_with_each_symbol(options: dict[str, Any]) -> None:
    env = IdentityEnv()
    assert greedy_share(env, run(env, 400, discount=0.0, **options)) == 1.0


@pytest.mark.parametrize(
    "options", [{"policy": "independent"}, {"stateless": True, "learning_rate": 0.02}, {"agent_id": True}]
)
def test_agents_with_opposite_optima_learn_apart(options: dict[str, Any]) -> None:
    env = OppositeEnv()
    agent = run(env, 300, normalise_rewards=False, **options)
    values = agent.action_values(env.reset(0))[0]
    torch.testing.assert_close(values, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), atol=0.1, rtol=0.0)


def test_one_network_without_agent_id_cannot_tell_opposite_agents_apart() -> None:
    """The toy does what it is for: mixed transitions give values near zero."""
    env = OppositeEnv()
    values = run(env, 300, normalise_rewards=False, loss="mse").action_values(env.reset(0))[0]
    assert float(values.detach().abs().max()) < 0.5


@pytest.mark.parametrize(("discount", "advances"), [(0.9, True), (0.6, False)])
def test_delayed_reward_is_discounted(discount: float, advances: bool) -> None:
    env = ChainEnv(length=4, cash=0.5)
    agent = run(env, 500, discount=discount, normalise_rewards=False, exploration_steps=10**9)
    values = agent.action_values(env.reset(0))[0, 0]
    # From the first place on, the better of cashing and walking; walking is worth discount**3.
    walking = discount * max(0.5, discount * max(0.5, discount))
    torch.testing.assert_close(values, torch.tensor([0.5, walking]), atol=0.05, rtol=0.0)
    assert bool(values[1] > values[0]) is advances


def test_shared_network_ignores_which_agent_stands_where() -> None:
    agent = run(IdentityEnv(), 50)
    observation = IdentityEnv().reset(1)
    values = agent.action_values(observation)
    torch.testing.assert_close(agent.action_values(observation.flip(1)), values.flip(1))


@pytest.mark.parametrize(("bootstrap", "value"), [(False, 1.0), (True, 2.0)])
def test_the_horizon_ends_the_value_unless_told_otherwise(bootstrap: bool, value: float) -> None:
    """One step per episode at reward 1: worth 1, or 1/(1 - 0.5) if the value goes on through the truncation."""
    env = OppositeEnv()
    agent = run(env, 400, policy="independent", bootstrap_truncation=bootstrap, discount=0.5, normalise_rewards=False)
    best = agent.action_values(env.reset(0))[0].max(dim=-1).values
    torch.testing.assert_close(best, torch.full((2,), value), atol=0.1, rtol=0.0)


@pytest.mark.parametrize("options", [{"agent_id": True}, {"policy": "independent"}, {"stateless": True}])
def test_equal_seeds_give_equal_parameters(options: dict[str, Any]) -> None:
    first, second, other = (run(IdentityEnv(), 60, seed, **options) for seed in (1, 1, 2))
    assert parameter_hash(first) == parameter_hash(second) != parameter_hash(other)


@pytest.mark.parametrize("options", [{"agent_id": True}, {"policy": "independent"}, {"stateless": True}])
def test_saved_agent_continues_bit_for_bit(options: dict[str, Any]) -> None:
    env = IdentityEnv()
    agent = run(env, 61, **options)
    copy = DQN(env.context(3, **{**FAST, **options}))
    copy.load_state_dict(agent.state_dict())
    continue_alike(agent, copy, env, 20)
    assert parameter_hash(agent) == parameter_hash(copy)


@pytest.mark.parametrize("max_gradient_norm", [10.0, 0.05])
def test_stacked_training_equals_separate_trainings(max_gradient_norm: float) -> None:
    """P networks in one batched call and P agents alone, on the same experience: equal to 1e-6."""
    env, lone = IdentityEnv(num_agents=3), IdentityEnv(num_agents=1)
    options = {**FAST, "policy": "independent", "max_gradient_norm": max_gradient_norm, "loss": "mse"}
    together = DQN(env.context(4, **options))
    alone = [DQN(lone.context(4, **options)) for _ in range(3)]
    for index, agent in enumerate(alone):
        for network, whole in ((agent.online, together.online), (agent.target, together.target)):
            network.load_state_dict({k: v[index : index + 1] for k, v in whole.state_dict().items()})
    observation = env.reset(4)
    for _ in range(60):
        action = together.act(observation, explore=True)
        step = env.step(action)
        # Rewards of very different size: a gradient norm shared by all agents would show.
        reward = step.reward * torch.tensor([1.0, 10.0, 100.0])
        transition = Transition(observation, action, reward, step.final_observation, step.terminated, step.truncated)
        together.learn(transition)
        for index, agent in enumerate(alone):
            agent.learn(one_agent_of(transition, index))
        observation = step.observation
    before = DQN(env.context(4, **options)).online.state_dict()
    for name, whole in together.online.state_dict().items():
        separate = torch.cat([agent.online.state_dict()[name] for agent in alone])
        torch.testing.assert_close(whole, separate, atol=1e-6, rtol=0.0)
        assert float((whole - before[name]).abs().max()) > 1e-2


def test_exploration_is_a_lane_s_own() -> None:
    """Lane i explores alike in a batch of any size, epsilon of the time, over all actions."""
    small, large = IdentityEnv(num_envs=4), IdentityEnv(num_envs=32)
    few, many = (DQN(env.context(5, **FAST, epsilon_end=1.0)) for env in (small, large))
    drawn = [(few.act(small.reset(1), explore=True), many.act(large.reset(1), explore=True)) for _ in range(20)]
    assert all(torch.equal(one, other[:4]) for one, other in drawn)
    counts = torch.stack([other for _, other in drawn]).flatten().bincount(minlength=4)
    assert bool((counts > 0.2 * counts.sum()).all())


def test_epsilon_falls_linearly_and_greedy_acts_do_not_count() -> None:
    env = OppositeEnv(num_envs=10)
    agent = DQN(env.context(exploration_steps=100, epsilon_start=0.9, epsilon_end=0.1))
    assert agent.epsilon == 0.9
    agent.act(env.reset(0), explore=False)
    assert agent.state_dict()["explorations"] == 0
    agent = run(OppositeEnv(num_envs=10), 5, exploration_steps=100, epsilon_start=0.9, epsilon_end=0.1)
    assert agent.epsilon == pytest.approx(0.5)
    agent = run(OppositeEnv(num_envs=10), 30, exploration_steps=100, epsilon_start=0.9, epsilon_end=0.1)
    assert agent.epsilon == pytest.approx(0.1)


class OutsideEnv(OppositeEnv):
    """OppositeEnv with a large known surplus on top of each reward, shown in the observation."""

    def __init__(self, stage: bool = False) -> None:
        super().__init__(num_envs=16)
        fields = [ObservationField("outside_option_tok", "token", 1.0, -1e9, 1e9, "no market")]
        if stage:
            fields.append(ObservationField("stage", "0 or 1", 1.0, 0.0, 1.0, "stage"))
        self.observation_fields = tuple(fields)
        if stage:
            self.action_spec = replace(self.action_spec, names=("reduction",))
        self.clock = 0

    def reset(self, seed: int) -> Tensor:
        surplus = 1000.0 * torch.sin(torch.arange(32.0).view(16, 2) + self.clock)
        stage = torch.full_like(surplus, float(self.clock % 2))
        return torch.stack((surplus, stage), dim=-1)[..., : len(self.observation_fields)]

    def step(self, actions: Tensor) -> Any:
        before = self.reset(0)
        surplus = before[..., 0] if before.shape[-1] == 1 else before.prod(dim=-1)
        self.clock += 1
        result = super().step(actions)
        return result._replace(reward=result.reward + surplus)


@pytest.mark.parametrize("stage", [False, True])
@pytest.mark.parametrize("discount", [0.0, 0.9])
def test_outside_option_is_taken_off_the_reward_exactly(stage: bool, discount: float) -> None:
    agent = run(OutsideEnv(stage), 100, stateless=True, normalise_rewards=False, discount=discount)
    stored = agent.memory.by_slot(torch.arange(agent.memory.size)).reward
    torch.testing.assert_close(stored.abs(), torch.ones_like(stored), atol=1e-4, rtol=0.0)


def test_potential_adds_the_next_outside_option_back_unless_the_episode_ended() -> None:
    env = OutsideEnv()
    agent = DQN(env.context(outside_option="potential", discount=0.5, normalise_rewards=False))
    ones = torch.ones(16, 2, 1)
    action, reward = torch.zeros(16, 2, dtype=torch.int64), torch.full((16, 2), 7.0)
    ended = torch.arange(16) < 8
    agent.learn(Transition(ones * 3.0, action, reward, ones * 4.0, ended, env.flags(False)))
    stored = agent.memory.by_slot(torch.arange(16)).reward
    assert stored[:, 0].tolist() == [4.0] * 8 + [6.0] * 8


def test_reports_now_and_then() -> None:
    env = IdentityEnv()
    agent = DQN(env.context(3, **{**FAST, "log_every": 10}))
    observation = env.reset(0)
    reports = []
    for _ in range(20):
        action = agent.act(observation, explore=True)
        step = env.step(action)
        reports.append(
            agent.learn(
                Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
            )
        )
    assert [bool(report) for report in reports] == [False] * 9 + [True] + [False] * 9 + [True]
    assert set(reports[-1]) == {"loss", "gradient_norm", "q_mean", "epsilon"}
    assert isinstance(agent, Agent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0.9}, "unknown option 'gamma'; allowed are policy, agent_id, stateless"),
        ({"policy": "both"}, "policy='both'; allowed are 'shared', 'independent'"),
        ({"discount": 1.5}, "discount=1.5; allowed is a number >= 0.0 and <= 1.0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0; allowed is a number > 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"batch_size": True}, "batch_size=True; allowed is an integer >= 1"),
        ({"hidden": (8, 0)}, "hidden=0"),
        ({"hidden": 8}, "hidden=8; allowed is a tuple"),
        ({"double": 1}, "double=1; allowed are True, False"),
        ({"epsilon_start": 0.1, "epsilon_end": 0.2}, "epsilon_end=0.2 with epsilon_start=0.1"),
        ({"agent_id": True, "policy": "independent"}, "agent_id=True with policy='independent'"),
        ({"replay_capacity": 10}, "replay_capacity=10: must be at least the number of lanes, 16"),
        ({"replay_capacity": 2**31}, "transitions"),
    ],
)
def test_refused_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        DQN(IdentityEnv().context(**options))


def test_continuous_actions_are_refused() -> None:
    context = replace(IdentityEnv().context(), action_spec=ActionSpec("continuous", 0, 1, ("price",)))
    with pytest.raises(ConfigError, match="kind='continuous'; allowed is 'discrete'"):
        DQN(context)
