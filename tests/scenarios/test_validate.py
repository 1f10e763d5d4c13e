"""Every table of a scenario is checked, and the message names field, entry, value and what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gridmarl.errors import DataError
from gridmarl.scenarios.scenario import make_scenario, toy_scenario

GOOD: dict[str, Any] = {
    "name": "x",
    "attribution": "y",
    "reference_price_utok_per_wh": 5,
    "price_value": [[1, 2], [-3, 4]],
    "price_first_cum": [1, 2],
    "price_next_cum": [[[1, 2], [0, 1]], [[1, 2], [3, 3]]],
    "load_wh": [[[1, 2, 3], [4, 5, 6]]],
    "pv_wh": [[[0, 0, 0], [4, 5, 6]]],
    "kind_cum": [1],
    "load_ratio_permille": [500, 1500],
    "pv_ratio_permille": [1000],
    "forecast_error_permille": [-1000, 1000],
}


def test_good_tables_of_any_kind() -> None:
    scenario = make_scenario(**GOOD)
    assert (scenario.period_hours, scenario.num_homes) == (2, 3)
    arrays = {key: np.asarray(value) if isinstance(value, list) else value for key, value in GOOD.items()}
    tensors = {key: torch.tensor(value) if isinstance(value, list) else value for key, value in GOOD.items()}
    for other in (make_scenario(**arrays), make_scenario(**tensors), scenario.to("cpu")):
        assert torch.equal(other.load_wh, scenario.load_wh)
        assert other.price_next_cum.dtype == torch.int64


def test_tables_are_copied() -> None:
    load = np.asarray(GOOD["load_wh"], dtype=np.int64)
    scenario = make_scenario(**(GOOD | {"load_wh": load}))
    load[:] = 99
    assert int(scenario.load_wh.max()) == 6


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"price_value": [[1, 2], [-3, 10_000_001]]}, ("price_value[1, 1]", "10000001", "10000000")),
        ({"price_value": [[1, 2], [-3]]}, ("price_value", "unequal")),
        ({"price_value": [1, 2]}, ("price_value", "[2]", "2 dimensions")),
        ({"price_value": [[1.0, 2.0], [3.0, 4.0]]}, ("price_value", "float64", "integers")),
        ({"reference_price_utok_per_wh": -10_000_001}, ("reference_price_utok_per_wh", "-10000001")),
        ({"price_first_cum": [2, 1]}, ("price_first_cum", "fall")),
        ({"price_first_cum": [0, 0]}, ("price_first_cum", "total weight 0")),
        ({"price_first_cum": [0, 2**31]}, ("price_first_cum[1]", str(2**31))),
        ({"price_first_cum": [0, 1, 2]}, ("price_first_cum", "[3]", "expected [2]")),
        ({"price_next_cum": [[[1, 2], [0, 0]], [[1, 2], [3, 3]]]}, ("price_next_cum[0, 1]", "total weight 0")),
        ({"price_next_cum": [[[1, 2], [0, 1]]]}, ("price_next_cum", "expected [2, 2, 2]")),
        ({"load_wh": [[[1, 2, 3], [4, -5, 6]]]}, ("load_wh[0, 1, 1]", "-5")),
        ({"load_wh": [[[1, 2, 3]]]}, ("load_wh", "expected [1, 2, 3]")),
        ({"load_wh": [[[1, 2, 3], [4, 5, 80_000_000]]]}, ("load_ratio_permille", "120000000", "100000000")),
        ({"load_wh": []}, ("load_wh", "none of them empty")),
        ({"pv_wh": [[[0, 0], [4, 5]]]}, ("pv_wh", "expected [1, 2, 3]")),
        ({"pv_wh": [[[0, 0, -1], [4, 5, 6]]]}, ("pv_wh[0, 0, 2]", "-1")),
        ({"kind_cum": [1, 2]}, ("kind_cum", "expected [1]")),
        ({"load_ratio_permille": []}, ("load_ratio_permille", "empty")),
        ({"load_ratio_permille": [-1]}, ("load_ratio_permille[0]", "-1")),
        ({"pv_ratio_permille": [1_000_001]}, ("pv_ratio_permille[0]", "1000001")),
        ({"forecast_error_permille": [-1000, 999]}, ("forecast_error_permille", "-1", "symmetric")),
    ],
)
def test_bad_tables(change: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as caught:
        make_scenario(**(GOOD | change))
    for part in parts:
        assert part in str(caught.value)


def test_toy_scenario() -> None:
    toy = toy_scenario([4, 7], [[1], [2]])
    assert toy.reference_price_utok_per_wh == 5
    assert toy.pv_wh.tolist() == [[[0], [0]]]
    assert toy_scenario([4, 7], [[1], [2]], reference_price_utok_per_wh=9).reference_price_utok_per_wh == 9
    for bad in (([], [[1]]), ([4], [[1], [2]]), ([4, 7], [[1], [2, 3]])):
        with pytest.raises(DataError):
            toy_scenario(*bad)  # type: ignore[arg-type]
