"""The training loop: learns, logs, stops, and continues bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gridmarl.errors import ConfigError, DataError
from gridmarl.protocols import BatchStep, Transition
from gridmarl.train.checkpoint import BEST_FILE, CHECKPOINT_FILE, load_checkpoint
from gridmarl.train.config import TrainConfig
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.loop import TrainProgress, TrainResult, build_agent, train
from tests.oracles.toy_env import IdentityEnv
from tests.train.settings import CHECKPOINT_INTERVAL, LOG_INTERVAL, TOTAL_STEPS, make_env, settings

TIMING = {"steps_per_s", "seconds"}


def run(run_dir: Path, config: TrainConfig | None = None, **options: Any) -> TrainResult:
    env, config = make_env(), config or settings()
    return train(env, build_agent(env, config), config, run_dir, **options)


def at_step(step: int, action: Callable[[], None]) -> Callable[[TrainProgress], None]:
    def callback(progress: TrainProgress) -> None:
        if progress.env_steps == step:
            action()

    return callback


def interrupt() -> None:
    raise KeyboardInterrupt


def rows(run_dir: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k not in TIMING} for row in read_metrics(run_dir)]


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        items: Any = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        return {path: tree}
    return {key: leaf for name, child in items for key, leaf in leaves(child, f"{path}/{name}").items()}


def assert_same_run(one: Path, other: Path) -> None:
    """Equal checkpoints, leaf by leaf, and equal metrics but for the clock."""
    first, second = (leaves(load_checkpoint(folder / CHECKPOINT_FILE)) for folder in (one, other))
    assert first.keys() == second.keys()
    assert any(key.startswith("/agent/online/") for key in first)
    for key, value in first.items():
        same = torch.equal(value, second[key]) if isinstance(value, Tensor) else value == second[key]
        assert same, key
    assert rows(one) == rows(other)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    return run_dir, run(run_dir)


def test_learns_the_optimum_and_reports_it(uninterrupted: tuple[Path, TrainResult]) -> None:
    run_dir, result = uninterrupted
    assert (result.env_steps, result.episodes, result.interrupted) == (TOTAL_STEPS, TOTAL_STEPS // 5, False)
    assert result.last_return is not None
    assert result.last_return > 4.5
    found = read_metrics(run_dir)
    assert [int(row["env_steps"]) for row in found] == [*range(LOG_INTERVAL, TOTAL_STEPS, LOG_INTERVAL), TOTAL_STEPS]
    assert float(found[-1]["return"]) == result.last_return
    assert found[0]["loss"] == ""
    assert float(found[-1]["loss"]) < float(found[2]["loss"])
    assert float(found[-1]["epsilon"]) == 0.05
    assert TrainConfig.load(run_dir) == settings()


def test_return_is_the_mean_of_finished_episodes(tmp_path: Path) -> None:
    """A policy that earns a known amount: every agent always right, but for the first step of each episode."""

    class Known(IdentityEnv):
        def step(self, actions: Tensor) -> BatchStep:
            first = self.clock % self.horizon == 0
            step = super().step(actions)
            value = torch.tensor([1.0, 3.0]) * (0.0 if first else 1.0)
            return step._replace(reward=value.expand(self.num_envs, 2))

    env, config = Known(8, 2, 3, 5), settings(total_steps=400)
    train(env, build_agent(env, config), config, tmp_path)
    for row in read_metrics(tmp_path):
        assert [float(row[name]) for name in ("return", "return_min", "return_max")] == [8.0, 4.0, 12.0]


@pytest.mark.parametrize("step", [352, 704])
def test_resumed_equals_uninterrupted(step: int, tmp_path: Path, uninterrupted: tuple[Path, TrainResult]) -> None:
    stopped = run(tmp_path, on_progress=at_step(step, interrupt))
    assert (stopped.interrupted, stopped.env_steps) == (True, step)
    assert load_checkpoint(tmp_path / CHECKPOINT_FILE)["env_steps"] == step
    resumed = run(tmp_path, resume=True)
    assert (resumed.interrupted, resumed.env_steps) == (False, TOTAL_STEPS)
    assert_same_run(tmp_path, uninterrupted[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_steps(
    number: signal.Signals, tmp_path: Path, uninterrupted: tuple[Path, TrainResult]
) -> None:
    before = signal.getsignal(number)
    stopped = run(tmp_path, on_progress=at_step(352, lambda: os.kill(os.getpid(), number)))
    assert (stopped.interrupted, stopped.env_steps) == (True, 352)
    assert signal.getsignal(number) is before
    run(tmp_path, resume=True)
    assert_same_run(tmp_path, uninterrupted[0])


def test_an_interrupt_inside_a_step_keeps_the_last_whole_checkpoint(
    tmp_path: Path, uninterrupted: tuple[Path, TrainResult]
) -> None:
    class Impatient(IdentityEnv):
        def step(self, actions: Tensor) -> BatchStep:
            if self.clock == 50:
                self.clock += 1
                raise KeyboardInterrupt
            return super().step(actions)

    env, config = Impatient(8, 2, 3, 5), settings()
    result = train(env, build_agent(env, config), config, tmp_path)
    assert (result.interrupted, result.env_steps) == (True, 400)
    assert load_checkpoint(tmp_path / CHECKPOINT_FILE)["env_steps"] == 320
    run(tmp_path, resume=True)
    assert_same_run(tmp_path, uninterrupted[0])


def test_trains_outside_the_main_thread(tmp_path: Path) -> None:
    results: list[TrainResult] = []
    thread = threading.Thread(target=lambda: results.append(run(tmp_path, settings(total_steps=80))))
    thread.start()
    thread.join()
    assert results[0].env_steps == 80


def test_a_killed_process_loses_at_most_one_interval(
    tmp_path: Path, repository: Path, uninterrupted: tuple[Path, TrainResult]
) -> None:
    wait_at = 880
    command = [sys.executable, "-m", "tests.train.killed_run", str(tmp_path), str(wait_at)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, cwd=repository, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGKILL)
    saved = load_checkpoint(tmp_path / CHECKPOINT_FILE)["env_steps"]
    assert wait_at - CHECKPOINT_INTERVAL < saved < wait_at
    assert int(read_metrics(tmp_path)[-1]["env_steps"]) == wait_at
    run(tmp_path, resume=True)
    assert_same_run(tmp_path, uninterrupted[0])


def test_killed_before_the_first_checkpoint_starts_anew(
    tmp_path: Path, uninterrupted: tuple[Path, TrainResult]
) -> None:
    run(tmp_path, on_progress=at_step(176, interrupt))
    (tmp_path / CHECKPOINT_FILE).unlink()
    run(tmp_path, resume=True)
    assert_same_run(tmp_path, uninterrupted[0])


def test_resuming_a_finished_run_changes_nothing_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    options = {**settings().agent_options, "exploration_steps": 300}
    run(tmp_path, settings(total_steps=400, agent_options=options))
    before = rows(tmp_path)
    result = run(tmp_path, settings(total_steps=400, agent_options=options), resume=True)
    assert (result.env_steps, rows(tmp_path)) == (400, before)
    assert run(tmp_path, settings(total_steps=560, agent_options=options), resume=True).env_steps == 560
    assert rows(tmp_path)[: len(before)] == before


def test_last_row_is_written_for_a_part_of_an_interval(tmp_path: Path) -> None:
    result = run(tmp_path, settings(total_steps=100))
    assert result.env_steps == 104
    assert [row["env_steps"] for row in read_metrics(tmp_path)] == ["88", "104"]


def test_evaluations_are_greedy_repeatable_and_keep_the_best(tmp_path: Path) -> None:
    config = settings(eval_interval=400)
    result = run(tmp_path, config, eval_env=make_env())
    found = [(int(row["env_steps"]), float(row["eval_return"])) for row in read_metrics(tmp_path) if row["eval_return"]]
    assert [step for step, _ in found] == [400, 800, 1200, 1600]
    assert result.best_eval_return == max(value for _, value in found) == 5.0
    best = load_checkpoint(tmp_path / BEST_FILE)
    assert (best["env_steps"], best["eval_return"]) == next(pair for pair in found if pair[1] == 5.0)
    plain = run(tmp_path / "plain", settings())
    assert result.last_return == plain.last_return, "evaluations must not disturb training"


class Still:
    """Always action 0; learns or not, and remembers what it was given to learn from."""

    name = "still"

    def __init__(self, learns: bool) -> None:
        self.learns = learns
        self.seen: list[Transition] = []

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        return torch.zeros(observation.shape[:2], dtype=torch.int64)

    def learn(self, transition: Transition) -> dict[str, float]:
        self.seen.append(transition)
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


def test_the_next_observation_at_an_episode_s_end_is_the_final_one(tmp_path: Path) -> None:
    agent = Still(learns=True)
    train(make_env(), agent, settings(total_steps=88), tmp_path)
    assert [bool(one.truncated.all()) for one in agent.seen] == [step % 5 == 4 for step in range(11)]
    for before, after in pairwise(agent.seen):
        ended = bool(before.truncated.all())
        assert bool((before.next_observation == 0).all()) is ended
        assert torch.equal(before.next_observation, after.observation) is not ended
        assert bool((after.observation.sum(dim=-1) == 1).all())


def test_an_agent_that_does_not_learn_runs_too(tmp_path: Path) -> None:
    agent = Still(learns=False)
    result = train(make_env(), agent, settings(total_steps=400, log_interval=400), tmp_path)
    assert not agent.seen
    assert result.last_return == pytest.approx(5 / 3, abs=0.4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_id": "toy/chain"}, "env_id='toy/chain'; the environment has 'toy/identity'"),
        ({"num_envs": 4}, "num_envs=4; the environment has 8"),
        ({"device": "cuda"}, "device='cuda'; the environment is on 'cpu'"),
        ({"eval_interval": 5}, "eval_interval=5 without eval_env or evaluate"),
    ],
)
def test_config_and_environment_must_agree(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    env, agent = make_env(), build_agent(make_env(), settings())
    with pytest.raises(ConfigError, match=message):
        train(env, agent, settings(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluation_environment_must_fit(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="evaluation environment: num_agents=3; allowed is the training environment's 2"
    ):
        run(tmp_path, settings(), eval_env=IdentityEnv(8, 3, 3, 5))


def test_evaluation_may_have_other_lanes(tmp_path: Path) -> None:
    result = run(tmp_path, settings(eval_interval=40), eval_env=IdentityEnv(3, 2, 3, 5))
    assert result.best_eval_return is not None


def test_refuses_to_overwrite_or_to_resume_another_run(tmp_path: Path) -> None:
    run(tmp_path, settings(total_steps=80))
    with pytest.raises(ConfigError, match="holds a checkpoint; allowed is resume=True or another folder"):
        run(tmp_path, settings(total_steps=80))
    with pytest.raises(ConfigError, match=r"settings differ from the checkpoint's: seed=8 \(saved: 7\)"):
        run(tmp_path, settings(total_steps=160, seed=8), resume=True)


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run(tmp_path, settings(total_steps=80))
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"checkpoint\.pt: not a readable checkpoint"):
        run(tmp_path, settings(total_steps=160), resume=True)


def test_progress_tells_the_row_just_written(tmp_path: Path) -> None:
    seen: list[TrainProgress] = []
    run(tmp_path, settings(total_steps=264), on_progress=seen.append)
    assert [one.env_steps for one in seen] == [88, 176, 264]
    assert [repr(one.metrics["return"]) for one in seen] == [row["return"] for row in read_metrics(tmp_path)]
    assert seen[0].total_steps == 264
