"""What a page is made of: sections of blocks, each drawn by the template by its `kind`. Text is text, never markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.table import Table as RichTable

from gridmarl.train.report.svg import Picture


@dataclass(frozen=True)
class Cells:
    """A table of text; the first cell of a line is its heading.

    Attributes:
        left: columns that hold words, so are not aligned to the right.
        strong: lines to point out, by number.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    left: frozenset[int] = frozenset({0})
    strong: frozenset[int] = frozenset()


def from_rich(table: RichTable) -> Cells:
    """The same cells; headings that were broken to be narrow in a terminal are whole again."""
    headings = [str(column.header).replace("-\n", "").replace("\n", " ") for column in table.columns]
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    left = frozenset(index for index, column in enumerate(table.columns) if column.justify == "left")
    return Cells(str(table.title or ""), headings, list(zip(*columns, strict=True)), left | {0})


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `small`: a remark below something."""

    text: str
    small: bool = False
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Heading:
    """A heading below the section's."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences; `verdict`: those that say what was found."""

    lines: Sequence[str]
    verdict: bool = False
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Figure:
    """A picture with its caption."""

    picture: Picture
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Table:
    """A table in a box that scrolls by itself.

    Attributes:
        label: what it is, for readers who do not see it; without: its title, which is shown above it.
        settings: cells are words that may break.
    """

    cells: Cells
    label: str = ""
    settings: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Folded:
    """Blocks that open on demand."""

    summary: str
    blocks: Sequence[Any]
    kind: ClassVar[str] = "folded"


@dataclass(frozen=True)
class Command:
    """A command line."""

    text: str
    kind: ClassVar[str] = "command"


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    pairs: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "facts"


Block = Paragraph | Heading | Bullets | Figure | Table | Folded | Command | Facts


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: its id in the page.
        name: in the list of sections.
        heading: above its blocks; the name where empty.
    """

    anchor: str
    name: str
    blocks: Sequence[Block]
    heading: str = ""


@dataclass(frozen=True)
class Content:
    """What the page's template is filled with.

    Attributes:
        sentence: what was played, by whom, beside what.
        notes: what a reader must know before all else.
        first: sections on the first screen, before the list of all others.
        warnings: a line for each ledger that does not verify.
    """

    title: str
    sentence: str
    notes: Sequence[str]
    first: Sequence[Section]
    sections: Sequence[Section]
    warnings: Sequence[str] = ()


def named(blocks: Sequence[Block], name: str) -> list[Block]:
    """Blocks under a heading of their own, if there is a name."""
    return [*([Heading(name)] if name else []), *blocks]
