"""Building a Scenario from integers of any kind, with every table checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridmarl.errors import DataError
from gridmarl.random import MAX_TOTAL
from gridmarl.scenarios.lanes import Scenario
from gridmarl.units import MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH, PERMILLE

MAX_RATIO_PERMILLE = 1_000_000


def make_scenario(
    *,
    name: str,
    attribution: str,
    reference_price_utok_per_wh: int,
    price_value: Any,
    price_first_cum: Any,
    price_next_cum: Any,
    load_wh: Any,
    pv_wh: Any,
    kind_cum: Any,
    load_ratio_permille: Any,
    pv_ratio_permille: Any,
    forecast_error_permille: Any,
    start: str = "",
    periodic: bool = True,
) -> Scenario:
    """A validated scenario on the CPU. Tables are nested sequences, arrays or tensors of integers; shapes: `Scenario`.

    Bounds: prices within +-`MAX_PRICE_UTOK_PER_WH`; energies 0 .. `MAX_ORDER_WH`, also after the largest load ratio;
    ratios 0 .. 1,000,000 permille; running totals that do not fall, from 0 up, with a total of 1 .. 2**31-1 in every
    wheel; the table of unit forecast errors sums to 0.

    Raises:
        DataError: names the field and entry, the value seen and what is allowed.
    """
    _texts(name=name, attribution=attribution)
    price = _table("price_value", price_value, 2, -MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH)
    period, bins = price.shape
    load = _table("load_wh", load_wh, 3, 0, MAX_ORDER_WH)
    load_ratio = _table("load_ratio_permille", load_ratio_permille, 1, 0, MAX_RATIO_PERMILLE)
    errors = _table("forecast_error_permille", forecast_error_permille, 1, -MAX_RATIO_PERMILLE, MAX_RATIO_PERMILLE)
    scenario = Scenario(
        name=name,
        attribution=attribution,
        start=start,
        periodic=periodic,
        reference_price_utok_per_wh=reference_price_utok_per_wh,
        price_value=price,
        price_first_cum=_wheel("price_first_cum", price_first_cum, 1),
        price_next_cum=_wheel("price_next_cum", price_next_cum, 3),
        load_wh=load,
        pv_wh=_table("pv_wh", pv_wh, 3, 0, MAX_ORDER_WH),
        kind_cum=_wheel("kind_cum", kind_cum, 1),
        load_ratio_permille=load_ratio,
        pv_ratio_permille=_table("pv_ratio_permille", pv_ratio_permille, 1, 0, MAX_RATIO_PERMILLE),
        forecast_error_permille=errors,
    )
    kinds, _, homes = load.shape
    _shape("price_first_cum", scenario.price_first_cum, (bins,))
    _shape("price_next_cum", scenario.price_next_cum, (period, bins, bins))
    _shape("load_wh", load, (kinds, period, homes))
    _shape("pv_wh", scenario.pv_wh, (kinds, period, homes))
    _shape("kind_cum", scenario.kind_cum, (kinds,))
    if isinstance(reference_price_utok_per_wh, bool) or not isinstance(reference_price_utok_per_wh, int | np.integer):
        raise DataError(f"reference_price_utok_per_wh = {reference_price_utok_per_wh!r}: allowed is an integer")
    if abs(reference_price_utok_per_wh) > MAX_PRICE_UTOK_PER_WH:
        raise DataError(
            f"reference_price_utok_per_wh = {reference_price_utok_per_wh}: allowed are +-{MAX_PRICE_UTOK_PER_WH}"
        )
    largest = int(load.max()) * int(load_ratio.max()) // PERMILLE
    if largest > MAX_ORDER_WH:
        raise DataError(f"load_wh x load_ratio_permille reaches {largest} Wh: allowed are up to {MAX_ORDER_WH}")
    if int(errors.sum()) != 0:
        raise DataError(f"forecast_error_permille sums to {int(errors.sum())}: allowed is 0 (a symmetric table)")
    return scenario


def _texts(**values: object) -> None:
    """A scenario says what it is called and whose data it holds."""
    for name, value in values.items():
        if not isinstance(value, str) or not value:
            raise DataError(f"{name} = {value!r}: allowed is a text that is not empty")


def _table(name: str, values: Any, dims: int, low: int, high: int) -> Tensor:
    """`values` as an int64 tensor of `dims` dimensions, no entry outside low .. high."""
    try:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name}: rows of unequal length") from error
    if array.ndim != dims or 0 in array.shape:
        raise DataError(f"{name}: shape {list(array.shape)}: allowed are {dims} dimensions, none of them empty")
    if array.dtype.kind not in "iu":
        raise DataError(f"{name}: entries of type {array.dtype}: allowed are integers")
    bad = np.argwhere((array < low) | (array > high))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise DataError(f"{name}{list(where)} = {array[where]}: allowed are {low} .. {high}")
    return torch.from_numpy(np.array(array, dtype=np.int64))


def _wheel(name: str, values: Any, dims: int) -> Tensor:
    """Running totals in the last dimension."""
    table = _table(name, values, dims, 0, MAX_TOTAL - 1)
    falls = (table[..., 1:] < table[..., :-1]).nonzero()
    if len(falls):
        raise DataError(f"{name}: running totals fall after entry {falls[0].tolist()}")
    empty = (table[..., -1] == 0).nonzero()
    if len(empty):
        raise DataError(f"{name}{empty[0].tolist()}: total weight 0: allowed are 1 .. {MAX_TOTAL - 1}")
    return table


def _shape(name: str, table: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(table.shape) != expected:
        raise DataError(f"{name}: shape {list(table.shape)}: expected {list(expected)}")
