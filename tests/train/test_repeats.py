"""Every learner: two seeded runs are equal to the last bit, and so are a resumed and an uninterrupted one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gridmarl.agents.registry import agent_names, make_agent, needs_discrete_actions, supports
from gridmarl.envs import make_batched
from gridmarl.protocols import AgentContext
from gridmarl.train.checkpoint import CHECKPOINT_FILE, load_checkpoint, tree_hash
from gridmarl.train.config import TrainConfig
from gridmarl.train.loop import TrainProgress, TrainResult, build_agent, train

LANES, STEPS, CUT = 3, 288, 120  # cut in the middle of an episode and of a rollout
OPTIONS: dict[str, dict[str, Any]] = {
    "dqn": {"learning_starts": 24, "batch_size": 16, "hidden": [8], "exploration_steps": 200},
    "tabular_q": {"exploration_steps": 200},
    "ppo": {"rollout_steps": 16, "hidden": [8]},
    "mappo": {"rollout_steps": 16, "hidden": [8]},
    "sb3-ppo": {"n_steps": 16, "batch_size": 32, "net_arch": [8]},
    "sb3-a2c": {"n_steps": 5, "net_arch": [8]},
    "sb3-dqn": {"learning_starts": 24, "batch_size": 16, "net_arch": [8], "buffer_size": 600, "total_steps": STEPS},
    "sb3-sac": {"learning_starts": 240, "batch_size": 8, "net_arch": [8], "buffer_size": 600, "train_freq": 8},
}


def learners() -> list[str]:
    env = make_batched("two-stage-dr", {"num_prosumers": 2, "horizon_hours": 24}, num_envs=LANES)
    found = []
    for name in agent_names():
        if needs_discrete_actions(name):
            found.append(name)  # the heuristics of ours take both kinds
            continue
        if not supports(name, "two-stage-dr"):
            continue
        context = AgentContext(LANES, 2, env.observation_fields, env.action_spec, env.device, 0)
        if make_agent(name, context).learns:
            found.append(name)
    return found


def run(agent: str, folder: Path, seed: int = 5, until: int = STEPS, resume: bool = False) -> TrainResult:
    """Train to `STEPS`, or until the row of metrics at step `until`."""
    kind = "discrete" if needs_discrete_actions(agent) else "continuous"
    market = {"num_prosumers": 2, "horizon_hours": 24, "action_space": kind}
    env = make_batched("two-stage-dr", market, num_envs=LANES)
    config = TrainConfig(
        env_id=env.env_id, agent=agent, total_steps=STEPS, num_envs=LANES, seed=seed, log_interval=LANES,
        checkpoint_interval=10**9, agent_options=OPTIONS.get(agent, {}), tensorboard=False, progress="off",
    )  # fmt: skip

    def cut(progress: TrainProgress) -> None:
        if progress.env_steps == until < STEPS:
            raise KeyboardInterrupt

    return train(env, build_agent(env, config), config, folder, cut, resume=resume)


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else None
    if items is None:
        return {path: tree}
    return {key: leaf for name, child in items for key, leaf in leaves(child, f"{path}/{name}").items()}


@pytest.mark.parametrize("agent", learners())
def test_equal_seeds_equal_bits_and_resume_is_exact(agent: str, tmp_path: Path) -> None:
    first, again, other = (run(agent, tmp_path / name, seed) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    assert first.agent_blake3 == again.agent_blake3
    assert first.agent_blake3 != other.agent_blake3
    part = run(agent, tmp_path / "d", until=CUT)
    assert (part.interrupted, part.env_steps) == (True, CUT)
    assert part.agent_blake3 != first.agent_blake3
    resumed = run(agent, tmp_path / "d", resume=True)
    assert resumed.env_steps == STEPS
    whole, joined = (leaves(load_checkpoint(tmp_path / name / CHECKPOINT_FILE)) for name in ("a", "d"))
    assert whole.keys() == joined.keys()
    for name, value in whole.items():
        same = value.equal(joined[name]) if isinstance(value, torch.Tensor) else value == joined[name]
        assert same, name
    assert resumed.agent_blake3 == first.agent_blake3


def test_every_learner_is_here() -> None:
    assert set(OPTIONS) <= set(learners())


def test_the_hash_sees_every_bit_name_and_type() -> None:
    tree = {"w": torch.arange(4.0), "n": [1, 2.0, None], "empty": torch.zeros(0, 3)}
    known = tree_hash(tree)
    assert known == tree_hash({"n": [1, 2.0, None], "empty": torch.zeros(0, 3), "w": torch.arange(8.0)[:4]})
    assert known == tree_hash({**tree, "w": torch.arange(4.0).repeat_interleave(2)[::2]})
    for changed in (
        {**tree, "w": torch.tensor([0.0, 1.0, 2.0, 3.0000002])},
        {**tree, "w": torch.arange(4.0).view(2, 2)},
        {**tree, "w": torch.arange(4.0).view(torch.int32)},
        {**tree, "v": torch.arange(4.0)},
        {**tree, "n": [1, 2, None]},
        {**tree, "empty": torch.zeros(3, 0)},
    ):
        assert tree_hash(changed) != known
