"""Constants of EVQuota: a frozen, validated dataclass. Unknown keys are rejected."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from gridmarl.contracts.quota_sums import HALF_HOURS_PER_DAY, QuotaTerms
from gridmarl.envs.base.params import MarketParams, Range
from gridmarl.errors import ConfigError
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH, PERMILLE

MINUTES_PER_PERIOD = 30


@dataclass(frozen=True)
class EVQuotaParams(MarketParams):
    """Parameters of the quota market (docs/quota-rules.md, docs/ev-quota.md). Energy in Wh, prices in µtok/Wh.

    Sessions and conventional load come from the scenario (`gridmarl.envs.ev_quota.scenario`), not from here.
    """

    num_stations: int = 8
    horizon_half_hours: int = 48
    """Half hours of an episode, two steps each; at most one day."""
    transformer_capacity_w: int = 100_000
    """The margin is this less the forecast of the conventional load, as energy of a half hour."""
    auction: Literal["pairwise", "uniform", "marginal_pair"] = "pairwise"
    floor_utok_per_wh: int = 0
    cap_utok_per_wh: int = 600_000
    deposit_rate_utok_per_wh: int = 50_000
    deposit_budget_utok: int | None = None
    """Most that a station can put up as deposit for a half hour, which limits what it can declare; None: no limit."""
    penalty_rate_utok_per_wh: int = 1_000_000
    """Per Wh used above the final quota."""
    forfeit_permille: int = 0
    """Share of the deposit rate lost per Wh of quota that is not used; 0: a deposit always comes back (chapter 9)."""
    declare_factor_permille: int = 2000
    """Most that can be declared, in permille of what the vehicles could take; 1000: no over-declaration."""
    overuse: bool = False
    """Whether a station may charge beyond its final quota, at the penalty rate."""
    unserved_utok_per_wh: int = 100_000
    """Cost of energy that a vehicle leaves without."""
    value_low_utok_per_wh: int = 150_000
    value_high_utok_per_wh: int = 450_000
    """Value of delivered energy: one integer per session, uniform between the two."""
    action_space: Literal["continuous", "discrete"] = "continuous"
    declare_levels: int = 5
    trade_levels: int = 5
    price_levels: int = 3
    charge_levels: int = 3

    def __post_init__(self) -> None:
        self._check_fields(_RANGES)
        if self.value_low_utok_per_wh > self.value_high_utok_per_wh:
            raise ConfigError(
                f"value_low_utok_per_wh: {self.value_low_utok_per_wh}, allowed is at most value_high_utok_per_wh "
                f"({self.value_high_utok_per_wh})"
            )
        budget = self.deposit_budget_utok
        if budget is not None and not 0 <= budget <= MAX_MONEY_UTOK:
            raise ConfigError(f"deposit_budget_utok: {budget}, allowed are 0 .. {MAX_MONEY_UTOK}, or null")
        _ = self.terms  # what the contract refuses is refused here

    @cached_property
    def terms(self) -> QuotaTerms:
        """What the contract is made with."""
        return QuotaTerms(
            num_stations=self.num_stations,
            deposit_rate_utok_per_wh=self.deposit_rate_utok_per_wh,
            penalty_rate_utok_per_wh=self.penalty_rate_utok_per_wh,
            forfeit_permille=self.forfeit_permille,
            floor_utok_per_wh=self.floor_utok_per_wh,
            cap_utok_per_wh=self.cap_utok_per_wh,
            auction=self.auction,
        )

    @property
    def steps_per_half_hour(self) -> int:
        """Environment steps per half hour: declare; trade and charge."""
        return 2

    @property
    def declaration_limit_wh(self) -> int:
        """Most that a station can declare at all: bound of an order, share of a book's, what its budget covers."""
        limit = min(MAX_ORDER_WH, MAX_BOOK_WH // self.num_stations)
        if self.deposit_budget_utok is None or self.deposit_rate_utok_per_wh == 0:
            return limit
        return min(limit, self.deposit_budget_utok // self.deposit_rate_utok_per_wh)


MAX_MONEY_UTOK = 10**18
_PRICE = (0, MAX_PRICE_UTOK_PER_WH)
_LEVELS = (1, 101)
_RANGES: tuple[Range, ...] = (
    ("num_stations", 1, 10_000),
    ("horizon_half_hours", 1, HALF_HOURS_PER_DAY),
    ("transformer_capacity_w", 0, 2 * MAX_BOOK_WH),
    ("declare_factor_permille", PERMILLE, 100_000),
    ("unserved_utok_per_wh", *_PRICE),
    ("value_low_utok_per_wh", *_PRICE),
    ("value_high_utok_per_wh", *_PRICE),
    ("declare_levels", *_LEVELS),
    ("trade_levels", *_LEVELS),
    ("price_levels", *_LEVELS),
    ("charge_levels", *_LEVELS),
)
