"""The import contracts of pyproject.toml cover the whole package, and break when an import goes the wrong way."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.processes import run

LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"]


@pytest.fixture(scope="module")
def contracts(repository: Path) -> dict[str, Any]:
    tool = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    return {contract["id"]: contract for contract in tool["importlinter"]["contracts"]}


@pytest.fixture(scope="module")
def miniature(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with an empty module for each that the contracts name, linked like the real one."""
    root = tmp_path_factory.mktemp("miniature")
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    (root / "pyproject.toml").write_text(text, encoding="utf-8")
    by_id = {contract["id"]: contract for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]}
    for name in re.findall(r"\w+", " ".join(by_id["layers"]["layers"])):
        top = name in {"agents", "envs", "train"}
        folder = root / name if top else root / "gridmarl" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        if top:
            (root / "gridmarl").mkdir(exist_ok=True)
            (root / "gridmarl" / name).symlink_to(Path("..") / name)
    (root / "gridmarl" / "__init__.py").touch()
    for module in by_id["independent-replay"]["source_modules"]:
        (root / module.replace(".", "/")).with_suffix(".py").touch()
    return root


def test_core_without_learners_means_the_whole_core(contracts: dict[str, Any]) -> None:
    bottom = {f"gridmarl.{name}" for name in re.findall(r"\w+", contracts["layers"]["layers"][-1])}
    assert set(contracts["core-no-learners"]["source_modules"]) == bottom
    assert contracts["layers"]["exhaustive"] is True


def test_the_miniature_keeps_the_contracts(miniature: Path) -> None:
    result = run(LINT, miniature)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("agents", "import gridmarl.envs"),
        ("envs", "import gridmarl.agents"),
        ("agents", "import gridmarl.train"),
        ("gridmarl/clearing", "import gridmarl.envs"),
        ("gridmarl/ledger", "from gridmarl import train"),
        ("gridmarl/units", "def late():\n    import gridmarl.agents"),
        ("train", "import gridmarl.cli"),
        ("gridmarl/clearing", "import pettingzoo"),
        ("gridmarl/optimum", "import stable_baselines3"),
    ],
)
def test_an_import_the_wrong_way_breaks_a_contract(miniature: Path, tmp_path: Path, package: str, line: str) -> None:
    copy = shutil.copytree(miniature, tmp_path / "copy", symlinks=True)
    (copy / package / "__init__.py").write_text(line + "\n", encoding="utf-8")
    result = run(LINT, copy)
    assert result.returncode == 1, result.stdout
    assert "BROKEN" in result.stdout


@pytest.mark.parametrize("module", ["replay", "verify"])
@pytest.mark.parametrize("line", ["import torch", "import numpy", "from gridmarl import clearing"])
def test_the_replay_may_not_use_what_it_checks(miniature: Path, tmp_path: Path, module: str, line: str) -> None:
    copy = shutil.copytree(miniature, tmp_path / "copy", symlinks=True)
    (copy / "gridmarl" / "ledger" / f"{module}.py").write_text(line + "\n", encoding="utf-8")
    result = run(LINT, copy)
    assert result.returncode == 1
    assert "BROKEN" in result.stdout


def test_a_module_without_a_place_breaks_the_contract(miniature: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(miniature, tmp_path / "copy", symlinks=True)
    (copy / "gridmarl" / "stray.py").touch()
    result = run(LINT, copy)
    assert result.returncode == 1
    assert "gridmarl.stray" in result.stdout
