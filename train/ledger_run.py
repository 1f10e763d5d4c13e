"""Play one lane of a policy with every period sealed into a ledger file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.step import hour_record
from gridmarl.errors import ConfigError
from gridmarl.ledger.chain import LaneChains
from gridmarl.ledger.chain_rules import ChainRules
from gridmarl.ledger.file import LedgerWriter
from gridmarl.ledger.keys import KeyRing
from gridmarl.protocols import Agent
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.ledger_options import LedgerOptions
from gridmarl.train.options import MarketOptions
from gridmarl.train.rollout import Episode, play
from gridmarl.train.tables import results_console

Played = TypeVar("Played")
Append = Callable[[Any], object]


def write_sealed(path: Path, rules: ChainRules, keys: KeyRing | None, playing: Callable[[Append], Played]) -> Played:
    """Seal what is played into `path` (replaced if it exists), which holds it whole or not at all.

    Args:
        playing: is given what takes the record of each period, in order.

    Raises:
        ConfigError: the path is a folder.
        LedgerError: it cannot be written.
    """
    if path.is_dir():
        raise ConfigError(f"ledger: {path} is a folder, allowed is a file")
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with LedgerWriter(part, rules) as writer:
            played = playing(LaneChains(rules, [rules.lane], writers={rules.lane: writer}, keys=keys).append)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return played


def play_sealed(
    options: MarketOptions,
    params: TwoStageDRParams,
    scenario: Scenario,
    agent: Agent,
    seed: int,
    path: Path,
    ledger: LedgerOptions | None = None,
) -> Episode:
    """One episode of lane 0 of the two-stage market, written block by block; see `write_sealed`.

    Args:
        ledger: how it is sealed, with keys of the folder of `path`; None: proof of authority, unsigned.

    Where a plug-in's mechanism clears the market, nobody could replay a ledger: none is written, and this is said.
    """
    env = options.batched(params, scenario, 1, auto_reset=False)
    if params.has_plugin_mechanism and not path.is_dir():
        path.unlink(missing_ok=True)  # an earlier run's would pass for this one's
        told = f"no ledger: the replay cannot check clearing by price_rule {params.price_rule}, a plug-in's"
        results_console().print(told, highlight=False, soft_wrap=True)
        return play(env, agent, seed)
    ledger = ledger or LedgerOptions(sign="off")
    rules, keys = ledger.signed(path.parent, env.ledger_rules(seed, **ledger.sealing_fields(env.num_agents)))

    def playing(append: Append) -> Episode:
        return play(env, agent, seed, on_hour=lambda settled: append(hour_record(settled)))

    return write_sealed(path, rules, keys, playing)
