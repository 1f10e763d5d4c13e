"""The GPU path without a GPU: episodes on fake CUDA tensors, where a hidden `.item()` or a mixed device raises."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.envs.two_stage_dr.actions import action_spec
from gridmarl.envs.two_stage_dr.generator import reset
from gridmarl.envs.two_stage_dr.observe import observation_scales, observe
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.step import hour_record, step
from gridmarl.scenarios.scenario import Scenario, default_scenario
from tests.envs.configs import CONFIGS

LANES = 6
# import or export price apart from wholesale: their order is checked on the host, once, at reset
DEVICE_CONFIGS = sorted(set(CONFIGS) - {"retail"})


@pytest.mark.parametrize("name", DEVICE_CONFIGS)
def test_episode_on_fake_cuda(name: str) -> None:
    params = TwoStageDRParams.from_dict(CONFIGS[name])
    host = default_scenario()
    with FakeTensorMode():
        scenario = _fake(host)
        spec, scales = action_spec(params, "cuda:0"), observation_scales("cuda:0")
        shape = (LANES, params.num_prosumers)
        if spec.num_actions:
            actions = torch.zeros(shape, dtype=torch.int64, device="cuda:0")
        else:
            actions = torch.zeros((*shape, spec.size), device="cuda:0")
        state = reset(params, scenario, 1, LANES)
        for _ in range(params.horizon_hours * params.steps_per_hour):
            state, result = step(params, spec, scenario, state, actions)
            seen = observe(params, state, scales)
            assert seen.device.type == "cuda"
            assert tuple(seen.shape[:2]) == shape
            if result.settled is not None:
                record = hour_record(result.settled)
                assert {item.device.type for item in record if isinstance(item, torch.Tensor)} == {"cuda"}
        assert result.closed
        assert state.balances.device.type == "cuda"


def test_the_check_sees_a_host_transfer() -> None:
    with FakeTensorMode(), pytest.raises(Exception, match="_local_scalar_dense"):
        torch.ones(1, device="cuda:0").sum().item()


def _fake(scenario: Scenario) -> Scenario:
    """The scenario with every tensor replaced by a fake one on the GPU."""
    changes = {}
    for item in fields(scenario):
        value = getattr(scenario, item.name)
        if isinstance(value, torch.Tensor):
            changes[item.name] = torch.empty(value.shape, dtype=value.dtype, device="cuda:0")
    return replace(scenario, **changes)
