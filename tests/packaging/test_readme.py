"""Every command and every program in the README works as printed (how: tests/packaging/readme.py)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.packaging.processes import clean_environment, run, succeed
from tests.packaging.readme import (
    OTHER_LANGUAGES,
    RUN_LANGUAGES,
    SMALLER,
    ci_targets,
    fenced_blocks,
    shell_commands,
    smaller,
)

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = fenced_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
PROGRAMS = [pytest.param(block.text, id=f"line-{block.line}") for block in BLOCKS if block.language == "python"]
COMMANDS = [command for block in BLOCKS if block.language == "bash" for command in shell_commands(block.text)]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Folder and environment of the README's commands: `gridmarl`, `python` and `torchrun` are this repository's."""
    folder, tools = tmp_path_factory.mktemp("readme"), tmp_path_factory.mktemp("tools")
    for name, command in {"python": "", "gridmarl": " -m gridmarl", "torchrun": " -m torch.distributed.run"}.items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{command} "$@"\n', encoding="utf-8")
        (tools / name).chmod(0o755)
    for name in ("benchmarks", "examples"):
        if (ROOT / name).is_dir():
            (folder / name).symlink_to(ROOT / name)
    environment = clean_environment()
    environment |= {"PATH": f"{tools}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}
    return folder, environment


@pytest.fixture(scope="module")
def run_by_make() -> set[str]:
    """Commands that the make targets of .ci/run run, word for word, without the environment's folder."""
    lines = [line for target in ci_targets(ROOT) for line in succeed(["make", "-n", target], ROOT).splitlines()]
    return {line.removeprefix(".venv/bin/") for line in lines}


def test_every_block_has_a_language_that_is_handled() -> None:
    assert BLOCKS
    unknown = [f"line {b.line}: {b.language!r}" for b in BLOCKS if b.language not in RUN_LANGUAGES + OTHER_LANGUAGES]
    assert not unknown


def test_the_two_commands_come_first() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_runs_as_printed(program: str, tmp_path: Path) -> None:
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    succeed([sys.executable, "-W", "error", "-c", program], tmp_path, env=environment)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs_as_printed(
    command: str, shell: tuple[Path, dict[str, str]], run_by_make: set[str], request: pytest.FixtureRequest
) -> None:
    if command.startswith("make "):
        target = command.removeprefix("make ")
        assert target in ci_targets(ROOT), f"{command}: .ci/run does not run it"
        return
    if command in run_by_make:
        return
    folder, environment = shell
    if "$GRIDMARL_DATA" in command:
        environment = {**environment, "GRIDMARL_DATA": str(request.getfixturevalue("real_data"))}
    result = run(["bash", "-eu", "-c", smaller(command, SMALLER)], folder, env=environment)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


def test_entries_of_the_table_are_in_use() -> None:
    assert not [begin for begin in SMALLER if not any(command.startswith(begin) for command in COMMANDS)]


def test_local_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert targets
    assert not [target for target in targets if target and not (ROOT / target).exists()]


def test_blocks_are_found_with_language_indent_and_line() -> None:
    text = "a\n```bash\nmake x\n```\n1. b\n   ```python\n   if 1:\n       y\n   ```\n```\nplain\n```\n"
    found = [(block.language, block.text, block.line) for block in fenced_blocks(text)]
    assert found == [("bash", "make x", 2), ("python", "if 1:\n    y", 6), ("", "plain", 10)]


def test_commands_are_joined_and_stripped() -> None:
    text = "# comment\n$ make x   # why\n\ngridmarl a \\\n    --b c#d\n"
    assert shell_commands(text) == ["make x", "gridmarl a --b c#d"]


def test_the_longest_entry_makes_a_command_smaller() -> None:
    table = {"gridmarl": "-a", "gridmarl train": "-b"}
    assert smaller("gridmarl train x", table) == "gridmarl train x -b"
    assert smaller("gridmarl trains", table) == "gridmarl trains -a"
    assert smaller("python x", table) == "python x"


def test_ci_runs_what_the_readme_promises() -> None:
    assert ci_targets(ROOT) == ["test", "check", "demo"]
