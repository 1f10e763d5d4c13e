"""Scenarios by name: ours, those of run time, those of installed packages, and the suite that checks them."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gridmarl.errors import ConfigError, DataError
from gridmarl.scenarios import registry
from gridmarl.scenarios.registry import named_scenario, register_scenario, scenario_names
from gridmarl.scenarios.scenario import Scenario, default_scenario, toy_scenario
from gridmarl.testing import ConformanceError, check_scenario
from tests.train.command_line import COMPARE, SMALL_LEARNER, TRAIN, gridmarl, strict_json

BUILT_IN = ["default", "independent", "toy"]


def two_homes() -> Scenario:
    return toy_scenario([4_000, 7_000], [[100, 200], [300, 0]], [[0, 0], [0, 150]])


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package that provides scenarios: entry points by name."""

    def install(distribution: str = "third-party-village", **points: str) -> None:
        module = tmp_path / "third_party_village.py"
        module.write_text(
            "import dataclasses, torch\n"
            "from gridmarl.scenarios.scenario import toy_scenario\n"
            "def village():\n    return toy_scenario([4000, 7000], [[100], [200]])\n"
            "def negative():\n"
            "    return dataclasses.replace(village(), load_wh=torch.tensor([[[100], [-5]]]))\n"
            "def nothing():\n    return None\n"
            "number = 3\n",
            encoding="utf-8",
        )
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{name} = third_party_village:{attribute}" for name, attribute in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[gridmarl.scenarios]", *lines, ""]), encoding="utf-8")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "third_party_village", raising=False)
    return install


# --- the registry


def test_ours_are_there() -> None:
    assert set(BUILT_IN) <= set(scenario_names())
    assert torch.equal(named_scenario("default").price_next_cum, default_scenario().price_next_cum)
    independent = default_scenario(persistence=False)
    assert torch.equal(named_scenario("independent").price_next_cum, independent.price_next_cum)
    assert not torch.equal(independent.price_next_cum, default_scenario().price_next_cum)
    assert (named_scenario("toy").period_hours, named_scenario("toy").num_homes) == (24, 4)


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no scenario 'moon'; there are .*default, independent, .*toy"):
        named_scenario("moon")


def test_registering_at_run_time() -> None:
    register_scenario("mine", two_homes)
    assert "mine" in scenario_names()
    assert torch.equal(named_scenario("mine").load_wh, two_homes().load_wh)
    for taken in ("mine", "default"):
        with pytest.raises(ConfigError, match=f"scenario '{taken}' exists already; allowed is a name other than"):
            register_scenario(taken, two_homes)


def test_scenario_of_a_package(package: Callable[..., None]) -> None:
    package(village="village")
    assert "village" in scenario_names()
    assert "third_party_village" not in sys.modules  # listing loads nothing
    assert named_scenario("village").load_wh.tolist() == [[[100], [200]]]
    with pytest.raises(ConfigError, match="scenario 'village' exists already"):
        register_scenario("village", two_homes)


def test_a_package_cannot_replace_one_of_ours(package: Callable[..., None]) -> None:
    package(default="village")
    assert named_scenario("default").num_homes == default_scenario().num_homes
    assert scenario_names().count("default") == 1


def test_two_packages_with_one_name(package: Callable[..., None]) -> None:
    package(village="village")
    package("another-village", village="negative")
    assert "village" in scenario_names()
    with pytest.raises(ConfigError, match=r"scenario 'village': provided by .*allowed is one package of that name"):
        named_scenario("village")


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("absent", "entry point 'third_party_village:absent' does not load"),
        ("number", r"entry point 'third_party_village:number' is not callable; allowed is \(\) -> Scenario"),
        ("nothing", "its factory returned NoneType, which is not a Scenario"),
    ],
)
def test_entry_point_that_does_not_work(attribute: str, message: str, package: Callable[..., None]) -> None:
    package(village=attribute)
    with pytest.raises(ConfigError, match=f"scenario 'village': {message}"):
        named_scenario("village")


def test_tables_of_a_package_are_checked(package: Callable[..., None]) -> None:
    package(village="negative")
    with pytest.raises(DataError, match=r"scenario 'village': load_wh\[0, 1, 0\] = -5: allowed are 0 \.\. "):
        named_scenario("village")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name = ''"),
        ({"attribution": None}, "attribution = None"),
        ({"reference_price_utok_per_wh": 5.5}, "reference_price_utok_per_wh = 5.5"),
        ({"load_wh": torch.ones(1, 2, 2)}, "load_wh: entries of type float32: allowed are integers"),
    ],
)
def test_what_no_table_is_checked_too(change: dict[str, Any], message: str) -> None:
    register_scenario("mine", lambda: dataclasses.replace(two_homes(), **change))
    with pytest.raises(DataError, match=f"scenario 'mine': {message}"):
        named_scenario("mine")


# --- the commands


def test_list_shows_them(package: Callable[..., None]) -> None:
    package(village="village")
    assert "Scenarios: default, independent, " in gridmarl("list").out
    assert ", village" in gridmarl("list").out


def test_train_on_a_scenario_by_name(tmp_path: Path) -> None:
    register_scenario("mine", two_homes)
    folder = tmp_path / "run"
    market = ("--days", "1", "--set", "num_prosumers=3", "horizon_hours=4")
    steps = ("--steps", "8", "--lanes", "4", "--eval-lanes", "1", "--eval-every", "0")
    outcome = gridmarl("train", "--scenario", "mine", *market, *steps, *SMALL_LEARNER, "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    config = strict_json(folder / "config.json")
    assert config["scenario"]["name"] == "toy"
    assert config["options"]["scenario_name"] == "mine"


@pytest.mark.parametrize("base", [TRAIN, COMPARE], ids=lambda base: base[0])
@pytest.mark.parametrize(
    ("arguments", "culprits"),
    [
        (["--scenario", "moon"], ["no scenario 'moon'", "default", "toy"]),
        (["--scenario", "toy", "--prices", "prices.csv"], ["--scenario toy with --prices"]),
        (["--scenario", "toy", "--homes", "homes.csv"], ["--scenario toy with --homes"]),
        (["--scenario", "toy", "--start", "2013-02-04"], ["--scenario toy with --start"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input(base: tuple[str, ...], arguments: list[str], culprits: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    outcome = gridmarl(*base, "--run-dir", folder, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert [culprit for culprit in culprits if culprit not in outcome.err] == []
    assert not folder.exists()


# --- the conformance suite


@pytest.mark.parametrize("name", scenario_names())
def test_every_registered_scenario_conforms(name: str) -> None:
    check_scenario(lambda: named_scenario(name))


def test_a_right_scenario_conforms() -> None:
    check_scenario(two_homes)
    check_scenario(two_homes, retail_price_utok_per_wh=6_000, feed_in_tariff_utok_per_wh=6_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "declaration: name is ''"),
        ({"attribution": None}, "declaration: attribution is None"),
        ({"start": "tomorrow"}, "declaration: start is 'tomorrow'"),
        ({"periodic": 1}, "declaration: periodic is 1"),
        ({"load_wh": [[[1, 2], [3, 4]]]}, "dtype: load_wh is list, not a tensor"),
        ({"load_wh": torch.ones(1, 2, 2)}, "dtype: load_wh is torch.float32, not int64"),
        ({"price_value": torch.ones(2, 1, dtype=torch.int32)}, "dtype: price_value is torch.int32, not int64"),
        ({"pv_wh": torch.zeros(1, 2, 2, dtype=torch.int64, device="meta")}, "device: pv_wh is on meta"),
        ({"pv_wh": torch.tensor([[[0, 0], [0, -1]]])}, r"tables: pv_wh\[0, 1, 1\] = -1"),
        ({"load_wh": torch.tensor([[[1, 2]]])}, "tables: load_wh: shape"),
        ({"price_first_cum": torch.tensor([0])}, "tables: price_first_cum"),
        ({"forecast_error_permille": torch.tensor([500])}, "tables: forecast_error_permille sums to 500"),
        ({"reference_price_utok_per_wh": 5_500.0}, "tables: reference_price_utok_per_wh = 5500.0"),
        ({"reference_price_utok_per_wh": 5}, "reference price: .* is 5, prices are 4000 .. 7000"),
        ({"load_wh": torch.tensor([[[100, 0], [100, 0]]]), "pv_wh": torch.zeros(1, 2, 2, dtype=torch.int64)},
         r"energy: homes \[1\] neither use nor generate"),
        ({"load_wh": torch.zeros(1, 2, 2, dtype=torch.int64), "pv_wh": torch.ones(1, 2, 2, dtype=torch.int64)},
         "energy: no load at all"),
    ],
)  # fmt: skip
def test_broken_scenario_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConformanceError, match=f"^{message}"):
        check_scenario(lambda: dataclasses.replace(two_homes(), **change))


@pytest.mark.parametrize(
    ("tariff", "told"),
    [
        ({"retail_price_utok_per_wh": 5_999}, "5999 < 6000 µtok/Wh at price_value"),
        ({"feed_in_tariff_utok_per_wh": 12_001}, "12000 < 12001 µtok/Wh at price_value"),
        ({"export_margin_utok_per_wh": -8_001}, "12000 < 12001 µtok/Wh at price_value"),
    ],
)
def test_import_below_export_is_named(tariff: dict[str, int], told: str) -> None:
    with pytest.raises(ConformanceError, match=f"^price order: import price below export price: {told}"):
        check_scenario(two_homes, **tariff)


def test_another_scenario_each_time_is_named() -> None:
    calls = itertools.count(1)
    with pytest.raises(ConformanceError, match=r"^determinism: load_wh differs"):
        check_scenario(lambda: toy_scenario([4_000], [[100 * next(calls)]]))


def test_what_is_no_scenario_is_named() -> None:
    with pytest.raises(ConformanceError, match=r"^declaration: the factory returned dict, not a Scenario"):
        check_scenario(dict)  # type: ignore[arg-type]
