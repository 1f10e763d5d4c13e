"""Running the command line in this process, small enough for a test."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridmarl.cli import main

SMALL_MARKET = ("--days", "1", "--set", "num_prosumers=3")
SMALL_LEARNER = ("--agent-set", "hidden=[8]", "batch_size=8", "learning_starts=16", "replay_capacity=200")
COMPARE = ("compare", "two-stage-dr", *SMALL_MARKET, "--lanes", "2", "--train-steps", "48", "--train-lanes", "4")
TRAIN = ("train", "two-stage-dr", *SMALL_MARKET, "--steps", "240", "--lanes", "4", "--eval-lanes", "2",
         "--eval-every", "96", "--checkpoint-every", "96", *SMALL_LEARNER)  # fmt: skip
TIMING = ("seconds", "steps_per_s")


@dataclass(frozen=True)
class Outcome:
    """What a user sees."""

    code: int
    out: str
    err: str


def gridmarl(*arguments: object) -> Outcome:
    """Run the command with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


def same_keys(source: Path, folder: Path) -> None:
    """Give a run the keys of another, so that the same seed gives the same signed ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "keys.json", folder / "keys.json")


def strict_json(path: Path) -> Any:
    """A JSON file without NaN or Infinity, which Python's reader would let pass."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{path}: {text} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def files(folder: Path) -> set[str]:
    """Names of all files in a folder, TensorBoard's aside."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {name.as_posix() for name in names if "tensorboard" not in name.parts}
