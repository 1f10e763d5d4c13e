"""The ledger that a training run keeps while it trains: lane 0's periods, episode after episode, in `ledger.sqlite`.

It is sealed and signed like the run's `ledger.bin`. Lane 0 is the same however many lanes train beside it. The chain's
height and head are part of the checkpoint: a resumed run seals the hours since its last checkpoint again, and the store
accepts them only if they are the same.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from gridmarl.envs.base.sealed import SealedMarket
from gridmarl.errors import ConfigError
from gridmarl.ledger.chain import LaneChains
from gridmarl.ledger.store import LedgerStore
from gridmarl.train.checkpoint import CHECKPOINT_FILE
from gridmarl.train.ledger_options import LedgerOptions

LEDGER_STORE = "ledger.sqlite"
STORED_LANE = 0
LOCK_WAIT_S = 5.0  # a run that has just been killed may still be ending


class TrainingLedger:
    """Seals lane 0 of a training environment into a store; a context manager.

    Args:
        env: the environment that trains; its `on_hour` is taken. Its first lane must be lane 0.
        seed: of the training.
        folder: run folder, made if it does not exist.
        resume: whether blocks may be there already.
        sealing: who seals, with keys of the run folder; None: proof of authority, unsigned.

    Raises:
        ConfigError: blocks are there and `resume` is false, or a checkpoint without blocks and it is true; or a
            plug-in's mechanism clears the market.
        LedgerError: the store cannot be written, another run writes it, or it is that of another market or seed.
    """

    def __init__(
        self,
        env: SealedMarket[Any, Any],
        seed: int,
        folder: Path,
        *,
        resume: bool,
        sealing: LedgerOptions | None = None,
    ) -> None:
        sealing = sealing or LedgerOptions(sign="off")
        unsigned = env.ledger_rules(seed, STORED_LANE, **sealing.sealing_fields(env.num_agents))
        path = folder / LEDGER_STORE
        if path.exists() and not resume:
            raise ConfigError(f"run_dir: {folder} holds a run's {LEDGER_STORE}; allowed is --resume, or another folder")
        if resume and (folder / CHECKPOINT_FILE).exists() and not path.exists():
            raise ConfigError(
                f"resume: {folder} holds a run without {LEDGER_STORE}; allowed is to continue without one"
            )
        folder.mkdir(parents=True, exist_ok=True)
        rules, keys = sealing.signed(folder, unsigned)
        self._env = env
        self.store = LedgerStore(path, rules, wait_s=LOCK_WAIT_S)
        try:
            self._chain = LaneChains(rules, [STORED_LANE], writers={STORED_LANE: self.store}, keys=keys)
        except BaseException:
            self.store.close()
            raise
        env.on_hour = self.append

    @property
    def height(self) -> int:
        """Periods sealed by this run, those sealed again after a resume included."""
        return self._chain.height

    def append(self, record: Any) -> None:
        """Seal lane 0 of a period of all lanes. When this returns, a killed process does not lose the block.

        Args:
            record: a `gridmarl.ledger.packers.PeriodRecord`, which is a tuple of the period and tensors, lanes last.

        Raises:
            LedgerError: the store cannot be written, or holds another block at this height.
        """
        lane = (value[..., :1] for value in record[1:])
        self._chain.append(type(record)(record.period, *lane))

    def sync(self) -> None:
        """Wait for the disk, so that no checkpoint on it is ahead of the store, even after power loss."""
        self.store.sync()

    def state_dict(self) -> dict[str, Any]:
        """Height and head of the chain, stakes of its sealers: what a resume needs."""
        return self._chain.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            ConfigError: the store ends before this height.
        """
        self._chain.load_state_dict(state)
        if self._chain.height > self.store.height:
            raise ConfigError(
                f"resume: {self.store.path} holds {self.store.height} blocks; allowed are at least the "
                f"{self._chain.height} of the checkpoint"
            )

    def close(self) -> None:
        """Close the store and let go of the environment."""
        self._env.on_hour = None
        self.store.close()

    def __enter__(self) -> TrainingLedger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
