"""Small episodes of AggregatorAuction written out in full: needs, capacities, orders, trades, payments of every hour.

`python -m tests.golden.auction_hours` writes the files of the folder `auction` anew; a test compares them byte for
byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.step import Settled
from gridmarl.scenarios.scenario import Scenario, toy_scenario

COMMAND = "python -m tests.golden.auction_hours"
FOLDER = Path(__file__).parent / "auction"
SEED = 7
_COMMON: dict[str, Any] = {
    "num_prosumers": 3,
    "horizon_hours": 5,
    "portfolio_wh": 8_000,
    "battery_capacity_wh": 4_001,
    "battery_power_w": 1_500,
    "return_hours": 2,
}
PLAYS: dict[str, dict[str, Any]] = {
    "pay_as_bid": {},
    "uniform_flexibility": {"payment_rule": "uniform", "variant": "flexibility", "request_permille": 800},
    "vcg_flexibility": {"payment_rule": "vcg", "variant": "flexibility", "request_permille": 800},
}
# price, quantity, price and quantity down of two aggregators and three prosumers, hour by hour
DECIDED = [
    [[1.0, 0.0, 0, 0], [0.5, 0.25, 0, 0], [-0.5, 1.0, -0.5, 1.0], [-0.25, 1.0, -0.75, 0.5], [0.0, 0.5, -0.5, 1.0]],
    [[0.75, 1.0, 0, 0], [1.0, 0.0, 0, 0], [-0.25, 0.5, -1.0, 1.0], [0.0, 1.0, 0.0, 1.0], [-0.75, 1.0, 0.25, 0.5]],
    [[0.0, 0.0, 0, 0], [0.25, 0.5, 0, 0], [-1.0, 1.0, -0.75, 0.0], [-1.0, 0.75, -0.25, 1.0], [-0.5, 1.0, -1.0, 1.0]],
    [[1.0, 1.0, 0, 0], [-0.5, 1.0, 0, 0], [0.5, 1.0, -0.5, 0.5], [-0.5, 1.0, -0.5, 1.0], [-0.25, 1.0, -0.5, 1.0]],
    [[1.0, 0.5, 0, 0], [1.0, 0.5, 0, 0], [-0.75, 1.0, -0.25, 1.0], [-0.25, 1.0, 1.0, 1.0], [1.0, 1.0, -0.25, 0.25]],
]


def scenario() -> Scenario:
    """Five prices, one below 0; three homes, one of them with photovoltaics."""
    load = [[1_400, 900, 300], [2_000, 1_100, 0], [700, 1_650, 500], [1_500, 800, 900], [600, 1_200, 40]]
    sun = [[0, 0, 300], [0, 0, 900], [0, 0, 1_500], [0, 0, 200], [0, 0, 700]]
    return toy_scenario([6_000, 21_000, -9_000, 2_000, 12_345], load, sun, load_ratio_permille=(800, 1200))


def playthrough(name: str) -> str:
    """The text of one episode."""
    params = AggregatorAuctionParams.from_dict(_COMMON | PLAYS[name])
    env = BatchedAggregatorAuction(params, scenario(), auto_reset=False)
    env.reset(SEED)
    settings = ", ".join(f"{key}={value}" for key, value in (_COMMON | PLAYS[name]).items())
    lines = [f"{name}: seed {SEED}, {settings}", f"Wh, µtok/Wh, µtok; written by {COMMAND}"]
    for decided in DECIDED:
        env.step(torch.tensor([decided])[..., : env.action_spec.size])
        assert env.settled is not None
        lines += ["", *_hour(env.settled)]
        lines.append(f"  balances  {env.state.balances[:, 0].tolist()}")
    return "\n".join(lines) + "\n"


def _hour(settled: Settled) -> list[str]:
    now, stores, balance, flows = settled.situation, settled.stores, settled.balance, settled.flows
    buyers = now.need_wh.shape[0]
    aggregators: dict[str, Tensor] = {
        "deviation": now.deviation_wh, "forecast": now.forecast_wh, "request": now.request_wh, "need": now.need_wh,
        **{f"{side} {what}": values for side, orders, trades in _sides(settled) for what, values in (
            ("bid at", orders.bid_price), ("bid", orders.bid_wh), ("bought", trades.buy_fill_wh),
            ("paid", trades.payment_utok))},
        "delivered": balance.delivered_wh, "missing": balance.missing_wh, "short": balance.short_wh,
        "long": balance.long_wh, "service": flows.service_utok, "penalty": flows.penalty_utok,
        "for short": flows.short_utok, "for long": flows.long_utok, "reward": settled.reward_utok[:buyers],
    }  # fmt: skip
    prosumers: dict[str, Tensor] = {
        "base": now.base_wh, "charge": stores.charge_wh, "due": stores.rebound_wh[0],
        "deferred": stores.rebound_wh.sum(0), "ahead": stores.ahead_wh,
        "up most": now.up_capacity_wh, "up cost": now.up_cost, "down most": now.down_capacity_wh,
        "down cost": now.down_cost,
        **{f"{side} {what}": values for side, orders, trades in _sides(settled) for what, values in (
            ("ask", orders.ask_price), ("offer", orders.ask_wh), ("sold", trades.sell_fill_wh),
            ("earned", trades.income_utok))},
        "cost": settled.cost_utok, "reward": settled.reward_utok[buyers:],
    }  # fmt: skip
    prices = f"short {int(settled.short_price)}, long {int(settled.long_price)}"
    lines = [f"hour {settled.hour}: {prices}, up {int(settled.up.volume_wh)}, down {int(settled.down.volume_wh)}"]
    for title, columns in (("aggregators", aggregators), ("prosumers", prosumers)):
        lines.append(f" {title}")
        for name, values in columns.items():
            lines.append(f"  {name:<12}" + "".join(f"{value:>14}" for value in values[:, 0].tolist()))
    return lines


def _sides(settled: Settled) -> tuple[tuple[str, Any, Any], ...]:
    return ("up", settled.up_orders, settled.up), ("down", settled.down_orders, settled.down)


def main() -> None:
    """Write all files."""
    for name in PLAYS:
        path = FOLDER / f"{name}.txt"
        path.write_text(playthrough(name), encoding="utf-8", newline="\n")
        print(path.name)


if __name__ == "__main__":
    main()
