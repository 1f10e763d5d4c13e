"""The commands by name; each is a dataclass of options with a `run` method that returns an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gridmarl.ledger import prove, verify
from gridmarl.train.compare import Compare
from gridmarl.train.compare_runs import Evaluate
from gridmarl.train.consensus_command import LedgerConsensus
from gridmarl.train.list_command import List
from gridmarl.train.render_command import Render
from gridmarl.train.report.command import Report
from gridmarl.train.sweep.options import Sweep
from gridmarl.train.train_options import Train

DESCRIPTION = "Multi-agent reinforcement-learning environments for blockchain-based local electricity markets."


@dataclass
class LedgerVerify:
    """Re-hash a ledger file, replay every hour with independent integer code, and say what is wrong, if anything."""

    path: tyro.conf.Positional[Path]
    """The ledger file (ledger.bin of a run), or a run folder."""

    def run(self) -> int:
        """Print the verdict; 0 if the file verifies, 1 if not."""
        path = self.path / "ledger.bin" if self.path.is_dir() else self.path
        verdict = verify(path)
        print(f"{path}: {verdict.blocks} blocks, {verdict.transactions} transactions, head {verdict.head}")
        for name, energy_wh in verdict.energy_totals.items():
            print(f"  {name}: {energy_wh:,} Wh")
        if not verdict.ok:
            print(f"NOT VERIFIED: {verdict.error}")
            return 1
        print(f"residual {verdict.residual_utok} utok")
        return 0


@dataclass
class LedgerProve:
    """Print an inclusion proof of one transaction as JSON; `gridmarl.ledger.bao_verify` checks it, and nothing else."""

    path: tyro.conf.Positional[Path]
    """The ledger file, or a run folder."""
    block: int
    """Height of the block, from 0."""
    tx: int
    """Index of the transaction in the block, from 0."""

    def run(self) -> int:
        """Print the proof; exit code 0."""
        path = self.path / "ledger.bin" if self.path.is_dir() else self.path
        print(prove(path, self.block, self.tx).to_json())
        return 0


@dataclass
class Ledger:
    """Verify a ledger file, prove that it holds a transaction, or compare how its blocks could be agreed on."""

    command: (
        Annotated[LedgerVerify, tyro.conf.subcommand("verify")]
        | Annotated[LedgerProve, tyro.conf.subcommand("prove")]
        | Annotated[LedgerConsensus, tyro.conf.subcommand("consensus")]
    )

    def run(self) -> int:
        """Run the subcommand."""
        return self.command.run()


Command = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Ledger, tyro.conf.subcommand("ledger")]
    | Annotated[List, tyro.conf.subcommand("list")]
)
