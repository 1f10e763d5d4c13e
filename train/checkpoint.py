"""Checkpoints: written whole or not at all, read without running any code from the file."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any, cast

import blake3
import torch
from torch import Tensor

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


def tree_hash(tree: Any) -> str:
    """BLAKE3 of a tree of tensors and plain values, in hexadecimal: equal for equal bits, on whatever device."""
    hasher = blake3.blake3()
    _feed(hasher, tree, "")
    return hasher.hexdigest()


def _feed(hasher: blake3.blake3, tree: Any, path: str) -> None:
    if isinstance(tree, dict):
        for key in sorted(tree, key=str):
            _feed(hasher, tree[key], f"{path}/{key}")
    elif isinstance(tree, list | tuple):
        for index, item in enumerate(tree):
            _feed(hasher, item, f"{path}/{index}")
    elif isinstance(tree, Tensor):
        hasher.update(f"{path} {tree.dtype} {tuple(tree.shape)}\n".encode())
        flat = tree.detach().cpu().contiguous().flatten()
        hasher.update(flat.view(torch.uint8).numpy().tobytes())
    else:
        hasher.update(f"{path} {tree!r}\n".encode())
