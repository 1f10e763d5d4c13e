"""Closed forms without shifting and batteries, where every hour stands alone: many hours or lanes at once, in torch.

Shapes: `[P, E]` for `P` prosumers in `E` lanes (or hours: the lanes need have nothing in common), `[E]` for prices.
No branch and no loop depends on a tensor's value, so both functions run under FakeTensorMode and inside torch.compile.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl import preferences
from gridmarl.units import MAX_PRICE_UTOK_PER_WH, PERMILLE

# Prices in ntok/Wh: there the kinks of aggregate demand, `1000*beta - gamma*d_max` and `1000*beta - gamma*d_min`, are
# whole numbers, and between two neighbouring whole prices demand is a straight line.
_NTOK_PER_UTOK = 1000
_HALVINGS = (2 * MAX_PRICE_UTOK_PER_WH * _NTOK_PER_UTOK).bit_length()


class FirstBestHour(NamedTuple):
    """Optimum of an hour; float64. `welfare` is utility less import cost plus export revenue."""

    welfare_utok: Tensor  # [E]
    price_utok_per_wh: Tensor  # [E] marginal value of energy (the least, where demand does not move)
    import_wh: Tensor  # [E]
    export_wh: Tensor  # [E]
    consumption_wh: Tensor  # [P, E]


def first_best_hour(
    beta: Tensor,
    gamma: Tensor,
    d_min: Tensor,
    d_max: Tensor,
    generation: Tensor,
    import_price: Tensor,
    export_price: Tensor,
) -> FirstBestHour:
    """First best of separate hours by water-filling: one internal price in `[exp, imp]` where demand meets generation.

    Import if demand exceeds generation even at `imp`, export if generation exceeds demand even at `exp`, else neither.
    The solution is that of continuous energies; the market's whole numbers reach at most 1 µtok per prosumer more. It
    equals `plan` of the same hour without shifting and batteries. Sums over prosumers are floats: their last digits may
    depend on batch size and device.

    Args:
        beta, gamma, d_min, d_max, generation: `[P, E]` int64, µtok/Wh, ntok/Wh², Wh; `gamma >= 1`,
            `0 <= d_min <= d_max`, `abs(beta) <= 1e11`.
        import_price, export_price: `[E]` int64 in µtok/Wh, `export_price <= import_price`, within
            `MAX_PRICE_UTOK_PER_WH`.
    """
    peak = beta * _NTOK_PER_UTOK
    slope = gamma.to(torch.float64)
    least, most = d_min.to(torch.float64), d_max.to(torch.float64)
    supply = generation.sum(dim=0).to(torch.float64)

    def demand(price_ntok_per_wh: Tensor) -> Tensor:
        return ((peak - price_ntok_per_wh).to(torch.float64) / slope).maximum(least).minimum(most)

    # The least price with demand <= supply, or imp; then demand > supply one step below it, unless it is exp.
    low, high = export_price * _NTOK_PER_UTOK, import_price * _NTOK_PER_UTOK
    for _ in range(_HALVINGS):
        middle = (low + high) >> 1
        enough = demand(middle).sum(dim=0) <= supply
        low, high = torch.where(enough, low, torch.minimum(middle + 1, high)), torch.where(enough, middle, high)
    above = demand(high)
    step = (high - export_price * _NTOK_PER_UTOK).clamp(max=1)
    below = demand(high - step)
    total_above, total_below = above.sum(dim=0), below.sum(dim=0)
    fall = total_below - total_above
    part = torch.where(fall > 0, (supply - total_above) / torch.where(fall > 0, fall, 1.0), 0.0).clamp(0.0, 1.0)
    consumption = above + part * (below - above)

    net = consumption.sum(dim=0) - supply
    imported, exported = net.clamp(min=0.0), (-net).clamp(min=0.0)
    utility = (consumption * (beta.to(torch.float64) - slope / (2 * PERMILLE) * consumption)).sum(dim=0)
    price = (high.to(torch.float64) - part * step) / _NTOK_PER_UTOK
    return FirstBestHour(
        utility - imported * import_price + exported * export_price, price, imported, exported, consumption
    )


def outside_option(
    beta: Tensor,
    gamma: Tensor,
    d_min: Tensor,
    d_max: Tensor,
    generation: Tensor,
    import_price: Tensor,
    export_price: Tensor,
) -> tuple[Tensor, Tensor]:
    """What each prosumer consumes and gains alone against the grid (*no market*), exactly, int64.

    `d = clip(g, d(imp), d(exp))` with `d(p)` of eq. (1), and surplus `u(d) - imp*[d - g]+ + exp*[g - d]+`, with the
    rounding of docs/market-rules.md.

    Args:
        beta, gamma, d_min, d_max, generation: `[P, E]` int64 as for `first_best_hour`; `gamma * d_max**2` and
            `2000 * (beta - price) + gamma` must fit in int64.
        import_price, export_price: `[E]` (or `[P, E]`) int64, `export_price <= import_price`.

    Returns:
        `(consumption_wh, surplus_utok)`, `[P, E]` int64 both.
    """
    at_import = preferences.demand_at(import_price, beta, gamma, d_min, d_max)
    at_export = preferences.demand_at(export_price, beta, gamma, d_min, d_max)
    return preferences.outside_option(at_import, at_export, generation, beta, gamma, import_price, export_price)
