"""No hidden transfers to the host: acting and learning run on tensors that have no values to transfer.

A tensor on the "meta" device has a shape and no data, so reading a value, branching on one, or mixing in a tensor of
another device raises. (Fake CUDA tensors serve for what needs no gradients; autograd on them needs a CUDA build.)
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.agents.dqn import DQN
from gridmarl.agents.registry import make_agent
from gridmarl.protocols import ActionSpec, AgentContext, ObservationField, Transition
from tests.agents.test_heuristics import FIELDS

E, P, A = 8, 3, 4
META = torch.device("meta")
NAMES = ("buy_price", "quantity", "sell_price", "battery", "reduction")


@pytest.mark.parametrize("options", [{}, {"policy": "independent"}, {"stateless": True}, {"agent_id": True}])
def test_dqn_reads_no_value(options: dict[str, Any]) -> None:
    outside = ObservationField("outside_option_tok", "token", 1.0, -1e9, 1e9, "")
    fields = (*FIELDS, outside)
    spec = ActionSpec("discrete", A, 0, NAMES, torch.zeros(A, len(NAMES), device=META))
    agent = DQN(AgentContext(E, P, fields, spec, META, 1, {"learning_starts": 0, "target_interval": 1, **options}))
    observation = torch.zeros(E, P, len(fields), device=META)
    flag = torch.zeros(E, dtype=torch.bool, device=META)
    for _ in range(5):
        action = agent.act(observation, explore=True)
        assert (action.device, action.shape, action.dtype) == (META, (E, P), torch.int64)
        reward = torch.zeros(E, P, device=META)
        assert agent.learn(Transition(observation, action, reward, observation, flag, flag)) == {}


@pytest.mark.parametrize("name", ["truthful", "zero_intelligence", "always_cap", "inflate", "comfort"])
@pytest.mark.parametrize("discrete", [False, True])
def test_heuristics_read_no_value(name: str, discrete: bool) -> None:
    with FakeTensorMode():
        cuda = torch.device("cuda:0")
        grid = torch.zeros(A, len(NAMES), device=cuda)
        spec = ActionSpec("discrete", A, 0, NAMES, grid) if discrete else ActionSpec("continuous", 0, len(NAMES), NAMES)
        agent = make_agent(name, AgentContext(E, P, FIELDS, spec, cuda, 1))
        action = agent.act(torch.zeros(E, P, len(FIELDS), device=cuda), explore=False)
        assert action.device.type == "cuda"
        assert action.shape == ((E, P) if discrete else (E, P, len(NAMES)))
