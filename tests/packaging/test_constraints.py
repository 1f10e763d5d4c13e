"""Ranges in pyproject.toml and pins in constraints.txt belong together: every pin in range, everything pinned."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# Brought by the interpreter's own tools; torch and tensorboard ask for setuptools without using what changes in it.
LEFT_TO_THE_INTERPRETER = {"pip", "setuptools"}


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins(repository: Path) -> dict[str, Requirement]:
    """Pinned requirement by canonical name."""
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    by_name: dict[str, Requirement] = {canonicalize_name(requirement.name): requirement for requirement in requirements}
    assert len(by_name) == len(requirements), "a package is pinned twice"
    return by_name


@pytest.fixture(scope="module")
def asked_for(project: dict[str, Any]) -> list[Requirement]:
    """Every requirement of pyproject.toml: dependencies, extras, and the build backend's."""
    described = project["project"]
    texts = list(described["dependencies"]) + list(project["build-system"]["requires"])
    for extra in described["optional-dependencies"].values():
        texts += extra
    return [Requirement(text) for text in texts]


def _version(pin: Requirement) -> Version:
    (specifier,) = pin.specifier
    assert specifier.operator == "==", f"{pin}: a pin is name==version"
    return Version(specifier.version)


def test_every_requirement_is_pinned_within_its_range(
    asked_for: list[Requirement], pins: dict[str, Requirement]
) -> None:
    assert len(asked_for) > 20
    for requirement in asked_for:
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement}: not in constraints.txt"
        assert requirement.specifier.contains(_version(pin)), f"{pin} is outside {requirement.specifier}"


def test_every_dependency_has_a_lower_and_an_upper_bound(project: dict[str, Any]) -> None:
    for text in project["project"]["dependencies"]:
        operators = {specifier.operator for specifier in Requirement(text).specifier}
        assert operators == {">=", "<"}, text


def test_pins_have_no_local_version_and_no_marker(pins: dict[str, Requirement]) -> None:
    for pin in pins.values():
        assert _version(pin).local is None, f"{pin}: a local version ties everybody to one build"
        assert pin.marker is None
        assert not pin.extras


def test_what_the_requirements_bring_is_pinned_too(asked_for: list[Requirement], pins: dict[str, Requirement]) -> None:
    """Walks the installed metadata: an unpinned indirect dependency would differ from one set-up to the next."""
    waiting = [canonicalize_name(requirement.name) for requirement in asked_for]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name in LEFT_TO_THE_INTERPRETER:
            continue
        seen.add(name)
        assert name in pins, f"{name}: brought by another package, not in constraints.txt"
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    assert len(seen) > 40


def test_installed_versions_are_the_pinned_ones(asked_for: list[Requirement], pins: dict[str, Requirement]) -> None:
    for requirement in asked_for:
        name = canonicalize_name(requirement.name)
        assert Version(metadata.version(name)).public == str(_version(pins[name])), name


def test_no_pin_is_left_over(repository: Path, pins: dict[str, Requirement]) -> None:
    installed = {canonicalize_name(item.metadata["Name"]) for item in metadata.distributions()}
    assert set(pins) <= installed, "pinned, but nothing brings it"


def test_supported_python_is_said_the_same_everywhere(repository: Path, project: dict[str, Any]) -> None:
    assert project["project"]["requires-python"] == ">=3.11"
    for name in ("Makefile", "README.md"):
        assert "3.11" in (repository / name).read_text(encoding="utf-8")
