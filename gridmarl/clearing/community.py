"""An energy community's internal clearing: its manager nets all homes and divides the outcome, in exact integers.

Source: docs/p2p.md. What the homes exchange among themselves changes hands at an internal price between export and
import price; what the manager pays or earns outside for the rest is borne by the side that causes it. Two rules for the
internal price:

* `mid_market`: the mean of import and export price (the mid-market rate of Long, Wu, Zhang, Thomas, Cheng and Jenkins,
  "Peer-to-peer energy trading in a community microgrid", IEEE PES General Meeting 2017);
* `supply_demand_ratio`: from the import price without supply down to the export price where supply covers demand, in
  proportion to the ratio of the two (after Liu, Yu, Wang, Li, Ma and Lei, "Energy-sharing model with price-based demand
  response for microgrids of peer-to-peer prosumers", IEEE Transactions on Power Systems 32(5), 2017; they interpolate
  hyperbolically, which is not defined at export prices of zero or below).

No home pays more than the import price or earns less than the export price for any Wh of an hour. `share_savings`
divides the result of a whole episode instead.

Shapes: `[P, E]` for `P` homes in `E` lanes (or hours of lanes, which need have nothing in common), `[E]` for prices.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.clearing.apportion import apportion
from gridmarl.errors import ConfigError
from gridmarl.preferences import floor_div

SHARING_RULES = ("mid_market", "supply_demand_ratio")


class Shares(NamedTuple):
    """What each home pays its manager, and what was exchanged inside; int64."""

    bill_utok: Tensor  # [P, E] negative: earned; sums over homes equal what the manager pays outside
    inside_wh: Tensor  # [E] exchanged between homes
    price: Tensor  # [E] internal price, µtok/Wh


def split_net(net_wh: Tensor) -> tuple[Tensor, Tensor]:
    """Shortages and surpluses, both 0 or more, of load less generation."""
    return net_wh.clamp(min=0), (-net_wh).clamp(min=0)


def retail_cost_utok(net_wh: Tensor, import_price: Tensor, export_price: Tensor) -> Tensor:
    """What the retailer charges for net loads behind one meter each (negative: pays); shapes that broadcast."""
    short, surplus = split_net(net_wh)
    return import_price * short - export_price * surplus


def divide(total_utok: Tensor, weights_wh: Tensor, start: int | Tensor) -> Tensor:
    """Parts of an amount of money in proportion to energies; they add up to it exactly.

    Each part is its weight times the whole part of the price per Wh, plus what cumulative floors give it of the rest:
    no Wh costs more than the price rounded up, or less than the price rounded down.

    Args:
        total_utok: `[E]` int64, may be negative, 0 where all weights are 0; below 2**62 in magnitude.
        weights_wh: `[P, E]` int64, each 0 or more, sums `<= MAX_BOOK_WH`.
        start: where the rotation starts, see `apportion`.
    """
    whole = weights_wh.sum(0)
    price = floor_div(total_utok, whole.clamp(min=1))
    return price * weights_wh + apportion(total_utok - price * whole, weights_wh, start)


def internal_price(
    short_wh: Tensor, surplus_wh: Tensor, import_price: Tensor, export_price: Tensor, rule: str
) -> Tensor:
    """Price `[E]` of what homes exchange, from `export_price` to `import_price`.

    Args:
        short_wh, surplus_wh: `[E]` int64, sums over the homes that are short, or have a surplus.
        import_price, export_price: `[E]` int64, `export_price <= import_price`.
        rule: one of `SHARING_RULES`.

    Raises:
        ConfigError: an unknown rule.
    """
    if rule == "mid_market":
        return (import_price + export_price) >> 1
    if rule == "supply_demand_ratio":
        covered = torch.minimum(short_wh, surplus_wh)
        part = floor_div((import_price - export_price) * covered, short_wh.clamp(min=1))
        return torch.where(short_wh > 0, import_price - part, export_price)
    raise ConfigError(f"sharing: {rule!r}, allowed are {', '.join(SHARING_RULES)}")


def share(
    net_wh: Tensor, import_price: Tensor, export_price: Tensor, outside_utok: Tensor, start: int | Tensor, rule: str
) -> Shares:
    """Divide one hour of a community among its homes.

    With `D` the sum of shortages, `S` that of surpluses, `p` the internal price and `o` the money paid outside:
    homes that are short pay `p * min(D, S)` together, and `o` besides if `D > S`; homes with a surplus earn
    `p * min(D, S)` together, and `-o` besides if `S > D`. Each side divides by energy.

    Args:
        net_wh: `[P, E]` int64, load less generation, battery included.
        import_price, export_price: `[E]` int64, between which the internal price lies.
        outside_utok: `[E]` int64, what the manager pays for `net_wh.sum(0)`; 0 where that is 0.
        start: where the rotation of the pro-rata rounding starts, see `apportion`.
        rule: one of `SHARING_RULES`.

    Raises:
        ConfigError: an unknown rule.
    """
    short, surplus = split_net(net_wh)
    demand, supply = short.sum(0), surplus.sum(0)
    price = internal_price(demand, supply, import_price, export_price, rule)
    inside = torch.minimum(demand, supply)
    payments = price * inside + outside_utok * (demand > supply)
    incomes = price * inside - outside_utok * (demand < supply)
    return Shares(divide(payments, short, start) - divide(incomes, surplus, start), inside, price)


def share_savings(alone_utok: Tensor, cost_utok: Tensor, start: int | Tensor) -> Tensor:
    """Bills `[P, E]` that give every home the same saving against what it would have paid alone.

    Nobody is worse off as long as the community costs no more than its homes alone. To a few µtok, which the rotation
    places.

    Args:
        alone_utok: `[P, E]` int64, bills without the community.
        cost_utok: `[E]` int64, what the community pays together.
        start: where the rotation starts, see `apportion`.
    """
    saving = alone_utok.sum(0) - cost_utok
    return alone_utok - divide(saving, torch.ones_like(alone_utok), start)
