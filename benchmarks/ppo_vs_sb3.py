"""Steps per second of the native PPO and of Stable-Baselines3's, side by side in one run.

Same environment, network (two hidden layers of 64, own actor and critic, shared by all prosumers), rollout, minibatches
and epochs; each agent of each lane is one SB3 environment. The two take turns, so that a busy machine slows both; the
medians over rounds are compared. Environment steps are counted per lane.

The last column is what the matrix products of learning alone would take: the products of forward and backward pass of
every gradient step, on tensors of the same shapes, and nothing else (no environment, no activation, no loss).

    python -m benchmarks.ppo_vs_sb3 --lanes 64 --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from stable_baselines3 import PPO as SB3PPO
from torch import nn

from gridmarl.agents.ppo import PPO
from gridmarl.envs.adapters.sb3 import SB3VecEnv
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.protocols import AgentContext, BatchedEnv, Transition

HIDDEN = (64, 64)
DISCOUNT, GAE_LAMBDA, LEARNING_RATE = 0.9, 0.9, 1e-3
MODULES = {"tanh": nn.Tanh, "relu": nn.ReLU}


def native(env: BatchedEnv, options: argparse.Namespace, minibatches: int) -> Iterator[None]:
    """One rollout and update per `next`."""
    settings: dict[str, Any] = {
        "hidden": HIDDEN,
        "activation": options.activation,
        "rollout_steps": options.rollout,
        "epochs": options.epochs,
        "minibatches": minibatches,
        "discount": DISCOUNT,
        "gae_lambda": GAE_LAMBDA,
        "learning_rate": LEARNING_RATE,
    }
    agent = PPO(
        AgentContext(env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, 0, settings)
    )
    observation = env.reset(0)
    while True:
        for _ in range(options.rollout):
            action = agent.act(observation, explore=True)
            step = env.step(action)
            agent.learn(
                Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
            )
            observation = step.observation
        yield


def stable_baselines(env: BatchedEnv, options: argparse.Namespace, batch_size: int) -> Iterator[None]:
    """One rollout and update per `next`."""
    lanes = SB3VecEnv(env, 0)
    model = SB3PPO(
        "MlpPolicy",
        lanes,
        learning_rate=LEARNING_RATE,
        n_steps=options.rollout,
        batch_size=batch_size,
        n_epochs=options.epochs,
        gamma=DISCOUNT,
        gae_lambda=GAE_LAMBDA,
        policy_kwargs={"net_arch": list(HIDDEN), "activation_fn": MODULES[options.activation]},
        device="cpu",
    )
    while True:
        model.learn(options.rollout * lanes.num_envs, reset_num_timesteps=False)
        yield


def matrix_products(features: int, outputs: int, rows: int, batch_size: int, epochs: int) -> Callable[[], None]:
    """The matrix products of one update: forward, gradient of the weights, gradient of the inputs (not the first)."""
    shapes = [(features, HIDDEN[0]), (HIDDEN[0], HIDDEN[1])]
    nets = [[*shapes, (HIDDEN[1], outputs)], [*shapes, (HIDDEN[1], 1)]]
    work = [
        (torch.randn(batch_size, a), torch.randn(a, b), torch.randn(batch_size, b), index > 0)
        for net in nets
        for index, (a, b) in enumerate(net)
    ]

    def run() -> None:
        for _ in range(epochs * (rows // batch_size)):
            for x, weight, gradient, inner in work:
                torch.mm(x, weight)
                torch.mm(x.T, gradient)
                if inner:
                    torch.mm(gradient, weight.T)

    return run


def timed(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--rollout", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[80, 640, 3840], help="rows per gradient step")
    parser.add_argument("--activation", choices=sorted(MODULES), default="tanh")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{options.lanes} lanes, rollout {options.rollout}, {options.epochs} epochs, {options.activation}, "
        f"{options.threads} threads; steps of one lane per second, medians of {options.rounds}"
    )
    print(f"{'batch':>6} {'native':>8} {'SB3':>8} {'ratio':>6} {'products alone':>15} {'native of it':>13}")
    for batch_size in options.batch_sizes:
        _row(options, batch_size)


def _row(options: argparse.Namespace, batch_size: int) -> None:
    envs = [BatchedTwoStageDR(num_envs=options.lanes) for _ in range(2)]
    rows = options.lanes * options.rollout * envs[0].num_agents
    if rows % batch_size:
        raise SystemExit(f"batch size {batch_size}: allowed are divisors of the rollout's {rows} rows")
    ours = native(envs[0], options, rows // batch_size)
    theirs = stable_baselines(envs[1], options, batch_size)
    features, outputs = len(envs[0].observation_fields), envs[0].action_spec.size
    products = matrix_products(features, outputs, rows, batch_size, options.epochs)
    contenders: list[Callable[[], Any]] = [lambda: next(ours), lambda: next(theirs), products]
    for contender in contenders:  # warm up
        contender()
    seconds = [[timed(contender) for contender in contenders] for _ in range(options.rounds)]
    steps = options.lanes * options.rollout
    mine, other, alone = (steps / statistics.median(column) for column in zip(*seconds, strict=True))
    print(f"{batch_size:>6} {mine:>8.0f} {other:>8.0f} {mine / other:>6.2f} {alone:>15.0f} {mine / alone:>13.2f}")


if __name__ == "__main__":
    main()
