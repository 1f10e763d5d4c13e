"""Ledgers of EVQuota's runs: the levels of training, and the day that a trained policy leaves in `ledger.bin`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from gridmarl.envs.ev_quota.batched import BatchedEVQuota, LedgerLevel
from gridmarl.errors import ConfigError
from gridmarl.ledger.chain import LaneChains
from gridmarl.train.ledger_run import Append, write_sealed
from gridmarl.train.ledger_store import TrainingLedger
from gridmarl.train.quota.episode import QuotaEpisode, play_day
from gridmarl.train.quota.market import ENV, QuotaMarket

if TYPE_CHECKING:
    from gridmarl.train.ledger_options import LedgerOptions
    from gridmarl.train.train_options import Train

LEDGER_FILE = "ledger.bin"
_LEVELS: dict[str, LedgerLevel] = {"accounts": "off", "sealed": "sealed", "stored": "accounts"}
"""What the training environment keeps at each level of the command: balances are nobody's observation."""


def training_level(options: Train) -> LedgerLevel:
    """Level of the environment that trains.

    Raises:
        ConfigError: the level is not one of this environment.
    """
    if options.ledger not in _LEVELS:
        raise ConfigError(f"--ledger {options.ledger} with {ENV}; allowed are {', '.join(_LEVELS)}")
    return _LEVELS[options.ledger]


def check_sealing(options: LedgerOptions, market: QuotaMarket) -> None:
    """ConfigError if so many validators are not allowed."""
    market.batched(1).ledger_rules(0, **options.sealing_fields(market.params.num_stations))


def training_ledger(
    options: Train, env: BatchedEVQuota, seed: int, folder: Path, resume: bool
) -> AbstractContextManager[TrainingLedger | None]:
    """The store of lane 0 at the level `stored`."""
    if options.ledger != "stored":
        return nullcontext()
    return TrainingLedger(env, seed, folder, resume=resume, sealing=options)


def play_sealed_day(
    market: QuotaMarket, space: str, policy: Callable[[Tensor], Tensor], seed: int, folder: Path, ledger: LedgerOptions
) -> QuotaEpisode:
    """The day of lane 0, sealed into `ledger.bin` of a folder, with the folder's keys.

    Raises:
        ConfigError: so many validators are not allowed, or the folder's keys are of other numbers.
        LedgerError: the file cannot be written.
    """
    env = market.batched(1, action_space=space)
    unsigned = env.ledger_rules(seed, **ledger.sealing_fields(market.params.num_stations))
    rules, keys = ledger.signed(folder, unsigned)

    def playing(append: Append) -> QuotaEpisode:
        env.on_hour = append
        return play_day(env, policy, seed)

    return write_sealed(folder / LEDGER_FILE, rules, keys, playing)


def sealed_while_training(chains: LaneChains) -> str:
    """What the level `sealed` has hashed, in words."""
    return f"sealed while training: {chains.height} blocks in each of {len(chains.lanes)} chains"
