"""Child processes as a stranger's shell would start them: no module path, no virtual environment, no make flags."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_DROPPED = ("PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS", "PYTEST", "COV_", "HYPOTHESIS")


def clean_environment() -> dict[str, str]:
    """The caller's environment without what would change which Python code is found or how make runs."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}


def run(
    command: Sequence[str | Path], cwd: Path, *, env: dict[str, str] | None = None, timeout_s: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Run to the end and keep both outputs; the exit code is the caller's to judge."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environment() if env is None else env,
        timeout=timeout_s,
        capture_output=True,
        text=True,
        check=False,
    )


def succeed(command: Sequence[str | Path], cwd: Path, *, env: dict[str, str] | None = None) -> str:
    """Standard output of a command that must exit with 0; on failure the assertion shows both outputs."""
    result = run(command, cwd, env=env)
    shown = " ".join(str(part) for part in command)
    assert result.returncode == 0, f"{shown}: exit {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def python_here(code: str, cwd: Path) -> str:
    """Standard output of `code` in this interpreter, started afresh in `cwd` with warnings as errors."""
    return succeed([sys.executable, "-W", "error", "-c", code], cwd)
