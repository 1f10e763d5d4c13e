"""Trained policies read back from their folders: `gridmarl evaluate RUN` and `gridmarl compare RUN RUN ...`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from gridmarl.envs import make_batched
from gridmarl.envs.adapters.sb3 import SB3VecEnv
from tests.train.command_line import SMALL_MARKET, TRAIN, files, gridmarl, strict_json

PPO = ("train", "two-stage-dr", *SMALL_MARKET, "--agent", "ppo", "--steps", "240", "--lanes", "4", "--eval-lanes", "2",
       "--eval-every", "96", "--agent-set", "hidden=[8]", "rollout_steps=12")  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`dqn` (one seed), `ppo` (two seeds) and `saved.zip` (by Stable-Baselines3), all for the same market."""
    from stable_baselines3 import PPO as SB3PPO

    folder = tmp_path_factory.mktemp("runs")
    assert gridmarl(*TRAIN, "--run-dir", folder / "dqn").code == 0
    assert gridmarl(*PPO, "--seeds", "0", "1", "--workers", "1", "--run-dir", folder / "ppo").code == 0
    env = SB3VecEnv(make_batched("two-stage-dr", {"horizon_hours": 24, "num_prosumers": 3}, num_envs=2))
    model = SB3PPO("MlpPolicy", env, n_steps=24, batch_size=24, seed=0, policy_kwargs={"net_arch": [8]}, device="cpu")
    model.learn(144)
    model.save(folder / "saved.zip")
    return folder


@pytest.mark.parametrize(("name", "row"), [("dqn", "dqn"), ("ppo", "ppo (2 seeds)")])
def test_an_evaluation_repeats_the_run_s_own_comparison(name: str, row: str, runs: Path, tmp_path: Path) -> None:
    outcome = gridmarl("evaluate", runs / name, "--lanes", "2", "--run-dir", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    found = strict_json(tmp_path / "evaluation.json")
    assert found["rows"] == strict_json(runs / name / "summary.json")["rows"]
    assert [item["name"] for item in found["rows"]] == ["no market", "truthful", row, "aggregator"]
    assert re.search(rf"^ {re.escape(row)} ", outcome.out, re.MULTILINE)
    assert "Welfare beyond truthful bidding" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100


def test_an_evaluation_lies_in_the_run_folder_unless_told_otherwise(runs: Path) -> None:
    assert gridmarl("evaluate", runs / "dqn", "--lanes", "1").code == 0
    assert strict_json(runs / "dqn" / "evaluation.json")["checkpoint"] == "last"
    (runs / "dqn" / "evaluation.json").unlink()


def test_an_evaluation_measures_exploitability_when_asked_to(runs: Path, tmp_path: Path) -> None:
    outcome = gridmarl(
        "evaluate", runs / "ppo", "--lanes", "2", "--exploitability", "search", "--run-dir", tmp_path
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    assert "Exploitability, held-out episodes" in outcome.out
    found = strict_json(tmp_path / "evaluation.json")["exploitability"]
    assert list(found) == ["truthful", "ppo"]
    assert all(len(result["prosumers"]) == 3 for result in found.values())


def test_best_is_the_policy_of_the_best_evaluation(runs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(runs / "dqn", copy)
    shutil.copyfile(copy / "best.pt", copy / "checkpoint.pt")  # the last policy is the best one now
    for folder, kept in ((copy, "last"), (runs / "dqn", "best")):
        assert gridmarl("evaluate", folder, "--checkpoint", kept, "--lanes", "2", "--run-dir", tmp_path).code == 0
        (tmp_path / "evaluation.json").rename(tmp_path / f"{kept}.json")
    last, best = (strict_json(tmp_path / f"{kept}.json")["rows"][2] for kept in ("last", "best"))
    assert {**last, "name": "dqn"} == {**best, "name": "dqn"}


def test_another_market_and_other_days(runs: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", runs / "ppo", "--lanes", "1", "--run-dir", tmp_path)
    assert gridmarl(*arguments, "--days", "2", "--set", "alpha_permille=1500").code == 0
    found = strict_json(tmp_path / "evaluation.json")
    assert (found["params"]["horizon_hours"], found["params"]["alpha_permille"]) == (48, 1500)
    assert len(found["hourly"]["truthful"]["price_tok_per_kwh"]) == 48
    other = gridmarl(*arguments, "--eval-seed", "5")
    assert other.code == 0
    assert strict_json(tmp_path / "evaluation.json")["params"]["horizon_hours"] == 24


def test_runs_and_a_saved_policy_side_by_side(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "compare"
    paths = (runs / "dqn", runs / "ppo", runs / "saved.zip")
    outcome = gridmarl("compare", *paths, "--lanes", "2", "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    summary = strict_json(folder / "summary.json")
    assert [row["name"] for row in summary["rows"]] == [
        "no market", "zero-intelligence", "truthful", "inflate", "dqn", "ppo (2 seeds)", "saved", "aggregator",
    ]  # fmt: skip
    own = strict_json(runs / "dqn" / "summary.json")["rows"]
    assert [row for row in summary["rows"] if row["name"] in ("truthful", "dqn")] == own[1:3]
    assert set(summary["rows_by_seed"]["ppo"]) == {"0", "1"}
    assert files(folder) == {
        "config.json", "metrics.csv", "summary.json", "figures/gains.png", "figures/learning.png",
        "figures/load-two_settlement.png", "figures/price-two_settlement.png",
    }  # fmt: skip
    assert strict_json(folder / "config.json")["policies"] == [str(path) for path in paths]
    same = gridmarl("compare", "two-stage-dr", *paths, "--lanes", "2", "--run-dir", tmp_path / "again")
    assert same.out.replace(str(tmp_path / "again"), str(folder)) == outcome.out


def test_a_saved_policy_acts_as_sb3_says(runs: Path, tmp_path: Path) -> None:
    market = ("--days", "1", "--set", "num_prosumers=3")
    outcome = gridmarl("evaluate", runs / "saved.zip", *market, "--lanes", "2")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r"^ saved ", outcome.out, re.MULTILINE)
    wrong = gridmarl("evaluate", runs / "saved.zip", "--set", "single_price=true", "--lanes", "2")
    assert wrong.code == 2
    assert "saved.zip" in wrong.err


def broken(runs: Path, tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    shutil.copytree(runs / "dqn", folder)
    if name == "unfinished":
        (folder / "checkpoint.pt").unlink()
    elif name == "without-config":
        (folder / "config.json").unlink()
    elif name == "not-json":
        (folder / "config.json").write_text("{")
    elif name == "of-a-comparison":
        (folder / "config.json").write_text(json.dumps({"command": "compare"}))
    elif name == "unknown-field":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "nonsense": 1}))
    elif name == "damaged":
        (folder / "checkpoint.pt").write_bytes(b"nonsense")
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unfinished", "checkpoint.pt: there is no such checkpoint (the run has not got that far)"),
        ("without-config", "holds no config.json; allowed is the folder of a run of `gridmarl train`"),
        ("not-json", "config.json: cannot be read as JSON"),
        ("of-a-comparison", "config.json: command 'compare'; allowed is the folder of a run of `gridmarl train`"),
        ("unknown-field", "config.json: train: unknown option 'nonsense'"),
        ("damaged", "checkpoint.pt: not a readable checkpoint"),
    ],
)
def test_folders_that_are_no_runs(name: str, message: str, runs: Path, tmp_path: Path) -> None:
    outcome = gridmarl("evaluate", broken(runs, tmp_path, name), "--lanes", "1")
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "nowhere"), "nowhere: no such folder; allowed is that of a run of `gridmarl train`"),
        (("evaluate", "{dqn}", "--lanes", "0"), "lanes: 0, allowed are 1"),
        (("evaluate", "{dqn}", "--set", "num_prosumers=4"), "num_prosumers: 4; allowed is 3"),
        (("evaluate", "{dqn}", "--set", "nonsense=4"), "nonsense"),
        (("evaluate", "{dqn}", "--scenario", "default", "--prices", "x"), "--scenario default with --prices"),
        (("compare", "nowhere"), "'nowhere': neither an environment nor a run; allowed are ev-quota, two-stage-dr,"),
        (("compare", "{dqn}", "{dqn}"), "one of them twice; allowed is each only once"),
    ],
)
def test_bad_arguments(arguments: tuple[str, ...], message: str, runs: Path) -> None:
    outcome = gridmarl(*(argument.format(dqn=runs / "dqn") for argument in arguments))
    assert outcome.code == 2
    assert message in outcome.err


def test_runs_of_different_markets_are_told_apart(runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert gridmarl(*TRAIN, "--set", "num_prosumers=3", "alpha_permille=1500", "--run-dir", other).code == 0
    outcome = gridmarl("compare", runs / "dqn", other, "--lanes", "1", "--run-dir", tmp_path / "compare")
    assert outcome.code == 2
    assert "were trained for different markets (alpha_permille=1200 against 1500)" in outcome.err
    assert not (tmp_path / "compare").exists()


def test_two_folders_of_one_name_have_two_rows(runs: Path, tmp_path: Path) -> None:
    twin = tmp_path / "dqn"
    shutil.copytree(runs / "dqn", twin)
    outcome = gridmarl("compare", runs / "dqn", twin, "--lanes", "1", "--run-dir", tmp_path / "compare")
    assert outcome.code == 0
    rows = strict_json(tmp_path / "compare" / "summary.json")["rows"]
    one, two = (next(row for row in rows if row["name"] == name) for name in ("dqn", "dqn 2"))
    assert {**one, "name": ""} == {**two, "name": ""}
