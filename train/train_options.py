"""What `gridmarl train` takes from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from gridmarl.agents.registry import registered_here
from gridmarl.errors import ConfigError
from gridmarl.train.checkpoint import CHECKPOINT_FILE
from gridmarl.train.ledger_options import LedgerOptions
from gridmarl.train.ledger_store import LEDGER_STORE
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.markets import market_entry
from gridmarl.train.options import MAX_LANES, MAX_STEPS, MAX_THREADS, MarketOptions, Settings, check_range

MAX_SEEDS = 1000
EVALUATION_SEED_OFFSET = 1_000_003
VALIDATION_SEED = 2_000_003
"""Seed of the evaluations during training, which choose the best checkpoint: not that of the comparison at the end."""


def evaluation_seed(seed: int) -> int:
    """Seed of the evaluation episodes; never that of the training."""
    return (seed + EVALUATION_SEED_OFFSET) % 2**64


def seed_folder(seed: int) -> str:
    """Folder of one seed inside the folder of a run with several."""
    return f"seed-{seed}"


TrainingLedgerLevel = Literal["accounts", "sealed", "batch", "stored"]


@dataclass(kw_only=True)
class Train(LedgerOptions, MarketOptions):
    """Train an agent, with one seed or several; ends with a comparison against truthful bidding, no market and the
    central optimum."""

    agent: Annotated[str, tyro.conf.arg(metavar="NAME")] = "dqn"
    """Agent; `gridmarl list` shows them."""
    steps: Annotated[int, tyro.conf.arg(metavar="N")] = 360_000
    """Training, in steps of one lane."""
    lanes: Annotated[int, tyro.conf.arg(metavar="N")] = 64
    """Lanes that train in parallel."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N [N ...]", help_behavior_hint="")] = ()
    """Several seeds instead of --seed, each in a folder of its own, bit for bit as if alone; results are means with
    95 % intervals over the seeds, on the same episodes."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Processes that train seeds side by side; 0: one per CPU core (on a GPU one)."""
    agent_set: Settings = ()
    """Options of the agent, e.g. --agent-set learning_rate=0.0005 policy=independent."""
    eval_every: Annotated[int, tyro.conf.arg(metavar="N")] = 36_000
    """Steps between evaluations on held-out episodes (best.pt keeps the best policy); 0: none."""
    eval_lanes: Annotated[int, tyro.conf.arg(metavar="N")] = 32
    """Held-out episodes of an evaluation, and of the comparison at the end."""
    checkpoint_every: Annotated[int, tyro.conf.arg(metavar="N")] = 60_000
    """Steps between checkpoints: the most that a killed run loses."""
    ledger: Annotated[TrainingLedgerLevel, tyro.conf.arg(help_behavior_hint="")] = "accounts"
    """accounts: balances; sealed: hash each lane's hours; batch: all lanes at once; stored: lane 0 in ledger.sqlite."""
    resume: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    """Continue the run in --run-dir, bit for bit."""

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds to train, in the order given."""
        return self.seeds or (self.seed,)

    def check(self) -> None:
        """See `MarketOptions.check`; also refuses a run folder that this run would spoil."""
        super().check()
        check_range("lanes", self.lanes, 1, MAX_LANES)
        check_range("eval_lanes", self.eval_lanes, 1, MAX_LANES)
        check_range("steps", self.steps, 1, MAX_STEPS)
        check_range("eval_every", self.eval_every, 0, MAX_STEPS)
        check_range("checkpoint_every", self.checkpoint_every, 1, MAX_STEPS)
        check_range("workers", self.workers, 0, MAX_THREADS)
        self._check_seeds()
        if self.run_dir is None:
            if self.resume:
                raise ConfigError("--resume without --run-dir; allowed is --resume --run-dir FOLDER_OF_THE_RUN")
        elif self.run_dir.is_dir():
            self._check_folder()

    def _check_seeds(self) -> None:
        if not self.seeds:
            return
        check_range("number of seeds", len(self.seeds), 1, MAX_SEEDS)
        for seed in self.seeds:
            check_range("seeds", seed, 0, 2**64 - 1)
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds: {' '.join(map(str, self.seeds))}; allowed is each only once")
        if self.seed:
            raise ConfigError(f"--seed {self.seed} and --seeds; allowed is one of them")
        if self.workers > 1 and registered_here(self.agent):
            raise ConfigError(
                f"workers: {self.workers}, but agent {self.agent!r} was registered in this process only; allowed is 1, "
                "or a package with an entry point"
            )

    def _check_folder(self) -> None:
        assert self.run_dir is not None
        read_metrics(self.run_dir)  # refuses the folder of a comparison
        several = sorted(self.run_dir.glob("seed-*"))
        single = any((self.run_dir / name).exists() for name in (CHECKPOINT_FILE, LEDGER_STORE))
        if (several or single) and not self.resume:
            raise ConfigError(f"run_dir: {self.run_dir} holds a run; allowed is --resume, or another folder")
        if several and not self.seeds:
            raise ConfigError(f"run_dir: {self.run_dir} holds a run with several seeds; allowed is --seeds with these")
        if single and self.seeds:
            raise ConfigError(f"run_dir: {self.run_dir} holds a run with one seed; allowed is --seed or another folder")

    def run(self) -> int:
        """Train; exit code 0, or 130 after Ctrl-C (the run folder can be resumed)."""
        code: int = market_entry(self.env).load("train")(self)
        return code
