"""Whether torch.compile can work here: it needs a compiler when it runs."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import torch


def missing_compiler(device: torch.device) -> str | None:
    """What torch.compile would need on this device and does not find; None if all is there."""
    if device.type == "cuda":
        return None if find_spec("triton") else "no triton"
    wanted = os.environ.get("CXX", "g++")
    return None if shutil.which(wanted) else f"no C++ compiler ({wanted})"
