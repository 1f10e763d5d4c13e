"""A batched market whose settled periods go into a ledger: records for whoever asks, chains of blocks by the level."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar, get_args

from torch import Tensor

from gridmarl.envs.base.batched import BatchedMarket
from gridmarl.envs.base.state import LaneState
from gridmarl.errors import ConfigError
from gridmarl.ledger.chain_rules import ChainRules

LedgerLevel = Literal["off", "accounts", "sealed", "batch"]
HASHED = ("sealed", "batch")
"""Levels at which periods are hashed into chains."""
State = TypeVar("State", bound=LaneState)
Settled = TypeVar("Settled")


class Chains(Protocol):
    """Blocks of all lanes since the last `reset`."""

    def append(self, hour: Any, /) -> object:
        """Add the record of one settled period."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Continue from `state_dict()`."""
        ...


class SealedMarket(BatchedMarket[State, Settled]):
    """Lanes of a market with a ledger.

    A subclass says what the record of a period is (`_period_record`), by which rules a chain is made (`ledger_rules`),
    and how chains begin (`_new_chains`).

    Args:
        ledger: "accounts": balances are kept. "off": they are not, and `settled` stays None. "sealed": every lane's
            periods are hashed into its chain of blocks; a chain begins at `reset`. "batch": the periods of all lanes
            are hashed at once, into one chain of batches from which every lane's block can be proven.
        on_hour: called with each settled period's record; None: no records are built, unless the level needs them.
        lanes: as `BatchedMarket`.

    Raises:
        ConfigError: `ledger` is not allowed, or what `BatchedMarket` raises.
    """

    chains: Chains | None

    def __init__(
        self, agent_names: tuple[str, ...], *, ledger: str, on_hour: Callable[[Any], object] | None, **lanes: Any
    ) -> None:
        super().__init__(agent_names, **lanes)
        if ledger not in get_args(LedgerLevel):
            raise ConfigError(f"ledger: {ledger!r}, allowed are {', '.join(get_args(LedgerLevel))}")
        self.ledger, self.on_hour, self.chains = ledger, on_hour, None

    @abstractmethod
    def _period_record(self, settled: Settled) -> Any:
        """What the ledger takes down of a settled period."""

    @abstractmethod
    def ledger_rules(self, seed: int, lane: int = 0, **sealing: Any) -> ChainRules:
        """Rules of the chain of one lane of an episode with this seed, as its genesis says them.

        Args:
            sealing: fields of `ChainRules` that say who seals: consensus, validators, difficulty_bits, confirmations.

        Raises:
            ConfigError: the sealing is not allowed, or nobody could replay the market.
        """

    @abstractmethod
    def _new_chains(self) -> Chains:
        """Chains that begin with the current episode, at one of the levels `HASHED`."""

    def reset(self, seed: int, episode: int = 0) -> Tensor:
        """Observation `[E, P, F]` float32 of a new episode in every lane; chains begin anew."""
        observation = super().reset(seed, episode)
        self.chains = self._new_chains() if self.ledger in HASHED else None
        return observation

    def _record(self, settled: Settled) -> None:
        if self.on_hour is None and self.chains is None:
            return
        record = self._period_record(settled)
        if self.chains is not None:
            self.chains.append(record)
        if self.on_hour is not None:
            self.on_hour(record)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""
        out = super().state_dict()
        return out if self.chains is None else out | {"chains": self.chains.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        super().load_state_dict(state)
        if self.ledger in HASHED:
            self.chains = self._new_chains()
            self.chains.load_state_dict(state["chains"])
