"""Checkpoints: written whole or not at all, read without running any code from the file."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any, cast

import torch

from gridmarl.errors import DataError

CHECKPOINT_FILE = "checkpoint.pt"
BEST_FILE = "best.pt"
FORMAT = 1


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write beside `path`, flush to the disk, rename over it: a reader sees the old file or the new, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Save a tree of tensors, numbers, strings, lists and dicts."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, buffer.getbuffer())


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint onto `device` (only tensors and plain values: `weights_only`).

    Raises:
        DataError: the file is missing, damaged, holds anything else, or has another format number.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: not a readable checkpoint: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        seen = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise DataError(f"{path}: checkpoint format {seen!r}; allowed is {FORMAT}")
    return cast(dict[str, Any], state)
