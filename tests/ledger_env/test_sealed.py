"""What the environment plays, the ledger's independent replay confirms: every configuration, every lane."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.env import TwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.rules import ledger_rules
from gridmarl.errors import LedgerError
from gridmarl.ledger import HourRecord, LaneChains, LedgerReader, LedgerWriter, verify, write_ledger
from gridmarl.ledger.hashing import balance_bytes, state_root
from gridmarl.scenarios.scenario import default_scenario, toy_scenario
from tests.envs.configs import CONFIGS
from tests.ledger_env.sealed import SEED, params_of, seal

LANES = [0, 1, 2]


def root_of(env: BatchedTwoStageDR, lane: int) -> bytes:
    return state_root(balance_bytes(env.state.balances[:, lane].tolist()))


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_configuration_verifies(name: str, tmp_path: Path) -> None:
    """Two episodes in one chain, with auto-reset: no residual, and the last state root is that of the accounts."""
    params = params_of(name)
    hours = 2 * params.horizon_hours
    env, chains = seal(params, tmp_path / "ledger", lanes=LANES, written=0, hours=hours)
    write_ledger(tmp_path / "last", chains.rules[2], chains.blocks[2])
    for file, lane in (("ledger", 0), ("last", 2)):
        verdict = verify(tmp_path / file)
        assert verdict.ok, str(verdict)
        assert verdict.residual_utok == 0
        assert verdict.blocks == hours
        assert verdict.transactions == hours * (8 * params.num_prosumers + 2)
        with LedgerReader.open(tmp_path / file) as reader:
            assert reader.trailer().state_root == root_of(env, lane)
            assert reader.block(hours - 1).parsed_header().state_root == root_of(env, lane)
    assert bool(env.state.balances.any())


@pytest.mark.parametrize("name", ["default", "everything"])
def test_a_lane_of_a_batch_is_the_single_run_byte_for_byte(name: str, tmp_path: Path) -> None:
    params = params_of(name)
    hours = params.horizon_hours + 3
    _, chains = seal(params, tmp_path / "batch", lanes=LANES, written=2, hours=hours)
    for lane in LANES:
        _, alone = seal(params, tmp_path / f"single{lane}", lanes=[lane], written=lane, hours=hours, batch=len(LANES))
        assert alone.heads == [chains.heads[lane]]
        assert alone.blocks[lane] == chains.blocks[lane]
    assert (tmp_path / "batch").read_bytes() == (tmp_path / "single2").read_bytes()
    assert len(set(chains.heads)) == len(LANES)


def test_an_episode_cut_short_verifies(tmp_path: Path) -> None:
    """13 hours of the second episode are missing, and with them the return of some shifted energy."""
    _, chains = seal(params_of("battery"), tmp_path / "ledger", lanes=[0], written=0, hours=24 + 11)
    verdict = verify(tmp_path / "ledger")
    assert (verdict.ok, verdict.blocks, chains.height) == (True, 35, 35)


@pytest.mark.parametrize("settlement", ["two_settlement", "additive"])
def test_negative_prices_verify(settlement: str, tmp_path: Path) -> None:
    scenario = toy_scenario([-30_000, 5_000, -6_000, -7_999, 300], [[900, 1500, 0]] * 5, [[0, 2000, 400]] * 5)
    params = TwoStageDRParams(
        num_prosumers=5, horizon_hours=10, dr_settlement=settlement, reference_price_utok_per_wh=12_000,  # type: ignore[arg-type]
        battery_capacity_wh=3_001, battery_power_w=999,
    )  # fmt: skip
    seal(params, tmp_path / "ledger", lanes=LANES, written=1, hours=20, scenario=scenario)
    verdict = verify(tmp_path / "ledger")
    assert verdict.ok, str(verdict)


def test_the_operators_choice_is_sealed(tmp_path: Path) -> None:
    """Another alpha every hour: the rules leave it open, the SIGNAL of each hour says it."""
    params = params_of("operator")
    rules = ledger_rules(params, default_scenario(), SEED)
    assert rules.alpha_permille is None
    with LedgerWriter(tmp_path / "ledger", rules) as writer:
        chains = LaneChains(rules, [0], writers={0: writer})
        env = BatchedTwoStageDR(params, on_hour=chains.append)
        env.reset(SEED)
        for hour in range(params.horizon_hours):
            env.step(torch.zeros(1, 4, 3), torch.tensor([1000 + 50 * hour]))
    verdict = verify(tmp_path / "ledger")
    assert verdict.ok, str(verdict)


def test_pettingzoo_hours_are_the_same_blocks(tmp_path: Path) -> None:
    """The `on_hour` of the PettingZoo interface hands over what the batched one does."""
    params = params_of("default")
    rules = ledger_rules(params, default_scenario(), SEED)
    one, other = LaneChains(rules, [0], keep=[0]), LaneChains(rules, [0], keep=[0])
    market = TwoStageDR(on_hour=one.append, **CONFIGS["default"])
    market.reset(seed=SEED)
    env = BatchedTwoStageDR(params, on_hour=other.append)
    env.reset(SEED)
    while market.agents:
        market.step({name: [0.25, -0.5, 0.0] for name in market.agents})
        env.step(torch.tensor([[[0.25, -0.5, 0.0]] * 10]))
    assert one.heads == other.heads
    write_ledger(tmp_path / "ledger", rules, one.blocks[0])
    assert verify(tmp_path / "ledger").ok


def test_an_hour_cannot_be_sealed_twice() -> None:
    params = params_of("default")
    hours: list[HourRecord] = []
    env = BatchedTwoStageDR(params, on_hour=hours.append)
    env.reset(SEED)
    env.step(torch.zeros(1, 10, 3))
    chains = LaneChains(ledger_rules(params, default_scenario(), SEED), [0])
    chains.append(hours[0])
    with pytest.raises(LedgerError, match=r"^period: 0; 1 is next"):
        chains.append(hours[0])
