"""Genesis of charging quotas: their rules as canonical JSON, as far as a replay needs them (docs/quota-rules.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gridmarl.errors import ConfigError
from gridmarl.ledger.chain_rules import MAX_BALANCE_UTOK, SHORT, ChainRules, check_list
from gridmarl.ledger.quota_records import (
    DSO_PAYS,
    STATION_KINDS,
    QuotaKind,
    quota_input_count,
    quota_transaction_count,
)
from gridmarl.ledger.quota_replay import QuotaReplay
from gridmarl.units import MAX_PRICE_UTOK_PER_WH

MAX_STATIONS = 100_000
MAX_HALF_HOURS = 48
_CHOICES = {"auction": ("pairwise", "uniform", "marginal_pair")}
_PRICE = (0, MAX_PRICE_UTOK_PER_WH)
_RANGES = {
    "num_stations": (1, MAX_STATIONS),
    "horizon_half_hours": (1, MAX_HALF_HOURS),
    "deposit_rate_utok_per_wh": _PRICE,
    "penalty_rate_utok_per_wh": _PRICE,
    "forfeit_permille": (0, 1000),
    "floor_utok_per_wh": _PRICE,
    "cap_utok_per_wh": _PRICE,
    "deposit_budget_utok": (0, MAX_BALANCE_UTOK),
}
_KINDS = tuple(QuotaKind)[:STATION_KINDS]


@dataclass(frozen=True, kw_only=True)
class QuotaRules(ChainRules):
    """Rules of one transformer's quotas. Accounts: stations `0..N-1`, the DSO `N`. Further fields: `ChainRules`.

    Attributes:
        tariff_utok_per_wh: `[horizon_half_hours]`, of every half hour of an episode.
        auction: "pairwise", "uniform" (k-point at one half) or "marginal_pair".
        deposit_rate_utok_per_wh: deposit per declared Wh; exactly this is put up.
        deposit_budget_utok: most that a station can put up for a half hour; None: no limit.
        penalty_rate_utok_per_wh: per Wh used above the final quota.
        overuse: whether a station may use more than its final quota.
        forfeit_permille: share of the deposit rate lost per Wh of quota that is not used.
        floor_utok_per_wh, cap_utok_per_wh: limits of prices in the auction.

    Raises:
        ConfigError: a field has the wrong type or lies outside its range.
    """

    market: ClassVar[str] = "ev-quota"
    stake_kind: ClassVar[int] = DSO_PAYS
    signal_prices: ClassVar[tuple[str, ...]] = ("tariff", "price")

    num_stations: int
    horizon_half_hours: int
    tariff_utok_per_wh: tuple[int, ...]
    auction: str = "pairwise"
    deposit_rate_utok_per_wh: int = 0
    deposit_budget_utok: int | None = None
    penalty_rate_utok_per_wh: int = 0
    overuse: bool = False
    forfeit_permille: int = 0
    floor_utok_per_wh: int = 0
    cap_utok_per_wh: int = MAX_PRICE_UTOK_PER_WH

    def __post_init__(self) -> None:
        self._check_fields(_CHOICES, _RANGES, ("deposit_budget_utok",))
        if type(self.overuse) is not bool:
            raise ConfigError(f"overuse = {SHORT.repr(self.overuse)}; true or false is allowed")
        check_list("tariff_utok_per_wh", self.tariff_utok_per_wh, self.horizon_half_hours, *_PRICE)
        if self.floor_utok_per_wh > self.cap_utok_per_wh:
            raise ConfigError(
                f"floor_utok_per_wh = {self.floor_utok_per_wh}; at most cap_utok_per_wh ({self.cap_utok_per_wh}) is "
                "allowed"
            )
        self._check_accounts()
        self._check_sealing("num_stations")

    @property
    def num_members(self) -> int:
        """N."""
        return self.num_stations

    @property
    def num_accounts(self) -> int:
        """Those of the stations and the DSO."""
        return self.num_stations + 1

    @property
    def operator_account(self) -> int:
        """The DSO's, `N`."""
        return self.num_stations

    @property
    def blocks_per_episode(self) -> int:
        """Half hours of an episode."""
        return self.horizon_half_hours

    @property
    def inputs_per_block(self) -> int:
        """`1 + 3N`."""
        return quota_input_count(self.num_stations)

    @property
    def transactions_per_block(self) -> int:
        """`5N`."""
        return quota_transaction_count(self.num_stations)

    @property
    def transaction_kinds(self) -> tuple[QuotaKind, ...]:
        """Kinds 21..25."""
        return _KINDS

    def account_role(self, account: int) -> str:
        """Whose account it is: "station" or "dso"."""
        return "station" if account < self.num_stations else "dso"

    def replay(self) -> QuotaReplay:
        """A replay that stands before block 0."""
        return QuotaReplay(self)
