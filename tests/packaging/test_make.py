"""The Makefile and the CI script: set-up, isolation from the caller's environment, and failures that are not lost."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.packaging.processes import clean_environment, run, succeed

TARGETS = ("demo", "test", "check", "bench", "clean")
SET_UP = ("Makefile", "pyproject.toml", "constraints.txt")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


@pytest.fixture
def bare(repository: Path, tmp_path: Path) -> Path:
    """A folder with what the set-up reads, and no environment yet."""
    for name in SET_UP:
        shutil.copy(repository / name, tmp_path)
    return tmp_path


def _script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def _pretend_installed(folder: Path, place: Path) -> None:
    """An environment that make takes for up to date, set up in `place`."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / ".installed").write_text(f"{place}\n", encoding="utf-8")


@pytest.mark.parametrize("target", TARGETS)
def test_target_exists_and_sets_itself_up(bare: Path, target: str) -> None:
    shown = succeed(["make", "-n", target], bare)
    assert ("-m venv" in shown) is (target != "clean")
    assert (" install " in shown) is (target != "clean")


@pytest.mark.parametrize("target", TARGETS)
def test_set_up_is_not_repeated(bare: Path, target: str) -> None:
    _pretend_installed(bare, bare)
    assert " install " not in succeed(["make", "-n", target], bare)


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_set_up_is_repeated_after_a_change(bare: Path, name: str) -> None:
    _pretend_installed(bare, bare)
    stamp = (bare / ".venv" / ".installed").stat()
    os.utime(bare / name, (stamp.st_mtime + 10, stamp.st_mtime + 10))
    assert " install " in succeed(["make", "-n", "test"], bare)


def test_set_up_is_repeated_in_a_folder_that_was_moved(bare: Path) -> None:
    _pretend_installed(bare, bare.parent / "elsewhere")
    shown = succeed(["make", "-n", "test"], bare)
    assert "rm -rf .venv\n" in shown
    assert " install " in shown


def test_missing_python_is_named(bare: Path) -> None:
    result = run(["make", "test", "PYTHON=no-such-python"], bare)
    assert result.returncode == 2
    assert "Python >= 3.11" in result.stderr
    assert "no-such-python" in result.stderr


def test_old_python_is_named(bare: Path) -> None:
    old = _script(bare / "old-python", '[ "$1" = --version ] && { echo Python 3.9.2; exit 0; }\nexit 1')
    result = run(["make", "test", f"PYTHON={old}"], bare)
    assert result.returncode == 2
    assert "needs Python >= 3.11" in result.stderr
    assert "Python 3.9.2" in result.stderr
    assert not (bare / ".venv").exists()


def test_failed_set_up_is_tried_again(bare: Path) -> None:
    """A wrong pin stops the installation; the next call must not take the half-made environment for a whole one."""
    (bare / "pyproject.toml").write_text("[build-system]\n", encoding="utf-8")
    (bare / "constraints.txt").write_text("hatchling==0.0.1\neditables==0.0.1\n", encoding="utf-8")
    environment = {**clean_environment(), "PIP_NO_INDEX": "1"}
    environment.pop("PIP_FIND_LINKS", None)
    result = run(["make", "test", f"PYTHON={sys.executable}"], bare, env=environment)
    assert result.returncode == 2
    assert not (bare / ".venv" / ".installed").exists()


def test_callers_python_settings_do_not_reach_the_commands(bare: Path) -> None:
    (bare / "show.mk").write_text("include Makefile\nshow:\n\t@env\n", encoding="utf-8")
    names = ["PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_USER"]
    environment = {**clean_environment(), **dict.fromkeys(names, "elsewhere")}
    shown = succeed(["make", "-f", "show.mk", "show"], bare, env=environment)
    assert not [name for name in names if f"{name}=" in shown]
    assert "PYTHONNOUSERSITE=1" in shown


def test_clean_leaves_runs_and_sources_alone(bare: Path) -> None:
    for folder in (".venv", "dist", "gridmarl/__pycache__", "runs/demo", "runs/mine"):
        (bare / folder).mkdir(parents=True)
        (bare / folder / "file").touch()
    succeed(["make", "clean"], bare)
    left = {path.relative_to(bare).as_posix() for path in bare.rglob("*") if path.is_file()}
    assert left == {*SET_UP, "runs/mine/file"}


def _ci_with(repository: Path, tmp_path: Path, make: str) -> tuple[int, str]:
    """Exit code and output of .ci/run, with a `make` that does as told."""
    tools = tmp_path / "tools"
    tools.mkdir()
    _script(tools / "make", make)
    (tmp_path / ".ci").mkdir()
    shutil.copy(repository / ".ci" / "run", tmp_path / ".ci")
    environment = clean_environment()
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    result = run([tmp_path / ".ci" / "run"], tmp_path.parent, env=environment)
    return result.returncode, result.stdout


_CLOSING = "===== 7 passed, 1 skipped in 71.20s (0:01:11) ====="


def test_ci_passes_when_every_step_does(repository: Path, tmp_path: Path) -> None:
    code, shown = _ci_with(repository, tmp_path, f'echo "$1 ran"; [ "$1" = test ] && echo "{_CLOSING}"; exit 0')
    assert code == 0
    assert [word for word in TARGETS if f"{word} ran" in shown] == ["demo", "test", "check"]
    assert _CLOSING in shown.split("== outcome")[1]


@pytest.mark.parametrize("broken", ["test", "check", "demo"])
def test_ci_fails_when_one_step_does_and_still_runs_the_others(repository: Path, tmp_path: Path, broken: str) -> None:
    code, shown = _ci_with(repository, tmp_path, f'echo "{_CLOSING}"; echo "$1 ran"; [ "$1" != {broken} ]')
    assert code == 1
    assert all(f"{word} ran" in shown for word in ("test", "check", "demo"))
    assert f"make {broken}: exit 1" in shown


def test_ci_fails_without_a_closing_line_of_pytest(repository: Path, tmp_path: Path) -> None:
    assert _ci_with(repository, tmp_path, "exit 0")[0] == 1
