"""The forms of local trade, each played on the same homes and prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gridmarl.clearing.community import SHARING_RULES, share_savings
from gridmarl.clearing.pairwise import match_pairs
from gridmarl.clearing.peer_to_peer import (
    Settlement,
    residuals,
    settle_alone,
    settle_auction,
    settle_central,
    settle_community,
    settle_hybrid,
)
from gridmarl.clearing.registry import get_auction
from gridmarl.errors import GridmarlError
from gridmarl.train.p2p.batteries import by_aggregator, by_groups
from gridmarl.train.p2p.disclosure import Disclosure, of_managers, of_orders
from gridmarl.train.p2p.homes import Homes, Ints
from gridmarl.train.p2p.params import SAVINGS, P2PParams

NO_TRADE, POOL, BILATERAL = "no trade", "full: pool", "full: bilateral"
COMMUNITY, HYBRID, AGGREGATOR = "community", "hybrid", "aggregator"


@dataclass(frozen=True, eq=False)
class Played:
    """One form in all episodes; int64.

    Attributes:
        net_wh: `[T, P, E]` load and charging less generation and discharging.
        bill_utok: `[P, E]` of the episode.
        import_wh, export_wh, local_wh: `[T, E]`; `local_wh` is what homes exchange.
        local_utok: `[T, E]` paid for `local_wh`; None where no price stands behind the bills.
        disclosure: who learns how much.
    """

    name: str
    net_wh: Ints
    bill_utok: Ints
    import_wh: Ints
    export_wh: Ints
    local_wh: Ints
    local_utok: Ints | None
    disclosure: Disclosure


@dataclass(frozen=True, eq=False)
class AllForms:
    """Every form, and `[E]` the cost that none can undercut."""

    played: list[Played]
    least_cost_utok: Ints


class _Hours:
    """Hours of all episodes side by side, as the kernels take them: `[P, T * E]`."""

    def __init__(self, homes: Homes) -> None:
        self.shape = homes.load_wh.shape
        self.import_price = self.prices(homes.import_price)
        self.export_price = self.prices(homes.export_price)
        hours, _, lanes = self.shape
        self.start = torch.arange(hours).repeat_interleave(lanes)

    def prices(self, values: Ints) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).flatten()

    def nets(self, net_wh: Ints) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(net_wh.transpose(1, 0, 2))).flatten(1)

    def by_hour(self, values: Tensor) -> Ints:
        """`[T * E]` as `[T, E]`."""
        found: Ints = values.view(self.shape[0], self.shape[2]).numpy()
        return found

    def bills(self, values: Tensor) -> Tensor:
        """`[P, T * E]` added up to `[P, E]`."""
        hours, homes, lanes = self.shape
        return values.view(homes, hours, lanes).sum(1)


def play_forms(homes: Homes, params: P2PParams, on_form: Callable[[], None] | None = None) -> AllForms:
    """Play every form.

    Raises:
        GridmarlError: a plan without solution, or a plug-in's auction that loses money or energy.
        MissingExtraError: the central planner's solver is not installed.
    """
    hours, advance = _Hours(homes), on_form or (lambda: None)
    imp, exp, start = hours.import_price, hours.export_price, hours.start
    count, sizes = homes.load_wh.shape[1], params.community_sizes
    pool, bilateral = get_auction(params.pool), get_auction("pairwise")
    rule = SHARING_RULES[0] if params.sharing == SAVINGS else params.sharing
    played: list[Played] = []

    def add(name: str, net_wh: Ints, settlement: Settlement, disclosure: Disclosure, groups: list[int]) -> None:
        _check(name, settlement, hours.nets(net_wh), imp, exp)
        bills, priced = hours.bills(settlement.bill_utok), name != NO_TRADE
        if params.sharing == SAVINGS and groups:
            priced, alone = False, torch.from_numpy(played[0].bill_utok)
            parts = zip(alone.split(groups), bills.split(groups), strict=True)
            turn = torch.arange(alone.size(1))
            bills = torch.cat([share_savings(own, cost.sum(0), turn) for own, cost in parts])
        _, *energies, money = settlement
        imported, exported, local = (hours.by_hour(values) for values in energies)
        paid = hours.by_hour(money) if priced else None
        played.append(Played(name, net_wh, bills.numpy(), imported, exported, local, paid, disclosure))
        advance()

    each = homes.net_wh + by_groups(homes, [1] * count, params.dispatch)
    nets = hours.nets(each)
    add(NO_TRADE, each, settle_alone(nets, imp, exp), Disclosure.none(), [])
    orders = of_orders(each, pairs=0)
    add(POOL, each, settle_auction(nets, imp, exp, start, pool), orders, [])
    pairs = _pairs(nets, imp, exp, start)
    add(BILATERAL, each, settle_auction(nets, imp, exp, start, bilateral), of_orders(each, pairs=pairs), [])

    horizon = homes.load_wh.shape[0] if homes.owners.any() else 1  # without batteries nobody has to know what comes
    ahead = horizon if params.dispatch == "plan" else 1
    whole = homes.net_wh + by_groups(homes, [count], params.dispatch)
    settled = settle_community(hours.nets(whole), imp, exp, start, rule)
    add(COMMUNITY, whole, settled, of_managers(homes, ahead, "its manager"), [count])
    parts = homes.net_wh + by_groups(homes, sizes, params.dispatch)
    settled = settle_hybrid(hours.nets(parts), imp, exp, start, sizes, rule, pool)
    between = np.add.reduceat(parts, np.cumsum([0, *sizes[:-1]]), axis=1)
    add(HYBRID, parts, settled, of_managers(homes, ahead, "its manager", between), sizes)

    energy, idle, least = by_aggregator(homes)
    central = homes.net_wh + energy
    settled = settle_central(hours.nets(central), imp, exp, hours.prices(idle))
    add(AGGREGATOR, central, settled, of_managers(homes, horizon, "the aggregator"), [])
    return AllForms(played, least)


def _pairs(nets: Tensor, import_price: Tensor, export_price: Tensor, start: Tensor) -> int:
    """Trades between two homes, in all hours and episodes."""
    value, cost = import_price.expand_as(nets), export_price.expand_as(nets)
    pairs = match_pairs(value, nets.clamp(min=0), cost, (-nets).clamp(min=0), export_price, import_price, start)
    return int((pairs.energy_wh > 0).sum())


def _check(name: str, settlement: Settlement, nets: Tensor, import_price: Tensor, export_price: Tensor) -> None:
    """Not a µtok and not a Wh is lost in any hour."""
    for what, missing in zip(("µtok", "Wh"), residuals(settlement, nets, import_price, export_price), strict=True):
        if missing.any():
            hour = int(missing.ne(0).to(torch.int64).argmax())
            raise GridmarlError(f"{name}: {int(missing[hour])} {what} are missing in an hour; allowed is 0")
