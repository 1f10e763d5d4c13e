"""Play evaluation episodes and keep what the metrics need, as integers, hour by hour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.step import Settled
from gridmarl.errors import OverdraftError
from gridmarl.preferences import demand_at
from gridmarl.protocols import Agent

Integers = NDArray[np.int64]

FLOW_NAMES = (
    "local_buy",
    "local_sell",
    "import",
    "export",
    "reduction",
    "shortfall",
    "surplus",
    "penalty",
    "upstream_import",
    "upstream_export",
)


@dataclass
class Episode:
    """One episode in `E` lanes: `T` hours, `P` prosumers; int64, Wh, µtok/Wh, µtok."""

    import_price: Integers  # [T, E]
    export_price: Integers  # [T, E]
    price: Integers  # [T, E]
    dr_price: Integers  # [T, E]
    shortage_wh: Integers  # [T, E]
    volume_wh: Integers  # [T, E]
    comfort_utok: Integers  # [T, P, E] utility less discomfort
    received_utok: Integers  # [T, P, E] change of accounts
    demand_wh: Integers  # [T, P, E] orders of stage 1: consumption, returned energy and charge
    load_wh: Integers  # [T, P, E] metered load, after stage 2
    accepted_wh: Integers  # [T, P, E]
    shifted_wh: Integers  # [T, P, E]
    phantom_wh: Integers  # [T, P, E] paid reductions of demand that never would have been
    phantom_utok: Integers  # [T, P, E] what they earned
    flow_utok: Integers  # [T, 10, E] amounts by kind, in the order of FLOW_NAMES
    upstream_wh: Integers  # [T, 2, E] import, export
    gamma: Integers  # [T, P, E]
    d_min_wh: Integers  # [T, P, E]
    d_max_wh: Integers  # [T, P, E]
    generation_wh: Integers  # [T, P, E]
    beta: int
    interest_utok: Integers | int = 0  # [T, E] paid to the operator; 0 where finality is instant

    @property
    def upstream_utok(self) -> Integers:
        """What the community pays upstream, `[T, E]`."""
        return self.flow_utok[:, 8] - self.flow_utok[:, 9]

    @property
    def operator_utok(self) -> Integers:
        """Change of the operator's account, `[T, E]`: what comes in less what goes out."""
        kind = dict(zip(FLOW_NAMES, self.flow_utok.transpose(1, 0, 2), strict=True))
        received = kind["import"] + kind["shortfall"] + kind["penalty"] + self.interest_utok
        change: Integers = received - kind["export"] - kind["reduction"] - kind["surplus"] - self.upstream_utok
        return change

    @property
    def welfare_utok(self) -> Integers:
        """Social welfare of each lane, `[E]`: utility less discomfort less what flows upstream."""
        total: Integers = self.comfort_utok.sum((0, 1)) - self.upstream_utok.sum(0)
        return total


def play(
    env: BatchedTwoStageDR, agent: Agent, seed: int, on_hour: Callable[[Settled], object] | None = None
) -> Episode:
    """One episode of a policy that does not explore and does not learn; `on_hour` sees each settled hour.

    Raises:
        OverdraftError: an account falls below the credit limit, where there is one.
    """
    hours: list[dict[str, torch.Tensor]] = []
    observation = env.reset(seed)
    beta = env.state.beta
    while True:
        with torch.no_grad():
            result = env.step(agent.act(observation, explore=False))
        observation = result.observation
        if env.settled is not None:
            _check_credit(env, agent.name, len(hours))
            hours.append(_hour_columns(env, env.settled, beta))
            if on_hour is not None:
                on_hour(env.settled)
        if bool(result.truncated[0]):
            break
    columns = {name: torch.stack([hour[name] for hour in hours]).cpu().numpy() for name in hours[0]}
    return Episode(**columns, beta=beta)


def _check_credit(env: BatchedTwoStageDR, policy: str, hour: int) -> None:
    limit = env.params.credit_limit_utok
    if limit is None:
        return
    least, prosumer = env.state.balances[: env.num_agents].amin(1).min(0)
    if int(least) < -limit:
        raise OverdraftError(
            f"credit_limit_utok: {limit}, but in hour {hour} {policy} takes prosumer {int(prosumer)}'s account to "
            f"{int(least)} µtok; allowed is a limit that fits the bills, or null (billed in arrears)"
        )


def _hour_columns(env: BatchedTwoStageDR, settled: Settled, beta: int) -> dict[str, torch.Tensor]:
    flow, market, home = settled.flows, settled.market, settled.home
    amounts = flow.wh.sum(1) * flow.price
    upstream = flow.upstream_wh * torch.stack((settled.import_price, settled.export_price))
    phantom, earned = phantom_demand(settled, beta)
    interest = {} if settled.credit is None else {"interest_utok": settled.credit.interest_utok.sum(0)}
    return interest | {
        "import_price": settled.import_price,
        "export_price": settled.export_price,
        "price": market.price,
        "dr_price": market.dr_price,
        "shortage_wh": market.shortage_wh,
        "volume_wh": market.volume_wh,
        "comfort_utok": settled.comfort_utok,
        "received_utok": settled.received_utok,
        "demand_wh": settled.orders.buy_wh,
        "load_wh": settled.load_wh,
        "accepted_wh": settled.accepted_wh,
        "shifted_wh": settled.shifted_wh,
        "phantom_wh": phantom,
        "phantom_utok": earned,
        "flow_utok": torch.cat((amounts, upstream)),
        "upstream_wh": flow.upstream_wh,
        "gamma": home.gamma,
        "d_min_wh": home.d_min_wh,
        "d_max_wh": home.d_max_wh,
        "generation_wh": home.generation_wh,
    }


def phantom_demand(settled: Settled, beta: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Paid reductions of demand beyond what the prosumer wanted at the market price, and what they earned; `[P, E]`.

    A Wh bid above `d(pi)` and reduced again changes nothing in the world. It brings the reduction price, and it has
    cost what the last Wh of the order cost: the import price if it was not filled, the market price if it was.
    (For Wh that were all filled this is `pi_DR` under `additive` and `pi_DR - pi` under `two_settlement`.)
    """
    home, market, orders = settled.home, settled.market, settled.orders
    wanted = demand_at(market.price, beta, home.gamma, home.d_min_wh, home.d_max_wh)
    phantom = torch.minimum((orders.demand_wh - wanted).clamp(min=0), settled.accepted_wh)
    unfilled = torch.minimum(phantom, orders.buy_wh - market.buy_fill_wh)
    cost = settled.import_price * unfilled + market.price * (phantom - unfilled)
    return phantom, market.reduction_price * phantom - cost
