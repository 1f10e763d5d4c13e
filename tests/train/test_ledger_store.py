"""`gridmarl train --ledger stored`: the store of a training run, and what a resumed run finds in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torch import Tensor

from gridmarl.ledger import LedgerReader, LedgerStore, SealedBlock, verify
from gridmarl.ledger.block import Block
from gridmarl.ledger.keys import KEYS_FILE
from gridmarl.train.checkpoint import CHECKPOINT_FILE, load_checkpoint, tree_hash
from gridmarl.train.ledger_store import LEDGER_STORE, TrainingLedger
from gridmarl.train.loop import TrainProgress
from gridmarl.train.train_options import Train
from gridmarl.train.train_run import prepare, train_seed, training_market
from tests.train.command_line import SMALL_LEARNER, SMALL_MARKET, files, gridmarl

STEPS, LANES, INTERVAL = 240, 4, 88  # 60 hours, two episodes and a half; checkpoints inside episodes
RUN = ("train", "two-stage-dr", *SMALL_MARKET, "--lanes", LANES, "--eval-lanes", "1", "--eval-every", "0",
       "--checkpoint-every", INTERVAL, "--progress", "off", *SMALL_LEARNER)  # fmt: skip
STORED = ("--ledger", "stored")


def options(folder: Path, **changes: object) -> Train:
    values: dict[str, object] = {
        "days": 1, "set": ("num_prosumers=3",), "lanes": LANES, "steps": STEPS, "eval_every": 0, "run_dir": folder,
        "checkpoint_every": INTERVAL, "agent_set": SMALL_LEARNER[1:], "progress": "off", "ledger": "stored",
    }  # fmt: skip
    return Train(**{**values, **changes})  # type: ignore[arg-type]


def run(folder: Path, *, stop_at: int = STEPS, **changes: object) -> None:
    """Train in this process; at `stop_at` steps it ends as if the machine had: without a word to anybody."""

    class Cut(BaseException):
        pass

    def cut(progress: TrainProgress) -> None:
        if stop_at <= progress.env_steps < STEPS:
            raise Cut

    given = options(folder, **changes)
    try:
        train_seed(prepare(given, training_market(given), given.seed, None), folder, given.resume, cut)
    except Cut:
        return


def blocks(folder: Path) -> list[Block]:
    with LedgerReader.open(folder / LEDGER_STORE) as reader:
        return list(reader)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


def with_keys_of(whole: Path, folder: Path) -> Path:
    """A run folder that signs as the whole run does: the same blocks to the last byte."""
    folder.mkdir(parents=True)
    shutil.copy(whole / KEYS_FILE, folder)
    return folder


def test_the_command_stores_every_hour_of_lane_0_and_trains_as_without(tmp_path: Path, whole: Path) -> None:
    plain, stored = (with_keys_of(whole, tmp_path / name) for name in ("plain", "stored"))
    assert gridmarl(*RUN, "--steps", STEPS, "--run-dir", plain).code == 0
    assert gridmarl(*RUN, "--steps", STEPS, "--run-dir", stored, *STORED).code == 0
    assert files(stored) - files(plain) == {LEDGER_STORE, f"{LEDGER_STORE}-lock"}
    one, other = (load_checkpoint(folder / CHECKPOINT_FILE) for folder in (plain, stored))
    kept = other.pop("ledger")
    assert kept["height"] == STEPS // LANES
    for part in ("agent", "env", "tracker", "observation", "env_steps"):
        assert tree_hash(one[part]) == tree_hash(other[part]), part
    assert (plain / "ledger.bin").read_bytes() == (stored / "ledger.bin").read_bytes()
    told = gridmarl("ledger", "verify", stored / LEDGER_STORE)
    assert told.code == 0
    assert f"{STEPS // LANES} blocks, {STEPS // LANES * 26} transactions, head {kept['heads'][0].hex()}" in told.out
    assert told.out.endswith("residual 0 utok\nno trailer: a store, ok up to its head; a run may append to it\n")
    assert blocks(stored) == blocks(whole)


def test_the_commands_take_a_store_and_a_folder_without_file(tmp_path: Path, whole: Path) -> None:
    store = whole / LEDGER_STORE
    exported = tmp_path / "training.bin"
    assert gridmarl("ledger", "export", store, "--out", exported).code == 0
    assert gridmarl("ledger", "verify", whole).out.startswith(f"{store}: 60 blocks")
    assert gridmarl("ledger", "verify", exported).out.endswith("residual 0 utok\n")
    for command in (("show",), ("show", "--block", 3), ("prove", "--block", 3, "--tx", 5)):
        first, *rest = command
        ours, theirs = (gridmarl("ledger", first, path, *rest) for path in (whole, exported))
        assert (ours.code, ours.out) == (0, theirs.out)
    ours, theirs = (gridmarl("ledger", "stats", path) for path in (store, exported))
    assert ours.code == theirs.code == 0
    assert ours.out.splitlines()[2:] == theirs.out.splitlines()[2:]


def test_the_chain_is_that_of_lane_0_of_a_sealed_run(tmp_path: Path) -> None:
    stored, sealed = tmp_path / "stored", tmp_path / "sealed"
    run(stored, sign="off")
    run(sealed, ledger="sealed")
    chains = load_checkpoint(sealed / CHECKPOINT_FILE)["env"]["chains"]
    assert verify(stored / LEDGER_STORE).head == chains["heads"][0].hex()
    assert len(set(chains["heads"])) == LANES


@pytest.mark.parametrize("stop_at", [4, 120])
def test_a_resumed_run_makes_the_same_blocks_again_and_goes_on(tmp_path: Path, whole: Path, stop_at: int) -> None:
    folder = with_keys_of(whole, tmp_path / "run")
    run(folder, stop_at=stop_at)
    there = blocks(folder)
    assert len(there) == stop_at // LANES
    assert (folder / CHECKPOINT_FILE).exists() is (stop_at > INTERVAL)
    run(folder, resume=True)
    assert blocks(folder)[: len(there)] == there
    assert blocks(folder) == blocks(whole)
    assert verify(folder / LEDGER_STORE).ok
    ours, theirs = (load_checkpoint(path / CHECKPOINT_FILE) for path in (folder, whole))
    assert tree_hash(ours["agent"]) == tree_hash(theirs["agent"])


def test_another_history_is_not_stored_over_the_first(tmp_path: Path, whole: Path) -> None:
    """The same market and seed, and a policy that acts otherwise: the genesis is the same, the blocks are not."""
    folder = with_keys_of(whole, tmp_path / "run")
    shutil.copy(whole / LEDGER_STORE, folder)
    market = RUN[: RUN.index("--agent-set")]
    told = gridmarl(*market, "--steps", STEPS, "--run-dir", folder, *STORED, "--resume", "--agent", "truthful")
    assert told.code == 2
    assert (
        "block 0 is there already and differs in header (tx_root, input_root, state_root), inputs (record 0),"
        in told.err
    )
    assert blocks(folder) == blocks(whole)


def test_what_cannot_be_continued_is_refused(tmp_path: Path, whole: Path) -> None:
    command = (*RUN, "--steps", STEPS, "--run-dir")
    without, copied = tmp_path / "without", tmp_path / "copied"
    run(without, ledger="accounts")
    shutil.copytree(whole, copied)
    (copied / CHECKPOINT_FILE).unlink()
    (copied / "config.json").unlink()
    refused = [
        (
            (*command, without, *STORED, "--resume"),
            f"holds a run without {LEDGER_STORE}; allowed is to continue without",
        ),
        ((*command, whole, "--resume"), "the run has a ledger store; allowed is to continue with one"),
        ((*command, whole, *STORED), "holds a run; allowed is --resume, or another folder"),
        ((*command, copied, *STORED), "holds a run; allowed is --resume, or another folder"),
        ((*command, copied, *STORED, "--resume", "--seed", 1), "genesis"),
    ]
    for arguments, message in refused:
        told = gridmarl(*arguments)
        assert (told.code, message in told.err) == (2, True), told.err
    assert not (without / LEDGER_STORE).exists()
    for name in (LEDGER_STORE, KEYS_FILE):
        shutil.copy(whole / name, without)
    told = gridmarl(*command, without, *STORED, "--resume")
    assert (told.code, "the run has no ledger store; allowed is to continue without one" in told.err) == (2, True)


def test_a_store_behind_its_checkpoint_is_refused(tmp_path: Path, whole: Path) -> None:
    """Such as a store that was copied without its log."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / LEDGER_STORE).unlink()
    with LedgerReader.open(whole / LEDGER_STORE) as reader:
        rules, first = reader.rules, reader.block(0)
        assert len(first.signatures) == 64
    with LedgerStore(folder / LEDGER_STORE, rules) as store:
        store.append(SealedBlock(first, first.parsed_header().hash()))
    told = gridmarl(*RUN, "--steps", STEPS, "--run-dir", folder, *STORED, "--resume")
    assert (told.code, "holds 1 blocks; allowed are at least the 60 of the checkpoint" in told.err) == (2, True)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridmarl.train.ledger_store.LOCK_WAIT_S", 0.0)
    given = options(tmp_path)
    market = training_market(given)
    with TrainingLedger(prepare(given, market, 0, None).env, 0, tmp_path, resume=False):
        told = gridmarl(*RUN, "--steps", STEPS, "--run-dir", tmp_path, *STORED, "--resume")
        assert (told.code, "another process writes it" in told.err) == (2, True)


def test_seeds_have_stores_of_their_own(tmp_path: Path, whole: Path) -> None:
    with_keys_of(whole, tmp_path / "seed-0")
    told = gridmarl(*RUN, "--steps", STEPS, "--run-dir", tmp_path, *STORED, "--seeds", 0, 1, "--workers", 1, "--resume")
    assert told.code == 0, told.err
    assert blocks(tmp_path / "seed-0") == blocks(whole)
    other = verify(tmp_path / "seed-1" / LEDGER_STORE)
    assert (other.ok, other.blocks) == (True, STEPS // LANES)
    assert other.head != verify(whole / LEDGER_STORE).head


def test_the_disk_has_the_blocks_before_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync = LedgerStore.sync

    def synced(store: LedgerStore) -> None:
        sync(store)
        order.append(f"sync {store.height}")

    def saved(path: Path, state: dict[str, Tensor]) -> None:
        order.append(f"save {state['ledger']['height']}")

    monkeypatch.setattr(LedgerStore, "sync", synced)
    monkeypatch.setattr("gridmarl.train.loop.save_checkpoint", saved)
    run(tmp_path)
    assert order == ["sync 22", "save 22", "sync 44", "save 44", "sync 60", "save 60"]


@pytest.mark.parametrize("consensus", ["proof_of_stake", "proof_of_work"])
def test_other_sealers_resume_exactly_too(tmp_path: Path, consensus: str) -> None:
    """Stakes are part of the checkpoint; nonces and signatures come out the same again."""
    whole, folder = tmp_path / "whole", tmp_path / "run"
    run(whole, consensus=consensus)
    run(with_keys_of(whole, folder), stop_at=120, consensus=consensus)
    run(folder, resume=True, consensus=consensus)
    assert blocks(folder) == blocks(whole)
    assert verify(folder / LEDGER_STORE).ok


def test_a_plug_in_s_market_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    told = gridmarl(*RUN, "--steps", STEPS, "--run-dir", tmp_path / "no", *STORED, "--set", "price_rule=nobody")
    assert told.code == 2
    assert not (tmp_path / "no").exists()
