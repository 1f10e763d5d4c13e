"""Settings of a training run, validated, and written to the run folder as config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from gridmarl.agents.registry_options import check_choice, check_integer, from_options
from gridmarl.errors import ConfigError
from gridmarl.train.checkpoint import write_atomically

_WHAT = "train"
CONFIG_FILE = "config.json"
# What may differ between a run and its resumption: how long, how often, how shown. All else would change the numbers.
_FREE_ON_RESUME = frozenset(
    {"total_steps", "log_interval", "checkpoint_interval", "progress", "tensorboard", "eval_interval"}
)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run. A "step" is one step of one lane: a step of a batch of `E` lanes counts `E`.

    Attributes:
        env_id: environment, as its `env_id` attribute says.
        agent: name in the agent registry.
        total_steps: length of the run; rounded up to whole steps of all lanes.
        num_envs: lanes.
        seed: of environment and agent, 0 .. 2**64-1.
        device: "cpu", "cuda", "cuda:1", ...
        log_interval: steps between two lines of metrics.csv and TensorBoard.
        eval_interval: steps between two evaluations (needs an evaluation environment); 0: never.
        eval_seed: seed of every evaluation, so that evaluations of one run can be compared.
        checkpoint_interval: steps between two checkpoints: the most that a killed process loses.
        agent_options, env_options: what the registries pass on.
        tensorboard: write TensorBoard event files.
        progress: "auto" (a bar on a terminal, after two seconds), "on" or "off".
    """

    env_id: str
    agent: str = "dqn"
    total_steps: int = 100_000
    num_envs: int = 64
    seed: int = 0
    device: str = "cpu"
    log_interval: int = 5_000
    eval_interval: int = 0
    eval_seed: int = 1_000_003
    checkpoint_interval: int = 50_000
    agent_options: Mapping[str, Any] = field(default_factory=dict)
    env_options: Mapping[str, Any] = field(default_factory=dict)
    tensorboard: bool = True
    progress: str = "auto"

    def __post_init__(self) -> None:
        """Raises ConfigError naming the field, the value and what is allowed."""
        for name in ("env_id", "agent"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"{_WHAT}: {name}={value!r}; allowed is a name")
        for name in ("total_steps", "num_envs", "log_interval", "checkpoint_interval"):
            check_integer(_WHAT, name, getattr(self, name), 1)
        check_integer(_WHAT, "eval_interval", self.eval_interval, 0)
        for name in ("seed", "eval_seed"):
            check_integer(_WHAT, name, getattr(self, name), 0, 2**64 - 1)
        for name in ("agent_options", "env_options"):
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(f"{_WHAT}: {name}={getattr(self, name)!r}; allowed is a mapping of options")
        check_choice(_WHAT, "tensorboard", self.tensorboard, (True, False))
        check_choice(_WHAT, "progress", self.progress, ("auto", "on", "off"))
        try:
            torch.device(self.device)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(f"{_WHAT}: device={self.device!r}; allowed are 'cpu', 'cuda', 'cuda:0', ...") from error

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> TrainConfig:
        """From a command line or a JSON file.

        Raises:
            ConfigError: an unknown key, a missing `env_id`, or a refused value.
        """
        if "env_id" not in options:
            raise ConfigError(f"{_WHAT}: env_id is missing; allowed is the name of an environment")
        return from_options(cls, options, _WHAT)

    def to_json(self) -> str:
        """Indented JSON; keys in the order of the fields."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def save(self, run_dir: Path) -> None:
        """Write config.json, replacing it in one go."""
        write_atomically(run_dir / CONFIG_FILE, self.to_json().encode())

    @classmethod
    def load(cls, run_dir: Path) -> TrainConfig:
        """Read config.json.

        Raises:
            ConfigError: no such file, not JSON, or refused content.
        """
        path = run_dir / CONFIG_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: cannot be read as JSON: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: holds {type(content).__name__}; allowed is an object of settings")
        return cls.from_mapping(content)

    def check_resumable_from(self, saved_json: str) -> None:
        """Refuse to continue a run under settings that would have given other numbers.

        Raises:
            ConfigError: names each differing field with both values.
        """
        saved, now = json.loads(saved_json), json.loads(self.to_json())
        differing = [
            f"{key}={now.get(key)!r} (saved: {saved.get(key)!r})"
            for key in now
            if key not in _FREE_ON_RESUME and now.get(key) != saved.get(key)
        ]
        if differing:
            raise ConfigError(f"resume: settings differ from the checkpoint's: {'; '.join(differing)}")
