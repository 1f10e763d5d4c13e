"""What a control form or an auction comes to: one row of means over episodes, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction
from gridmarl.metrics import mean_and_interval
from gridmarl.train.aggregator.control import Episode, play_control, play_idle, welfare_bound
from gridmarl.train.aggregator.profile import profile_of
from gridmarl.train.comparison import share_interval
from gridmarl.units import PERMILLE, UTOK_PER_TOKEN

Array = NDArray[np.float64]
NO_CONTROL, INDIRECT, MIXED, DIRECT = "no control", "indirect", "mixed", "direct"
WH_PER_KWH = 1_000.0
LEAST_GAIN = 0.001
"""Below this share of the cost without control, gains are too small to divide by."""


@dataclass(frozen=True)
class ControlRow:
    """Means per episode, tokens and kWh; `_interval`: half-widths of 95 % intervals over episodes.

    Attributes:
        cost_tok: of covering deviations and requests: private cost, and what aggregators pay to the operator in all
            (imbalance and penalties, less service and what is long).
        gains_share: of what control within the bids' limits can save at most, by the certified bound, in all episodes
            together; None where there is nothing to save. Prosumers that follow a price may deliver more than could be
            bid for, and so save more than that.
        uncovered_kwh: short against the schedule, and missing of requests.
        long_kwh: beyond both.
        up_kwh, down_kwh: delivered.
        peak_before_kwh, peak_kwh: greatest hourly draw of the flexible assets, without and with calls.
        rebound_kwh: most that comes back in an hour uncalled; `rebound_hour` is when, the mean over the episodes in
            which anything does (None: in none).
        prosumers_cost_tok, payments_tok: private costs, and what prosumers get.
        aggregators_tok: change of the accounts of all aggregators.
        surplus_tok: paid by aggregators less got by prosumers: 0 if the form is balanced.
    """

    name: str
    cost_tok: float
    cost_interval_tok: float
    saved_tok: float
    saved_interval_tok: float
    gains_share: float | None
    gains_share_interval: float | None
    uncovered_kwh: float
    uncovered_interval_kwh: float
    long_kwh: float
    up_kwh: float
    down_kwh: float
    peak_before_kwh: float
    peak_kwh: float
    peak_interval_kwh: float
    rebound_kwh: float
    rebound_interval_kwh: float
    rebound_hour: float | None
    prosumers_cost_tok: float
    payments_tok: float
    aggregators_tok: float
    surplus_tok: float


@dataclass(frozen=True, eq=False)
class References:
    """What an episode costs without control, and at least, `[E]` µtok."""

    none_utok: Array
    least_utok: Array


def references(env: BatchedAggregatorAuction, seed: int, *, episode: int = 0) -> References:
    """Of an episode's draws.

    Raises:
        SolverError: a plan without certificate.
    """
    return References(cost_utok(play_idle(env, seed, episode=episode)), -welfare_bound(env, seed, episode=episode))


def control_rows(
    env: BatchedAggregatorAuction, seed: int, *, episode: int = 0, share_permille: int = 500
) -> list[ControlRow]:
    """No control, indirect, mixed and direct control, in the same episodes.

    Args:
        env: whose parameters, scenario and lanes are used; every lane is an episode.
        seed, episode: of the draws.
        share_permille: of the assets that mixed control dispatches.

    Raises:
        ConfigError: a share outside 0 .. 1000.
        SolverError: a plan without certificate.
    """
    forms = {INDIRECT: 0, MIXED: share_permille, DIRECT: PERMILLE}
    played = {name: play_control(env, share, seed, episode=episode) for name, share in forms.items()}
    idle = play_idle(env, seed, episode=episode)
    known = references(env, seed, episode=episode)
    return [episode_row(env, name, one, known) for name, one in ((NO_CONTROL, idle), *played.items())]


def cost_utok(played: Episode) -> Array:
    """Of covering deviations and requests, `[E]`."""
    return _total([hour.cost_utok.sum(0) - hour.flows.received_utok.sum(0) for hour in played.hours])


def episode_row(env: BatchedAggregatorAuction, name: str, played: Episode, known: References) -> ControlRow:
    """The row of an episode that was played in all lanes, by control or by auction.

    Args:
        env: whose parameters were played.
        name: of the row.
        played: the episode.
        known: of the same draws.
    """
    hours, shape = played.hours, profile_of(env.fixed, played.hours, played.last)
    cost = cost_utok(played)
    saved, possible = known.none_utok - cost, known.none_utok - known.least_utok
    worthwhile = possible.sum() > LEAST_GAIN * np.abs(known.none_utok).sum()
    paid = _total([hour.up.payment_utok.sum(0) + hour.down.payment_utok.sum(0) for hour in hours])
    earned = _total([hour.up.income_utok.sum(0) + hour.down.income_utok.sum(0) for hour in hours])
    received = _total([hour.flows.received_utok.sum(0) for hour in hours])
    uncovered = _total([(hour.balance.short_wh + hour.balance.missing_wh).sum(0) for hour in hours])
    rebound, peak = _host(shape.rebound_wh), _host(shape.drawn_wh).max(0)
    when = rebound.argmax(0)[rebound.max(0) > 0]
    cost_mean, cost_width = _tokens(cost)
    saved_mean, saved_width = _tokens(saved)
    uncovered_mean, uncovered_width = _kwh(uncovered)
    peak_mean, peak_width = _kwh(peak)
    rebound_mean, rebound_width = _kwh(rebound.max(0))
    return ControlRow(
        name=name,
        cost_tok=cost_mean,
        cost_interval_tok=cost_width,
        saved_tok=saved_mean,
        saved_interval_tok=saved_width,
        gains_share=float(saved.sum() / possible.sum()) if worthwhile else None,
        gains_share_interval=share_interval(saved, possible) if worthwhile else None,
        uncovered_kwh=uncovered_mean,
        uncovered_interval_kwh=uncovered_width,
        long_kwh=_kwh(_total([hour.balance.long_wh.sum(0) for hour in hours]))[0],
        up_kwh=_kwh(_total([hour.up.volume_wh for hour in hours]))[0],
        down_kwh=_kwh(_total([hour.down.volume_wh for hour in hours]))[0],
        peak_before_kwh=_kwh(_host(shape.before_wh).max(0))[0],
        peak_kwh=peak_mean,
        peak_interval_kwh=peak_width,
        rebound_kwh=rebound_mean,
        rebound_interval_kwh=rebound_width,
        rebound_hour=float(when.mean()) if when.size else None,
        prosumers_cost_tok=_tokens(_total([hour.cost_utok.sum(0) for hour in hours]))[0],
        payments_tok=_tokens(earned)[0],
        aggregators_tok=_tokens(received - paid)[0],
        surplus_tok=_tokens(paid - earned)[0],
    )


def _host(values: Tensor) -> Array:
    found: Array = values.cpu().numpy().astype(np.float64)
    return found


def _total(hours: Sequence[Tensor]) -> Array:
    """Sum over hours of `[E]`."""
    return _host(torch.stack(list(hours)).sum(0))


def _tokens(utok: Array) -> tuple[float, float]:
    return mean_and_interval(utok / UTOK_PER_TOKEN)


def _kwh(wh: Array) -> tuple[float, float]:
    return mean_and_interval(wh / WH_PER_KWH)
