"""What a command writes into its run folder besides results: how to repeat the run, and strict JSON."""

from __future__ import annotations

import json
import math
import platform
import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import torch
from torch import Tensor

import gridmarl
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.checkpoint import write_atomically
from gridmarl.train.options import DEFAULT_REGION, MarketOptions


def write_json(path: Path, content: Any) -> None:
    """Indented JSON, written whole or not at all; numbers that JSON does not have (NaN) become null."""
    text = json.dumps(without_nan(content), indent=2, default=str, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def without_nan(value: Any) -> Any:
    """JSON has no NaN: None instead."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe_scenario(options: MarketOptions, scenario: Scenario) -> dict[str, Any]:
    """Which prices and homes: what was asked for, and a fingerprint of what was found."""
    return {
        "name": scenario.name,
        "region": options.region or DEFAULT_REGION,
        "start": options.start,
        "days": options.num_days,
        "fingerprint": fingerprint(scenario),
    }


def describe_run(options: MarketOptions) -> dict[str, Any]:
    """The options of the command as text and numbers, and the versions that ran it."""
    return {
        "gridmarl_version": gridmarl.__version__,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__},
        "options": json.loads(json.dumps(asdict(options), default=str)),
    }


def fingerprint(scenario: Scenario) -> str:
    """BLAKE3 over the tables of a scenario, in hexadecimal: equal data, wherever their files lay."""
    hasher = blake3.blake3()
    for item in fields(scenario):
        value = getattr(scenario, item.name)
        if isinstance(value, Tensor):
            hasher.update(f"{item.name} {tuple(value.shape)}".encode())
            hasher.update(value.cpu().contiguous().numpy().tobytes())
    return hasher.hexdigest()


def remove_earlier(folder: Path) -> None:
    """What an earlier comparison left in the same folder, so that no file of it passes for one of this."""
    for pattern in ("ledger*.bin", "checkpoint-*.pt", "metrics.csv", "overuse.csv", "summary.json", "figures/*.png"):
        for path in folder.glob(pattern):
            path.unlink()
    for path in folder.glob("deep-q*"):
        shutil.rmtree(path)
