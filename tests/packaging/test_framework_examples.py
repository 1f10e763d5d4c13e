"""The examples for other people's frameworks run as their READMEs say, and their adapters do what they claim."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from gridmarl.envs import make_batched
from gridmarl.errors import ConfigError
from tests.packaging.processes import clean_environment, succeed
from tests.packaging.readme import fenced_blocks, shell_commands, smaller

MODULES = {"torchrl": "torchrl", "supersuit": "supersuit"}
INSTALL = "pip install '.[frameworks]'"
SMALLER = {
    "python examples/torchrl/torchrl_ppo.py": "--iterations 8",
    "python examples/supersuit/supersuit_sb3.py": "--steps 768",
}
MARKET = {"num_prosumers": 3, "horizon_hours": 5}


def load(repository: Path, example: str, program: str) -> ModuleType:
    """The example's program as a module; skips where its framework is not installed."""
    pytest.importorskip(MODULES[example], reason=f"needs {INSTALL}")
    path = repository / "examples" / example / f"{program}.py"
    spec = importlib.util.spec_from_file_location(f"example_{program}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_as_printed(repository: Path, example: str, tmp_path: Path) -> str:
    """Output of the last command of the README's; the first installs what is installed here already."""
    pytest.importorskip(MODULES[example], reason=f"needs {INSTALL}")
    blocks = fenced_blocks((repository / "examples" / example / "README.md").read_text(encoding="utf-8"))
    install, program = [line for block in blocks if block.language == "bash" for line in shell_commands(block.text)]
    assert install == INSTALL
    command = smaller(program, SMALLER)
    assert command != program
    (tmp_path / "examples").symlink_to(repository / "examples")
    environment = {**clean_environment(), "PYTHONPATH": str(repository)}
    return succeed([sys.executable, "-W", "error", *command.split()[1:]], tmp_path, env=environment)


def test_the_extra_that_the_readmes_name_exists(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = " ".join(project["optional-dependencies"]["frameworks"]).lower()
    assert all(module in named for module in MODULES.values())


# --- TorchRL


@pytest.fixture(scope="module")
def torchrl_ppo(repository: Path) -> ModuleType:
    return load(repository, "torchrl", "torchrl_ppo")


def test_torchrl_program_learns(repository: Path, tmp_path: Path) -> None:
    shown = run_as_printed(repository, "torchrl", tmp_path)
    assert "check_env_specs succeeded" in shown
    rows = re.findall(r"iteration \d+: loss (\S+), return (\S+) tokens", shown)
    losses, returns = [float(loss) for loss, _ in rows], [float(value) for _, value in rows]
    assert len(rows) == 8
    assert np.isfinite(losses).all()
    assert returns[-1] > returns[0] + 10
    assert re.search(r"PPO \S+, truthful bidding 30\.38", shown)


@pytest.mark.parametrize("space", ["continuous", "discrete"])
def test_torchrl_environment_conforms(torchrl_ppo: ModuleType, space: str) -> None:
    market = make_batched("two-stage-dr", {**MARKET, "action_space": space}, num_envs=2, auto_reset=False)
    torchrl_ppo.check_env_specs(torchrl_ppo.MarketEnv(market))


def test_torchrl_environment_is_the_batched_one(torchrl_ppo: ModuleType) -> None:
    market, same = (make_batched("two-stage-dr", MARKET, num_envs=2, auto_reset=False) for _ in range(2))
    env = torchrl_ppo.MarketEnv(market, "outside_option_tok")
    outside = [field.name for field in same.observation_fields].index("outside_option_tok")
    env.set_seed(5)
    for episode in range(2):  # each episode is the next seed
        rollout = env.rollout(5)
        assert tuple(rollout.batch_size) == (2, 3, 5)
        assert rollout["next", "truncated"].squeeze(-1).nonzero()[:, -1].unique().tolist() == [4]
        assert torch.equal(rollout["next", "done"], rollout["next", "truncated"])
        assert not rollout["next", "terminated"].any()
        observation = same.reset(5 + episode)
        for hour in range(5):
            assert torch.equal(rollout["observation"][:, :, hour], observation)
            step = same.step(rollout["action"][:, :, hour])
            expected = step.reward - observation[:, :, outside]
            assert torch.equal(rollout["next", "reward"][:, :, hour, 0], expected)
            observation = step.observation
        assert torch.equal(rollout["next", "observation"][:, :, 4], observation)


def test_torchrl_environment_resets_all_or_none(torchrl_ppo: ModuleType) -> None:
    env = torchrl_ppo.MarketEnv(make_batched("two-stage-dr", MARKET, num_envs=2, auto_reset=False))
    first = env.reset()
    some = torch.zeros(2, 3, 1, dtype=torch.bool)
    some[0] = True
    with pytest.raises(ConfigError, match="allowed is all of them"):
        env.reset(first.set("_reset", some))


# --- SuperSuit


@pytest.fixture(scope="module")
def supersuit_sb3(repository: Path) -> ModuleType:
    return load(repository, "supersuit", "supersuit_sb3")


def test_supersuit_program_trains(repository: Path, tmp_path: Path) -> None:
    shown = run_as_printed(repository, "supersuit", tmp_path)
    assert "16 environments, observation (75,)" in shown
    assert "768 steps" in shown
    reward = re.search(r"mean reward of the last rollout: (\S+) tokens", shown)
    assert reward
    assert np.isfinite(float(reward[1]))


def episode(env: Any, seed: int | None) -> tuple[list[np.ndarray], list[np.ndarray], list[dict[str, Any]]]:
    """Observations, rewards and the last infos of 24 hours with zero actions."""
    env.seed(seed)
    seen, rewards = [env.reset()], []
    for hour in range(24):
        observations, reward, dones, infos = env.step(np.zeros((env.num_envs, 3), np.float32))
        assert dones.all() == dones.any() == (hour == 23)
        seen.append(observations)
        rewards.append(reward)
    return seen, rewards, infos


def test_supersuit_tells_sb3_of_the_horizon(supersuit_sb3: ModuleType) -> None:
    env = supersuit_sb3.vector_env(prosumers=3, copies=2, frames=2)
    seen, _, infos = episode(env, 4)
    assert env.num_envs == len(infos) == 6
    assert all(info["TimeLimit.truncated"] for info in infos)
    for index, info in enumerate(infos):
        last, fresh = info["terminal_observation"], seen[-1][index]
        assert np.array_equal(
            last[:25], seen[-2][index][25:]
        )  # of two frames the older is the newer of the hour before
        assert not np.array_equal(last, fresh)


def test_supersuit_copies_differ_and_repeat_with_the_seed(supersuit_sb3: ModuleType) -> None:
    env = supersuit_sb3.vector_env(prosumers=2, copies=2, frames=1)
    _, one, _ = episode(env, 4)
    _, other, _ = episode(env, None)
    _, again, _ = episode(env, 4)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(np.array(one)[:, :2], np.array(one)[:, 2:])


def test_supersuit_pads_an_operator_to_the_prosumers(supersuit_sb3: ModuleType) -> None:
    supersuit = supersuit_sb3.supersuit
    market = supersuit_sb3.parallel_env(num_prosumers=2, horizon_hours=4, operator=True)
    padded = supersuit.pad_action_space_v0(supersuit.pad_observations_v0(market))
    assert market.observation_space("operator") != market.observation_space("prosumer_0")
    observations, _ = padded.reset(seed=0)
    assert {value.shape for value in observations.values()} == {(25,)}
    actions = {name: np.zeros(padded.action_space(name).shape, np.float32) for name in padded.agents}
    assert actions["operator"].shape == actions["prosumer_0"].shape == (3,)
    observations, rewards, *_ = padded.step(actions)
    assert set(rewards) == {"operator", "prosumer_0", "prosumer_1"}
