"""Constants of TwoStageDR: a frozen, validated dataclass. Unknown keys are rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gridmarl.clearing.registry import mechanism_names
from gridmarl.clearing.uniform import PRICE_RULES
from gridmarl.contracts.credit import PPM
from gridmarl.envs.base.params import MarketParams, Range
from gridmarl.errors import ConfigError
from gridmarl.units import MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH, PERMILLE


@dataclass(frozen=True)
class TwoStageDRParams(MarketParams):
    """Parameters of the market (docs/market-rules.md). Energy in Wh, power in W, prices in µtok/Wh, shares in permille.

    The defaults describe a street of ten homes on New South Wales prices, photovoltaics scaled from the 1-3 kW of
    2012 to today's size.
    """

    num_prosumers: int = 10
    horizon_hours: int = 48
    stage1: Literal["priced", "comfort"] = "priced"
    """comfort: the chapter's experiment; without price signals prosumers offer the demand of greatest comfort."""
    stage2: Literal["rule", "learned"] = "rule"
    """rule: participants reschedule by eq. (1), one step an hour; learned: a second step decides the reduction."""
    dr_settlement: Literal["two_settlement", "additive"] = "two_settlement"
    """How a reduction is paid: sold back at pi_DR, or eq. (5) literally (docs/decisions/dr-settlement.md)."""
    price_rule: str = "uniform"
    """uniform or marginal_pair (docs/market-rules.md), or a plug-in's mechanism (`gridmarl.clearing.registry`) that
    trades at one price: checked every hour, not compiled, not sealed into a ledger. It takes no `k_permille`."""
    k_permille: int = 500
    alpha_permille: int = 1200
    operator: bool = False
    """An extra agent, `operator`, chooses alpha between 1 and `alpha_max_permille` each hour (PettingZoo interface)."""
    alpha_max_permille: int = 3000
    participation_permille: int = 600
    shift_share_permille: int = 500
    shift_deadline_hours: int = 6
    discomfort_utok_per_wh: int = 500
    forecast_error_permille: int = 100
    penalty_permille: int = 100
    import_form: Literal["wholesale", "retail"] = "wholesale"
    import_adder_utok_per_wh: int = 8_000
    retail_price_utok_per_wh: int = 25_000
    export_form: Literal["wholesale", "feed_in"] = "wholesale"
    export_margin_utok_per_wh: int = 1_000
    feed_in_tariff_utok_per_wh: int = 4_000
    elasticity_permille: int = 300
    reference_price_utok_per_wh: int = 0
    """Price at which demand equals the reference load; 0: the scenario's mean import price."""
    demand_min_permille: int = 600
    demand_max_permille: int = 1400
    pv_scale_permille: int = 3000
    battery_capacity_wh: int = 0
    battery_power_w: int = 0
    battery_efficiency_permille: int = 900
    battery_initial_permille: int = 500
    action_space: Literal["continuous", "discrete"] = "continuous"
    single_price: bool = False
    """One price for both sides, as in the chapter."""
    price_levels: int = 5
    quantity_levels: int = 9
    battery_levels: int = 3
    reduction_levels: int = 5
    credit_limit_utok: int | None = None
    """How far below zero a prosumer's account may go; None: billed in arrears, no limit."""
    initial_balance_utok: int = 0
    """What each prosumer's account holds when a chain of blocks begins."""
    finality: Literal["instant", "strict"] = "instant"
    """strict: money received can be spent when its block is final, and local buying is prepaid (docs/finality.md)."""
    finality_lag_hours: int = 0
    """strict: blocks until money received is final, as the consensus mechanism has it."""
    local_credit_utok: int | None = None
    """strict: how far local purchases may go beyond spendable money; None: without limit."""
    credit_interest_ppm: int = 0
    """strict: interest for an hour on spendable money below zero, parts per million, to the operator."""

    def __post_init__(self) -> None:
        self._check_fields(_RANGES)
        self._check_together()

    def _check_type(self, name: str, hint: Any) -> None:
        if name == "price_rule":
            _check_price_rule(self.price_rule)
        else:
            super()._check_type(name, hint)

    def _check_together(self) -> None:
        if self.demand_min_permille > self.demand_max_permille:
            raise ConfigError(
                f"demand_min_permille: {self.demand_min_permille}, allowed is at most demand_max_permille "
                f"({self.demand_max_permille})"
            )
        if (self.battery_capacity_wh > 0) != (self.battery_power_w > 0):
            raise ConfigError(
                f"battery_power_w: {self.battery_power_w} with battery_capacity_wh {self.battery_capacity_wh}; "
                "allowed are both positive, or both zero (no battery)"
            )
        flat = self.import_form == "retail" and self.export_form == "feed_in"
        if flat and self.retail_price_utok_per_wh < self.feed_in_tariff_utok_per_wh:
            raise ConfigError(
                f"retail_price_utok_per_wh: {self.retail_price_utok_per_wh}, allowed is at least "
                f"feed_in_tariff_utok_per_wh ({self.feed_in_tariff_utok_per_wh})"
            )
        if self.credit_limit_utok is not None and self.credit_limit_utok < 0:
            raise ConfigError(f"credit_limit_utok: {self.credit_limit_utok}, allowed is 0 or more, or null")
        self._check_finality()

    def _check_finality(self) -> None:
        credit = self.local_credit_utok
        if credit is not None and not 0 <= credit <= MAX_MONEY_UTOK:
            raise ConfigError(f"local_credit_utok: {credit}, allowed are 0 .. {MAX_MONEY_UTOK}, or null")
        if self.has_strict_finality:
            return
        for name, without in (("finality_lag_hours", 0), ("local_credit_utok", None), ("credit_interest_ppm", 0)):
            if getattr(self, name) != without:
                shown = "null" if without is None else without
                raise ConfigError(f"{name}: {getattr(self, name)} with finality 'instant', allowed is {shown}")

    @property
    def has_strict_finality(self) -> bool:
        """Whether money received cannot be spent before its block is final."""
        return self.finality == "strict"

    @property
    def unfinal_hours(self) -> int:
        """Blocks whose receipts are not final yet; 0 with instant finality."""
        return self.finality_lag_hours if self.has_strict_finality else 0

    @property
    def has_plugin_mechanism(self) -> bool:
        """Whether a mechanism of somebody else's clears the market."""
        return self.price_rule not in PRICE_RULES

    @property
    def has_battery(self) -> bool:
        """Whether prosumers have a battery."""
        return self.battery_capacity_wh > 0

    @property
    def has_shifting(self) -> bool:
        """Whether any of an accepted reduction can return later."""
        return self.shift_share_permille > 0 and self.shift_deadline_hours > 0

    @property
    def battery_initial_wh(self) -> int:
        """Charge at the start of an episode, and again at its end."""
        return self.battery_capacity_wh * self.battery_initial_permille // PERMILLE

    @property
    def steps_per_hour(self) -> int:
        """Environment steps per market hour."""
        return 2 if self.stage2 == "learned" else 1


_PRICE = (-MAX_PRICE_UTOK_PER_WH, MAX_PRICE_UTOK_PER_WH)
_SHARE = (0, PERMILLE)
MAX_MONEY_UTOK = 10**18
"""Bound of initial balances and credit, 10**12 tokens: their sums with any bill fit in int64."""
_RANGES: tuple[Range, ...] = (
    ("num_prosumers", 1, 100_000),
    ("horizon_hours", 1, 8_784),
    ("k_permille", *_SHARE),
    ("alpha_permille", PERMILLE, 100_000),
    ("alpha_max_permille", PERMILLE, 100_000),
    ("participation_permille", *_SHARE),
    ("shift_share_permille", *_SHARE),
    ("shift_deadline_hours", 0, 168),
    ("discomfort_utok_per_wh", 0, MAX_PRICE_UTOK_PER_WH),
    ("forecast_error_permille", 0, 5_000),
    ("penalty_permille", 0, 10_000),
    ("import_adder_utok_per_wh", 0, MAX_PRICE_UTOK_PER_WH),
    ("retail_price_utok_per_wh", *_PRICE),
    ("export_margin_utok_per_wh", 0, MAX_PRICE_UTOK_PER_WH),
    ("feed_in_tariff_utok_per_wh", *_PRICE),
    ("elasticity_permille", 1, 10_000),
    ("reference_price_utok_per_wh", 0, MAX_PRICE_UTOK_PER_WH),
    ("demand_min_permille", 0, 10_000),
    ("demand_max_permille", 0, 10_000),
    ("pv_scale_permille", 0, 100_000),
    ("battery_capacity_wh", 0, MAX_ORDER_WH),
    ("battery_power_w", 0, MAX_ORDER_WH),
    ("battery_efficiency_permille", 1, PERMILLE),
    ("battery_initial_permille", *_SHARE),
    ("initial_balance_utok", 0, MAX_MONEY_UTOK),
    ("finality_lag_hours", 0, 1_000),
    ("credit_interest_ppm", 0, PPM),
    ("price_levels", 1, 101),
    ("quantity_levels", 1, 101),
    ("battery_levels", 1, 101),
    ("reduction_levels", 2, 101),
)


def _check_price_rule(value: object) -> None:
    """A name of ours, or a registered one; the registry is asked for names that are not ours only."""
    if value not in PRICE_RULES and value not in (known := mechanism_names()):
        others = [name for name in known if name not in PRICE_RULES]
        raise ConfigError(f"price_rule: {value!r}, allowed are {', '.join([*PRICE_RULES, *others])}")
