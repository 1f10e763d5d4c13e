"""Conformance of a market mechanism: energy, limits, individual rationality, lanes, and pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.clearing.book import Clearing
from gridmarl.clearing.registry import Mechanism
from gridmarl.random import below, draw, lane_keys
from gridmarl.testing.errors import require

_PURPOSE = 1_000  # away from the purposes of the package


def check_mechanism(
    mechanism: Mechanism, *, orders: int = 6, lanes: int = 512, seed: int = 5, one_price: bool = True
) -> None:
    """Clear random books (ties, empty sides, zero quantities and negative prices included) and check the outcome.

    Args:
        mechanism: called as `gridmarl.clearing.registry.Mechanism` says.
        one_price: everyone trades at `price`, which must then respect every limit.

    Raises:
        ConformanceError: names the check and the first lane that breaks it.
    """
    book = random_books(orders, lanes, seed)
    before = [item.clone() for item in book]
    outcome = mechanism(*book, 0)
    for item, copy in zip(book, before, strict=True):
        require(torch.equal(item, copy), "pure function", "the mechanism changed its arguments")
    check_outcome(book, outcome, one_price=one_price)
    again = mechanism(*book, 0)
    same = all(torch.equal(a, b) for a, b in zip(outcome, again, strict=True))
    require(same, "determinism", "the same books cleared twice differ")
    for start in (1, orders - 1):
        check_outcome(book, mechanism(*book, start), one_price=one_price)
    for lane in (0, lanes // 2, lanes - 1):
        single = mechanism(*_lane(book, lane), 0)
        alone = all(torch.equal(a[..., lane : lane + 1], b) for a, b in zip(outcome, single, strict=True))
        require(alone, "lanes", f"lane {lane} of a batch is not the same book cleared alone")


Book = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def random_books(orders: int, lanes: int, seed: int) -> Book:
    """Small prices and quantities, so that ties, empty sides and exact crossings abound; int64."""
    keys = lane_keys(seed, lanes)
    words = draw(keys, 0, _PURPOSE, orders)
    more = draw(keys, 1, _PURPOSE, 1)[:, 0]
    floor = below(more[0], 10) - 5
    cap = floor + below(more[1], 8)
    spread = (cap - floor + 1).unsqueeze(0)
    buy_price, sell_price = floor + ((words[0] * spread) >> 32), floor + ((words[1] * spread) >> 32)
    some_buy, some_sell = (below(more[2], 8) > 0), (below(more[3], 8) > 0)
    return buy_price, below(words[2], 6) * some_buy, sell_price, below(words[3], 6) * some_sell, floor, cap


def _lane(book: Book, lane: int) -> Book:
    buy_price, buy_wh, sell_price, sell_wh, floor, cap = (item[..., lane : lane + 1] for item in book)
    return buy_price, buy_wh, sell_price, sell_wh, floor, cap


def _first(wrong: Tensor) -> str:
    lanes = wrong.reshape(-1, wrong.shape[-1]).any(0).nonzero().flatten()
    return f"first in lane {int(lanes[0])}" if len(lanes) else ""


def check_outcome(book: Book, outcome: Clearing, *, one_price: bool) -> None:
    """Check what a mechanism made of a book: kinds and shapes, energy, quantities, limits and the price's range.

    Since buyers pay and sellers get `price` for their fills, equal sums of the fills also mean that no money is lost.
    Reads about ten booleans back from the device.

    Raises:
        ConformanceError: names the check and the first lane that breaks it.
    """
    buy_price, buy_wh, sell_price, sell_wh, floor, cap = book
    shapes = {"price": cap, "buy_fill_wh": buy_wh, "sell_fill_wh": sell_wh, "volume_wh": cap}
    for name in ("price", "buy_fill_wh", "sell_fill_wh", "volume_wh"):
        value = getattr(outcome, name)
        require(value.dtype == torch.int64, "dtype", f"{name} is {value.dtype}, not int64")
        seen, right = list(value.shape), list(shapes[name].shape)
        require(seen == right, "shape", f"{name} is {seen}, not {right}")
    checks = (
        ("energy", outcome.buy_fill_wh.sum(0) != outcome.sell_fill_wh.sum(0), "what is bought is not what is sold"),
        ("energy", outcome.buy_fill_wh.sum(0) != outcome.volume_wh, "volume is not the sum of the fills"),
        ("quantity", (outcome.buy_fill_wh < 0) | (outcome.buy_fill_wh > buy_wh), "a buy is filled beyond its order"),
        (
            "quantity",
            (outcome.sell_fill_wh < 0) | (outcome.sell_fill_wh > sell_wh),
            "a sell is filled beyond its order",
        ),
    )
    for check, wrong, message in checks:
        require(not bool(wrong.any()), check, f"{message}, {_first(wrong)}")
    if one_price:
        against = (outcome.buy_fill_wh > 0) & (buy_price < outcome.price)
        require(not bool(against.any()), "limit price", f"a buyer pays more than its limit, {_first(against)}")
        against = (outcome.sell_fill_wh > 0) & (sell_price > outcome.price)
        require(not bool(against.any()), "limit price", f"a seller gets less than its limit, {_first(against)}")
        outside = (outcome.price < floor) | (outcome.price > cap)
        require(not bool(outside.any()), "price range", f"the price leaves [floor, cap], {_first(outside)}")
