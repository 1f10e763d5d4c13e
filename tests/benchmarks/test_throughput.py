"""The throughput benchmark runs, and its figures say where they come from. No timing is asserted."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.throughput import Options, main

MEASURED = {
    "interface",
    "mode",
    "ledger",
    "lanes",
    "prosumers",
    "repeats",
    "steps_per_repeat",
    "steps_per_s",
    "slowest_steps_per_s",
    "fastest_steps_per_s",
    "agent_steps_per_s",
}
PROVENANCE = {
    "seed",
    "device",
    "threads",
    "cores",
    "cpu",
    "load_before",
    "torch",
    "python",
    "commit",
    "date",
    "command",
}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_quick_run_of_the_script(repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "rates.csv"
    command = [sys.executable, "-m", "benchmarks.throughput", "--quick", "--output", str(out)]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "agent-steps/s" in done.stdout
    rows = read(out)
    assert set(rows[0]) == MEASURED | PROVENANCE
    cases = [(row["interface"], row["mode"], row["ledger"], row["lanes"]) for row in rows]
    ledgers = ("off", "accounts", "batch", "sealed")
    levels = [("batched", "eager", ledger, lanes) for lanes in ("1", "4") for ledger in ledgers]
    assert cases == [("pettingzoo", "eager", "accounts", "1"), *levels]
    for row in rows:
        assert all(row[name] for name in MEASURED | PROVENANCE), row
        assert re.fullmatch(r"[0-9a-f]{40}\+?|unknown", row["commit"])
        assert row["command"] == f"python -m benchmarks.throughput --quick --output {out}"
        rate = float(row["steps_per_s"])
        assert 0 < float(row["slowest_steps_per_s"]) <= rate <= float(row["fastest_steps_per_s"])
        agents = int(row["lanes"]) * int(row["prosumers"])
        rounding = 0.5 + 0.005 * agents  # of this figure to whole numbers, of `steps_per_s` to hundredths
        assert int(row["agent_steps_per_s"]) == pytest.approx(agents * rate, abs=rounding, rel=1e-9)


def test_options_reach_the_figures(tmp_path: Path) -> None:
    out = tmp_path / "new" / "rates.csv"
    options = Options(
        lanes=(2,),
        prosumers=3,
        pettingzoo_prosumers=(),
        ledgers=("off",),
        modes=("eager",),
        repeats=2,
        repeat_seconds=0.0,
        seed=7,
        output=out,
    )
    (rate,) = main(options, [])
    (row,) = read(out)
    assert (row["lanes"], row["prosumers"], row["seed"], row["repeats"]) == ("2", "3", "7", "2")
    assert rate.steps_per_repeat == 48
