"""A prosumer's preferences: quadratic utility, its calibration, and the demand of eq. (1) (docs/market-rules.md).

All tensors int64, any shape that broadcasts (usually `[P, E]`). `beta` in µtok/Wh, `gamma` in ntok/Wh².
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.units import PERMILLE

_NTOK_PER_UTOK = 1000
_UTILITY_DIVISOR = 2 * _NTOK_PER_UTOK


def floor_div(numerator: Tensor, denominator: Tensor | int) -> Tensor:
    """Integer division towards minus infinity, the one rounding rule of the market path.

    Args:
        numerator: int64, below 2**62 in magnitude where a graph is compiled.
        denominator: int64 or int, not 0, likewise below 2**50.
    """
    if torch.compiler.is_compiling():  # compiled code has vector instructions for float64 division, none for int64
        return floor_div_by_float64(numerator, denominator)
    return torch.div(numerator, denominator, rounding_mode="floor")


def floor_div_by_float64(numerator: Tensor, denominator: Tensor | int) -> Tensor:
    """`floor_div` by two float64 divisions, exactly the same integers.

    The first quotient is off by less than `1 + |q| * 2**-51`, so what it leaves, `rest`, is a small multiple of the
    denominator `b`. The second is exact: if `rest/b` is below the integer `n`, it is so by at least `1/|b|`, which is
    more than float64 rounds by as long as `|n b| < 2**53`.
    """
    divisor = denominator.to(torch.float64) if isinstance(denominator, Tensor) else float(denominator)
    quotient = torch.floor(numerator.to(torch.float64) / divisor).to(torch.int64)
    rest = numerator - quotient * denominator
    return quotient + torch.floor(rest.to(torch.float64) / divisor).to(torch.int64)


def calibrated_beta(reference_price: int, elasticity_permille: int) -> int:
    """`beta = p0 (1 + 1/e)` in µtok/Wh, so that `d(p0)` is the reference load at elasticity `e`."""
    return reference_price * (PERMILLE + elasticity_permille) // elasticity_permille


def calibrated_gamma(load_wh: Tensor, reference_price: int, elasticity_permille: int) -> Tensor:
    """`gamma = p0 / (e L)` in ntok/Wh², rounded to nearest, at least 1; 1 where the load is zero."""
    slope = elasticity_permille * load_wh.clamp(min=1)
    gamma = floor_div(slope + 2 * PERMILLE * _NTOK_PER_UTOK * reference_price, 2 * slope)
    return torch.where(load_wh > 0, gamma.clamp(min=1), 1)


def demand_at(price: Tensor | int, beta: Tensor | int, gamma: Tensor, d_min: Tensor, d_max: Tensor) -> Tensor:
    """Demand in Wh at a price, eq. (1): `clip((beta - price)/gamma, d_min, d_max)`, rounded to the nearest Wh.

    This is the exact integer maximiser of `u(d) - price * d`, ties upwards.
    """
    ideal = floor_div(_UTILITY_DIVISOR * (beta - price) + gamma, 2 * gamma)
    return torch.minimum(torch.maximum(ideal, d_min), d_max)


def utility_utok(consumption_wh: Tensor, beta: Tensor | int, gamma: Tensor) -> Tensor:
    """`u(d) = beta d - gamma d² / 2` in µtok, the quadratic term rounded down."""
    return beta * consumption_wh - floor_div(gamma * consumption_wh * consumption_wh, _UTILITY_DIVISOR)


def outside_option(
    at_import_wh: Tensor,
    at_export_wh: Tensor,
    generation_wh: Tensor,
    beta: Tensor | int,
    gamma: Tensor,
    import_price: Tensor,
    export_price: Tensor,
) -> tuple[Tensor, Tensor]:
    """Best consumption (Wh) and surplus (µtok) of one hour without a market: buy at import, sell at export price.

    With `export <= import` the optimum is the generation itself, clipped to the demands at the two prices.

    Args:
        at_import_wh: `demand_at(import_price, ...)`; `at_export_wh` likewise, never smaller.
    """
    consumption = torch.minimum(torch.maximum(generation_wh, at_import_wh), at_export_wh)
    net = consumption - generation_wh
    bought = net.clamp(min=0)
    cost = import_price * bought - export_price * (bought - net)
    return consumption, utility_utok(consumption, beta, gamma) - cost
