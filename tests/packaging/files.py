"""The files of the repository, each once: the links inside `gridmarl/` and everything git ignores are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_FOLDERS_LEFT_OUT = {"__pycache__", "runs", "dist", "build", "node_modules"}
_HIDDEN_FOLDERS_KEPT = {".ci", ".github"}
_TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".sh", ".json", ".cfg", ".ini", ".vy", ".ipynb"}
_TEXT_NAMES = {"Makefile", "LICENSE", ".gitignore", "run"}


def repository_files(root: Path) -> Iterator[Path]:
    """Every file of the repository; never through a link, never from a hidden, cache or output folder."""
    for folder, subfolders, names in os.walk(root, followlinks=False):
        here = Path(folder)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if name not in _FOLDERS_LEFT_OUT
            and not name.endswith(".egg-info")
            and (not name.startswith(".") or name in _HIDDEN_FOLDERS_KEPT)
            and not (here / name).is_symlink()
        )
        for name in sorted(names):
            if not (here / name).is_symlink():
                yield here / name


def python_files(root: Path) -> list[Path]:
    """Every Python source of the repository."""
    return [path for path in repository_files(root) if path.suffix == ".py"]


def text_files(root: Path) -> list[Path]:
    """Every file that a person reads as text, sources included."""
    return [path for path in repository_files(root) if path.suffix in _TEXT or path.name in _TEXT_NAMES]
