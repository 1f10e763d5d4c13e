"""What `gridmarl sweep` takes from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from gridmarl.agents.registry import registered_here
from gridmarl.errors import ConfigError
from gridmarl.train.options import MAX_STEPS, check_range, parse_settings
from gridmarl.train.sweep.space import check_apart, parse_draws, parse_grid
from gridmarl.train.train_options import Train

MAX_DRAWS = 10_000
PLAN_FILE = "sweep.json"
EVALUATIONS = 10
Metric = Literal["eval_gains_share", "eval_return"]
Grid = Annotated[
    tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE,VALUE [NAME=VALUE,VALUE ...]", help_behavior_hint="")
]
Draws = Annotated[
    tuple[str, ...], tyro.conf.arg(metavar="NAME=DISTRIBUTION [NAME=DISTRIBUTION ...]", help_behavior_hint="")
]


@dataclass(kw_only=True)
class Sweep(Train):
    """Train every combination of settings with every seed, and say which is best; needs `gridmarl[ray]`.

    Takes the options of `gridmarl train`. A trial is one combination with one seed, and its folder one of
    `gridmarl train`.
    """

    grid: Grid = ()
    """Options of the agent to combine, e.g. --grid learning_rate=0.0003,0.001 hidden=[64,64],[128,128]."""
    grid_set: Grid = ()
    """Parameters of the market to combine, e.g. --grid-set alpha_permille=1000,1200."""
    sample: Draws = ()
    """Options of the agent to draw, e.g. --sample 'learning_rate=loguniform(1e-4,1e-2)' 'policy=choice(["shared",
    "independent"])'; also uniform, quniform, qloguniform, randint, lograndint."""
    sample_set: Draws = ()
    """Parameters of the market to draw."""
    trials: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Random draws, each combined with the whole grid."""
    sample_seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of the random draws."""
    metric: Metric = "eval_gains_share"
    """What is to be large in a trial's last evaluation. Returns cannot be compared between markets."""
    early_stop: bool = False
    """Let only the best third of the trials go on at a ninth, and again at a third, of the steps (ASHA)."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Trials that run side by side; 0: one per CPU core (on a GPU one)."""
    eval_every: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Steps between evaluations on held-out episodes; 0: a tenth of the steps."""
    resume: bool = False
    """Continue the sweep in --run-dir: finished trials stay, unfinished ones go on from their checkpoints."""

    @property
    def eval_interval(self) -> int:
        """Steps between evaluations."""
        return self.eval_every or max(1, self.steps // EVALUATIONS)

    def check(self) -> None:
        """See `Train.check`; also refuses grids and draws that do not parse or contradict each other."""
        super().check()
        check_range("trials", self.trials, 1, MAX_DRAWS)
        check_range("sample_seed", self.sample_seed, 0, 2**64 - 1)
        check_range("eval_every", self.eval_every, 0, min(self.steps, MAX_STEPS))
        check_apart(parse_settings(self.agent_set), parse_grid(self.grid), parse_draws(self.sample), "agent option")
        check_apart(
            parse_settings(self.set), parse_grid(self.grid_set), parse_draws(self.sample_set), "market parameter"
        )
        if self.trials > 1 and not (self.sample or self.sample_set):
            raise ConfigError(f"trials: {self.trials} without --sample or --sample-set; allowed is 1, or give one")
        if registered_here(self.agent):
            raise ConfigError(
                f"agent: {self.agent!r} was registered in this process only, and trials run in others; allowed is a "
                "package with an entry point"
            )

    def _check_folder(self) -> None:
        assert self.run_dir is not None
        holds_sweep = (self.run_dir / PLAN_FILE).exists()
        if holds_sweep and not self.resume:
            raise ConfigError(f"run_dir: {self.run_dir} holds a sweep; allowed is --resume, or another folder")
        if not holds_sweep and any(self.run_dir.iterdir()):
            raise ConfigError(f"run_dir: {self.run_dir} holds something else; allowed is an empty or a new folder")

    def run(self) -> int:
        """Run all trials; exit code 0, or 130 after Ctrl-C (the sweep can be resumed)."""
        from gridmarl.train.sweep.command import run_sweep

        return run_sweep(self)
