"""What a report is about: runs of `gridmarl train`, finished or not, and folders of `gridmarl compare`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridmarl.errors import ConfigError, DataError
from gridmarl.train.checkpoint import CHECKPOINT_FILE
from gridmarl.train.comparison import UTOK_PER_WH_PER_TOKEN_PER_KWH, Profile, Row
from gridmarl.train.config import CONFIG_FILE
from gridmarl.train.markets import MarketEntry, market_entry
from gridmarl.train.options import MarketOptions
from gridmarl.train.runs import Kept, Run, load_run, read_object

SUMMARY_FILE = "summary.json"
REFERENCES = ("no market", "zero-intelligence", "truthful", "inflate", "aggregator")
Levels = dict[str, dict[str, float]]
"""By unit of a learning curve, what each reference reaches."""


@dataclass(frozen=True)
class Outcome:
    """Policies that played the same episodes of one market.

    Attributes:
        name: tells several outcomes of a page apart.
        lanes: episodes; 0: not known.
        upstream: import and export price, `[T]`, µtok/Wh, means over the episodes; None: not kept.
    """

    name: str
    rows: Sequence[Row]
    profiles: Mapping[str, Profile]
    by_seed: Mapping[str, Mapping[int, Row]]
    lanes: int
    upstream: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    @property
    def trained(self) -> list[str]:
        """Names of the profiles that are no reference's."""
        return [name for name in self.profiles if name not in REFERENCES]


@dataclass(frozen=True)
class Comparison:
    """The folder of a comparison; `outcomes` and `ledgers` are the two-stage market's."""

    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def market(self) -> MarketEntry:
        """What its environment brings to the commands; ConfigError where that environment is not installed."""
        return market_entry(str(self.config.get("options", {}).get("env", MarketOptions.env)))

    def outcomes(self) -> list[Outcome]:
        """One for each reading of the demand-response incentive that came to its end.

        Raises:
            DataError: summary.json does not hold what a comparison writes; names the field.
        """
        rows, hourly = self.summary.get("rows", {}), self.summary.get("hourly", {})
        if isinstance(rows, list):
            return [self._outcome("", rows, hourly, self.summary.get("rows_by_seed", {}))]
        readings = self._object("rows", rows)
        return [
            self._outcome(f"dr_settlement = {reading}", found, self._object("hourly", hourly).get(reading, {}), {})
            for reading, found in readings.items()
            if isinstance(found, list) and found and found[-1].get("name") == "aggregator"
        ]

    def _outcome(self, name: str, rows: Any, hourly: Any, by_seed: Any) -> Outcome:
        kept = [self._row("rows", item) for item in rows]
        profiles = {key: self._profile(key, value) for key, value in self._object("hourly", hourly).items()}
        seeds = {
            key: {int(seed): self._row("rows_by_seed", item) for seed, item in self._object(key, found).items()}
            for key, found in self._object("rows_by_seed", by_seed).items()
        }
        return Outcome(name, kept, profiles, seeds, max((len(row.welfare_by_lane_tok) for row in kept), default=0))

    def _row(self, where: str, values: Any) -> Row:
        try:
            return Row(**values)
        except TypeError as error:
            raise self._refusal(where, f"{error}; allowed is a row as this version writes them") from error

    def _profile(self, name: str, values: Any) -> Profile:
        try:
            series = [np.array(values[key], dtype=np.float64) for key in _HOURLY]
        except (KeyError, TypeError, ValueError) as error:
            raise self._refusal(f"hourly.{name}", f"{error!r}; allowed are lists {', '.join(_HOURLY)}") from error
        return Profile(series[0] * UTOK_PER_WH_PER_TOKEN_PER_KWH, series[1], series[2])

    def _object(self, where: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._refusal(where, f"{type(value).__name__}; allowed is an object")
        return value

    def _refusal(self, where: str, what: str) -> DataError:
        return DataError(f"{self.folder / SUMMARY_FILE}: {where}: {what}")

    def training_folders(self) -> dict[str, Path]:
        """Where its deep-Q agents were trained, by name: those of each reading, or the only ones."""
        found = sorted(path.parent for path in self.folder.glob(f"deep-q*/{CONFIG_FILE}"))
        return {path.name.replace("deep-q-", "deep Q, ").replace("deep-q", "deep Q"): path for path in found}

    def ledgers(self) -> list[Path]:
        """Its ledger files."""
        return sorted(self.folder.glob("ledger*.bin"))


_HOURLY = ("price_tok_per_kwh", "load_before_kwh", "load_after_kwh")


@dataclass(frozen=True)
class Sources:
    """The folders of a report, told apart; each in the order given."""

    runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]

    def market(self) -> MarketEntry:
        """Their environment.

        Raises:
            ConfigError: they are of different ones; names two folders.
        """
        first, *others = self.runs + self.comparisons
        for other in others:
            if other.market.env != first.market.env:
                raise ConfigError(
                    f"{first.folder} is of {first.market.env}, {other.folder} of {other.market.env}; allowed are "
                    "folders of one environment"
                )
        return first.market


@dataclass
class Wanted:
    """What the command line asks for beyond the folders.

    Attributes:
        command: that makes the page again.
        lanes: episodes; None: as many as the run's own comparison had.
        hours: whose market curves are drawn; empty: chosen by what happens in them.
    """

    market: MarketOptions
    command: str
    lanes: int | None = None
    hours: Sequence[int] = ()
    kept: Kept = "last"


def read_sources(folders: Sequence[Path]) -> Sources:
    """Read the folders of a report.

    Raises:
        DataError: one that is neither of a training run nor of a comparison; names what is missing.
    """
    runs, comparisons = [], []
    for folder in folders:
        config = folder / CONFIG_FILE
        content = read_object(config) if config.is_file() else {}
        if content.get("command") == "compare":
            summary = folder / SUMMARY_FILE
            if not summary.is_file():
                raise DataError(f"{folder}: holds no {SUMMARY_FILE}; allowed is a comparison that has come to its end")
            comparisons.append(Comparison(folder, content, read_object(summary)))
        else:
            runs.append(load_run(folder))
    return Sources(tuple(runs), tuple(comparisons))


def seeds_with_policy(run: Run) -> set[int]:
    """Seeds whose last policy was kept; a run that was stopped early may have none."""
    return {seed.seed for seed in run.seeds if (seed.folder / CHECKPOINT_FILE).is_file()}


def state_of(run: Run) -> Iterator[str]:
    """What a reader must know about a run that has not come to its end, one sentence each; none if it has."""
    planned = read_object(run.folder / CONFIG_FILE).get("seeds") if (run.folder / CONFIG_FILE).is_file() else None
    missing = sorted(set(planned or []) - {seed.seed for seed in run.seeds})
    if missing:
        yield f"{run.name}: nothing of seed {', '.join(map(str, missing))} was found; it had not begun."
    if run.summary and not run.summary.get("interrupted") and not missing:
        return
    done = [int(rows[-1]["env_steps"]) if (rows := seed.metrics) else 0 for seed in run.seeds]
    told = "was interrupted" if run.summary.get("interrupted") else "has not come to its end"
    steps = ", ".join(f"{count:,}" for count in done)
    yield f"{run.name} {told}: {steps} of {run.config.total_steps:,} steps{' by seed' if len(done) > 1 else ''}."
    without = sorted({seed.seed for seed in run.seeds} - seeds_with_policy(run))
    if without:
        yield f"{run.name}: no checkpoint yet of seed {', '.join(map(str, without))}, so no policy that could play."


def run_levels(run: Run, units: Sequence[str], work_out: Callable[[], Mapping[str, Any]]) -> Levels:
    """What the references reach in the evaluations of a run: as it wrote them down, or worked out if it was killed.

    Args:
        units: of the learning curves.
        work_out: plays and plans the run's evaluation episodes once more.

    Returns:
        Levels by unit; empty where the run makes no evaluations.
    """
    kept = run.summary.get("levels")
    if kept is None and any(row.get("eval_return") for seed in run.seeds for row in seed.metrics):
        kept = work_out()
    path = run.folder / SUMMARY_FILE
    return {unit: _numbers(path, unit, (kept or {}).get(unit, {})) for unit in units}


def _numbers(path: Path, unit: str, values: Any) -> dict[str, float]:
    if not isinstance(values, dict):
        raise DataError(f"{path}: levels.{unit}: {type(values).__name__}; allowed is an object")
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
