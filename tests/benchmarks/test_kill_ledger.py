"""A few of the SIGKILLs of `benchmarks.kill_ledger`, one at every kind of moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KILLS = 6


def test_killed_runs_lose_no_acknowledged_block(repository: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.kill_ledger", "--kills", str(KILLS), "--cli", "0", "--steps", "240"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    heading, *moments, total = rows
    assert heading == [
        "moment",
        "kills",
        "cli",
        "before any",
        "acknowledged",
        "beyond",
        "not verified",
        "lost",
        "changed",
    ]
    assert len(moments) == 6
    assert [int(cell) for cell in total[1:3]] == [KILLS, 0]
    assert int(total[4]) > 0
    assert [int(cell) for cell in total[6:]] == [0, 0, 0]
