"""Conformance of a scenario: tables of the right kind and size, the same every time, and prices that fit a tariff."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import date

import torch
from torch import Tensor

from gridmarl.errors import DataError
from gridmarl.random import lane_keys
from gridmarl.scenarios.lanes import Scenario, conditions, draw_lanes
from gridmarl.scenarios.validate import make_scenario
from gridmarl.testing.errors import require
from gridmarl.units import PERMILLE

_TABLES = tuple(item.name for item in fields(Scenario) if item.type in (Tensor, "Tensor"))


def check_scenario(
    make: Callable[[], Scenario],
    *,
    import_adder_utok_per_wh: int = 8_000,
    export_margin_utok_per_wh: int = 1_000,
    retail_price_utok_per_wh: int | None = None,
    feed_in_tariff_utok_per_wh: int | None = None,
    lanes: int = 16,
    seed: int = 7,
) -> None:
    """Build a scenario twice, check every table, and draw a few episodes of it.

    Args:
        make: the factory, as registered.
        import_adder_utok_per_wh: import price = wholesale price + this, unless a retail price is given.
        export_margin_utok_per_wh: export price = wholesale price - this, unless a feed-in tariff is given.
        retail_price_utok_per_wh, feed_in_tariff_utok_per_wh: flat prices in place of these, if the scenario is meant
            for them (`import_form="retail"`, `export_form="feed_in"`).
        lanes: episodes that are drawn.
        seed: of these.

    Raises:
        ConformanceError: names the check, the table and the first entry that breaks it.
    """
    scenario = make()
    kind = type(scenario).__name__
    require(isinstance(scenario, Scenario), "declaration", f"the factory returned {kind}, not a Scenario")
    _check_declaration(scenario)
    _check_tables(scenario)
    _check_same_twice(scenario, make())
    _check_reference(scenario)
    wholesale = scenario.price_value
    import_price = wholesale + import_adder_utok_per_wh
    if retail_price_utok_per_wh is not None:
        import_price = torch.full_like(wholesale, retail_price_utok_per_wh)
    export_price = wholesale - export_margin_utok_per_wh
    if feed_in_tariff_utok_per_wh is not None:
        export_price = torch.full_like(wholesale, feed_in_tariff_utok_per_wh)
    _check_price_order(import_price, export_price)
    _check_draws(scenario, lanes, seed)


def _check_declaration(scenario: Scenario) -> None:
    for name in ("name", "attribution"):
        value = getattr(scenario, name)
        require(isinstance(value, str) and bool(value), "declaration", f"{name} is {value!r}, not a text")
    if scenario.start:
        try:
            date.fromisoformat(scenario.start)
        except (TypeError, ValueError):
            require(False, "declaration", f"start is {scenario.start!r}, neither '' nor a date YYYY-MM-DD")
    require(isinstance(scenario.periodic, bool), "declaration", f"periodic is {scenario.periodic!r}, not a bool")


def _check_tables(scenario: Scenario) -> None:
    for name in _TABLES:
        table = getattr(scenario, name)
        require(isinstance(table, Tensor), "dtype", f"{name} is {type(table).__name__}, not a tensor")
        require(table.dtype == torch.int64, "dtype", f"{name} is {table.dtype}, not int64")
        require(table.device.type == "cpu", "device", f"{name} is on {table.device}; scenarios are built on the CPU")
    try:
        make_scenario(**{item.name: getattr(scenario, item.name) for item in fields(scenario)})
    except (DataError, TypeError) as error:
        require(False, "tables", str(error))


def _check_same_twice(one: Scenario, two: Scenario) -> None:
    for item in fields(Scenario):
        first, second = getattr(one, item.name), getattr(two, item.name)
        same = torch.equal(first, second) if isinstance(first, Tensor) else first == second
        require(same, "determinism", f"{item.name} differs between two calls of the factory")


def _check_reference(scenario: Scenario) -> None:
    reference = scenario.reference_price_utok_per_wh
    low, high = int(scenario.price_value.min()), int(scenario.price_value.max())
    told = f"reference_price_utok_per_wh is {reference}, prices are {low} .. {high}; it is their mean"
    require(type(reference) is int and low <= reference <= high, "reference price", told)


def _check_price_order(import_price: Tensor, export_price: Tensor) -> None:
    """An import price below the export price would let everybody buy and sell without end."""
    wrong = (import_price < export_price).nonzero()
    if len(wrong):
        at = tuple(wrong[0].tolist())
        told = f"{int(import_price[at])} < {int(export_price[at])} µtok/Wh at price_value{list(at)}"
        require(False, "price order", f"import price below export price: {told}")


def _check_draws(scenario: Scenario, lanes: int, seed: int) -> None:
    """Episodes of one period: drawn by our own code, so what can be wrong here is what the tables mean."""
    keys, homes = lane_keys(seed, lanes), scenario.num_homes
    draws = draw_lanes(scenario, keys, scenario.period_hours)
    load = generation = torch.zeros((homes, lanes), dtype=torch.int64)
    for hour in range(scenario.period_hours):
        drawn = conditions(scenario, draws, keys, hour, homes, pv_scale_permille=PERMILLE, forecast_error_permille=100)
        energies = torch.stack((drawn.load_wh, drawn.generation_wh, drawn.forecast_wh))
        require(bool((energies >= 0).all()), "energy", f"hour {hour}: a negative load, generation or forecast")
        load, generation = load + drawn.load_wh, generation + drawn.generation_wh
    idle = ((load + generation) == 0).all(1).nonzero().flatten().tolist()
    require(not idle, "energy", f"homes {idle} neither use nor generate anything")
    require(bool((load.sum(0) > 0).all()), "energy", "no load at all in some episode")
