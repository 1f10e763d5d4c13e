"""Start of an episode: the day's vehicles, the value of their energy, the transformer's margin; nothing decided."""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.clearing.quota import energy_in_period
from gridmarl.contracts.quota import QuotaPhase
from gridmarl.contracts.quota_sums import tariff_by_half_hour
from gridmarl.envs.ev_quota.params import MINUTES_PER_PERIOD, EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario
from gridmarl.envs.ev_quota.state import Sessions, State
from gridmarl.envs.ev_quota.vehicles import situation_at
from gridmarl.errors import ConfigError
from gridmarl.random import Purpose, below, lane_keys, philox4x32
from gridmarl.scenarios.ev_load import capacity_margin_w, draw_load_day
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH


def check_scenario(params: EVQuotaParams, scenario: EVScenario) -> None:
    """Once per environment: the scenario fits, and no sum or product can overflow int64 (see units.py).

    Raises:
        ConfigError: another number of stations, or more energy in a half hour than an order or a book may hold.
    """
    if scenario.num_stations != params.num_stations:
        raise ConfigError(
            f"num_stations: {params.num_stations}, but scenario {scenario.name!r} has {scenario.num_stations}; allowed "
            "is the same number"
        )
    most_wh = scenario.max_sessions * scenario.max_power_w // 2
    if most_wh > min(MAX_ORDER_WH, MAX_BOOK_WH // params.num_stations):
        raise ConfigError(
            f"scenario {scenario.name!r}: {scenario.max_sessions} sessions of up to {scenario.max_power_w} W at each "
            f"of {params.num_stations} stations; allowed in a half hour are {MAX_ORDER_WH} Wh per station and "
            f"{MAX_BOOK_WH} Wh in all"
        )


def reset(
    params: EVQuotaParams, scenario: EVScenario, seed: int, num_envs: int, *, first_lane: int = 0, episode: int = 0
) -> State:
    """State at the start of an episode in `num_envs` lanes, on the scenario's device.

    Lane `i` of any batch equals the single run with `first_lane=i`, bit for bit.
    """
    device = scenario.load.expected_w.device
    keys = lane_keys(seed, num_envs, first_lane=first_lane, episode=episode, device=device)
    day = scenario.day(keys)
    load = draw_load_day(scenario.load, keys, day.day_type)
    value = session_values(params, keys, day.valid)
    # by departure, then by index: the order in which a station serves its vehicles
    order = day.departure.argsort(dim=0, stable=True)
    sessions = Sessions(*(part.gather(0, order) for part in (day.arrival, day.departure, day.max_power_w, value)))
    remaining = day.energy_wh.gather(0, order)
    published, actual = (
        energy_in_period(capacity_margin_w(params.transformer_capacity_w, power), MINUTES_PER_PERIOD)
        for power in (load.forecast_w, load.actual_w)
    )
    tariff = torch.tensor(tariff_by_half_hour(scenario.start_slot, params.horizon_half_hours), device=device)
    none = torch.zeros_like(published.select(0, 0))
    return State(
        half_hour=0,
        phase=QuotaPhase.DECLARING,
        keys=keys,
        sessions=sessions,
        remaining_wh=remaining,
        margin_wh=published,
        actual_margin_wh=actual,
        tariff=tariff,
        situation=situation_at(sessions, remaining, 0),
        balances=none.expand(params.num_stations + 1, -1),
        last_price=none,
        clamped_actions=none,
    )


def session_values(params: EVQuotaParams, keys: Tensor, valid: Tensor) -> Tensor:
    """Value of each session's energy, µtok/Wh, `[M, N, E]`: uniform between the two of the parameters.

    The fourth word of a session's draw; the generator of sessions uses the first three.
    """
    sessions, stations, _ = valid.shape
    period, purpose = keys.new_zeros(()), keys.new_full((), Purpose.EV_SESSION)
    agent = torch.arange(stations, device=keys.device).view(-1, 1)
    index = torch.arange(sessions, device=keys.device).view(-1, 1, 1)
    words = philox4x32((period, purpose, agent, index), (keys.select(0, 0), keys.select(0, 1)))
    low, high = params.value_low_utok_per_wh, params.value_high_utok_per_wh
    return (low + below(words[3], high - low + 1)) * valid
