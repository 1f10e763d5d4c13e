"""Training time until held-out evaluation reaches a share of what truthful bidding gains; see ppo_vs_sb3.py.

Native PPO with its defaults on `--lanes` lanes against SB3's PPO with SB3's defaults. Of one seed, the contender that
has trained least goes next, one rollout and update at a time, so that a busy machine slows all alike. After each, the
policy is evaluated on the same held-out episodes; that time counts for nobody.

An untrained policy bids the middle of the ranges, and where that is already worth the share wanted, reaching it says
little: `untrained_share` stands beside the times, and higher shares than one can be asked for. Only evaluations after
an update count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3 import PPO as SB3PPO
from torch import Tensor

from benchmarks.ppo_vs_sb3 import Options, native, stable_baselines
from gridmarl.agents.ppo import PPO
from gridmarl.agents.ppo_config import PPOConfig
from gridmarl.agents.registry import make_agent
from gridmarl.envs.adapters.sb3 import SB3VecEnv
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.protocols import AgentContext
from gridmarl.train.evaluation import MarketEvaluation, levels_of
from gridmarl.train.planning import plan_benchmarks
from gridmarl.train.rollout import play

EVAL_SEED = 1_000_003  # no training seed
COLUMNS = ("contender", "lanes", "seed", "share", "reached", "seconds", "env_steps", "untrained_share", "best_share")


@dataclass
class Race:
    """One row: a run until it reached a share of the gains of truthful bidding, or was given up."""

    contender: str
    lanes: int
    seed: int
    share: float
    reached: bool
    seconds: float
    """Training time, without evaluations: to the share, or until the run was given up."""
    env_steps: int
    """Of one lane, summed over lanes, in this time."""
    untrained_share: float
    best_share: float
    """Of the whole run."""
    last_share: float
    """At the end of the run, which ends at the greatest share asked for, or is given up."""
    cap_seconds: float


class Runner:
    """A training run that is advanced an update at a time.

    Args:
        policies: holds the agent; native PPO's is there once it has trained.
        untrained: what it is before.
        steps: of one lane, per update.
    """

    def __init__(
        self, name: str, lanes: int, train: Callable[[], Any], policies: list[Any], untrained: Any, steps: int
    ) -> None:
        self.name, self.lanes, self.train, self.policies, self.steps = name, lanes, train, policies, steps
        self.untrained = untrained
        self.seconds = 0.0
        self.env_steps = 0
        self.history: list[tuple[float, float, int]] = []  # share, seconds, steps

    def advance(self, share_of: Callable[[Any], float]) -> None:
        """One rollout and update, then an evaluation."""
        begin = time.perf_counter()
        self.train()
        self.seconds += time.perf_counter() - begin
        self.env_steps += self.steps
        self.history.append((share_of(self.policies[0]), self.seconds, self.env_steps))

    def best(self) -> float:
        """Best share so far."""
        return max((share for share, _, _ in self.history), default=float("-inf"))

    def row(self, seed: int, share: float, untrained_share: float, cap_seconds: float) -> Race:
        """When it first reached the share."""
        at = next((item for item in self.history if item[0] >= share), None)
        _, seconds, steps = at or self.history[-1]
        shares = (untrained_share, self.best(), self.history[-1][0])
        return Race(self.name, self.lanes, seed, share, at is not None, seconds, steps, *shares, cap_seconds)


class SB3Policy:
    """A model of SB3 as an agent that does not explore."""

    name = "sb3"
    learns = False

    def __init__(self, model: SB3PPO) -> None:
        self.model = model

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Most likely actions."""
        action, _ = self.model.predict(observation.flatten(0, 1).numpy(), deterministic=True)
        return torch.from_numpy(action).view(*observation.shape[:2], -1)


def evaluation(lanes: int) -> MarketEvaluation:
    """Held-out episodes with their levels."""
    env = BatchedTwoStageDR(num_envs=lanes, auto_reset=False)
    context = AgentContext(lanes, env.num_agents, env.observation_fields, env.action_spec, env.device, 0)
    truthful = play(env, make_agent("truthful", context), EVAL_SEED)
    return MarketEvaluation(env, EVAL_SEED, levels_of(truthful, plan_benchmarks(env.params, truthful)))


def _native(options: Options, seed: int) -> Runner:
    agents: list[PPO] = []
    env = BatchedTwoStageDR(num_envs=options.lanes)
    context = AgentContext(env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, seed)
    steps = PPOConfig().rollout_steps * options.lanes
    return Runner("native", options.lanes, native(env, {}, seed, agents).__next__, agents, PPO(context), steps)


def _sb3(lanes: int, seed: int) -> Runner:
    model = SB3PPO("MlpPolicy", SB3VecEnv(BatchedTwoStageDR(num_envs=lanes), seed), seed=seed, device="cpu")
    policy = SB3Policy(model)
    return Runner("sb3", lanes, stable_baselines(model).__next__, [policy], policy, model.n_steps * lanes)


def races(options: Options) -> Iterator[Race]:
    """All contenders, seed by seed."""
    judge = evaluation(options.eval_lanes)
    truthful = judge.levels.share(judge.levels.truthful_utok)
    assert truthful is not None

    def share_of(policy: Any) -> float:
        return judge(policy)["eval_gains_share"] / truthful

    for seed in range(options.seeds):
        runners = [_native(options, seed), *(_sb3(lanes, seed) for lanes in options.sb3_lanes)]
        untrained = [share_of(runner.untrained) for runner in runners]
        going = list(runners)
        while going:
            runner = min(going, key=lambda item: item.seconds)
            runner.advance(share_of)
            if runner.best() >= max(options.shares) or runner.seconds >= options.cap_seconds:
                going.remove(runner)
        for runner, before in zip(runners, untrained, strict=True):
            yield from (runner.row(seed, share, before, options.cap_seconds) for share in sorted(options.shares))
