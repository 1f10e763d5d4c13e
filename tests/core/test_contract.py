"""Stage 2 and phantom demand by hand, for both readings of eq. (5): what inflating demand earns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gridmarl.agents.registry import make_agent
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.protocols import AgentContext
from gridmarl.scenarios.scenario import toy_scenario
from gridmarl.train.rollout import FLOW_NAMES, Episode, phantom_demand, play

SETTLEMENTS = ("two_settlement", "additive")


def market(settlement: str, wholesale: int = 10_000) -> BatchedTwoStageDR:
    """One hour. Prosumer 0: 1,000 Wh at `p0 = 10,000`, `d = 600 .. 1,400` Wh. Prosumer 1: no load, 300 Wh of sun."""
    scenario = toy_scenario([wholesale], [[1_000, 0]], [[0, 300]])
    params = TwoStageDRParams(
        num_prosumers=2, horizon_hours=1, dr_settlement=settlement, reference_price_utok_per_wh=10_000,  # type: ignore[arg-type]
        elasticity_permille=500, alpha_permille=1_500, import_adder_utok_per_wh=6_000,
        export_margin_utok_per_wh=1_000, participation_permille=1000, forecast_error_permille=0,
        pv_scale_permille=1000,
    )  # fmt: skip
    return BatchedTwoStageDR(params, scenario, auto_reset=False)


def played(agent: str, settlement: str, wholesale: int = 10_000) -> Episode:
    env = market(settlement, wholesale)
    context = AgentContext(1, 2, env.observation_fields, env.action_spec, env.device, 0, options={})
    return play(env, make_agent(agent, context), 0)


def of_first(episode: Episode, name: str) -> int:
    return int(getattr(episode, name)[0, 0, 0])


@pytest.mark.parametrize(
    ("settlement", "accepted", "phantom", "earned"),
    [
        # rho = 16,000: d(rho) = d(pi) = 700, so 700 of 1,400 Wh are offered and accepted; bought at 16,000, sold at it
        ("two_settlement", 700, 700, 0),
        # rho = 32,000: d(rho) = 600 (the least), 800 offered; of these 100 are real, and 700 earn pi_DR for nothing
        ("additive", 800, 700, 700 * 16_000),
    ],
)
def test_inflate_by_hand(settlement: str, accepted: int, phantom: int, earned: int) -> None:
    """`imp = 16,000`, `beta = 30,000`, `gamma = 20,000`. The book: 1,400 Wh at 16,000 against 300 Wh at 9,000.

    `pi = 16,000` (the buyer is served in part), shortage 1,100 Wh, `pi_DR = min(24,000, 16,000)`; `d(pi) = 700` Wh.
    """
    episode = played("inflate", settlement)
    assert (episode.beta, of_first(episode, "gamma")) == (30_000, 20_000)
    assert [int(array[0, 0]) for array in (episode.price, episode.dr_price, episode.shortage_wh)] == [
        16_000, 16_000, 1_100,
    ]  # fmt: skip
    assert of_first(episode, "demand_wh") == 1_400
    assert of_first(episode, "accepted_wh") == accepted
    assert of_first(episode, "phantom_wh") == phantom
    assert of_first(episode, "phantom_utok") == earned


@pytest.mark.parametrize(
    ("settlement", "accepted", "rate"),
    [
        # rho = 16,000, d(rho) = 700 and 700 of 1,400 Wh offered; a phantom Wh, unfilled, costs 16,000 and brings pi_DR
        ("two_settlement", 700, 0),
        # rho = 28,000, d(rho) = 600: 800 offered; a phantom Wh, unfilled, costs 16,000 and brings pi + pi_DR
        ("additive", 800, 12_000),
    ],
)
def test_phantom_demand_below_the_import_price(settlement: str, accepted: int, rate: int) -> None:
    """The same home bids 1,400 Wh at `12,000 = 9,000 + 7,000 * 28,087 // 65,536`, and `pi_DR = min(18,000, 16,000)`.

    It wants `d(12,000) = 900` Wh, so 500 of the accepted Wh are phantom.
    """
    env = market(settlement)
    env.reset(0)
    env.step(torch.tensor([[[28_087 / 32_768 - 1, 1.0, -1.0], [-1.0, -1.0, -1.0]]]))
    assert env.settled is not None
    outcome = env.settled.market
    assert [int(value) for value in (outcome.price, outcome.dr_price, outcome.shortage_wh)] == [12_000, 16_000, 1_100]
    phantom, earned = phantom_demand(env.settled, env.state.beta)
    assert env.settled.accepted_wh.flatten().tolist() == [accepted, 0]
    assert phantom.flatten().tolist() == [500, 0]
    assert earned.flatten().tolist() == [500 * rate, 0]


@pytest.mark.parametrize(("settlement", "rate"), [("two_settlement", 4_000), ("additive", 16_000)])
def test_phantom_demand_that_was_filled(settlement: str, rate: int) -> None:
    """Were all of the order filled locally (set so here), a phantom Wh would cost `pi = 12,000`."""
    env = market(settlement)
    env.reset(0)
    env.step(torch.tensor([[[28_087 / 32_768 - 1, 1.0, -1.0], [-1.0, -1.0, -1.0]]]))
    assert env.settled is not None
    filled = env.settled.market._replace(buy_fill_wh=env.settled.orders.buy_wh)
    phantom, earned = phantom_demand(env.settled._replace(market=filled), env.state.beta)
    assert phantom.flatten().tolist() == [500, 0]
    assert earned.flatten().tolist() == [500 * rate, 0]


@pytest.mark.parametrize("settlement", SETTLEMENTS)
def test_the_truthful_have_no_phantom_demand(settlement: str) -> None:
    """`d(imp) = 700` Wh is bid; `additive` asks for 100 Wh of it all the same."""
    episode = played("truthful", settlement)
    assert of_first(episode, "demand_wh") == 700
    assert of_first(episode, "accepted_wh") == (100 if settlement == "additive" else 0)
    assert not episode.phantom_wh.any()
    assert not episode.phantom_utok.any()


def test_only_the_additive_reading_pays_for_inflating() -> None:
    """Two-settlement: the same reward to the last µtok. Additive: 700 Wh * 16,000 more, at the operator's expense."""
    for settlement, gain in (("two_settlement", 0), ("additive", 700 * 16_000)):
        honest, inflated = (played(agent, settlement) for agent in ("truthful", "inflate"))
        rewards = [of_first(item, "comfort_utok") + of_first(item, "received_utok") for item in (honest, inflated)]
        assert rewards[1] - rewards[0] == gain
        assert int(honest.operator_utok[0, 0]) - int(inflated.operator_utok[0, 0]) == gain
        assert honest.welfare_utok.tolist() == inflated.welfare_utok.tolist()


@pytest.mark.parametrize("settlement", SETTLEMENTS)
def test_nothing_to_gain_at_negative_prices(settlement: str) -> None:
    """`imp = -2,000`: demand is greatest anyway, no reduction is asked for, and whoever consumes is paid."""
    episode = played("inflate", settlement, -8_000)
    assert [int(array[0, 0]) for array in (episode.price, episode.dr_price)] == [-2_000, 0]
    assert not episode.accepted_wh.any()
    assert not episode.phantom_wh.any()
    assert of_first(episode, "received_utok") == 1_400 * 2_000


@pytest.mark.parametrize("settlement", SETTLEMENTS)
def test_flows_of_the_hour(settlement: str) -> None:
    """300 Wh local and 1,100 Wh imported at 16,000; of the reduction, what the import cannot spare is nothing."""
    flows = dict(zip(FLOW_NAMES, played("inflate", settlement).flow_utok[0, :, 0].tolist(), strict=True))
    accepted, rho = (700, 16_000) if settlement == "two_settlement" else (800, 32_000)
    expected = dict.fromkeys(FLOW_NAMES, 0)
    expected |= {"local_buy": 300 * 16_000, "local_sell": 300 * 16_000, "import": 1_100 * 16_000}
    expected |= {"reduction": accepted * rho, "upstream_import": (1_100 - accepted) * 16_000}
    assert flows == expected


def test_welfare_and_the_operators_account_agree() -> None:
    """Sum of rewards plus the change of the operator's account: utility less what flows upstream."""
    for settlement in SETTLEMENTS:
        episode = played("inflate", settlement)
        rewards = int((episode.comfort_utok + episode.received_utok).sum())
        assert rewards + int(episode.operator_utok.sum()) == int(episode.welfare_utok[0])
        assert int(episode.received_utok.sum() + episode.operator_utok.sum() + episode.upstream_utok.sum()) == 0
        comfort = int(torch.tensor(episode.comfort_utok).sum())
        assert int(episode.welfare_utok[0]) == comfort - int(np.sum(episode.upstream_utok))
