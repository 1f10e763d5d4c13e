"""Small episodes of EVQuota written out in full: vehicles, quotas, orders, trades, payments of every half hour.

`python -m tests.golden.quota_rounds` writes the files of the folder `quota` anew; a test compares them byte for byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario
from gridmarl.envs.ev_quota.step import Settled
from gridmarl.scenarios.ev_days import EvDay
from gridmarl.scenarios.ev_load import make_conventional_load

COMMAND = "python -m tests.golden.quota_rounds"
FOLDER = Path(__file__).parent / "quota"
SEED = 7
_COMMON: dict[str, Any] = {
    "num_stations": 3,
    "horizon_half_hours": 4,
    "transformer_capacity_w": 16_000,
    "cap_utok_per_wh": 500_000,
}
PLAYS: dict[str, dict[str, Any]] = {
    "pairwise": {},
    "uniform_forfeit": {"auction": "uniform", "forfeit_permille": 500},
    "overuse": {"overuse": True, "deposit_budget_utok": 150_000_000},
}
# arrival, departure, energy, power of each station's vehicles
VEHICLES = [
    [(0, 2, 5_000, 7_000), (0, 4, 6_000, 11_000), (1, 3, 2_500, 3_680)],
    [(0, 1, 3_000, 7_360), (1, 4, 4_000, 7_360), (2, 3, 1_001, 2_300)],
    [(0, 3, 9_000, 22_000), (2, 6, 9_000, 7_360), (3, 4, 500, 7_000)],
]
# declare, trade, price, charge of each station, half hour by half hour
DECIDED = [
    [[0.5, 0.75, 0.5, 1.0], [0.0, -0.5, -0.5, 1.0], [1.0, 0.5, 0.75, 1.0]],
    [[0.0, 1.0, 0.75, 1.0], [-1.0, 0.25, 0.25, 0.5], [0.25, -1.0, -0.75, 1.0]],
    [[1.0, -0.5, -1.0, 0.75], [1.0, 0.5, -0.5, 1.0], [-0.5, 0.75, 0.5, 1.0]],
    [[0.0, -0.25, -0.5, 1.0], [0.5, 0.0, 0.0, -0.5], [1.0, 1.0, 1.0, 1.0]],
]


def scenario() -> EVScenario:
    """One recorded day, and a conventional load that leaves about half of the capacity."""
    rows = torch.tensor(VEHICLES).permute(2, 1, 0).unsqueeze(-1)  # [4, M, N, 1]
    arrival, departure, energy, power = rows
    none = torch.zeros_like(arrival[0])
    day = EvDay(arrival, departure, energy, power, energy > 0, torch.zeros(1, dtype=torch.int64), none)
    return EVScenario("by hand", "made up", day, make_conventional_load(12_000, forecast_error_permille=100), 35)


def playthrough(name: str) -> str:
    """The text of one episode."""
    params = EVQuotaParams.from_dict(_COMMON | PLAYS[name])
    env = BatchedEVQuota(params, scenario(), auto_reset=False)
    env.reset(SEED)
    settings = ", ".join(f"{key}={value}" for key, value in (_COMMON | PLAYS[name]).items())
    lines = [f"{name}: seed {SEED}, {settings}", f"Wh, µtok/Wh, µtok; written by {COMMAND}"]
    for title, values in (("value", env.state.sessions.value), ("energy", env.state.remaining_wh)):
        lines.append(f"{title} of vehicles, by station: {values[..., 0].T.tolist()}")
    for decided in DECIDED:
        actions = torch.tensor([decided])
        env.step(actions)
        env.step(actions)
        assert env.settled is not None
        lines += ["", *_half_hour(env.settled), f"  left      {env.state.remaining_wh[..., 0].T.tolist()}"]
        lines.append(f"  balances  {env.state.balances[:, 0].tolist()}")
    return "\n".join(lines) + "\n"


def _half_hour(settled: Settled) -> list[str]:
    own, declared, orders, trades = settled.situation, settled.declared, settled.orders, settled.trades
    columns = {
        "urgent": own.urgent_wh, "elastic": own.elastic_wh, "declared": declared.declared_wh,
        "quota": declared.quota_wh, "price": orders.price, "buy": orders.buy_wh, "bought": trades.buy_fill_wh,
        "sell": orders.sell_wh, "sold": trades.sell_fill_wh, "paid": trades.payment_utok,
        "earned": trades.income_utok, "final": settled.quota_wh, "used": settled.used_wh,
        "value": settled.value_utok, "fee": settled.charges.fee_utok, "penalty": settled.charges.penalty_utok,
        "forfeit": settled.charges.forfeit_utok, "unserved": settled.unserved_wh, "reward": settled.reward_utok,
    }  # fmt: skip
    lines = [
        f"half hour {settled.half_hour}: margin {int(settled.margin_wh)} (actual {int(settled.actual_margin_wh)}), "
        f"tariff {int(settled.tariff)}, scarce {int(declared.scarce)}, volume {int(trades.volume_wh)}, mean price "
        f"{int(settled.price)}, overload {int(settled.overload_wh)}"
    ]
    for title, values in columns.items():
        lines.append(f"  {title:<10}" + "".join(f"{value:>14}" for value in values[:, 0].tolist()))
    return lines


def main() -> None:
    """Write all files."""
    for name in PLAYS:
        path = FOLDER / f"{name}.txt"
        path.write_text(playthrough(name), encoding="utf-8", newline="\n")
        print(path.name)


if __name__ == "__main__":
    main()
