"""Grids, draws and options of `gridmarl sweep`: what they make, what they refuse, and how trials are ranked."""

from __future__ import annotations

import importlib.util
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from gridmarl.cli import _parse
from gridmarl.errors import ConfigError
from gridmarl.train.markets import market_entry
from gridmarl.train.options import parse_settings
from gridmarl.train.sweep.options import Sweep
from gridmarl.train.sweep.plan import Configuration, Trial, command_of, configurations, settings_of, train_options
from gridmarl.train.sweep.plan import trials_of as trials_of_sweep
from gridmarl.train.sweep.results import Outcome, best_of, measures_of, outcome, ranked, summary, write_csv
from gridmarl.train.sweep.space import parse_draws, parse_grid
from gridmarl.train.train_options import Train
from tests.packaging.processes import succeed
from tests.train.command_line import gridmarl

NO_DRAW: list[tuple[dict[str, Any], dict[str, Any]]] = [({}, {})]


def test_grid_values_are_read_as_settings_are() -> None:
    grid = parse_grid(
        ["learning_rate=0.0003,0.001", "hidden=[64,64],[128, 128]", "policy=shared,independent", "a=true"]
    )
    assert grid == {
        "learning_rate": (0.0003, 0.001),
        "hidden": ([64, 64], [128, 128]),
        "policy": ("shared", "independent"),
        "a": (True,),
    }
    assert parse_grid(['name="a,b",c']) == {"name": ("a,b", "c")}


@pytest.mark.parametrize("item", ["learning_rate", "=1,2", "learning_rate=", "a=1,,2", "a=1,1", "a=[8],[8]", "a=1,"])
def test_bad_grids_are_named(item: str) -> None:
    with pytest.raises(ConfigError, match="allowed is NAME=VALUE,VALUE") as caught:
        parse_grid([item])
    assert item in str(caught.value)


def test_a_grid_gives_each_name_once() -> None:
    with pytest.raises(ConfigError, match="'a=3': a is given twice"):
        parse_grid(["a=1", "a=3"])


def test_draws_are_read_without_running_anything() -> None:
    draws = parse_draws(["learning_rate=loguniform(1e-4, 1e-2)", "hidden=choice([[64, 64], [8]])"])
    assert draws["learning_rate"].distribution == "loguniform"
    assert draws["learning_rate"].arguments == (1e-4, 1e-2)
    assert draws["hidden"].arguments == ([[64, 64], [8]],)


@pytest.mark.parametrize(
    "item",
    ["a=uniform", "a=uniform()", "a=normal(0,1)", "a=uniform(low=0,high=1)", "a=uniform(0,", "a=tune.uniform(0,1)",
     "a=uniform(len('x'),2)", "a=1", "uniform(0,1)"],
)  # fmt: skip
def test_bad_draws_are_named(item: str) -> None:
    with pytest.raises(ConfigError, match="allowed is NAME=DISTRIBUTION") as caught:
        parse_draws([item])
    assert item in str(caught.value)


def test_every_draw_meets_every_combination_and_every_seed() -> None:
    sweep = Sweep(grid=("x=1,2",), grid_set=("alpha_permille=1000,1200,1400",), seeds=(5, 3))
    found = configurations(sweep, [({"y": 0.5}, {}), ({"y": 0.7}, {})])
    assert [item.index for item in found] == list(range(12))
    assert len({(item.agent["x"], item.agent["y"], item.market["alpha_permille"]) for item in found}) == 12
    trials = trials_of_sweep(sweep, found)
    assert [trial.seed for trial in trials] == [5] * 12 + [3] * 12
    assert trials[13].folder(Path("sweep")) == Path("sweep/config-001/seed-3")


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-7, [64, 64], "shared", "1", "true", None, True, {"a": [1]}, "a b,c"])
def test_settings_come_back_as_they_were(value: Any) -> None:
    back = parse_settings(settings_of({"name": value}))["name"]
    assert (type(back), back) == (type(value), value)


def test_the_command_of_a_configuration_is_its_options() -> None:
    sweep = Sweep(
        agent="ppo", steps=500, lanes=4, days=1, set=("num_prosumers=3",), agent_set=("epochs=2",), seeds=(4, 1),
        scenario_name="toy", grid=("hidden=[8],[8,8]",), grid_set=("alpha_permille=1000,1200",), workers=2,
        run_dir=Path("somewhere"), progress="on",
    )  # fmt: skip
    options = train_options(sweep, configurations(sweep, NO_DRAW)[3])
    words = shlex.split(command_of(options))
    assert words[:2] == ["gridmarl", "train"]
    parsed = _parse(words[1:])
    assert parsed == Train(**{**vars(options), "progress": "auto"})
    assert parsed.agent_set == ("epochs=2", "hidden=[8,8]")
    assert parsed.set == ("num_prosumers=3", "alpha_permille=1200")
    assert parsed.eval_every == 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--grid", "learning_rate"), "'learning_rate': allowed is NAME=VALUE,VALUE,..."),
        (("--sample", "learning_rate=gauss(1,2)"), "sample 'learning_rate=gauss(1,2)': allowed is NAME=DISTRIBUTION"),
        (("--grid", "epochs=1,2", "--agent-set", "epochs=2"), "agent option 'epochs': fixed, in a grid or drawn"),
        (("--grid-set", "days=1", "--sample-set", "days=randint(1,3)"), "market parameter 'days': fixed, in a grid"),
        (("--trials", "3"), "trials: 3 without --sample or --sample-set; allowed is 1"),
        (("--trials", "0"), "trials: 0, allowed are 1 .. 10000"),
        (("--eval-every", "600", "--steps", "500"), "eval_every: 600, allowed are 0 .. 500"),
        (("--seeds", "1", "1"), "seeds: 1 1; allowed is each only once"),
        (("--resume",), "--resume without --run-dir"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    options: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = gridmarl("sweep", "two-stage-dr", *options)
    assert told.code == 2
    assert message in told.err
    assert not list(tmp_path.iterdir())


def test_folders_of_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("env_steps\n", encoding="utf-8")
    told = gridmarl("sweep", "--run-dir", tmp_path)
    assert (told.code, "holds something else; allowed is an empty or a new folder" in told.err) == (2, True)


def test_without_ray_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else there(name, *rest))
    told = gridmarl("sweep", "--run-dir", tmp_path / "run")
    assert told.code == 2
    assert told.err == "gridmarl: error: gridmarl sweep needs Ray Tune: pip install 'gridmarl[ray]'\n"
    assert not (tmp_path / "run").exists()


def test_other_commands_start_without_ray(repository: Path, tmp_path: Path) -> None:
    code = "import sys, gridmarl.train.commands; print('ray' in sys.modules, 'gridmarl' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    shown = succeed([sys.executable, "-c", code], tmp_path, env=environment)
    assert shown.split() == ["False", "True"]


# --- results


def ended(index: int, seed: int, share: float | None, status: str = "finished") -> Outcome:
    trial = Trial(Configuration(index, {"x": index}, {}), seed)
    return Outcome(trial, status, 100, {} if share is None else {"eval_gains_share": share})  # type: ignore[arg-type]


def test_means_and_intervals_are_over_finished_seeds() -> None:
    (standing,) = ranked([ended(0, 1, 0.2), ended(0, 2, 0.6), ended(0, 3, 0.9, "stopped")], "eval_gains_share")
    mean, half = standing.over_seeds("eval_gains_share")
    assert mean == pytest.approx(0.4, rel=1e-12)
    # two values: Student's t with one degree of freedom is 12.7062, the deviation |a - b| / sqrt(2), over sqrt(2)
    assert half == pytest.approx(12.7062047 * 0.4 / 2, rel=1e-6)
    assert summary(standing, ("eval_gains_share",))["finished"] == 2
    (alone,) = ranked([ended(0, 1, 0.2)], "eval_gains_share")
    assert alone.over_seeds("eval_gains_share") == (0.2, None)


def test_more_finished_seeds_come_first_then_the_larger_mean_then_what_has_none() -> None:
    lucky = [ended(0, 1, 0.9), ended(0, 2, 0.1, "stopped")]
    whole = [ended(1, 1, 0.3), ended(1, 2, 0.4)]
    better = [ended(2, 1, 0.5), ended(2, 2, 0.4)]
    undefined = [ended(3, 1, None), ended(3, 2, None)]
    standings = ranked([*lucky, *whole, *better, *undefined], "eval_gains_share")
    assert [item.configuration.index for item in standings] == [2, 1, 3, 0]
    best = best_of(standings, "eval_gains_share")
    assert best is standings[0]
    assert best_of(ranked(undefined, "eval_gains_share"), "eval_gains_share") is None


def test_an_outcome_is_read_from_the_run_folder(tmp_path: Path) -> None:
    trial = Trial(Configuration(0, {"hidden": [8, 8]}, {"alpha_permille": 1200}), 7)
    assert outcome(trial, tmp_path, 100, failed=False) == Outcome(trial, "stopped", 0, {})
    folder = trial.folder(tmp_path)
    folder.mkdir(parents=True)
    rows = "env_steps,return,eval_return,eval_gains_share\n40,1.5,2.5,0.5\n80,,3.5,\n100,2.0,,\n"
    (folder / "metrics.csv").write_text(rows, encoding="utf-8")
    found = outcome(trial, tmp_path, 100, failed=False)
    assert found == Outcome(trial, "finished", 100, {"eval_return": 3.5, "return": 2.0})
    assert outcome(trial, tmp_path, 101, failed=False).status == "stopped"
    assert outcome(trial, tmp_path, 100, failed=True).status == "failed"
    write_csv(tmp_path / "sweep.csv", [found], measures_of(market_entry("two-stage-dr")))
    head, line = (tmp_path / "sweep.csv").read_text(encoding="utf-8").splitlines()
    assert head.startswith("configuration,seed,status,env_steps,hidden,set.alpha_permille,eval_gains_share,eval_return")
    assert line.startswith('config-000,7,finished,100,"[8, 8]",1200,,3.5,')
    assert math.isnan(ranked([found], "eval_gains_share")[0].over_seeds("eval_gains_share")[0])
