"""The generator of EV sessions beside the file it is calibrated to: `python -m gridmarl.scenarios.ev_compare`.

Both are days that begin at 06:00 and are cut at their end, with all stations taken together, so that every figure is
defined the same way on either side. Floating point, for display and tests only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gridmarl.errors import GridmarlError
from gridmarl.random import lane_keys
from gridmarl.scenarios.ev_calibrate import calibrate_sessions
from gridmarl.scenarios.ev_days import EvDay, draw_ev_day, make_ev_stations
from gridmarl.scenarios.ev_files import EvSessions, load_sessions
from gridmarl.scenarios.ev_recorded import recorded_days
from gridmarl.scenarios.ev_tables import SLOTS_PER_DAY

WH_PER_KWH = 1000


def describe(day: EvDay) -> dict[str, float]:
    """Figures of the sessions of all stations and lanes, by name with unit."""
    chosen = day.valid
    stay = (day.departure - day.arrival)[chosen].double() / 2
    energy = day.energy_wh[chosen].double() / WH_PER_KWH
    per_day = day.valid.sum(dim=(0, 1)).double()
    load = at_once_w(day).sum(dim=1).double() / WH_PER_KWH
    cut = float(day.cut_wh.sum())
    figures = {
        "sessions per weekday": float(per_day[day.day_type == 0].mean()),
        "sessions per weekend day": float(per_day[day.day_type == 1].mean()),
        "variance over mean, weekdays": float(per_day[day.day_type == 0].var() / per_day[day.day_type == 0].mean()),
        "stay, mean h": float(stay.mean()),
        "energy, mean kWh": float(energy.mean()),
        "energy not fitting into the day, %": 100 * cut / (cut + float(day.energy_wh.sum())),
        "sessions cut at the day's end, %": 100 * float((day.departure[chosen] == SLOTS_PER_DAY).double().mean()),
        "maximum power, mean kW": float(day.max_power_w[chosen].double().mean()) / WH_PER_KWH,
        "charging at once: daily peak, mean kW": float(load.amax(dim=0).mean()),
    }
    for permille in (100, 250, 500, 750, 900):
        figures[f"stay, {permille // 10} % quantile h"] = float(stay.quantile(permille / 1000))
        figures[f"energy, {permille // 10} % quantile kWh"] = float(energy.quantile(permille / 1000))
    return figures


def at_once_w(day: EvDay) -> Tensor:
    """`[48, N, E]` int64 mean power of each station if every car charges at maximum power from its arrival on."""
    step = day.max_power_w >> 1
    loads = []
    for slot in range(SLOTS_PER_DAY):
        before = (slot - day.arrival) * step
        charge = torch.minimum((day.energy_wh - before).clamp(min=0), step) * (slot >= day.arrival)
        loads.append(2 * charge.sum(dim=0))
    return torch.stack(loads)


def arrival_distance(first: EvDay, second: EvDay) -> float:
    """Largest difference of the cumulative shares of arrivals over the half hours of the day (Kolmogorov-Smirnov)."""
    shares = [
        torch.bincount(day.arrival[day.valid], minlength=SLOTS_PER_DAY).double().cumsum(0) / int(day.valid.sum())
        for day in (first, second)
    ]
    return float((shares[0] - shares[1]).abs().max())


def beside(sessions: EvSessions, first_day: str, days: int, lanes: int, seed: int) -> tuple[EvDay, EvDay]:
    """Recorded days and as many sessions per day from the generator, calibrated to the whole file, in one station."""
    recorded = recorded_days(sessions, 1, first_day, days)
    weekend = recorded.day_type.double().mean()
    per_day = recorded.valid.sum(dim=(0, 1)).double()
    tables = calibrate_sessions(sessions)
    factor = (1 - weekend) * tables.day_factor_permille[0] + weekend * tables.day_factor_permille[1]
    rate = round(float(per_day.mean() * 1_000_000 / factor))
    stations = make_ev_stations([sessions.kind], rate, tables={sessions.kind: tables})
    return recorded, draw_ev_day(stations, lane_keys(seed, lanes))


def table(sessions: EvSessions, first_day: str, days: int, lanes: int = 1000, seed: int = 1) -> str:
    """The comparison as a Markdown table."""
    recorded, drawn = beside(sessions, first_day, days, lanes, seed)
    left, right = describe(recorded), describe(drawn)
    lines = [f"| {sessions.kind}, {days} days from {first_day} | recorded | generator |", "|---|---|---|"]
    lines += [f"| {name} | {left[name]:.2f} | {right[name]:.2f} |" for name in left]
    lines.append(f"| arrivals: greatest difference of cumulative shares | | {arrival_distance(recorded, drawn):.4f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 2 and one line on standard error if the input is at fault."""
    parser: Any = argparse.ArgumentParser(prog="python -m gridmarl.scenarios.ev_compare", description=__doc__)
    parser.add_argument("--sessions", nargs="+", required=True, metavar="FILE", help="files of one kind")
    parser.add_argument("--first-day", required=True, metavar="YYYY-MM-DD")
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--lanes", type=int, default=1000, help="days that the generator draws")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        print(table(load_sessions(options.sessions), options.first_day, options.days, options.lanes, options.seed))
    except GridmarlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
