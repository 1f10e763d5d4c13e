"""Rules that hold over the text of the whole repository, checked on the syntax tree where they concern code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.files import python_files, text_files

MAX_LINES = 500
HOST_TRANSFERS = {"cpu", "item", "numpy", "tolist"}
ALLOW_LIST = Path(__file__).with_name("host_transfers.txt")
# Put together here, so that this file does not break its own rule.
_MACHINE_FOLDERS = "|".join(["work", "opt", "farm", "root", "home", "tmp", "Users"])
MACHINE_PATH = re.compile(rf"(?:^|[^a-zA-Z0-9._\-}}])/(?:{_MACHINE_FOLDERS})/|\.\./{'shared'}")
LEFT_OVER = re.compile(r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Modules that a file imports, by `import`, `from` or a literal `import_module` / `__import__`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.args[0].value


def host_transfers(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """(enclosing function or class, method, line) of each call that takes a tensor off its device."""

    def visit(node: ast.AST, inside: str) -> Iterator[tuple[str, str, int]]:
        for child in ast.iter_child_nodes(node):
            name = inside
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{inside}.{child.name}".lstrip(".")
            # `.item` without a call counts too: it is how the call gets passed to `map`.
            if isinstance(child, ast.Attribute) and child.attr in HOST_TRANSFERS:
                yield inside or "<module>", child.attr, child.lineno
            yield from visit(child, name)

    return visit(tree, "")


def step_modules(root: Path) -> list[Path]:
    """Every module of the clearing, the contracts and the environments' own folders: what runs inside a step."""
    folders = [root / "gridmarl" / "clearing", root / "gridmarl" / "contracts"]
    folders += [path for path in sorted((root / "envs").iterdir()) if path.is_dir() and path.name != "__pycache__"]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def allowed_transfers() -> dict[tuple[str, str], str]:
    """Reason by (module, function or class) of the allow list; a class stands for all its methods."""
    allowed = {}
    for line in ALLOW_LIST.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            place, reason = line.split(maxsplit=1)
            module, function = place.split("::")
            allowed[module, function] = reason
    return allowed


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_blake3_is_the_only_hash(repository: Path) -> None:
    found = [
        str(path.relative_to(repository))
        for path in python_files(repository)
        if any(
            name.split(".")[0] in {"hashlib", "_hashlib", "_blake2", "_sha2"} for name in imported_names(_parse(path))
        )
    ]
    assert not found


def test_imports_are_absolute_and_below_gridmarl(repository: Path) -> None:
    found = [
        f"{path.relative_to(repository)}: {name}"
        for path in python_files(repository)
        for name in imported_names(_parse(path))
        if name.startswith(".") or name.split(".")[0] in {"agents", "envs", "train"}
    ]
    assert not found


def test_no_tensor_leaves_its_device_inside_a_step(repository: Path) -> None:
    allowed, found, used = allowed_transfers(), [], set()
    for path in step_modules(repository):
        module = path.relative_to(repository).as_posix()
        for function, method, line in host_transfers(_parse(path)):
            place = next((key for key in allowed if key[0] == module and f"{function}.".startswith(f"{key[1]}.")), None)
            if place:
                used.add(place)
            else:
                found.append(f"{module}:{line} {function}: .{method}")
    assert not found
    assert used == set(allowed), f"allowed, but not there any more: {set(allowed) - used}"


def test_no_path_of_a_machine(repository: Path) -> None:
    found = [
        f"{path.relative_to(repository)}:{number}: {line.strip()[:80]}"
        for path in text_files(repository)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert not found


def test_no_left_over_markers(repository: Path) -> None:
    found = [
        f"{path.relative_to(repository)}:{number}"
        for path in text_files(repository)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if LEFT_OVER.search(line)
    ]
    assert not found


def test_modules_are_short_enough_to_read(repository: Path) -> None:
    lengths = {
        str(path.relative_to(repository)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(repository)
    }
    assert not {path: lines for path, lines in lengths.items() if lines >= MAX_LINES}


def test_the_files_found_are_the_real_ones(repository: Path) -> None:
    """The rules above would hold over an empty list too."""
    names = {path.relative_to(repository).as_posix() for path in text_files(repository)}
    assert {"agents/__init__.py", "gridmarl/units.py", "README.md", ".ci/run", "Makefile", "pyproject.toml"} <= names
    assert "gridmarl/agents/__init__.py" not in names
    assert not [name for name in names if name.startswith(".venv")]
    assert {path.name for path in step_modules(repository)} > {"__init__.py"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import hashlib", ["hashlib"]),
        ("def f():\n    from hashlib import sha256", ["hashlib"]),
        ("import importlib\nimportlib.import_module('hashlib')", ["importlib", "hashlib"]),
        ("from . import x", ["."]),
    ],
)
def test_imports_are_seen_wherever_they_stand(code: str, expected: list[str]) -> None:
    assert sorted(imported_names(ast.parse(code))) == sorted(expected)


def test_host_transfers_are_seen_with_their_function() -> None:
    code = "class A:\n    def f(self, x):\n        return [x.item(), map(y.cpu, x)]\nz = t.tolist()\nitem()\n"
    assert list(host_transfers(ast.parse(code))) == [("A.f", "item", 3), ("A.f", "cpu", 3), ("<module>", "tolist", 4)]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("open('" + "/ho" + "me/someone/x')", True),
        ("/t" + "mp/x", True),
        ("see .." + "/sha" + "red/data", True),
        ("https://example.org/ho" + "me/x", False),
        ("docs/wo" + "rk/x", False),
    ],
)
def test_machine_paths_are_told_from_addresses(text: str, seen: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is seen
