"""What aggregators and prosumers see, field by field. Nothing in it depends on others' costs, needs or orders, except
through the published mean price and energy of the last auctions.

Every value is one exact integer times one constant, a power of two; below 2**24 a float32 holds it exactly. In the
batched observation all agents have all fields: those of the other role are 0, and the flags say who is who.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.envs.aggregator_auction.assets import Fixed
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.state import State
from gridmarl.protocols import ObservationField
from gridmarl.units import MAX_BOOK_WH, MAX_PRICE_UTOK_PER_WH

_PRICE_SCALE = 2.0**-13
_ENERGY_SCALE = 2.0**-12
_EXACT_WH = 2.0**24


def _price(name: str, meaning: str) -> ObservationField:
    high = MAX_PRICE_UTOK_PER_WH * _PRICE_SCALE
    return ObservationField(f"{name}_utok_per_wh", "µtok/Wh", _PRICE_SCALE, 0.0, high, meaning)


def _energy(name: str, meaning: str, *, low: float = 0.0, high: float = _EXACT_WH) -> ObservationField:
    return ObservationField(f"{name}_wh", "Wh", _ENERGY_SCALE, low * _ENERGY_SCALE, high * _ENERGY_SCALE, meaning)


def _signed(name: str, meaning: str) -> ObservationField:
    return _energy(name, meaning, low=-_EXACT_WH)


def _flag(name: str, meaning: str) -> ObservationField:
    return ObservationField(name, "0 or 1", 1.0, 0.0, 1.0, meaning)


PUBLIC_FIELDS: tuple[ObservationField, ...] = (
    ObservationField("hour_of_day", "h", 2.0**-4, 0.0, 1.5, "public: hour of the day, 0 .. 23"),
    ObservationField("hours_left", "h", 2.0**-6, 0.0, 138.0, "public: hours until the horizon, this one included"),
    _price("short_price", "public: imbalance price of who is short in this hour"),
    _price("long_price", "public: imbalance price of who is long in this hour"),
    _price("cap", "public: highest price of an order"),
    _price("service_price", "public: price of delivered service"),
    _price("missing_penalty", "public: penalty for service that is not delivered"),
    _signed("request", "public: what the system operator asks of all, + = up"),
    _price("last_up_price", "public: mean price of the last auction up that traded; 0 before"),
    _energy("last_up", "public: energy traded up in the hour before", high=float(MAX_BOOK_WH)),
    _price("last_down_price", "public: mean price of the last auction down that traded; 0 before"),
    _energy("last_down", "public: energy traded down in the hour before", high=float(MAX_BOOK_WH)),
)
AGGREGATOR_FIELDS: tuple[ObservationField, ...] = (
    _energy("portfolio", "private: own size"),
    _signed("forecast_deviation", "private: forecast of own deviation from the schedule, + = short"),
    _signed("own_request", "private: own share of the request, + = up"),
    _signed("forecast_need", "private: the sum of both, + = up"),
    _signed("last_deviation", "private: own deviation in the hour before"),
)
KIND_FIELDS: tuple[ObservationField, ...] = (
    _flag("is_battery", "private: 1 if its asset is a battery"),
    _flag("is_load", "private: 1 if its asset is a shiftable load"),
    _flag("is_photovoltaic", "private: 1 if its asset is photovoltaics"),
)
PROSUMER_FIELDS: tuple[ObservationField, ...] = (
    _energy("up_capacity", "private: most that it can deliver up"),
    _price("up_cost", "private: own cost of it"),
    _energy("down_capacity", "private: most that it can deliver down"),
    _price("down_cost", "private: own cost of it"),
    _energy("charge", "private: energy in its battery"),
    _energy("due", "private: deferred load that comes back in this hour"),
    _energy("deferred", "private: all deferred load that comes back, in this hour and later", high=float(MAX_BOOK_WH)),
    _energy("ahead", "private: load that has run ahead and need not run any more"),
)
ROLE_FIELD = _flag("is_aggregator", "public: 1 of an aggregator, 0 of a prosumer")
FIELDS = (*PUBLIC_FIELDS, ROLE_FIELD, *AGGREGATOR_FIELDS, *KIND_FIELDS, *PROSUMER_FIELDS)
"""Of the batched observation."""


def observation_scales(device: torch.device | str = "cpu") -> Tensor:
    """`[F, 1, 1]` float32: the constant of each field."""
    return torch.tensor([item.scale for item in FIELDS], dtype=torch.float32, device=device).reshape(-1, 1, 1)


def observe(params: AggregatorAuctionParams, fixed: Fixed, state: State, scales: Tensor) -> Tensor:
    """Observation `[E, K+P, F]` float32 (a view of a lanes-last tensor).

    Args:
        scales: `[F, 1, 1]` float32, from `observation_scales`.
    """
    zero = torch.zeros_like(state.balances.narrow(0, 1, params.num_aggregators + params.num_prosumers))
    for_aggregators, for_prosumers = zero.narrow(0, 0, params.num_aggregators), zero.narrow(0, 0, params.num_prosumers)
    public = [column + zero for column in _public(params, state)]
    flag = [torch.cat((for_aggregators + 1, for_prosumers))]
    aggregators = [torch.cat((part + for_aggregators, for_prosumers)) for part in _aggregators(fixed, state)]
    prosumers = [torch.cat((for_aggregators, part + for_prosumers)) for part in _prosumers(fixed, state)]
    return (torch.stack([*public, *flag, *aggregators, *prosumers]) * scales).permute(2, 1, 0)


def _public(params: AggregatorAuctionParams, state: State) -> list[Tensor | int]:
    now = min(state.hour, params.horizon_hours - 1)  # after the end: the last hour's prices
    return [
        state.hour % 24,
        params.horizon_hours - state.hour,
        state.short_price.select(0, now),
        state.long_price.select(0, now),
        params.cap_utok_per_wh,
        params.service_price_utok_per_wh * params.has_requests,
        params.missing_penalty_utok_per_wh * params.has_requests,
        state.situation.request_wh.sum(0),
        *state.published,
    ]


def _aggregators(fixed: Fixed, state: State) -> list[Tensor]:
    own = state.situation
    return [fixed.portfolio_wh, own.forecast_wh, own.request_wh, own.need_wh, state.last_deviation_wh]


def _prosumers(fixed: Fixed, state: State) -> list[Tensor]:
    own, stores = state.situation, state.stores
    return [
        fixed.is_battery,
        fixed.is_load,
        fixed.is_photovoltaic,
        own.up_capacity_wh,
        own.up_cost,
        own.down_capacity_wh,
        own.down_cost,
        stores.charge_wh,
        stores.rebound_wh.select(0, 0),
        stores.rebound_wh.sum(0),
        stores.ahead_wh,
    ]
