"""Policies saved by Stable-Baselines3 act in our markets; nothing in their files is run."""

from __future__ import annotations

import base64
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from torch import nn

from gridmarl.agents.registry import make_agent
from gridmarl.agents.sb3_zip import read_sb3_zip, sb3_algorithm_of
from gridmarl.envs.adapters.sb3 import SB3VecEnv
from gridmarl.errors import DataError
from tests.agents.sb3_cases import LANES, NAMES, PROSUMERS, advance, agent_in, context_of, market, space_of

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("sb3-ppo", "continuous", {}),
    ("sb3-ppo", "discrete", {"activation_fn": nn.ReLU, "net_arch": {"pi": [9], "vf": [5, 4]}}),
    ("sb3-ppo", "continuous", {"net_arch": [], "ortho_init": False, "log_std_init": -1.0}),
    ("sb3-ppo", "continuous", {"features_extractor_class": FlattenExtractor, "share_features_extractor": False}),
    ("sb3-a2c", "discrete", {}),
    ("sb3-dqn", "discrete", {"net_arch": [6, 7, 8], "activation_fn": nn.Tanh}),
    ("sb3-sac", "continuous", {"net_arch": [9], "n_critics": 3}),
    ("sb3-sac", "continuous", {"net_arch": {"pi": [9], "qf": [8, 7]}, "activation_fn": nn.Tanh}),
]


def algorithm_of(name: str) -> Any:
    return getattr(stable_baselines3, name.removeprefix("sb3-").upper())


def sb3_model(name: str, space: str, policy: Any = "MlpPolicy", env: Any = None, **policy_kwargs: Any) -> Any:
    """An untrained model with weights far from those of any other seed."""
    env = env or SB3VecEnv(market(space))
    model = algorithm_of(name)(policy, env, seed=11, device="cpu", policy_kwargs=policy_kwargs)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> Path:
    """A copy of a zip with its JSON object and members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(members.pop("data"))
    change(data, members)
    other = path.with_name("changed.zip")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("data", json.dumps(data))
        for name, content in members.items():
            archive.writestr(name, content)
    return other


@pytest.fixture
def no_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was opened")

    for module in (pickle, cloudpickle):
        monkeypatch.setattr(module, "loads", refuse)
        monkeypatch.setattr(module, "load", refuse)


@pytest.mark.usefixtures("no_unpickling")
@pytest.mark.parametrize(("name", "space", "policy_kwargs"), CASES)
def test_loaded_policy_acts_as_it_does_in_sb3(
    name: str, space: str, policy_kwargs: dict[str, Any], tmp_path: Path
) -> None:
    env = market(space)
    model = sb3_model(name, space, **policy_kwargs)
    model.save(tmp_path / "model.zip")
    assert sb3_algorithm_of(tmp_path / "model.zip") == {"sb3-a2c": "sb3-ppo"}.get(name, name)
    agents = {"sb3-ppo", "sb3-a2c"} if name in ("sb3-ppo", "sb3-a2c") else {name}
    observation = env.reset(2)
    expected, _ = model.predict(observation.flatten(0, 1).numpy(), deterministic=True)
    for agent_name in agents:
        agent = make_agent(agent_name, context_of(env, load=str(tmp_path / "model.zip"), n_steps=2))
        assert np.array_equal(agent.act(observation, explore=False).flatten(0, 1).numpy(), expected)
        for key, value in model.policy.state_dict().items():
            assert torch.equal(agent.model.policy.state_dict()[key], value), key  # type: ignore[attr-defined]
        advance(agent, env, observation, 4)  # and goes on learning


@pytest.mark.parametrize("name", NAMES)
def test_sb3_opens_what_we_save(name: str, tmp_path: Path) -> None:
    space = space_of(name)
    env = market(space)
    agent = agent_in(name, env)
    observation = advance(agent, env, env.reset(0), 30)
    agent.save_zip(tmp_path / "policy")
    model = algorithm_of(name).load(tmp_path / "policy.zip", device="cpu")
    actions, _ = model.predict(observation.flatten(0, 1).numpy(), deterministic=True)
    assert np.array_equal(actions.reshape(LANES, PROSUMERS, *actions.shape[1:]), agent.act(observation, explore=False))
    model.set_env(SB3VecEnv(market(space)))
    model.learn(5 * LANES * PROSUMERS, reset_num_timesteps=False)
    again = make_agent(name, context_of(env, load=str(tmp_path / "policy.zip")))
    assert torch.equal(again.act(observation, explore=False), agent.act(observation, explore=False))


class Explosive:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("the file's code was run",)


def test_code_in_the_file_is_not_run(tmp_path: Path) -> None:
    sb3_model("sb3-ppo", "continuous").save(tmp_path / "model.zip")
    bomb = pickle.dumps(Explosive())

    def plant(data: dict[str, Any], members: dict[str, bytes]) -> None:
        for value in data.values():
            if isinstance(value, dict) and ":serialized:" in value:
                value[":serialized:"] = base64.b64encode(bomb).decode()
        members["policy.optimizer.pth"] = members["pytorch_variables.pth"] = bomb

    path = changed(tmp_path / "model.zip", plant)
    agent_in("sb3-ppo", market("continuous"), load=str(path))

    def in_weights(_: dict[str, Any], members: dict[str, bytes]) -> None:
        file = io.BytesIO()
        torch.save({"log_std": Explosive()}, file)
        members["policy.pth"] = file.getvalue()

    with pytest.raises(DataError, match=r"changed.zip: policy.pth cannot be read as plain tensors"):
        read_sb3_zip(changed(tmp_path / "model.zip", in_weights))


# Refused --------------------------------------------------------------------------------------------------------------


class Own(ActorCriticPolicy):
    """Could act in any way."""


class Extractor(BaseFeaturesExtractor):
    """Could extract anything."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, 4)
        self.net = nn.Linear(observation_space.shape[0], 4)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(observation)
        return out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": Own}, r"policy_class .*None; allowed are stable_baselines3.common.policies.ActorCriticPolicy"),
        ({"features_extractor_class": Extractor}, "policy_kwargs: features_extractor_class .*Extractor'>"),
        ({"activation_fn": nn.ELU}, "activation_fn \"<class 'torch.nn.modules.activation.ELU'>\"; allowed are"),
    ],
)
def test_what_cannot_be_understood_is_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    sb3_model("sb3-ppo", "continuous", **options).save(tmp_path / "model.zip")
    with pytest.raises(DataError, match=words):
        read_sb3_zip(tmp_path / "model.zip")


def test_state_dependent_exploration_is_refused(tmp_path: Path) -> None:
    stable_baselines3.PPO("MlpPolicy", SB3VecEnv(market("continuous")), use_sde=True, device="cpu").save(
        tmp_path / "model.zip"
    )
    with pytest.raises(DataError, match="use_sde=True; allowed is False"):
        read_sb3_zip(tmp_path / "model.zip")


def with_parameters(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def apply(_: dict[str, Any], members: dict[str, bytes]) -> None:
        parameters = torch.load(io.BytesIO(members["policy.pth"]), weights_only=True)
        file = io.BytesIO()
        torch.save(change(parameters) or parameters, file)
        members["policy.pth"] = file.getvalue()

    return apply


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data, _: data["policy_kwargs"].update(use_sde=True), "policy_kwargs: use_sde=True; allowed is none"),
        (lambda data, _: data["policy_kwargs"].update(noise=3), "policy_kwargs: noise=3 is not understood"),
        (lambda data, _: data.update(policy_kwargs=[1]), r"policy_kwargs \[1\]; allowed is a mapping"),
        (lambda data, _: data.pop("policy_class"), "policy_class None.None"),
        (lambda data, _: data["action_space"].update(low="[-2. -1. -1.]"), r"action_space: low=\[-2. -1. -1.\]"),
        (lambda data, _: data["action_space"].update(high="None"), r"action_space: high=None; allowed is 1.0"),
        (
            lambda data, _: data["action_space"].update({":type:": "<class 'gymnasium.spaces.discrete.Discrete'>"}),
            "action_space <class 'gymnasium.spaces.discrete.Discrete'> does not fit the weights of sb3-ppo",
        ),
        (lambda data, _: data["action_space"].update({":type:": "<class 'MultiDiscrete'>"}), "MultiDiscrete"),
        (lambda _, members: members.pop("policy.pth"), "not a zip file as Stable-Baselines3 saves it: .*policy.pth"),
        (
            with_parameters(lambda p: {k: v for k, v in p.items() if k != "action_net.bias"}),
            r"action_net has weight and bias of shapes \[\[3, 64\], None\]",
        ),
        (with_parameters(lambda p: {**p, "extra.weight": p["log_std"]}), "parameter 'extra.weight' is not understood"),
        (with_parameters(lambda p: {**p, "log_std": p["action_net.weight"]}), r"log_std of shape \[3, 64\]"),
        (with_parameters(lambda p: {**p, "log_std": 1}), "'log_std' is int; allowed are float32 tensors"),
        (with_parameters(lambda p: {**p, "log_std": p["log_std"].double()}), "'log_std' is torch.float64"),
        (with_parameters(lambda p: list(p.values())), "policy.pth holds list; allowed is a mapping"),
        (
            with_parameters(lambda p: {**p, "action_net.weight": p["action_net.weight"][:, :9]}),
            r"layers of mlp_extractor.policy_net \[\(25, 64\), \(64, 64\), \(9, 3\)\]",
        ),
    ],
)
def test_a_damaged_file_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    sb3_model("sb3-ppo", "continuous", net_arch=[64, 64]).save(tmp_path / "model.zip")
    read_sb3_zip(changed(tmp_path / "model.zip", lambda data, members: None))
    with pytest.raises(DataError, match=words):
        read_sb3_zip(changed(tmp_path / "model.zip", change))


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no zip"])
def test_a_file_that_is_no_zip_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    if content is not None:
        path.write_bytes(content)
    for read in (sb3_algorithm_of, read_sb3_zip):
        with pytest.raises(DataError, match=r"model.zip: not a zip file as Stable-Baselines3 saves it"):
            read(path)


def test_a_policy_for_other_spaces_or_another_algorithm_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "model.zip")
    sb3_model("sb3-ppo", "continuous").save(path)
    env = market("continuous")
    with pytest.raises(DataError, match="policy of sb3-ppo; sb3-sac was asked for"):
        make_agent("sb3-sac", context_of(env, load=path))
    with pytest.raises(DataError, match="policy for continuous actions of 3; the environment has 225 actions"):
        make_agent("sb3-ppo", context_of(market("discrete"), load=path))
    fewer = context_of(env, load=path)
    object.__setattr__(fewer, "observation_fields", env.observation_fields[1:])
    with pytest.raises(DataError, match="policy for 25 observation fields; there are 24"):
        make_agent("sb3-ppo", fewer)
    sb3_model("sb3-ppo", "discrete").save(path)
    with pytest.raises(DataError, match="policy for 225 actions; the environment has continuous actions of 3"):
        make_agent("sb3-ppo", context_of(env, load=path))
