"""What the comparison of peer-to-peer forms may be told by --config and --set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gridmarl.clearing.community import SHARING_RULES
from gridmarl.clearing.registry import auction_names
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.errors import ConfigError
from gridmarl.optimum.storage import Storage

SAVINGS = "savings"
SHARING = (*SHARING_RULES, SAVINGS)
DISPATCH = ("plan", "rule")
BATTERY_HOMES = ("photovoltaics", "all")
DEFAULT_COMMUNITIES = 3
MARKET_FIELDS = (
    "num_prosumers",
    "import_form",
    "import_adder_utok_per_wh",
    "retail_price_utok_per_wh",
    "export_form",
    "export_margin_utok_per_wh",
    "feed_in_tariff_utok_per_wh",
    "pv_scale_permille",
    "battery_capacity_wh",
    "battery_power_w",
    "battery_efficiency_permille",
    "battery_initial_permille",
)
"""Parameters that mean here what they mean in `gridmarl compare two-stage-dr`."""
BATTERY_DEFAULTS = {"battery_capacity_wh": 5_000, "battery_power_w": 2_500}


@dataclass(frozen=True)
class P2PParams:
    """Homes and retail prices (`market`), and how the forms work.

    Attributes:
        market: only `MARKET_FIELDS` matter, and `horizon_hours`. Loads are fixed and known.
        communities: communities of the hybrid form, 1 .. number of homes; default: 3, or as many as there are homes.
        sharing: how a manager shares: a rule of `gridmarl.clearing.community`, or "savings".
        dispatch: "plan": whoever decides on batteries knows the horizon of its own homes; "rule": no foresight. The
            aggregator always plans.
        pool: auction of the pool, and between managers (`gridmarl.clearing.registry`).
        battery_homes: who has a battery: homes with photovoltaics, or all.

    Raises:
        ConfigError: a value that is not allowed.
    """

    market: TwoStageDRParams
    communities: int = field(default=0)
    sharing: str = SHARING[0]
    dispatch: str = DISPATCH[0]
    pool: str = "uniform"
    battery_homes: str = BATTERY_HOMES[0]

    def __post_init__(self) -> None:
        homes = self.market.num_prosumers
        if type(self.communities) is not int or not 1 <= self.communities <= homes:
            raise ConfigError(f"communities: {self.communities!r}, allowed are 1 .. {homes}, the number of homes")
        for name, allowed in (("sharing", SHARING), ("dispatch", DISPATCH), ("battery_homes", BATTERY_HOMES)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}: {getattr(self, name)!r}, allowed are {', '.join(allowed)}")
        if self.pool not in (known := auction_names()):
            raise ConfigError(f"pool: {self.pool!r}, allowed are {', '.join(known)}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], horizon_hours: int) -> P2PParams:
        """Parameters from a mapping, batteries of 5 kWh unless told otherwise; ConfigError names an unknown key."""
        own = [item.name for item in fields(cls) if item.name != "market"]
        for key in values:
            if key not in (*MARKET_FIELDS, *own):
                raise ConfigError(f"{key}: unknown key, allowed are {', '.join((*MARKET_FIELDS, *own))}")
        shared = {key: value for key, value in values.items() if key in MARKET_FIELDS}
        if shared.get("battery_capacity_wh") == 0:
            shared.setdefault("battery_power_w", 0)
        market = TwoStageDRParams.from_dict(BATTERY_DEFAULTS | shared | {"horizon_hours": horizon_hours})
        chosen = {key: values[key] for key in own if key in values}
        return cls(market, **{"communities": min(DEFAULT_COMMUNITIES, market.num_prosumers)} | chosen)

    def to_dict(self) -> dict[str, Any]:
        """All that matters, for config.json."""
        values = asdict(self)
        market = values.pop("market")
        return {name: market[name] for name in (*MARKET_FIELDS, "horizon_hours")} | values

    @property
    def storage(self) -> Storage | None:
        """The battery of each home that has one; None: nobody has."""
        if not self.market.has_battery:
            return None
        return Storage(
            self.market.battery_capacity_wh,
            self.market.battery_power_w,
            self.market.battery_efficiency_permille,
            self.market.battery_initial_wh,
        )

    @property
    def community_sizes(self) -> list[int]:
        """Homes of each community of the hybrid form, as equal as can be; homes of a community follow each other."""
        homes, count = self.market.num_prosumers, self.communities
        return [(k + 1) * homes // count - k * homes // count for k in range(count)]
