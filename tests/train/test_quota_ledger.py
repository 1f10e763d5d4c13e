"""Ledgers of EVQuota on the command line: what a run leaves behind, and what `gridmarl ledger` makes of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gridmarl.ledger import LedgerReader, QuotaRules, verify
from gridmarl.train.checkpoint import load_checkpoint, tree_hash
from gridmarl.train.loop import TrainProgress
from gridmarl.train.quota.training import TRIALS, QuotaRun
from gridmarl.train.train_options import Train, evaluation_seed
from tests.ledger.builders import honest_file, save
from tests.oracles.quota_play import QuotaPlay, quota_records
from tests.train.command_line import Outcome, gridmarl, strict_json

PLAY = QuotaPlay(N=3, T=5)
LEARNER = (
    "train", "ev-quota", "--agent", "dqn", "--lanes", "4", "--eval-lanes", "1", "--eval-every", "0",
    "--checkpoint-every", "96", "--agent-set", "learning_starts=32", "batch_size=16", "hidden=[8]",
    "--set", "num_stations=3", "horizon_half_hours=24", "transformer_capacity_w=90000", "--progress", "off",
)  # fmt: skip


OPTIONS = Train(
    env="ev-quota", agent="dqn", lanes=4, eval_lanes=1, eval_every=0, checkpoint_every=96, progress="off",
    agent_set=LEARNER[LEARNER.index("--agent-set") + 1 : LEARNER.index("--set")],
    set=LEARNER[LEARNER.index("--set") + 1 : LEARNER.index("--progress")],
)  # fmt: skip


def run(folder: Path, *more: object, steps: int = 192) -> Outcome:
    outcome = gridmarl(*LEARNER, "--steps", steps, "--run-dir", folder, *more)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(folder, "--ledger", "sealed")
    return folder


def test_a_run_leaves_a_signed_day_that_verifies(trained: Path) -> None:
    verdict = verify(trained / "ledger.bin")
    assert verdict.ok, str(verdict)
    assert (verdict.blocks, verdict.transactions, verdict.signers) == (24, 24 * 15, 1)
    row = next(each for each in strict_json(trained / "summary.json")["rows"] if each["name"] == "dqn")
    assert verdict.energy_totals["used_wh"] == round(1000 * row["delivered_kwh"]) > 0
    assert verdict.energy_totals["traded_wh"] == round(1000 * row["traded_kwh"])
    with LedgerReader.open(trained / "ledger.bin") as reader:
        assert isinstance(reader.rules, QuotaRules)
        assert (reader.rules.seed, reader.rules.lane) == (evaluation_seed(0), 0)
    outcome = gridmarl("ledger", "verify", trained)
    assert outcome.code == 0
    assert "signed by 1 of 1 sealers" in outcome.out
    assert "residual 0 utok" in outcome.out


def test_sealed_training_learns_the_same_and_says_what_it_sealed(trained: Path, tmp_path: Path) -> None:
    assert "sealed while training" not in run(tmp_path / "plain").out
    folders = (trained, tmp_path / "plain")
    agents = [load_checkpoint(folder / "checkpoint.pt", "cpu")["agent"] for folder in folders]
    assert tree_hash(agents[0]) == tree_hash(agents[1])
    shutil.copytree(trained, tmp_path / "sealed")
    told = run(tmp_path / "sealed", "--ledger", "sealed", "--resume", steps=288).out
    assert "sealed while training: 36 blocks in each of 4 chains" in told


def test_stored_training_keeps_lane_0_and_a_killed_run_continues_it(tmp_path: Path) -> None:
    """Cut off between two checkpoints, without a word to anybody; the blocks since the last one are made again."""

    class Cut(BaseException):
        pass

    def cut(progress: TrainProgress) -> None:
        if progress.env_steps >= 152:
            raise Cut

    def prepared(name: str) -> QuotaRun:
        changes = {"ledger": "stored", "sign": "off", "steps": 288, "run_dir": tmp_path / name}
        return TRIALS.prepare(replace(OPTIONS, **changes), 0, None)  # type: ignore[arg-type]

    prepared("whole").train(tmp_path / "whole", False)
    with pytest.raises(Cut):
        prepared("parts").train(tmp_path / "parts", False, cut)
    half = verify(tmp_path / "parts" / "ledger.sqlite")
    assert half.ok
    assert 12 < half.blocks < 36
    prepared("parts").train(tmp_path / "parts", True)
    verdicts = [verify(tmp_path / name / "ledger.sqlite") for name in ("whole", "parts")]
    assert (verdicts[0].ok, verdicts[0].blocks) == (True, 36)
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("consensus", ["proof_of_stake", "proof_of_work"])
def test_stations_can_seal(consensus: str, tmp_path: Path) -> None:
    run(tmp_path / "run", "--consensus", consensus, steps=96)
    with LedgerReader.open(tmp_path / "run" / "ledger.bin") as reader:
        assert reader.rules.validators == 3
    assert verify(tmp_path / "run" / "ledger.bin").ok


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return save(tmp_path / "ledger.bin", honest_file(PLAY, 4))


def lines_of(outcome: Outcome) -> list[list[str]]:
    assert (outcome.code, outcome.err) == (0, "")
    return [line.split() for line in outcome.out.splitlines()]


def test_show_lists_rules_blocks_and_a_block(ledger: Path) -> None:
    lines = lines_of(gridmarl("ledger", "show", ledger))
    assert ["market:", "ev-quota"] in lines
    assert ["auction:", "'pairwise'"] in lines
    records = quota_records(PLAY, [4])
    for height, record in enumerate(records):
        margin, granted = int(record.margin_wh), int(record.first_quota_wh.sum())
        expected = [str(height), str(height), f"{margin / 1000:.3f}", f"{granted / 1000:.3f}", str(int(record.scarce))]
        assert any(line[:5] == expected for line in lines), expected
    record, lines = records[1], lines_of(gridmarl("ledger", "show", ledger, "--block", 1))
    for i in range(PLAY.N):
        declared = [f"{int(value[i]) / 1000:.3f}" for value in (record.declared_wh, record.first_quota_wh)]
        assert any(line[:1] == [str(i)] and [*line[1:2], *line[3:]] == declared for line in lines)
        order = [f"{int(value[i]) / 1000:.3f}" for value in (record.order_price, record.buy_wh, record.sell_wh)]
        assert [str(i), *order] in lines
        assert [str(i), *(f"{int(value[i]) / 1000:.3f}" for value in (record.used_wh, record.final_quota_wh))] in lines
    fee = int(record.flow_utok[2, 0])
    assert [f"{fee / 1e6:.6f}"] in [line[-1:] for line in lines if line[1:2] == ["CHARGING_FEE"]]


def test_one_transaction_stats_export_and_proof(ledger: Path, tmp_path: Path) -> None:
    record = quota_records(PLAY, [4])[1]
    used, fee = int(record.used_wh[0]), int(record.flow_utok[2, 0])
    shown = gridmarl("ledger", "show", ledger, "--block", 1, "--tx", 2 * PLAY.N).out
    assert shown.startswith(
        f"block 1, transaction {2 * PLAY.N}: CHARGING_FEE, station 0 pays dso\n  {used / 1000:.3f} kWh"
    )
    assert f"= {fee / 1e6:.6f} token\n" in shown
    lines = lines_of(gridmarl("ledger", "stats", ledger))
    balances = quota_records(PLAY, [4])[-1].balances[:, 0].tolist()
    assert ["dso", f"{balances[-1] / 1e6:.6f}"] in lines
    assert ["station", "0", f"{balances[0] / 1e6:.6f}"] in lines
    assert any(line[:2] == ["OVERUSE_PENALTY", "15"] for line in lines)
    assert gridmarl("ledger", "export", ledger, "--out", tmp_path / "rows.csv").code == 0
    assert len((tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()) == 1 + 75
    proof = gridmarl("ledger", "prove", ledger, "--block", 1, "--tx", 4)
    (tmp_path / "proof.json").write_text(proof.out, encoding="utf-8")
    with LedgerReader.open(ledger) as reader:
        identity = reader.block(1).parsed_header().hash().hex()
    checked = gridmarl("ledger", "check", tmp_path / "proof.json", "--head", identity)
    assert checked.code == 0
    assert "  energy_wh: " in checked.out


def test_the_table_of_consensus_reads_the_file(ledger: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "four.bin", honest_file(QuotaPlay(N=4, T=5), 4))
    outcome = gridmarl("ledger", "consensus", path, "--validators", 4)
    assert (outcome.code, outcome.err) == (0, "")
    assert "5 blocks" in outcome.out
