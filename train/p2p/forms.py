"""The forms of local trade, each played on the same homes and prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

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
from gridmarl.train.p2p.params import SAVINGS, SHARING, P2PParams

NO_TRADE, POOL, BILATERAL = "no trade", "full: pool", "full: bilateral"
COMMUNITY, HYBRID, AGGREGATOR = "community", "hybrid", "aggregator"
STAGES = 4  # homes alone, one manager, several, the aggregator


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
    """Every form, the community under every sharing rule (by its name), and `[E]` the cost that none can undercut."""

    played: list[Played]
    by_sharing: list[Played]
    least_cost_utok: Ints


class _Hours:
    """Hours of all episodes side by side, as the kernels take them: `[P, T * E]`."""

    def __init__(self, homes: Homes) -> None:
        self.shape = homes.load_wh.shape
        self.import_price, self.export_price = self.flat(homes.import_price), self.flat(homes.export_price)
        hours, _, lanes = self.shape
        self.start = torch.arange(hours).repeat_interleave(lanes)

    def flat(self, values: Ints) -> Tensor:
        """`[T, E]` as `[T * E]`."""
        return torch.from_numpy(np.ascontiguousarray(values)).flatten()

    def nets(self, net_wh: Ints) -> Tensor:
        """`[T, P, E]` as `[P, T * E]`."""
        return torch.from_numpy(np.ascontiguousarray(net_wh.transpose(1, 0, 2))).flatten(1)

    def by_hour(self, values: Tensor) -> Ints:
        """`[T * E]` as `[T, E]`."""
        found: Ints = values.view(self.shape[0], self.shape[2]).numpy()
        return found

    def bills(self, values: Tensor) -> Tensor:
        """`[P, T * E]` added up to `[P, E]`."""
        hours, homes, lanes = self.shape
        return values.view(homes, hours, lanes).sum(1)


class _Comparison:
    """The same homes and prices for every form."""

    def __init__(self, homes: Homes, params: P2PParams) -> None:
        self.homes, self.params, self.hours = homes, params, _Hours(homes)
        self.prices = self.hours.import_price, self.hours.export_price
        self.horizon = homes.load_wh.shape[0] if homes.owners.any() else 1  # nothing to plan without batteries
        self.alone_utok: Ints

    def net_wh(self, sizes: list[int]) -> Ints:
        """Net loads, batteries included, where each group decides on its own."""
        return self.homes.net_wh + by_groups(self.homes, sizes, self.params.dispatch)

    def played(
        self, name: str, net_wh: Ints, settled: Settlement, disclosure: Disclosure, saving: list[int] | None = None
    ) -> Played:
        """A form of which every hour is settled and checked; `saving`: groups that share their savings."""
        _check(name, settled, self.hours.nets(net_wh), *self.prices)
        bills = self.hours.bills(settled.bill_utok)
        if saving:
            alone = torch.from_numpy(self.alone_utok)
            parts = zip(alone.split(saving), bills.split(saving), strict=True)
            turn = torch.arange(alone.size(1))
            bills = torch.cat([share_savings(own, cost.sum(0), turn) for own, cost in parts])
        _, *energies, money = settled
        imported, exported, local = (self.hours.by_hour(values) for values in energies)
        paid = None if saving or name == NO_TRADE else self.hours.by_hour(money)
        return Played(name, net_wh, bills.numpy(), imported, exported, local, paid, disclosure)

    def without_managers(self) -> list[Played]:
        """No trade, pool and bilateral trade: every home decides on its own battery."""
        net_wh, start = self.net_wh([1] * self.homes.load_wh.shape[1]), self.hours.start
        nets = self.hours.nets(net_wh)
        pool, bilateral = (
            settle_auction(nets, *self.prices, start, get_auction(name)) for name in (self.params.pool, "pairwise")
        )
        alone = self.played(NO_TRADE, net_wh, settle_alone(nets, *self.prices), Disclosure.none())
        self.alone_utok = alone.bill_utok
        pairs = _pairs(nets, *self.prices, start)
        return [
            alone,
            self.played(POOL, net_wh, pool, of_orders(net_wh)),
            self.played(BILATERAL, net_wh, bilateral, of_orders(net_wh, pairs)),
        ]

    def community(self) -> dict[str, Played]:
        """One manager for all, under every sharing rule."""
        count = self.homes.load_wh.shape[1]
        net_wh, told = self.net_wh([count]), self._told()
        nets, found = self.hours.nets(net_wh), {}
        for sharing in SHARING:
            settled = settle_community(nets, *self.prices, self.hours.start, _rule(sharing))
            found[sharing] = self.played(sharing, net_wh, settled, told, [count] if sharing == SAVINGS else None)
        return found

    def hybrid(self) -> Played:
        """A manager for each of several communities."""
        sizes, sharing = self.params.community_sizes, self.params.sharing
        net_wh, pool = self.net_wh(sizes), get_auction(self.params.pool)
        nets, start = self.hours.nets(net_wh), self.hours.start
        settled = settle_hybrid(nets, *self.prices, start, sizes, _rule(sharing), pool)
        between = np.add.reduceat(net_wh, np.cumsum([0, *sizes[:-1]]), axis=1)
        return self.played(HYBRID, net_wh, settled, self._told(between), sizes if sharing == SAVINGS else None)

    def _told(self, between_wh: Ints | None = None) -> Disclosure:
        ahead = self.horizon if self.params.dispatch == "plan" else 1
        return of_managers(self.homes, ahead, "its manager", between_wh)

    def aggregator(self) -> tuple[Played, Ints]:
        """The central planner, and the cost that no form can undercut."""
        energy, idle, least = by_aggregator(self.homes)
        net_wh = self.homes.net_wh + energy
        settled = settle_central(self.hours.nets(net_wh), *self.prices, self.hours.flat(idle))
        told = of_managers(self.homes, self.horizon, "the aggregator")
        return self.played(AGGREGATOR, net_wh, settled, told), least


def _rule(sharing: str) -> str:
    """The rule of each hour; savings are shared at the end, whatever it was."""
    return SHARING_RULES[0] if sharing == SAVINGS else sharing


def play_forms(homes: Homes, params: P2PParams, on_form: Callable[[], None] | None = None) -> AllForms:
    """Play every form.

    Args:
        homes: of `draw_homes`.
        params: how the forms work.
        on_form: called after each decision maker's forms: `STAGES` times.

    Raises:
        GridmarlError: a plan without solution, or a plug-in's auction that loses money or energy.
        MissingExtraError: the central planner's solver is not installed.
    """
    comparison, advance = _Comparison(homes, params), on_form or (lambda: None)
    played = comparison.without_managers()
    advance()
    by_sharing = comparison.community()
    played.append(replace(by_sharing[params.sharing], name=COMMUNITY))
    advance()
    played.append(comparison.hybrid())
    advance()
    central, least = comparison.aggregator()
    advance()
    return AllForms([*played, central], list(by_sharing.values()), least)


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
