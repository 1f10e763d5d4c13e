"""Which processes a command has started, and whether they are gone (Linux: read from /proc)."""

from __future__ import annotations

from pathlib import Path

Process = tuple[int, str]
"""Id, and when it began, which tells it from a later one with this id."""


def descendants(root: int) -> set[Process]:
    """All processes that a process has started, directly or not."""
    parents: dict[int, int] = {}
    began: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parts = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if parts[0] != "Z":
            parents[int(folder.name)], began[int(folder.name)] = int(parts[1]), parts[19]
    found, waiting = set(), [root]
    while waiting:
        parent = waiting.pop()
        children = [child for child, its_parent in parents.items() if its_parent == parent]
        found |= {(child, began[child]) for child in children}
        waiting += children
    return found


def alive(processes: set[Process]) -> set[Process]:
    """Those of some processes that still run."""
    left = set()
    for number, began in processes:
        try:
            parts = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if parts[0] != "Z" and parts[19] == began:
            left.add((number, began))
    return left
