"""Ledger levels of the batched environment: what is kept differs, what agents see and earn does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR, LedgerLevel
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.rules import ledger_rules
from gridmarl.errors import ConfigError
from gridmarl.ledger.chain import LaneChains
from gridmarl.ledger.hour import HourRecord
from tests.envs.helpers import random_actions

PARAMS = TwoStageDRParams(num_prosumers=4, horizon_hours=5)


def test_levels_play_the_same_game() -> None:
    levels: tuple[LedgerLevel, ...] = ("off", "accounts", "sealed")
    off, accounts, sealed = (BatchedTwoStageDR(PARAMS, num_envs=3, ledger=level) for level in levels)
    first = [env.reset(2) for env in (off, accounts, sealed)]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])
    rng = np.random.default_rng(0)
    for _ in range(12):
        actions = random_actions(off, rng)
        results = [env.step(actions) for env in (off, accounts, sealed)]
        for other in results[1:]:
            for name in ("observation", "reward", "truncated", "final_observation"):
                assert torch.equal(getattr(results[0], name), getattr(other, name)), name
    assert off.settled is None
    assert off.chains is None
    assert accounts.chains is None
    assert not bool(off.state.balances.any())
    assert bool(accounts.state.balances.any())
    assert torch.equal(accounts.state.balances, sealed.state.balances)


def test_sealed_is_a_chain_of_the_records() -> None:
    records: list[HourRecord] = []
    env = BatchedTwoStageDR(PARAMS, num_envs=3, first_lane=10, ledger="sealed", on_hour=records.append)
    env.reset(6)
    rng = np.random.default_rng(0)
    for _ in range(7):
        env.step(random_actions(env, rng))
    chains = LaneChains(ledger_rules(PARAMS, env.scenario, 6), range(10, 13))
    for record in records:
        chains.append(record)
    assert env.chains is not None
    assert env.chains.lanes == [10, 11, 12]
    assert env.chains.height == 7
    assert env.chains.heads == chains.heads
    assert len(set(chains.heads)) == 3
    env.reset(6)
    assert env.chains.height == 0, "a chain begins at reset"


def test_resume_continues_the_chains() -> None:
    first, second = (BatchedTwoStageDR(PARAMS, num_envs=2, ledger="sealed") for _ in range(2))
    first.reset(1)
    rng = np.random.default_rng(0)
    for _ in range(7):
        first.step(random_actions(first, rng))
    second.load_state_dict(first.state_dict())
    actions = random_actions(first, rng)
    first.step(actions)
    second.step(actions)
    assert first.chains is not None
    assert second.chains is not None
    assert first.chains.height == second.chains.height == 8
    assert first.chains.heads == second.chains.heads


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="ledger: 'none', allowed are off, accounts, sealed"):
        BatchedTwoStageDR(PARAMS, ledger="none")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="ledger: 'off'"):
        BatchedTwoStageDR(PARAMS, ledger="off", on_hour=lambda record: None)
    with pytest.raises(ConfigError, match="ledger: 'off'"):
        BatchedTwoStageDR(TwoStageDRParams(credit_limit_utok=5), ledger="off")
