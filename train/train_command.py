"""`gridmarl train`: one agent in one environment, ending with how it compares with truthful bidding and the optimum."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from gridmarl.errors import ConfigError
from gridmarl.ledger.batch import BatchChain
from gridmarl.protocols import Alone, Workers
from gridmarl.train.contest import Contender, Contest, Reference, heuristic, hold, reference
from gridmarl.train.evaluation import Levels, levels_of
from gridmarl.train.figures import learning_curve
from gridmarl.train.ledger_run import play_sealed
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.loop import TrainResult
from gridmarl.train.run_folder import write_json
from gridmarl.train.runs import load_run
from gridmarl.train.seeds import train_seeds
from gridmarl.train.tables import print_notes, print_rows, results_console, seeds_table
from gridmarl.train.train_options import Train, evaluation_seed, seed_folder
from gridmarl.train.train_run import SeedRun, TrainingMarket, add_evaluation, prepare, train_seed, training_market
from gridmarl.train.workers import local_device, started_by_torchrun, torch_workers


def run_train(options: Train) -> int:
    """See `Train`; writes config.json, metrics.csv, summary.json, figures/, checkpoint.pt and ledger.bin.

    With several seeds each has a folder of its own with config.json, metrics.csv and checkpoints.
    """
    options.check()
    torch.set_num_threads(options.threads)
    if not started_by_torchrun():
        return _run(options, Alone())
    if options.seeds:
        raise ConfigError("--seeds in processes that train together; allowed is --seed, or a start without torchrun")
    options = replace(options, device=local_device(options.device))
    with torch_workers(options.device) as workers:
        return _run(options, workers) if workers.rank == 0 else _help(options, workers)


def _help(options: Train, workers: Workers) -> int:
    """Train this process's lanes; the first process does all else."""
    run = prepare(options, training_market(options), options.seed, None, workers)
    result = train_seed(run, options.run_dir or Path("unused"), options.resume)
    return 130 if result.interrupted else 0


def _run(options: Train, workers: Workers) -> int:
    console = results_console()
    market = training_market(options)
    options.sealing(market.params.num_prosumers)
    first = prepare(options, market, options.all_seeds[0], None, workers)
    # what can be refused has been, and all that follows costs time: nothing is left behind by bad input
    levels = None
    if first.agent.learns and options.eval_every:
        given = reference(options, market.params, market.training, options.eval_lanes, first.config.eval_seed)
        levels = levels_of(given.truthful, given.benchmarks)
    compared = reference(options, market.params, market.scenario, options.eval_lanes, _comparison_seed(options))
    folder = options.folder(options.agent)
    results = _train(options, market, first, levels, folder)
    if _interrupted(options, results):
        _write_summary(options, folder, market, None, results, levels)
        done = sum(result.env_steps for result in results.values())
        told = f"interrupted after {done} steps; continue with --resume --run-dir {folder}"
        console.print(told, highlight=False, soft_wrap=True)
        return 130
    _tell_sealed(console, first)
    contest = _final_contest(options, market, folder, compared)
    _write_summary(options, folder, market, contest, results, levels)
    _print(console, options, folder, market, contest)
    return 0


def _comparison_seed(options: Train) -> int:
    """Of the episodes of the comparison at the end, the same for all seeds."""
    return evaluation_seed(min(options.all_seeds))


def _train(
    options: Train, market: TrainingMarket, first: SeedRun, levels: Levels | None, folder: Path
) -> dict[int, TrainResult]:
    if options.seeds:
        content = asdict(replace(first.config, seed=options.seeds[0]))
        write_json(folder / "config.json", {**content, "seeds": list(options.seeds)})
        return train_seeds(options, market, levels, folder)
    if levels is not None:
        add_evaluation(options, market, first, levels)
    return {options.seed: train_seed(first, folder, options.resume)}


def _interrupted(options: Train, results: dict[int, TrainResult]) -> bool:
    return len(results) < len(options.all_seeds) or any(result.interrupted for result in results.values())


def _tell_sealed(console: Console, run: SeedRun) -> None:
    chains, lanes = run.env.chains, run.env.num_envs
    if isinstance(chains, BatchChain):
        console.print(f"sealed while training: {chains.height} blocks of {lanes} lanes each, in one chain")
    elif chains is not None:
        console.print(f"sealed while training: {chains.height} blocks in each of {lanes} chains")


def _final_contest(options: Train, market: TrainingMarket, folder: Path, compared: Reference) -> Contest:
    run = load_run(folder)
    trained = replace(run.contender(options, market.scenario), name=options.agent)
    contenders: list[Contender] = [heuristic(options, market.params, market.scenario, "truthful", "truthful"), trained]
    seed = _comparison_seed(options)
    contest = hold(options, market.scenario, contenders, compared, options.eval_lanes, seed)
    for one in run.seeds:
        agent = one.agent(options, market.scenario, 1)
        play_sealed(options, market.params, market.scenario, agent, seed, one.folder / "ledger.bin", options)
    return contest


def _write_summary(
    options: Train,
    folder: Path,
    market: TrainingMarket,
    contest: Contest | None,
    results: dict[int, TrainResult],
    levels: Levels | None,
) -> None:
    """summary.json and the learning curve; without rows after an interruption."""
    training = {seed: _training_report(result) for seed, result in results.items()}
    summary: dict[str, Any] = {
        "scenario": market.scenario.name,
        "attribution": market.scenario.attribution,
        "interrupted": contest is None,
        "training": training if options.seeds else training.get(options.seed, {}),
        "rows": [] if contest is None else [asdict(row) for row in contest.rows],
        "levels": {} if levels is None else levels.to_dict(),
    }
    if options.seeds:
        summary["seeds"] = list(options.seeds)
    if contest is not None:
        rows = contest.by_seed[options.agent]
        summary["rows_by_seed"] = {seed: asdict(row) for seed, row in rows.items()} if options.seeds else {}
        summary["hourly"] = {name: profile.to_dict() for name, profile in contest.profiles.items()}
    write_json(folder / "summary.json", summary)
    folders = [folder / seed_folder(seed) for seed in options.seeds] or [folder]
    curves = {options.agent: [read_metrics(place) for place in folders]}
    learning_curve(curves, {} if levels is None else levels.reward_tok, folder / "figures" / "learning.png")


def _training_report(result: TrainResult) -> dict[str, Any]:
    return {name: value for name, value in asdict(result).items() if name not in ("run_dir", "interrupted")}


def _print(console: Console, options: Train, folder: Path, market: TrainingMarket, contest: Contest) -> None:
    print_rows(console, contest.rows, "after training")
    if options.seeds:
        console.print(seeds_table(f"{options.agent} by seed", contest.by_seed[options.agent]))
    print_notes(console, seeds=len(options.seeds))
    console.print(f"scenario {market.scenario.name}: {market.scenario.attribution}", highlight=False)
    console.print(f"results in {folder}", highlight=False, soft_wrap=True)
