"""Fixed-point units: exact prices, documented bounds, and nothing that a float could have blurred."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridmarl import units
from gridmarl.errors import DataError
from gridmarl.units import price_from_aud_per_mwh, tokens


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("0", 0), ("1", 100), ("50.25", 5_025), ("-1000", -100_000), ("20300.00", 2_030_000), ("0.01", 1), (-0.07, -7),
        (Decimal("19.99"), 1_999), (0.29, 29), (" 7.5 ", 750), ("1e3", 100_000), (-0.0, 0),
        ("0.005", 0), ("0.015", 2), ("-0.005", 0), ("-0.015", -2),  # halves to even
        ("100000", 10_000_000), ("-100000.004", -10_000_000),
    ],
)  # fmt: skip
def test_prices(text: Any, price: int) -> None:
    seen = price_from_aud_per_mwh(text)
    assert seen == price
    assert type(seen) is int


@given(st.integers(-10_000_000, 10_000_000))
def test_every_price_in_cents_is_exact(price: int) -> None:
    """As text and, up to 100,000 AUD/MWh, as a float too."""
    text = f"{'-' if price < 0 else ''}{abs(price) // 100}.{abs(price) % 100:02d}"
    assert price_from_aud_per_mwh(text) == price
    assert price_from_aud_per_mwh(float(text)) == price


@pytest.mark.parametrize("text", ["", "abc", "nan", float("nan"), "inf", float("-inf"), "1,5", "1e999999999", None])
def test_not_a_number(text: Any) -> None:
    with pytest.raises(DataError, match=rf"^price {text!r} AUD/MWh: not a finite number"):
        price_from_aud_per_mwh(text)


@pytest.mark.parametrize("text", ["100000.01", "-100000.01", 1e30])
def test_out_of_bounds(text: Any) -> None:
    with pytest.raises(DataError, match=r"AUD/MWh: allowed are -100000 \.\. 100000$"):
        price_from_aud_per_mwh(text)


def test_units_fit_together() -> None:
    """1 token = 0.01 AUD: 1 AUD/MWh = 100 tokens / 10^6 Wh = 100 µtok/Wh."""
    assert units.TOKENS_PER_AUD * units.UTOK_PER_TOKEN // 10**6 == units.UTOK_PER_WH_PER_AUD_PER_MWH
    assert price_from_aud_per_mwh(1) * 10**6 == units.TOKENS_PER_AUD * units.UTOK_PER_TOKEN
    assert tokens(2_500_000) == 2.5
    assert tokens(-1) == -1e-6


def test_bounds_keep_products_within_64_bits() -> None:
    assert units.MAX_BOOK_WH**2 < 2**63
    assert units.MAX_BOOK_WH * 3 * units.MAX_PRICE_UTOK_PER_WH < 2**63
    assert units.MAX_ORDER_WH <= units.MAX_BOOK_WH
