"""What a station sees, field by field: its own vehicles, and what the contract publishes. Nothing in it depends on
other stations' vehicles or orders, except through its own quota, whether quotas are scarce, and the last price.

Every value is one exact integer times one constant, a power of two, so a float32 holds it exactly (below 2**24).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.contracts.quota import QuotaPhase
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.state import Situation, State
from gridmarl.preferences import floor_div
from gridmarl.protocols import ObservationField
from gridmarl.scenarios.ev_demand import lost_wh
from gridmarl.units import MAX_BOOK_WH, MAX_PRICE_UTOK_PER_WH, PERMILLE, UTOK_PER_TOKEN

_PRICE_SCALE = 2.0**-16
_ENERGY_SCALE = 2.0**-14
_COUNT_SCALE = 2.0**-5
_TOKEN_SCALE = 2.0**-14


def _price(name: str, meaning: str) -> ObservationField:
    return ObservationField(
        f"{name}_utok_per_wh", "µtok/Wh", _PRICE_SCALE, 0.0, MAX_PRICE_UTOK_PER_WH * _PRICE_SCALE, meaning
    )


def _energy(name: str, meaning: str) -> ObservationField:
    return ObservationField(f"{name}_wh", "Wh", _ENERGY_SCALE, 0.0, 2.0 * MAX_BOOK_WH * _ENERGY_SCALE, meaning)


def _flag(name: str, meaning: str) -> ObservationField:
    return ObservationField(name, "0 or 1", 1.0, 0.0, 1.0, meaning)


def _tokens(name: str, meaning: str) -> ObservationField:
    return ObservationField(name, "token", _TOKEN_SCALE, -(2.0**24) * _TOKEN_SCALE, 2.0**24 * _TOKEN_SCALE, meaning)


def _half_hours(name: str, meaning: str) -> ObservationField:
    return ObservationField(name, "half hours", _COUNT_SCALE, 0.0, 2.0, meaning)


FIELDS: tuple[ObservationField, ...] = (
    _half_hours("half_hour", "public: half hours since the start of the day, 0 .. 47"),
    _half_hours("half_hours_left", "public: half hours until the horizon, this one included"),
    _flag("stage", "public: 0 declare, 1 trade and charge"),
    _energy("margin", "public: energy that the transformer leaves in this half hour"),
    _energy("next_margin", "public: the same of the next half hour; 0 at the end"),
    _price("tariff", "public: tariff of this half hour"),
    _price("next_tariff", "public: tariff of the next half hour; this one's at the end"),
    _price("last_price", "public: mean price of the last auction that traded; 0 before"),
    _price("floor", "public: lowest price of an order"),
    _price("cap", "public: highest price of an order"),
    _price("unserved_cost", "public: cost of energy that a vehicle leaves without"),
    ObservationField("plugged", "vehicles", _COUNT_SCALE, 0.0, 32.0, "private: own vehicles that want energy"),
    _half_hours("soonest_departure", "private: half hours until the first of them leaves; 0 without any"),
    _energy("remaining", "private: what they still want"),
    _energy("urgent", "private: of it, what must be charged now or is lost"),
    _energy("elastic", "private: of it, what could be charged now or later"),
    _price("urgent_value", "private: mean value of the urgent energy; 0 without any"),
    _price("elastic_value", "private: mean value of the elastic energy; 0 without any"),
    _price(
        "later_tariff", "private: lowest tariff of later half hours before its first vehicle leaves; else this one's"
    ),
    _tokens("waiting_value", "private: value of what they can still get, less the cost of what they can no longer get"),
    _tokens(
        "arrived_value", "private, not declared yet: of it, that of vehicles that came with this half hour; else 0"
    ),
    _energy("declaration_limit", "private: most that it can declare"),
    _energy("declared", "private, declared: own demand; else 0"),
    _energy("quota", "private, declared: own quota before trading; else 0"),
    _price("short_value", "private, declared: lowest value of urgent energy that the quota does not cover; else 0"),
    _flag("scarce", "public, declared: 1 if quotas are below demands, so that they can be traded; else 0"),
)


def observation_scales(device: torch.device | str = "cpu") -> Tensor:
    """`[F, 1, 1]` float32: the constant of each field."""
    return torch.tensor([item.scale for item in FIELDS], dtype=torch.float32, device=device).reshape(-1, 1, 1)


def later_tariff(state: State, half_hour: int) -> Tensor:
    """`[N, E]`: the lowest tariff between the next half hour and the departure of a station's first vehicle."""
    tariff = state.tariff.narrow(0, half_hour, state.tariff.shape[0] - half_hour)
    rest = tariff.narrow(0, 1, tariff.shape[0] - 1)
    lowest = torch.cat((tariff.narrow(0, 0, 1), rest.cummin(0).values))  # over the first k later half hours
    reach = (state.situation.soonest - 1).clamp(min=0, max=rest.shape[0])
    return torch.take(lowest, reach)


def waiting_value(params: EVQuotaParams, state: State, half_hour: int, *, arrived: bool = False) -> Tensor:
    """`[N, E]` whole tokens: what vehicles that are plugged in, or just came, are still good for.

    The value of what they can still get, less the cost of what they leave without even at full power from now on.
    """
    sessions, wanted = state.sessions, state.remaining_wh
    came = sessions.arrival == half_hour if arrived else sessions.arrival <= half_hour
    here = came & (sessions.departure > half_hour)
    lost = lost_wh(wanted, sessions.departure, sessions.max_power_w, half_hour)
    worth = (wanted - lost) * sessions.value - lost * params.unserved_utok_per_wh
    return floor_div((worth * here).sum(0), UTOK_PER_TOKEN)


def most_declared(params: EVQuotaParams, own: Situation) -> Tensor:
    """`[N, E]` Wh: the most that a station can declare now."""
    most = floor_div(own.possible_wh * params.declare_factor_permille, PERMILLE)
    return most.clamp(max=params.declaration_limit_wh)


def observe(params: EVQuotaParams, state: State, scales: Tensor) -> Tensor:
    """Observation `[E, N, F]` float32 (a view of a lanes-last tensor).

    Args:
        scales: `[F, 1, 1]` float32, from `observation_scales`.
    """
    own, end = state.situation, params.horizon_half_hours
    now = min(state.half_hour, end - 1)  # after the end: the last half hour's prices
    following = min(now + 1, end - 1)
    zero = torch.zeros_like(own.urgent_wh)
    after = state.declared
    columns = [
        zero + state.half_hour,
        zero + (end - state.half_hour),
        zero + int(state.phase is QuotaPhase.TRADING),
        state.margin_wh.select(0, now),
        state.margin_wh.select(0, following) * int(following > now),
        state.tariff.select(0, now),
        state.tariff.select(0, following),
        state.last_price,
        zero + params.floor_utok_per_wh,
        zero + params.cap_utok_per_wh,
        zero + params.unserved_utok_per_wh,
        own.plugged,
        own.soonest,
        own.remaining_wh,
        own.urgent_wh,
        own.elastic_wh,
        own.urgent_value,
        own.elastic_value,
        later_tariff(state, now),
        waiting_value(params, state, state.half_hour),
        waiting_value(params, state, state.half_hour, arrived=True) if after is None else zero,
        most_declared(params, own),
        zero if after is None else after.declared_wh,
        zero if after is None else after.quota_wh,
        zero if after is None else after.short_value,
        zero if after is None else after.scarce.to(torch.int64),
    ]
    return (torch.stack([column.expand_as(zero) for column in columns]) * scales).permute(2, 1, 0)
