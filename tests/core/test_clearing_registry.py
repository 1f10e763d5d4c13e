"""Mechanisms by name: ours, registered ones, and those of installed packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from gridmarl.clearing import registry
from gridmarl.clearing.registry import get_mechanism, mechanism_names, register_mechanism
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.errors import ConfigError


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that offers `half`, `broken` and `number`."""
    (tmp_path / "third_party_auction.py").write_text(
        "from gridmarl.clearing.uniform import clear_uniform\n"
        "def half(*book):\n    return clear_uniform(*book, k_permille=0)\n"
        "number = 3\n",
        encoding="utf-8",
    )
    info = tmp_path / "third_party_auction-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party-auction\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[gridmarl.mechanisms]\nhalf = third_party_auction:half\nbroken = third_party_auction:absent\n"
        "number = third_party_auction:number\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "third_party_auction", raising=False)
    return info


def test_ours_are_there() -> None:
    assert {"uniform", "marginal_pair"} <= set(mechanism_names())
    assert get_mechanism("uniform") is clear_uniform
    buy, sell, limits = torch.tensor([[8]]), torch.tensor([[3]]), (torch.tensor([0]), torch.tensor([10]))
    assert get_mechanism("uniform")(buy, sell, sell, buy, *limits, 0).price.tolist() == [3]
    assert get_mechanism("marginal_pair")(buy, sell, sell, buy, *limits, 0).price.tolist() == [5]


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        ConfigError, match=r"mechanism 'dutch': there is none; there are \['marginal_pair', 'uniform'\]"
    ):
        get_mechanism("dutch")


def test_registering_at_run_time() -> None:
    register_mechanism("mine", clear_uniform)
    assert get_mechanism("mine") is clear_uniform
    assert "mine" in mechanism_names()
    for name in ("mine", "uniform"):
        with pytest.raises(ConfigError, match=f"mechanism '{name}': the name is in use"):
            register_mechanism(name, clear_uniform)


@pytest.mark.usefixtures("package")
def test_mechanism_of_a_package() -> None:
    assert mechanism_names() == ["broken", "half", "marginal_pair", "number", "uniform"]
    assert "third_party_auction" not in sys.modules  # listing loads nothing
    one, limits = torch.tensor([[1]]), (torch.tensor([0]), torch.tensor([10]))
    assert get_mechanism("half")(one * 8, one, one * 4, one, *limits, 0).price.tolist() == [4]
    with pytest.raises(ConfigError, match="mechanism 'broken': cannot load 'third_party_auction:absent'"):
        get_mechanism("broken")
    with pytest.raises(ConfigError, match="mechanism 'number': 'third_party_auction:number' is no function"):
        get_mechanism("number")
    with pytest.raises(ConfigError, match="mechanism 'half': the name is in use"):
        register_mechanism("half", clear_uniform)


def test_a_package_cannot_take_our_name(package: Path) -> None:
    points = package / "entry_points.txt"
    points.write_text(points.read_text(encoding="utf-8").replace("half =", "uniform ="), encoding="utf-8")
    with pytest.raises(ConfigError, match="mechanism 'uniform': the entry point 'third_party_auction:half'"):
        mechanism_names()
