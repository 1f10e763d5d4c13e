"""The example package in a fresh environment beside the wheel: what its README and the tutorial say is what happens."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.packaging.processes import clean_environment, succeed
from tests.packaging.readme import RUN_LANGUAGES, fenced_blocks, shell_commands, smaller

TRAIN = {"gridmarl train": "--steps 192 --lanes 8 --eval-lanes 1 --eval-every 96 --checkpoint-every 96"}
TUTORIAL = {**TRAIN, "gridmarl compare runs/roth-erev": "--lanes 1"}
ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "docs/tutorial.md",
    "examples/extending/README.md",
    "examples/torchrl/README.md",
    "examples/supersuit/README.md",
)


def commands_of(page: str) -> list[str]:
    """Every command of a page, in order."""
    blocks = fenced_blocks((ROOT / page).read_text(encoding="utf-8"))
    return [command for block in blocks if block.language == "bash" for command in shell_commands(block.text)]


def blocks_of(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    blocks = fenced_blocks((ROOT / page).read_text(encoding="utf-8"))
    return [block.text for block in blocks if block.language == language]


@pytest.fixture(scope="module")
def shell(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Folder and environment of the commands: `gridmarl` and `python` are the fresh environment's, `pip` fills it."""
    folder = tmp_path_factory.mktemp("shell")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=ignore)
    tools = folder / "tools"
    tools.mkdir()
    # the fresh environment has no pip of its own; this one installs into it, without the network
    pip = f'"{sys.executable}" -m pip --python "{installed / "python"}"'
    (tools / "pip").write_text(f'#!/bin/sh\nexec {pip} "$@" --no-deps --no-index --quiet\n', encoding="utf-8")
    (tools / "pip").chmod(0o755)
    environment = clean_environment()
    environment["PATH"] = f"{tools}:{installed}:{environment['PATH']}"
    environment["PYTEST_ADDOPTS"] = "-W error -p no:cacheprovider"
    return folder, environment


def run_all(page: str, shell: tuple[Path, dict[str, str]], table: dict[str, str]) -> dict[str, str]:
    """Output of each command of a page, made smaller by the table; all of its entries are in use."""
    folder, environment = shell
    commands = commands_of(page)
    assert not [begin for begin in table if not any(command.startswith(begin) for command in commands)]
    return {
        command: succeed(["bash", "-eu", "-c", smaller(command, table)], folder, env=environment)
        for command in commands
    }


def test_three_commands_install_train_and_verify(shell: tuple[Path, dict[str, str]], installed: Path) -> None:
    shown = run_all("examples/extending/README.md", shell, TRAIN)
    assert len(shown) == 3
    assert list(shown.values())[-1].splitlines()[-1] == "residual 0 utok"
    folder, environment = shell
    code = "import gridmarl, sys; print(gridmarl.__file__)"
    assert str(ROOT) not in succeed([installed / "python", "-c", code], folder, env=environment)


@pytest.mark.slow
def test_the_tutorial_s_commands(installed: Path, shell: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    elsewhere = tmp_path / "tutorial"
    elsewhere.mkdir()
    (elsewhere / "examples").symlink_to(shell[0] / "examples")
    shown = run_all("docs/tutorial.md", (elsewhere, shell[1]), TUTORIAL)
    listed = shown["gridmarl list"]
    for name in ("roth_erev", "mid_market", "village"):
        assert name in listed
    (tests,) = [output for command, output in shown.items() if "pytest" in command]
    assert re.search(r"^\d+ passed", tests, re.MULTILINE)
    trained = [output for command, output in shown.items() if command.startswith("gridmarl train")]
    assert [("no ledger" in output) for output in trained] == [False, False, True]
    assert "scenario village" in trained[0]
    (compared,) = [output for command, output in shown.items() if command.startswith("gridmarl compare")]
    assert re.search(r"^ roth-erev ", compared, re.MULTILINE)
    assert re.search(r"^ dqn ", compared, re.MULTILINE)


def test_the_tutorial_s_programs(installed: Path, shell: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    folder, environment = shell
    succeed(["bash", "-eu", "-c", commands_of("docs/tutorial.md")[0]], folder, env=environment)
    programs = blocks_of("docs/tutorial.md", "python")
    assert len(programs) == 2
    for program in programs:
        succeed([installed / "python", "-W", "error", "-c", program], tmp_path, env=environment)


def test_the_tutorial_quotes_the_package() -> None:
    (quoted,) = blocks_of("docs/tutorial.md", "toml")
    assert quoted in (ROOT / "examples" / "extending" / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_no_block_that_goes_untried_and_no_dead_link(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert {block.language for block in fenced_blocks(text)} <= {*RUN_LANGUAGES, "toml"}
    if page != "docs/tutorial.md":
        assert {block.language for block in fenced_blocks(text)} == {"bash"}
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert targets
    assert not [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()]
