"""Random and adversarial play, shared by the environment tests."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.step import Settled
from tests.envs.configs import CONFIGS


def batched(name: str, num_envs: int, **kwargs: object) -> BatchedTwoStageDR:
    """The batched environment of a named configuration."""
    return BatchedTwoStageDR(TwoStageDRParams.from_dict(CONFIGS[name]), num_envs=num_envs, **kwargs)  # type: ignore[arg-type]


def random_actions(env: BatchedTwoStageDR, rng: np.random.Generator, *, extreme: float = 0.0) -> Tensor:
    """Actions for all lanes; a share `extreme` of the entries at the corners -1, 0, 1."""
    shape = (env.num_envs, env.num_agents)
    if env.action_spec.num_actions:
        return torch.from_numpy(rng.integers(env.action_spec.num_actions, size=shape))
    size = (*shape, env.action_spec.size)
    values = rng.uniform(-1, 1, size)
    corners = rng.integers(-1, 2, size)
    mixed: NDArray[np.float32] = np.where(rng.random(size) < extreme, corners, values).astype(np.float32)
    return torch.from_numpy(mixed)


def assert_hour_balances(settled: Settled, before: Tensor) -> None:
    """Energy to the last Wh, money to the last micro-token, in every lane."""
    orders, market, flow = settled.orders, settled.market, settled.flows
    supply = settled.home.generation_wh.sum(0) + orders.discharge_wh.sum(0) + flow.upstream_wh[0]
    assert torch.equal(supply, settled.load_wh.sum(0) + flow.upstream_wh[1])
    assert torch.equal(settled.balances.sum(0), before.sum(0))
    assert torch.equal(settled.balances[-3], before[-3]), "the market account must end every hour where it began"
    assert torch.equal(market.buy_fill_wh.sum(0), market.sell_fill_wh.sum(0))
    assert bool((flow.wh >= 0).all())
    assert bool((flow.upstream_wh >= 0).all())
    assert bool((settled.accepted_wh <= settled.offered_wh).all())
    assert bool((settled.accepted_wh.sum(0) <= market.shortage_wh).all())
    consumption = orders.demand_wh - settled.accepted_wh
    assert bool((consumption >= settled.home.d_min_wh).all())
    assert bool((orders.demand_wh <= settled.home.d_max_wh).all())
    assert bool((market.price >= settled.export_price).all())
    assert bool((market.price <= settled.import_price).all())
    bought, sold = market.buy_fill_wh > 0, market.sell_fill_wh > 0
    assert bool((~bought | (orders.buy_price >= market.price)).all())
    assert bool((~sold | (orders.sell_price <= market.price)).all())
