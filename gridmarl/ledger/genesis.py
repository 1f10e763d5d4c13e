"""Genesis: the rules of a two-stage market as canonical JSON, whose derive-key BLAKE3 hash is the parent of block 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gridmarl.errors import ConfigError
from gridmarl.ledger.chain_rules import (
    FORMAT_VERSION,
    MAX_BALANCE_UTOK,
    MAX_GENESIS_BYTES,
    ChainRules,
    check_list,
)
from gridmarl.ledger.records import PROSUMER_KINDS, Kind, input_count, transaction_count
from gridmarl.ledger.replay import Replay
from gridmarl.units import MAX_BOOK_WH

__all__ = ["FORMAT_VERSION", "MAX_GENESIS_BYTES", "MAX_HOURS", "MAX_PROSUMERS", "Rules"]

MAX_PROSUMERS = 1_000_000
MAX_HOURS = (1 << 31) - 1
_CHOICES = {
    "price_rule": ("uniform", "marginal_pair"),
    "dr_settlement": ("two_settlement", "additive"),
    "finality": ("instant", "strict"),
}
_RANGES = {
    "num_prosumers": (1, MAX_PROSUMERS),
    "horizon_hours": (1, MAX_HOURS),
    "k_permille": (0, 1000),
    "alpha_permille": (1000, 1_000_000),
    "penalty_permille": (0, 1_000_000),
    "shift_share_permille": (0, 1000),
    "shift_deadline_hours": (0, MAX_HOURS),
    "battery_efficiency_permille": (1, 1000),
    "credit_limit_utok": (0, MAX_BALANCE_UTOK),
    "finality_lag_hours": (0, MAX_HOURS),
    "local_credit_utok": (0, MAX_BALANCE_UTOK),
    "credit_interest_ppm": (0, 1_000_000),
}
_OPTIONAL = ("alpha_permille", "credit_limit_utok", "local_credit_utok", "battery_initial_wh")
_PER_PROSUMER = ("battery_capacity_wh", "battery_power_w", "battery_initial_wh")
_KINDS = tuple(Kind(code) for code in range(1, PROSUMER_KINDS + 3))


@dataclass(frozen=True, kw_only=True)
class Rules(ChainRules):
    """Rules of one two-stage market, as far as a replay needs them (docs/market-rules.md).

    Accounts: prosumers `0..P-1`, market `P`, operator `P+1`, upstream `P+2`. Further fields: `ChainRules`.

    Attributes:
        alpha_permille: factor of the demand-response price; None if the operator chooses it every hour.
        battery_capacity_wh, battery_power_w: one value for all prosumers or one for each.
        battery_initial_wh: charge at the start of every episode, restored at its end; None if the ledger does not fix
            it (then replay checks power and exclusiveness only).
        credit_limit_utok: the most a prosumer may owe at the end of an hour, in µtok; None for no limit. Market,
            operator and upstream have no limit.
        finality: "strict": money received is spendable when `finality_lag_hours` blocks have followed, local buying is
            prepaid from spendable money and `local_credit_utok` (None: without limit), and hours end with interest.
        credit_interest_ppm: interest for an hour on spendable money below zero, parts per million.

    Raises:
        ConfigError: a field has the wrong type or lies outside its range.
    """

    market: ClassVar[str] = "two-stage-dr"
    stake_kind: ClassVar[int] = Kind.REDUCTION - 1
    signal_prices: ClassVar[tuple[str, ...]] = ("import_price", "export_price", "price", "dr_price")

    num_prosumers: int
    horizon_hours: int
    k_permille: int = 500
    price_rule: str = "uniform"
    dr_settlement: str = "two_settlement"
    alpha_permille: int | None = 1000
    penalty_permille: int = 0
    shift_share_permille: int = 0
    shift_deadline_hours: int = 0
    battery_capacity_wh: int | tuple[int, ...] = 0
    battery_power_w: int | tuple[int, ...] = 0
    battery_efficiency_permille: int = 1000
    battery_initial_wh: int | tuple[int, ...] | None = 0
    credit_limit_utok: int | None = None
    finality: str = "instant"
    finality_lag_hours: int = 0
    local_credit_utok: int | None = None
    credit_interest_ppm: int = 0

    def __post_init__(self) -> None:
        self._check_fields(_CHOICES, _RANGES, _OPTIONAL)
        for name in _PER_PROSUMER:
            value = getattr(self, name)
            if not (name in _OPTIONAL and value is None):
                check_list(name, value, self.num_prosumers, 0, MAX_BOOK_WH, scalar=True)
        self._check_accounts()
        self._check_finality()
        self._check_sealing("num_prosumers")

    def _check_finality(self) -> None:
        for name, without in (("finality_lag_hours", 0), ("local_credit_utok", None), ("credit_interest_ppm", 0)):
            if not self.has_interest and getattr(self, name) != without:
                raise ConfigError(f"{name} = {getattr(self, name)}; {without} is allowed under instant finality")

    @property
    def num_members(self) -> int:
        """P."""
        return self.num_prosumers

    @property
    def num_accounts(self) -> int:
        """Those of the prosumers, market, operator and upstream."""
        return self.num_prosumers + 3

    @property
    def operator_account(self) -> int:
        """`P + 1`."""
        return self.num_prosumers + 1

    @property
    def blocks_per_episode(self) -> int:
        """Hours of an episode."""
        return self.horizon_hours

    @property
    def has_interest(self) -> bool:
        """Whether every block ends with records of interest (strict finality)."""
        return self.finality == "strict"

    @property
    def inputs_per_block(self) -> int:
        """`1 + 2P`."""
        return input_count(self.num_prosumers)

    @property
    def transactions_per_block(self) -> int:
        """`8P + 2`, with interest `9P + 2`."""
        return transaction_count(self.num_prosumers, interest=self.has_interest)

    @property
    def transaction_kinds(self) -> tuple[Kind, ...]:
        """Kinds 1..10, with interest 11."""
        return (*_KINDS, Kind.INTEREST) if self.has_interest else _KINDS

    def account_role(self, account: int) -> str:
        """Whose account it is: "prosumer", "market", "operator" or "upstream"."""
        count = self.num_prosumers
        return "prosumer" if account < count else ("market", "operator", "upstream")[account - count]

    def replay(self) -> Replay:
        """A replay that stands before block 0."""
        return Replay(self)

    def per_prosumer(self, name: str) -> tuple[int, ...]:
        """`[P]` values of a battery field that is not None."""
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value,) * self.num_prosumers
