"""The verdict: each policy's share of the gains, and its welfare beyond truthful policies within the same episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gridmarl.metrics import mean_and_interval
from gridmarl.train.report.blocks import Bullets, Cells, Paragraph, Section, Table, named

TRUTHFUL = "truthful"


def counted(number: int, what: str) -> str:
    """A number and what it counts."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@dataclass(frozen=True)
class Judged:
    """One policy's row.

    Attributes:
        share: of the gains, as text.
        welfare_by_episode_tok: empty where it was not kept.
        trained: whether it is what the page is about.
    """

    name: str
    share: str
    welfare_tok: float
    welfare_by_episode_tok: Sequence[float]
    trained: bool


@dataclass(frozen=True)
class Beyond:
    """Welfare beyond truthful policies within the same episodes: mean, half-width of its 95 % interval, how often."""

    mean_tok: float
    width_tok: float
    better: int
    episodes: int

    def __str__(self) -> str:
        mean = f"{self.mean_tok:+,.1f}"
        mean = "0.0" if mean in ("+0.0", "-0.0") else mean
        return f"{mean} ± {self.width_tok:,.1f}" if self.episodes > 1 else mean


def beyond_truthful(rows: Sequence[Judged], row: Judged) -> Beyond | None:
    """None for the truthful policy itself, and where the episodes are not the same."""
    base = next((item for item in rows if item.name == TRUTHFUL), None)
    if base is None or row is base or len(row.welfare_by_episode_tok) != len(base.welfare_by_episode_tok):
        return None
    gain = np.array(row.welfare_by_episode_tok) - np.array(base.welfare_by_episode_tok)
    if not gain.size:
        return None
    return Beyond(*mean_and_interval(gain), int((gain > 0).sum()), gain.size)


@dataclass(frozen=True)
class Words:
    """What an environment calls the same things.

    Attributes:
        truthful: what the truthful policy does.
        gains: heading of the share.
        episode: what an episode is called.
    """

    truthful: str
    gains: str
    episode: str


def verdict_cells(rows: Sequence[Judged], words: Words) -> Cells:
    """One line per policy: share of the gains, welfare, and what it is beyond the truthful policy."""
    lines = []
    for row in rows:
        beyond = beyond_truthful(rows, row)
        difference = (str(beyond), f"{beyond.better} of {beyond.episodes}") if beyond else ("", "")
        lines.append((row.name, row.share, f"{row.welfare_tok:,.1f}", *difference))
    columns = ("policy", words.gains, "welfare, token", "beyond truthful, token", f"{words.episode}s better")
    return Cells("", columns, lines, strong=frozenset(index for index, row in enumerate(rows) if row.trained))


def verdict_lines(rows: Sequence[Judged], words: Words) -> Iterator[str]:
    """For each trained policy, whether its welfare can be told apart from the truthful policy's, and by how much."""
    for row in rows:
        beyond = beyond_truthful(rows, row) if row.trained else None
        if beyond is None:
            continue
        better = f"better in {beyond.better} of {counted(beyond.episodes, words.episode)}"
        told = f"({beyond} token per {words.episode}; {better})"
        if beyond.episodes < 2 or abs(beyond.mean_tok) <= beyond.width_tok:
            yield f"{row.name} cannot be told apart from {words.truthful} {told}."
        else:
            more = "more" if beyond.mean_tok > 0 else "less"
            yield f"{row.name} reaches {more} welfare than {words.truthful} {told}."


def verdict_section(outcomes: Sequence[tuple[str, Sequence[Judged]]], words: Words, remark: str) -> Section:
    """The first thing to read.

    Args:
        outcomes: name and rows of each.
        remark: what the columns mean.
    """
    blocks = []
    for name, rows in outcomes:
        sentences = list(verdict_lines(rows, words))
        found = [Bullets(sentences, verdict=True)] if sentences else []
        blocks += named([*found, Table(verdict_cells(rows, words), "Verdict")], name)
    last = Paragraph(remark, small=True) if outcomes else Paragraph(NOTHING_PLAYED)
    return Section("verdict", "Verdict", [*blocks, last])


NOTHING_PLAYED = "No policy could be played, so there is no comparison."
