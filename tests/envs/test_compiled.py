"""The compiled step is the eager step, bit for bit; and without a compiler it is the eager step itself."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gridmarl.compiler import missing_compiler
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from tests.envs.helpers import random_actions

needs_compiler = pytest.mark.skipif(missing_compiler(torch.device("cpu")) is not None, reason="no C++ compiler")

WIDE: dict[str, Any] = {"horizon_hours": 9, "num_prosumers": 5, "shift_deadline_hours": 3}
NARROW: dict[str, Any] = {
    "horizon_hours": 4,
    "num_prosumers": 3,
    "stage2": "learned",
    "action_space": "discrete",
    "price_levels": 3,
    "quantity_levels": 3,
    "battery_capacity_wh": 3_000,
    "battery_power_w": 1_500,
    "credit_limit_utok": 10**9,
    "price_rule": "marginal_pair",
    "dr_settlement": "additive",
}


def tensors(value: object) -> list[Tensor]:
    """All tensors of nested tuples, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [leaf for item in value for leaf in tensors(item)] if isinstance(value, tuple) else []


def assert_same(first: BatchedTwoStageDR, second: BatchedTwoStageDR) -> None:
    assert (first.state.hour, first.state.phase) == (second.state.hour, second.state.phase)
    assert (first.settled is None) == (second.settled is None)
    for item in fields(first.state):
        one, other = (tensors(getattr(env.state, item.name)) for env in (first, second))
        assert len(one) == len(other)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True)), item.name
    if first.settled is not None and second.settled is not None:
        assert first.settled.hour == second.settled.hour
        for name, one_field, other_field in zip(first.settled._fields, first.settled, second.settled, strict=True):
            pairs = zip(tensors(one_field), tensors(other_field), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs), name


@needs_compiler
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor's own imports
@pytest.mark.parametrize("config", [WIDE, NARROW], ids=["wide", "narrow"])
def test_compiled_equals_eager(config: dict[str, Any]) -> None:
    """Over more than two episodes, NaN and out-of-range actions included; 21 lanes fill no vector evenly."""
    params = TwoStageDRParams.from_dict(config)
    eager, compiled = (BatchedTwoStageDR(params, num_envs=21, compile=compile) for compile in (False, True))
    assert torch.equal(eager.reset(3), compiled.reset(3))
    rng = np.random.default_rng(0)
    for _ in range(2 * params.horizon_hours * params.steps_per_hour + 2):
        actions = random_actions(eager, rng, extreme=0.3)
        if actions.is_floating_point():
            wild = torch.from_numpy(rng.choice([np.nan, np.inf, -7.0], actions.shape)).float()
            actions = torch.where(torch.from_numpy(rng.random(actions.shape) < 0.05), wild, actions)
        one, other = eager.step(actions), compiled.step(actions)
        for name in ("observation", "reward", "terminated", "truncated", "final_observation"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert_same(eager, compiled)


@needs_compiler
@pytest.mark.slow
def test_two_graphs_serve_all_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Any:
        compiled.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: real(*args, backend=backend, **kwargs))
    env = BatchedTwoStageDR(TwoStageDRParams(horizon_hours=30, num_prosumers=3), num_envs=2, compile=True)
    env.reset(0)
    rng = np.random.default_rng(0)
    for _ in range(65):
        env.step(random_actions(env, rng))
    assert len(compiled) == 2, "one for all hours but the last, one for the last"


def test_without_a_compiler_it_says_so_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    params = TwoStageDRParams(num_prosumers=2, horizon_hours=3)
    with pytest.warns(RuntimeWarning, match=r"compile=True: no C\+\+ compiler \(no-such-compiler\), running eagerly"):
        env = BatchedTwoStageDR(params, num_envs=2, compile=True)
    plain = BatchedTwoStageDR(params, num_envs=2)
    assert torch.equal(env.reset(1), plain.reset(1))
    actions = random_actions(env, np.random.default_rng(0))
    assert torch.equal(env.step(actions).observation, plain.step(actions).observation)
