"""Options of the Stable-Baselines3 agents: SB3's own defaults, and what is refused."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest
import stable_baselines3
import torch

from gridmarl.agents.registry import agent_factory
from gridmarl.errors import ActionError, ConfigError
from gridmarl.protocols import Transition
from tests.agents.sb3_cases import NAMES, QUICK, agent_in, market, space_of
from tests.oracles.toy_env import OppositeEnv

OURS = {"total_steps", "load", "net_arch", "activation"}
# What is left to SB3: its own logging, spaces and devices, and what an option on a command line cannot say.
NOT_OFFERED = {
    *("policy", "env", "seed", "device", "verbose", "policy_kwargs", "tensorboard_log", "stats_window_size"),
    *("use_sde", "sde_sample_freq", "use_sde_at_warmup", "action_noise", "optimize_memory_usage", "_init_setup_model"),
    *("rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class", "replay_buffer_kwargs"),
}


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_of_sb3(name: str) -> None:
    algorithm = getattr(stable_baselines3, name.removeprefix("sb3-").upper())
    theirs = inspect.signature(algorithm).parameters
    factory: Any = agent_factory(name)
    ours = {item.name: item.default for item in fields(factory.options_class) if item.name not in OURS}
    assert ours == {key: value.default for key, value in theirs.items() if key not in NOT_OFFERED}
    policy = algorithm.policy_aliases["MlpPolicy"]
    default = inspect.signature(policy).parameters["activation_fn"].default
    assert agent_in(name, market(space_of(name))).model.policy_kwargs["activation_fn"] is default


def test_architecture_and_activation_reach_the_networks() -> None:
    env = market("continuous")
    agent = agent_in("sb3-ppo", env, net_arch={"pi": [7], "vf": [5, 4]}, activation="relu")
    shapes = {name: tuple(value.shape) for name, value in agent.model.policy.state_dict().items()}
    assert shapes["mlp_extractor.policy_net.0.weight"] == (7, 25)
    assert shapes["mlp_extractor.value_net.2.weight"] == (4, 5)
    assert isinstance(agent.model.policy.mlp_extractor.policy_net[1], torch.nn.ReLU)
    critic = agent_in("sb3-sac", env, net_arch={"pi": [7], "qf": [5]}).model.critic
    assert critic.qf0[0].weight.shape == (5, 28)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("sb3-ppo", {"use_sde": True}, "sb3-ppo: unknown option 'use_sde'; allowed are total_steps, load, net_arch"),
        ("sb3-a2c", {"batch_size": 4}, "sb3-a2c: unknown option 'batch_size'"),
        ("sb3-ppo", {"n_steps": 0}, "sb3-ppo: n_steps=0; allowed is an integer >= 1"),
        ("sb3-ppo", {"gamma": 1.5}, "sb3-ppo: gamma=1.5; allowed is a number >= 0.0 and <= 1.0"),
        ("sb3-ppo", {"learning_rate": "fast"}, "sb3-ppo: learning_rate='fast'; allowed is a number > 0.0"),
        ("sb3-ppo", {"clip_range": None}, "clip_range=None"),
        ("sb3-ppo", {"target_kl": 0.0}, "target_kl=0.0; allowed is a number > 0.0"),
        ("sb3-ppo", {"ent_coef": -1.0}, "ent_coef=-1.0"),
        ("sb3-ppo", {"batch_size": 1}, r"\(normalize_advantage=True\): batch_size=1; allowed is an integer >= 2"),
        ("sb3-ppo", {"normalize_advantage": 1}, "normalize_advantage=1; allowed are True, False"),
        ("sb3-ppo", {"activation": "elu"}, "activation='elu'; allowed are 'tanh', 'relu'"),
        ("sb3-ppo", {"net_arch": "64,64"}, "net_arch='64,64'; allowed is a list of integers >= 1 or a mapping"),
        ("sb3-ppo", {"net_arch": {"pi": [8]}}, "with the keys pi, vf"),
        ("sb3-ppo", {"net_arch": [8, 0]}, "net_arch=0; allowed is an integer >= 1"),
        ("sb3-dqn", {"net_arch": {"pi": [8]}}, "allowed is a list of integers >= 1, or null"),
        ("sb3-dqn", {"gradient_steps": -2}, "gradient_steps=-2; allowed is an integer >= -1"),
        ("sb3-sac", {"ent_coef": "much"}, "ent_coef='much'; allowed are 'auto'"),
        ("sb3-sac", {"ent_coef": "auto_x"}, "ent_coef='auto_x'"),
        ("sb3-sac", {"ent_coef": "auto_0"}, "ent_coef='auto_0'"),
        ("sb3-sac", {"target_entropy": "low"}, "target_entropy='low'"),
        ("sb3-ppo", {"load": "x.zip", "activation": "tanh"}, "activation='tanh' with load='x.zip'"),
        ("sb3-ppo", {"load": ""}, "load=''; allowed is the path"),
    ],
)
def test_refused_options(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        agent_in(name, market(space_of(name)), **options)


def test_accepted_forms_of_the_entropy_coefficient() -> None:
    env = market("continuous")
    agent = agent_in("sb3-sac", env, ent_coef="auto_0.5", target_entropy=-2)
    assert float(agent.model.log_ent_coef.detach().exp()) == pytest.approx(0.5)
    assert agent.model.target_entropy == -2.0
    assert agent_in("sb3-sac", env).model.target_entropy == -3.0


@pytest.mark.parametrize(("name", "space"), [("sb3-dqn", "continuous"), ("sb3-sac", "discrete")])
def test_refused_action_spaces(name: str, space: str) -> None:
    other = space_of(name)
    with pytest.raises(ConfigError, match=f"{name}: action_spec.kind='{space}'; allowed is '{other}'"):
        agent_in(name, market(space))


def test_one_row_has_no_advantages_to_normalise() -> None:
    env = OppositeEnv(num_envs=1)
    env.num_agents = 1
    with pytest.raises(ConfigError, match="sb3-ppo: n_steps=1 with one agent in one lane"):
        agent_factory("sb3-ppo")(env.context(0, n_steps=1))


@pytest.mark.parametrize("name", NAMES)
def test_learning_needs_an_action(name: str) -> None:
    env = market(space_of(name))
    agent = agent_in(name, env, **QUICK[name])
    observation = env.reset(0)
    action = agent.act(observation, explore=False)
    step = env.step(action)
    with pytest.raises(ActionError, match=f"{name}: learn without act"):
        agent.learn(
            Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
        )
