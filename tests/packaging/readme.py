"""The README's fenced blocks, and what becomes of each: nothing a reader is told to type goes untried.

* `python`: run as a program of its own, in an empty folder, warnings as errors.
* `bash`: every command, in order, in one folder shared by all of them. `make TARGET` must be a step of .ci/run, and a
  command that one of those targets runs word for word is run there too. Every other command is run here, with the
  options of `SMALLER` appended where it would take minutes: they may make a run shorter, nothing else.
* `text`: output or a picture; not run. Any other language is an error, so that no block slips through.

A command that reads the real data files names them below `$GRIDMARL_DATA`; it is skipped where there are none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RUN_LANGUAGES = ("bash", "python")
OTHER_LANGUAGES = ("text",)
_SMALL_RUN = "--steps 1280 --lanes 32 --eval-lanes 2 --eval-every 640 --checkpoint-every 640"
SMALLER: dict[str, str] = {
    "gridmarl train": _SMALL_RUN,
    "torchrun --nproc-per-node 2 -m gridmarl train": _SMALL_RUN,
    "gridmarl sweep": "--steps 640 --lanes 32 --eval-lanes 2",
    "gridmarl compare": "--train-steps 640 --train-lanes 32 --lanes 2",
    "gridmarl compare p2p": "--lanes 2",
}
_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and the line of the file on which it begins."""

    language: str
    text: str
    line: int


def fenced_blocks(markdown: str) -> list[Block]:
    """Every fenced block, in order, without the indentation of its fence."""
    return [
        Block(
            language=match[2].strip(),
            text="\n".join(line.removeprefix(match[1]) for line in match[3].splitlines()),
            line=markdown.count("\n", 0, match.start()) + 1,
        )
        for match in _FENCE.finditer(markdown)
    ]


def shell_commands(text: str) -> list[str]:
    """Commands of a bash block: continued lines joined, comments, prompts and empty lines left out."""
    joined = re.sub(r"\\\n\s*", "", text)
    commands = (re.sub(r"(^|\s)#.*$", "", line).strip().removeprefix("$ ").strip() for line in joined.splitlines())
    return [command for command in commands if command]


def smaller(command: str, table: dict[str, str]) -> str:
    """The command with the options of the longest entry of `table` that it begins with appended."""
    entries = [begin for begin in table if command == begin or command.startswith(begin + " ")]
    return f"{command} {table[max(entries, key=len)]}" if entries else command


def ci_targets(root: Path) -> list[str]:
    """The make targets that .ci/run runs."""
    return re.findall(r"^step make (\w+)$", (root / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
