"""The commands by name; each is a dataclass of options with a `run` method that returns an exit code."""

from __future__ import annotations

from typing import Annotated

import tyro

from gridmarl.train.compare import Compare
from gridmarl.train.compare_runs import Evaluate
from gridmarl.train.evm_command import Evm
from gridmarl.train.ledger_commands import Ledger
from gridmarl.train.list_command import List
from gridmarl.train.render_command import Render
from gridmarl.train.report.command import Report
from gridmarl.train.reproduce.command import Reproduce
from gridmarl.train.sweep.options import Sweep
from gridmarl.train.train_options import Train

DESCRIPTION = "Multi-agent reinforcement-learning environments for blockchain-based local electricity markets."

Command = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Ledger, tyro.conf.subcommand("ledger")]
    | Annotated[Evm, tyro.conf.subcommand("evm")]
    | Annotated[List, tyro.conf.subcommand("list")]
)
