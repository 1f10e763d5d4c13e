"""Energy and prices of the ledger as a reader knows them."""

from __future__ import annotations

from gridmarl.envs.rendering.curves import UTOK_PER_WH_PER_TOKEN_PER_KWH, WH_PER_KWH
from gridmarl.envs.rendering.text import number


def price_text(price_utok_per_wh: int) -> str:
    """token/kWh with two decimals."""
    return number(price_utok_per_wh / UTOK_PER_WH_PER_TOKEN_PER_KWH, 2)


def energy_text(energy_wh: int) -> str:
    """kWh with three decimals: to the Wh."""
    return number(energy_wh / WH_PER_KWH)
