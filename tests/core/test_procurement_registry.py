"""Procurement by name: ours, every auction, and what installed packages offer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from gridmarl.clearing import registry
from gridmarl.clearing.k_double import clear_k_double
from gridmarl.clearing.mcafee import clear_mcafee
from gridmarl.clearing.pairwise import clear_pairwise
from gridmarl.clearing.procurement import PAYMENT_RULES, procure
from gridmarl.clearing.registry import (
    auction_names,
    get_auction,
    get_procurement,
    mechanism_names,
    procurement_names,
    register_mechanism,
)
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.errors import ConfigError
from gridmarl.testing import check_mechanism
from gridmarl.testing.mechanism import random_books
from tests.core.procurement_books import assert_invariants

OURS = {*PAYMENT_RULES, "k_double", "buyers_bid", "sellers_offer", "mcafee"}


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    monkeypatch.setattr(registry, "_LOADED", {})


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that offers the mechanism `quarter`."""
    (tmp_path / "third_party_procurement.py").write_text(
        "from gridmarl.clearing.uniform import clear_uniform\n"
        "def quarter(*book):\n    return clear_uniform(*book, k_permille=250)\n",
        encoding="utf-8",
    )
    info = tmp_path / "third_party_procurement-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: third-party-procurement\nVersion: 1.0\n", encoding="utf-8"
    )
    entry_points = info / "entry_points.txt"
    entry_points.write_text("[gridmarl.mechanisms]\nquarter = third_party_procurement:quarter\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "third_party_procurement", raising=False)
    return entry_points


def test_every_auction_can_procure_and_ours_for_it_are_no_mechanisms() -> None:
    assert procurement_names() == sorted({*OURS, *auction_names()})
    assert not OURS & set(auction_names())  # a market that expects balance or one price must not find them
    assert get_procurement("mcafee") is clear_mcafee
    assert get_procurement("pairwise") is clear_pairwise
    for name in ("mcafee", "vcg"):
        with pytest.raises(ConfigError, match=rf"auction '{name}': there is none; there are \['marginal_pair'"):
            get_auction(name)
        with pytest.raises(ConfigError, match=rf"mechanism '{name}': the name is in use; in use are \['buyers_bid'"):
            register_mechanism(name, clear_uniform)
    with pytest.raises(ConfigError, match=r"procurement 'dutch': there is none; there are \['buyers_bid', 'first_rej"):
        get_procurement("dutch")


def test_names_stand_for_their_rules() -> None:
    book = random_books(6, 300, seed=5)
    for rule in PAYMENT_RULES:
        expected = procure(*book, 2, payment=rule)
        assert all(torch.equal(a, b) for a, b in zip(get_procurement(rule)(*book, 2), expected, strict=True))
    for name, k in (("k_double", 500), ("buyers_bid", 1000), ("sellers_offer", 0)):
        income = clear_uniform(*book, 2, k_permille=k)
        assert torch.equal(get_procurement(name)(*book, 2).income_utok, income.price * income.sell_fill_wh)


@pytest.mark.parametrize("name", procurement_names())
def test_every_procurement_conserves_energy_and_money(name: str) -> None:
    book = random_books(6, 300, seed=6)
    trades = get_procurement(name)(*book, 2)
    assert_invariants(name, book, trades)
    assert int((trades.volume_wh > 0).sum()) > 50


@pytest.mark.parametrize("k_permille", [0, 333, 1000])
def test_k_double_conforms(k_permille: int) -> None:
    check_mechanism(lambda *book: clear_k_double(*book, k_permille=k_permille))


def test_k_double_lies_where_k_says() -> None:
    """Bids 8 and 5, offers 2 and 7, one Wh each: the book clears from 5 to 7."""
    book = (torch.tensor([[8], [5]]), torch.ones(2, 1, dtype=torch.int64), torch.tensor([[2], [7]]))
    limits = (torch.tensor([0]), torch.tensor([9]))
    prices = [int(clear_k_double(*book, book[1], *limits, 0, k_permille=k).price) for k in (0, 499, 500, 1000)]
    assert prices == [5, 5, 6, 7]
    for k in (-1, 1001):
        with pytest.raises(ConfigError, match=f"k_permille = {k}: allowed are 0 .. 1000"):
            clear_k_double(*book, book[1], *limits, 0, k_permille=k)


@pytest.mark.usefixtures("points")
def test_a_package_adds_a_procurement() -> None:
    assert "quarter" in procurement_names()
    assert "third_party_procurement" not in sys.modules  # listing loads nothing
    book = random_books(6, 300, seed=7)
    expected = clear_uniform(*book, 1, k_permille=250)
    trades = get_procurement("quarter")(*book, 1)
    assert torch.equal(trades.income_utok, expected.price * expected.sell_fill_wh)
    assert_invariants("quarter", book, trades)


@pytest.mark.parametrize("name", ["vcg", "mcafee", "k_double"])
def test_a_package_cannot_take_our_name(points: Path, name: str) -> None:
    points.write_text(points.read_text(encoding="utf-8").replace("quarter =", f"{name} ="), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"mechanism '{name}': the entry point 'third_party_procurement:quarter'"):
        mechanism_names()
