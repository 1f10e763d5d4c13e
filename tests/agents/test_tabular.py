"""Tabular Q-learning reaches known optima, equals a slow table in plain Python, and repeats itself bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from blake3 import blake3
from torch import Tensor

from gridmarl.agents.registry import make_agent
from gridmarl.agents.tabular import TabularQ
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.errors import ConfigError
from gridmarl.protocols import ActionSpec, Agent, AgentContext, ObservationField, Transition
from tests.agents.side_by_side import continue_alike
from tests.oracles.toy_env import ChainEnv, IdentityEnv, OppositeEnv, ToyEnv

FAST: dict[str, Any] = {"exploration_steps": 2_000, "learning_rate": 0.05}


def everything(env: ToyEnv) -> list[list[Any]]:
    """A view that tells all one-hot observations apart."""
    return [[item.name, [0.5]] for item in env.observation_fields]


def run(env: ToyEnv, steps: int, seed: int = 3, **options: Any) -> TabularQ:
    agent = make_agent("tabular_q", env.context(seed), **{**FAST, "view": everything(env), **options})
    assert isinstance(agent, TabularQ)
    observation = env.reset(seed)
    for _ in range(steps):
        action = agent.act(observation, explore=True)
        step = env.step(action)
        agent.learn(
            Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
        )
        observation = step.observation
    return agent


def test_learns_what_to_do_with_each_symbol() -> None:
    env = IdentityEnv()
    agent = run(env, 200, discount=0.0)
    observation = env.reset(99)
    for _ in range(env.horizon):
        step = env.step(agent.act(observation, explore=False))
        assert float(step.reward.mean()) == 1.0
        observation = step.observation


def test_agents_with_opposite_optima_learn_apart() -> None:
    env = OppositeEnv()
    agent = run(env, 50)
    state = agent.states(env.reset(0))[0]
    values = agent.table[torch.arange(2), state]
    torch.testing.assert_close(values, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double())


@pytest.mark.parametrize("discount", [0.9, 0.6])
def test_delayed_reward_is_discounted(discount: float) -> None:
    env = ChainEnv(length=4, cash=0.5)
    agent = run(env, 600, discount=discount, exploration_steps=10**9)
    values = agent.table[0, agent.states(env.reset(0))[0, 0]]
    walking = discount * max(0.5, discount * max(0.5, discount))
    torch.testing.assert_close(values, torch.tensor([0.5, walking]).double(), atol=1e-3, rtol=0.0)


@pytest.mark.parametrize(("bootstrap", "value"), [(False, 1.0), (True, 2.0)])
def test_the_horizon_ends_the_value_unless_told_otherwise(bootstrap: bool, value: float) -> None:
    env = OppositeEnv()
    agent = run(env, 400, bootstrap_truncation=bootstrap, discount=0.5)
    best = agent.table[torch.arange(2), agent.states(env.reset(0))[0]].amax(dim=-1)
    torch.testing.assert_close(best, torch.full((2,), value).double(), atol=1e-3, rtol=0.0)


def test_equals_a_slow_table() -> None:
    """Entry by entry in plain Python: batch mean, step size from the visits, targets from the table before."""
    lanes, agents, states, actions, rate, discount = 12, 2, 3, 2, 0.3, 0.8
    fields = (ObservationField("x", "", 0.5, 0.0, 9.0, ""),)
    spec = ActionSpec("discrete", actions, 0, ("a",))
    options = {"view": [["x", [1.0, 2.0]]], "learning_rate": rate, "discount": discount, "initial_value": 0.25}
    agent = TabularQ(AgentContext(lanes, agents, fields, spec, torch.device("cpu"), 1, options))
    table = [[[0.25] * actions for _ in range(states)] for _ in range(agents)]
    visits = [[[0] * actions for _ in range(states)] for _ in range(agents)]
    generator = torch.Generator().manual_seed(6)
    for _ in range(8):
        now, later = (torch.randint(states, (lanes, agents), generator=generator) for _ in range(2))
        action = torch.randint(actions, (lanes, agents), generator=generator)
        reward = torch.randn(lanes, agents, generator=generator)
        ended = torch.rand(lanes, generator=generator) < 0.3
        # x is what the field means, times its scale.
        before, after = ((x * 0.5).unsqueeze(-1) for x in (now, later))
        assert torch.equal(agent.states(before), now)
        agent.learn(Transition(before, action, reward, after, torch.zeros_like(ended), ended))
        targets: dict[tuple[int, int, int], list[float]] = {}
        for lane in range(lanes):
            for who in range(agents):
                ahead = 0.0 if bool(ended[lane]) else max(table[who][int(later[lane, who])])
                key = (who, int(now[lane, who]), int(action[lane, who]))
                targets.setdefault(key, []).append(float(reward[lane, who]) + discount * ahead)
        for (who, state, choice), seen in targets.items():
            visits[who][state][choice] += len(seen)
            share = max(len(seen) / visits[who][state][choice], 1.0 - (1.0 - rate) ** len(seen))
            entry = table[who][state][choice]
            table[who][state][choice] = entry + share * (sum(seen) / len(seen) - entry)
    assert agent.visits.tolist() == visits
    torch.testing.assert_close(agent.table, torch.tensor(table).double(), atol=1e-6, rtol=0.0)


def test_first_visits_are_averaged_and_the_lanes_order_changes_no_bit() -> None:
    env = OppositeEnv(num_envs=64)
    generator = torch.Generator().manual_seed(2)
    reward = torch.randn(64, 2, generator=generator) * 1e3
    action = torch.zeros(64, 2, dtype=torch.int64)
    flags = torch.ones(64, dtype=torch.bool)
    tables = []
    for order in (torch.arange(64), torch.randperm(64, generator=generator)):
        agent = TabularQ(env.context(1, view=everything(env)))
        agent.learn(Transition(env.reset(0), action, reward[order], env.reset(0), flags, flags))
        tables.append(agent.table)
    assert torch.equal(*tables)
    torch.testing.assert_close(tables[0][:, 1, 0], reward.double().mean(dim=0), atol=1e-6, rtol=0.0)


def table_hash(agent: TabularQ) -> str:
    return blake3(agent.table.numpy().tobytes()).hexdigest()


def test_equal_seeds_give_equal_tables_and_a_saved_agent_continues_bit_for_bit() -> None:
    env = IdentityEnv()
    first, second, other = (run(env, 31, seed) for seed in (1, 1, 2))
    assert table_hash(first) == table_hash(second) != table_hash(other)
    copy = TabularQ(env.context(1, **{**FAST, "view": everything(env)}))
    copy.load_state_dict(first.state_dict())
    continue_alike(first, copy, env, 20)
    assert table_hash(first) == table_hash(copy) != table_hash(second)


def test_default_view_reads_the_market() -> None:
    env = BatchedTwoStageDR(TwoStageDRParams(action_space="discrete"), num_envs=4)
    spaces = (env.observation_fields, env.action_spec, env.device)
    agent = make_agent("tabular_q", AgentContext(env.num_envs, env.num_agents, *spaces, 0))
    assert isinstance(agent, TabularQ)
    assert isinstance(agent, Agent)
    assert agent.num_states == 8 * 2 * 4
    observation = env.reset(0)
    seen = []
    for _ in range(48):
        seen.append(agent.states(observation))
        action = agent.act(observation, explore=True)
        step = env.step(action)
        agent.learn(
            Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
        )
        observation = step.observation
    assert int(agent.visits.sum()) == 48 * 4 * env.num_agents
    # Eight parts of the day, both kinds of last hour, more than one price: most of the view is used.
    assert torch.stack(seen).unique().numel() > 24
    assert (torch.stack(seen)[:24:3, 0, 0] // 8).tolist() == list(range(8))


def test_reads_no_value() -> None:
    meta = torch.device("meta")
    fields = (ObservationField("outside_option_tok", "", 1.0, -1e9, 1e9, ""),)
    spec = ActionSpec("discrete", 4, 0, ("a",))
    agent = TabularQ(AgentContext(8, 3, fields, spec, meta, 1, {"view": [["outside_option_tok", [0.0]]]}))
    observation, flag = torch.zeros(8, 3, 1, device=meta), torch.zeros(8, dtype=torch.bool, device=meta)
    for _ in range(3):
        action: Tensor = agent.act(observation, explore=True)
        assert (action.device, action.shape, action.dtype) == (meta, (8, 3), torch.int64)
        reward = torch.zeros(8, 3, device=meta)
        assert agent.learn(Transition(observation, action, reward, observation, flag, flag)) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.1}, "unknown option 'alpha'; allowed are view, discount"),
        ({"view": [["hour", [1.0]]]}, "view names the field 'hour'; allowed are is_0, is_1"),
        ({"view": ["is_0"]}, "allowed are pairs"),
        ({"view": [["is_0", [2.0, 1.0]]]}, "edges of is_0=.2.0, 1.0.; allowed is an increasing list"),
        ({"view": [["is_0", []]]}, "edges of is_0=..; allowed is an increasing list"),
        ({"view": [["is_0", ["a"]]]}, "edge of is_0='a'; allowed is a number"),
        ({"view": [["is_0", [float(x) for x in range(4_200_000)]]]}, "allowed are up to 50000000 entries"),
        ({"learning_rate": 0.0}, "learning_rate=0.0; allowed is a number > 0"),
        ({"epsilon_start": 0.1, "epsilon_end": 0.2}, "epsilon_end=0.2 with epsilon_start=0.1"),
    ],
)
def test_refused_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TabularQ(IdentityEnv().context(**options))


def test_continuous_actions_and_other_tables_are_refused() -> None:
    env = IdentityEnv()
    context = replace(env.context(), action_spec=ActionSpec("continuous", 0, 1, ("price",)))
    with pytest.raises(ConfigError, match="kind='continuous'; allowed is 'discrete'"):
        TabularQ(context)
    with pytest.raises(ConfigError, match=r"saved table has shape \(3, 16, 4\)"):
        TabularQ(env.context()).load_state_dict(run(env, 2).state_dict())
