"""The commands end to end, in tiny form: run folders, repetition, resumption, ledgers, every variant of the market."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from gridmarl.ledger.bao_verify import header_hash, verify_transaction
from gridmarl.ledger.reader import LedgerReader
from gridmarl.train.checkpoint import load_checkpoint
from tests.train.command_line import COMPARE, SMALL_LEARNER, TIMING, TRAIN, files, gridmarl, same_keys, strict_json

READINGS = ("two_settlement", "additive")
COMPARE_FILES = {
    "config.json",
    "metrics.csv",
    "summary.json",
    "keys.json",
    "ledger.bin",
    "ledger-additive.bin",
    "figures/gains.png",
    *(f"figures/{figure}-{reading}.png" for figure in ("price", "load") for reading in READINGS),
    *(f"checkpoint-{reading}.pt" for reading in READINGS),
    *(f"deep-q-{reading}/{name}" for reading in READINGS for name in ("config.json", "metrics.csv", "checkpoint.pt")),
}
TRAIN_FILES = {
    "config.json",
    "metrics.csv",
    "summary.json",
    "keys.json",
    "ledger.bin",
    "checkpoint.pt",
    "best.pt",
    "figures/learning.png",
}
ROWS = ["no market", "zero-intelligence", "truthful", "inflate", "deep Q", "aggregator"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("compare") / "run"
    outcome = gridmarl(*COMPARE, *SMALL_LEARNER, "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    return folder, outcome.out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("train") / "run"
    outcome = gridmarl(*TRAIN, "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    return folder, outcome.out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_compare_leaves_a_whole_run_folder(compared: tuple[Path, str]) -> None:
    folder, out = compared
    assert files(folder) == COMPARE_FILES
    assert all(path.stat().st_size > 0 for path in folder.rglob("*") if path.is_file())
    for name in ROWS:
        # three tables a reading; the differences to truthful bidding; exploitability of two rows, two tables
        times = {"truthful": 5, "deep Q": 6}.get(name, 4)
        assert len(re.findall(rf"^ {name} ", out, re.MULTILINE)) == times * 2, name
    assert "results in " in out
    assert "…" not in out
    assert max(map(len, out.splitlines()[:-1])) <= 100


def test_metrics_are_the_summary_s_numbers(compared: tuple[Path, str]) -> None:
    folder, _ = compared
    summary = strict_json(folder / "summary.json")
    assert summary["interrupted"] is False
    assert list(summary["rows"]) == list(READINGS)
    lines = table(folder / "metrics.csv")
    assert [(line["dr_settlement"], line["name"]) for line in lines] == [
        (one, name) for one in READINGS for name in ROWS
    ]
    for line in lines:
        row = next(row for row in summary["rows"][line["dr_settlement"]] if row["name"] == line["name"])
        flows = {f"operator_{name}_tok": value for name, value in row.pop("operator_flows_tok").items()}
        by_lane = row.pop("welfare_by_lane_tok")
        assert len(by_lane) == 2
        assert row["welfare_tok"] == pytest.approx(sum(by_lane) / 2, rel=1e-12)
        assert {*row, *flows} <= {*line}
        for name, value in {**row, **flows}.items():
            assert line[name] == ("" if value is None else str(value)), name
        assert flows or line["operator_penalty_tok"] == ""


def test_hourly_series_are_in_the_summary(compared: tuple[Path, str]) -> None:
    hourly = strict_json(compared[0] / "summary.json")["hourly"]
    assert list(hourly["additive"]) == [*ROWS[1:]]
    for series in hourly["additive"].values():
        assert [len(values) for values in series.values()] == [24, 24, 24]


def test_exploitability_is_in_the_summary(compared: tuple[Path, str], tmp_path: Path) -> None:
    found = strict_json(compared[0] / "summary.json")["exploitability"]
    assert list(found) == list(READINGS)
    assert all(list(rows) == ["truthful", "deep Q"] for rows in found.values())
    for rows in found.values():
        for result in rows.values():
            assert set(result["totals"]) == {"stationary", "clairvoyant"}
            assert result["totals"]["clairvoyant"]["nash_conv_tok"] >= 0.0
            assert len(result["prosumers"]) == 3
    off = gridmarl(*COMPARE, *SMALL_LEARNER, "--exploitability", "off", "--run-dir", tmp_path / "off")
    assert off.code == 0
    assert "Exploitability" not in off.out
    assert strict_json(tmp_path / "off" / "summary.json")["exploitability"] == {one: {} for one in READINGS}


def test_config_says_how_to_repeat_the_run(compared: tuple[Path, str], trained: tuple[Path, str]) -> None:
    config = strict_json(compared[0] / "config.json")
    assert config["command"] == "compare"
    assert config["options"]["seed"] == 0
    assert config["options"]["train_steps"] == 48
    assert config["options"]["set"] == ["num_prosumers=3"]
    assert config["params"]["num_prosumers"] == 3
    assert config["params"]["horizon_hours"] == 24
    run = strict_json(trained[0] / "config.json")
    assert run["command"] == "train"
    assert (run["seed"], run["total_steps"], run["num_envs"]) == (0, 240, 4)
    assert run["options"]["eval_lanes"] == 2
    assert run["env_options"]["num_prosumers"] == 3
    assert run["agent_options"]["hidden"] == [8]
    for one in (config, run):
        assert one["gridmarl_version"]
        assert {*one["versions"]} == {"python", "torch", "numpy"}
        assert len(one["scenario"]["fingerprint"]) == 64
    assert config["scenario"]["fingerprint"] == run["scenario"]["fingerprint"]


def test_the_same_command_gives_the_same_bytes(compared: tuple[Path, str], tmp_path: Path) -> None:
    """Also in a folder that holds an earlier comparison, of which nothing remains."""
    folder = tmp_path / "run"
    same_keys(compared[0], folder)
    assert gridmarl(*COMPARE, "--seed", "5", "--dr-settlement", "additive", "--run-dir", folder).code == 0
    assert "ledger.bin" in files(folder)
    before = (folder / "metrics.csv").read_bytes()
    assert gridmarl(*COMPARE, *SMALL_LEARNER, "--run-dir", folder).code == 0
    assert files(folder) == COMPARE_FILES
    assert (folder / "metrics.csv").read_bytes() != before
    for name in ("metrics.csv", "ledger.bin", "ledger-additive.bin"):
        assert (folder / name).read_bytes() == (compared[0] / name).read_bytes(), name
    one, other = (strict_json(path / "config.json") for path in (folder, compared[0]))
    one["options"]["run_dir"] = other["options"]["run_dir"]
    assert one == other


def test_ledger_of_either_command_verifies(compared: tuple[Path, str], trained: tuple[Path, str]) -> None:
    for path in (compared[0], compared[0] / "ledger-additive.bin", trained[0], trained[0] / "ledger.bin"):
        outcome = gridmarl("ledger", "verify", path)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.splitlines()[-1] == "residual 0 utok"
        assert ": 24 blocks, " in outcome.out.splitlines()[0]


@pytest.mark.parametrize("section", ["inputs", "transactions"])
def test_a_flipped_bit_is_found_and_named(section: str, compared: tuple[Path, str], tmp_path: Path) -> None:
    content = bytearray((compared[0] / "ledger.bin").read_bytes())
    with LedgerReader.open(compared[0] / "ledger.bin") as reader:
        where = content.index(getattr(reader.block(7), section))
    content[where + 70] ^= 4
    path = tmp_path / "ledger.bin"
    path.write_bytes(content)
    outcome = gridmarl("ledger", "verify", tmp_path)
    assert (outcome.code, outcome.err) == (1, "")
    assert outcome.out.splitlines()[-1].startswith(f"NOT VERIFIED: block 7, {section}, record 1 ")
    assert "residual" not in outcome.out


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "file"),
        (b"not a ledger at all, but long enough to hold all of its parts" * 20, "file"),
        (b"GMLEDGER", "file"),
    ],
    ids=["empty", "garbage", "cut off"],
)
def test_what_is_no_ledger_does_not_verify(content: bytes, named: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.bin"
    path.write_bytes(content)
    outcome = gridmarl("ledger", "verify", path)
    assert (outcome.code, outcome.err) == (1, "")
    assert f"NOT VERIFIED: {named}" in outcome.out.splitlines()[-1]
    refused = gridmarl("ledger", "prove", path, "--block", 0, "--tx", 0)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)


def test_a_ledger_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    for path in (tmp_path / "no-such.bin", tmp_path):  # a folder without a ledger
        for arguments in (["verify", path], ["prove", path, "--block", "0", "--tx", "0"]):
            outcome = gridmarl("ledger", *arguments)
            assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
            assert str(path) in outcome.err


def test_a_proof_from_the_command_line_holds_against_the_header(compared: tuple[Path, str]) -> None:
    outcome = gridmarl("ledger", "prove", compared[0], "--block", 3, "--tx", 5)
    assert (outcome.code, outcome.err) == (0, "")
    proof = json.loads(outcome.out)
    with LedgerReader.open(compared[0] / "ledger.bin") as reader:
        block = reader.block(3)
    record = verify_transaction(
        header_hash(block.header), bytes.fromhex(proof["header"]), 5, bytes.fromhex(proof["path"])
    )
    assert record == block.transactions[5 * 64 : 6 * 64]
    for arguments in (("--block", 24, "--tx", 0), ("--block", 0, "--tx", 999), ("--block", -1, "--tx", 0)):
        refused = gridmarl("ledger", "prove", compared[0], *arguments)
        assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)


def test_train_leaves_a_whole_run_folder(trained: tuple[Path, str]) -> None:
    folder, out = trained
    assert files(folder) == TRAIN_FILES
    assert any((folder / "tensorboard").iterdir())
    for name in ("no market", "truthful", "dqn", "aggregator"):
        assert len(re.findall(rf"^ {name} ", out, re.MULTILINE)) == (3 if name == "truthful" else 4), name
    summary = strict_json(folder / "summary.json")
    lines = table(folder / "metrics.csv")
    training = summary["training"]
    assert training["env_steps"] == int(lines[-1]["env_steps"]) == 240
    assert training["episodes"] == int(lines[-1]["episodes"])
    assert training["last_return"] == float([line["return"] for line in lines if line["return"]][-1])
    evaluated = [float(line["eval_return"]) for line in lines if line["eval_return"]]
    assert len(evaluated) == 2
    assert training["best_eval_return"] == max(evaluated)
    levels = summary["levels"]["reward_tok_per_prosumer"]
    assert levels["optimum"] > max(levels["truthful"], levels["no market"], *evaluated)
    assert [row["name"] for row in summary["rows"]] == ["no market", "truthful", "dqn", "aggregator"]


def test_resumed_equals_uninterrupted(trained: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    same_keys(trained[0], folder)
    # exploration falls over half of the run: for a shorter first part it must be said
    rest = ("--run-dir", folder, "--agent-set", *SMALL_LEARNER[1:], "exploration_steps=120")
    assert gridmarl(*TRAIN, *rest, "--steps", "96").code == 0
    assert load_checkpoint(folder / "checkpoint.pt")["env_steps"] == 96
    assert gridmarl(*TRAIN, *rest, "--resume").code == 0
    assert (folder / "ledger.bin").read_bytes() == (trained[0] / "ledger.bin").read_bytes()
    rows, expected = (strict_json(path / "summary.json")["rows"] for path in (folder, trained[0]))
    assert rows == expected
    last, same = (table(path / "metrics.csv")[-1] for path in (folder, trained[0]))
    assert {k: v for k, v in last.items() if k not in TIMING} == {k: v for k, v in same.items() if k not in TIMING}


def test_a_finished_run_is_not_spoilt(trained: tuple[Path, str], compared: tuple[Path, str]) -> None:
    for arguments, named in (
        ((*TRAIN, "--run-dir", trained[0]), "holds a run; allowed is --resume"),
        ((*TRAIN, "--run-dir", trained[0], "--resume", "--seed", "9"), "seed=9 (saved: 0)"),
        ((*TRAIN, "--run-dir", trained[0], "--resume", "--days", "2"), "horizon_hours"),
        ((*TRAIN, "--run-dir", compared[0]), "first column is 'dr_settlement'"),
    ):
        before = {path: path.read_bytes() for path in arguments[arguments.index("--run-dir") + 1].glob("*.*")}
        outcome = gridmarl(*arguments)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert named in outcome.err
        assert before == {path: path.read_bytes() for path in before}


def test_sealed_training_changes_no_number(trained: tuple[Path, str], tmp_path: Path) -> None:
    """Every hour of every lane is sealed: 240 steps in 4 lanes are 60 blocks each; the policy is the same."""
    folder = tmp_path / "run"
    same_keys(trained[0], folder)
    outcome = gridmarl(*TRAIN, "--run-dir", folder, "--ledger", "sealed")
    assert outcome.code == 0
    assert "sealed while training: 60 blocks in each of 4 chains" in outcome.out
    assert (folder / "ledger.bin").read_bytes() == (trained[0] / "ledger.bin").read_bytes()


def test_a_resumed_run_must_have_the_same_prices(tmp_path: Path) -> None:
    path, folder = tmp_path / "PRICE_AND_DEMAND_201302_NSW1.csv", tmp_path / "run"
    hours = [
        f"NSW1,2013/02/0{1 + h // 24} {h % 24:02d}:{m}:00,7000,{40 + h},TRADE" for h in range(48) for m in ("00", "30")
    ]
    rows = [*hours[1:], "NSW1,2013/02/03 00:00:00,7000,88,TRADE"]
    path.write_text("REGION,SETTLEMENTDATE,TOTALDEMAND,RRP,PERIODTYPE\n" + "\n".join(rows) + "\n")
    arguments = (*TRAIN, "--eval-every", "0", "--prices", path, "--run-dir", folder)
    assert gridmarl(*arguments).code == 0
    path.write_text(path.read_text().replace(",41,", ",42,"))
    outcome = gridmarl(*arguments, "--resume")
    assert outcome.code == 2
    assert "settings differ from the checkpoint's: scenario=" in outcome.err


VARIANTS = {
    "learned": ["--set", "stage2=learned"],
    "battery": ["--set", "battery_capacity_wh=5000", "battery_power_w=2500"],
    "learned battery": ["--set", "stage2=learned", "battery_capacity_wh=5000", "battery_power_w=2500"],
    "comfort": ["--set", "stage1=comfort"],
    "comfort learned": ["--set", "stage1=comfort", "stage2=learned"],
    "single price": ["--set", "single_price=true", "price_rule=marginal_pair"],
    "operator": ["--set", "operator=true"],
    "no shifting": ["--set", "shift_share_permille=0"],
    "flat prices": ["--set", "import_form=retail", "export_form=feed_in", "credit_limit_utok=1000000000"],
    "one prosumer": ["--set", "num_prosumers=1"],
    "discrete": ["--set", "action_space=discrete"],
    "independent": ["--agent-set", "policy=independent"],
    "stateless": ["--agent-set", "stateless=true", "discount=0"],
    "one lane": ["--lanes", "1", "--train-lanes", "1", "--train-steps", "30"],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_compare_in_every_variant(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are tested apart: they take longer than all the rest."""
    monkeypatch.setattr("gridmarl.train.compare.comparison_figures", lambda *_: None)
    market = ["num_prosumers=3", "horizon_hours=8"]
    learner = [*SMALL_LEARNER[1:]]
    variant = list(VARIANTS[name])
    for flag, values in (("--set", market), ("--agent-set", learner)):
        if flag in variant:
            added = variant[variant.index(flag) + 1 :]
            taken = {value.partition("=")[0] for value in added}
            values[:] = [value for value in values if value.partition("=")[0] not in taken] + added
            variant = variant[: variant.index(flag)]
    outcome = gridmarl(
        *COMPARE, "--dr-settlement", "additive" if name == "battery" else "two_settlement", *variant,
        "--set", *market, "--agent-set", *learner, "--run-dir", tmp_path / "run",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    verdict = gridmarl("ledger", "verify", tmp_path / "run")
    assert verdict.out.splitlines()[-1] == "residual 0 utok"
    (rows,) = strict_json(tmp_path / "run" / "summary.json")["rows"].values()
    best = rows[-1]["welfare_tok"]
    for row in rows:
        assert row["welfare_tok"] <= best + 1e-3, row["name"]


@pytest.mark.parametrize("base", [COMPARE, TRAIN])
def test_a_credit_limit_that_the_bills_exceed_is_bad_input(base: tuple[str, ...], tmp_path: Path) -> None:
    outcome = gridmarl(*base, "--set", "num_prosumers=3", "credit_limit_utok=0", "--run-dir", tmp_path / "run")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "credit_limit_utok: 0, but in hour 0 truthful takes prosumer " in outcome.err


@pytest.mark.parametrize("agent", ["truthful", "zero_intelligence", "always_cap", "inflate"])
def test_train_takes_agents_that_do_not_learn(agent: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [argument for argument in TRAIN if argument not in SMALL_LEARNER]
    outcome = gridmarl(*arguments, "--agent", agent, "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    rows = {row["name"]: row for row in strict_json(folder / "summary.json")["rows"]}
    assert rows[agent]["welfare_tok"] <= rows["aggregator"]["welfare_tok"]
    assert gridmarl("ledger", "verify", folder).code == 0


def test_default_folder_is_named_after_the_run_and_never_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gridmarl.train.options.time.strftime", lambda _: "20300101-000000")
    arguments = (*TRAIN, "--eval-every", "0", "--steps", "8")
    assert [gridmarl(*arguments).code for _ in range(2)] == [0, 0]
    name = "20300101-000000-two-stage-dr-dqn"
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [name, f"{name}-2"]


def test_config_file_and_its_precedence(tmp_path: Path) -> None:
    path = tmp_path / "market.json"
    path.write_text(json.dumps({"num_prosumers": 2, "horizon_hours": 6, "alpha_permille": 1500}))
    folder = tmp_path / "run"
    arguments = ("train", "--steps", "8", "--lanes", "4", "--eval-lanes", "1", "--eval-every", "0", "--config", path)
    assert gridmarl(*arguments, "--set", "alpha_permille=1300", "--run-dir", folder).code == 0
    params = strict_json(folder / "config.json")["env_options"]
    assert (params["num_prosumers"], params["horizon_hours"], params["alpha_permille"]) == (2, 6, 1300)


@pytest.mark.parametrize("arguments", [[], ["compare"], ["train"], ["ledger"], ["ledger", "verify"], ["list"]])
def test_help_is_readable(arguments: list[str]) -> None:
    outcome = gridmarl(*arguments, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("usage: gridmarl")
    assert "(default: )" not in outcome.out
    assert "[PATH" not in outcome.out
    assert "{None}" not in outcome.out
    assert len(outcome.out.splitlines()) <= 70
    if arguments in (["compare"], ["train"]):
        assert "--prices FILE [FILE ...]" in outcome.out
        assert "--run-dir DIR" in outcome.out


def test_list_shows_what_there_is() -> None:
    outcome = gridmarl("list")
    assert (outcome.code, outcome.err) == (0, "")
    for name in ("two-stage-dr", "gridmarl/TwoStageDR-v0", "dqn", "truthful", "uniform", "forecast_wh"):
        assert name in outcome.out
    assert "…" not in outcome.out
