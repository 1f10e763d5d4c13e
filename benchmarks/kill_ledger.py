"""Kill training with SIGKILL again and again, and see that its ledger store loses nothing.

A run of `gridmarl train --ledger stored` is started, killed, its store verified, compared with what was acknowledged
before the kill (a side file, written after each `append` has returned), then resumed and killed again, until it ends;
then the next run begins. Each finished chain must equal, byte for byte, that of a run that nobody killed.

| moment      | when                                                                                            |
|-------------|-------------------------------------------------------------------------------------------------|
| any         | uniform over the duration of a whole run                                                        |
| start       | uniform over the time until the first block                                                     |
| statement   | inside a transaction: before BEGIN, INSERT, UPDATE or COMMIT of a random block                  |
| transaction | up to 0.5 ms after the COMMIT of a random block has begun                                       |
| checkpoint  | up to 10 ms after a checkpoint has begun                                                        |
| end         | up to 10 ms after the closing of the store has begun                                            |

"acknowledged" are new blocks, "beyond" those found that were written but not yet acknowledged, "before any" kills of a
run that had acknowledged none yet. Most kills hit a process forked from this one, which has loaded the package; `--cli`
of them hit `python -m gridmarl` (through `benchmarks.kill_ledger_run`). A run that ends before its kill is not counted.
Exit code 1 if a store does not verify, a block is lost or changed, or a finished chain differs.

    python -m benchmarks.kill_ledger --kills 200 --cli 20
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch
import tyro

from benchmarks.kill_ledger_run import ACKNOWLEDGED, MOMENTS, arm, record
from gridmarl.ledger import LedgerReader, verify
from gridmarl.ledger.export import export_ledger
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.keys import KEYS_FILE
from gridmarl.train.ledger_store import LEDGER_STORE
from gridmarl.train.train_options import Train
from gridmarl.train.train_run import TrainingMarket, prepare, train_seed, training_market

JITTER_S = {"transaction": 0.0005, "checkpoint": 0.01, "end": 0.01}
PATIENCE_S = 120.0
COLUMNS = ("kills", "cli", "before any", "acknowledged", "beyond", "not verified", "lost", "changed")
CLI_FLAGS = (
    "--days", "1", "--set", "num_prosumers=3", "--eval-every", "0", "--eval-lanes", "1", "--progress", "off",
    "--agent-set", "hidden=[8]", "batch_size=8", "learning_starts=16", "replay_capacity=200", "--ledger", "stored",
)  # fmt: skip


@dataclass
class Options:
    """Kill training again and again, and verify what its ledger store holds each time."""

    kills: int = 200
    """SIGKILLs that must hit a run."""
    cli: int = 20
    """How many of them hit `python -m gridmarl` instead of a forked process."""
    steps: int = 480
    """Length of a run, in steps of one lane."""
    seed: int = 0
    """Of the moments."""


@dataclass
class Tally:
    """Counts of one row of the table."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether anything went wrong."""
        return any(self.counts[name] for name in ("not verified", "lost", "changed"))


@dataclass
class Life:
    """One start of the run that is to be killed."""

    moment: str
    nth: int
    delay_s: float
    cli: bool


class Killer:
    """Starts, kills and inspects runs in one folder after the other."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.draws = random.Random(options.seed)
        self.tallies = {moment: Tally() for moment in MOMENTS}
        self._cli = set(self.draws.sample(range(options.kills), options.cli))
        self.run = 0
        self.finished = self.equal = 0
        self._train = self._options(folder / "whole", resume=False)
        self._market: TrainingMarket = training_market(self._train)
        prepare(self._train, self._market, 0, None)  # loads what forked processes need, once
        import_module("torch.utils.tensorboard")
        self._durations: dict[bool, float] = {}  # of a run from the command line and of a forked one
        self._starts: dict[bool, float] = {}
        self._keys: bytes | None = None
        self._whole = self._measure()

    def _options(self, folder: Path, *, resume: bool) -> Train:
        return Train(
            days=1, set=("num_prosumers=3",), agent_set=CLI_FLAGS[CLI_FLAGS.index("--agent-set") + 1 : -2],
            steps=self.options.steps, lanes=2, eval_every=0, eval_lanes=1, progress="off", ledger="stored",
            checkpoint_every=max(2, self.options.steps // 8), run_dir=folder, resume=resume,
        )  # fmt: skip

    def _arguments(self, train: Train) -> list[str]:
        numbers = ("--steps", train.steps, "--lanes", train.lanes, "--checkpoint-every", train.checkpoint_every)
        return ["train", "two-stage-dr", *CLI_FLAGS, *map(str, numbers), "--run-dir", str(train.run_dir), "--resume"]

    def _measure(self) -> bytes:
        """Run once without kills, forked and (if wanted) from the command line; returns the whole chain."""
        chains = []
        for cli in (False, True)[: 1 + bool(self.options.cli)]:
            folder = self.folder / f"whole-{'cli' if cli else 'forked'}"
            began = time.monotonic()
            first = self._live(folder, Life("transaction", 0, PATIENCE_S, cli), kill=False)
            assert first is not None, "the run that nobody kills has failed"
            self._keys = (folder / KEYS_FILE).read_bytes()
            self._starts[cli], self._durations[cli] = first - began, time.monotonic() - began
            chains.append(_exported(folder))
        assert len(set(chains)) == 1, "a forked run differs from one of the command line"
        return chains[0]

    def _live(self, folder: Path, life: Life, *, kill: bool = True) -> float | None:
        """One life of the run in `folder`.

        Returns:
            Time of its announcement (without `kill`), of its end by SIGKILL (with it); None if it ended by itself.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self._keys is not None and not (folder / KEYS_FILE).exists():  # the same keys, so the same bytes
            (folder / KEYS_FILE).touch(mode=0o600)
            (folder / KEYS_FILE).write_bytes(self._keys)
        train = self._options(folder, resume=True)
        reading, writing = os.pipe()
        start = self._start_cli if life.cli else self._fork
        process = start(train, life, writing)
        os.close(writing)
        announced = life.moment in JITTER_S
        wait_s = PATIENCE_S if announced or not kill or life.moment == "statement" else life.delay_s
        heard = bool(select.select([reading], [], [], wait_s)[0]) and os.read(reading, 1) == b"!"
        moment = time.monotonic()
        if kill and life.moment != "statement":
            if heard:
                time.sleep(life.delay_s)
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        os.close(reading)
        if not kill:
            return moment if heard and status == 0 else None
        if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
            raise RuntimeError(f"{folder}: the run has failed with exit code {os.waitstatus_to_exitcode(status)}")
        return moment if os.WIFSIGNALED(status) else None

    def _start_cli(self, train: Train, life: Life, pipe: int) -> int:
        side = _side_file(Path(str(train.run_dir)))
        words = [sys.executable, "-m", "benchmarks.kill_ledger_run", side, life.moment, life.nth, pipe]
        command = [*map(str, words), *self._arguments(train)]
        root = Path(__file__).resolve().parent.parent
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        return subprocess.Popen(
            command, cwd=root, env=environment, pass_fds=[pipe], stdout=subprocess.DEVNULL
        ).pid  # waited for by its number, as the forked ones are

    def _fork(self, train: Train, life: Life, pipe: int) -> int:
        process = os.fork()
        if process:
            return process
        code = 1
        try:
            record(_side_file(Path(str(train.run_dir))))
            arm(life.moment, life.nth, pipe)
            run = prepare(train, self._market, train.seed, None)
            train_seed(run, Path(str(train.run_dir)), train.resume)
            time.sleep(JITTER_S["end"] if life.moment == "end" else 0.0)  # a process that has ended cannot be killed
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def draw(self, index: int) -> Life:
        """The life before kill `index`: moments in turn, all else by chance."""
        moment, cli = MOMENTS[index % len(MOMENTS)], index in self._cli
        nth = self.draws.randrange(self.options.steps // 8 if moment in ("statement", "transaction") else 4)
        longest = {"any": self._durations[cli], "start": self._starts[cli]} | JITTER_S
        return Life(moment, nth, self.draws.uniform(0.0, longest.get(moment, 0.0)), cli)

    def kill_once(self, index: int) -> None:
        """Start or resume a run until a kill has hit it, then inspect its store."""
        while True:
            folder = self.folder / f"run-{self.run}"
            life, before = self.draw(index), _acknowledged(folder)[0]
            if self._live(folder, life) is not None:
                self._inspect(folder, life, before)
                return
            self._finish(folder)  # it has come to its end before its moment, which a new one will reach

    def _finish(self, folder: Path) -> None:
        self.finished += 1
        self.equal += _exported(folder) == self._whole
        self.run += 1

    def _inspect(self, folder: Path, life: Life, before: dict[int, bytes]) -> None:
        store, tally = folder / LEDGER_STORE, self.tallies[life.moment]
        acknowledged, changed = _acknowledged(folder)
        tally.counts["kills"] += 1
        tally.counts["cli"] += life.cli
        tally.counts["before any"] += not acknowledged
        tally.counts["acknowledged"] += len(acknowledged) - len(before)
        tally.counts["changed"] += changed
        if not store.exists():
            tally.counts["lost"] += len(acknowledged)
            return
        verdict = verify(store)
        if not verdict.ok:
            tally.counts["not verified"] += 1
            tally.notes.append(f"{folder}: {verdict}")
            return
        with LedgerReader.open(store) as reader:
            held = [header_hash(reader.header(height)) for height in range(reader.block_count)]
        lost = [height for height, identity in acknowledged.items() if held[height : height + 1] != [identity]]
        tally.counts["lost"] += len(lost)
        tally.counts["beyond"] += max(0, len(held) - len(acknowledged))
        if lost:
            tally.notes.append(f"{folder}: blocks {lost[:5]} are lost")

    def table(self) -> str:
        """Counts by moment, and their sums."""
        rows = [(moment, [tally.counts[name] for name in COLUMNS]) for moment, tally in self.tallies.items()]
        rows.append(("all", [sum(column) for column in zip(*(counts for _, counts in rows), strict=True)]))
        lines = [f"| moment | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
        return "\n".join(lines + [f"| {name} | {' | '.join(map(str, counts))} |" for name, counts in rows])


def _side_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.acknowledged")


def _acknowledged(folder: Path) -> tuple[dict[int, bytes], int]:
    """Hash by height of all lives of a run, and how often a height was acknowledged with another hash than before."""
    side = _side_file(folder)
    data = side.read_bytes() if side.exists() else b""
    found: dict[int, bytes] = {}
    changed = 0
    for height, identity in ACKNOWLEDGED.iter_unpack(data[: len(data) - len(data) % ACKNOWLEDGED.size]):
        changed += found.setdefault(height, identity) != identity
    return found, changed


def _exported(folder: Path) -> bytes:
    out = folder.with_name(f"{folder.name}.bin")
    export_ledger(folder / LEDGER_STORE, out)
    return out.read_bytes()


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill as often as asked, print the table; exit code 1 if anything was lost."""
    options = tyro.cli(Options, args=arguments, description=__doc__)
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        killer = Killer(options, Path(folder))
        for index in range(options.kills):
            killer.kill_once(index)
    print(killer.table())
    print(f"{killer.finished} runs went on to their end, {killer.equal} of them equal to the run that nobody killed")
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s")
    for tally in killer.tallies.values():
        print(*tally.notes, sep="\n", end="\n" if tally.notes else "")
    failed = any(tally.failed for tally in killer.tallies.values()) or killer.finished != killer.equal
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
