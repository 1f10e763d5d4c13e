"""Fixed-point units: energy in Wh, power in W, price in micro-token per Wh (µtok/Wh), money in micro-token (µtok).

1 µtok/Wh = 0.001 token per kWh. With `1 token = 0.01 AUD`, 1 AUD/MWh = 100 µtok/Wh and one cent per MWh = 1 µtok/Wh, so
AUD/MWh prices with two decimals are exact. Price x energy is exact, in µtok.

Bounds (validated where data come in, so that no product or prefix sum can overflow int64):

* `abs(price) <= MAX_PRICE_UTOK_PER_WH` = 10,000,000 (100,000 AUD/MWh; the NEM's range is -1,000 .. 20,300);
* energy of one order `<= MAX_ORDER_WH` = 100,000,000 (100 MWh in an hour);
* energy of one side of a book `<= MAX_BOOK_WH` = 3,000,000,000, so that pro-rata products (`R * C <= 9e18`) fit in
int64.
"""

from __future__ import annotations

from decimal import Decimal

from gridmarl.errors import DataError

UTOK_PER_TOKEN = 1_000_000
TOKENS_PER_AUD = 100
UTOK_PER_WH_PER_AUD_PER_MWH = 100
MAX_PRICE_UTOK_PER_WH = 10_000_000
MAX_ORDER_WH = 100_000_000
MAX_BOOK_WH = 3_000_000_000
PERMILLE = 1000


def price_from_aud_per_mwh(text: str | float | Decimal) -> int:
    """Price in µtok/Wh of a price in AUD/MWh, exact to one cent per MWh; finer decimals are rounded half to even.

    Raises:
        DataError: not a finite number, or beyond `MAX_PRICE_UTOK_PER_WH`.
    """
    try:
        value = Decimal(str(text)) * UTOK_PER_WH_PER_AUD_PER_MWH
        price = int(value.to_integral_value(rounding="ROUND_HALF_EVEN"))
    except (ArithmeticError, ValueError) as error:
        raise DataError(f"price {text!r} AUD/MWh: not a finite number") from error
    if abs(price) > MAX_PRICE_UTOK_PER_WH:
        raise DataError(f"price {text!r} AUD/MWh: allowed are -100000 .. 100000")
    return price


def tokens(amount_utok: int) -> float:
    """Money in tokens, for display only."""
    return amount_utok / UTOK_PER_TOKEN
