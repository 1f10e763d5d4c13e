"""Running from a checkout: with the links, without them, and without loading more than was asked for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.packaging.processes import python_here, run, succeed

FOLDERS = ("agents", "envs", "train")
_LOCATE = "; ".join(
    ["import gridmarl, gridmarl.agents, gridmarl.envs, gridmarl.train"]
    + [f"print(gridmarl.{folder}.__file__)" for folder in FOLDERS]
)


@pytest.fixture
def checkout_without_links(repository: Path, tmp_path: Path) -> Path:
    """A copy of the checkout as Windows, or an unpacked sdist, has it: `gridmarl/` without its three links."""
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in FOLDERS:
        shutil.copytree(repository / folder, tmp_path / folder, ignore=ignore)
    shutil.copytree(repository / "gridmarl", tmp_path / "gridmarl", symlinks=True, ignore=ignore)
    shutil.copy(repository / "pyproject.toml", tmp_path)
    for folder in FOLDERS:
        (tmp_path / "gridmarl" / folder).unlink()
    return tmp_path


def test_links_are_committed_and_relative(repository: Path) -> None:
    for folder in FOLDERS:
        link = repository / "gridmarl" / folder
        assert link.is_symlink()
        assert link.readlink() == Path("..") / folder


def test_imports_from_a_checkout_without_links(checkout_without_links: Path) -> None:
    shown = python_here(_LOCATE, checkout_without_links).split()
    assert shown == [str(checkout_without_links / folder / "__init__.py") for folder in FOLDERS]


def test_imports_from_a_checkout_with_links(repository: Path) -> None:
    shown = python_here(_LOCATE, repository).split()
    assert shown == [str(repository / "gridmarl" / folder / "__init__.py") for folder in FOLDERS]


def test_a_file_instead_of_a_link_is_bridged_too(checkout_without_links: Path) -> None:
    """Git on Windows without the link privilege writes a small text file with the link's target."""
    for folder in FOLDERS:
        (checkout_without_links / "gridmarl" / folder).write_text(f"../{folder}", encoding="utf-8")
    shown = python_here(_LOCATE, checkout_without_links).split()
    assert shown == [str(checkout_without_links / folder / "__init__.py") for folder in FOLDERS]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imported_as_a_root_says_what_to_import(repository: Path, folder: str) -> None:
    result = run([sys.executable, "-c", f"import {folder}"], repository)
    assert result.returncode == 1
    assert f"import gridmarl.{folder}" in result.stderr


@pytest.mark.parametrize("module", ["gridmarl", "gridmarl.units", "gridmarl.errors"])
def test_import_loads_nothing_heavy(repository: Path, module: str) -> None:
    heavy = (
        "('torch', 'torch._dynamo', 'pandas', 'matplotlib', 'cvxpy', 'scipy', 'pettingzoo', 'stable_baselines3', "
        "'numba', 'llvmlite')"
    )
    shown = python_here(f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])", repository)
    assert shown.strip() == "[]"


@pytest.mark.parametrize("package", ["gridmarl.agents", "gridmarl.envs", "gridmarl.ledger", "gridmarl.train"])
def test_packages_do_not_load_the_compiler_or_the_plotter(repository: Path, package: str) -> None:
    heavy = "('torch._dynamo', 'matplotlib.pyplot', 'cvxpy', 'tensorboard', 'numba', 'llvmlite')"
    shown = python_here(f"import sys, {package}; print([name for name in {heavy} if name in sys.modules])", repository)
    assert shown.strip() == "[]"


def test_the_module_runs_as_a_command(repository: Path) -> None:
    if not (repository / "gridmarl" / "cli.py").exists():
        pytest.skip("no gridmarl/cli.py")
    assert "compare" in succeed([sys.executable, "-m", "gridmarl", "--help"], repository)
