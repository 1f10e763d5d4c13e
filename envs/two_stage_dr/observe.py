"""What a prosumer sees, field by field. Nothing in it depends on another prosumer's bid or private parameters,
except through published prices and totals.

Every value is one exact integer times one constant. The scales of prices and energies are powers of two, so a float32
holds the integer exactly (below 2**24) and `round(value / scale)` recovers it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.contracts.two_stage import Phase
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import State
from gridmarl.preferences import demand_at
from gridmarl.protocols import ObservationField
from gridmarl.scenarios.lanes import at
from gridmarl.units import MAX_BOOK_WH, MAX_PRICE_UTOK_PER_WH, UTOK_PER_TOKEN

_PRICE_SCALE = 2.0**-13
_ENERGY_SCALE = 2.0**-10
_SMALL_COLUMN = 4096  # numbers in a column up to which the number of operations costs more than memory
_PRICE_BOUND = 2.0 * MAX_PRICE_UTOK_PER_WH * _PRICE_SCALE
_ENERGY_BOUND = MAX_BOOK_WH * _ENERGY_SCALE


def _price(name: str, meaning: str) -> ObservationField:
    return ObservationField(f"{name}_utok_per_wh", "µtok/Wh", _PRICE_SCALE, -_PRICE_BOUND, _PRICE_BOUND, meaning)


def _energy(name: str, meaning: str) -> ObservationField:
    return ObservationField(f"{name}_wh", "Wh", _ENERGY_SCALE, 0.0, _ENERGY_BOUND, meaning)


def _flag(name: str, meaning: str) -> ObservationField:
    return ObservationField(name, "0 or 1", 1.0, 0.0, 1.0, meaning)


FIELDS: tuple[ObservationField, ...] = (
    ObservationField("hour_of_day", "h", 2.0**-4, 0.0, 1.5, "public: hour of the day, 0 .. 23"),
    ObservationField("hours_left", "h", 2.0**-6, 0.0, 138.0, "public: hours until the horizon, this one included"),
    _price("import_price", "public: import price of this hour"),
    _price("export_price", "public: export price of this hour"),
    _price("last_price", "public: local market price of the hour before"),
    _price("last_dr_price", "public: demand-response price of the hour before"),
    ObservationField(
        "gamma_ntok_per_wh2", "ntok/Wh²", 2.0**-14, 0.0, 2.0**50, "private: slope of marginal utility in this hour"
    ),
    _price("beta", "private: marginal utility of the first Wh"),
    _energy("demand_min", "private: least consumption"),
    _energy("demand_max", "private: greatest consumption"),
    _energy("demand_at_import", "private: own demand at the import price, eq. (1)"),
    _energy("demand_at_export", "private: own demand at the export price, eq. (1)"),
    _energy("comfort_demand", "private: own demand at price zero (greatest comfort)"),
    _energy("forecast", "private: forecast generation of this hour, offered in full"),
    _energy("returned", "private: shifted energy that returns in this hour"),
    _energy("backlog", "private: shifted energy still to return, this hour's included"),
    _energy("soc", "private: battery charge"),
    _flag("participates", "private: 1 if this prosumer takes part in demand response"),
    _flag("stage", "public: 0 bidding, 1 rescheduling (stage2='learned')"),
    _energy("stage1_demand", "private, stage 1 done: own demand as bid; else 0"),
    _price("price", "public, stage 1 done: local market price; else 0"),
    _price("dr_price", "public, stage 1 done: demand-response price; else 0"),
    _flag("shortage", "public, stage 1 done: 1 if demand exceeds local supply; else 0"),
    _energy("rule_reduction", "private, stage 1 done: the reduction eq. (1) asks for; else 0"),
    ObservationField(
        "outside_option_tok",
        "token",
        1.0 / UTOK_PER_TOKEN,
        -1e12,
        1e12,
        "private: surplus of this hour without a market, by the forecast: the best against import and export prices",
    ),
)


SPENDABLE = ObservationField(
    "spendable_tok",
    "token",
    1.0 / UTOK_PER_TOKEN,
    -1e13,
    1e13,
    "private: own money that is final; below zero it is owed (finality='strict')",
)


def fields_of(params: TwoStageDRParams) -> tuple[ObservationField, ...]:
    """What a prosumer sees under these parameters: `FIELDS`, and under strict finality its spendable money."""
    return (*FIELDS, SPENDABLE) if params.has_strict_finality else FIELDS


def rule_reduction_wh(state: State) -> Tensor:
    """The reduction eq. (1) asks for at the known prices, eq. (4), for those who take part; `[P, E]` Wh."""
    assert state.orders is not None and state.market is not None
    home, market = state.home, state.market
    wanted = demand_at(market.reduction_price, state.beta, home.gamma, home.d_min_wh, home.d_max_wh)
    return (state.orders.demand_wh - wanted).clamp(min=0) * (state.participates & (market.dr_price > 0))


def observe(params: TwoStageDRParams, state: State, scales: Tensor) -> Tensor:
    """Observation `[E, P, F]` float32 (a view of a lanes-last tensor).

    Args:
        scales: `[F, 1, 1]` float32, from `observation_scales`; with those of `FIELDS`, only these are shown.
    """
    return observe_at(params, state, state.hour, scales)


def observe_at(params: TwoStageDRParams, state: State, hour: int | Tensor, scales: Tensor) -> Tensor:
    """`observe` in the given hour, an int or a `[]` int64 tensor, whatever `state.hour` says."""
    home, slots = state.home, state.backlog.shape[0]
    zero = torch.zeros_like(state.last_price)
    after = state.orders is not None and state.market is not None
    # after the end: the last hour's prices
    row = min(hour, params.horizon_hours - 1) if isinstance(hour, int) else hour.clamp(max=params.horizon_hours - 1)
    columns = [
        zero + hour % 24,
        zero + (params.horizon_hours - hour),
        at(state.import_price, row),
        at(state.export_price, row),
        state.last_price,
        state.last_dr_price,
        home.gamma,
        zero + state.beta,
        home.d_min_wh,
        home.d_max_wh,
        home.at_import_wh,
        home.at_export_wh,
        home.comfort_wh,
        home.forecast_wh,
        at(state.backlog, row % slots) if slots else zero,
        state.backlog.sum(0) if slots else zero,
        state.soc_wh,
        state.participates.to(torch.int64),
        zero + int(state.phase is Phase.RESCHEDULING),
        *(_after_stage_one(state) if after else (zero,) * 5),
        home.outside_utok,
    ]
    if scales.shape[0] > len(FIELDS):
        columns.append(state.spendable_utok)
    # integers times float32 make float32, in one operation
    if home.gamma.numel() > _SMALL_COLUMN:  # column by column: no large tensor of integers, what is public once a lane
        columns = [column * scale for column, scale in zip(columns, scales.unbind(0), strict=True)]
        return torch.stack([column.expand_as(home.gamma) for column in columns]).permute(2, 1, 0)
    return (torch.stack([column.expand_as(home.gamma) for column in columns]) * scales).permute(2, 1, 0)


def _after_stage_one(state: State) -> tuple[Tensor, ...]:
    assert state.orders is not None and state.market is not None
    market = state.market
    return (
        state.orders.demand_wh,
        market.price,
        market.dr_price,
        (market.shortage_wh > 0).to(torch.int64),
        rule_reduction_wh(state),
    )


def observation_scales(device: torch.device | str = "cpu", params: TwoStageDRParams | None = None) -> Tensor:
    """`[F, 1, 1]` float32: the constant of each field, of those that the parameters add, too, if they are given."""
    shown = FIELDS if params is None else fields_of(params)
    return torch.tensor([item.scale for item in shown], dtype=torch.float32, device=device).reshape(-1, 1, 1)
