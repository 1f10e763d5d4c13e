"""Stable-Baselines3 agents: equal to SB3's own training, functions of their seed, resumed bit for bit."""

from __future__ import annotations

import io
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gridmarl.agents.registry import agent_factory, make_agent
from gridmarl.errors import ConfigError
from gridmarl.protocols import Transition
from gridmarl.testing import check_agent
from gridmarl.train.checkpoint import CHECKPOINT_FILE, load_checkpoint
from gridmarl.train.config import TrainConfig
from gridmarl.train.loop import build_agent, train
from tests.agents.sb3_cases import (
    LANES,
    NAMES,
    PROSUMERS,
    QUICK,
    advance,
    agent_in,
    assert_equal_bits,
    context_of,
    market,
    sb3_trained,
    space_of,
    tensors,
)
from tests.oracles.toy_env import ChainEnv, ToyEnv

STEPS = {"sb3-ppo": 40, "sb3-a2c": 40, "sb3-dqn": 60, "sb3-sac": 24}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("sb3-ppo", "continuous", {}),
    ("sb3-ppo", "discrete", {"net_arch": [8], "target_kl": 0.01, "clip_range_vf": 0.2}),
    ("sb3-a2c", "continuous", {"use_rms_prop": False, "normalize_advantage": True}),
    ("sb3-a2c", "discrete", {}),
    ("sb3-dqn", "discrete", {"exploration_fraction": 0.9}),
    ("sb3-dqn", "discrete", {"n_steps": 3, "buffer_size": 60, "tau": 0.5}),
    ("sb3-sac", "continuous", {"net_arch": [256, 256]}),
    ("sb3-sac", "continuous", {"ent_coef": 0.1, "gradient_steps": -1, "train_freq": 2, "net_arch": [8]}),
]


def through_a_file(state: dict[str, Any]) -> Any:
    """As a checkpoint does: no code of the file is run."""
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.mark.parametrize(("name", "space", "options"), CASES)
def test_trains_as_sb3_does(name: str, space: str, options: dict[str, Any]) -> None:
    """The same parameters, optimisers and counters as SB3's own `learn`, bit for bit."""
    steps, env = STEPS[name], market(space)
    agent = agent_in(name, env, seed=3, total_steps=steps * LANES, **options)
    before = {key: value.clone() for key, value in tensors(agent.model).items()}
    advance(agent, env, env.reset(3), steps)
    model = sb3_trained(name, market(space), steps, seed=3, **{**QUICK[name], **options})
    assert_equal_bits(tensors(agent.model), tensors(model))
    assert any(not torch.equal(value, tensors(model)[key]) for key, value in before.items())
    for counter in ("num_timesteps", "_n_updates", "_current_progress_remaining"):
        assert getattr(agent.model, counter) == getattr(model, counter), counter


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-a2c", "sb3-dqn"])
def test_trains_as_sb3_does_where_lanes_end_apart_and_for_good(name: str) -> None:
    """Episodes that terminate, each lane at another step."""
    steps, env = 40, ChainEnv(num_envs=3)
    options = {**QUICK[name], "activation": "relu"}
    agent = make_agent(name, env.context(1, total_steps=steps * 3, **options))
    advance(agent, env, env.reset(1), steps)
    model = sb3_trained(name, ChainEnv(num_envs=3), steps, seed=1, activation=nn.ReLU, **QUICK[name])
    assert_equal_bits(tensors(agent.model), tensors(model))  # type: ignore[attr-defined]


def test_a_time_limit_does_not_end_the_value_but_a_termination_does() -> None:
    """What would go unseen if both agent and SB3's own loop were told nothing of truncation."""

    class Ending(ToyEnv):
        def __init__(self) -> None:
            super().__init__(2, 1, 2, 1)

    env, values = Ending(), {}
    for kind in ("terminated", "truncated"):
        agent: Any = make_agent("sb3-a2c", env.context(0, n_steps=1, gamma=0.5))
        observation = torch.ones(2, 1, 1)
        expected = agent.model.policy.predict_values(observation[:, 0]).detach()
        action = agent.act(observation, explore=True)
        flags = {"terminated": env.flags(False), "truncated": env.flags(False), kind: env.flags(True)}
        seen = Transition(observation, action, torch.ones(2, 1), observation, **flags)
        values[kind] = torch.from_numpy(agent._continued_rewards(seen))
        assert torch.equal(seen.reward, torch.ones(2, 1)), "the environment's reward is left alone"
    assert torch.equal(values["terminated"], torch.ones(2))
    torch.testing.assert_close(values["truncated"], 1.0 + 0.5 * expected[:, 0])


# Randomness -----------------------------------------------------------------------------------------------------------


def global_states() -> tuple[Any, ...]:
    words = np.random.get_state(legacy=False)  # noqa: NPY002 -- whether it was touched is the question
    return words["state"]["key"].tolist(), words["state"]["pos"], torch.get_rng_state().tolist(), random.getstate()


@pytest.mark.parametrize("name", NAMES)
def test_is_a_function_of_its_seed_and_leaves_the_process_its_own_generators(name: str) -> None:
    found = []
    for number in range(2):
        torch.rand(1 + number)  # the process's generators are elsewhere each time
        before, env = global_states(), market(space_of(name))
        agent = agent_in(name, env, seed=5)
        advance(agent, env, env.reset(5), 30)
        assert global_states() == before
        found.append(tensors(agent.model))
    assert_equal_bits(*found)
    env = market(space_of(name))
    other = agent_in(name, env, seed=6)
    advance(other, env, env.reset(5), 30)
    assert any(not torch.equal(value, tensors(other.model)[key]) for key, value in found[0].items())


@pytest.mark.parametrize("seed", [2**32, 2**64 - 1])
def test_any_seed_of_a_run_will_do(seed: int) -> None:
    env = market("continuous")
    agent = agent_in("sb3-sac", env, seed=seed)
    assert agent.act(env.reset(0), explore=True).shape == (LANES, PROSUMERS, 3)


@pytest.mark.parametrize("name", NAMES)
def test_greedy_actions_take_any_lanes_and_change_nothing(name: str) -> None:
    env = market(space_of(name))
    agent = agent_in(name, env)
    observation = advance(agent, env, env.reset(0), 17)
    before, states = deepcopy(agent.state_dict()), global_states()
    actions = agent.act(observation, explore=False)
    assert torch.equal(actions, agent.act(observation, explore=False))
    assert torch.equal(agent.act(observation.repeat(5, 1, 1), explore=False)[-LANES:], actions)
    assert global_states() == states
    assert_same(before, agent.state_dict())


def assert_same(one: Any, two: Any) -> None:
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert list(one) == list(two)
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for pair in zip(one, two, strict=True):
            assert_same(*pair)
    else:
        assert one == two


# Resume ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [9, 23, 24])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NAMES),
        ("sb3-ppo", {"space": "discrete"}),
        ("sb3-dqn", {"buffer_size": 40, "n_steps": 2, "exploration_fraction": 0.9}),
        ("sb3-sac", {"ent_coef": 0.2, "train_freq": 4}),
    ],
)
def test_resumed_equals_uninterrupted(name: str, options: dict[str, Any], stop: int) -> None:
    """Also in the middle of a rollout, between two trainings, and where old transitions were overwritten."""
    options = dict(options)
    space = options.pop("space", space_of(name))
    env, steps = market(space), 40
    whole = agent_in(name, env, total_steps=steps * LANES, **options)
    observation = advance(whole, env, env.reset(0), stop)
    agent_state, env_state = whole.state_dict(), env.state_dict()
    saved, at_stop = through_a_file(agent_state), observation.clone()
    reports: list[Any] = []
    advance(whole, env, observation, steps - stop, reports)
    assert_same(agent_state, saved)  # training on does not change what was handed out
    env.load_state_dict(env_state)
    # The saved length of the run wins, so that exploration goes on as it began.
    resumed = agent_in(name, env, seed=99, total_steps=7, **options)
    resumed.load_state_dict(saved)
    again: list[Any] = []
    advance(resumed, env, at_stop, steps - stop, again)
    assert reports
    assert again == reports
    assert_same(resumed.state_dict(), whole.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_the_training_loop_resumes_it(name: str, tmp_path: Path) -> None:
    """Through checkpoint files; the first half of the run already knows how long the whole is."""
    spent: dict[str, Any] = {}
    for run, lengths in (("whole", [30]), ("halves", [15, 30])):
        for steps in lengths:
            env = market(space_of(name))
            config = TrainConfig(
                env_id=env.env_id, agent=name, total_steps=steps * LANES, num_envs=LANES, seed=4, tensorboard=False,
                agent_options={**QUICK[name], **({"total_steps": 30 * LANES} if run == "halves" else {})},
            )  # fmt: skip
            train(env, build_agent(env, config), config, tmp_path / run, resume=steps == 30 and run == "halves")
        spent[run] = load_checkpoint(tmp_path / run / CHECKPOINT_FILE)["agent"]
    assert spent["whole"]["counters"]["_total_timesteps"] == 30 * LANES * PROSUMERS
    assert spent["whole"]["counters"]["_n_updates"] > 0
    assert_same(spent["halves"], spent["whole"])


def test_a_buffer_of_another_size_is_refused() -> None:
    env = market("continuous")
    for name, smaller in (("sb3-ppo", {"n_steps": 2}), ("sb3-sac", {"buffer_size": 6})):
        agent = agent_in(name, env)
        advance(agent, env, env.reset(0), 5)
        with pytest.raises(ConfigError, match=rf"{name}: saved buffer: observations has shape \(5, 6, 25\)"):
            agent_in(name, env, **smaller).load_state_dict(agent.state_dict())


@pytest.mark.parametrize(("name", "space"), sorted({(name, space) for name, space, _ in CASES}))
def test_conforms(name: str, space: str) -> None:
    check_agent(agent_factory(name), market(space), options=QUICK[name])


# Reports --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sb3-ppo", {"policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "explained_variance", "lr"}),
        ("sb3-a2c", {"policy_loss", "value_loss", "entropy", "explained_variance", "lr"}),
        ("sb3-dqn", {"loss", "epsilon", "lr"}),
        ("sb3-sac", {"actor_loss", "critic_loss", "ent_coef", "ent_coef_loss", "lr"}),
    ],
)
def test_reports_what_sb3_logs(name: str, expected: set[str]) -> None:
    env, reports = market(space_of(name)), []
    agent = agent_in(name, env)
    advance(agent, env, env.reset(0), 30, reports)
    assert set(reports[-1]) >= expected
    assert all(type(value) is float and np.isfinite(value) for report in reports for value in report.values())
    assert reports[-1].get("entropy", 1.0) > 0.0


def test_returns_that_do_not_vary_leave_no_variance_to_explain() -> None:
    env, reports = ChainEnv(num_envs=2, cash=1.0), []
    agent = make_agent("sb3-a2c", env.context(0, n_steps=1, gamma=0.0))
    env.step = lambda actions: ChainEnv.step(env, torch.zeros_like(actions))  # type: ignore[method-assign]
    advance(agent, env, env.reset(0), 1, reports)
    assert reports[0]["explained_variance"] == 0.0


def test_dqn_explores_over_its_share_of_the_run() -> None:
    """In steps of one lane, whatever the number of agents."""
    env = market("discrete")
    agent = agent_in("sb3-dqn", env, total_steps=60, exploration_fraction=0.5, exploration_final_eps=0.2)
    observation = env.reset(0)
    for step in range(1, 16):
        observation = advance(agent, env, observation, 1)
        expected = max(0.2, 1.0 - 0.8 * step * LANES / 30)
        assert agent.model.exploration_rate == pytest.approx(expected, abs=1e-9)
    assert context_of(env).num_agents == PROSUMERS > 1
