"""Environments whose every hour is sealed: shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.rules import ledger_rules
from gridmarl.ledger import LaneChains, LedgerWriter
from gridmarl.scenarios.scenario import Scenario, default_scenario
from tests.envs.configs import CONFIGS
from tests.envs.helpers import random_actions

SEED = 17


def params_of(name: str) -> TwoStageDRParams:
    return TwoStageDRParams.from_dict(CONFIGS[name])


def seal(
    params: TwoStageDRParams,
    path: Path,
    *,
    lanes: list[int],
    written: int,
    hours: int,
    told: TwoStageDRParams | None = None,
    scenario: Scenario | None = None,
    batch: int | None = None,
) -> tuple[BatchedTwoStageDR, LaneChains]:
    """Play `hours` hours of random bids in `lanes`, all sealed, with lane `written` in the file `path`.

    Args:
        told: what the genesis says of the rules, if not `params`.
        batch: lanes of the whole batch whose actions are drawn, so that a part of them bids as in the whole.
    """
    scenario = scenario or default_scenario()
    rules = ledger_rules(told or params, scenario, SEED, written)
    with LedgerWriter(path, rules) as writer:
        chains = LaneChains(rules, lanes, keep=lanes, writers={written: writer})
        env = BatchedTwoStageDR(params, scenario, num_envs=len(lanes), first_lane=lanes[0], on_hour=chains.append)
        whole = BatchedTwoStageDR(params, scenario, num_envs=batch or len(lanes))
        rng = np.random.default_rng(5)
        env.reset(SEED)
        for _ in range(hours * params.steps_per_hour):
            actions = random_actions(whole, rng, extreme=0.2)
            env.step(actions[lanes[0] : lanes[0] + len(lanes)] if batch else actions)
    return env, chains
