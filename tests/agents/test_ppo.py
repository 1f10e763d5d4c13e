"""PPO reaches known optima, keeps agents apart, and equals slow arithmetic."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gridmarl.agents import ppo_networks
from gridmarl.agents.ppo import PPO
from gridmarl.agents.ppo_loss import (
    LossWeights,
    Rows,
    gaussian_entropy,
    gaussian_log_prob,
    log_prob_and_entropy,
    policy_terms,
    value_errors,
)
from gridmarl.agents.ppo_networks import (
    Layers,
    NetworkLayout,
    evaluate,
    initial_networks,
    normals,
    orthogonal,
    piece_rows,
)
from gridmarl.agents.ppo_rollout import generalised_advantage
from gridmarl.agents.ppo_step import (
    BETAS,
    EPSILON,
    AdamState,
    StepSettings,
    adam_,
    adam_scales,
    clip_,
    gradient,
)
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
    assert agent.parts.log_std is not None
    assert float(agent.parts.log_std.max()) < agent.config.log_std  # it grew sure of itself


@pytest.mark.parametrize("options", KINDS)
def test_agents_with_opposite_optima_learn_apart(options: dict[str, Any]) -> None:
    env = OppositeEnv()
    agent = run(env, 160, **options)
    odds = agent.action_outputs(env.reset(0))[0].softmax(dim=-1)
    assert float(odds[0, 0]) > 0.95
    assert float(odds[1, 1]) > 0.95


def test_one_network_without_agent_id_cannot_tell_opposite_agents_apart() -> None:
    """The toy does what it is for."""
    env = OppositeEnv()
    odds = run(env, 160).action_outputs(env.reset(0))[0].softmax(dim=-1)
    assert torch.equal(odds[0], odds[1])


@pytest.mark.parametrize(("discount", "advances"), [(0.95, True), (0.6, False)])
def test_delayed_reward_is_discounted(discount: float, advances: bool) -> None:
    """Walking the chain is worth discount^3 at its beginning, cashing 0.5."""
    env = ChainEnv(length=4, cash=0.5)
    agent = run(env, 480, discount=discount, gae_lambda=0.9, entropy_weight=0.01)
    odds = agent.action_outputs(env.reset(0))[0, 0].softmax(dim=-1)
    assert float(odds[int(advances)]) > 0.8


@pytest.mark.parametrize(("bootstrap", "value"), [(False, 1.0), (True, 2.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_horizon_ends_the_value_unless_told_otherwise(bootstrap: bool, value: float, kind: dict[str, Any]) -> None:
    """One step per episode at reward 1: worth 1, or 1/(1 - 0.5) if the value goes on through the truncation."""
    env = OppositeEnv()
    agent = run(env, 480, bootstrap_truncation=bootstrap, discount=0.5, normalise_rewards=False, **kind)
    values = agent._value(agent._features(env.reset(0).unsqueeze(0))).flatten()
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
    rows = random_rows(12, 6, 4, None)
    actor, _, critic = agent.parts
    logits = evaluate(actor, "tanh", rows.features)[0].double()
    value = evaluate(critic, "tanh", rows.seen).flatten().double()
    expected = {"policy_loss": 0.0, "value_loss": 0.0, "entropy": 0.0, "clip_fraction": 0.0, "approx_kl": 0.0}
    for row in range(12):
        total = math.log(sum(math.exp(float(x)) for x in logits[row]))
        log_odds = [float(x) - total for x in logits[row]]
        new, then = log_odds[int(rows.sample[0, row])], float(rows.log_prob[0, row])
        expected["policy_loss"] += slow_loss(new, then, float(rows.advantage[0, row]), 0.2) / 12
        expected["entropy"] -= sum(math.exp(x) * x for x in log_odds) / 12
        expected["clip_fraction"] += float(abs(math.exp(new - then) - 1.0) > 0.2) / 12
        expected["approx_kl"] += (math.exp(new - then) - 1.0 - (new - then)) / 12
        v, goal, was = float(value[row]), float(rows.target[0, row]), float(rows.value[0, row])
        error = (v - goal) ** 2
        if value_clip:
            error = max(error, (was + min(max(v - was, -value_clip), value_clip) - goal) ** 2)
        expected["value_loss"] += error / 12
    measured = agent._measure(rows)
    assert 0.0 < expected["clip_fraction"] < 1.0
    for name, number in expected.items():
        assert float(measured[name]) == pytest.approx(number, abs=1e-5), name


def random_rows(rows: int, width: int, choices: int, action_size: int | None, networks: int = 1) -> Rows:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(networks, rows, width, generator=generator)
    sample = torch.randint(choices, (networks, rows), generator=generator)
    if action_size is not None:
        sample = torch.randn(networks, rows, action_size, generator=generator)
    old, advantage, target, value = (torch.randn(networks, rows, generator=generator) for _ in range(4))
    return Rows(features, features, sample, old * 0.5 - 1.4, advantage, target, value)


def automatic(layers: Layers, activation: str, x: Tensor) -> Tensor:
    """A network in operations that torch differentiates."""
    function = torch.tanh if activation == "tanh" else torch.relu
    for weight, bias in layers[:-1]:
        x = function(torch.stack([x[n] @ weight[n] + bias[n] for n in range(x.shape[0])]))
    weight, bias = layers[-1]
    return torch.stack([x[n] @ weight[n].T + bias[n] for n in range(x.shape[0])])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(("value_clip", "entropy_weight"), [(0.0, 0.0), (0.5, 0.0), (0.5, 0.3)])
def test_written_out_gradients_equal_automatic_ones(
    activation: str, continuous: bool, value_clip: float, entropy_weight: float
) -> None:
    """Of three networks at once: loss, networks, deviations; within 1e-5."""
    layout = NetworkLayout((5, 8, 7, 4), (5, 6, 1), continuous, activation)
    generator = torch.Generator().manual_seed(2)
    flat = initial_networks(3, layout, 0.2, generator)
    flat += torch.randn(flat.shape, generator=generator) * 0.1
    rows = random_rows(40, 5, 4, 4 if continuous else None, networks=3)
    if continuous:
        rows = rows._replace(log_prob=rows.log_prob - 5.0)
    weights = LossWeights(0.2, value_clip, 0.7, entropy_weight)
    plain = flat.clone().requires_grad_()
    actor, log_std, critic = layout.parts(plain)
    log_prob, entropy = log_prob_and_entropy(automatic(actor, activation, rows.features), log_std, rows.sample)
    terms = policy_terms(log_prob, rows, weights.clip)
    errors = value_errors(automatic(critic, activation, rows.seen).squeeze(-1), rows, value_clip)
    loss = terms["policy_loss"].mean(1) + 0.7 * errors.mean(1) - entropy_weight * entropy.mean(1)
    loss.sum().backward()
    found = gradient(layout.parts(flat), rows, StepSettings(layout, weights, 0.5))
    assert 0.1 < float(terms["clip_fraction"].mean()) < 0.95
    assert plain.grad is not None
    assert float(plain.grad.abs().max()) > 0.05
    torch.testing.assert_close(found, plain.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("limit", [24, 100, 199, 1599])
@pytest.mark.parametrize("seen_agents", [1, 5])
def test_minibatches_in_pieces_have_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch, limit: int, seen_agents: int
) -> None:
    """Also where a row of the critic is a slot of five agents, which no piece may cut; and values of many rows."""
    layout = NetworkLayout((5, 8, 3), (5 * seen_agents, 8, seen_agents), True, "tanh")
    generator = torch.Generator().manual_seed(4)
    flat = initial_networks(1, layout, 0.1, generator)
    flat += torch.randn(flat.shape, generator=generator) * 0.1
    rows = random_rows(200, 5, 3, 3, networks=1)
    rows = rows._replace(seen=rows.features.reshape(1, 200 // seen_agents, 5 * seen_agents))
    parts, settings = layout.parts(flat), StepSettings(layout, LossWeights(0.2, 0.4, 0.7, 0.3), 0.5)
    whole, values = gradient(parts, rows, settings), evaluate(parts.critic, "tanh", rows.seen)
    monkeypatch.setattr(ppo_networks, "CACHED_NUMBERS", limit)
    size = piece_rows(200, parts.actor, seen_agents)
    assert size < 200
    assert size % seen_agents == 0
    assert (size - seen_agents) * 8 < limit
    torch.testing.assert_close(gradient(parts, rows, settings), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(evaluate(parts.critic, "tanh", rows.seen), values, atol=1e-6, rtol=1e-5)


def test_clipping_and_adam_equal_those_of_torch() -> None:
    layout = NetworkLayout((3, 4, 2), (3, 4, 1), True, "tanh")
    settings = StepSettings(layout, LossWeights(0.2, 0.0, 0.5, 0.0), 0.5)
    generator = torch.Generator().manual_seed(1)
    flat = initial_networks(2, layout, 0.0, generator)
    ours = AdamState(torch.zeros_like(flat), torch.zeros_like(flat))
    theirs = [torch.nn.Parameter(x.clone()) for net in flat for x in net.split(layout.sizes, dim=-1)]
    adam = torch.optim.Adam(theirs, lr=3e-3, eps=EPSILON, betas=BETAS)
    for step, scales in enumerate(adam_scales(1, 20, 3e-3)):
        found = torch.randn(flat.shape, generator=generator) * (0.01 + 0.02 * step)
        norms = []
        for index, part in enumerate(x for net in found for x in net.split(layout.sizes, dim=-1)):
            theirs[index].grad = part.clone()
            norm = torch.nn.utils.clip_grad_norm_([theirs[index]], 0.5)
            norms.append(norm)
        torch.testing.assert_close(clip_(found, settings).T.flatten(), torch.stack(norms))
        adam.step()
        adam_(flat, found, ours, scales)
    expected = torch.stack([torch.cat((theirs[2 * n], theirs[2 * n + 1]), dim=-1) for n in range(2)])
    torch.testing.assert_close(flat, expected, atol=1e-6, rtol=1e-5)


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
    agent.parameters.mul_(30.0)
    observation = env.reset(1)
    odds = agent.action_outputs(observation).softmax(dim=-1)
    drawn = torch.stack([agent.act(observation, explore=True) for _ in range(8)])
    share = torch.nn.functional.one_hot(drawn, 3).double().mean(dim=(0, 1))
    torch.testing.assert_close(share, odds.double().mean(dim=0), atol=0.015, rtol=0.0)


# Repeatable -----------------------------------------------------------------------------------------------------------
