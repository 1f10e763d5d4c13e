"""Sections that the page of every environment has: learning, diagnostics, how to reproduce, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from gridmarl.train.report.blocks import Command, Facts, Figure, Folded, Heading, Paragraph, Section, Table
from gridmarl.train.report.reproduce import compare_command, provenance, settings_tables, train_command
from gridmarl.train.report.source import Comparison, state_of
from gridmarl.train.report.svg import Picture
from gridmarl.train.report.verdict import counted
from gridmarl.train.runs import Run
from gridmarl.train.train_options import Train


def notes_on(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> list[str]:
    """What a reader must know about what has not come to its end."""
    notes = [note for run in runs for note in state_of(run)]
    return notes + [f"{item.name} was interrupted." for item in comparisons if item.summary.get("interrupted")]


def evaluated_on(runs: Sequence[Run], judged_seed: int | None, other: str) -> str:
    """Which episodes the learning curves are of, and that the verdict's are others.

    Args:
        judged_seed: of the verdict's episodes; None: there is no verdict.
        other: what is different in those, which is why the two differ.
    """
    seeds = {run.config.eval_seed for run in runs if run.config.eval_interval}
    lanes = {run.config.options.get("eval_lanes", Train.eval_lanes) for run in runs}
    if len(seeds) != 1 or len(lanes) != 1:
        return ""
    told = f"Evaluated on {counted(int(lanes.pop()), 'validation episode')} (seed {seeds.pop()}), the same every time"
    if judged_seed is None:
        return f"{told}."
    return f"{told}; the verdict is on other episodes (seed {judged_seed}), {other}, so the two differ."


def learning_section(made: Picture | None) -> Section:
    """Learning curves, or that there is nothing to draw."""
    nothing = Paragraph("The metrics of training hold neither evaluations nor returns.")
    return Section("learning", "Learning", [Figure(made) if made else nothing])


def diagnostics_section(made: Picture) -> Section:
    """All other metrics."""
    return Section("diagnostics", "Diagnostics", [Figure(made)], "Learning diagnostics")


@dataclass(frozen=True)
class Origin:
    """How one folder came to be: a command, and what ran on which data."""

    name: str
    command: str
    facts: Sequence[tuple[str, str]]


def reproduce_section(named: Mapping[str, Run], comparisons: Sequence[Comparison], command: str) -> Section:
    """The commands that make the folders again, and the one that makes the page."""
    origins = [Origin(name, train_command(run), provenance(asdict(run.config))) for name, run in named.items()]
    origins += [Origin(item.name, *compare_command(item)) for item in comparisons]
    blocks: list[Heading | Command | Facts] = []
    for origin in origins:
        blocks += [Heading(origin.name), Command(origin.command), Facts(origin.facts)]
    return Section("reproduce", "How to reproduce", [*blocks, Heading("This page"), Command(command)])


def settings_section(named: Mapping[str, Run]) -> Section:
    """Settings of each run beside the defaults."""
    tables = [cells for cells in settings_tables(named) if cells.lines]
    blocks = [Folded(f"{item.title} ({len(item.lines)})", [Table(item, item.title, settings=True)]) for item in tables]
    return Section("settings", "Settings", blocks)
