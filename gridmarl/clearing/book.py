"""What a clearing returns, and the check of what goes in."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.errors import DataError
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH


class Clearing(NamedTuple):
    """Outcome of one book per lane; int64. `B` buys, `S` sells, `E` lanes; prices in µtok/Wh, energy in Wh."""

    price: Tensor  # [E] what everyone who trades pays or earns
    buy_fill_wh: Tensor  # [B, E]
    sell_fill_wh: Tensor  # [S, E]
    volume_wh: Tensor  # [E] sum of the fills of either side
    low: Tensor  # [E] lowest and
    high: Tensor  # [E] highest price at which the local market clears (Walrasian interval)


def check_range(name: str, values: Tensor, low: int, high: int) -> None:
    bad = (values < low) | (values > high)
    if bad.any():
        where = bad.nonzero()[0].tolist()
        raise DataError(f"{name}{where} = {int(values[bad][0])}: allowed are {low} .. {high}")


def validate_book(
    buy_price: Tensor,
    buy_wh: Tensor,
    sell_price: Tensor,
    sell_wh: Tensor,
    floor: Tensor,
    cap: Tensor,
    *,
    price_bits: int | None = None,
) -> None:
    """Check a book against the bounds of `gridmarl.units`. Reads values back from the device: not for hot loops.

    Args:
        buy_price, buy_wh: `[B, E]` int64. sell_price, sell_wh: `[S, E]` int64. floor, cap: `[E]` int64.
        price_bits: as given to `clear_uniform`, or None.

    Raises:
        DataError: names the argument, position and value: not int64, a shape that does not fit, a price beyond
            `MAX_PRICE_UTOK_PER_WH`, an energy outside 0 .. `MAX_ORDER_WH`, a side above `MAX_BOOK_WH`, `floor > cap`,
            or `cap - floor >= 2**price_bits`.
    """
    named = {"buy_price": buy_price, "buy_wh": buy_wh, "sell_price": sell_price, "sell_wh": sell_wh}
    limits = {"floor": floor, "cap": cap}
    for name, tensor in (named | limits).items():
        dimensions = 2 if name in named else 1
        if tensor.dtype != torch.int64:
            raise DataError(f"{name}: dtype {tensor.dtype}; allowed is torch.int64")
        if tensor.dim() != dimensions or tensor.size(-1) != cap.numel():
            allowed = "[orders, lanes]" if name in named else "[lanes]"
            raise DataError(f"{name}: shape {list(tensor.shape)}; allowed is {allowed} with {cap.numel()} lanes")
    for side, price, energy in (("buy", buy_price, buy_wh), ("sell", sell_price, sell_wh)):
        if price.shape != energy.shape:
            allowed = f"that of {side}_price, {list(price.shape)}"
            raise DataError(f"{side}_wh: shape {list(energy.shape)}; allowed is {allowed}")
        check_range(f"{side}_wh", energy, 0, MAX_ORDER_WH)
        check_range(f"sum of {side}_wh", energy.sum(0), 0, MAX_BOOK_WH)
    for name in ("buy_price", "sell_price", "floor", "cap"):
        check_range(name, (named | limits)[name], -MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH)
    widest = 2 * MAX_PRICE_UTOK_PER_WH if price_bits is None else 2**price_bits - 1
    check_range("cap - floor", cap - floor, 0, widest)
