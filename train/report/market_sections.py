"""Sections that only the two-stage market's page has."""

from __future__ import annotations

from collections.abc import Sequence

from gridmarl.train.report.blocks import Block, Bullets, Cells, Figure, Folded, Paragraph, Section, Table, named
from gridmarl.train.report.parts import HourPart, OutcomePart
from gridmarl.train.report.play import View
from gridmarl.train.report.svg import Picture
from gridmarl.train.report.tables import balance_cells

VERDICT_REMARK = (
    "Gains from trade: welfare beyond no market; the share is of what the aggregator gains. ± is the half-width of a "
    "95 % interval: over episodes, or over seeds where a policy has several. Beyond truthful: the difference within "
    "the same episodes, and its interval over them."
)


def prices_section(outcomes: Sequence[OutcomePart]) -> Section:
    """Market prices beside the price at which the aggregator breaks even."""
    blocks = [block for part in outcomes if part.price for block in named([Figure(part.price)], part.name)]
    return Section("prices", "Prices", blocks, "Price against billing cost")


def loads_section(outcomes: Sequence[OutcomePart]) -> Section:
    """What demand response did to the load."""
    blocks = [block for part in outcomes if part.load for block in named([Figure(part.load)], part.name)]
    return Section("loads", "Loads", blocks, "Loads before and after stage 2")


def markets_section(hours: Sequence[HourPart], chosen_by: str) -> Section:
    """Supply and demand of some hours; `chosen_by`: the policy that they are chosen by."""
    told = f"All of the first held-out episode; the hours are chosen by what {chosen_by} does in it."
    blocks: list[Block] = [Paragraph(told)]
    for hour in hours:
        blocks += named([Figure(hour.picture)], hour.name)
    return Section("markets", "Market curves", blocks, "Market curves of chosen hours")


def balances_section(made: Picture | None, views: Sequence[View], outcomes: Sequence[OutcomePart]) -> Section:
    """Who gained and paid what, and that no money was made."""
    blocks: list[Block] = [Figure(made)] if made else []
    if views:
        residual = "The residual is the greatest sum over all accounts of any of the episodes, to the last µtok: 0, or "
        blocks += [Table(balance_cells(views)), Paragraph(f"{residual}money was made or lost.", small=True)]
    for part in outcomes:
        blocks += named([Table(part.operator)], part.name) if part.operator else []
    return Section("balances", "Balances", blocks)


def results_section(outcomes: Sequence[OutcomePart], notes: Sequence[str]) -> Section:
    """Every column of every row; `notes` say what they mean."""
    blocks = [block for part in outcomes for block in named([Table(item) for item in part.tables], part.name)]
    return Section("results", "All results", [*blocks, Folded("What the columns mean", [Bullets(notes)])])


def exploitability_section(cells: Cells) -> Section:
    """Gains of deviating alone."""
    told = (
        "What one prosumer gains by deviating alone from the policy that all others keep to, token per episode, summed "
        "over prosumers."
    )
    return Section("exploitability", "Exploitability", [Paragraph(told), Table(cells, "Exploitability")])
