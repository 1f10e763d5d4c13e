"""The sdist and the wheel made from it: what is inside, and that it works outside the repository."""

from __future__ import annotations

import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.packaging.processes import run, succeed


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _sources(repository: Path, folder: str) -> set[str]:
    """Names that the files of a top-level folder have inside the wheel."""
    prefix = "" if folder == "gridmarl" else "gridmarl/"
    return {
        prefix + path.relative_to(repository).as_posix()
        for path in (repository / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def test_top_level_is_exactly_gridmarl(wheel_names: set[str]) -> None:
    top = {name.split("/")[0] for name in wheel_names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"gridmarl"}


@pytest.mark.parametrize("folder", ["gridmarl", "agents", "envs", "train"])
def test_every_file_of_a_folder_is_inside_once(repository: Path, wheel_names: set[str], folder: str) -> None:
    missing = _sources(repository, folder) - wheel_names
    assert not missing


def test_nothing_else_is_inside(repository: Path, wheel_names: set[str]) -> None:
    expected = set().union(*(_sources(repository, folder) for folder in ("gridmarl", "agents", "envs", "train")))
    assert {name for name in wheel_names if ".dist-info/" not in name} <= expected


def test_typing_marker_and_licence_are_inside(wheel_names: set[str]) -> None:
    assert "gridmarl/py.typed" in wheel_names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_names)


def test_data_tables_are_inside(repository: Path, wheel_names: set[str]) -> None:
    tables = {
        path.relative_to(repository).as_posix()
        for path in (repository / "gridmarl" / "scenarios" / "tables").glob("*")
        if path.suffix in {".csv", ".md", ".json"}
    }
    assert tables, "gridmarl/scenarios/tables is empty: the default run would need a file"
    assert tables <= wheel_names


def test_sdist_has_the_four_folders_and_no_links(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    names = {member.name.split("/", 1)[1] for member in members}
    for needed in ("agents/__init__.py", "envs/__init__.py", "train/__init__.py", "gridmarl/__init__.py", "README.md"):
        assert needed in names
    assert not [name for name in names if name.startswith(("gridmarl/agents", "gridmarl/envs", "gridmarl/train"))]


def test_metadata_names_version_licence_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        fields = Parser().parsestr(archive.read(metadata).decode())
        commands = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    assert fields["Name"] == "gridmarl"
    assert fields["License-Expression"] == "MIT"
    assert fields["Requires-Python"] == ">=3.11"
    assert "gridmarl = gridmarl.cli:main" in commands


_IMPORT_EVERYTHING = """
import importlib, pathlib, pkgutil, sys
import gridmarl
home = pathlib.Path(sys.argv[1]).resolve()
names = [m.name for m in pkgutil.walk_packages(gridmarl.__path__, "gridmarl.") if not m.name.endswith("__main__")]
for name in names:
    module = importlib.import_module(name)
    assert home in pathlib.Path(module.__file__).resolve().parents, module.__file__
    assert not pathlib.Path(module.__file__).is_symlink()
missing = {"gridmarl.agents", "gridmarl.envs", "gridmarl.train", "gridmarl.clearing"} - set(names)
assert not missing, missing
print(gridmarl.__version__, len(names))
"""


def test_every_module_imports_outside_the_repository(repository: Path, installed: Path, tmp_path: Path) -> None:
    program = ["-I", "-W", "error", "-c", _IMPORT_EVERYTHING, str(installed.parent)]
    version, count = succeed([installed / "python", *program], tmp_path).split()
    assert version == tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert int(count) > 10


@pytest.mark.parametrize("folder", ["agents", "envs", "train"])
def test_the_folders_are_no_packages_of_their_own(installed: Path, tmp_path: Path, folder: str) -> None:
    result = run([installed / "python", "-I", "-c", f"import {folder}"], tmp_path)
    assert result.returncode == 1
    assert f"No module named '{folder}'" in result.stderr


def test_the_command_runs_outside_the_repository(repository: Path, installed: Path, tmp_path: Path) -> None:
    if not (repository / "gridmarl" / "cli.py").exists():
        pytest.skip("no gridmarl/cli.py")
    shown = succeed([installed / "gridmarl", "--help"], tmp_path)
    for word in ("train", "compare", "ledger", "list"):
        assert word in shown
    assert succeed([installed / "python", "-I", "-m", "gridmarl", "--help"], tmp_path)
    assert not list(tmp_path.iterdir()), "--help left files behind"
