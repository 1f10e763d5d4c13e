"""A report made once and shown twice: sections of sentences and tables, in the terminal and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table

from gridmarl.train.tables import TEXT_WIDTH

PAGE_WIDTH = 140


@dataclass(frozen=True)
class Grid:
    """A table; headings may hold line breaks. The first `labels` columns are text, the rest numbers."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1


@dataclass(frozen=True)
class Section:
    """A heading, and paragraphs, bullets (lists of sentences) and tables in the order in which they are read."""

    title: str
    parts: tuple[str | tuple[str, ...] | Grid, ...] = field(default_factory=tuple)


def print_sections(console: Console, sections: Sequence[Section]) -> None:
    """To the terminal."""
    for section in sections:
        console.print(section.title, style="bold", highlight=False, markup=False)
        console.print()
        for part in section.parts:
            if isinstance(part, Grid):
                console.print(_rich(part))
                continue
            for line in _lines(part, TEXT_WIDTH):
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            console.print()


def _rich(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, heading in enumerate(grid.headings):
        table.add_column(heading, justify="left" if place < grid.labels else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*row)
    return table


def markdown(sections: Sequence[Section]) -> str:
    """As Markdown, each section under a heading of the second level."""
    lines: list[str] = []
    for section in sections:
        lines += [f"## {section.title}", ""]
        for part in section.parts:
            lines += _grid_lines(part) if isinstance(part, Grid) else _lines(part, PAGE_WIDTH)
            lines.append("")
    return "\n".join(lines)


def _lines(part: str | tuple[str, ...], width: int) -> list[str]:
    """Paragraph or bullets, wrapped."""
    if isinstance(part, str):
        return textwrap.wrap(part, width, break_long_words=False, break_on_hyphens=False)
    return [
        line
        for sentence in part
        for line in textwrap.wrap(
            sentence, width, initial_indent="* ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    ]


def _grid_lines(grid: Grid) -> list[str]:
    headings = [heading.replace("-\n", "").replace("\n", " ") for heading in grid.headings]
    rules = ["---" if place < grid.labels else "---:" for place in range(len(headings))]
    rows = [headings, rules, *grid.rows]
    return ["| " + " | ".join(cell or " " for cell in row) + " |" for row in rows]
