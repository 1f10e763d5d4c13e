"""Two processes that train together take the steps of one process with all lanes, within 1e-5 of each parameter."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gridmarl.agents.registry import make_agent
from gridmarl.agents.replay import RunningMoments
from gridmarl.agents.sharing import SlotShare, standardised
from gridmarl.envs import make_batched
from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext, Alone
from gridmarl.train.checkpoint import load_checkpoint
from gridmarl.train.config import TrainConfig
from gridmarl.train.loop import build_agent
from gridmarl.train.workers import any_of, gather_states, own_state, share_of, started_by_torchrun
from tests.train.command_line import gridmarl

TOLERANCE = 1e-5
MARKET = ("train", "two-stage-dr", "--days", "1", "--set", "num_prosumers=3", "--lanes", "8", "--eval-lanes", "2",
          "--eval-every", "192", "--progress", "off")  # fmt: skip
LEARNERS = {
    "ppo": ("hidden=[16]", "rollout_steps=24"),
    "dqn": ("policy=independent", "hidden=[16]", "learning_starts=64", "batch_size=32", "exploration_steps=200"),
}


def together(repository: Path, *arguments: object, processes: int = 2) -> tuple[int, str]:
    """The command in processes that torchrun starts; exit code and what it printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-addr",
               "127.0.0.1", "--master-port", str(port), "-m", "gridmarl", *map(str, arguments)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def learned(folder: Path) -> Tensor:
    """All numbers of the networks."""
    state = load_checkpoint(folder / "checkpoint.pt")["agent"]
    tensors = [state["parameters"]] if "parameters" in state else list(state["online"].values())
    return torch.cat([tensor.flatten() for tensor in tensors])


@pytest.mark.slow
@pytest.mark.parametrize("agent", sorted(LEARNERS))
def test_two_processes_are_one(agent: str, repository: Path, tmp_path: Path) -> None:
    base = (*MARKET, "--agent", agent, "--agent-set", *LEARNERS[agent])
    one, two = tmp_path / "one", tmp_path / "two"
    assert gridmarl(*base, "--steps", "576", "--run-dir", one).code == 0
    # stopped halfway, and resumed
    assert together(repository, *base, "--steps", "288", "--run-dir", two)[0] == 0
    code, out = together(repository, *base, "--steps", "576", "--run-dir", two, "--resume")
    assert (code, "after training" in out) == (0, True), out
    ours, theirs = (load_checkpoint(folder / "checkpoint.pt") for folder in (one, two))
    assert ours["env_steps"] == theirs["env_steps"] == 576
    assert ours["episodes"] == theirs["episodes"] == 24
    assert theirs["last_return"] == pytest.approx(ours["last_return"], rel=1e-9)
    difference = (learned(one) - learned(two)).abs().max()
    assert difference < TOLERANCE
    assert (learned(one) - learned(one).roll(1)).abs().max() > 100 * TOLERANCE
    again = gridmarl("evaluate", two, "--lanes", "1", "--run-dir", tmp_path)
    assert (again.code, again.err) == (0, "")
    alone = gridmarl(*base, "--steps", "600", "--run-dir", two, "--resume")
    assert (alone.code, "resume: 1 processes; allowed are the checkpoint's 2" in alone.err) == (2, True)


def test_errors_reach_whoever_started_them(repository: Path, tmp_path: Path) -> None:
    code, out = together(repository, *MARKET, "--agent", "sb3-ppo", "--run-dir", tmp_path / "a")
    assert code != 0
    assert "agent 'sb3-ppo': trains in one process only; allowed is a start without torchrun" in out
    assert not (tmp_path / "a").exists()


class Other:
    """The first of two processes, of which the second adds nothing."""

    rank, size = 0, 2

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank

    def add(self, values: Tensor) -> Tensor:
        return values


def context(workers: Any, lanes: int = 4, **options: Any) -> AgentContext:
    env = make_batched("two-stage-dr", {"num_prosumers": 2, "horizon_hours": 24}, num_envs=lanes)
    return AgentContext(
        lanes, 2, env.observation_fields, env.action_spec, env.device, 0, options=options, workers=workers
    )


def test_the_slots_of_all_are_shared_out() -> None:
    """5 steps of 8 lanes in a random order, cut in three: each process has its lanes' slots, in the same order."""
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    bounds = [0, 13, 26, 40]
    whole: list[list[int]] = [[], [], []]
    for rank in (0, 1):
        share = SlotShare(context(Other(rank)))
        here, cuts = share.own_parts(order, bounds)
        assert (cuts[0], cuts[-1], here.shape[0]) == (0, 20, 20)
        step, lane = here // 4, here % 4
        slots = step * 8 + rank * 4 + lane  # back to the numbering of all
        mine = [slot for slot in order.tolist() if (slot % 8) // 4 == rank]
        assert slots.tolist() == mine
        for part, (begin, end) in enumerate(pairwise(cuts)):
            whole[part] += slots[begin:end].tolist()
    assert [sorted(part) for part in whole] == [sorted(order[a:b].tolist()) for a, b in ((0, 13), (13, 26), (26, 40))]


def test_alone_the_slots_are_all_one_s_own() -> None:
    share = SlotShare(context(Alone()))
    order = torch.tensor([3, 1, 2, 0])
    assert share.own(order)[0] is order
    assert share.own_parts(order, [0, 1, 4]) == (order, [0, 1, 4])


class Recorded:
    """The first of two processes; adds the other's values, which were computed beforehand."""

    rank, size = 0, 2

    def __init__(self, others: list[Tensor]) -> None:
        self._others = others

    def add(self, values: Tensor) -> Tensor:
        return values.add_(self._others.pop(0))


def test_moments_and_standardisation_see_all_rows() -> None:
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(6, 8, 3, generator=generator) * 3 + 1
    mine, others = values[:, :4], values[:, 4:]
    mean = values.mean()
    left = [others.mean(dim=(0, 1, 2), keepdim=True), (others - mean).square().mean(dim=(0, 1, 2), keepdim=True)]
    share = SlotShare(context(Recorded(left)))
    expected = standardised(values, (0, 1, 2), SlotShare(context(Alone())))[:, :4]
    torch.testing.assert_close(standardised(mine, (0, 1, 2), share), expected)

    other = others.flatten(0, 1).double()
    everything = values.flatten(0, 1).double()
    centre = everything.mean(dim=0)
    together = RunningMoments((3,), values.device, Recorded([other.mean(0), (other - centre).square().sum(0)]))
    together.update(mine.flatten(0, 1))
    alone = RunningMoments((3,), values.device, Alone())
    alone.update(values.flatten(0, 1))
    assert together.count == alone.count == 48
    for name in ("mean", "squares"):
        torch.testing.assert_close(together.state_dict()[name], alone.state_dict()[name], rtol=1e-12, atol=0.0)


def test_refusals() -> None:
    assert share_of(64, Other()) == 32
    with pytest.raises(ConfigError, match="lanes: 63, allowed are multiples of the 2 processes"):
        share_of(63, Other())
    for name, kind in (("ppo", "continuous"), ("dqn", "discrete")):
        env = make_batched("two-stage-dr", {"num_prosumers": 2, "action_space": kind}, num_envs=4)
        made = AgentContext(
            4, 2, env.observation_fields, env.action_spec, env.device, 0, options={"compile": True}, workers=Other()
        )
        with pytest.raises(ConfigError, match=f"{name}: compile=true in 2 processes; allowed is false"):
            make_agent(name, made)
    env = make_batched("two-stage-dr", {"num_prosumers": 2}, num_envs=4)
    config = TrainConfig(env_id=env.env_id, agent="truthful", num_envs=8)
    with pytest.raises(ConfigError, match="agent 'truthful': trains in one process only"):
        build_agent(env, config, Other())
    with pytest.raises(ConfigError, match="resume: 2 processes; allowed are the checkpoint's 1"):
        own_state(Other(), {}, torch.device("cpu"))


def test_several_seeds_do_not_train_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert started_by_torchrun()
    outcome = gridmarl(*MARKET, "--agent", "ppo", "--seeds", "0", "1", "--run-dir", tmp_path / "a")
    assert (outcome.code, "--seeds in processes that train together; allowed is --seed" in outcome.err) == (2, True)


def test_one_process_is_no_group() -> None:
    assert not started_by_torchrun({})
    assert not started_by_torchrun({"WORLD_SIZE": "1", "RANK": "0"})
    assert gather_states(Alone(), {"a": 1}) == []
    assert any_of(Alone(), True, torch.device("cpu")) is True
