"""Settings of every test run: one thread per worker, and Hypothesis draws that are the same on every machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Two pytest-xdist workers with a full thread pool each get in each other's way; set before torch is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# `deadline` and `too_slow` measure the machine, not the code. HYPOTHESIS_PROFILE=explore draws afresh on every run.
settings.register_profile("fixed", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return _ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with the real price, household and EV files; skips where there is none."""
    folder = Path(os.environ.get("GRIDMARL_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data files: set GRIDMARL_DATA to their folder")
    return folder
