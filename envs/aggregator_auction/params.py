"""Constants of AggregatorAuction: a frozen, validated dataclass. Unknown keys are rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gridmarl.clearing.registry import procurement_names
from gridmarl.envs.base.params import MarketParams, Range
from gridmarl.errors import ConfigError
from gridmarl.units import MAX_BOOK_WH, MAX_PRICE_UTOK_PER_WH, PERMILLE

MAX_ASSET_WH = 10_000_000
"""Most that one prosumer can offer, store or use in an hour; below 2**24, so that a float32 shows it exactly."""
MAX_PORTFOLIO_WH = 2_000_000
"""A bid is at most eight times the portfolio, below 2**24: forecast need is at most four times, bids twice that."""
MOST_BID_PER_PORTFOLIO = 8
KINDS = ("battery", "load", "photovoltaic")


@dataclass(frozen=True)
class AggregatorAuctionParams(MarketParams):
    """Parameters of the market (docs/aggregator-auction.md). Energy in Wh, prices in µtok/Wh, shares in permille.

    Wholesale prices, loads and generation come from the scenario, not from here.
    """

    num_aggregators: int = 2
    num_prosumers: int = 12
    horizon_hours: int = 24
    variant: Literal["procurement", "flexibility"] = "procurement"
    """procurement: aggregators that are short buy. flexibility: an operator's request is to be served, up and down."""
    payment_rule: str = "pay_as_bid"
    """Any name of `gridmarl.clearing.registry.procurement_names`."""
    cap_utok_per_wh: int = 30_000
    """Highest price of a bid or an offer; the lowest is 0."""
    portfolio_wh: int = 20_000
    """Energy per hour of aggregator 0, which its deviations are measured by."""
    portfolio_step_permille: int = 500
    """How much larger each following aggregator is, in permille of aggregator 0."""
    deviation_persistence_permille: int = 700
    deviation_volatility_permille: int = 150
    forecast_error_permille: int = 50
    short_factor_permille: int = 1200
    short_adder_utok_per_wh: int = 5_000
    long_factor_permille: int = 800
    request_permille: int = 500
    """flexibility: chance of a request in an hour."""
    request_max_wh: int = 6_000
    service_price_utok_per_wh: int = 15_000
    missing_penalty_utok_per_wh: int = 10_000
    assets: Literal["mixed", "battery", "load", "photovoltaic"] = "mixed"
    """mixed: batteries, loads and (with `flexibility`) photovoltaics in turn."""
    battery_capacity_wh: int = 10_000
    battery_power_w: int = 3_000
    battery_return_w: int = 1_000
    """Power of a battery's way back to half in hours in which it was not called."""
    shiftable_permille: int = 1_000
    """Flexible load in permille of the load of a home in the scenario."""
    load_power_w: int = 2_000
    """Most that a flexible load can use, and most that it can run ahead of its schedule (for an hour)."""
    return_hours: int = 4
    pv_scale_permille: int = 3_000
    battery_cost_low_utok_per_wh: int = 2_000
    battery_cost_high_utok_per_wh: int = 10_000
    load_cost_low_utok_per_wh: int = 4_000
    load_cost_high_utok_per_wh: int = 16_000
    photovoltaic_cost_low_utok_per_wh: int = 500
    photovoltaic_cost_high_utok_per_wh: int = 6_000
    action_space: Literal["continuous", "discrete"] = "continuous"
    price_levels: int = 5
    quantity_levels: int = 3

    def __post_init__(self) -> None:
        self._check_fields(_RANGES)
        self._check_order("long_factor_permille", "short_factor_permille")
        for kind in KINDS:
            low, high = (f"{kind}_cost_{end}_utok_per_wh" for end in ("low", "high"))
            self._check_order(low, high)
        if not self.has_requests and self.assets == "photovoltaic":
            raise ConfigError(
                "assets: 'photovoltaic' with variant 'procurement', allowed are mixed, battery, load: curtailment only "
                "goes down"
            )
        self._check_portfolios()

    def _check_type(self, name: str, hint: Any) -> None:
        if name != "payment_rule":
            super()._check_type(name, hint)
        elif self.payment_rule not in (known := procurement_names()):
            raise ConfigError(f"payment_rule: {self.payment_rule!r}, allowed are {', '.join(known)}")

    def _check_order(self, low: str, high: str) -> None:
        if getattr(self, low) > getattr(self, high):
            raise ConfigError(f"{low}: {getattr(self, low)}, allowed is at most {high} ({getattr(self, high)})")

    def _check_portfolios(self) -> None:
        """Bids stay within what a float32 and a book hold, and a request within what can be shared out."""
        largest, total = max(self.portfolios_wh), sum(self.portfolios_wh)
        if largest > MAX_PORTFOLIO_WH or MOST_BID_PER_PORTFOLIO * total > MAX_BOOK_WH:
            raise ConfigError(
                f"portfolio_wh: {self.portfolio_wh} gives portfolios of up to {largest} Wh, {total} Wh in all; allowed "
                f"are {MAX_PORTFOLIO_WH} and {MAX_BOOK_WH // MOST_BID_PER_PORTFOLIO}"
            )
        if self.has_requests and self.request_max_wh > total:
            raise ConfigError(f"request_max_wh: {self.request_max_wh}, allowed is at most all portfolios ({total} Wh)")

    @property
    def has_requests(self) -> bool:
        """Whether there are requests, and flexibility downwards."""
        return self.variant == "flexibility"

    @property
    def portfolios_wh(self) -> tuple[int, ...]:
        """Of every aggregator."""
        step = self.portfolio_step_permille
        return tuple(self.portfolio_wh * (PERMILLE + step * index) // PERMILLE for index in range(self.num_aggregators))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of every prosumer's asset, one of `KINDS`."""
        if self.assets != "mixed":
            return (self.assets,) * self.num_prosumers
        cycle = KINDS if self.has_requests else KINDS[:2]
        return tuple(cycle[index % len(cycle)] for index in range(self.num_prosumers))

    def cost_range(self, kind: str) -> tuple[int, int]:
        """Least and greatest private cost of an asset, µtok/Wh."""
        return getattr(self, f"{kind}_cost_low_utok_per_wh"), getattr(self, f"{kind}_cost_high_utok_per_wh")


_PRICE = (0, MAX_PRICE_UTOK_PER_WH)
_SHARE = (0, PERMILLE)
_FACTOR = (0, 100_000)
_ASSET = (0, MAX_ASSET_WH)
_RANGES: tuple[Range, ...] = (
    ("num_aggregators", 1, 1_000),
    ("num_prosumers", 1, 100_000),
    ("horizon_hours", 1, 8_784),
    ("cap_utok_per_wh", *_PRICE),
    ("portfolio_wh", 0, MAX_PORTFOLIO_WH),
    ("portfolio_step_permille", 0, 100_000),
    ("deviation_persistence_permille", *_SHARE),
    ("deviation_volatility_permille", *_SHARE),
    ("forecast_error_permille", *_SHARE),
    ("short_factor_permille", *_FACTOR),
    ("short_adder_utok_per_wh", *_PRICE),
    ("long_factor_permille", *_FACTOR),
    ("request_permille", *_SHARE),
    ("request_max_wh", 1, MAX_ASSET_WH),
    ("service_price_utok_per_wh", *_PRICE),
    ("missing_penalty_utok_per_wh", *_PRICE),
    ("battery_capacity_wh", *_ASSET),
    ("battery_power_w", *_ASSET),
    ("battery_return_w", *_ASSET),
    ("shiftable_permille", 0, 10_000),
    ("load_power_w", *_ASSET),
    ("return_hours", 1, 168),
    ("pv_scale_permille", 0, 100_000),
    *((f"{kind}_cost_{end}_utok_per_wh", *_PRICE) for kind in KINDS for end in ("low", "high")),
    ("price_levels", 1, 101),
    ("quantity_levels", 1, 101),
)
