"""What every figure needs beside it to be measured again, and the CSV that holds both."""

from __future__ import annotations

import csv
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def provenance(module: str, arguments: Sequence[str], *, seed: int = 0, device: str = "cpu") -> dict[str, object]:
    """Seed, machine, versions, commit, date and command of `python -m benchmarks.<module>`."""
    kind = torch.device(device)
    return {
        "seed": seed,
        "device": torch.cuda.get_device_name(kind) if kind.type == "cuda" else kind.type,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "load_before": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", f"benchmarks.{module}", *arguments]),
    }


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit, with `+` if tracked source files differ from it."""
    try:
        commit, changed = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "--", "*.py"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def rounded(row: Any, digits: int) -> dict[str, Any]:
    """Fields of a dataclass instance, floats to so many digits."""
    return {name: round(value, digits) if isinstance(value, float) else value for name, value in vars(row).items()}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], origin: Mapping[str, object]) -> None:
    """One line per row, its own columns first, provenance in every line (a row's value comes before the origin's)."""
    lines = [{**row, **{name: value for name, value in origin.items() if name not in row}} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
