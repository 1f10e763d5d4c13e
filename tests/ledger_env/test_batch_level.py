"""Ledger level `batch` of the environment: the same game, one chain, and blocks of any lane that verify by replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.rules import ledger_rules
from gridmarl.errors import ConfigError
from gridmarl.ledger import HourRecord, LaneChains, SealedBlock, verify, write_ledger
from gridmarl.ledger.batch import BatchChain, BatchHeader
from gridmarl.ledger.batch_proof import BatchProver

PARAMS = TwoStageDRParams(num_prosumers=4, horizon_hours=5)
LANES = range(10, 13)


def actions(env: BatchedTwoStageDR, rng: np.random.Generator) -> torch.Tensor:
    shape = (env.num_envs, env.num_agents, env.action_spec.size)
    return torch.from_numpy(rng.uniform(-1, 1, shape).astype(np.float32))


def test_a_lane_of_the_batches_verifies_by_replay(tmp_path: Path) -> None:
    hours: list[HourRecord] = []
    env = BatchedTwoStageDR(PARAMS, num_envs=3, first_lane=10, ledger="batch", on_hour=hours.append)
    plain = BatchedTwoStageDR(PARAMS, num_envs=3, first_lane=10)
    assert torch.equal(env.reset(6), plain.reset(6))
    rules = ledger_rules(PARAMS, env.scenario, 6)
    sealed = LaneChains(rules, LANES)
    head, blocks, rng = sealed.heads[1], list[SealedBlock](), np.random.default_rng(0)
    for _ in range(10):  # two episodes
        chosen = actions(env, rng)
        assert torch.equal(env.step(chosen).reward, plain.step(chosen).reward)
        assert isinstance(env.chains, BatchChain)
        assert env.chains.last is not None
        batch = env.chains.last
        part = BatchProver(hours[-1], LANES, batch.header).prove(1).verify(batch.hash)
        blocks.append(part.sealed(BatchHeader.unpack(batch.header), head))
        head = blocks[-1].hash
        sealed.append(hours[-1])
    assert head == sealed.heads[1]
    write_ledger(tmp_path / "lane", sealed.rules[1], blocks)
    verdict = verify(tmp_path / "lane")
    assert verdict.ok
    assert (verdict.blocks, verdict.head) == (10, head.hex())
    env.reset(6)
    assert env.chains is not None
    assert env.chains.height == 0, "a chain begins at reset"


def test_resume_continues_the_chain() -> None:
    first, second, other = (BatchedTwoStageDR(PARAMS, num_envs=2, ledger="batch") for _ in range(3))
    rng = np.random.default_rng(0)
    first.reset(1)
    for _ in range(7):
        first.step(actions(first, rng))
    second.load_state_dict(first.state_dict())
    chosen = actions(first, rng)
    first.step(chosen)
    second.step(chosen)
    other.reset(1)
    assert isinstance(first.chains, BatchChain)
    assert isinstance(second.chains, BatchChain)
    assert first.chains.height == second.chains.height == 8
    assert first.chains.heads == second.chains.heads
    assert first.chains.last == second.chains.last
    assert other.chains is not None
    assert other.chains.heads != first.chains.heads


def test_a_plug_ins_mechanism_is_not_sealed() -> None:
    with pytest.raises(ConfigError, match="price_rule"):
        BatchedTwoStageDR(TwoStageDRParams(num_prosumers=2, price_rule="sellers_price"), ledger="batch")
