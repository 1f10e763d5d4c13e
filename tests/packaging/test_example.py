"""The example package in a fresh environment beside the wheel: its three commands install, train and verify."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.packaging.processes import clean_environment, succeed
from tests.packaging.readme import SMALLER, fenced_blocks, shell_commands, smaller


@pytest.fixture(scope="module")
def commands(repository: Path) -> list[str]:
    blocks = fenced_blocks((repository / "examples" / "extending" / "README.md").read_text(encoding="utf-8"))
    return [command for block in blocks if block.language == "bash" for command in shell_commands(block.text)]


def test_three_commands_install_train_and_verify(
    repository: Path, installed: Path, tmp_path: Path, commands: list[str]
) -> None:
    install, train, verify = commands
    (tmp_path / "examples").symlink_to(repository / "examples")
    tools = tmp_path / "tools"
    tools.mkdir()
    # the fresh environment has no pip of its own; this one installs into it, without the network
    pip = f'"{sys.executable}" -m pip --python "{installed / "python"}"'
    (tools / "pip").write_text(f'#!/bin/sh\nexec {pip} "$@" --no-deps --no-index --quiet\n', encoding="utf-8")
    (tools / "pip").chmod(0o755)
    environment = clean_environment()
    environment["PATH"] = f"{tools}:{installed}:{environment['PATH']}"
    for command in (install, smaller(train, SMALLER), verify):
        shown = succeed(["bash", "-eu", "-c", command], tmp_path, env=environment)
    assert shown.splitlines()[-1] == "residual 0 utok"
    listed = succeed([installed / "gridmarl", "list"], tmp_path, env=environment)
    assert "roth_erev" in listed
    code = "import gridmarl, sys; print(gridmarl.__file__)"
    assert str(repository) not in succeed([installed / "python", "-c", code], tmp_path, env=environment)


def test_its_own_tests_pass(repository: Path, tmp_path: Path) -> None:
    folder = repository / "examples" / "extending"
    environment = {**clean_environment(), "PYTHONPATH": f"{folder}:{repository}"}
    test = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", folder, folder]
    succeed([sys.executable, *test], tmp_path, env=environment)
