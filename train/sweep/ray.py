"""Everything that touches Ray: drawing settings, and Ray Tune as the one who runs, stops and restores trials.

Ray keeps which trials have ended (`ray/` in the sweep's folder); how far a trial has come is in its own checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Read by Ray when it is imported or started: no phoning home, no tables and logs of its own, visible GPUs left alone,
# no change of folder, and Ctrl-C as in every other command.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})

import numpy as np  # noqa: E402
import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import ASHAScheduler  # noqa: E402

from gridmarl.errors import ConfigError  # noqa: E402
from gridmarl.train.sweep.space import Draw  # noqa: E402
from gridmarl.train.sweep.trial import STEPS, TrialJob, run_trial  # noqa: E402

_NAME = "ray"
_SCHEDULER_FILE = "early_stop.pkl"
_OBJECT_STORE_BYTES = 128 * 2**20  # trials exchange a few numbers
_KEEP_ONE_IN = 3
_FIRST_RUNG = 9  # the first decision is made at this fraction of the steps


def draw_settings(
    agent: Mapping[str, Draw], market: Mapping[str, Draw], count: int, seed: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """`count` random draws of agent options and market parameters.

    Raises:
        ConfigError: arguments that a distribution refuses; names the item.
    """
    generator = np.random.default_rng(seed)
    domains = {id(draw): _domain(draw) for draw in (*agent.values(), *market.values())}

    def draws(of: Mapping[str, Draw]) -> dict[str, Any]:
        return {name: _plain(domains[id(draw)].sample(random_state=generator)) for name, draw in of.items()}

    return [(draws(agent), draws(market)) for _ in range(count)]


def _domain(draw: Draw) -> Any:
    try:
        domain = getattr(tune, draw.distribution)(*draw.arguments)
        domain.sample(random_state=np.random.default_rng(0))
    except (TypeError, ValueError, ArithmeticError, AssertionError) as error:
        raise ConfigError(
            f"sample {draw.item!r}: {error}; allowed is what Ray Tune's {draw.distribution} takes"
        ) from error
    return domain


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


class EarlyStop(ASHAScheduler):
    """ASHA (Li et al., 2020, asynchronous successive halving) whose decisions outlive the process.

    Ray Tune writes a scheduler down as it was before the first trial; this one reads its decisions back. A trial that
    was stopped shortly before a kill is stopped again.
    """

    def __init__(self, metric: str, steps: int, path: Path) -> None:
        self._path = str(path)
        self._stopped: set[str] = set()
        # beyond the last step: there is no decision left to make at the end
        super().__init__(
            time_attr=STEPS,
            metric=metric,
            mode="max",
            max_t=max(1, steps - 1),
            grace_period=max(1, steps // _FIRST_RUNG),
            reduction_factor=_KEEP_ONE_IN,
            stop_last_trials=False,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if os.path.exists(self._path):
            self.restore(self._path)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide, and write the decision down before it takes effect."""
        decision = str(super().on_trial_result(tune_controller, trial, result))
        if decision == self.STOP:
            self._stopped.add(trial.trial_id)
        self.save(self._path + ".tmp")
        os.replace(self._path + ".tmp", self._path)
        return str(self.STOP) if trial.trial_id in self._stopped else decision


_listeners: list[Callable[[], None]] = []


class _TrialEnded(tune.Callback):
    """Tells the listeners. It has no state: Ray writes callbacks down and reads them back."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for listener in _listeners:
            listener()


def run_trials(
    jobs: Sequence[TrialJob],
    folder: Path,
    workers: int,
    steps: int,
    metric: str,
    early_stop: bool,
    on_ended: Callable[[], None],
) -> dict[int, str]:
    """Run all jobs, `workers` at once; go on where an earlier call for the same folder left off.

    Args:
        folder: of the sweep; absolute.
        on_ended: called after each trial that ends in this call.

    Returns:
        What went wrong, by position of the job.
    """
    trainable = tune.with_resources(tune.with_parameters(_train, jobs=list(jobs)), {"cpu": 1})
    with _ray(workers), _listening(on_ended):
        results = _tuner(trainable, jobs, folder, steps, metric, early_stop).fit()
        return {int(item.config["job"]): str(item.error) for item in results if item.error is not None}


def _train(config: dict[str, Any], jobs: list[TrialJob]) -> None:
    run_trial(jobs[config["job"]], tune.report)


def _tuner(
    trainable: Any, jobs: Sequence[TrialJob], folder: Path, steps: int, metric: str, early_stop: bool
) -> tune.Tuner:
    space = {"job": tune.grid_search(list(range(len(jobs))))}
    kept = folder / _NAME
    if tune.Tuner.can_restore(str(kept)):
        return tune.Tuner.restore(str(kept), trainable, resume_unfinished=True, resume_errored=True, param_space=space)
    kept.mkdir(exist_ok=True)
    scheduler = EarlyStop(metric, steps, kept / _SCHEDULER_FILE) if early_stop else None
    return tune.Tuner(
        trainable,
        param_space=space,
        # a process that has ended one trial takes the next: its imports take longer than a short trial
        tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True),
        run_config=tune.RunConfig(name=_NAME, storage_path=str(folder), verbose=0, callbacks=[_TrialEnded()]),
    )


@contextmanager
def _ray(workers: int) -> Iterator[None]:
    """Ray on this machine alone, gone afterwards."""
    ray.init(
        address="local",
        num_cpus=workers,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _listening(listener: Callable[[], None]) -> Iterator[None]:
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
