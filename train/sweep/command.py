"""`gridmarl sweep`: train every combination of settings with every seed, side by side, and say which is best."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gridmarl.errors import ConfigError, GridmarlError, MissingExtraError
from gridmarl.train.markets import market_entry
from gridmarl.train.run_folder import describe_run, write_json
from gridmarl.train.seeds import worker_count
from gridmarl.train.stage_bar import stage_bar
from gridmarl.train.sweep.options import PLAN_FILE, Sweep
from gridmarl.train.sweep.plan import (
    Configuration,
    command_of,
    configurations,
    save_plan,
    saved_plan,
    train_options,
    trials_of,
)
from gridmarl.train.sweep.results import (
    CSV_FILE,
    best_of,
    measures_of,
    outcome,
    print_standings,
    ranked,
    summary,
    write_csv,
)
from gridmarl.train.sweep.space import parse_draws
from gridmarl.train.sweep.trial import TrialJob, trials_in
from gridmarl.train.tables import results_console


def run_sweep(sweep: Sweep) -> int:
    """See `Sweep`; writes sweep.json, the run folders `config-N/seed-N`, sweep.csv and summary.json."""
    sweep.check()
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("gridmarl sweep needs Ray Tune: pip install 'gridmarl[ray]'")
    found = _planned(sweep)
    held_out = _held_out(sweep, found)
    folder = sweep.folder(f"{sweep.agent}-sweep").resolve()
    if not (folder / PLAN_FILE).exists():
        save_plan(sweep, folder, found)
    jobs = _jobs(sweep, found, held_out, folder)
    console = results_console()
    try:
        failures = _run(sweep, jobs, folder)
    except KeyboardInterrupt:
        console.print(f"interrupted; continue with --resume --run-dir {folder}", highlight=False, soft_wrap=True)
        return 130
    _tell(sweep, jobs, folder, set(failures))
    if failures:
        first, told = min(failures.items())
        raise GridmarlError(
            f"{len(failures)} of {len(jobs)} trials failed, the first in {jobs[first].folder}; --resume tries them "
            f"again. {told.strip().splitlines()[-1]}"
        )
    return 0


def _planned(sweep: Sweep) -> list[Configuration]:
    """The configurations, each of which has been built once: nothing is left behind by bad input."""
    if sweep.run_dir is not None and (sweep.run_dir / PLAN_FILE).exists():
        return saved_plan(sweep, sweep.run_dir)
    from gridmarl.train.sweep.ray import draw_settings

    drawn = draw_settings(parse_draws(sweep.sample), parse_draws(sweep.sample_set), sweep.trials, sweep.sample_seed)
    found = configurations(sweep, drawn)
    for configuration in found:
        options = train_options(sweep, configuration)
        options.check()
        run = trials_in(sweep.env).prepare(options, sweep.all_seeds[0], None)
        if not run.agent.learns:
            raise ConfigError(f"agent: {sweep.agent!r} does not learn; allowed is one that does")
    return found


def _held_out(sweep: Sweep, found: Sequence[Configuration]) -> dict[int, Any]:
    """What each configuration's evaluations are measured by; markets that are equal share it."""
    by_market: dict[str, Any] = {}
    held_out = {}
    for configuration in found:
        key = repr(sorted(configuration.market.items()))
        if key not in by_market:
            options = replace(train_options(sweep, configuration), progress=sweep.progress)
            by_market[key] = trials_in(sweep.env).held_out(options)
        held_out[configuration.index] = by_market[key]
    return held_out


def _jobs(sweep: Sweep, found: Sequence[Configuration], held_out: dict[int, Any], folder: Path) -> list[TrialJob]:
    options = {item.index: train_options(sweep, item) for item in found}
    return [
        TrialJob(
            trial=trial,
            options=options[trial.configuration.index],
            folder=trial.folder(folder),
            cwd=Path.cwd(),
            metric=sweep.metric,
            held_out=held_out[trial.configuration.index],
        )
        for trial in trials_of(sweep, found)
    ]


def _run(sweep: Sweep, jobs: Sequence[TrialJob], folder: Path) -> dict[int, str]:
    from gridmarl.train.sweep.ray import run_trials

    # as many processes as a run with that many seeds would take
    workers = worker_count(replace(jobs[0].options, workers=sweep.workers, seeds=tuple(range(len(jobs)))))
    with stage_bar("sweep", len(jobs), "trials", sweep.progress) as ended:
        return run_trials(jobs, folder, workers, sweep.steps, sweep.metric, sweep.early_stop, ended)


def _tell(sweep: Sweep, jobs: Sequence[TrialJob], folder: Path, failed: set[int]) -> None:
    """sweep.csv, summary.json, the table, and the command that repeats the best configuration."""
    outcomes = [outcome(job.trial, folder, sweep.steps, index in failed) for index, job in enumerate(jobs)]
    standings = ranked(outcomes, sweep.metric)
    best = best_of(standings, sweep.metric)
    entry = market_entry(sweep.env)
    measures = measures_of(entry)
    write_csv(folder / CSV_FILE, outcomes, measures)
    content: dict[str, Any] = {
        **describe_run(sweep),
        "command": "sweep",
        "metric": sweep.metric,
        "configurations": [summary(item, measures) for item in standings],
        "best": None,
    }
    console = results_console()
    print_standings(console, standings, len(sweep.all_seeds), sweep.steps, entry.agents)
    if best is not None:
        command = command_of(train_options(sweep, best.configuration))
        content["best"] = {"name": best.configuration.name, "command": command}
        console.print(f"best by {sweep.metric}: {best.configuration.name}; again, and compared on other episodes, with")
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)
    write_json(folder / "summary.json", content)
    console.print(f"results in {folder}", highlight=False, soft_wrap=True)
