"""Options of the Stable-Baselines3 agents: the constructor arguments of SB3's algorithms, with SB3's own defaults.

SB3 counts a step of each of its environments, of which there is one per agent and lane: a step of one lane with `P`
agents counts `P` in `learning_starts`, `buffer_size`, `target_update_interval` and the like. Only `total_steps` counts
steps of one lane, as everywhere else in gridmarl.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from gridmarl.agents.registry_options import check_choice, check_integer, check_number
from gridmarl.errors import ConfigError

NetArch = tuple[int, ...] | Mapping[str, Any] | None

# Names mean the same in every algorithm. Least value of integers; least and greatest value of numbers, and whether the
# least itself is excluded.
_INTEGERS = {
    "total_steps": 1,
    "n_steps": 1,
    "batch_size": 1,
    "n_epochs": 1,
    "buffer_size": 1,
    "learning_starts": 0,
    "train_freq": 1,
    "gradient_steps": -1,
    "target_update_interval": 1,
}
_NUMBERS = {
    "learning_rate": (0.0, math.inf, True),
    "gamma": (0.0, 1.0, False),
    "gae_lambda": (0.0, 1.0, False),
    "tau": (0.0, 1.0, True),
    "vf_coef": (0.0, math.inf, False),
    "max_grad_norm": (0.0, math.inf, True),
    "clip_range": (0.0, math.inf, True),
    "clip_range_vf": (0.0, math.inf, True),
    "target_kl": (0.0, math.inf, True),
    "rms_prop_eps": (0.0, math.inf, True),
    "exploration_fraction": (0.0, 1.0, True),
    "exploration_initial_eps": (0.0, 1.0, False),
    "exploration_final_eps": (0.0, 1.0, False),
}
_OPTIONAL = ("clip_range_vf", "target_kl")
_FLAGS = ("normalize_advantage", "use_rms_prop")


@dataclass(frozen=True, kw_only=True)
class SB3Options:
    """What all four agents have; the rest is as in SB3's documentation of the algorithm.

    Attributes:
        total_steps: length of the run, in steps of one lane, that SB3's schedules assume: exploration ends after
            `exploration_fraction` of it. The training loop sets it; a resumed run keeps the value it began with.
        load: SB3 zip file whose policy to start from: weights and architecture; optimiser, schedules and buffers are
            new. Excludes `net_arch` and `activation`.
        net_arch: widths of the hidden layers, or a mapping of them: `{"pi": [...], "vf": [...]}` (ppo, a2c) or
            `{"pi": [...], "qf": [...]}` (sac). None: SB3's own.
        activation: "tanh" or "relu".
    """

    name: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    """Keys of a mapping as `net_arch`."""

    total_steps: int = 100_000
    load: str | None = None
    net_arch: NetArch = None
    activation: str = "tanh"
    learning_rate: float
    gamma: float = 0.99

    def __post_init__(self) -> None:
        """Raises ConfigError naming the field, the value and what is allowed."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in _OPTIONAL and value is None:
                continue
            if item.name in _INTEGERS:
                check_integer(self.name, item.name, value, _INTEGERS[item.name])
            elif item.name in _NUMBERS:
                low, high, above = _NUMBERS[item.name]
                check_number(self.name, item.name, value, low, high, above=above)
            elif item.name in _FLAGS:
                check_choice(self.name, item.name, value, (True, False))
        check_choice(self.name, "activation", self.activation, ("tanh", "relu"))
        if self.load is not None and not str(self.load):
            raise ConfigError(f"{self.name}: load={self.load!r}; allowed is the path of an SB3 zip file")
        self._check_net_arch()

    def _check_net_arch(self) -> None:
        arch = self.net_arch
        if arch is None:
            return
        branches = list(arch.values()) if isinstance(arch, Mapping) else [arch]
        if isinstance(arch, Mapping) and set(arch) != set(self.heads):
            branches = [None]
        for branch in branches:
            if not isinstance(branch, list | tuple):
                mapping = f" or a mapping of such with the keys {', '.join(self.heads)}" if self.heads else ""
                raise ConfigError(
                    f"{self.name}: net_arch={arch!r}; allowed is a list of integers >= 1{mapping}, or null"
                )
            for width in branch:
                check_integer(self.name, "net_arch", width, 1)

    def constructor_arguments(self) -> dict[str, Any]:
        """Arguments of the SB3 algorithm's constructor, without `policy_kwargs`."""
        ours = {item.name for item in fields(SB3Options)} - {"learning_rate", "gamma"}
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ours}

    def architecture(self) -> NetArch | list[int] | dict[str, list[int]]:
        """`net_arch` as SB3 takes it: lists."""
        if self.net_arch is None:
            return None
        if isinstance(self.net_arch, Mapping):
            return {head: list(widths) for head, widths in self.net_arch.items()}
        return list(self.net_arch)


@dataclass(frozen=True, kw_only=True)
class _OnPolicyOptions(SB3Options):
    """What PPO and A2C share."""

    heads: ClassVar[tuple[str, ...]] = ("pi", "vf")

    n_steps: int
    gae_lambda: float
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    normalize_advantage: bool

    def __post_init__(self) -> None:
        """See `SB3Options`."""
        super().__post_init__()
        check_number(self.name, "ent_coef", self.ent_coef, 0.0, math.inf)


@dataclass(frozen=True, kw_only=True)
class PPOOptions(_OnPolicyOptions):
    """Options of `sb3-ppo`."""

    name: ClassVar[str] = "sb3-ppo"

    learning_rate: float = 3e-4
    n_steps: int = 2048
    batch_size: int = 64
    n_epochs: int = 10
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    clip_range_vf: float | None = None
    normalize_advantage: bool = True
    target_kl: float | None = None

    def __post_init__(self) -> None:
        """See `SB3Options`."""
        super().__post_init__()
        if self.normalize_advantage:
            check_integer(f"{self.name} (normalize_advantage=True)", "batch_size", self.batch_size, 2)


@dataclass(frozen=True, kw_only=True)
class A2COptions(_OnPolicyOptions):
    """Options of `sb3-a2c`."""

    name: ClassVar[str] = "sb3-a2c"

    learning_rate: float = 7e-4
    n_steps: int = 5
    gae_lambda: float = 1.0
    rms_prop_eps: float = 1e-5
    use_rms_prop: bool = True
    normalize_advantage: bool = False


@dataclass(frozen=True, kw_only=True)
class _OffPolicyOptions(SB3Options):
    """What DQN and SAC share."""

    activation: str = "relu"
    buffer_size: int = 1_000_000
    learning_starts: int = 100
    batch_size: int
    tau: float
    train_freq: int
    gradient_steps: int = 1
    n_steps: int = 1
    target_update_interval: int


@dataclass(frozen=True, kw_only=True)
class DQNOptions(_OffPolicyOptions):
    """Options of `sb3-dqn`."""

    name: ClassVar[str] = "sb3-dqn"
    heads: ClassVar[tuple[str, ...]] = ()

    learning_rate: float = 1e-4
    batch_size: int = 32
    tau: float = 1.0
    train_freq: int = 4
    target_update_interval: int = 10_000
    exploration_fraction: float = 0.1
    exploration_initial_eps: float = 1.0
    exploration_final_eps: float = 0.05
    max_grad_norm: float = 10.0


@dataclass(frozen=True, kw_only=True)
class SACOptions(_OffPolicyOptions):
    """Options of `sb3-sac`. `ent_coef`: "auto", "auto_<initial value>" or a number; `target_entropy`: "auto" or one."""

    name: ClassVar[str] = "sb3-sac"
    heads: ClassVar[tuple[str, ...]] = ("pi", "qf")

    learning_rate: float = 3e-4
    batch_size: int = 256
    tau: float = 0.005
    train_freq: int = 1
    target_update_interval: int = 1
    ent_coef: str | float = "auto"
    target_entropy: str | float = "auto"

    def __post_init__(self) -> None:
        """See `SB3Options`."""
        super().__post_init__()
        if self.target_entropy != "auto":
            check_number(self.name, "target_entropy", self.target_entropy, -math.inf, math.inf)
        if isinstance(self.ent_coef, str):
            self._check_automatic(self.ent_coef)
        else:
            check_number(self.name, "ent_coef", self.ent_coef, 0.0, math.inf)

    def _check_automatic(self, text: str) -> None:
        start, underline, initial = text.partition("_")
        try:
            fits = start == "auto" and (not underline or 0.0 < float(initial) < math.inf)
        except ValueError:
            fits = False
        if not fits:
            raise ConfigError(
                f"{self.name}: ent_coef={text!r}; allowed are 'auto', 'auto_' with an initial value > 0, or a number"
            )
