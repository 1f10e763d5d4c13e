"""What EVQuota plays, the ledger's independent replay confirms: every configuration, every lane, level by level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gridmarl.envs.ev_quota.batched import BatchedEVQuota, LedgerLevel
from gridmarl.envs.ev_quota.env import EVQuota
from gridmarl.envs.ev_quota.rules import quota_rules
from gridmarl.errors import ConfigError
from gridmarl.ledger import HalfHourRecord, LaneChains, LedgerWriter, verify, write_ledger
from gridmarl.ledger.hashing import balance_bytes, state_root
from tests.envs.ev_quota.configs import CONFIGS, batched, random_actions

SEED = 17
LANES = [0, 1, 2]


def play(env: BatchedEVQuota, half_hours: int, seed: int = 5) -> None:
    """Random actions; a reset first."""
    rng = np.random.default_rng(seed)
    env.reset(SEED)
    for _ in range(2 * half_hours):
        env.step(random_actions(env, rng))


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_configuration_verifies(name: str, tmp_path: Path) -> None:
    """Two episodes in one chain, with auto-reset: no residual, and the last state root is that of the accounts."""
    env = batched(name, len(LANES))
    half_hours = 2 * env.params.horizon_half_hours
    rules = quota_rules(env.params, env.scenario, SEED)
    with LedgerWriter(tmp_path / "ledger", rules) as writer:
        chains = LaneChains(rules, LANES, keep=LANES, writers={0: writer})
        env.on_hour = chains.append
        play(env, half_hours)
    write_ledger(tmp_path / "last", chains.rules[2], chains.blocks[2])
    for file, lane in (("ledger", 0), ("last", 2)):
        verdict = verify(tmp_path / file)
        assert verdict.ok, str(verdict)
        assert (verdict.residual_utok, verdict.blocks) == (0, half_hours)
        last = chains.blocks[lane][-1].block.parsed_header()
        assert last.state_root == state_root(balance_bytes(env.state.balances[:, lane].tolist()))
    if name != "no_capacity":
        assert bool(env.state.balances.any())


def test_a_lane_of_a_batch_is_the_single_run_byte_for_byte() -> None:
    env = batched("default", 3, ledger="sealed")
    alone = batched("default", 1, ledger="sealed", first_lane=2)
    rng = np.random.default_rng(1)
    env.reset(SEED)
    alone.reset(SEED)
    for _ in range(26):
        actions = random_actions(env, rng)
        env.step(actions)
        alone.step(actions[2:])
    assert env.chains is not None
    assert alone.chains is not None
    assert (env.chains.height, alone.chains.heads) == (13, env.chains.heads[2:])
    assert len(set(env.chains.heads)) == 3


def test_levels_play_the_same_game_and_sealed_is_a_chain_of_the_records() -> None:
    records: list[HalfHourRecord] = []
    levels: tuple[LedgerLevel, ...] = ("off", "accounts", "sealed")
    off, accounts, sealed = (batched("overuse", 2, ledger=level) for level in levels)
    accounts.on_hour = records.append
    first = [env.reset(2) for env in (off, accounts, sealed)]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])
    rng = np.random.default_rng(0)
    for _ in range(23):
        actions = random_actions(off, rng)
        results = [env.step(actions) for env in (off, accounts, sealed)]
        for other in results[1:]:
            for name in ("observation", "reward", "truncated", "final_observation"):
                assert torch.equal(getattr(results[0], name), getattr(other, name)), name
    assert off.chains is accounts.chains is None
    assert sealed.chains is not None
    assert torch.equal(accounts.state.balances, sealed.state.balances)
    chains = LaneChains(quota_rules(off.params, off.scenario, 2), range(2))
    for record in records:
        chains.append(record)
    assert (sealed.chains.height, sealed.chains.heads) == (11, chains.heads)
    sealed.reset(2)
    assert sealed.chains.height == 0


def test_pettingzoo_half_hours_are_the_same_blocks() -> None:
    """The `on_hour` of the PettingZoo interface hands over what the batched one does."""
    env = batched("default", 1)
    rules = env.ledger_rules(SEED)
    one, other = LaneChains(rules, [0]), LaneChains(rules, [0])
    market = EVQuota(env.scenario, on_hour=one.append, **CONFIGS["default"])
    market.reset(seed=SEED)
    env.on_hour = other.append
    env.reset(SEED)
    while market.agents:
        market.step({name: [0.25, -0.5, 0.0, 1.0] for name in market.agents})
        env.step(torch.tensor([[[0.25, -0.5, 0.0, 1.0]] * 4]))
    assert one.heads == other.heads
    assert one.height == 10


def test_resume_continues_the_chains() -> None:
    first, second = (batched("default", 2, ledger="sealed") for _ in range(2))
    play(first, 4)
    first.step(torch.zeros(2, 4, 4))
    second.load_state_dict(first.state_dict())
    for env in (first, second):
        env.step(torch.ones(2, 4, 4))
    assert first.chains is not None
    assert second.chains is not None
    assert first.chains.height == second.chains.height == 5
    assert first.chains.heads == second.chains.heads


def test_a_ledger_of_other_rules_does_not_verify(tmp_path: Path) -> None:
    """The genesis says what was played: told otherwise, the replay finds the first half hour in which it matters."""
    env = batched("default", 1)
    for changes in ({"auction": "uniform"}, {"penalty_rate_utok_per_wh": 1, "overuse": True}, {"forfeit_permille": 5}):
        told = type(env.params).from_dict(env.params.to_dict() | changes)
        rules = quota_rules(told, env.scenario, SEED)
        path = tmp_path / next(iter(changes))
        with LedgerWriter(path, rules) as writer:
            env.on_hour = LaneChains(rules, [0], writers={0: writer}).append
            play(env, 10)
        verdict = verify(path)
        assert verdict.ok == ("overuse" in changes)  # nobody used more than its quota
        assert verdict.ok or verdict.error is not None


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="ledger: 'batch', allowed are off, accounts, sealed"):
        batched("default", 1, ledger="batch")
    with pytest.raises(ConfigError, match="ledger: 'off', allowed with on_hour are accounts, sealed"):
        batched("default", 1, ledger="off", on_hour=print)
