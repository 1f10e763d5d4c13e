"""Policies that Stable-Baselines3 saved, read without running anything from the file.

SB3's zip holds the weights (`policy.pth`, read with `weights_only`), and a JSON text `data` in which each Python object
is a pickle with a description in plain text beside it. Only the descriptions are read; layer sizes come from the shapes
of the weights. What cannot be understood that way (custom policies, feature extractors, state-dependent exploration)
is refused.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridmarl.errors import DataError
from gridmarl.protocols import AgentContext

# Module and class of the policies that `MlpPolicy` stands for. PPO's and A2C's is the same.
_POLICIES = {
    ("stable_baselines3.common.policies", "ActorCriticPolicy"): "sb3-ppo",
    ("stable_baselines3.dqn.policies", "DQNPolicy"): "sb3-dqn",
    ("stable_baselines3.sac.policies", "SACPolicy"): "sb3-sac",
}
_ACTIVATIONS = {
    "<class 'torch.nn.modules.activation.Tanh'>": "tanh",
    "<class 'torch.nn.modules.activation.ReLU'>": "relu",
}
_FLATTEN = "<class 'stable_baselines3.common.torch_layers.FlattenExtractor'>"
_SPACE = re.compile(r"<class '(?:gymnasium|gym)\.spaces\.(?:box\.(Box)|discrete\.(Discrete))'>")
# They do not change how a saved policy acts: sizes are read off the weights, the rest concerns training.
_INDIFFERENT = {
    *("net_arch", "n_critics", "ortho_init", "log_std_init", "optimizer_class", "optimizer_kwargs"),
    *("share_features_extractor", "normalize_images", "full_std", "use_expln", "clip_mean", "device"),
}
_MUST_BE_OFF = ("use_sde", "squash_output", "features_extractor_kwargs")


@dataclass(frozen=True)
class SavedPolicy:
    """What an SB3 zip says of its policy.

    Attributes:
        path: the file.
        algorithm: registry name of the agent for it: "sb3-ppo" (also for A2C, which acts alike), "sb3-dqn", "sb3-sac".
        parameters: the policy's state dictionary, float32.
        architecture: `policy_kwargs` that SB3 needs to build the same networks, without the activation.
        activation: "tanh" or "relu".
        observation_width: entries of an observation.
        continuous: whether actions are; else discrete.
        num_outputs: entries of a continuous action, or number of discrete ones.
    """

    path: Path
    algorithm: str
    parameters: dict[str, Tensor]
    architecture: dict[str, Any]
    activation: str
    observation_width: int
    continuous: bool
    num_outputs: int

    def check_fits(self, context: AgentContext) -> None:
        """Refuse an environment of other spaces.

        Raises:
            DataError: names the file's size and the environment's.
        """
        spec, width = context.action_spec, len(context.observation_fields)
        if self.observation_width != width:
            raise DataError(f"{self.path}: policy for {self.observation_width} observation fields; there are {width}")
        wanted = f"continuous actions of {spec.size}" if spec.kind == "continuous" else f"{spec.num_actions} actions"
        found = f"continuous actions of {self.num_outputs}" if self.continuous else f"{self.num_outputs} actions"
        if found != wanted:
            raise DataError(f"{self.path}: policy for {found}; the environment has {wanted}")


def sb3_algorithm_of(path: Path | str) -> str:
    """Registry name of the agent that a zip saved by SB3 needs: "sb3-ppo", "sb3-dqn" or "sb3-sac".

    PPO and A2C save the same kind of policy and act alike: "sb3-ppo".

    Raises:
        DataError: the file is no such zip, or of a policy class other than `MlpPolicy` of these algorithms.
    """
    return _algorithm(Path(path), _read(Path(path))[0])


def read_sb3_zip(path: Path | str) -> SavedPolicy:
    """Weights and architecture of a policy that SB3 saved; nothing is unpickled.

    Raises:
        DataError: the file is no such zip, or describes something that is not understood; names what was seen.
    """
    path = Path(path)
    data, weights = _read(path)
    algorithm = _algorithm(path, data)
    activation = _activation(path, data, algorithm)
    shapes = _Shapes(path, _parameters(path, weights))
    architecture, width, num_outputs = _MEASURE[algorithm](shapes)
    gaussian = shapes.take_vector("log_std") if algorithm == "sb3-ppo" else None
    shapes.check_none_left()
    continuous = _is_continuous(path, data)
    if continuous != (algorithm == "sb3-sac" or gaussian is not None):
        raise DataError(
            f"{path}: action_space {data['action_space'][':type:']} does not fit the weights of {algorithm}"
        )
    return SavedPolicy(
        path, algorithm, shapes.parameters, architecture, activation, width, continuous, num_outputs
    )  # fmt: skip


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """The JSON text and the weights' file."""
    try:
        with zipfile.ZipFile(path) as archive:
            data, weights = json.loads(archive.read("data")), archive.read("policy.pth")
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a zip file as Stable-Baselines3 saves it: {error}") from error
    if not isinstance(data, dict):
        raise DataError(f"{path}: data holds {type(data).__name__}; allowed is an object")
    return data, weights


def _algorithm(path: Path, data: dict[str, Any]) -> str:
    described = data.get("policy_class")
    described = described if isinstance(described, dict) else {}
    module, constructor = described.get("__module__"), str(described.get("__init__"))
    found = re.match(r"<function (\w+)\.__init__ at ", constructor)
    key = (str(module), found.group(1) if found else constructor)
    if key not in _POLICIES:
        allowed = ", ".join(".".join(item) for item in _POLICIES)
        raise DataError(f"{path}: policy_class {'.'.join(key)}; allowed are {allowed}")
    return _POLICIES[key]


def _activation(path: Path, data: dict[str, Any], algorithm: str) -> str:
    """Activation; refuses every other setting of the policy that changes how it acts."""
    settings = data.get("policy_kwargs")
    if not isinstance(settings, dict) or settings.get(":type:", "<class 'dict'>") != "<class 'dict'>":
        raise DataError(f"{path}: policy_kwargs {settings!r:.80}; allowed is a mapping")
    if data.get("use_sde"):
        raise DataError(f"{path}: use_sde={data['use_sde']!r}; allowed is False")
    activation = "tanh" if algorithm == "sb3-ppo" else "relu"
    for name, value in settings.items():
        if name == "activation_fn" and value in _ACTIVATIONS:
            activation = _ACTIVATIONS[value]
        elif name == "activation_fn":
            raise DataError(f"{path}: policy_kwargs: activation_fn {value!r}; allowed are {', '.join(_ACTIVATIONS)}")
        elif name == "features_extractor_class":
            if value != _FLATTEN:
                raise DataError(f"{path}: policy_kwargs: {name} {value!r}; allowed is {_FLATTEN}")
        elif name in _MUST_BE_OFF:
            if value:
                raise DataError(f"{path}: policy_kwargs: {name}={value!r}; allowed is none of it")
        elif name not in _INDIFFERENT and name not in (":type:", ":serialized:"):
            raise DataError(f"{path}: policy_kwargs: {name}={value!r:.80} is not understood")
    return activation


def _is_continuous(path: Path, data: dict[str, Any]) -> bool:
    """Whether actions are a box, which must be that of our environments: [-1, 1]."""
    space = data.get("action_space")
    space = space if isinstance(space, dict) else {}
    found = _SPACE.fullmatch(str(space.get(":type:")))
    if found is None:
        raise DataError(f"{path}: action_space {space.get(':type:')!r}; allowed are Discrete and Box")
    if found.group(2):
        return False
    for name, bound in (("low", -1.0), ("high", 1.0)):
        text = str(space.get(name))
        numbers = re.findall(r"[^\s\[\],]+", text)
        if not numbers or any(_number(number) != bound for number in numbers):
            raise DataError(f"{path}: action_space: {name}={text}; allowed is {bound} in each entry")
    return True


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parameters(path: Path, weights: bytes) -> dict[str, Tensor]:
    try:
        parameters = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: policy.pth cannot be read as plain tensors: {error}") from error
    if not isinstance(parameters, dict):
        raise DataError(f"{path}: policy.pth holds {type(parameters).__name__}; allowed is a mapping of tensors")
    for name, value in parameters.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.dtype != torch.float32:
            seen = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise DataError(f"{path}: policy.pth: {name!r} is {seen}; allowed are float32 tensors")
    return dict(parameters)


class _Shapes:
    """Reads layer sizes off parameters, ticking off each that it has understood."""

    def __init__(self, path: Path, parameters: dict[str, Tensor]) -> None:
        self.path, self.parameters = path, parameters
        self._left = set(parameters)

    def layer(self, name: str) -> tuple[int, int]:
        """Inputs and outputs of a linear layer.

        Raises:
            DataError: there is no such layer, or its shapes are not a layer's.
        """
        weight, bias = (self.parameters.get(f"{name}.{part}") for part in ("weight", "bias"))
        if weight is None or bias is None or weight.dim() != 2 or bias.shape != weight.shape[:1]:
            seen = [None if item is None else list(item.shape) for item in (weight, bias)]
            raise DataError(f"{self.path}: policy.pth: {name} has weight and bias of shapes {seen}; allowed is a layer")
        self._left -= {f"{name}.weight", f"{name}.bias"}
        return weight.shape[1], weight.shape[0]

    def chain(self, prefix: str, *heads: str) -> list[int]:
        """Widths `[inputs, ..., outputs]` of a network: layers `prefix.0`, `prefix.2`, ..., then each of `heads`."""
        names, index = [], 0
        while f"{prefix}.{index}.weight" in self.parameters:
            names.append(f"{prefix}.{index}")
            index += 2  # the activation is in between
        layers = [self.layer(name) for name in names]
        ends = [self.layer(head) for head in heads]
        chained = [*layers, *ends[:1]]
        fits = bool(chained) and all(one[1] == two[0] for one, two in pairwise(chained))
        if not fits or any(end != ends[0] for end in ends):
            raise DataError(
                f"{self.path}: policy.pth: layers of {prefix} {[*layers, *ends]}; allowed is one after another"
            )
        return [chained[0][0], *(outputs for _, outputs in chained)]

    def take_vector(self, name: str) -> int | None:
        """Length of a vector; None if there is none.

        Raises:
            DataError: it has another number of dimensions.
        """
        value = self.parameters.get(name)
        if value is None:
            return None
        if value.dim() != 1:
            raise DataError(f"{self.path}: policy.pth: {name} of shape {list(value.shape)}; allowed is a vector")
        self._left.discard(name)
        return value.shape[0]

    def check_none_left(self) -> None:
        """Refuse parameters of parts that are not known."""
        if self._left:
            raise DataError(f"{self.path}: policy.pth: parameter {min(self._left)!r} is not understood")


def _measure_actor_critic(shapes: _Shapes) -> tuple[dict[str, Any], int, int]:
    """Architecture, observation width and number of outputs."""
    actor = shapes.chain("mlp_extractor.policy_net", "action_net")
    critic = shapes.chain("mlp_extractor.value_net", "value_net")
    return {"net_arch": {"pi": actor[1:-1], "vf": critic[1:-1]}}, actor[0], actor[-1]


def _measure_dqn(shapes: _Shapes) -> tuple[dict[str, Any], int, int]:
    online, target = shapes.chain("q_net.q_net"), shapes.chain("q_net_target.q_net")
    if online != target:
        raise DataError(
            f"{shapes.path}: policy.pth: q_net {online} and q_net_target {target}; allowed are equal widths"
        )
    return {"net_arch": online[1:-1]}, online[0], online[-1]


def _measure_sac(shapes: _Shapes) -> tuple[dict[str, Any], int, int]:
    actor = shapes.chain("actor.latent_pi", "actor.mu", "actor.log_std")
    critics: list[list[int]] = []
    while f"critic.qf{len(critics)}.0.weight" in shapes.parameters:
        number = len(critics)
        critics.append(shapes.chain(f"critic.qf{number}"))
        if shapes.chain(f"critic_target.qf{number}") != critics[0] or critics[number] != critics[0]:
            raise DataError(f"{shapes.path}: policy.pth: critics differ in width; allowed are equal ones")
    if not critics:
        raise DataError(f"{shapes.path}: policy.pth has no critic.qf0.0.weight; allowed is at least one critic")
    architecture = {"net_arch": {"pi": actor[1:-1], "qf": critics[0][1:-1]}, "n_critics": len(critics)}
    return architecture, actor[0], actor[-1]


_MEASURE = {"sb3-ppo": _measure_actor_critic, "sb3-dqn": _measure_dqn, "sb3-sac": _measure_sac}
