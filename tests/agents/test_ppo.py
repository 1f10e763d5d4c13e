"""PPO reaches known optima, keeps agents apart, and equals slow arithmetic."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gridmarl.agents.ppo import PPO, Batch, generalised_advantage
from gridmarl.agents.ppo_networks import StackedMLP, gaussian_entropy, gaussian_log_prob, layers_of, normals, orthogonal
from gridmarl.protocols import Transition
from gridmarl.random import Purpose, draw, lane_keys
from tests.agents.ppo_cases import FAST, KINDS, AimEnv, run
from tests.oracles.toy_env import ChainEnv, IdentityEnv, OppositeEnv, ToyEnv


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
