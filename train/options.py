"""What every command that runs a market takes from the command line, and the market it makes of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from gridmarl.envs.registry import environment, environments
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.errors import ConfigError
from gridmarl.json_depth import require_shallow
from gridmarl.scenarios.registry import named_scenario
from gridmarl.scenarios.scenario import Scenario, default_scenario, load_scenario
from gridmarl.units import PERMILLE

_NO_DEFAULT = ""  # an empty default needs no "(default: )" in the help
Files = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint=_NO_DEFAULT)]
Settings = Annotated[
    tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE [NAME=VALUE ...]", help_behavior_hint=_NO_DEFAULT)
]
DEFAULT_DAYS = 2
DEFAULT_REGION = "NSW1"
MAX_DAYS = 366
MAX_THREADS = 1024
MAX_LANES = 100_000
MAX_STEPS = 10**12


@dataclass(kw_only=True)
class MarketOptions:
    """The market: which environment, prices and homes, and its parameters."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[ENV]")] = "two-stage-dr"
    """Environment; `gridmarl list` shows them."""
    scenario_name: Annotated[
        str | None, tyro.conf.arg(name="scenario", metavar="NAME", help_behavior_hint=_NO_DEFAULT)
    ] = None
    """Prices and homes by name, in place of files; `gridmarl list` shows the names."""
    prices: Files = ()
    """AEMO price files, or a folder of them; without: the calibrated default, which needs no file."""
    homes: Files = ()
    """Household files (load, with or without photovoltaics); without: the calibrated homes."""
    region: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint=_NO_DEFAULT)] = None
    """Price region in the files; default: NSW1."""
    start: Annotated[str | None, tyro.conf.arg(metavar="YYYY-MM-DD", help_behavior_hint=_NO_DEFAULT)] = None
    """First day of a window of real days; without: scenarios drawn by roulette wheel from the prices."""
    days: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=_NO_DEFAULT)] = None
    """Days of an episode; default: 2."""
    set: Settings = ()
    """Parameters of the market, e.g. --set num_prosumers=20 alpha_permille=1500."""
    options: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint=_NO_DEFAULT)] = None
    """JSON or TOML file with options of this command, or config.json of an earlier run; the command line wins."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint=_NO_DEFAULT)] = None
    """JSON object with parameters of the market; --set wins."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of everything random."""
    device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "cpu"
    """Torch device, e.g. cpu or cuda."""
    threads: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """CPU threads of torch. With small batches more gain little, and on busy cores cost a lot."""
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint=_NO_DEFAULT)] = None
    """Where results go; default: runs/<time>-<env>-<agent>."""
    progress: Literal["auto", "on", "off"] = "auto"
    """Progress bars on standard error; auto: on a terminal, for what takes over two seconds."""

    @property
    def num_days(self) -> int:
        """Days of an episode."""
        return DEFAULT_DAYS if self.days is None else self.days

    def check(self) -> None:
        """Refuse what is wrong in itself; ConfigError names the option, the value seen and what is allowed."""
        check_range("days", self.num_days, 1, MAX_DAYS)
        check_range("seed", self.seed, 0, 2**64 - 1)
        check_range("threads", self.threads, 1, MAX_THREADS)
        checked_device(self.device)

    def parameters(self, **overrides: Any) -> TwoStageDRParams:
        """Parameters of the environment, from --config, --set, --days and the caller, in this order of precedence."""
        check_range("days", self.num_days, 1, MAX_DAYS)
        self._check_environment()
        values: dict[str, Any] = {"horizon_hours": 24 * self.num_days}
        if self.homes:
            values["pv_scale_permille"] = PERMILLE  # recorded photovoltaics as they were
        values |= read_config(self.config)
        values |= parse_settings(self.set)
        values |= overrides
        params: TwoStageDRParams = environment(self.env).load("params").from_dict(values)
        strict = getattr(params, "has_strict_finality", False)  # parameters of a plug-in may know no finality
        if strict and "finality_lag_hours" not in values:
            params = replace(params, finality_lag_hours=self.finality_lag_hours(params.num_prosumers))
        if self.start is not None and params.horizon_hours > 24 * self.num_days:
            raise ConfigError(
                f"horizon_hours: {params.horizon_hours}, allowed is at most the window of {self.num_days} days"
            )
        return params

    def finality_lag_hours(self, num_prosumers: int) -> int:
        """Hours until money is final under strict finality, unless set; commands with a ledger know who seals it."""
        return 0

    def _check_environment(self) -> None:
        if not environment(self.env).commands:
            allowed = ", ".join(entry.name for entry in environments().values() if entry.commands)
            raise ConfigError(f"env: {self.env!r} is not for this command; allowed here: {allowed}")

    def scenario(self) -> Scenario:
        """Prices and homes."""
        if self.scenario_name is not None:
            for name in ("prices", "homes", "start"):
                if getattr(self, name):
                    raise ConfigError(f"--scenario {self.scenario_name} with --{name}; allowed is one of the two")
            return named_scenario(self.scenario_name)
        return load_scenario(
            self.prices or None, self.homes or None, self.region or DEFAULT_REGION, self.start, self.num_days
        )

    def training_scenario(self) -> Scenario:
        """What agents learn on: not the days they are compared on; for a window of real days the calibrated default."""
        return self.scenario() if self.start is None else default_scenario()

    def batched(self, params: TwoStageDRParams, scenario: Scenario, num_envs: int, **kwargs: Any) -> BatchedTwoStageDR:
        """The batched environment on the chosen device."""
        made: BatchedTwoStageDR = self.make_env(params, scenario, num_envs, **kwargs)
        return made

    def make_env(self, params: Any, scenario: Any, num_envs: int, **kwargs: Any) -> Any:
        """As `batched`, of any environment: a `BatchedEnv` of its own parameters and its own scenario."""
        return environment(self.env).load("batched")(
            params, scenario, num_envs=num_envs, device=checked_device(self.device), **kwargs
        )

    def folder(self, agent: str) -> Path:
        """The run folder; made if it does not exist."""
        name = environment(self.env).name
        folder = self.run_dir or _unused(Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{agent}")
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"run_dir: {folder} is a file, allowed is a folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"run_dir: {folder} cannot be made ({error.strerror})") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"run_dir: {folder} cannot be written to, allowed is a folder of your own")
        return folder


def _unused(folder: Path) -> Path:
    """`folder`, or with a number behind it where another run began in the same second."""
    names = (folder if number == 1 else folder.with_name(f"{folder.name}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def check_range(name: str, value: int, low: int, high: int) -> None:
    """ConfigError unless `low <= value <= high`."""
    if not low <= value <= high:
        raise ConfigError(f"{name}: {value}, allowed are {low} .. {high}")


def checked_device(name: str) -> torch.device:
    """A torch device that is there; ConfigError otherwise."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: {name!r}, allowed are cpu, cuda, cuda:0, ...") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: {name!r}, allowed are cpu, cuda, cuda:0, ...")
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if found == 0:
            raise ConfigError(f"device: {name!r}, but this machine has no CUDA device; allowed here is cpu")
        if (device.index or 0) >= found:
            raise ConfigError(f"device: {name!r}, allowed here are cpu and cuda:0 .. cuda:{found - 1}")
    return device


def read_config(path: Path | None) -> dict[str, Any]:
    """Parameters from a JSON object; ConfigError names the file and what is wrong with it."""
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        require_shallow(text)
        content = json.loads(text, object_pairs_hook=_without_repetition)
    except OSError as error:
        raise ConfigError(f"config: {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"config: {path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"config: {path}: holds {type(content).__name__}, allowed is an object of parameters")
    return content


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON file; a key that occurs twice would silently lose its first value."""
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"{name!r} occurs twice")
        content[name] = value
    return content


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`name=value` pairs; values as in JSON where they parse (numbers, true, null), else text."""
    values: dict[str, Any] = {}
    for item in settings:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise ConfigError(f"setting {item!r}: allowed is name=value")
        if name in values:
            raise ConfigError(f"setting {item!r}: {name} is set twice")
        try:
            require_shallow(text)
            values[name] = json.loads(text)
        except (ValueError, RecursionError):
            values[name] = text
    return values
