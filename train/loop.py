"""The training loop: act, step, learn; logs, evaluations, checkpoints; exact resume.

`metrics.csv` columns: `env_steps`; `return` (mean over agents and finished episodes, tokens), `return_min`,
`return_max` (the agents' means), `episodes` (so far); `steps_per_s`, `seconds`; what the agent's `learn` reports
(`loss`, `gradient_norm`, `q_mean`, `epsilon`, ...); what an evaluation found (`eval_return`, and in the market
`eval_gains_share`, `eval_efficiency`, `eval_price_tok_per_kwh`). The same names are TensorBoard's tags.

A resumed run continues bit for bit (on a CPU with the same number of threads): environment, agent, tracker and the
observation in flight are in the checkpoint, and every interval is a function of the step count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from gridmarl.agents.registry import make_agent
from gridmarl.errors import ConfigError
from gridmarl.protocols import Agent, AgentContext, Alone, BatchedEnv, Transition, Workers
from gridmarl.train.checkpoint import BEST_FILE, CHECKPOINT_FILE, load_checkpoint, save_checkpoint, tree_hash
from gridmarl.train.config import TrainConfig
from gridmarl.train.logging_ import MetricsLog
from gridmarl.train.loop_returns import ReturnTracker, check_same_spaces, evaluation_return
from gridmarl.train.loop_stop import StopRequest
from gridmarl.train.progress import ProgressBar
from gridmarl.train.workers import any_of, gather_states, own_state

Evaluator = Callable[[Agent], Mapping[str, float]]
"""Judges a policy on held-out episodes; the result has `eval_return`, by which the best policy is kept."""


class LoopLedger(Protocol):
    """What the loop knows of a ledger that is kept while training (`gridmarl.train.ledger_store`)."""

    def sync(self) -> None:
        """Called before a checkpoint is written: on the disk, none may be ahead of the ledger."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs; part of the checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        ...


@dataclass(frozen=True)
class TrainProgress:
    """What `on_progress` is told after each row of metrics."""

    env_steps: int
    total_steps: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. `env_steps` and `episodes` count from the run's beginning, `seconds` this call only.

    `last_return` is the last row's (None before the first episode ended), `best_eval_return` None without evaluations.
    `agent_blake3` is the hash of all that the agent has learned and remembers: two runs that agree in it are equal to
    the last bit.
    """

    run_dir: Path
    env_steps: int
    episodes: int
    interrupted: bool
    last_return: float | None
    best_eval_return: float | None
    seconds: float
    steps_per_s: float
    agent_blake3: str


def build_agent(env: BatchedEnv, config: TrainConfig, workers: Workers | None = None) -> Agent:
    """The agent that `config` names, for this environment. Q-learners explore over half of it unless told otherwise.

    SB3's schedules (sb3-dqn's exploration) are told the run's length.

    Raises:
        ConfigError: no such agent, an option it does not have, or spaces it cannot act in.
    """
    options = dict(config.agent_options)
    if config.agent in ("dqn", "tabular_q"):
        options.setdefault("exploration_steps", config.total_steps // 2)
    elif config.agent in ("sb3-ppo", "sb3-a2c", "sb3-dqn", "sb3-sac"):
        options.setdefault("total_steps", config.total_steps)
    context = AgentContext(
        num_envs=env.num_envs,
        num_agents=env.num_agents,
        observation_fields=env.observation_fields,
        action_spec=env.action_spec,
        device=env.device,
        seed=config.seed,
        workers=workers or Alone(),
    )
    agent = make_agent(config.agent, context, **options)
    if context.workers.size > 1 and not getattr(agent, "data_parallel", False):
        raise ConfigError(f"agent {config.agent!r}: trains in one process only; allowed is a start without torchrun")
    return agent


class _Run:
    """State of a run between two steps: all that a checkpoint holds."""

    def __init__(self, env: BatchedEnv, agent: Agent, workers: Workers, ledger: LoopLedger | None) -> None:
        self.env, self.agent, self.workers, self.ledger = env, agent, workers, ledger
        self.lanes = env.num_envs * workers.size
        self.tracker = ReturnTracker(env.num_envs, env.num_agents, env.device)
        self.env_steps = self.episodes = 0
        self.last_return: float | None = None
        self.best_eval_return: float | None = None
        self.last_share: float | None = None
        self.reported: dict[str, float] = {}
        self.observation: Tensor | None = None
        # False while a step is under way: what an interrupt leaves then must not be saved.
        self.consistent = True

    def advance(self) -> None:
        """One step of all lanes."""
        assert self.observation is not None
        self.consistent = False
        action = self.agent.act(self.observation, explore=True)
        step = self.env.step(action)
        if self.agent.learns:
            transition = Transition(
                self.observation, action, step.reward, step.final_observation, step.terminated, step.truncated
            )
            self.reported.update(self.agent.learn(transition))
        self.tracker.add(step.reward, step.terminated | step.truncated)
        self.observation = step.observation
        self.env_steps += self.lanes
        self.consistent = True

    def is_due(self, interval: int) -> bool:
        """Whether the last step crossed a multiple of `interval` steps (0: never)."""
        return interval > 0 and self.env_steps // interval > (self.env_steps - self.lanes) // interval

    def training_metrics(self) -> dict[str, float]:
        """Returns since the last call, and what the agent reported last."""
        count, means = self.tracker.take(self.workers)
        self.episodes += count
        metrics: dict[str, float] = {}
        if means:
            self.last_return = sum(means) / len(means)
            metrics = {"return": self.last_return, "return_min": min(means), "return_max": max(means)}
        return {**metrics, "episodes": self.episodes, **self.reported}

    def state_dict(self, config: TrainConfig) -> dict[str, Any]:
        ledger = {} if self.ledger is None else {"ledger": self.ledger.state_dict()}
        return ledger | {
            "config": config.to_json(),
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "last_return": self.last_return,
            "best_eval_return": self.best_eval_return,
            "reported": dict(self.reported),
            "observation": self.observation,
            "tracker": self.tracker.state_dict(),
            "agent": self.agent.state_dict(),
            "env": self.env.state_dict(),
        }

    def save(self, path: Path, config: TrainConfig) -> None:
        """One file for all processes, written by the first."""
        if self.ledger is not None:
            self.ledger.sync()
        state = self.state_dict(config)
        others = gather_states(self.workers, state)
        if others is not None:
            save_checkpoint(path, {**state, "other_workers": others} if others else state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if ("ledger" in state) != (self.ledger is not None):
            has, allowed = ("a", "with") if "ledger" in state else ("no", "without")
            raise ConfigError(f"resume: the run has {has} ledger store; allowed is to continue {allowed} one")
        if self.ledger is not None:
            self.ledger.load_state_dict(state["ledger"])
        self.env.load_state_dict(state["env"])
        self.agent.load_state_dict(state["agent"])
        self.tracker.load_state_dict(state["tracker"])
        self.env_steps, self.episodes = state["env_steps"], state["episodes"]
        self.last_return, self.best_eval_return = state["last_return"], state["best_eval_return"]
        self.reported, self.observation = dict(state["reported"]), state["observation"]


def train(
    env: BatchedEnv,
    agent: Agent,
    config: TrainConfig,
    run_dir: Path | str,
    on_progress: Callable[[TrainProgress], None] | None = None,
    *,
    eval_env: BatchedEnv | None = None,
    evaluate: Evaluator | None = None,
    resume: bool = False,
    workers: Workers | None = None,
    ledger: LoopLedger | None = None,
) -> TrainResult:
    """Train until `config.total_steps`, or until Ctrl-C or SIGTERM: these save a checkpoint and set `interrupted`.

    The run folder gets config.json, metrics.csv, tensorboard/, checkpoint.pt (last) and, with evaluations, best.pt. A
    killed process loses at most `checkpoint_interval` steps.

    Args:
        eval_env: environment for evaluations, apart from `env` so that they do not disturb the lanes in training.
        evaluate: instead of `eval_env`, what judges the policy (see `Evaluator`); it must leave `env` alone, too.
        resume: continue from the folder's checkpoint; without one (killed before the first), start anew.
        workers: the processes that train together, each with its share of `config.num_envs` lanes as `env`; the first
            one logs, evaluates and writes the checkpoint of all.
        ledger: what is kept of `env` elsewhere, and must continue with it when the run is resumed.

    Raises:
        ConfigError: config and environment disagree; the folder holds a checkpoint and `resume` is false; the
            checkpoint was made with other settings, or with a ledger where there is none now, or without.
        DataError: the checkpoint cannot be read.
    """
    run_dir = Path(run_dir)
    workers = workers or Alone()
    _check(env, config, eval_env, evaluate, workers)
    if eval_env is not None:
        evaluate = _mean_return(eval_env, config.eval_seed)
    run = _Run(env, agent, workers, ledger)
    checkpoint = run_dir / CHECKPOINT_FILE
    if checkpoint.exists():
        if not resume:
            raise ConfigError(f"run folder {run_dir} holds a checkpoint; allowed is resume=True or another folder")
        state = load_checkpoint(checkpoint, env.device)
        config.check_resumable_from(state["config"])
        run.load_state_dict(own_state(workers, state, env.device))
    else:
        run.observation = env.reset(config.seed)
    first = workers.rank == 0
    if first:
        run_dir.mkdir(parents=True, exist_ok=True)
        config.save(run_dir)

    started, first_step = time.monotonic(), run.env_steps
    with (
        StopRequest(patient=workers.size > 1) as stop,
        MetricsLog(run_dir, run.env_steps, config.tensorboard) if first else nullcontext() as log,
        ProgressBar(config.total_steps, run.env_steps, config.progress if first else "off") as bar,
    ):
        reporter = _Reporter(run, config, run_dir, log, evaluate, on_progress)
        try:
            while run.env_steps < config.total_steps and not any_of(workers, stop.requested, env.device):
                run.advance()
                reporter.after_step()
                bar.update(run.env_steps, run.last_return, run.last_share)
            interrupted = run.env_steps < config.total_steps
        except KeyboardInterrupt:
            interrupted = True
        if run.consistent:
            run.save(checkpoint, config)
    seconds = time.monotonic() - started
    return TrainResult(
        run_dir=run_dir,
        env_steps=run.env_steps,
        episodes=run.episodes,
        interrupted=interrupted,
        last_return=run.last_return,
        best_eval_return=run.best_eval_return,
        seconds=seconds,
        steps_per_s=(run.env_steps - first_step) / max(seconds, 1e-9),
        agent_blake3=tree_hash(agent.state_dict()),
    )


def _mean_return(env: BatchedEnv, seed: int) -> Evaluator:
    return lambda agent: {"eval_return": evaluation_return(env, agent, seed)}


def _check(
    env: BatchedEnv,
    config: TrainConfig,
    eval_env: BatchedEnv | None,
    evaluate: Evaluator | None,
    workers: Workers,
) -> None:
    for name, found in (("env_id", env.env_id), ("num_envs", env.num_envs * workers.size)):
        if getattr(config, name) != found:
            raise ConfigError(f"train: {name}={getattr(config, name)!r}; the environment has {found!r}")
    if torch.device(config.device).type != env.device.type:
        raise ConfigError(f"train: device={config.device!r}; the environment is on {str(env.device)!r}")
    if eval_env is not None and evaluate is not None:
        raise ConfigError("train: eval_env and evaluate; allowed is one of them")
    if config.eval_interval and eval_env is None and evaluate is None and workers.rank == 0:
        raise ConfigError(
            f"train: eval_interval={config.eval_interval} without eval_env or evaluate; allowed is 0, or give one"
        )
    if eval_env is not None:
        check_same_spaces(env, eval_env)


class _Reporter:
    """Rows of metrics, evaluations and checkpoints, when they are due."""

    def __init__(
        self,
        run: _Run,
        config: TrainConfig,
        run_dir: Path,
        log: MetricsLog | None,
        evaluate: Evaluator | None,
        on_progress: Callable[[TrainProgress], None] | None,
    ) -> None:
        self._run, self._config, self._run_dir, self._log = run, config, run_dir, log
        self._evaluator, self._on_progress = evaluate, on_progress
        self._started = self._last_time = time.monotonic()
        self._last_step = run.env_steps

    def after_step(self) -> None:
        """Log, evaluate, checkpoint; then tell `on_progress`, last, so that it may interrupt the run."""
        run, config = self._run, self._config
        metrics: dict[str, float] = {}
        if run.is_due(config.log_interval) or run.env_steps >= config.total_steps:
            metrics = self._training_metrics()
        if run.is_due(config.eval_interval) and self._log is not None:
            metrics.update(self._evaluate())
        if metrics and self._log is not None:
            self._log.write(run.env_steps, metrics)
        if run.is_due(config.checkpoint_interval):
            run.save(self._run_dir / CHECKPOINT_FILE, config)
        if metrics and self._on_progress is not None:
            self._on_progress(TrainProgress(run.env_steps, config.total_steps, metrics))

    def _training_metrics(self) -> dict[str, float]:
        run, now = self._run, time.monotonic()
        rate = (run.env_steps - self._last_step) / max(now - self._last_time, 1e-9)
        self._last_time, self._last_step = now, run.env_steps
        return {**run.training_metrics(), "steps_per_s": rate, "seconds": now - self._started}

    def _evaluate(self) -> Mapping[str, float]:
        run = self._run
        assert self._evaluator is not None
        found = self._evaluator(run.agent)
        value = found["eval_return"]
        run.last_share = found.get("eval_gains_share")
        if run.best_eval_return is None or value > run.best_eval_return:
            run.best_eval_return = value
            best = {"config": self._config.to_json(), "env_steps": run.env_steps, "eval_return": value}
            save_checkpoint(self._run_dir / BEST_FILE, {**best, "agent": run.agent.state_dict()})
        return found
