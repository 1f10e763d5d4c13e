"""PPO repeats itself bit for bit: seeds, resumption, stacked against separate training; what it shows and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gridmarl.agents import ppo
from gridmarl.agents.dqn import DQN
from gridmarl.agents.ppo import MAPPO, PPO
from gridmarl.agents.ppo_step import adam_scales
from gridmarl.agents.registry import make_agent
from gridmarl.errors import ActionError, ConfigError
from gridmarl.protocols import ActionSpec, Agent, AgentContext, ObservationField, Transition
from gridmarl.train.checkpoint import CHECKPOINT_FILE, load_checkpoint
from gridmarl.train.config import TrainConfig
from gridmarl.train.loop import TrainProgress, build_agent, train
from tests.agents.ppo_cases import FAST, KINDS, META, AimEnv, parameter_hash, parameters, run
from tests.agents.side_by_side import continue_alike, one_agent_of
from tests.oracles.toy_env import IdentityEnv, ToyEnv


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("env", [IdentityEnv(), AimEnv()], ids=["discrete", "continuous"])
def test_equal_seeds_give_equal_parameters(env: ToyEnv, options: dict[str, Any]) -> None:
    first, second, other = (run(env, 40, seed, **options) for seed in (1, 1, 2))
    assert parameter_hash(first) == parameter_hash(second) != parameter_hash(other)


@pytest.mark.parametrize("options", [*KINDS, {"agent_id": True, "bootstrap_truncation": True}])
@pytest.mark.parametrize("env", [IdentityEnv(), AimEnv()], ids=["discrete", "continuous"])
def test_saved_agent_continues_bit_for_bit(env: ToyEnv, options: dict[str, Any]) -> None:
    agent = run(env, 37, anneal_steps=2_000, **options)  # in the middle of a rollout
    copy = PPO(env.context(3, **{**FAST, "anneal_steps": 2_000, **options}))
    copy.load_state_dict(agent.state_dict())
    continue_alike(agent, copy, env, 30)
    assert parameter_hash(agent) == parameter_hash(copy)


def interrupt_at(step: int) -> Any:
    def callback(progress: TrainProgress) -> None:
        if progress.env_steps == step:
            raise KeyboardInterrupt

    return callback


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {key: leaf for name, child in tree.items() for key, leaf in leaves(child, f"{path}/{name}").items()}
    return {path: tree}


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_training_equals_uninterrupted(tmp_path: Path, kind: dict[str, Any]) -> None:
    config = TrainConfig(
        env_id="toy/aim",
        agent="ppo",
        total_steps=960,
        num_envs=16,
        seed=7,
        log_interval=160,
        checkpoint_interval=400,
        agent_options={**FAST, "hidden": [16], **kind},
        tensorboard=False,
        progress="off",
    )

    def go(name: str, **options: Any) -> bool:
        env = AimEnv()
        return train(env, build_agent(env, config), config, tmp_path / name, **options).interrupted

    assert not go("whole")
    assert go("parts", on_progress=interrupt_at(480))
    assert not go("parts", resume=True)
    one, other = (leaves(load_checkpoint(tmp_path / name / CHECKPOINT_FILE)["agent"]) for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert "/parameters" in one
    for key, value in one.items():
        assert torch.equal(value, other[key]) if isinstance(value, Tensor) else value == other[key], key


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("max_gradient_norm", [0.5, 0.02])
def test_stacked_training_equals_separate_trainings(continuous: bool, max_gradient_norm: float) -> None:
    """P networks in one batched call and P agents alone, on the same experience: equal to 1e-6."""
    env: ToyEnv = AimEnv(num_agents=3) if continuous else IdentityEnv(num_agents=3)
    lone: ToyEnv = AimEnv(num_agents=1) if continuous else IdentityEnv(num_agents=1)
    # Adam divides by the gradient's size, so where one is almost 0 rounding would decide: small steps, few of them.
    options = {**FAST, "policy": "independent", "max_gradient_norm": max_gradient_norm, "learning_rate": 1e-3}
    together = PPO(env.context(4, **options))
    alone = [PPO(lone.context(4, **options)) for _ in range(3)]
    for index, agent in enumerate(alone):
        agent.parameters.copy_(together.parameters[index : index + 1])
    before = {name: value.clone() for name, value in parameters(together).items()}
    observation = env.reset(4)
    for _ in range(32):
        action = together.act(observation, explore=True)
        for index, agent in enumerate(alone):
            agent.act(observation[:, index : index + 1], explore=True)
            assert together._sample is not None
            agent._sample = together._sample[:, index : index + 1]
        step = env.step(action)
        # Rewards of very different size: a gradient norm or a scale shared by all agents would show.
        reward = step.reward * torch.tensor([1.0, 10.0, 100.0])
        transition = Transition(observation, action, reward, step.final_observation, step.terminated, step.truncated)
        together.learn(transition)
        for index, agent in enumerate(alone):
            agent.learn(one_agent_of(transition, index))
        observation = step.observation
    for name, whole in parameters(together).items():
        separate = torch.cat([parameters(agent)[name] for agent in alone])
        torch.testing.assert_close(whole, separate, atol=1e-6, rtol=0.0)
        assert float((whole - before[name]).abs().max()) > 1e-3


# What it does with its surroundings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, {"bootstrap_truncation": True, "value_clip": 0.2, "entropy_weight": 0.01}])
@pytest.mark.parametrize("discrete", [False, True])
def test_reads_no_value(kind: dict[str, Any], discrete: bool) -> None:
    """On tensors without values, reading one would raise: nothing waits for the device but the log."""
    names = ("outside_option_tok", "stage", "x")
    fields = tuple(ObservationField(name, "", 1.0, -1e9, 1e9, "") for name in names)
    size = ("a", "b", "c", "d", "reduction")
    spec = ActionSpec("discrete", 4, 0, size) if discrete else ActionSpec("continuous", 0, 5, size)
    options = {**FAST, "rollout_steps": 3, "log_every": 100, "outside_option": "potential", **kind}
    agent = PPO(AgentContext(8, 3, fields, spec, META, 1, options))
    observation, flag = torch.zeros(8, 3, 3, device=META), torch.zeros(8, dtype=torch.bool, device=META)
    for _ in range(7):
        action = agent.act(observation, explore=True)
        assert (action.device, action.shape) == (META, (8, 3) if discrete else (8, 3, 5))
        reward = torch.zeros(8, 3, device=META)
        assert agent.learn(Transition(observation, action, reward, observation, flag, flag)) == {}


@pytest.mark.parametrize("env", [IdentityEnv(), AimEnv()], ids=["discrete", "continuous"])
@pytest.mark.parametrize("kind", KINDS)
def test_evaluating_takes_any_number_of_lanes_and_changes_nothing(env: ToyEnv, kind: dict[str, Any]) -> None:
    agent = run(env, 20, **kind)
    before = leaves(agent.state_dict())
    few = agent.act(env.reset(1)[:3], explore=False)
    assert torch.equal(few, agent.act(env.reset(1)[:3], explore=False))
    assert few.shape[:2] == (3, env.num_agents)
    for key, value in leaves(agent.state_dict()).items():
        assert torch.equal(value, before[key]) if isinstance(value, Tensor) else str(value) == str(before[key]), key


def test_outside_option_is_taken_off_the_reward_as_deep_q_learning_does() -> None:
    fields = tuple(ObservationField(name, "", 1.0, -1e9, 1e9, "") for name in ("outside_option_tok", "stage"))
    generator = torch.Generator().manual_seed(1)
    observation, following = (torch.randn(4, 2, 2, generator=generator) * 100.0 for _ in range(2))
    reward = torch.randn(4, 2, generator=generator)
    terminated = torch.tensor([True, False, False, True])
    for mode in ("subtract", "potential", "ignore"):
        for names in (("price",), ("reduction",)):
            spec = ActionSpec("discrete", 2, 0, names)
            context = AgentContext(4, 2, fields, spec, torch.device("cpu"), 1)
            options = {"outside_option": mode, "discount": 0.5}
            agent = make_agent("ppo", context, **options)
            dqn = make_agent("dqn", context, **options, normalise_rewards=False)
            assert isinstance(agent, PPO)
            assert isinstance(dqn, DQN)
            action = agent.act(observation, explore=True)
            step = Transition(observation, action, reward, following, terminated, torch.zeros(4, dtype=torch.bool))
            agent.learn(step)
            dqn.learn(step)
            assert torch.equal(agent._rollout.reward[0], dqn.memory.by_slot(torch.arange(4)).reward)


def test_central_critic_sees_everyone_and_the_actor_only_itself() -> None:
    env = IdentityEnv()
    for policy in ("shared", "independent"):
        agent = run(env, 20, policy=policy, critic="central")
        observation = env.reset(1)
        other = observation.clone()
        other[:, 1:] = other[:, 1:].flip(-1)
        assert torch.equal(agent.action_outputs(observation)[:, 0], agent.action_outputs(other)[:, 0])
        values = [agent._value(agent._features(x.unsqueeze(0))) for x in (observation, other)]
        assert not torch.equal(values[0][..., 0], values[1][..., 0])


def test_mappo_has_a_central_critic_and_both_are_registered() -> None:
    context = IdentityEnv().context()
    agent = make_agent("mappo", context)
    assert isinstance(agent, MAPPO)
    assert isinstance(agent, Agent)
    assert (agent.config.critic, agent.name) == ("central", "mappo")
    plain = make_agent("ppo", context)
    assert isinstance(plain, PPO)
    assert (plain.config.critic, plain.name) == ("own", "ppo")


def test_adam_counts_gradient_steps_over_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its corrections are for the start at zero of its running means, which goes on fading from update to update."""
    firsts = []

    def scales(first: int, steps: int, rate: float) -> Tensor:
        firsts.append(first)
        return adam_scales(first, steps, rate)

    monkeypatch.setattr(ppo, "adam_scales", scales)
    agent = run(IdentityEnv(), 48)
    assert firsts == [1, 17, 33]  # 4 epochs of 4 minibatches
    assert agent.state_dict()["gradient_steps"] == 48


def test_learning_rate_falls_to_zero() -> None:
    env = IdentityEnv(num_envs=16)
    agent = run(env, 32, anneal_steps=1_024)
    assert agent._rate() == pytest.approx(FAST["learning_rate"] / 2)
    still = run(env, 64, anneal_steps=16)
    assert parameter_hash(still) == parameter_hash(PPO(env.context(3, **FAST)))


def test_learning_needs_an_action_first() -> None:
    env = IdentityEnv()
    agent = PPO(env.context())
    observation = env.reset(0)
    step = env.step(agent.act(observation, explore=False))
    with pytest.raises(ActionError, match=r"learn without act\(explore=True\)"):
        agent.learn(Transition(observation, env.best(), step.reward, observation, step.terminated, step.truncated))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0.9}, "unknown option 'gamma'; allowed are policy, critic, agent_id"),
        ({"policy": "joint"}, "policy='joint'; allowed are 'shared', 'independent'"),
        ({"critic": "global"}, "critic='global'; allowed are 'own', 'central'"),
        ({"activation": "gelu"}, "activation='gelu'; allowed are 'tanh', 'relu'"),
        ({"epochs": 0}, "epochs=0; allowed is an integer >= 1"),
        ({"clip": 0.0}, "clip=0.0; allowed is a number > 0"),
        ({"gae_lambda": 1.5}, "gae_lambda=1.5; allowed is a number >= 0"),
        ({"hidden": 64}, "hidden=64; allowed is a tuple"),
        ({"log_std": 9.0}, "log_std=9.0"),
        ({"outside_option": "add"}, "outside_option='add'"),
        ({"agent_id": True, "policy": "independent"}, "agent_id=True with policy='independent'"),
        ({"minibatches": 65, "rollout_steps": 4}, "minibatches=65; allowed are up to rollout_steps x lanes = 64"),
    ],
)
def test_refused_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        PPO(IdentityEnv().context(**options))


def test_another_rollout_is_refused() -> None:
    saved = run(IdentityEnv(), 20, rollout_steps=32).state_dict()
    with pytest.raises(ConfigError, match="saved rollout: observation has shape"):
        PPO(IdentityEnv().context(3, **FAST)).load_state_dict(saved)
