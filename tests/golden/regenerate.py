"""Small episodes written out in full: bids, prices, trades, balances and state root of every hour.

`python -m tests.golden.regenerate` writes the files of this folder anew; a test compares them byte for byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.step import Settled
from gridmarl.ledger.hashing import balance_bytes, state_root
from gridmarl.scenarios.scenario import toy_scenario

COMMAND = "python -m tests.golden.regenerate"
FOLDER = Path(__file__).parent
SEED = 7
_COMMON: dict[str, Any] = {
    "num_prosumers": 3,
    "horizon_hours": 4,
    "participation_permille": 1000,
    "pv_scale_permille": 1000,
    "reference_price_utok_per_wh": 14_000,
    "shift_deadline_hours": 2,
}
PLAYS: dict[str, dict[str, Any]] = {
    "two_settlement": {},
    "additive": {"dr_settlement": "additive"},
    "battery_learned": {
        "stage2": "learned",
        "price_rule": "marginal_pair",
        "battery_capacity_wh": 2_000,
        "battery_power_w": 800,
        "demand_min_permille": 200,
    },
}
WHOLESALE = [6_000, 21_000, -9_000, 2_000]
LOAD = [[1_400, 900, 300], [2_000, 1_100, 0], [700, 650, 500], [1_500, 800, 900]]
PV = [[0, 400, 1_900], [0, 300, 900], [0, 1_500, 2_500], [0, 0, 200]]
# buy price, quantity, sell price, battery, reduction of each prosumer, in -1 .. 1, hour by hour
BIDS = [
    [[0.5, 0.75, 0.0, -0.5, 0.0], [0.25, 0.5, -0.25, 1.0, 0.0], [1.0, -0.5, -0.75, 0.5, 0.0]],
    [[1.0, 1.0, 1.0, -1.0, 0.25], [-0.5, 0.0, -0.5, -1.0, 1.0], [0.0, 0.0, 0.125, 0.0, -1.0]],
    [[-1.0, 0.0, -1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0, 0.0], [0.5, 0.5, -0.5, 1.0, 0.0]],
    [[0.75, 0.5, 0.5, 0.0, 0.5], [0.75, 0.25, 0.5, 1.0, 0.5], [0.25, -1.0, -1.0, -1.0, 0.5]],
]
NAMES = ("buy_price", "quantity", "sell_price", "battery", "reduction")


def playthrough(name: str) -> str:
    """The text of one episode."""
    params = TwoStageDRParams.from_dict(_COMMON | PLAYS[name])
    scenario = toy_scenario(WHOLESALE, LOAD, PV, load_ratio_permille=(700, 1000, 1300), pv_ratio_permille=(900, 1100))
    env = BatchedTwoStageDR(params, scenario, auto_reset=False)
    env.reset(SEED)
    settings = ", ".join(f"{key}={value}" for key, value in (_COMMON | PLAYS[name]).items())
    lines = [f"{name}: seed {SEED}, {settings}", f"Wh, µtok/Wh, µtok; written by {COMMAND}"]
    shown = [NAMES.index(entry) for entry in env.action_spec.names]
    for bids in BIDS:
        actions = torch.tensor(bids, dtype=torch.float32)[None, :, shown]
        for _ in range(params.steps_per_hour):
            env.step(actions)
        assert env.settled is not None
        lines += ["", *_hour(env.settled), *_after(env)]
    return "\n".join(lines) + "\n"


def _hour(settled: Settled) -> list[str]:
    orders, market, home, flow = settled.orders, settled.market, settled.home, settled.flows
    columns = {
        "buy at": orders.buy_price, "buy": orders.buy_wh, "bought": market.buy_fill_wh,
        "sell at": orders.sell_price, "sell": orders.sell_wh, "sold": market.sell_fill_wh,
        "demand": orders.demand_wh, "returned": orders.returned_wh, "charge": orders.charge_wh,
        "discharge": orders.discharge_wh, "offered": settled.offered_wh, "accepted": settled.accepted_wh,
        "shifted": settled.shifted_wh, "forecast": home.forecast_wh, "generated": home.generation_wh,
        "load": settled.load_wh, "received": settled.received_utok, "reward": settled.reward_utok,
    }  # fmt: skip
    prices = f"import {_one(settled.import_price)}, export {_one(settled.export_price)}, local {_one(market.price)}"
    lines = [
        f"hour {settled.hour}: {prices}, demand response {_one(market.dr_price)}, "
        f"a reduction earns {_one(market.reduction_price)}",
        f"  volume {_one(market.volume_wh)}, shortage {_one(market.shortage_wh)}, "
        f"upstream import {_one(flow.upstream_wh[0])}, export {_one(flow.upstream_wh[1])}",
    ]
    for title, values in columns.items():
        lines.append(f"  {title:<10}" + "".join(f"{value:>14}" for value in values[:, 0].tolist()))
    return lines


def _after(env: BatchedTwoStageDR) -> list[str]:
    balances = env.state.balances[:, 0].tolist()
    names = [*(f"prosumer {i}" for i in range(len(balances) - 3)), "market", "operator", "upstream"]
    return [
        "  battery   " + "".join(f"{value:>14}" for value in env.state.soc_wh[:, 0].tolist()),
        "  balances: " + ", ".join(f"{name} {value}" for name, value in zip(names, balances, strict=True)),
        "  state root " + state_root(balance_bytes(balances)).hex(),
    ]


def _one(value: Tensor) -> int:
    return int(value[0])


def main() -> None:
    """Write all files."""
    for name in PLAYS:
        path = FOLDER / f"{name}.txt"
        path.write_text(playthrough(name), encoding="utf-8", newline="\n")
        print(path.name)


if __name__ == "__main__":
    main()
