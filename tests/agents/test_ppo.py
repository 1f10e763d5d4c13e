"""PPO reaches known optima, keeps agents apart, equals slow arithmetic, and repeats itself bit for bit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from blake3 import blake3
from torch import Tensor

from gridmarl.agents.dqn import DQN
from gridmarl.agents.ppo import MAPPO, PPO, Batch, generalised_advantage
from gridmarl.agents.ppo_networks import StackedMLP, gaussian_entropy, gaussian_log_prob, layers_of, normals, orthogonal
from gridmarl.agents.registry import make_agent
from gridmarl.errors import ActionError, ConfigError
from gridmarl.protocols import ActionSpec, Agent, AgentContext, BatchStep, ObservationField, Transition
from gridmarl.random import Purpose, draw, lane_keys
from gridmarl.train.checkpoint import CHECKPOINT_FILE, load_checkpoint
from gridmarl.train.config import TrainConfig
from gridmarl.train.loop import TrainProgress, build_agent, train
from tests.oracles.toy_env import ChainEnv, IdentityEnv, OppositeEnv, ToyEnv

FAST: dict[str, Any] = {
    "hidden": (32,),
    "rollout_steps": 16,
    "minibatches": 4,
    "epochs": 4,
    "learning_rate": 5e-3,
}
KINDS: list[dict[str, Any]] = [
    {"policy": "shared", "agent_id": True},
    {"policy": "independent"},
    {"policy": "shared", "agent_id": True, "critic": "central"},
    {"policy": "independent", "critic": "central"},
]
META = torch.device("meta")


class AimEnv(IdentityEnv):
    """Continuous: each agent earns `-(a - aim)^2`, where its symbol and number say what to aim at, in both entries."""

    env_id = "toy/aim"

    def __init__(self, num_envs: int = 16, num_agents: int = 2, horizon: int = 8) -> None:
        super().__init__(num_envs, num_agents, 3, horizon)
        self.action_spec = ActionSpec("continuous", 0, 2, ("first", "second"))

    def aim(self) -> Tensor:
        aim = (self.symbol - 1) * 0.6 * (1 - 2 * torch.arange(self.num_agents))
        return torch.stack((aim, -aim), dim=-1)

    def step(self, actions: Tensor) -> BatchStep:
        assert float(actions.abs().max()) <= 1.0
        reward = -(actions - self.aim()).square().sum(dim=-1)
        return super().step(self.best())._replace(reward=reward)


def moved(agent: Any, env: ToyEnv, observation: Tensor) -> Tensor:
    action = agent.act(observation, explore=True)
    step = env.step(action)
    agent.learn(Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated))
    return step.observation


def run(env: ToyEnv, steps: int, seed: int = 3, **options: Any) -> PPO:
    agent = PPO(env.context(seed, **{**FAST, **options}))
    observation = env.reset(seed)
    for _ in range(steps):
        observation = moved(agent, env, observation)
    return agent


def parameters(agent: PPO) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value
        for part, module in (("actor", agent.actor), ("critic", agent.critic))
        for name, value in module.state_dict().items()
    }


def parameter_hash(agent: PPO) -> str:
    state = blake3()
    for name, value in sorted(parameters(agent).items()):
        state.update(name.encode())
        state.update(value.contiguous().numpy().tobytes())
    return state.hexdigest()


@pytest.mark.parametrize("options", KINDS)
def test_learns_what_to_do_with_each_symbol(options: dict[str, Any]) -> None:
    env = IdentityEnv()
    agent = run(env, 480, discount=0.0, hidden=(64, 64), **options)
    observation = env.reset(99)
    for _ in range(env.horizon):
        step = env.step(agent.act(observation, explore=False))
        assert float(step.reward.mean()) == 1.0
        observation = step.observation


@pytest.mark.parametrize("options", [*KINDS, {"agent_id": True, "activation": "relu"}])
def test_learns_where_to_aim(options: dict[str, Any]) -> None:
    env = AimEnv()
    agent = run(env, 480, discount=0.0, **options)
    observation = env.reset(99)
    torch.testing.assert_close(agent.act(observation, explore=False), env.aim(), atol=0.15, rtol=0.0)
    assert agent.actor.log_std is not None
    assert float(agent.actor.log_std.detach().max()) < agent.config.log_std  # it grew sure of itself


@pytest.mark.parametrize("options", KINDS)
def test_agents_with_opposite_optima_learn_apart(options: dict[str, Any]) -> None:
    env = OppositeEnv()
    agent = run(env, 160, **options)
    odds = agent.action_outputs(env.reset(0))[0].detach().softmax(dim=-1)
    assert float(odds[0, 0]) > 0.95
    assert float(odds[1, 1]) > 0.95


def test_one_network_without_agent_id_cannot_tell_opposite_agents_apart() -> None:
    """The toy does what it is for."""
    env = OppositeEnv()
    odds = run(env, 160).action_outputs(env.reset(0))[0].detach().softmax(dim=-1)
    assert torch.equal(odds[0], odds[1])


@pytest.mark.parametrize(("discount", "advances"), [(0.95, True), (0.6, False)])
def test_delayed_reward_is_discounted(discount: float, advances: bool) -> None:
    """Walking the chain is worth discount^3 at its beginning, cashing 0.5."""
    env = ChainEnv(length=4, cash=0.5)
    agent = run(env, 480, discount=discount, gae_lambda=0.9, entropy_weight=0.01)
    odds = agent.action_outputs(env.reset(0))[0, 0].detach().softmax(dim=-1)
    assert float(odds[int(advances)]) > 0.8


@pytest.mark.parametrize(("bootstrap", "value"), [(False, 1.0), (True, 2.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_horizon_ends_the_value_unless_told_otherwise(bootstrap: bool, value: float, kind: dict[str, Any]) -> None:
    """One step per episode at reward 1: worth 1, or 1/(1 - 0.5) if the value goes on through the truncation."""
    env = OppositeEnv()
    agent = run(env, 480, bootstrap_truncation=bootstrap, discount=0.5, normalise_rewards=False, **kind)
    features = agent._by_network(agent._features(env.reset(0)))
    with torch.no_grad():
        values = agent._value(features).flatten()
    torch.testing.assert_close(values, torch.full_like(values, value), atol=0.1, rtol=0.0)


# Against slow arithmetic ----------------------------------------------------------------------------------------------


def test_advantages_equal_the_definition() -> None:
    """`A_t = sum of (discount * lambda)^k delta_(t+k)` to the episode's end, term by term."""
    generator = torch.Generator().manual_seed(1)
    steps, lanes, agents, discount, weight = 9, 4, 2, 0.9, 0.8
    reward, value, later = (torch.randn(steps, lanes, agents, generator=generator) for _ in range(3))
    ended = torch.rand(steps, lanes, 1, generator=generator) < 0.3
    terminal = ended & (torch.rand(steps, lanes, 1, generator=generator) < 0.5)
    found = generalised_advantage(reward, value, later, terminal, ended, discount, weight)
    for lane in range(lanes):
        for agent in range(agents):
            for step in range(steps):
                expected, factor = 0.0, 1.0
                for t in range(step, steps):
                    ahead = 0.0 if bool(terminal[t, lane]) else float(later[t, lane, agent])
                    expected += factor * (
                        float(reward[t, lane, agent]) + discount * ahead - float(value[t, lane, agent])
                    )
                    if bool(ended[t, lane]):
                        break
                    factor *= discount * weight
                assert float(found[step, lane, agent]) == pytest.approx(expected, abs=1e-5)


def slow_loss(odds: float, old: float, advantage: float, clip: float) -> float:
    ratio = math.exp(odds - old)
    return -min(ratio * advantage, min(max(ratio, 1.0 - clip), 1.0 + clip) * advantage)


@pytest.mark.parametrize("value_clip", [0.0, 0.1])
def test_losses_equal_the_definition(value_clip: float) -> None:
    env = IdentityEnv(num_envs=6, num_agents=2)
    agent = run(env, 16, agent_id=True, value_clip=value_clip, entropy_weight=0.01)
    generator = torch.Generator().manual_seed(4)
    shape = (6, 2)
    features = torch.randn(*shape, 6, generator=generator)
    sample = torch.randint(4, shape, generator=generator)
    old, advantage, target, before = (torch.randn(shape, generator=generator) for _ in range(4))
    old = (old * 0.5 - 1.4).requires_grad_(False)
    with torch.no_grad():
        logits = agent.actor(features.flatten(0, 1).unsqueeze(0))[0].view(*shape, 4).double()
        value = agent._value(features).view(shape).double()
    expected = {"policy_loss": 0.0, "value_loss": 0.0, "entropy": 0.0, "clip_fraction": 0.0}
    for lane in range(6):
        for who in range(2):
            total = math.log(sum(math.exp(float(x)) for x in logits[lane, who]))
            log_odds = [float(x) - total for x in logits[lane, who]]
            new, then = log_odds[int(sample[lane, who])], float(old[lane, who])
            expected["policy_loss"] += slow_loss(new, then, float(advantage[lane, who]), 0.2) / 12
            expected["entropy"] -= sum(math.exp(x) * x for x in log_odds) / 12
            expected["clip_fraction"] += float(abs(math.exp(new - then) - 1.0) > 0.2) / 12
            v, goal, was = float(value[lane, who]), float(target[lane, who]), float(before[lane, who])
            error = (v - goal) ** 2
            if value_clip:
                error = max(error, (was + min(max(v - was, -value_clip), value_clip) - goal) ** 2)
            expected["value_loss"] += error / 12
    measured = agent._gradient_step(Batch(features, sample, old, advantage, target, before), measure=True)
    assert 0.0 < expected["clip_fraction"] < 1.0
    for name, number in expected.items():
        assert float(measured[name]) == pytest.approx(number, abs=1e-5), name


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_written_out_gradients_equal_automatic_ones(activation: str) -> None:
    generator = torch.Generator().manual_seed(2)
    network = StackedMLP(3, (5, 8, 7, 2), activation, 1.0, generator)
    with torch.no_grad():
        network.flat.add_(torch.randn(network.flat.shape, generator=generator) * 0.1)
    x = torch.randn(3, 11, 5, generator=generator)
    weights = torch.randn(3, 11, 2, generator=generator)
    function = torch.tanh if activation == "tanh" else torch.relu
    plain = network.flat.detach().clone().requires_grad_()
    y = x
    for index, (weight, bias) in enumerate(layers_of(plain, network.widths)):
        y = torch.stack([y[n] @ weight[n] + bias[n] for n in range(3)])
        y = function(y) if index < 2 else y
    (y * weights).sum().backward()
    found = network(x)
    (found * weights).sum().backward()
    torch.testing.assert_close(found, y, atol=1e-5, rtol=1e-5)
    assert network.flat.grad is not None
    torch.testing.assert_close(network.flat.grad, plain.grad, atol=1e-5, rtol=1e-5)


def test_gaussians_equal_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(3)
    mean, sample = torch.randn(2, 7, 3, generator=generator), torch.randn(2, 7, 3, generator=generator)
    log_std = torch.randn(2, 1, 3, generator=generator) * 0.5
    expected = torch.distributions.Normal(mean, log_std.exp())
    torch.testing.assert_close(gaussian_log_prob(sample, mean, log_std), expected.log_prob(sample).sum(-1))
    torch.testing.assert_close(gaussian_entropy(log_std).expand(2, 7), expected.entropy().sum(-1))


def test_noise_is_standard_normal_and_initial_weights_are_orthonormal() -> None:
    noise = normals(draw(lane_keys(1, 50_000), 0, Purpose.EXPLORE))
    assert noise.shape == (4, 50_000)
    assert bool(noise.isfinite().all())
    correlation = noise.double() @ noise.double().T / 50_000
    torch.testing.assert_close(correlation, torch.eye(4, dtype=torch.float64), atol=0.03, rtol=0.0)
    assert float(noise.mean().abs()) < 0.01
    assert float((noise.abs() < 1.0).double().mean()) == pytest.approx(0.6827, abs=0.01)
    for rows, columns in ((4, 9), (9, 4)):
        matrix = orthogonal(2, rows, columns, 3.0, torch.Generator().manual_seed(0))
        product = matrix @ matrix.mT if rows < columns else matrix.mT @ matrix
        torch.testing.assert_close(product, 9.0 * torch.eye(4).expand(2, 4, 4), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("env", [IdentityEnv(num_envs=4), AimEnv(num_envs=4)], ids=["discrete", "continuous"])
def test_ratios_start_at_one(env: ToyEnv, kind: dict[str, Any]) -> None:
    """A rollout's probabilities are those of the policy that played: the first gradient step clips nothing."""
    agent = run(env, 32, epochs=1, minibatches=1, **kind)
    observation = env.reset(5)
    reports: dict[str, float] = {}
    for _ in range(16):
        action = agent.act(observation, explore=True)
        step = env.step(action)
        reports = agent.learn(
            Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
        )
        observation = step.observation
    assert reports["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert reports["clip_fraction"] == 0.0


def test_samples_follow_the_policy() -> None:
    env = IdentityEnv(num_envs=2_000, num_agents=2, symbols=3)
    agent = PPO(env.context(4, **FAST, normalise_observations=False))
    with torch.no_grad():
        agent.actor.body.flat.mul_(30.0)
    observation = env.reset(1)
    odds = agent.action_outputs(observation).detach().softmax(dim=-1)
    drawn = torch.stack([agent.act(observation, explore=True) for _ in range(8)])
    share = torch.nn.functional.one_hot(drawn, 3).double().mean(dim=(0, 1))
    torch.testing.assert_close(share, odds.double().mean(dim=0), atol=0.015, rtol=0.0)


# Repeatable -----------------------------------------------------------------------------------------------------------


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
    observation = env.reset(8)
    for _ in range(30):
        actions = [one.act(observation, explore=True) for one in (agent, copy)]
        assert torch.equal(*actions)
        step = env.step(actions[0])
        for one in (agent, copy):
            one.learn(
                Transition(observation, actions[0], step.reward, step.observation, step.terminated, step.truncated)
            )
        observation = step.observation
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
    assert any(key.startswith("/actor/") for key in one)
    for key, value in one.items():
        assert torch.equal(value, other[key]) if isinstance(value, Tensor) else value == other[key], key


def one_agent_of(transition: Transition, agent: int) -> Transition:
    part = slice(agent, agent + 1)
    return replace(
        transition,
        observation=transition.observation[:, part],
        action=transition.action[:, part],
        reward=transition.reward[:, part],
        next_observation=transition.next_observation[:, part],
    )


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
        for part, whole in ((agent.actor, together.actor), (agent.critic, together.critic)):
            part.load_state_dict({k: v[index : index + 1] for k, v in whole.state_dict().items()})
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
            ppo = make_agent("ppo", context, **options)
            dqn = make_agent("dqn", context, **options, normalise_rewards=False)
            assert isinstance(ppo, PPO)
            assert isinstance(dqn, DQN)
            action = ppo.act(observation, explore=True)
            step = Transition(observation, action, reward, following, terminated, torch.zeros(4, dtype=torch.bool))
            ppo.learn(step)
            dqn.learn(step)
            assert torch.equal(ppo._rollout.reward[0], dqn.memory.by_slot(torch.arange(4)).reward)


def test_central_critic_sees_everyone_and_the_actor_only_itself() -> None:
    env = IdentityEnv()
    for policy in ("shared", "independent"):
        agent = run(env, 20, policy=policy, critic="central")
        observation = env.reset(1)
        other = observation.clone()
        other[:, 1:] = other[:, 1:].flip(-1)
        assert torch.equal(agent.action_outputs(observation)[:, 0], agent.action_outputs(other)[:, 0])
        values = [agent._value(agent._by_network(agent._features(x))) for x in (observation, other)]
        values = [x if policy == "independent" else x.view(-1, 3).T for x in values]
        assert not torch.equal(values[0][0], values[1][0])


def test_mappo_has_a_central_critic_and_both_are_registered() -> None:
    context = IdentityEnv().context()
    agent = make_agent("mappo", context)
    assert isinstance(agent, MAPPO)
    assert isinstance(agent, Agent)
    assert (agent.config.critic, agent.name) == ("central", "mappo")
    plain = make_agent("ppo", context)
    assert isinstance(plain, PPO)
    assert (plain.config.critic, plain.name) == ("own", "ppo")


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
