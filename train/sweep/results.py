"""What came out of a sweep: trials and configurations as table, sweep.csv and summary.json, and the best of them.

Configurations are ranked by the mean of the metric over their finished trials, those with more of these first: where
trials were stopped early, the survivors of one are not compared with all seeds of another.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gridmarl.metrics import mean_and_interval
from gridmarl.train.logging_ import read_metrics
from gridmarl.train.markets import MarketEntry
from gridmarl.train.sweep.plan import Configuration, Trial
from gridmarl.train.sweep.trial import STEPS, last_evaluation

CSV_FILE = "sweep.csv"
RETURN = "return"
NOTES = (
    "means over the seeds that finished, of each trial's last evaluation on held-out episodes; ± is the 95 % interval "
    "over seeds (Student's t)",
    "the best of many is chosen by these episodes, so its figure flatters it; the command below judges it on others",
)


@dataclass(frozen=True)
class Outcome:
    """How one trial ended. `figures`: its last evaluation, and the last return of its training."""

    trial: Trial
    status: Literal["finished", "stopped", "failed"]
    env_steps: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Standing:
    """One configuration: outcomes by seed."""

    configuration: Configuration
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def finished(self) -> int:
        """How many of its trials reached the end."""
        return sum(item.status == "finished" for item in self.outcomes)

    def over_seeds(self, name: str) -> tuple[float, float | None]:
        """Mean over the finished trials and half its 95 % interval; NaN without any, None for fewer than two."""
        found = [item.figures[name] for item in self.outcomes if item.status == "finished" and name in item.figures]
        if not found:
            return math.nan, None
        mean, half = mean_and_interval(np.array(found))
        return mean, half if len(found) > 1 else None


def outcome(trial: Trial, run_dir: Path, steps: int, failed: bool) -> Outcome:
    """How a trial ended, read from its folder."""
    rows = read_metrics(trial.folder(run_dir))
    reached = int(rows[-1][STEPS]) if rows else 0
    figures = dict(last_evaluation(rows))
    returns = [row[RETURN] for row in rows if row.get(RETURN)]
    if returns:
        figures[RETURN] = float(returns[-1])
    return Outcome(trial, "failed" if failed else "finished" if reached >= steps else "stopped", reached, figures)


def ranked(outcomes: Sequence[Outcome], metric: str) -> list[Standing]:
    """Configurations, best first; where the metric is not defined, last."""
    standings: dict[int, Standing] = {}
    for item in outcomes:
        configuration = item.trial.configuration
        standings.setdefault(configuration.index, Standing(configuration)).outcomes.append(item)

    def key(standing: Standing) -> tuple[int, float, int]:
        mean = standing.over_seeds(metric)[0]
        return -standing.finished, math.inf if math.isnan(mean) else -mean, standing.configuration.index

    return sorted(standings.values(), key=key)


def best_of(standings: Sequence[Standing], metric: str) -> Standing | None:
    """The first, if it has the metric at all."""
    found = standings[0] if standings else None
    return None if found is None or math.isnan(found.over_seeds(metric)[0]) else found


def measures_of(entry: MarketEntry) -> tuple[str, ...]:
    """Columns of metrics.csv that are kept of each trial."""
    return (*entry.measures, RETURN)


def print_standings(
    console: Console, standings: Sequence[Standing], seeds: int, steps: int, whose: str = "prosumer"
) -> None:
    """One line per configuration, best first; `whose`: what an agent is called."""
    table = Table(title="Sweep", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for heading in ("seeds\nfinished", "gains from trade\nshare", f"return per\n{whose}, token", "steps"):
        table.add_column(heading, justify="right", overflow="fold")
    for item in standings:
        reached = sum(one.env_steps for one in item.outcomes)
        table.add_row(
            item.configuration.name,
            Text(item.configuration.label or "as given"),  # brackets of a list are no markup
            f"{item.finished} of {seeds}",
            _shown(*item.over_seeds("eval_gains_share"), scale=100.0, unit=" %"),
            _shown(*item.over_seeds("eval_return")),
            "all" if item.finished == seeds else f"{reached / max(1, seeds * steps):.0%}",
        )
    console.print(table)
    for note in NOTES:
        console.print(note, style="dim", highlight=False, markup=False)


def _shown(mean: float, half: float | None, scale: float = 1.0, unit: str = "") -> str:
    if math.isnan(mean):
        return "n/a"
    spread = "" if half is None else f" ± {scale * half:,.1f}"
    return f"{scale * mean:,.1f}{spread}{unit}"


def write_csv(path: Path, outcomes: Sequence[Outcome], measures: Sequence[str]) -> None:
    """sweep.csv: a line per trial; settings in columns of their own, `set.` before those of the market."""
    agent = list(dict.fromkeys(name for item in outcomes for name in item.trial.configuration.agent))
    market = list(dict.fromkeys(name for item in outcomes for name in item.trial.configuration.market))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = (*agent, *(f"set.{name}" for name in market))
        writer.writerow(["configuration", "seed", "status", STEPS, *names, *measures])
        for item in outcomes:
            configuration = item.trial.configuration
            settings = [configuration.agent[name] for name in agent] + [configuration.market[name] for name in market]
            figures = [item.figures.get(name, "") for name in measures]
            writer.writerow([configuration.name, item.trial.seed, item.status, item.env_steps, *settings, *figures])


def summary(standing: Standing, measures: Sequence[str]) -> dict[str, Any]:
    """One configuration for summary.json."""
    means = {name: standing.over_seeds(name) for name in measures}
    return {
        "name": standing.configuration.name,
        "agent": standing.configuration.agent,
        "market": standing.configuration.market,
        "finished": standing.finished,
        "mean": {name: mean for name, (mean, _) in means.items()},
        "interval": {name: half for name, (_, half) in means.items()},
        "trials": {
            str(item.trial.seed): {"status": item.status, STEPS: item.env_steps, **item.figures}
            for item in standing.outcomes
        },
    }
