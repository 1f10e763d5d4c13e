"""Play one lane of a policy with every hour sealed into a ledger file."""

from __future__ import annotations

from pathlib import Path

from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.rules import ledger_rules
from gridmarl.envs.two_stage_dr.step import hour_record
from gridmarl.errors import ConfigError
from gridmarl.ledger.chain import LaneChains
from gridmarl.ledger.file import LedgerWriter
from gridmarl.protocols import Agent
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.ledger_options import LedgerOptions
from gridmarl.train.options import MarketOptions
from gridmarl.train.rollout import Episode, play
from gridmarl.train.tables import results_console


def play_sealed(
    options: MarketOptions,
    params: TwoStageDRParams,
    scenario: Scenario,
    agent: Agent,
    seed: int,
    path: Path,
    ledger: LedgerOptions | None = None,
) -> Episode:
    """One episode of lane 0, written block by block; `path` (replaced if it exists) holds it whole or not at all.

    Args:
        ledger: how it is sealed, with keys of the folder of `path`; None: proof of authority, unsigned.

    Where a plug-in's mechanism clears the market, nobody could replay a ledger: none is written, and this is said.
    """
    if path.is_dir():
        raise ConfigError(f"ledger: {path} is a folder, allowed is a file")
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    env = options.batched(params, scenario, 1, auto_reset=False)
    if params.has_plugin_mechanism:
        path.unlink(missing_ok=True)  # an earlier run's would pass for this one's
        told = f"no ledger: the replay cannot check clearing by price_rule {params.price_rule}, a plug-in's"
        results_console().print(told, highlight=False, soft_wrap=True)
        return play(env, agent, seed)
    ledger = ledger or LedgerOptions(sign="off")
    keys = ledger.key_ring(path.parent, params.num_prosumers)
    rules = ledger_rules(params, scenario, seed, keys=keys, **ledger.sealing(params.num_prosumers))
    try:
        with LedgerWriter(part, rules) as writer:
            chain = LaneChains(rules, [0], writers={0: writer}, keys=keys)
            episode = play(env, agent, seed, on_hour=lambda settled: chain.append(hour_record(settled)))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return episode
