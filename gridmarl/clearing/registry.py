"""Market mechanisms by name: ours, those registered at run time, and those that installed packages offer.

A package adds one without touching ours, by an entry point in its pyproject.toml:

    [project.entry-points."gridmarl.mechanisms"]
    my_auction = "my_package.auction:clear"

What it points to is called as `Mechanism` says. A name given twice is an error, so that no package replaces another's
mechanism unseen.

A mechanism finds one price for all. An auction may have a payment of its own for every order: `get_auction` gives
those, and every mechanism as an auction at its one price. Both are balanced: what buyers pay, sellers get. Aggregators
may buy by more: `get_procurement` gives every auction, the payment rules of procurement, the k-double auctions, and
McAfee's auction, which leaves its operator a surplus.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from torch import Tensor

from gridmarl.clearing.book import Clearing
from gridmarl.clearing.k_double import BUYERS_BID_PERMILLE, SELLERS_OFFER_PERMILLE, clear_k_double
from gridmarl.clearing.mcafee import clear_mcafee
from gridmarl.clearing.pairwise import Trades, clear_pairwise
from gridmarl.clearing.procurement import PAYMENT_RULES, procure
from gridmarl.clearing.quota import trades_at_one_price
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.errors import ConfigError

ENTRY_POINT_GROUP = "gridmarl.mechanisms"


class Mechanism(Protocol):
    """Clears one book per lane: a pure function of int64 tensors, lanes last, that reads nothing back to the host."""

    def __call__(
        self,
        buy_price: Tensor,  # [B, E] µtok/Wh
        buy_wh: Tensor,  # [B, E]
        sell_price: Tensor,  # [S, E]
        sell_wh: Tensor,  # [S, E]
        floor: Tensor,  # [E] export price
        cap: Tensor,  # [E] import price
        start: int | Tensor,  # start of pro-rata rotations
        /,
    ) -> Clearing:
        """Outcome of all lanes."""
        ...


class Auction(Protocol):
    """As a `Mechanism`, but with a payment of its own for every order."""

    def __call__(
        self,
        buy_price: Tensor,  # [B, E] µtok/Wh
        buy_wh: Tensor,  # [B, E]
        sell_price: Tensor,  # [S, E]
        sell_wh: Tensor,  # [S, E]
        floor: Tensor,  # [E] lowest price
        cap: Tensor,  # [E] highest price
        start: int | Tensor,  # start of rotations
        /,
    ) -> Trades:
        """Outcome of all lanes."""
        ...


_REGISTERED: dict[str, Mechanism] = {
    "uniform": clear_uniform,
    "marginal_pair": partial(clear_uniform, price_rule="marginal_pair"),
}

_AUCTIONS: dict[str, Auction] = {"pairwise": clear_pairwise}


def _at_one_price(mechanism: Mechanism) -> Auction:
    def auction(
        buy_price: Tensor,
        buy_wh: Tensor,
        sell_price: Tensor,
        sell_wh: Tensor,
        floor: Tensor,
        cap: Tensor,
        start: int | Tensor,
        /,
    ) -> Trades:
        return trades_at_one_price(mechanism(buy_price, buy_wh, sell_price, sell_wh, floor, cap, start))

    return auction


_PROCUREMENTS: dict[str, Auction] = {
    **{rule: partial(procure, payment=rule) for rule in PAYMENT_RULES},
    "k_double": _at_one_price(clear_k_double),
    "buyers_bid": _at_one_price(partial(clear_k_double, k_permille=BUYERS_BID_PERMILLE)),
    "sellers_offer": _at_one_price(partial(clear_k_double, k_permille=SELLERS_OFFER_PERMILLE)),
    "mcafee": clear_mcafee,
}


# Entry points that were loaded, so that a market that clears by one every hour looks it up once.
_LOADED: dict[str, Mechanism] = {}


def _offered() -> dict[str, EntryPoint]:
    offered: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if any(point.name in names for names in (_REGISTERED, _AUCTIONS, _PROCUREMENTS, offered)):
            raise ConfigError(f"mechanism {point.name!r}: the entry point {point.value!r} takes a name that is in use")
        offered[point.name] = point
    return offered


def register_mechanism(name: str, mechanism: Mechanism) -> None:
    """Make a mechanism known by a name for the rest of the process.

    Raises:
        ConfigError: the name is in use.
    """
    if name in (known := procurement_names()):  # all names there are
        raise ConfigError(f"mechanism {name!r}: the name is in use; in use are {known}")
    _REGISTERED[name] = mechanism


def mechanism_names() -> list[str]:
    """Names of all mechanisms, sorted; loads none."""
    return sorted({*_REGISTERED, *_offered()})


def get_mechanism(name: str) -> Mechanism:
    """The mechanism of that name.

    Raises:
        ConfigError: there is none; the message lists those there are. Also: two packages offer the same name, or what
            the entry point names cannot be imported or called.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name in _LOADED:
        return _LOADED[name]
    offered = _offered()
    if name not in offered:
        raise ConfigError(f"mechanism {name!r}: there is none; there are {sorted({*_REGISTERED, *offered})}")
    try:
        mechanism = offered[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"mechanism {name!r}: cannot load {offered[name].value!r}: {error}") from error
    if not callable(mechanism):
        raise ConfigError(f"mechanism {name!r}: {offered[name].value!r} is no function")
    _LOADED[name] = mechanism
    return _LOADED[name]


def auction_names() -> list[str]:
    """Names of all auctions: ours with a payment per order, and every mechanism; sorted, loads none."""
    return sorted({*_AUCTIONS, *mechanism_names()})


def get_auction(name: str) -> Auction:
    """The auction of that name: one with a payment per order, or a mechanism, everyone paying its one price.

    Raises:
        ConfigError: there is none; the message lists those there are. Else as `get_mechanism`.
    """
    if name in _AUCTIONS:
        return _AUCTIONS[name]
    if name not in (known := auction_names()):
        raise ConfigError(f"auction {name!r}: there is none; there are {known}")
    return _at_one_price(get_mechanism(name))


def procurement_names() -> list[str]:
    """Names of all that aggregators may buy by: ours for procurement, and every auction; sorted, loads none."""
    return sorted({*_PROCUREMENTS, *auction_names()})


def get_procurement(name: str) -> Auction:
    """The procurement of that name; its buyers are the aggregators, its sellers the prosumers.

    Under `mcafee` payments may exceed incomes (`gridmarl.clearing.mcafee.operator_surplus`); all others are balanced.

    Raises:
        ConfigError: there is none; the message lists those there are. Else as `get_mechanism`.
    """
    if name in _PROCUREMENTS:
        return _PROCUREMENTS[name]
    if name not in (known := procurement_names()):
        raise ConfigError(f"procurement {name!r}: there is none; there are {known}")
    return get_auction(name)
