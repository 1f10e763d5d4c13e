"""Measures of market power of one cleared book per lane: concentration, mark-up, and who is indispensable.

Sources: S. Stoft, Power System Economics (2002), part 4 (Lerner index, HHI); A. Y. Sheffrin, "Predicting market power
using the residual supply index", FERC market monitoring workshop (2002). Formulas: docs/procurement-rules.md, "Market
power". Money and energy come in as int64, the measures are float64; sums are taken in integers, so that only the last
division rounds.
"""

from __future__ import annotations

import torch
from torch import Tensor

HHI_SCALE = 10_000
"""Index of a monopoly: shares are counted in percent."""


def _ratio(numerator: Tensor, denominator: Tensor, defined: Tensor) -> Tensor:
    """float64 quotient, nan where it is not defined."""
    quotient = numerator.to(torch.float64) / torch.where(defined, denominator, 1)
    return torch.where(defined, quotient, torch.nan)


def herfindahl_hirschman_index(quantity_wh: Tensor) -> Tensor:
    """Sum of squared market shares in percent: 10,000 / n for n equal sellers, 10,000 for one.

    Args:
        quantity_wh: `[P, E]` int64, each >= 0: what each seller sells, or could sell.

    Returns:
        `[E]` float64, nan where nobody has any.
    """
    total = quantity_wh.sum(0)
    shares = _ratio(quantity_wh, total.expand_as(quantity_wh), (total > 0).expand_as(quantity_wh))
    return HHI_SCALE * shares.square().sum(0)


def lerner_index(income_utok: Tensor, sold_wh: Tensor, cost_utok_per_wh: Tensor) -> Tensor:
    """Mark-up of price over marginal cost, by price: `(p - c) / p`, with `p` a seller's average price.

    Args:
        income_utok, sold_wh, cost_utok_per_wh: `[P, E]` int64; the true cost of a Wh, not the ask.

    Returns:
        `[P, E]` float64, 0 without market power; nan for who has no positive income.
    """
    return _ratio(income_utok - sold_wh * cost_utok_per_wh, income_utok, income_utok > 0)


def market_lerner_index(income_utok: Tensor, sold_wh: Tensor, cost_utok_per_wh: Tensor) -> Tensor:
    """`[E]` float64: all sellers' profit by all sellers' income, nan where it is not positive; arguments as above."""
    income = income_utok.sum(0)
    return _ratio(income - (sold_wh * cost_utok_per_wh).sum(0), income, income > 0)


def residual_supply_index(capacity_wh: Tensor, demand_wh: Tensor) -> Tensor:
    """What all other sellers could supply, by the demand. Below 1 the seller is pivotal: without it demand is unmet.

    Args:
        capacity_wh: `[P, E]` int64, what each seller can deliver.
        demand_wh: `[E]` int64, what the aggregators bid for.

    Returns:
        `[P, E]` float64, nan in lanes without demand. The index of the market is its minimum over the sellers.
    """
    others = capacity_wh.sum(0) - capacity_wh
    demand = demand_wh.expand_as(others)
    return _ratio(others, demand, demand > 0)
