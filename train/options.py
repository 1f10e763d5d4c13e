"""What every command that runs a market takes from the command line, and the market it makes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from gridmarl.envs.registry import environment
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.errors import ConfigError
from gridmarl.scenarios.scenario import Scenario, default_scenario, load_scenario
from gridmarl.units import PERMILLE


@dataclass(kw_only=True)
class MarketOptions:
    """The market: which environment, prices and homes, and its parameters."""

    env: tyro.conf.Positional[str] = "two-stage-dr"
    """Name of the environment (`gridmarl list` shows them)."""
    prices: tuple[Path, ...] = ()
    """AEMO price files, or a folder of them; without: the calibrated default, which needs no file."""
    homes: tuple[Path, ...] = ()
    """Household files (load, with or without photovoltaics); without: the calibrated homes."""
    region: str = "NSW1"
    """Price region in the files."""
    start: str | None = None
    """First day of a window of real days, YYYY-MM-DD; without: scenarios drawn by roulette wheel from the prices."""
    days: int = 2
    """Days of an episode."""
    set: tuple[str, ...] = ()
    """Parameters of the environment, as name=value, e.g. --set num_prosumers=20 alpha_permille=1500."""
    config: Path | None = None
    """JSON file with parameters of the environment; --set wins over it."""
    seed: int = 0
    """Seed of everything random."""
    device: str = "cpu"
    """Torch device, e.g. cpu or cuda."""
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; default runs/<time>-<env>-<agent>."""

    def parameters(self, **overrides: Any) -> TwoStageDRParams:
        """Parameters of the environment, from --config, --set, --days and the caller, in this order of precedence."""
        values: dict[str, Any] = {"horizon_hours": 24 * self.days}
        if self.homes:
            values["pv_scale_permille"] = PERMILLE  # recorded photovoltaics as they were
        values |= read_config(self.config)
        values |= parse_settings(self.set)
        values |= overrides
        params: TwoStageDRParams = environment(self.env).load("params").from_dict(values)
        if self.start is not None and params.horizon_hours > 24 * self.days:
            raise ConfigError(
                f"horizon_hours: {params.horizon_hours}, allowed is at most the window of {self.days} days"
            )
        return params

    def scenario(self) -> Scenario:
        """Prices and homes."""
        if self.days < 1:
            raise ConfigError(f"days: {self.days}, allowed is 1 or more")
        return load_scenario(self.prices or None, self.homes or None, self.region, self.start, self.days)

    def training_scenario(self) -> Scenario:
        """What agents learn on: not the days they are compared on; for a window of real days the calibrated default."""
        return self.scenario() if self.start is None else default_scenario()

    def batched(self, params: TwoStageDRParams, scenario: Scenario, num_envs: int, **kwargs: Any) -> BatchedTwoStageDR:
        """The batched environment on the chosen device."""
        made: BatchedTwoStageDR = environment(self.env).load("batched")(
            params, scenario, num_envs=num_envs, device=checked_device(self.device), **kwargs
        )
        return made

    def folder(self, agent: str) -> Path:
        """The run folder; made if it does not exist."""
        name = environment(self.env).name
        folder = self.run_dir or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{agent}"
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"run_dir: {folder} is a file, allowed is a folder")
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def checked_device(name: str) -> torch.device:
    """A torch device that is there; ConfigError otherwise."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: {name!r}, allowed are cpu, cuda, cuda:0, ...") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: {name!r}, but this machine has no CUDA device; allowed here is cpu")
    return device


def read_config(path: Path | None) -> dict[str, Any]:
    """Parameters from a JSON object; ConfigError names the file and what is wrong with it."""
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config: {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"config: {path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"config: {path}: holds {type(content).__name__}, allowed is an object of parameters")
    return content


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`name=value` pairs; values as in JSON where they parse (numbers, true, null), else text."""
    values: dict[str, Any] = {}
    for item in settings:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {item!r}: allowed is name=value")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values
