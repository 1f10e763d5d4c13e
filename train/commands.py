"""The commands by name; each is a dataclass of options with a `run` method that returns an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from gridmarl.agents.registry import agent_names
from gridmarl.clearing.registry import mechanism_names
from gridmarl.envs.registry import environments
from gridmarl.ledger import prove, verify
from gridmarl.scenarios.registry import scenario_names
from gridmarl.train.compare import Compare
from gridmarl.train.compare_runs import Evaluate
from gridmarl.train.render_command import Render
from gridmarl.train.tables import results_console
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
class List:
    """Environments, agents, market mechanisms, scenarios and the observation of each environment."""

    def run(self) -> int:
        """Print the registries."""
        console = results_console()
        known = environments()
        table = Table("environment", "PettingZoo id", "what it is", title="Environments", title_justify="left")
        for entry in known.values():
            table.add_row(entry.name, entry.env_id, entry.summary)
        console.print(table)
        console.print("Agents: " + ", ".join(agent_names()))
        console.print("Mechanisms: " + ", ".join(mechanism_names()))
        console.print("Scenarios: " + ", ".join(scenario_names()))
        for entry in known.values():
            fields = getattr(entry.load("batched"), "observation_fields", ())
            shown = Table(
                "field", "unit", "scale", "meaning", title=f"Observation of {entry.name}", title_justify="left"
            )
            for item in fields:
                shown.add_row(item.name, item.unit, f"{item.scale:.3g}", item.meaning)
            console.print(shown)
        return 0


@dataclass
class Ledger:
    """Verify a ledger file, or prove that it holds a transaction."""

    command: (
        Annotated[LedgerVerify, tyro.conf.subcommand("verify")] | Annotated[LedgerProve, tyro.conf.subcommand("prove")]
    )

    def run(self) -> int:
        """Run the subcommand."""
        return self.command.run()


Command = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Ledger, tyro.conf.subcommand("ledger")]
    | Annotated[List, tyro.conf.subcommand("list")]
)
