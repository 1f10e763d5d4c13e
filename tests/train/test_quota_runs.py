"""Runs of `gridmarl train ev-quota` in `evaluate`, `compare RUN RUN` and `sweep`."""

from __future__ import annotations

import csv
import importlib.util
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gridmarl.agents.registry import supports
from gridmarl.envs.registry import environment
from gridmarl.errors import ConfigError
from gridmarl.train import markets
from gridmarl.train.checkpoint import load_checkpoint, tree_hash
from gridmarl.train.markets import market_entry
from gridmarl.train.options import MarketOptions
from gridmarl.train.sweep.options import Sweep
from gridmarl.train.sweep.plan import Configuration, Trial, train_options
from gridmarl.train.sweep.trial import TrialJob, run_trial, trials_in
from tests.train.command_line import files, gridmarl, strict_json
from tests.train.test_evaluate import TRAIN

MARKET = ("--set", "num_stations=3", "transformer_capacity_w=30000")
LENGTH = ("--steps", "192", "--lanes", "4", "--eval-lanes", "2", "--eval-every", "96")
DQN = ("train", "ev-quota", *MARKET, *LENGTH, "--agent", "dqn", "--agent-set", "learning_starts=32", "batch_size=16",
       "hidden=[8]")  # fmt: skip
PPO = ("train", "ev-quota", *MARKET, *LENGTH, "--agent", "ppo", "--agent-set", "rollout_steps=12", "hidden=[8]")
HEURISTICS = ["uncoordinated", "no trade", "truthful", "patient", "all over-declare"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`dqn` (one seed) and `ppo` (two), for the same stations; `market`, a run of the other environment."""
    folder = tmp_path_factory.mktemp("runs")
    assert gridmarl(*DQN, "--run-dir", folder / "dqn").code == 0
    assert gridmarl(*PPO, "--seeds", "0", "1", "--run-dir", folder / "ppo").code == 0
    assert gridmarl(*TRAIN, "--steps", "96", "--eval-every", "0", "--run-dir", folder / "market").code == 0
    return folder


def row_of(folder: Path, name: str) -> Any:
    return next(row for row in strict_json(folder)["rows"] if row["name"] == name)


def test_an_evaluation_repeats_the_run_s_own_comparison(runs: Path, tmp_path: Path) -> None:
    outcome = gridmarl("evaluate", runs / "dqn", "--run-dir", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    found = strict_json(tmp_path / "evaluation.json")
    assert [row["name"] for row in found["rows"]] == [*HEURISTICS, "dqn", "coordinator"]
    for row in strict_json(runs / "dqn" / "summary.json")["rows"]:
        assert row_of(tmp_path / "evaluation.json", row["name"]) == row
    assert found["options"]["env"] == "ev-quota"
    assert max(map(len, outcome.out.splitlines()[:-1])) <= 100


def test_several_seeds_are_a_mean_with_their_rows_below(runs: Path, tmp_path: Path) -> None:
    outcome = gridmarl("evaluate", runs / "ppo", "--run-dir", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    mean = row_of(tmp_path / "evaluation.json", "ppo (2 seeds)")
    seeds = strict_json(tmp_path / "evaluation.json")["rows_by_seed"]["ppo"]
    own = [row_of(runs / "ppo" / "summary.json", f"ppo, seed {seed}") for seed in (0, 1)]
    assert [seeds["0"], seeds["1"]] == own
    for name in ("welfare_tok", "delivered_kwh", "gains_share", "fee_per_station_tok"):
        assert mean[name] == pytest.approx((own[0][name] + own[1][name]) / 2)
    apart = abs(own[0]["gains_share"] - own[1]["gains_share"])
    assert mean["gains_share_interval"] == pytest.approx(12.7062047 * apart / 2, rel=1e-6)
    assert [line.split("  ")[0].strip() for line in outcome.out.splitlines() if "ppo" in line][:3] == [
        "ppo (2 seeds)", "ppo, seed 0", "ppo, seed 1",
    ]  # fmt: skip


def test_other_rules_other_days_and_the_best_checkpoint(runs: Path, tmp_path: Path) -> None:
    changed = ("--set", "transformer_capacity_w=20000", "--lanes", "1", "--eval-seed", "5", "--checkpoint", "best")
    assert gridmarl("evaluate", runs / "dqn", *changed, "--run-dir", tmp_path).code == 0
    found = strict_json(tmp_path / "evaluation.json")
    assert found["params"]["transformer_capacity_w"] == 20_000
    assert found["checkpoint"] == "best"
    before = row_of(runs / "dqn" / "summary.json", "truthful")
    assert row_of(tmp_path / "evaluation.json", "truthful")["delivered_kwh"] != before["delivered_kwh"]


def test_a_comparison_of_runs(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    outcome = gridmarl("compare", runs / "dqn", runs / "ppo", "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert files(folder) == {"config.json", "metrics.csv", "summary.json", "figures/load.png", "figures/learning.png"}
    summary, config = strict_json(folder / "summary.json"), strict_json(folder / "config.json")
    assert [row["name"] for row in summary["rows"]] == [*HEURISTICS, "dqn", "ppo (2 seeds)", "coordinator"]
    assert row_of(folder / "summary.json", "dqn") == row_of(runs / "dqn" / "summary.json", "dqn")
    assert config["options"]["env"] == "ev-quota"
    assert config["params"]["num_stations"] == 3
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert names == [*HEURISTICS, "dqn", "ppo (2 seeds)", "ppo, seed 0", "ppo, seed 1", "coordinator"]
    best = summary["welfare_by_day_tok"]["coordinator"]
    for name in ("no trade", "truthful", "dqn", "ppo"):
        assert sum(summary["load_kwh"][name]) == pytest.approx(
            next(row["delivered_kwh"] for row in summary["rows"] if row["name"].startswith(name))
        )
        assert all(own <= most + 1e-6 for own, most in zip(summary["welfare_by_day_tok"][name], best, strict=True))
        assert all(
            load <= margin + 1e-9 for load, margin in zip(summary["load_kwh"][name], summary["margin_kwh"], strict=True)
        )


def test_policies_of_stable_baselines3(runs: Path, tmp_path: Path) -> None:
    from stable_baselines3 import PPO as SB3PPO

    from gridmarl.envs import make_batched
    from gridmarl.envs.adapters.sb3 import SB3VecEnv

    env = SB3VecEnv(make_batched("ev-quota", {"num_stations": 3, "transformer_capacity_w": 30_000}, num_envs=2))
    model = SB3PPO("MlpPolicy", env, n_steps=24, batch_size=24, seed=0, policy_kwargs={"net_arch": [8]}, device="cpu")
    model.save(tmp_path / "saved.zip")
    outcome = gridmarl("compare", runs / "dqn", tmp_path / "saved.zip", "--lanes", "1", "--run-dir", tmp_path / "both")
    assert (outcome.code, outcome.err) == (0, "")
    alone = ("compare", "ev-quota", tmp_path / "saved.zip", *MARKET, "--lanes", "1", "--run-dir", tmp_path / "alone")
    assert gridmarl(*alone).code == 0
    both, own = (row_of(tmp_path / name / "summary.json", "saved") for name in ("both", "alone"))
    assert both == own


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("compare", "{runs}/dqn", "{runs}/market"), "dqn is a run of ev-quota, "),
        (("compare", "{runs}/market", "{runs}/dqn"), "market is a run of two-stage-dr, "),
        (("compare", "two-stage-dr", "{runs}/dqn"), "env: 'two-stage-dr', but the runs are of ev-quota"),
        (("compare", "ev-quota", "{runs}/market"), "env: 'ev-quota', but the runs are of two-stage-dr"),
        (("compare", "{runs}/dqn", "--exploitability", "both"), "exploitability: 'both' with runs of ev-quota"),
        (("compare", "{runs}/dqn", "{runs}/dqn"), "one of them twice"),
        (("evaluate", "{runs}/dqn", "--exploitability", "search"), "exploitability: 'search' with ev-quota"),
        (("evaluate", "{runs}/dqn", "--days", "2"), "--days with ev-quota"),
        (("evaluate", "{runs}/dqn", "--set", "num_stations=4"), "num_stations: 4; allowed is 3"),
        (("evaluate", "{runs}/dqn", "--set", "num_prosumers=4"), "num_prosumers: unknown key"),
        (("evaluate", "{runs}/dqn", "--lanes", "0"), "lanes: 0"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], told: str, runs: Path, tmp_path: Path) -> None:
    run_dir = ("--run-dir", tmp_path / "out")
    outcome = gridmarl(*(argument.format(runs=runs) for argument in arguments), *run_dir)
    assert outcome.code == 2
    assert told in outcome.err
    assert not (tmp_path / "out").exists()


def test_runs_of_different_stations_are_told_apart(runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert gridmarl(*DQN, "--set", "num_stations=3", "transformer_capacity_w=20000", "--run-dir", other).code == 0
    outcome = gridmarl("compare", runs / "dqn", other, "--run-dir", tmp_path / "both")
    assert outcome.code == 2
    assert "different markets (transformer_capacity_w=30000 against 20000)" in outcome.err


def test_every_environment_of_ours_has_an_entry_and_every_command_of_it_is_there() -> None:
    for name in ("two-stage-dr", "ev-quota"):
        entry = market_entry(name)
        assert entry.env == name
        for command in (
            "parameters",
            "changes",
            "scenario",
            "train",
            "compare",
            "evaluate",
            "compare_policies",
            "report",
        ):
            assert callable(entry.load(command))
        assert callable(entry.load("play"))
        params = entry.load("parameters")(MarketOptions(env=name))
        assert {entry.count, entry.horizon, *entry.own} <= set(params.to_dict())
        assert supports(entry.truthful, name)
    with pytest.raises(ConfigError, match="environment 'nowhere': unknown"):
        market_entry("nowhere")


def test_an_environment_without_commands_is_refused_and_a_plug_in_is_played_as_the_two_stage_market(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = replace(environment("two-stage-dr"), name="other")
    monkeypatch.setattr(markets, "environment", lambda _: known)
    assert market_entry("other").env == "two-stage-dr"
    monkeypatch.setattr(markets, "environment", lambda _: replace(known, commands=False))
    with pytest.raises(ConfigError, match="env: 'other' is not for this command; allowed here: ev-quota, two-stage-dr"):
        market_entry("other")


def test_a_trial_of_a_sweep_is_the_run_that_train_makes(runs: Path, tmp_path: Path) -> None:
    """Bit for bit, evaluations included, with what goes to another process by pickle."""
    sweep = Sweep(
        env="ev-quota", agent="dqn", set=MARKET[1:], steps=192, lanes=4, eval_lanes=2, eval_every=96,
        agent_set=("learning_starts=32", "batch_size=16"), grid=("hidden=[8]",),
    )  # fmt: skip
    configuration = Configuration(0, {"hidden": [8]}, {})
    options = train_options(sweep, configuration)
    held_out = pickle.loads(pickle.dumps(trials_in("ev-quota").held_out(options)))
    folder = tmp_path / "trial"
    job = TrialJob(Trial(configuration, 0), options, folder, Path.cwd(), "eval_gains_share", held_out)
    told: list[dict[str, Any]] = []
    run_trial(job, told.append)
    assert [item["env_steps"] for item in told] == [96, 192]
    ours, theirs = (load_checkpoint(place / "checkpoint.pt")["agent"] for place in (folder, runs / "dqn"))
    assert tree_hash(ours) == tree_hash(theirs)
    with (runs / "dqn" / "metrics.csv").open(encoding="utf-8") as file:
        shares = [float(row["eval_gains_share"]) for row in csv.DictReader(file) if row["eval_gains_share"]]
    assert [item["eval_gains_share"] for item in told] == shares


def test_a_sweep_refuses_what_training_refuses(tmp_path: Path) -> None:
    trials = trials_in("ev-quota")
    options = train_options(Sweep(env="ev-quota", agent="dqn", steps=96, lanes=4), Configuration(0, {}, {}))
    for changes, told in (
        ({"agent": "truthful"}, "plays another environment"),
        ({"ledger": "batch"}, "ledger"),
        ({"set": ("stations=3",)}, "stations"),
    ):
        with pytest.raises(ConfigError, match=told):
            trials.prepare(replace(options, **changes), 0, None)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs pip install 'gridmarl[ray]'")
def test_a_sweep(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    grid = ("--grid", "learning_rate=0.0003,0.003", "--grid-set", "penalty_rate_utok_per_wh=500000,1000000")
    outcome = gridmarl("sweep", *PPO[1:], *grid, "--workers", "1", "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 4
    assert {row["set.penalty_rate_utok_per_wh"] for row in rows} == {"500000", "1000000"}
    assert all(float(row["eval_unserved_kwh"]) >= 0 for row in rows)
    assert "station, token" in outcome.out
    assert gridmarl("evaluate", folder / "config-000", "--lanes", "1", "--run-dir", tmp_path).code == 0
