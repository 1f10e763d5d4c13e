"""What of a report takes time, one part after the other: figures, and ledgers that are verified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gridmarl.train.figures import colours_of
from gridmarl.train.report.blocks import Cells
from gridmarl.train.report.figures import balances_picture, load_picture, market_picture, price_picture
from gridmarl.train.report.learning import Curves, diagnostics_picture, learning_picture
from gridmarl.train.report.ledgers import LedgerCheck, check_ledger
from gridmarl.train.report.play import ChosenHour, View
from gridmarl.train.report.source import Levels, Outcome
from gridmarl.train.report.svg import Picture
from gridmarl.train.report.tables import operator_cells, result_tables


@dataclass(frozen=True)
class Played:
    """Runs that could play, and what they did."""

    outcome: Outcome
    views: Sequence[View]
    hours: Sequence[ChosenHour]


@dataclass(frozen=True)
class OutcomePart:
    """An outcome as the page shows it."""

    name: str
    price: Picture | None
    load: Picture | None
    operator: Cells | None
    tables: Sequence[Cells]


@dataclass(frozen=True)
class HourPart:
    """Market curves of one hour."""

    name: str
    picture: Picture


@dataclass(frozen=True)
class Parts:
    """What takes time to draw or to verify, one by one."""

    found: Sequence[Outcome]
    played: Played | None
    curves: Curves
    levels: Levels
    episodes: str
    files: Mapping[str, Path]

    @property
    def count(self) -> int:
        hours = len(self.played.hours) if self.played else 0
        return len(self.found) + hours + len(self.files) + 3

    def outcomes(self, advance: Callable[[], None]) -> list[OutcomePart]:
        parts = []
        for outcome in self.found:
            known = set(outcome.trained) <= set(self.curves)
            colours = colours_of(list(self.curves) if known else outcome.trained)
            parts.append(
                OutcomePart(
                    name=outcome.name,
                    price=price_picture(outcome, colours) if outcome.profiles else None,
                    load=load_picture(outcome, colours) if outcome.profiles else None,
                    operator=operator_cells(outcome),
                    tables=list(result_tables(outcome)),
                )
            )
            advance()
        return parts

    def learning(self, advance: Callable[[], None]) -> Picture | None:
        made = learning_picture(self.curves, self.levels, self.episodes)
        advance()
        return made

    def diagnostics(self, advance: Callable[[], None]) -> Picture | None:
        made = diagnostics_picture(self.curves)
        advance()
        return made

    def hours(self, advance: Callable[[], None]) -> list[HourPart]:
        parts = []
        for hour in self.played.hours if self.played else ():
            assert self.played is not None
            parts.append(HourPart(hour.name, market_picture(hour, self.played.views)))
            advance()
        return parts

    def balances(self, advance: Callable[[], None]) -> Picture | None:
        made = balances_picture(self.played.views) if self.played else None
        advance()
        return made

    def ledgers(self, advance: Callable[[], None]) -> list[LedgerCheck]:
        checks = []
        for name, path in self.files.items():
            checks.append(check_ledger(name, path))
            advance()
        return checks
