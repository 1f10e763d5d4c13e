"""Environments by name: ours and those that other packages announce under the entry-point group `gridmarl.envs`.

An entry names its classes as "module:attribute" and loads them when asked, so that listing costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import pettingzoo

from gridmarl.errors import ConfigError
from gridmarl.protocols import BatchedEnv


@dataclass(frozen=True)
class EnvEntry:
    """One environment.

    Attributes:
        name: on the command line, such as `two-stage-dr`.
        env_id: PettingZoo id.
        batched, parallel, aec, params: "module:attribute" of the batched class, the factories, and the parameter class.
        view: "module:attribute" of a function from a batched environment and a lane to what `gridmarl render` shows: an
            object with `start`, `record`, `draw` and `text` (`gridmarl.envs.base.parallel.View`); empty: no pictures.
        commands: whether commands written for the two-stage market may play it; an environment with an entry of its
            own in `gridmarl.train.markets` needs none.
    """

    name: str
    env_id: str
    summary: str
    batched: str
    parallel: str
    aec: str
    params: str
    view: str = ""
    commands: bool = True

    def load(self, attribute: str) -> Any:
        """The object behind `batched`, `parallel`, `aec`, `params` or `view`."""
        module, _, name = getattr(self, attribute).partition(":")
        return getattr(import_module(module), name)


_BUILT_IN = (
    EnvEntry(
        name="two-stage-dr",
        env_id="gridmarl/TwoStageDR-v0",
        summary="two-stage demand-response market with prosumer scheduling (chapter 7)",
        batched="gridmarl.envs.two_stage_dr.batched:BatchedTwoStageDR",
        parallel="gridmarl.envs.two_stage_dr.env:parallel_env",
        aec="gridmarl.envs.two_stage_dr.env:env",
        params="gridmarl.envs.two_stage_dr.params:TwoStageDRParams",
        view="gridmarl.envs.two_stage_dr.render:view_of",
    ),
    EnvEntry(
        name="ev-quota",
        env_id="gridmarl/EVQuota-v0",
        summary="charging stations declare, trade quotas of one transformer, and charge (chapter 9)",
        batched="gridmarl.envs.ev_quota.batched:BatchedEVQuota",
        parallel="gridmarl.envs.ev_quota.env:parallel_env",
        aec="gridmarl.envs.ev_quota.env:env",
        params="gridmarl.envs.ev_quota.params:EVQuotaParams",
        view="gridmarl.envs.ev_quota.render:view_of",
        commands=False,
    ),
)


def environments() -> dict[str, EnvEntry]:
    """All known environments by name, plug-ins included."""
    known = {entry.name: entry for entry in _BUILT_IN}
    for point in entry_points(group="gridmarl.envs"):
        entry = point.load()
        known.setdefault(entry.name, entry)
    return known


def environment(name: str) -> EnvEntry:
    """The entry of a name or PettingZoo id; ConfigError lists what exists."""
    known = environments()
    for entry in known.values():
        if name in (entry.name, entry.env_id):
            return entry
    raise ConfigError(f"environment {name!r}: unknown, there are {', '.join(sorted(known))}")


def make_batched(name: str, params: dict[str, Any], **kwargs: Any) -> BatchedEnv:
    """The batched environment of a name, with parameters from a mapping (unknown keys raise ConfigError)."""
    entry = environment(name)
    made: BatchedEnv = entry.load("batched")(entry.load("params").from_dict(params), **kwargs)
    return made


def _register() -> None:
    for entry in _BUILT_IN:
        if entry.env_id not in pettingzoo.parallel_registry:
            pettingzoo.register("parallel", entry.env_id, entry.parallel)
        if entry.env_id not in pettingzoo.aec_registry:
            pettingzoo.register("aec", entry.env_id, entry.aec)


_register()
