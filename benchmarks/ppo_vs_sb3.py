"""Native PPO against Stable-Baselines3's, side by side in one run: steps per second, time to a share of the gains.

Rates: same environment, network (two hidden layers, own actor and critic, shared by all prosumers), rollout,
minibatches and epochs; each agent of each lane is one SB3 environment. The contenders take turns, so that a busy
machine slows all; medians over rounds are compared. Environment steps are counted per lane. Compiled means learner and
environment.

`products` is what the matrix products alone would take: those of acting, of valuing the rollout and of every gradient
step (forward, gradients of weights and of inputs), on tensors of the same shapes, each in its fastest orientation, into
memory that is there already; no environment, no activation, no loss, no optimiser. `gradient_products` is the part of
the gradient steps, to be compared with the native update.

    python -m benchmarks.ppo_vs_sb3                  # rates, some minutes; writes benchmarks/results/ppo-cpu.csv
    python -m benchmarks.ppo_vs_sb3 --time-to-share  # writes benchmarks/results/ppo-time-to-share-cpu.csv
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO as SB3PPO
from torch import nn

from benchmarks.provenance import RESULTS, provenance, rounded, write_csv
from gridmarl.agents.ppo import PPO
from gridmarl.compiler import missing_compiler
from gridmarl.envs.adapters.sb3 import SB3VecEnv
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.protocols import AgentContext, BatchedEnv, Transition

DISCOUNT, GAE_LAMBDA, LEARNING_RATE = 0.9, 0.9, 1e-3
MODULES = {"tanh": nn.Tanh, "relu": nn.ReLU}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    widths: tuple[int, ...] = (64, 128, 256)
    """Of both hidden layers."""
    batch_sizes: tuple[int, ...] = (80, 640, 3840)
    """Rows per gradient step; divisors of lanes x rollout x 10."""
    activation: Literal["tanh", "relu"] = "tanh"
    lanes: int = 64
    rollout: int = 48
    epochs: int = 4
    rounds: int = 3
    compiled: bool = True
    """Also the compiled learner in the compiled environment."""
    time_to_share: bool = False
    """Instead: training time until held-out evaluation reaches a share of what truthful bidding gains."""
    shares: tuple[float, ...] = (0.9, 1.2, 1.4)
    """Of the gains from trade under truthful bidding."""
    seeds: int = 3
    sb3_lanes: tuple[int, ...] = (1, 8)
    """Lanes of SB3's runs, each apart; SB3 has no default for it."""
    cap_seconds: float = 60.0
    """Training time after which a run is given up."""
    eval_lanes: int = 8
    threads: int = 0
    """Threads of torch; 0: as torch chooses."""
    output: Path | None = None
    """CSV to write."""


@dataclass(frozen=True)
class Rate:
    """One row: steps of one lane per second, median and extremes over rounds."""

    contender: str
    width: int
    batch_rows: int
    activation: str
    lanes: int
    rollout: int
    epochs: int
    rounds: int
    steps_per_s: float
    slowest_steps_per_s: float
    fastest_steps_per_s: float
    times_sb3: float
    of_products: float
    update_of_gradient_products: float | None
    """Time of the products of the gradient steps by that of the native update."""


def native(env: BatchedEnv, settings: dict[str, Any], seed: int, agents: list[PPO] | None = None) -> Iterator[float]:
    """One rollout and update per `next`, which returns the seconds of the update; the agent is put into `agents`."""
    context = AgentContext(
        env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, seed, settings
    )
    agent = PPO(context)
    if agents is not None:
        agents.append(agent)
    observation = env.reset(seed)
    while True:
        for _ in range(agent.config.rollout_steps):
            action = agent.act(observation, explore=True)
            step = env.step(action)
            begin = time.perf_counter()
            agent.learn(
                Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
            )
            seconds = time.perf_counter() - begin
            observation = step.observation
        yield seconds


def stable_baselines(model: SB3PPO) -> Iterator[float]:
    """One rollout and update per `next`."""
    assert model.env is not None
    while True:
        model.learn(model.n_steps * model.env.num_envs, reset_num_timesteps=False)
        yield 0.0


def product_shapes(env: BatchedEnv, width: int) -> list[tuple[int, ...]]:
    """Widths of actor and critic."""
    features = len(env.observation_fields)
    return [(features, width, width, env.action_spec.size), (features, width, width, 1)]


def products(nets: Sequence[tuple[int, ...]], rows: int, *, gradients: bool) -> Callable[[], None]:
    """Forward products of `rows` rows; with `gradients`, those of weights and (but for the first layer) of inputs."""
    work: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for net in nets:
        for index, (a, b) in enumerate(pairwise(net)):
            x, g = torch.randn(rows, a), torch.randn(rows, b)
            narrow = index == len(net) - 2
            # A narrow last layer is fastest with its matrix transposed.
            weight = torch.randn(b, a).T if narrow else torch.randn(a, b)
            work.append((x, weight, torch.empty(rows, b)))
            if gradients:
                work.append((g.T, x, torch.empty(b, a)) if narrow else (x.T, g, torch.empty(a, b)))
            if gradients and index:
                work.append((g, weight.T, torch.empty(rows, a)))

    def run() -> None:
        for left, right, out in work:
            torch.mm(left, right, out=out)

    return run


def timed(action: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of a call, and what it returned (0 for None)."""
    begin = time.perf_counter()
    found = action()
    return time.perf_counter() - begin, found or 0.0


def rates(options: Options, width: int, batch_size: int) -> Iterator[Rate]:
    """All contenders at one width and size of minibatch."""
    contenders = _contenders(options, width, batch_size)
    for contender in contenders.values():  # warm up, compile
        contender()
    turns = [{name: timed(action) for name, action in contenders.items()} for _ in range(options.rounds)]
    seconds = {name: [turn[name][0] for turn in turns] for name in contenders}
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    steps = options.lanes * options.rollout
    for name in contenders:
        update = statistics.median(turn[name][1] for turn in turns)
        yield Rate(
            name,
            width,
            batch_size,
            options.activation,
            options.lanes,
            options.rollout,
            options.epochs,
            options.rounds,
            steps / middle[name],
            steps / max(seconds[name]),
            steps / min(seconds[name]),
            middle["sb3"] / middle[name],
            middle["products"] / middle[name],
            middle["gradient_products"] / update if update else None,
        )


def _contenders(options: Options, width: int, batch_size: int) -> dict[str, Callable[[], Any]]:
    rows = options.lanes * options.rollout * BatchedTwoStageDR().num_agents
    if rows % batch_size:
        raise SystemExit(f"batch_sizes: {batch_size}, allowed are divisors of the rollout's {rows} rows")
    settings: dict[str, Any] = {
        "hidden": (width, width),
        "activation": options.activation,
        "rollout_steps": options.rollout,
        "epochs": options.epochs,
        "minibatches": rows // batch_size,
        "discount": DISCOUNT,
        "gae_lambda": GAE_LAMBDA,
        "learning_rate": LEARNING_RATE,
    }
    found: dict[str, Callable[[], Any]] = {}
    found["native"] = native(BatchedTwoStageDR(num_envs=options.lanes), settings, 0).__next__
    if options.compiled and missing_compiler(torch.device("cpu")) is None:
        env = BatchedTwoStageDR(num_envs=options.lanes, compile=True)
        found["native_compiled"] = native(env, {**settings, "compile": True}, 0).__next__
    env = BatchedTwoStageDR(num_envs=options.lanes)
    model = SB3PPO(
        "MlpPolicy",
        SB3VecEnv(env, 0),
        learning_rate=LEARNING_RATE,
        n_steps=options.rollout,
        batch_size=batch_size,
        n_epochs=options.epochs,
        gamma=DISCOUNT,
        gae_lambda=GAE_LAMBDA,
        policy_kwargs={"net_arch": [width, width], "activation_fn": MODULES[options.activation]},
        device="cpu",
    )
    found["sb3"] = stable_baselines(model).__next__
    nets = product_shapes(env, width)
    acting = products(nets[:1], options.lanes * env.num_agents, gradients=False)
    valuing = products(nets, rows, gradients=False)
    learning = products(nets, batch_size, gradients=True)

    def learn() -> None:
        for _ in range(options.epochs * (rows // batch_size)):
            learning()

    def everything() -> None:
        for _ in range(options.rollout):
            acting()
        valuing()
        learn()

    return {**found, "products": everything, "gradient_products": learn}


def show(rows: Sequence[Any], columns: Sequence[str], title: str) -> None:
    """A table on the terminal."""
    table = Table(*columns, title=title)
    for row in rows:
        values = [getattr(row, name) for name in columns]
        table.add_row(*(f"{v:,.2f}" if isinstance(v, float) else "-" if v is None else str(v) for v in values))
    Console(width=140).print(table)


def main(options: Options, arguments: list[str]) -> list[Any]:
    """Measure, write, show."""
    if options.threads:
        torch.set_num_threads(options.threads)
    origin = provenance("ppo_vs_sb3", arguments)
    title = f"{options.lanes} lanes, {torch.get_num_threads()} threads"
    if options.time_to_share:
        from benchmarks.time_to_share import COLUMNS, races

        found: list[Any] = list(races(options))
        write_csv(options.output or RESULTS / "ppo-time-to-share-cpu.csv", [rounded(row, 3) for row in found], origin)
        show(found, COLUMNS, title)
        return found
    found = []
    for width in options.widths:
        for batch_size in options.batch_sizes:
            found += rates(options, width, batch_size)
            print(f"width {width}, {batch_size} rows: done", file=sys.stderr, flush=True)
    write_csv(options.output or RESULTS / "ppo-cpu.csv", [rounded(row, 3) for row in found], origin)
    columns = ("contender", "width", "batch_rows", "steps_per_s", "times_sb3", "of_products")
    show(found, (*columns, "update_of_gradient_products"), f"{title}, {options.activation}")
    return found


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__), sys.argv[1:])
