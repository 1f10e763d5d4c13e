"""Scenarios by name: ours, those registered at run time, and those that other packages provide as entry points.

A package provides one through the entry-point group `gridmarl.scenarios`: the entry's name is the scenario's, its
object a function without arguments that returns a `Scenario`, best built with `make_scenario` or `toy_scenario`:

    [project.entry-points."gridmarl.scenarios"]
    my_village = "my_package.village:village"

Whatever a factory returns is checked as if it had come from files, since tables that are wrong in one entry would
settle wrong amounts of money without any other sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from gridmarl.errors import ConfigError, DataError
from gridmarl.scenarios.lanes import Scenario
from gridmarl.scenarios.validate import make_scenario

ENTRY_POINT_GROUP = "gridmarl.scenarios"
ScenarioFactory = Callable[[], Scenario]

# Imported when asked for, so that listing the names costs nothing.
_BUILTIN: dict[str, str] = {
    "default": "gridmarl.scenarios.named:default",
    "independent": "gridmarl.scenarios.named:independent",
    "toy": "gridmarl.scenarios.named:toy",
}
_registered: dict[str, ScenarioFactory] = {}


def register_scenario(name: str, factory: ScenarioFactory) -> None:
    """Add a scenario at run time.

    Raises:
        ConfigError: the name is taken.
    """
    if name in scenario_names():
        raise ConfigError(f"scenario {name!r} exists already; allowed is a name other than {_listed()}")
    _registered[name] = factory


def _provided() -> list[EntryPoint]:
    """Entry points of other packages. None can replace a scenario of ours: one that bears its name is left out."""
    return [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name not in _BUILTIN]


def scenario_names() -> list[str]:
    """Every name that `named_scenario` knows, sorted; loads none."""
    return sorted({*_BUILTIN, *_registered, *(point.name for point in _provided())})


def _listed() -> str:
    return ", ".join(scenario_names())


def _load(name: str, value: str, load: Callable[[], object]) -> ScenarioFactory:
    try:
        factory = load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"scenario {name!r}: entry point {value!r} does not load: {error}") from error
    if not callable(factory):
        raise ConfigError(f"scenario {name!r}: entry point {value!r} is not callable; allowed is () -> Scenario")
    return cast(ScenarioFactory, factory)


def scenario_factory(name: str) -> ScenarioFactory:
    """The factory behind a name.

    Raises:
        ConfigError: no such scenario (lists those there are), two packages that provide it, or an entry point that does
            not load or is not callable.
    """
    if name in _BUILTIN:
        module, _, attribute = _BUILTIN[name].partition(":")
        return cast(ScenarioFactory, getattr(import_module(module), attribute))
    if name in _registered:
        return _registered[name]
    points = [point for point in _provided() if point.name == name]
    if not points:
        raise ConfigError(f"no scenario {name!r}; there are {_listed()}")
    if len(points) > 1:
        values = ", ".join(repr(point.value) for point in points)
        raise ConfigError(f"scenario {name!r}: provided by {values}; allowed is one package of that name")
    return _load(name, points[0].value, points[0].load)


def named_scenario(name: str) -> Scenario:
    """Build the scenario of a name and check all of its tables.

    Raises:
        ConfigError: as `scenario_factory`; also a factory whose product is no `Scenario`.
        DataError: a table that `make_scenario` refuses; the message names scenario, field, entry and what is allowed.
    """
    made = scenario_factory(name)()
    if not isinstance(made, Scenario):
        raise ConfigError(f"scenario {name!r}: its factory returned {type(made).__name__}, which is not a Scenario")
    try:
        return make_scenario(**{item.name: getattr(made, item.name) for item in fields(made)})
    except DataError as error:
        raise DataError(f"scenario {name!r}: {error}") from error
